/* The table behind the keywords. */
#include "dicom/keywords.h"

const struct mf_keyword_entry mf_keywords[MF_KW_COUNT] = {
#define MF_KEYWORD(keyword, group, element, vr)                                                    \
    [MF_KW_##keyword] = {(uint32_t)(group) << 16 | (element), #vr},
    MF_KEYWORDS(MF_KEYWORD)
#undef MF_KEYWORD
};
