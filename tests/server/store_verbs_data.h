/* The verbs about instances, the outbox, feedback and the audit trail: see store_verbs.h. */
#ifndef MF_TESTS_SERVER_STORE_VERBS_DATA_H
#define MF_TESTS_SERVER_STORE_VERBS_DATA_H

#include "server/store_audit.h"
#include "server/store_dead_letters.h"
#include "server/store_feedback.h"
#include "server/store_instances.h"

#include "store_verbs_jobs.h"

/* --- instances --- */

static inline bool add_instances(struct subject *t, struct mf_error *err)
{
    struct mf_stored in[2];
    struct mf_added added[2] = {{.result = MF_ADD_KNOWN}, {.result = MF_ADD_KNOWN}};
    for (int i = 0; i < 2; i++) {
        in[i] = (struct mf_stored){
            .locator = "0123456789abcdef0123456789abcdef", .size = 10, .source = "stow"};
        in[i].instance.transfer_syntax = "1.2.840.10008.1.2.1";
        in[i].instance.values[MF_STUDY_UID] = "1.2";
        in[i].instance.values[MF_SERIES_UID] = "1.2.1";
        in[i].instance.values[MF_SOP_INSTANCE_UID] = i ? "1.2.1.1" : "1.2.1.2";
        in[i].instance.values[MF_SOP_CLASS_UID] = "1.2.840.10008.5.1.4.1.1.1.1";
        in[i].instance.values[MF_PATIENT_NAME] = "Doe^Jane";
        in[i].instance.values[MF_STUDY_DATE] = "20200131";
        in[i].instance.values[MF_MODALITY] = "DX";
    }
    bool ok = mf_store_instances_add(t->f.store, MF_TENANT_DEFAULT, t->number, in, 2, added, err);
    t->said = added[1].result == MF_ADD_STORED;
    return ok;
}

static inline void prepare_study(struct subject *t)
{
    assert_true(add_instances(t, NULL));
}

static inline bool search_instances(struct subject *t, struct mf_error *err)
{
    const struct mf_match matches[] = {{MF_STUDY_DATE, MF_MATCH_RANGE, "20200101-20201231"},
                                       {MF_MODALITY, MF_MATCH_LIST, "CR,DX"},
                                       {MF_PATIENT_NAME, MF_MATCH_PATTERN, "doe*"},
                                       {MF_STUDY_DESCRIPTION, MF_MATCH_EQUAL, ""},
                                       {MF_SOP_INSTANCE_UID, MF_MATCH_EQUAL, "1.2.1.1"}};
    const struct mf_search search = {.tenant = MF_TENANT_DEFAULT,
                                     .level = (enum mf_level)t->number,
                                     .matches = matches,
                                     .match_count = sizeof matches / sizeof *matches,
                                     .limit = 10};
    struct mf_found *rows = NULL;
    size_t n = 0;
    bool ok = mf_store_instances_search(t->f.store, &search, t->f.arena, &rows, &n, err);
    t->said = (int64_t)n;
    return ok;
}

static inline void prepare_search_study(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_STUDY;
}

static inline void prepare_search_series(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_SERIES;
}

static inline void prepare_search_instance(struct subject *t)
{
    prepare_study(t);
    t->number = MF_LEVEL_INSTANCE;
}

static inline bool studies_due(struct subject *t, struct mf_error *err)
{
    struct mf_due_study due[4];
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_studies_due(t->f.store, due, 4, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool settle_study(struct subject *t, struct mf_error *err)
{
    const struct mf_due_study study = {.tenant = MF_TENANT_DEFAULT, .uid = "1.2", .revision = 2};
    return mf_store_study_settle(t->f.store, &study, "00112233445566778899aabbccddeeff", NULL, 0,
                                 err);
}

static inline void prepare_waiting_study(struct subject *t)
{
    t->number = 3600000;
    assert_true(add_instances(t, NULL));
}

static inline bool hasten(struct subject *t, struct mf_error *err)
{
    return mf_store_study_hasten(t->f.store, MF_TENANT_DEFAULT, "1.2", err);
}

static inline void prepare_settled(struct subject *t)
{
    prepare_study(t);
    assert_true(settle_study(t, NULL));
}

static inline bool read_study(struct subject *t, struct mf_error *err)
{
    struct mf_study_state study = {.instances = 0};
    bool ok = mf_store_study(t->f.store, MF_TENANT_DEFAULT, "1.2", t->f.arena, &study, err);
    t->said = study.instances + (int64_t)study.job_count;
    return ok;
}

/* --- the outbox --- */

static inline bool deliveries_due(struct subject *t, struct mf_error *err)
{
    struct mf_delivery due[4];
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_deliveries_due(t->f.store, NULL, due, 4, &n, &next, err);
    t->said = (int64_t)n;
    t->number = n ? due[0].id : 0;
    return ok;
}

static inline void prepare_delivery(struct subject *t)
{
    prepare_done(t);
    assert_true(deliveries_due(t, NULL));
}

static inline bool settle_delivery(struct subject *t, struct mf_error *err)
{
    const struct mf_error why = {MF_ERR_UNUSABLE, "the destination answered 400"};
    return mf_store_delivery_settle(t->f.store, t->number, &why, 0, err);
}

static inline void prepare_dead_letter(struct subject *t)
{
    prepare_delivery(t);
    assert_true(settle_delivery(t, NULL));
}

static const struct mf_dead_letter_filter ANY = {.id = 0};

static inline bool dead_letters(struct subject *t, struct mf_error *err)
{
    struct mf_dead_letter *letters = NULL;
    size_t n = 0;
    int64_t next = 0;
    bool ok = mf_store_dead_letters(t->f.store, &ANY, 0, 10, t->f.arena, &letters, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool end_letters(struct subject *t, enum mf_dead_letter_end end, struct mf_error *err)
{
    int64_t cursor = 0;
    return mf_store_dead_letters_end(t->f.store, &ANY, end, "admin", &cursor, &t->said, err);
}

static inline bool retry_letters(struct subject *t, struct mf_error *err)
{
    return end_letters(t, MF_DEAD_LETTER_RETRY, err);
}

static inline bool drop_letters(struct subject *t, struct mf_error *err)
{
    return end_letters(t, MF_DEAD_LETTER_DROP, err);
}

/* --- feedback, audit --- */

static inline bool put_feedback(struct subject *t, struct mf_error *err)
{
    struct mf_feedback_put p = {.tenant = MF_TENANT_DEFAULT,
                                .reader = "anna",
                                .body = "{}",
                                .state_key = "k",
                                .state_version = 1,
                                .state = "{}"};
    bool kept = false;
    memcpy(p.job, t->id, sizeof p.job);
    bool ok = mf_store_feedback_put(t->f.store, &p, &kept, err);
    t->said = kept;
    return ok;
}

static inline void prepare_feedback(struct subject *t)
{
    prepare_done(t);
    assert_true(put_feedback(t, NULL));
}

static inline bool read_feedback(struct subject *t, struct mf_error *err)
{
    struct mf_observed o = {.revision = 0};
    bool ok = mf_store_feedback(t->f.store, MF_TENANT_DEFAULT, t->id, t->f.arena, &o, err);
    t->said = (int64_t)o.feedback_count;
    return ok;
}

static inline bool read_state(struct subject *t, struct mf_error *err)
{
    const char *text = NULL;
    return mf_store_state(t->f.store, MF_TENANT_DEFAULT, "k", 0, t->f.arena, &text, &t->said, err);
}

static inline bool observed(struct subject *t, struct mf_error *err)
{
    struct mf_observed *rows = NULL;
    size_t n = 0;
    int64_t next = 0;
    bool ok =
        mf_store_observed(t->f.store, NULL, "thorax", 0, 10, t->f.arena, &rows, &n, &next, err);
    t->said = (int64_t)n;
    return ok;
}

static inline bool audit_add(struct subject *t, struct mf_error *err)
{
    const struct mf_audit_row row = {
        .tenant = MF_TENANT_DEFAULT, .actor = "key:a", .job = "", .event = "request"};
    return mf_store_audit_add(t->f.store, &row, err);
}

static inline void prepare_trail(struct subject *t)
{
    assert_true(audit_add(t, NULL));
}

static inline bool audit_read(struct subject *t, struct mf_error *err)
{
    struct mf_audit_point base;
    struct mf_audit_row *rows = NULL;
    size_t n = 0;
    bool ok = mf_store_audit_read(t->f.store, 0, t->f.arena, &base, &rows, &n, err);
    t->said = (int64_t)n;
    return ok;
}

#endif
