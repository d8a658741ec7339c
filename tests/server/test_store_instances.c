/* Stored instances: adding, finding again, studies becoming due, packs that are in use. */
#include "server/store_instances.h"

#include "store_fixture.h"

#include <time.h>
#include <unistd.h>

static const char PACK[] = "0123456789abcdef0123456789abcdef";

/* An instance of a study; `n` makes its UIDs and bytes its own. */
static struct mf_stored make(const char *study, const char *series, const char *sop,
                             const char *patient)
{
    struct mf_stored in = {.locator = PACK, .size = 10, .source = "stow"};
    in.instance.transfer_syntax = "1.2.840.10008.1.2.1";
    in.instance.data_set = 4;
    in.instance.values[MF_STUDY_UID] = study;
    in.instance.values[MF_SERIES_UID] = series;
    in.instance.values[MF_SOP_INSTANCE_UID] = sop;
    in.instance.values[MF_SOP_CLASS_UID] = "1.2.840.10008.5.1.4.1.1.1.1";
    in.instance.values[MF_PATIENT_ID] = patient;
    in.instance.values[MF_PATIENT_NAME] = "Doe^Jane_50%";
    in.instance.values[MF_STUDY_DATE] = "20200131";
    in.instance.values[MF_MODALITY] = "DX";
    memcpy(in.sha256, sop, strlen(sop) < 32 ? strlen(sop) : 32);
    return in;
}

static struct mf_added add(struct store_fixture *f, struct mf_stored in, int64_t quiet_ms)
{
    struct mf_added added;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_store_instances_add(f->store, MF_TENANT_DEFAULT, quiet_ms, &in, 1, &added, &err))
        fail_msg("%s", err.msg);
    return added;
}

static struct mf_found *search(struct store_fixture *f, enum mf_level level, int attribute,
                               enum mf_match_kind kind, const char *value, size_t *n)
{
    struct mf_match match = {(enum mf_attribute_id)attribute, kind, value};
    struct mf_search s = {.tenant = MF_TENANT_DEFAULT,
                          .level = level,
                          .matches = &match,
                          .match_count = attribute >= 0,
                          .limit = 100};
    struct mf_found *rows = NULL;
    struct mf_error err = MF_ERROR_INIT;
    if (!mf_store_instances_search(f->store, &s, f->arena, &rows, n, &err))
        fail_msg("%s", err.msg);
    return rows;
}

static void test_an_instance_is_found_again_after_a_restart(void **state)
{
    struct store_fixture f;
    size_t n = 0;
    (void)state;
    fixture_start(&f);
    assert_int_equal(add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 1000).result, MF_ADD_STORED);
    mf_store_free(f.store);
    fixture_open(&f);
    struct mf_found *row =
        search(&f, MF_LEVEL_INSTANCE, MF_SOP_INSTANCE_UID, MF_MATCH_EQUAL, "1.2.1.1", &n);
    assert_int_equal(n, 1);
    assert_string_equal(row->stored.locator, PACK);
    assert_int_equal(row->stored.size, 10);
    assert_int_equal(row->stored.instance.data_set, 4);
    assert_string_equal(row->stored.instance.values[MF_PATIENT_ID], "P1");
    assert_string_equal(row->stored.instance.transfer_syntax, "1.2.840.10008.1.2.1");
    assert_null(row->stored.instance.values[MF_STUDY_DESCRIPTION]);
    fixture_end(&f);
}

static void test_a_uid_is_stored_once(void **state)
{
    struct store_fixture f;
    size_t n = 0;
    (void)state;
    fixture_start(&f);
    struct mf_stored in = make("1.2", "1.2.1", "1.2.1.1", "P1");
    add(&f, in, 1000);
    struct mf_added again = add(&f, in, 1000);
    assert_int_equal(again.result, MF_ADD_KNOWN);
    in.sha256[0] ^= 1;
    again = add(&f, in, 1000);
    assert_int_equal(again.result, MF_ADD_DIFFERENT);
    assert_string_equal(again.locator, PACK);
    assert_int_equal(again.data_set, 4);
    struct mf_found *rows = search(&f, MF_LEVEL_STUDY, -1, MF_MATCH_EQUAL, "", &n);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].instance_count, 1);
    fixture_end(&f);
}

static void test_a_study_stays_one_patients(void **state)
{
    struct store_fixture f;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 1000);
    struct mf_added other = add(&f, make("1.2", "1.2.1", "1.2.1.2", "P2"), 1000);
    assert_int_equal(other.result, MF_ADD_OTHER_PATIENT);
    struct mf_stored issuer = make("1.2", "1.2.1", "1.2.1.3", "P1");
    issuer.instance.values[MF_PATIENT_ID_ISSUER] = "ELSEWHERE";
    assert_int_equal(add(&f, issuer, 1000).result, MF_ADD_OTHER_PATIENT);
    fixture_end(&f);
}

static void test_counts_and_modalities_of_a_study(void **state)
{
    struct store_fixture f;
    size_t n = 0;
    (void)state;
    fixture_start(&f);
    struct mf_stored sr = make("1.2", "1.2.2", "1.2.2.1", "P1");
    sr.instance.values[MF_MODALITY] = "SR";
    add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 1000);
    add(&f, make("1.2", "1.2.1", "1.2.1.2", "P1"), 1000);
    add(&f, sr, 1000);
    struct mf_found *rows = search(&f, MF_LEVEL_STUDY, MF_MODALITY, MF_MATCH_EQUAL, "SR", &n);
    assert_int_equal(n, 1);
    assert_int_equal(rows[0].series_count, 2);
    assert_int_equal(rows[0].instance_count, 3);
    assert_string_equal(rows[0].modalities, "DX\\SR");
    rows = search(&f, MF_LEVEL_SERIES, MF_STUDY_UID, MF_MATCH_EQUAL, "1.2", &n);
    assert_int_equal(n, 2);
    assert_int_equal(rows[0].instance_count, 2);
    search(&f, MF_LEVEL_STUDY, MF_MODALITY, MF_MATCH_EQUAL, "CT", &n);
    assert_int_equal(n, 0);
    fixture_end(&f);
}

static void test_matching(void **state)
{
    static const struct {
        int attribute;
        enum mf_match_kind kind;
        const char *value;
        size_t found;
    } cases[] = {
        {MF_PATIENT_NAME, MF_MATCH_PATTERN, "doe*", 1},
        {MF_PATIENT_NAME, MF_MATCH_PATTERN, "*jane?50%", 1},
        {MF_PATIENT_NAME, MF_MATCH_PATTERN, "doe^jane%50_", 0},
        {MF_PATIENT_NAME, MF_MATCH_PATTERN, "roe*", 0},
        {MF_STUDY_DATE, MF_MATCH_RANGE, "20200101-20200131", 1},
        {MF_STUDY_DATE, MF_MATCH_RANGE, "-20200130", 0},
        {MF_STUDY_DATE, MF_MATCH_RANGE, "20200131-", 1},
        {MF_STUDY_DATE, MF_MATCH_RANGE, "20200201-", 0},
        {MF_STUDY_UID, MF_MATCH_LIST, "9.9,1.2", 1},
        {MF_STUDY_UID, MF_MATCH_LIST, "9.9\\9.8", 0},
        {MF_ACCESSION_NUMBER, MF_MATCH_EQUAL, "", 1},
        {MF_PATIENT_ID, MF_MATCH_EQUAL, "", 0},
        {MF_PATIENT_ID, MF_MATCH_EQUAL, "' OR 1=1 --", 0},
        {MF_SOP_INSTANCE_UID, MF_MATCH_EQUAL, "1.2.1.1", 1},
    };
    struct store_fixture f;
    size_t n = 0;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 1000);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        search(&f, MF_LEVEL_STUDY, cases[i].attribute, cases[i].kind, cases[i].value, &n);
        if (n != cases[i].found)
            fail_msg("case %zu (%s) found %zu", i, cases[i].value, n);
    }
    fixture_end(&f);
}

static void test_a_study_is_due_when_it_is_quiet(void **state)
{
    struct store_fixture f;
    struct mf_due_study due[4];
    struct mf_study_state study;
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 60000);
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 0);
    assert_in_range(next, 50000, 60000);
    add(&f, make("1.3", "1.3.1", "1.3.1.1", "P1"), 0);
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 1);
    assert_string_equal(due[0].uid, "1.3");
    assert_int_equal(due[0].revision, 1);

    char job[MF_JOB_ID];
    mf_job_id_new(job);
    assert_true(mf_store_study_settle(f.store, &due[0], job, NULL, 0, NULL));
    assert_true(mf_store_study_settle(f.store, &due[0], job, NULL, 0, NULL)); /* repeated */
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.3", f.arena, &study, NULL));
    assert_int_equal(study.due_in_ms, -1);
    assert_int_equal(study.job_count, 1);
    assert_string_equal(study.jobs[0], job);
    fixture_end(&f);
}

static void test_a_study_that_is_said_to_be_complete_is_due(void **state)
{
    struct store_fixture f;
    struct mf_due_study due[4];
    struct mf_study_state study;
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), 60000);
    add(&f, make("1.3", "1.3.1", "1.3.1.1", "P1"), 60000);
    assert_true(mf_store_study_hasten(f.store, "another tenant", "1.2", NULL));
    assert_true(mf_store_study_hasten(f.store, MF_TENANT_DEFAULT, "9.9", NULL));
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 0);
    assert_true(mf_store_study_hasten(f.store, MF_TENANT_DEFAULT, "1.2", NULL));
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 1);
    assert_string_equal(due[0].uid, "1.2");

    char job[MF_JOB_ID];
    mf_job_id_new(job);
    assert_true(mf_store_study_settle(f.store, &due[0], job, NULL, 0, NULL));
    assert_true(mf_store_study_hasten(f.store, MF_TENANT_DEFAULT, "1.2", NULL)); /* again */
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.2", f.arena, &study, NULL));
    assert_int_equal(study.due_in_ms, -1); /* a settled study stays so */
    fixture_end(&f);
}

static void test_a_late_image_makes_a_study_due_again(void **state)
{
    struct store_fixture f;
    struct mf_due_study due[4];
    struct mf_study_state study;
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.3", "1.3.1", "1.3.1.1", "P1"), 0);
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    add(&f, make("1.3", "1.3.1", "1.3.1.2", "P1"), 0); /* between looking and settling */
    char first[MF_JOB_ID], second[MF_JOB_ID];
    mf_job_id_new(first);
    mf_job_id_new(second);
    assert_true(mf_store_study_settle(f.store, &due[0], first, NULL, 0, NULL));
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 1);
    assert_int_equal(due[0].revision, 2);
    assert_true(mf_store_study_settle(f.store, &due[0], second, NULL, 0, NULL));
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.3", f.arena, &study, NULL));
    assert_int_equal(study.job_count, 2);
    assert_string_equal(study.jobs[0], second);
    fixture_end(&f);
}

static void test_a_study_without_a_job_says_why(void **state)
{
    struct store_fixture f;
    struct mf_due_study due = {.tenant = MF_TENANT_DEFAULT, .uid = "1.3", .revision = 1};
    struct mf_error problem = {MF_ERR_UNUSABLE, "no bundle accepts it"};
    struct mf_study_state study;
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    fixture_start(&f);
    add(&f, make("1.3", "1.3.1", "1.3.1.1", "P1"), 0);
    assert_true(mf_store_study_settle(f.store, &due, NULL, &problem, 0, NULL));
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.3", f.arena, &study, NULL));
    assert_int_equal(study.problem.code, MF_ERR_UNUSABLE);
    assert_string_equal(study.problem.msg, "no bundle accepts it");
    assert_false(mf_store_study(f.store, "somebody-else", "1.3", f.arena, &study, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such study");
    fixture_end(&f);
}

static void test_a_pack_of_an_instance_is_in_use(void **state)
{
    struct store_fixture f;
    const char *names[] = {PACK, "ffffffffffffffffffffffffffffffff"};
    bool used[2] = {false, true};
    (void)state;
    fixture_start(&f);
    add(&f, make("1.3", "1.3.1", "1.3.1.1", "P1"), 0);
    assert_true(mf_store_locators_used(f.store, names, 2, used, NULL));
    assert_true(used[0]);
    assert_false(used[1]);
    fixture_end(&f);
}

/* Purging a job must not delete the pack of an instance, nor that of another job. */
static void test_purging_a_job_spares_packs_in_use(void **state)
{
    struct store_fixture f;
    struct mf_submission sub = fixture_submission();
    struct mf_submitted made;
    struct mf_job job;
    const char *const *locators = NULL;
    size_t n = 0;
    struct mf_job_input input = {
        .part = "dicom", .kind = "blob", .locator = "00112233445566778899aabbccddeeff", .size = 7};
    (void)state;
    fixture_start(&f);
    struct mf_stored in = make("1.3", "1.3.1", "1.3.1.1", "P1");
    in.locator = input.locator;
    add(&f, in, 0);
    sub.inputs = &input;
    assert_true(mf_store_submit(f.store, &sub, &made, NULL));
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, made.id, &job, NULL));
    assert_true(mf_store_purge(f.store, MF_TENANT_DEFAULT, made.id, f.arena, &locators, &n, NULL));
    assert_int_equal(n, 0);
    fixture_end(&f);
}

/* Deliveries are made with the result, once, one for each destination. */
static void test_a_result_goes_into_the_outbox(void **state)
{
    struct store_fixture f;
    struct mf_claim *claim = NULL;
    struct mf_delivery due[4];
    struct mf_error problem = {MF_ERR_IO, "the server cannot be reached"};
    char id[MF_JOB_ID];
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    mf_store_free(f.store);
    f.settings.destinations = "http://pacs/dicom-web  dicom://PACS@pacs:104";
    fixture_open(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_int_equal(n, 0);
    fixture_succeed(&f, fixture_ref(claim));
    fixture_succeed(&f, fixture_ref(claim)); /* repeated */
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_int_equal(n, 2);
    assert_string_equal(due[0].job, id);
    assert_string_equal(due[0].destination, "http://pacs/dicom-web");
    assert_string_equal(due[1].destination, "dicom://PACS@pacs:104");
    assert_true(mf_store_delivery_settle(f.store, due[0].id, NULL, 0, NULL));
    assert_true(mf_store_delivery_settle(f.store, due[1].id, &problem, 60000, NULL));
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_int_equal(n, 0);
    assert_in_range(next, 50000, 60000);
    mf_store_free(f.store);
    f.settings.destinations = NULL; /* what was accepted is still to be delivered */
    fixture_open(&f);
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_in_range(next, 50000, 60000);
    fixture_end(&f);
}

/* A receiver hears of jobs in the order in which they ended, and of what is tried again in the
 * order in which it fell due. */
static void test_deliveries_are_handed_out_in_their_order(void **state)
{
    enum { JOBS = 6, STEP_MS = 40 };
    const struct mf_error problem = {MF_ERR_IO, "the server cannot be reached"};
    struct store_fixture f;
    struct mf_claim *claims = NULL;
    struct mf_delivery due[JOBS + 1];
    char id[MF_JOB_ID], ended[JOBS][MF_JOB_ID];
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    mf_store_free(f.store);
    f.settings.destinations = "webhook:ris";
    fixture_open(&f);
    for (int i = 0; i < JOBS; i++)
        fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", JOBS, NULL, 0, &claims), JOBS);
    for (int i = 0; i < JOBS; i++) { /* not in the order of their rows */
        const struct mf_claim *c = &claims[(i * 5 + 2) % JOBS];
        memcpy(ended[i], c->id, sizeof ended[i]);
        fixture_succeed(&f, fixture_ref(c));
    }
    assert_true(mf_store_deliveries_due(f.store, NULL, due, JOBS + 1, &n, &next, NULL));
    assert_int_equal(n, JOBS);
    for (int i = 0; i < JOBS; i++) {
        assert_string_equal(due[i].job, ended[i]);
        assert_true(
            mf_store_delivery_settle(f.store, due[i].id, &problem, (JOBS - i) * STEP_MS, NULL));
    }
    nanosleep(&(struct timespec){.tv_nsec = (JOBS + 1) * STEP_MS * 1000000L}, NULL);
    assert_true(mf_store_deliveries_due(f.store, NULL, due, JOBS + 1, &n, &next, NULL));
    assert_int_equal(n, JOBS);
    for (int i = 0; i < JOBS; i++)
        assert_string_equal(due[i].job, ended[JOBS - 1 - i]);
    fixture_end(&f);
}

/* A courier has a thread for some destinations each: what one is handed is its own, or nobody would
 * deliver what another one was handed with it. */
static void test_deliveries_are_handed_out_by_destination(void **state)
{
    struct store_fixture f;
    char id[MF_JOB_ID];
    struct mf_claim *claim;
    struct mf_delivery due[4];
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    mf_store_free(f.store);
    f.settings.destinations = "http://a http://a/b%_ mllp://c:1/d/e";
    fixture_open(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
    fixture_succeed(&f, fixture_ref(claim));
    static const struct {
        struct mf_destinations which;
        const char *expected;
    } cases[] = {
        {{.list = " http://a/b http://b "}, NULL},
        {{.list = " http://a/b%_ http://b "}, "http://a/b%_"},
        {{.list = " http://a/b%_ mllp://c:1/d/e ", .others = true}, "http://a"},
        {{.list = " mllp://c:1/d/e "}, "mllp://c:1/d/e"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_true(mf_store_deliveries_due(f.store, &cases[i].which, due, 4, &n, &next, NULL));
        assert_int_equal(n, cases[i].expected ? 1 : 0);
        if (n)
            assert_string_equal(due[0].destination, cases[i].expected);
    }
    fixture_end(&f);
}

/* Webhooks are told of every end, other destinations of results only. */
static void test_a_webhook_is_told_of_a_cancelled_job(void **state)
{
    struct store_fixture f;
    struct mf_delivery due[4];
    struct mf_job job;
    char id[MF_JOB_ID];
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    mf_store_free(f.store);
    f.settings.destinations = "fhir:ehr webhook:ris north=webhook:other";
    fixture_open(&f);
    fixture_submit(&f, MF_PRIORITY_ROUTINE, id);
    assert_true(mf_store_cancel(f.store, MF_TENANT_DEFAULT, id, &job, NULL));
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_int_equal(n, 1);
    assert_string_equal(due[0].job, id);
    assert_string_equal(due[0].destination, "webhook:ris");
    /* A courier on another host must not deliver it, too; where there is but one it asks again. */
    assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
    assert_int_equal(n, fixture_on_postgres() ? 0 : 1);
    if (fixture_on_postgres())
        assert_in_range(next, 60000, 120000);
    fixture_end(&f);
}

static void test_what_was_fetched_makes_no_study_due(void **state)
{
    struct store_fixture f;
    struct mf_due_study due[4];
    struct mf_study_state study;
    size_t n = 0;
    int64_t next = 0;
    (void)state;
    fixture_start(&f);
    assert_int_equal(add(&f, make("1.2", "1.2.1", "1.2.1.1", "P1"), MF_STORE_NOT_DUE).result,
                     MF_ADD_STORED);
    assert_true(mf_store_studies_due(f.store, due, 4, &n, &next, NULL));
    assert_int_equal(n, 0);
    assert_int_equal(next, -1);
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.2", f.arena, &study, NULL));
    assert_int_equal(study.instances, 1);
    assert_int_equal(study.due_in_ms, -1);
    add(&f, make("1.2", "1.2.1", "1.2.1.2", "P1"), 60000); /* sent by somebody: a study to come */
    add(&f, make("1.2", "1.2.1", "1.2.1.3", "P1"), MF_STORE_NOT_DUE);
    assert_true(mf_store_study(f.store, MF_TENANT_DEFAULT, "1.2", f.arena, &study, NULL));
    assert_true(study.due_in_ms > 0);
    assert_int_equal(study.revision, 3);
    fixture_end(&f);
}

/* "destinations" of a job's options leave the others out; an empty list leaves out all. */
static void test_a_job_may_name_its_destinations(void **state)
{
    static const struct {
        const char *options;
        size_t deliveries;
    } cases[] = {{"{\"destinations\":[\"http://b\",\"http://elsewhere\"]}", 1},
                 {"{\"destinations\":[]}", 0},
                 {"{\"destinations\":null}", 0},
                 {"{\"alpha\":0.2}", 2}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct store_fixture f;
        struct mf_claim *claim = NULL;
        struct mf_delivery due[4];
        struct mf_submission sub = fixture_submission();
        struct mf_submitted made;
        size_t n = 0;
        int64_t next = 0;
        fixture_start(&f);
        mf_store_free(f.store);
        f.settings.destinations = "http://a http://b north=http://c";
        fixture_open(&f);
        sub.options = cases[i].options;
        assert_true(mf_store_submit(f.store, &sub, &made, NULL));
        assert_int_equal(fixture_claim(&f, "w", 1, NULL, 0, &claim), 1);
        fixture_succeed(&f, fixture_ref(claim));
        assert_true(mf_store_deliveries_due(f.store, NULL, due, 4, &n, &next, NULL));
        assert_int_equal(n, cases[i].deliveries);
        if (n == 1)
            assert_string_equal(due[0].destination, "http://b");
        fixture_end(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_webhook_is_told_of_a_cancelled_job),
        cmocka_unit_test(test_an_instance_is_found_again_after_a_restart),
        cmocka_unit_test(test_a_uid_is_stored_once),
        cmocka_unit_test(test_a_study_stays_one_patients),
        cmocka_unit_test(test_counts_and_modalities_of_a_study),
        cmocka_unit_test(test_matching),
        cmocka_unit_test(test_a_study_is_due_when_it_is_quiet),
        cmocka_unit_test(test_what_was_fetched_makes_no_study_due),
        cmocka_unit_test(test_a_study_that_is_said_to_be_complete_is_due),
        cmocka_unit_test(test_a_late_image_makes_a_study_due_again),
        cmocka_unit_test(test_a_study_without_a_job_says_why),
        cmocka_unit_test(test_a_pack_of_an_instance_is_in_use),
        cmocka_unit_test(test_purging_a_job_spares_packs_in_use),
        cmocka_unit_test(test_a_result_goes_into_the_outbox),
        cmocka_unit_test(test_a_job_may_name_its_destinations),
        cmocka_unit_test(test_deliveries_are_handed_out_in_their_order),
        cmocka_unit_test(test_deliveries_are_handed_out_by_destination),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
