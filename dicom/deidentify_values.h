/* Values in place of others, and the table of actions. Private to deidentify*.c and
 * dcmtk_deidentify.cpp, and to tests. */
#ifndef MF_DICOM_DEIDENTIFY_VALUES_H
#define MF_DICOM_DEIDENTIFY_VALUES_H

#include "dicom/deidentify.h"
#include "dicom/prescan.h"

#ifdef __cplusplus
extern "C" {
#endif

/* X remove, Z empty, D dummy (a sequence is kept and cleaned), U another UID. */
struct mf_deidentify_row {
    uint32_t tag;
    char action;
};

extern const struct mf_deidentify_row mf_deidentify_actions[]; /* ascending; generated */
extern const size_t mf_deidentify_action_count;

/* What no table lists and no profile keeps: private attributes, group lengths, curves, overlays,
 * and groups that belong to messages, file meta information and directories (PS3.5 7.8, PS3.7,
 * PS3.10). */
bool mf_deidentify_foreign(uint32_t tag);
/* The action of an attribute, 0 where the table has none. */
char mf_deidentify_action(uint32_t tag);
/* Whether its text names a person or an order, so that it must not stand anywhere else either. */
bool mf_deidentify_identifier(uint32_t tag);
/* Whether Retain Patient Characteristics keeps it. */
bool mf_deidentify_characteristic(uint32_t tag);

/* The part of mf_deidentify() that is DCMTK's: reads what was scanned, cleans it, appends the new
 * file to `ret` (on failure a part of it may be there). Throws nothing. */
bool mf_deidentify_rewrite(const struct mf_prescan *prescan,
                           const struct mf_deidentify_rules *rules, struct mf_buffer *ret,
                           struct mf_error *err) MF_CHECK_RESULT;

enum { MF_DEIDENTIFY_NAME = 24 };

/* Has OpenSSL read its configuration, which it does once, before a sandbox forbids it. */
bool mf_deidentify_preload(struct mf_error *err);

/* "ANON-" and 16 hex digits for a patient; `issuer` may be NULL. These two are false without
 * memory. */
bool mf_deidentify_patient(const struct mf_deidentify_rules *rules, const char *issuer,
                           const char *id, char out[MF_DEIDENTIFY_NAME]);
/* How many days the patient's dates are moved back. */
bool mf_deidentify_days(const struct mf_deidentify_rules *rules, const char *issuer, const char *id,
                        int *ret);
/* One DA or DT value moved back; what follows the day in a DT stays. False (and "") when the value
 * does not begin with a whole date. */
bool mf_deidentify_shift(const char *value, int days, char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
