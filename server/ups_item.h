/*
 * UPS: what a performer reads of a work item (PS3.3 C.30, PS3.4 annex CC), and what it writes into
 * one. Both are DICOM JSON (PS3.18 annex F); what is read comes from outside and may be anything.
 */
#ifndef MF_SERVER_UPS_ITEM_H
#define MF_SERVER_UPS_ITEM_H

#include "core/error.h"
#include "core/json.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MF_UPS_UID = 65,
    MF_UPS_AE = 17,
    MF_UPS_URL = 512,
    MF_UPS_STUDIES = 32,
    MF_UPS_OUTPUTS = 8,
    MF_UPS_CODES = 8
};

enum mf_ups_state {
    MF_UPS_OTHER,
    MF_UPS_SCHEDULED,
    MF_UPS_IN_PROGRESS,
    MF_UPS_COMPLETED,
    MF_UPS_CANCELED
};

struct mf_ups_code {
    char value[65], scheme[17], meaning[65];
};

struct mf_ups_codes {
    struct mf_ups_code list[MF_UPS_CODES];
    size_t count;
};

/* Where something is, or is to be stored: never contacted, only compared with what is configured.
 */
struct mf_ups_place {
    char url[MF_UPS_URL], ae[MF_UPS_AE]; /* "" = not named */
};

struct mf_ups_input {
    char study[MF_UPS_UID];
    struct mf_ups_place place;
};

struct mf_ups_item {
    char uid[MF_UPS_UID]; /* "" = not said */
    enum mf_ups_state state;
    bool ready;       /* the inputs are complete */
    bool high;        /* priority HIGH */
    int64_t start_ms; /* not before this time, since 1970; 0 = at once */
    char patient_id[257], patient_issuer[257];
    struct mf_ups_codes work, stations;
    struct mf_ups_input inputs[MF_UPS_STUDIES]; /* each study once */
    size_t input_count;
    bool too_many; /* studies */
    struct mf_ups_place outputs[MF_UPS_OUTPUTS];
    size_t output_count;
};

/* Reads one: an object of a search, or an answer that is a list of one. MF_ERR_MALFORMED: neither.
 * What is too long or not a UID is taken as absent. */
bool mf_ups_item_read(const json_t *json, struct mf_ups_item *ret, struct mf_error *err);

/* "CODE^SCHEME", with "=MODEL" behind it if `model` is not NULL ("" = none). */
bool mf_ups_code_parse(const char *text, struct mf_ups_code *ret, char model[128]);
/* Whether value and scheme are those of one of the list. */
bool mf_ups_codes_have(const struct mf_ups_codes *codes, const struct mf_ups_code *code);

/* --- what is written; the caller owns it, NULL = out of memory --- */

json_t *mf_ups_change(const char *transaction, enum mf_ups_state state);
/* Progress in percent. */
json_t *mf_ups_progress(const char *transaction, int percent, const char *description);

struct mf_ups_object {
    const char *study, *series, *sop_class, *sop_instance;
};

struct mf_ups_performed {
    struct mf_ups_code station, work;
    int64_t begin_ms, end_ms;
    const char *address; /* http(s)://… or dicom(s)://AE@…, where the objects are */
    const char *ae;      /* of the latter */
    const struct mf_ups_object *objects;
    size_t object_count;
};

/* The Performed Procedure Sequence of a work item that is done. */
json_t *mf_ups_perform(const char *transaction, const struct mf_ups_performed *performed);
/* Why it is canceled: reason code of PS3.16 CID 9300 by the error's code, and its message. */
json_t *mf_ups_discontinue(const char *transaction, const struct mf_error *why, int64_t now_ms);

#ifdef __cplusplus
}
#endif

#endif
