/*
 * Who is in a document: versions, references, the patient table.
 *
 * The index maps keys to numbers. Keys of records (numbers of doc->records):
 *   "https://…/Patient/1", "urn:uuid:…"   the fullUrl
 *   "Patient/1"                           type and id; AMBIGUOUS when two servers' resources share
 *                                         it
 *   "17#p"                                contained in the 17th resource
 * Keys of patients (numbers of doc->patients):
 *   "@Patient/9"                          a reference that leads out of the document
 *   "|system|value"                       a business identifier; AMBIGUOUS when two patients share
 *                                         it
 * References are resolved as http://hl7.org/fhir/R4/bundle.html#references says: contained,
 * absolute, relative to the fullUrl of the resource that refers; and, more leniently, by type and
 * id alone, because NDJSON and hand-made Bundles have no fullUrl.
 */
#include "fhir/internal.h"

#include <string.h>

enum { AMBIGUOUS = -2 };

static long lookup(const struct mf_fhir_document *doc, const char *key)
{
    return mf_fhir_map_get(&doc->index, key, MF_FHIR_NONE);
}

static bool store(struct mf_fhir_document *doc, const char *key, long number, struct mf_error *err)
{
    return mf_fhir_map_set(&doc->index, key, (int32_t)number, err);
}

/* Whether `b` is a newer version than `a` (meta.lastUpdated; at a tie, the later one). */
static bool is_newer(const struct mf_fhir_record *a, const struct mf_fhir_record *b)
{
    return a->updated_ms == INT64_MIN || b->updated_ms == INT64_MIN ||
           b->updated_ms >= a->updated_ms;
}

/* Enters the record under a key that identifies it; the older of two versions is superseded. */
static bool enter(struct mf_fhir_document *doc, const char *key, size_t number,
                  struct mf_error *err)
{
    long earlier = lookup(doc, key);
    if (earlier >= 0 && (size_t)earlier != number) {
        struct mf_fhir_record *a = doc->records[earlier], *b = doc->records[number];
        struct mf_fhir_record *old = is_newer(a, b) ? a : b;
        old->superseded = true;
        if (old == b)
            return true;
    }
    return store(doc, key, (long)number, err);
}

static bool enter_record(struct mf_fhir_document *doc, size_t number, struct mf_error *err)
{
    struct mf_fhir_record *record = doc->records[number];
    if (record->contained) {
        const char *key = record->id ? mf_arena_printf(doc->pool.arena, err, "%zu#%s",
                                                       record->ordinal, record->id)
                                     : NULL;
        return !record->id || (key && enter(doc, key, number, err));
    }
    if (record->full_url && !enter(doc, record->full_url, number, err))
        return false;
    if (!record->id)
        return true;
    long earlier = lookup(doc, record->reference);
    if (earlier == AMBIGUOUS)
        return true;
    const char *other = earlier >= 0 ? doc->records[earlier]->full_url : NULL;
    if (other && record->full_url && strcmp(other, record->full_url) != 0)
        return store(doc, record->reference, AMBIGUOUS, err);
    return enter(doc, record->reference, number, err);
}

/* --- references --- */

/* The number of a record of this type under `key`, or MF_FHIR_NONE. */
static long record_under(const struct mf_fhir_document *doc, const char *key,
                         enum mf_resource_type type)
{
    long number = lookup(doc, key);
    return number >= 0 && doc->records[number]->type == type ? number : MF_FHIR_NONE;
}

/* "https://a/fhir/Observation/7" + "Patient/1" → "https://a/fhir/Patient/1"; NULL when there is no
 * base. */
static const char *rebase(struct mf_fhir_document *doc, const struct mf_fhir_record *from,
                          const char *relative, struct mf_error *err)
{
    const char *url = from->full_url, *at = url && url[0] == 'h' ? strrchr(url, '/') : NULL;
    size_t type = strlen(mf_resource_type_name(from->type));
    if (!at || (size_t)(at - url) < type + 1 || at[-(long)type - 1] != '/' ||
        strncmp(at - type, mf_resource_type_name(from->type), type) != 0)
        return NULL;
    return mf_arena_printf(doc->pool.arena, err, "%.*s/%s", (int)(at - url - (long)type - 1), url,
                           relative);
}

/* A reference without its version ("/_history/3"); NULL when out of memory. */
static const char *without_version(struct mf_fhir_document *doc, const char *ref,
                                   struct mf_error *err)
{
    const char *history = strstr(ref, "/_history/");
    return history ? mf_arena_strndup(doc->pool.arena, ref, (size_t)(history - ref), err) : ref;
}

/* Resolves a reference that `from` makes to a record of this type; `ref` has no version. */
static long resolve(struct mf_fhir_document *doc, const struct mf_fhir_record *from,
                    const char *ref, enum mf_resource_type type, struct mf_error *err)
{
    if (ref[0] == '#') {
        const char *key = mf_arena_printf(doc->pool.arena, err, "%zu%s", from->ordinal, ref);
        return key ? record_under(doc, key, type) : MF_FHIR_NONE;
    }
    long found = record_under(doc, ref, type);
    if (strncmp(ref, "urn:", 4) == 0)
        return found;
    if (strstr(ref, "://")) { /* a copy without fullUrl answers to its type and id */
        const char *id = strrchr(ref, '/'), *tail = id;
        while (tail > ref && tail[-1] != '/')
            tail--;
        if (found < 0 && id > ref && (found = record_under(doc, tail, type)) >= 0 &&
            doc->records[found]->full_url)
            found = MF_FHIR_NONE;
        return found;
    }
    const char *absolute = rebase(doc, from, ref, err);
    long near = absolute ? record_under(doc, absolute, type) : MF_FHIR_NONE;
    return near >= 0 ? near : found;
}

/* Members of a panel (hasMember, result) that say no time are of the panel's time; a medication by
 * reference gives its code to who refers to it. */
static bool link_record(struct mf_fhir_document *doc, struct mf_fhir_record *record,
                        struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    for (size_t i = 0; i < record->member_count; i++) {
        const char *ref = without_version(doc, record->members[i], &cause);
        long number =
            ref ? resolve(doc, record, ref, MF_RESOURCE_OBSERVATION, &cause) : MF_FHIR_NONE;
        struct mf_fhir_record *member = number >= 0 ? doc->records[number] : NULL;
        if (!member || member->start || member->end || member->issued)
            continue;
        member->start = record->start;
        member->end = record->end;
        member->is_period = record->is_period;
        member->issued = record->issued;
    }
    const char *ref = record->medication ? without_version(doc, record->medication, &cause) : NULL;
    long number = ref ? resolve(doc, record, ref, MF_RESOURCE_MEDICATION, &cause) : MF_FHIR_NONE;
    if (number >= 0 && record->item.code.count == 0)
        record->item.code = doc->records[number]->item.code;
    return cause.code == MF_OK || mf_error_set(err, cause.code, "%s", cause.msg);
}

/* --- patients --- */

/* The table while it grows: which patient a Patient is, whose each record is. */
struct table {
    struct mf_fhir_document *doc;
    size_t capacity;     /* of doc->patients */
    int32_t *patient_of; /* record number → patient number */
    struct mf_error *err;
};

static long add_patient(struct table *t, const char *reference,
                        const struct mf_fhir_record *resource)
{
    if (t->doc->patient_count == t->capacity) {
        size_t capacity = t->capacity ? 2 * t->capacity : 16;
        void *grown = realloc(t->doc->patients, capacity * sizeof *t->doc->patients);
        if (!grown) {
            mf_error_set(t->err, MF_ERR_NO_MEMORY, "out of memory");
            return MF_FHIR_NONE;
        }
        t->doc->patients = grown;
        t->capacity = capacity;
    }
    t->doc->patients[t->doc->patient_count] =
        (struct mf_fhir_patient){.reference = reference, .resource = resource};
    return (long)t->doc->patient_count++;
}

/* Enters a patient's identifiers in the index. */
static bool add_identifiers(struct table *t, long patient, const struct mf_fhir_identifier *ids,
                            size_t count)
{
    struct mf_fhir_document *doc = t->doc;
    for (size_t i = 0; i < count; i++) {
        const char *key = mf_arena_printf(doc->pool.arena, t->err, "|%s|%s",
                                          ids[i].system ? ids[i].system : "", ids[i].value);
        if (!key)
            return false;
        long earlier = lookup(doc, key);
        bool first = earlier == MF_FHIR_NONE || earlier == patient;
        if (!store(doc, key, first ? patient : AMBIGUOUS, t->err))
            return false;
    }
    doc->patients[patient].identifiers = ids;
    doc->patients[patient].identifier_count = count;
    return true;
}

static bool add_patient_record(struct table *t, size_t number)
{
    const struct mf_fhir_record *record = t->doc->records[number];
    long patient = add_patient(t, record->reference, record);
    t->patient_of[number] = (int32_t)patient;
    return patient >= 0 &&
           add_identifiers(t, patient, record->identifiers, record->identifier_count);
}

/* A patient who is named by a key (a reference, an identifier) but is not in the document. */
static long outside_patient(struct table *t, const char *key, const char *reference,
                            const struct mf_fhir_identifier *identifier)
{
    long patient = lookup(t->doc, key);
    if (patient != MF_FHIR_NONE)
        return patient;
    patient = add_patient(t, reference, NULL);
    bool has_value = identifier->value && *identifier->value;
    if (patient < 0 || !store(t->doc, key, patient, t->err) ||
        !add_identifiers(t, patient, identifier, has_value))
        return MF_FHIR_NONE;
    return patient;
}

/* The subject by Reference.identifier, or by a conditional reference
 * ("Patient?identifier=system|value"). */
static long subject_by_identifier(struct table *t, const struct mf_fhir_record *record,
                                  const char *ref)
{
    static const char QUERY[] = "Patient?identifier=";
    struct mf_arena *arena = t->doc->pool.arena;
    const struct mf_fhir_identifier *id = &record->subject_id;
    const char *key;
    if (ref) {
        if (strncmp(ref, QUERY, sizeof QUERY - 1) != 0)
            return MF_FHIR_NONE;
        key = mf_arena_printf(arena, t->err, "%s%s", strchr(ref, '|') ? "|" : "||",
                              ref + sizeof QUERY - 1);
        return key ? lookup(t->doc, key) : MF_FHIR_NONE;
    }
    const char *type = record->subject_type ? record->subject_type : "Patient";
    if (!id->value || !*id->value || strcmp(type, "Patient") != 0)
        return MF_FHIR_NONE;
    key = mf_arena_printf(arena, t->err, "|%s|%s", id->system ? id->system : "", id->value);
    return key ? outside_patient(t, key, "Patient", id) : MF_FHIR_NONE;
}

/* Whose a record is: a patient number, or MF_FHIR_NONE (another kind of subject). */
static long subject_of(struct table *t, const struct mf_fhir_record *record)
{
    struct mf_fhir_document *doc = t->doc;
    const char *ref = record->subject;
    if (!ref || strchr(ref, '?'))
        return subject_by_identifier(t, record, ref);
    if (!(ref = without_version(doc, ref, t->err)))
        return MF_FHIR_NONE;
    long number = resolve(doc, record, ref, MF_RESOURCE_PATIENT, t->err);
    if (number >= 0)
        return t->patient_of[number];
    bool names_patient = strncmp(ref, "Patient/", 8) == 0 || strstr(ref, "/Patient/") ||
                         (record->subject_type && strcmp(record->subject_type, "Patient") == 0);
    if (ref[0] == '#' || !names_patient || lookup(doc, ref) == AMBIGUOUS)
        return MF_FHIR_NONE;
    const char *key = mf_arena_printf(doc->pool.arena, t->err, "@%s", ref);
    return key ? outside_patient(t, key, ref, &record->subject_id) : MF_FHIR_NONE;
}

/* What has no subject belongs to the subject of what contains it, else to the only patient. */
static void adopt(struct table *t)
{
    struct mf_fhir_document *doc = t->doc;
    for (size_t i = 0; i < doc->count; i++) {
        const struct mf_fhir_record *record = doc->records[i];
        if (record->has_subject || record->type == MF_RESOURCE_PATIENT)
            continue;
        if (record->container >= 0)
            t->patient_of[i] = t->patient_of[record->container];
        if (t->patient_of[i] < 0 && doc->patient_count == 1)
            t->patient_of[i] = 0;
    }
}

static bool is_listed(const struct table *t, size_t number)
{
    const struct mf_fhir_record *record = t->doc->records[number];
    return record->type != MF_RESOURCE_PATIENT && record->type != MF_RESOURCE_MEDICATION &&
           !record->superseded && t->patient_of[number] >= 0;
}

/* Gives every patient the list of their records. */
static bool list_records(struct table *t)
{
    struct mf_fhir_document *doc = t->doc;
    adopt(t);
    for (size_t i = 0; i < doc->count; i++)
        if (is_listed(t, i))
            doc->patients[t->patient_of[i]].record_count++;
    for (size_t p = 0; p < doc->patient_count; p++) {
        struct mf_fhir_patient *patient = &doc->patients[p];
        patient->records =
            mf_arena_alloc(doc->pool.arena, patient->record_count, sizeof(void *), t->err);
        if (!patient->records)
            return false;
        patient->record_count = 0;
    }
    for (size_t i = 0; i < doc->count; i++) {
        if (!is_listed(t, i))
            continue;
        struct mf_fhir_patient *patient = &doc->patients[t->patient_of[i]];
        ((const struct mf_fhir_record **)patient->records)[patient->record_count++] =
            doc->records[i];
    }
    return true;
}

static bool fill_table(struct table *t)
{
    struct mf_fhir_document *doc = t->doc;
    for (size_t i = 0; i < doc->count; i++)
        t->patient_of[i] = MF_FHIR_NONE;
    for (size_t i = 0; i < doc->count; i++)
        if (doc->records[i]->type == MF_RESOURCE_PATIENT && !doc->records[i]->superseded &&
            !add_patient_record(t, i))
            return false;
    for (size_t i = 0; i < doc->count && t->err->code == MF_OK; i++)
        if (doc->records[i]->type != MF_RESOURCE_PATIENT)
            t->patient_of[i] = (int32_t)subject_of(t, doc->records[i]);
    return t->err->code == MF_OK && list_records(t);
}

bool mf_fhir_build_patients(struct mf_fhir_document *doc, struct mf_error *err)
{
    struct mf_error cause = MF_ERROR_INIT;
    struct table t = {.doc = doc, .err = &cause};
    for (size_t i = 0; i < doc->count; i++)
        if (!enter_record(doc, i, err))
            return false;
    for (size_t i = 0; i < doc->count; i++)
        if (!doc->records[i]->superseded && !link_record(doc, doc->records[i], err))
            return false;
    MF_AUTO(mf_mem) int32_t *patient_of = calloc(doc->count + 1, sizeof *patient_of);
    t.patient_of = patient_of;
    if (!patient_of)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!fill_table(&t))
        return mf_error_set(err, cause.code, "%s", cause.msg);
    if (doc->patient_count == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "no Patient in the FHIR data");
    return true;
}
