/*
 * Strata: the groups that a calibration may be made for separately (Mondrian groups). One kind of
 * group at a time; the key of a case is made the same way when the calibration is fitted and when a
 * study is judged.
 *
 *   view  ViewPosition, in capitals ("PA")
 *   sex   "F", "M", "O"
 *   age   "0-17", "18-39", "40-59", "60-79", "80-"
 *   site  whatever names it, as it is
 */
#ifndef MF_TRUST_STRATA_H
#define MF_TRUST_STRATA_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_strata_kind {
    MF_STRATA_NONE,
    MF_STRATA_VIEW,
    MF_STRATA_SEX,
    MF_STRATA_AGE,
    MF_STRATA_SITE,
    MF_STRATA_KINDS
};

enum { MF_STRATA_KEY = 65 };

/* What is known of a case; NULL, "" or NaN = unknown. Borrowed. */
struct mf_strata {
    const char *view, *sex, *site;
    double age; /* years */
};

#define MF_STRATA_UNKNOWN                                                                          \
    {                                                                                              \
        0, 0, 0, __builtin_nan("")                                                                 \
    }

/* The key of a case; false when what it needs is unknown, or with MF_STRATA_NONE. */
bool mf_strata_key(enum mf_strata_kind kind, const struct mf_strata *strata,
                   char ret_key[MF_STRATA_KEY]);

const char *mf_strata_name(enum mf_strata_kind kind); /* "none", "view", … */
/* The kind of that name; false when there is none. */
bool mf_strata_parse(const char *name, enum mf_strata_kind *ret);
/* How a prediction names the taxonomy of its set: "label_class", "label_class_view", … */
const char *mf_strata_taxonomy(enum mf_strata_kind kind);

#ifdef __cplusplus
}
#endif

#endif
