/*
 * Who is in a document: versions, references, the patient table, matching with a DICOM PatientID.
 *
 * The index maps keys to numbers. Keys of resources (numbers of doc->resources):
 *   "https://…/Patient/1", "urn:uuid:…"   the fullUrl
 *   "Patient/1"                           type and id; AMBIGUOUS when two servers' resources share
 * it "17#p"                                contained in the 17th resource Keys of patients (numbers
 * of doc->patients):
 *   "@Patient/9"                          a reference that leads out of the document
 *   "|system|value"                       a business identifier; AMBIGUOUS when two patients share
 * it References are resolved as http://hl7.org/fhir/R4/bundle.html#references says: contained,
 * absolute, relative to the fullUrl of the resource that refers; and, more leniently, by type and
 * id alone, because NDJSON and hand-made Bundles have no fullUrl.
 */
#include "fhir/internal.h"

#include <string.h>

enum { AMBIGUOUS = -2 };

static json_int_t lookup(const struct mf_fhir_document *doc, const char *key)
{
    const json_t *v = json_object_get(doc->index, key);
    return v ? json_integer_value(v) : MF_FHIR_NONE;
}

static bool store(struct mf_fhir_document *doc, const char *key, json_int_t number,
                  struct mf_error *err)
{
    /* A key that is no UTF-8 cannot come out of a JSON parser, so failing means memory. */
    return json_object_set_new(doc->index, key, json_integer(number)) == 0 ||
           mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
}

/* Whether `b` is a newer version than `a` (meta.lastUpdated; at a tie, the later one). */
static bool is_newer(const struct mf_fhir_resource *a, const struct mf_fhir_resource *b)
{
    const char *ta = mf_json_get_string(json_object_get(a->json, "meta"), "lastUpdated", NULL);
    const char *tb = mf_json_get_string(json_object_get(b->json, "meta"), "lastUpdated", NULL);
    struct mf_time a_time, b_time;
    if (!ta || !tb || !mf_time_parse_fhir(ta, &a_time, NULL) ||
        !mf_time_parse_fhir(tb, &b_time, NULL))
        return true;
    return b_time.begin >= a_time.begin;
}

/* Enters the resource under a key that identifies it; the older of two versions is superseded. */
static bool enter(struct mf_fhir_document *doc, const char *key, size_t number,
                  struct mf_error *err)
{
    json_int_t earlier = lookup(doc, key);
    if (earlier >= 0) {
        struct mf_fhir_resource *a = &doc->resources[earlier], *b = &doc->resources[number];
        struct mf_fhir_resource *old = is_newer(a, b) ? a : b;
        old->superseded = true;
        if (old == b)
            return true;
    }
    return store(doc, key, (json_int_t)number, err);
}

static bool enter_resource(struct mf_fhir_document *doc, size_t number, struct mf_error *err)
{
    struct mf_fhir_resource *res = &doc->resources[number];
    if (res->contained) {
        const char *key =
            res->id ? mf_arena_printf(doc->arena, err, "%zu#%s", res->ordinal, res->id) : NULL;
        return !res->id || (key && enter(doc, key, number, err));
    }
    if (res->full_url && !enter(doc, res->full_url, number, err))
        return false;
    if (!res->id)
        return true;
    const char *key = mf_arena_printf(doc->arena, err, "%s/%s",
                                      res->is_patient ? "Patient" : "Observation", res->id);
    if (!key)
        return false;
    json_int_t earlier = lookup(doc, key);
    if (earlier == AMBIGUOUS)
        return true;
    const char *other = earlier >= 0 ? doc->resources[earlier].full_url : NULL;
    if (other && res->full_url && strcmp(other, res->full_url) != 0)
        return store(doc, key, AMBIGUOUS, err);
    return enter(doc, key, number, err);
}

/* The number of a Patient among the resources under `key`, or MF_FHIR_NONE. */
static json_int_t patient_under(const struct mf_fhir_document *doc, const char *key)
{
    json_int_t number = lookup(doc, key);
    return number >= 0 && doc->resources[number].is_patient ? number : MF_FHIR_NONE;
}

/* "https://a/fhir/Observation/7" + "Patient/1" → "https://a/fhir/Patient/1"; NULL when there is no
 * base. */
static const char *rebase(struct mf_fhir_document *doc, const char *full_url, const char *relative,
                          struct mf_error *err)
{
    const char *at = full_url && full_url[0] == 'h' ? strstr(full_url, "/Observation/") : NULL;
    return at ? mf_arena_printf(doc->arena, err, "%.*s/%s", (int)(at - full_url), full_url,
                                relative)
              : NULL;
}

/* Resolves a reference that `from` makes to a Patient resource; `ref` has no version. */
static json_int_t resolve(struct mf_fhir_document *doc, const struct mf_fhir_resource *from,
                          const char *ref, struct mf_error *err)
{
    if (ref[0] == '#') {
        const char *key = mf_arena_printf(doc->arena, err, "%zu%s", from->ordinal, ref);
        return key ? patient_under(doc, key) : MF_FHIR_NONE;
    }
    json_int_t found = patient_under(doc, ref);
    if (strncmp(ref, "urn:", 4) == 0)
        return found;
    if (strstr(ref, "://")) { /* a copy without fullUrl answers to its type and id */
        const char *tail = strstr(ref, "/Patient/");
        if (found < 0 && tail && (found = patient_under(doc, tail + 1)) >= 0 &&
            doc->resources[found].full_url)
            found = MF_FHIR_NONE;
        return found;
    }
    const char *absolute = rebase(doc, from->full_url, ref, err);
    json_int_t near = absolute ? patient_under(doc, absolute) : MF_FHIR_NONE;
    return near >= 0 ? near : found;
}

/* The table while it grows: which patient a Patient is, whose each Observation is. */
struct table {
    struct mf_fhir_document *doc;
    struct mf_fhir_patient *patients; /* room for one per resource */
    json_int_t *patient_of;           /* resource number → patient number */
    struct mf_error *err;
};

static json_int_t add_patient(struct table *t, const char *reference, const json_t *resource)
{
    t->patients[t->doc->patient_count] =
        (struct mf_fhir_patient){.reference = reference, .resource = resource};
    return (json_int_t)t->doc->patient_count++;
}

/* Copies the identifiers of a JSON list that are in use, and enters them in the index. */
static bool add_identifiers(struct table *t, json_int_t patient, const json_t *list)
{
    struct mf_fhir_document *doc = t->doc;
    size_t count = json_array_size(list), n = 0;
    struct mf_fhir_identifier *ids = mf_arena_alloc(doc->arena, count, sizeof *ids, t->err);
    if (!ids)
        return false;
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(list, i);
        const char *value = mf_json_get_string(item, "value", "");
        const char *system = mf_json_get_string(item, "system", NULL);
        if (!*value || strcmp(mf_json_get_string(item, "use", ""), "old") == 0)
            continue;
        ids[n++] = (struct mf_fhir_identifier){
            .system = system,
            .value = value,
            .assigner = mf_json_get_string(json_object_get(item, "assigner"), "display", NULL)};
        const char *key =
            mf_arena_printf(doc->arena, t->err, "|%s|%s", system ? system : "", value);
        if (!key)
            return false;
        json_int_t earlier = lookup(doc, key);
        bool first = earlier == MF_FHIR_NONE || earlier == patient;
        if (!store(doc, key, first ? patient : AMBIGUOUS, t->err))
            return false;
    }
    t->patients[patient].identifiers = ids;
    t->patients[patient].identifier_count = n;
    return true;
}

static bool add_patient_resource(struct table *t, size_t number)
{
    const struct mf_fhir_resource *res = &t->doc->resources[number];
    t->patient_of[number] = add_patient(t, res->reference, res->json);
    return add_identifiers(t, t->patient_of[number], json_object_get(res->json, "identifier"));
}

/* A patient who is named by a key (a reference, an identifier) but is not in the document. */
static json_int_t outside_patient(struct table *t, const char *key, const char *reference,
                                  const json_t *identifier)
{
    json_int_t patient = lookup(t->doc, key);
    if (patient != MF_FHIR_NONE)
        return patient;
    MF_AUTO(mf_json) json_t *list = identifier ? json_pack("[O]", identifier) : json_array();
    patient = add_patient(t, reference, NULL);
    if (!list)
        mf_error_set(t->err, MF_ERR_NO_MEMORY, "out of memory");
    if (!list || !store(t->doc, key, patient, t->err) || !add_identifiers(t, patient, list))
        return MF_FHIR_NONE;
    return patient;
}

/* The subject by Reference.identifier, or by a conditional reference
 * ("Patient?identifier=system|value"). */
static json_int_t subject_by_identifier(struct table *t, const json_t *subject, const char *ref)
{
    static const char QUERY[] = "Patient?identifier=";
    struct mf_arena *arena = t->doc->arena;
    const json_t *identifier = json_object_get(subject, "identifier");
    const char *key;
    if (ref) {
        if (strncmp(ref, QUERY, sizeof QUERY - 1) != 0)
            return MF_FHIR_NONE;
        key = mf_arena_printf(arena, t->err, "%s%s", strchr(ref, '|') ? "|" : "||",
                              ref + sizeof QUERY - 1);
        return key ? lookup(t->doc, key) : MF_FHIR_NONE;
    }
    const char *value = mf_json_get_string(identifier, "value", "");
    const char *type = mf_json_get_string(subject, "type", "Patient");
    if (!*value || strcmp(type, "Patient") != 0)
        return MF_FHIR_NONE;
    key = mf_arena_printf(arena, t->err, "|%s|%s", mf_json_get_string(identifier, "system", ""),
                          value);
    return key ? outside_patient(t, key, "Patient", identifier) : MF_FHIR_NONE;
}

/* Whose an Observation is: a patient number, or MF_FHIR_NONE (another kind of subject). */
static json_int_t subject_of(struct table *t, const struct mf_fhir_resource *res)
{
    struct mf_fhir_document *doc = t->doc;
    const json_t *subject = json_object_get(res->json, "subject");
    const char *ref = mf_json_get_string(subject, "reference", NULL);
    if (!ref || strchr(ref, '?'))
        return subject_by_identifier(t, subject, ref);
    const char *history = strstr(ref, "/_history/");
    if (history && !(ref = mf_arena_strndup(doc->arena, ref, (size_t)(history - ref), t->err)))
        return MF_FHIR_NONE;
    json_int_t number = resolve(doc, res, ref, t->err);
    if (number >= 0)
        return t->patient_of[number];
    bool names_patient = strncmp(ref, "Patient/", 8) == 0 || strstr(ref, "/Patient/") ||
                         strcmp(mf_json_get_string(subject, "type", ""), "Patient") == 0;
    if (ref[0] == '#' || !names_patient || lookup(doc, ref) == AMBIGUOUS)
        return MF_FHIR_NONE;
    const char *key = mf_arena_printf(doc->arena, t->err, "@%s", ref);
    return key ? outside_patient(t, key, ref, json_object_get(subject, "identifier"))
               : MF_FHIR_NONE;
}

/* Gives every patient the list of their Observations; those without any subject belong to the only
 * one. */
static bool list_observations(struct table *t)
{
    struct mf_fhir_document *doc = t->doc;
    for (size_t i = 0; i < doc->count; i++) {
        const struct mf_fhir_resource *res = &doc->resources[i];
        if (!res->is_patient && doc->patient_count == 1 && !json_object_get(res->json, "subject"))
            t->patient_of[i] = 0;
        if (!res->is_patient && !res->superseded && t->patient_of[i] >= 0)
            t->patients[t->patient_of[i]].observation_count++;
    }
    for (size_t p = 0; p < doc->patient_count; p++) {
        struct mf_fhir_patient *patient = &t->patients[p];
        size_t n = patient->observation_count;
        patient->observations = mf_arena_alloc(doc->arena, n, sizeof(void *), t->err);
        patient->observation_references = mf_arena_alloc(doc->arena, n, sizeof(void *), t->err);
        if (!patient->observations || !patient->observation_references)
            return false;
        patient->observation_count = 0;
    }
    for (size_t i = 0; i < doc->count; i++) {
        const struct mf_fhir_resource *res = &doc->resources[i];
        if (res->is_patient || res->superseded || t->patient_of[i] < 0)
            continue;
        struct mf_fhir_patient *patient = &t->patients[t->patient_of[i]];
        ((const json_t **)patient->observations)[patient->observation_count] = res->json;
        ((const char **)patient->observation_references)[patient->observation_count++] =
            res->reference;
    }
    return true;
}

bool mf_fhir_build_patients(struct mf_fhir_document *doc, struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    struct table t = {.doc = doc, .err = &cause};
    size_t n = doc->count;
    t.patients = mf_arena_alloc(doc->arena, n, sizeof *t.patients, err);
    t.patient_of = mf_arena_alloc(doc->arena, n, sizeof *t.patient_of, err);
    if (!t.patients || !t.patient_of)
        return false;
    doc->patients = t.patients;
    for (size_t i = 0; i < n; i++) {
        t.patient_of[i] = MF_FHIR_NONE;
        if (!enter_resource(doc, i, err))
            return false;
    }
    for (size_t i = 0; i < n; i++)
        if (doc->resources[i].is_patient && !doc->resources[i].superseded &&
            !add_patient_resource(&t, i))
            break;
    for (size_t i = 0; i < n && cause.code == MF_OK; i++)
        if (!doc->resources[i].is_patient)
            t.patient_of[i] = subject_of(&t, &doc->resources[i]);
    if (cause.code != MF_OK || !list_observations(&t))
        return mf_error_set(err, cause.code, "%s", cause.msg);
    if (doc->patient_count == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "no Patient in the FHIR data");
    return true;
}

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
