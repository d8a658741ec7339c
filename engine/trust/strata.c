/* Keys of strata (strata.h). */
#include "engine/trust/strata.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name, *taxonomy;
} KINDS[MF_STRATA_KINDS] = {{"none", "label_class"},
                            {"view", "label_class_view"},
                            {"sex", "label_class_sex"},
                            {"age", "label_class_age"},
                            {"site", "label_class_site"}};

const char *mf_strata_name(enum mf_strata_kind kind)
{
    return KINDS[(size_t)kind < MF_STRATA_KINDS ? kind : MF_STRATA_NONE].name;
}

const char *mf_strata_taxonomy(enum mf_strata_kind kind)
{
    return KINDS[(size_t)kind < MF_STRATA_KINDS ? kind : MF_STRATA_NONE].taxonomy;
}

bool mf_strata_parse(const char *name, enum mf_strata_kind *ret)
{
    for (size_t i = 0; i < MF_STRATA_KINDS; i++)
        if (strcmp(name, KINDS[i].name) == 0) {
            *ret = (enum mf_strata_kind)i;
            return true;
        }
    return false;
}

/* Without the padding of a DICOM value; in capitals where asked. Too long a value has no key: two
 * of them could get the same one. */
static bool copy_key(const char *text, bool capitals, char key[MF_STRATA_KEY])
{
    size_t n = 0;
    while (text && *text == ' ')
        text++;
    for (; text && text[n]; n++) {
        if (n + 1 == MF_STRATA_KEY)
            return false;
        bool small = capitals && text[n] >= 'a' && text[n] <= 'z';
        key[n] = (char)(small ? text[n] - 'a' + 'A' : text[n]);
    }
    while (n && key[n - 1] == ' ')
        n--;
    key[n] = '\0';
    return n > 0;
}

static bool age_key(double age, char key[MF_STRATA_KEY])
{
    static const int FROM[] = {0, 18, 40, 60, 80};
    enum { BANDS = sizeof FROM / sizeof *FROM };
    int band = -1;
    if (!(age >= 0 && age < 150))
        return false;
    while (band + 1 < BANDS && age >= FROM[band + 1])
        band++;
    if (band + 1 == BANDS)
        snprintf(key, MF_STRATA_KEY, "%d-", FROM[band]);
    else
        snprintf(key, MF_STRATA_KEY, "%d-%d", FROM[band], FROM[band + 1] - 1);
    return true;
}

bool mf_strata_key(enum mf_strata_kind kind, const struct mf_strata *s, char key[MF_STRATA_KEY])
{
    switch (kind) {
    case MF_STRATA_VIEW:
        return copy_key(s->view, true, key);
    case MF_STRATA_SEX:
        return copy_key(s->sex, true, key) && strlen(key) == 1 && strchr("FMO", *key);
    case MF_STRATA_AGE:
        return age_key(s->age, key);
    case MF_STRATA_SITE:
        return copy_key(s->site, false, key);
    default:
        return false;
    }
}
