/*
 * What MedFusion keeps of a resource: a flat record with the few elements that features are made
 * of, for all resource types alike. Strings live in the document's arena, each distinct one once.
 *
 * Not for other modules; fhir/document.h is what they see.
 */
#ifndef MF_FHIR_RECORD_H
#define MF_FHIR_RECORD_H

#include "core/clock.h"
#include "core/feature.h"
#include "fhir/document.h"
#include "fhir/map.h"
#include "fhir/tree.h"

/* CodeableConcept; also a lone Coding, a list of them, a list of concepts: all codings in order. */
struct mf_fhir_concept {
    const struct mf_coding *codings; /* system, code and display may each be NULL */
    size_t count;
    const char *text;
};

/* value[x] */
enum mf_fhir_value_kind {
    MF_FHIR_NO_VALUE,
    MF_FHIR_QUANTITY, /* number in `unit`: the UCUM code, else the text of the unit */
    MF_FHIR_INTEGER,
    MF_FHIR_STRING,
    MF_FHIR_BOOLEAN, /* number 0 or 1 */
    MF_FHIR_CONCEPT,
    MF_FHIR_OTHER /* Range, SampledData, time, dateTime, Period: nothing a feature can take */
};

struct mf_fhir_value {
    enum mf_fhir_value_kind kind;
    double number;
    const char *unit, *text;
    struct mf_fhir_concept concept;
};

/* A code with its value: an Observation, or one of its components. */
struct mf_fhir_item {
    struct mf_fhir_concept code;
    struct mf_fhir_value value; /* none when there is a dataAbsentReason */
    struct mf_fhir_concept interpretation;
    double low, high;       /* of the first reference range without `appliesTo`; NAN = none */
    const char *range_unit; /* of low and high */
};

/* Whether a resource tells of something that is or was so. */
enum mf_fhir_standing {
    MF_FHIR_VOID, /* entered in error, cancelled, refuted, not done: as if it were not there */
    MF_FHIR_PRELIMINARY, /* counts unless a final value of the same moment is there */
    MF_FHIR_FINAL,
    MF_FHIR_CORRECTED /* amended, corrected: before a final value of the same moment */
};

struct mf_fhir_record {
    enum mf_resource_type type;
    enum mf_fhir_standing standing;
    bool contained;
    long container;        /* number of the record that holds it, or −1 */
    bool superseded;       /* a newer version of it is in the document */
    const char *reference; /* "Observation/1", or what it is called without an id */
    const char *id;        /* or NULL */
    const char *full_url;  /* absolute fullUrl of the entry without "/_history/…", or NULL */
    size_t ordinal;        /* of the outermost resource it is in */
    int64_t updated_ms;    /* meta.lastUpdated; INT64_MIN = unknown */
    /* whose it is */
    const char *subject, *subject_type; /* Reference.reference and type, or NULL */
    bool has_subject;
    struct mf_fhir_identifier subject_id; /* value NULL = none */
    /* when: as written, or NULL. `start` alone is a moment (or an open period), `end` alone too */
    const char *start, *end;
    bool is_period;
    const char *issued;   /* issued, recordedDate, dateAsserted: when it became known */
    const char *ended;    /* abatement, Encounter.period.end: when it was over */
    bool ongoing;         /* it lasts until `ended`, or until now */
    const char *status;   /* as written, or NULL */
    const char *clinical; /* clinicalStatus: its code */
    struct mf_fhir_item item;
    const struct mf_fhir_item *components;
    size_t component_count;
    const char *const *members; /* Observation.hasMember, DiagnosticReport.result: references */
    size_t member_count;
    const char *medication; /* medicationReference */
    /* Patient */
    const char *birth_date, *gender;
    const struct mf_fhir_identifier *identifiers; /* without those of use `old` */
    size_t identifier_count;
};

/* Which elements of a type say what it is, whose, when and whether it still stands. */
struct mf_fhir_shape {
    const char *codes[2]; /* concepts, codings, or lists of them */
    bool last_is_list;    /* the last of these is a list of concepts */
    const char *subject;
    const char *moments[2];           /* dateTimes */
    const char *period;               /* a Period */
    const char *issued;               /* when it became known */
    const char *ended, *ended_period; /* when it was over */
    const char *status;               /* a code, or a concept */
    bool status_is_concept;
    const char *voids[3]; /* values of it that make the resource void */
    const char *preliminary[3];
    const char *corrected[3];
};

const struct mf_fhir_shape *mf_fhir_shape(enum mf_resource_type type);

/* Where records and their strings go. */
struct mf_fhir_pool {
    struct mf_arena *arena;
    struct mf_fhir_map strings;
};

/* The type of a resource, or MF_RESOURCE_COUNT for those that nothing is read of. */
enum mf_resource_type mf_fhir_type_of(const struct mf_node *resource);

/* Checks that the elements which are read have the types of R4; failing names the element by its
 * path ("Bundle.entry[2].resource.valueQuantity.value must be a number"). MF_ERR_MALFORMED. */
bool mf_fhir_check(const struct mf_node *resource, enum mf_resource_type type, const char *path,
                   struct mf_error *err) MF_CHECK_RESULT;

/* Fills `ret` from a resource that passed the check; all but the names (reference, full_url,
 * ordinal, contained). False: MF_ERR_NO_MEMORY or MF_ERR_TOO_LARGE. */
bool mf_fhir_read_record(struct mf_fhir_pool *pool, const struct mf_node *resource,
                         enum mf_resource_type type, struct mf_fhir_record *ret,
                         struct mf_error *err) MF_CHECK_RESULT;

/* --- times --- */

/* Whether resources of this type tell of something that lasts (a Condition), and when it began. */
bool mf_fhir_lasts(enum mf_resource_type type);

/* When it was so, or began, as an interval; `ret_text` (nullable) gets it as written.
 * `local_clock`: the wall clock where it was made, time zone ignored. MF_TIME_UNKNOWN when there is
 * none. */
struct mf_time mf_fhir_record_time(const struct mf_fhir_record *record, bool local_clock,
                                   const char **ret_text);
/* One dateTime that passed the check. */
struct mf_time mf_fhir_time(const char *text, bool local_clock);

#endif
