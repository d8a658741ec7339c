/* CID 4010 DX View (PS3.16), SNOMED CT codes and the SNOMED-RT codes of older objects. */
#include "dicom/view.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *sct, *srt, *view;
} VIEWS[] = {
    {"399348003", "R-10206", "AP"},      {"272479007", "R-10214", "PA"},
    {"272479007", "R-40888", "PA"},      {"399173006", "R-10236", "LL"},
    {"399198007", "R-10232", "RL"},      {"399067008", "R-102CD", "LATERAL"},
    {"399038007", "R-10210", "RPO"},     {"399006002", "R-10212", "LPO"},
    {"399356000", "R-40985", "RAO"},     {"399135007", "R-10220", "LAO"},
    {"399312000", "R-10208", "OBLIQUE"}, {"399059000", "R-10216", "OBLIQUE"},
    {"399160007", "R-10204", "OBLIQUE"}, {"399236003", "R-10234", "OBLIQUE"},
    {"399184004", "R-10238", "OBLIQUE"}, {"399182000", "R-102C1", "OBLIQUE"},
};

const char *mf_view_from_code(const char *code)
{
    for (size_t i = 0; i < sizeof VIEWS / sizeof *VIEWS; i++)
        if (strcmp(code, VIEWS[i].sct) == 0 || strcmp(code, VIEWS[i].srt) == 0)
            return VIEWS[i].view;
    return NULL;
}
