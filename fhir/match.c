/* Which patient of a document answers to a DICOM PatientID and its issuer. */
#include "fhir/internal.h"

#include <string.h>

/* Compares without the spaces around `padded`. */
static bool same_trimmed(const char *padded, const char *text)
{
    while (*padded == ' ')
        padded++;
    size_t len = strlen(padded);
    while (len && padded[len - 1] == ' ')
        len--;
    while (*text == ' ')
        text++;
    size_t text_len = strlen(text);
    while (text_len && text[text_len - 1] == ' ')
        text_len--;
    return len == text_len && memcmp(padded, text, len) == 0;
}

static const char *without_urn(const char *s)
{
    return strncmp(s, "urn:oid:", 8) == 0 ? s + 8 : s;
}

static bool is_oid(const char *s)
{
    s = without_urn(s);
    return strchr(s, '.') && strspn(s, "0123456789.") == strlen(s);
}

/* Two names of issuers that cannot mean the same: two OIDs, or two URIs. A hospital's own name for
 * itself or an OID beside a URL proves nothing. */
static bool excludes(const char *issuer, const char *system)
{
    if (is_oid(issuer) || is_oid(system))
        return is_oid(issuer) && is_oid(system);
    return strchr(issuer, ':') && strchr(system, ':');
}

enum match { NO_MATCH, MATCH, MATCH_WITH_ISSUER };

static enum match match(const struct mf_fhir_identifier *id, const char *patient_id,
                        const char *issuer)
{
    if (!same_trimmed(patient_id, id->value))
        return NO_MATCH;
    if (!issuer || !*issuer)
        return MATCH;
    if ((id->system && same_trimmed(without_urn(issuer), without_urn(id->system))) ||
        (id->assigner && same_trimmed(issuer, id->assigner)))
        return MATCH_WITH_ISSUER;
    return id->system && excludes(issuer, id->system) ? NO_MATCH : MATCH;
}

bool mf_fhir_identifies(const struct mf_fhir_identifier *identifier, const char *patient_id,
                        const char *issuer)
{
    return match(identifier, patient_id, issuer) != NO_MATCH;
}

const struct mf_fhir_patient *mf_fhir_find_patient(const struct mf_fhir_document *doc,
                                                   const char *patient_id, const char *issuer,
                                                   struct mf_error *err)
{
    const struct mf_fhir_patient *found = NULL;
    enum match best = NO_MATCH;
    size_t count = 0;
    if (!patient_id || same_trimmed(patient_id, "")) {
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "the study has no PatientID, so no patient of the FHIR data can be matched");
        return NULL;
    }
    for (size_t p = 0; p < doc->patient_count; p++) {
        enum match here = NO_MATCH;
        for (size_t i = 0; i < doc->patients[p].identifier_count; i++) {
            enum match m = match(&doc->patients[p].identifiers[i], patient_id, issuer);
            here = m > here ? m : here;
        }
        if (here > best) {
            best = here;
            found = &doc->patients[p];
            count = 1;
        } else if (here == best && here != NO_MATCH) {
            count++;
        }
    }
    if (count == 0)
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "the FHIR data is of another patient: no identifier in it equals the study's "
                     "PatientID");
    if (count > 1)
        mf_error_set(err, MF_ERR_UNUSABLE,
                     "%zu patients of the FHIR data have the study's PatientID as an identifier",
                     count);
    return count == 1 ? found : NULL;
}
