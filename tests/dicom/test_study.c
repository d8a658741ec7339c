/* dicom/study.c, study_request.c: patients, studies, order, rules, priors. */
#include "dicom/study.h"

#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

#include <math.h>

static const char *const DX[] = {"CR", "DX"}, *const FRONTAL[] = {"PA", "AP"},
                         *const CHESTS[] = {"CHEST"};
static const struct mf_study_rules CHEST_RULES = {.modalities = DX,
                                                  .modality_count = 2,
                                                  .views = FRONTAL,
                                                  .view_count = 2,
                                                  .body_parts = CHESTS,
                                                  .body_part_count = 1};

/* An index of small images. */
static struct mf_index *index_of(const struct build_object *objects, size_t count)
{
    struct mf_scan_input inputs[128] = {{.fd = -1}};
    struct mf_error err = MF_ERROR_INIT;
    for (size_t i = 0; i < count; i++) {
        struct builder b;
        build_simple(&b, &objects[i]);
        inputs[i] = (struct mf_scan_input){.fd = build_fd(b.bytes.data, b.bytes.len),
                                           .length = b.bytes.len};
        build_free(&b);
    }
    struct mf_index *index = mf_scan(inputs, count, NULL, &err);
    assert_no_error(&err);
    for (size_t i = 0; i < count; i++)
        close(inputs[i].fd);
    return index;
}

static struct mf_study_list *list_of(const struct mf_index *index,
                                     const struct mf_study_rules *rules)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_study_list *list = mf_study_list_new(index, rules, &err);
    assert_no_error(&err);
    return list;
}

static void expect_job_refused(const struct build_object *objects, size_t count,
                               const struct mf_study_rules *rules, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, count);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, rules);
    assert_null(mf_study_list_job(list, true, &err));
    assert_error(&err, MF_ERR_UNUSABLE, message);
}

static void newest_study_is_current_and_earlier_ones_are_priors(void **state)
{
    (void)state;
    const struct build_object objects[] = {
        {"DX", "PA", "P1", "20190307", "102000", "CHEST", NULL, 2, 1, 1},
        {"DX", "PA", "P1", "20200101", "000000", "CHEST", NULL, 3, 1, 1},
        {"DX", "PA", "P1", "20190307", "090000", "CHEST", NULL, 1, 1, 1},
    };
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 3);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, &CHEST_RULES);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    assert_no_error(&err);
    assert_int_equal(r->frame_count, 3);
    assert_int_equal(r->prior_count, 2);
    assert_string_equal(r->study->study_instance_uid, "1.9.3");
    assert_string_equal(r->frames[0].object->study_instance_uid, "1.9.1");
    assert_string_equal(r->frames[1].object->study_instance_uid, "1.9.2");
    assert_true(r->frames[0].prior && r->frames[1].prior && !r->frames[2].prior);
    assert_string_equal(r->frames[0].acquired, "2019-03-07T09:00:00");
    assert_true(r->frames[0].acquired_ms < r->frames[1].acquired_ms);
    assert_int_equal(r->frames[2].object_index, 1);
    assert_string_equal(r->demographics.view_position, "PA");
    assert_int_equal(r->study_time.precision, MF_TIME_SECOND);
    r = mf_study_list_job(list, false, &err);
    assert_int_equal(r->frame_count, 1);
    assert_int_equal(r->prior_count, 0);
    r = mf_study_list_request(list, 0, 1, true, &err); /* an earlier study as current */
    assert_int_equal(r->frame_count, 2);
    assert_string_equal(r->study->study_instance_uid, "1.9.2");
}

static void unusable_objects_beside_usable_ones_are_listed(void **state)
{
    (void)state;
    const struct build_object objects[] = {
        {"DX", "LL", "P1", "20190307", "1020", "CHEST", NULL, 1, 1, 1},
        {"DX", "PA", "P1", "20190307", "1020", "CHEST", NULL, 1, 1, 2},
        {"SR", NULL, "P1", "20190307", "1020", NULL, "1.2.840.10008.5.1.4.1.1.88.33", 1, 2, 1},
        {"CT", NULL, "P1", "20190307", "1020", "CHEST", NULL, 1, 3, 1},
        {"DX", "PA", "P1", "20190307", "1020", "HAND", NULL, 1, 1, 3},
        {"DX", "PA", "P1", "20190307", "1020", "CHEST", NULL, 1, 1, 2},
    };
    static const char *const REASONS[] = {
        "the view position LL is not accepted (PA, AP)",
        "a structured report",
        "the modality CT is not accepted (CR, DX)",
        "the body part HAND is not accepted (CHEST)",
        "it came twice",
    };
    struct mf_error err = MF_ERROR_INIT;
    size_t count;
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 6);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, &CHEST_RULES);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    assert_no_error(&err);
    assert_int_equal(r->frame_count, 1);
    assert_int_equal(r->frames[0].object_index, 1);
    assert_int_equal(r->study->usable, 1);
    assert_int_equal(r->study->object_count, 6);
    const struct mf_study_skipped *skipped = mf_study_list_skipped(list, &count);
    assert_int_equal(count, 5);
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(skipped[i].reason, REASONS[i]);
    assert_string_equal(skipped[0].name, "1.9.1.1.1");
}

static void nothing_usable_says_why(void **state)
{
    (void)state;
    const struct build_object lateral = {"DX",    "LL", "P1", "20190307", "1020",
                                         "CHEST", NULL, 1,    1,          1};
    expect_job_refused(&lateral, 1, &CHEST_RULES,
                       "no usable image: part 1: the view position LL is not accepted (PA, AP)");
    expect_job_refused(NULL, 0, &CHEST_RULES, "no usable image: no DICOM object was given");
    const struct build_object silent = {NULL, NULL, "P1", "20190307", "1020", NULL, NULL, 1, 1, 1};
    struct mf_study_rules strict = CHEST_RULES;
    strict.require_view = true;
    expect_job_refused(&silent, 1, &strict,
                       "no usable image: part 1: it has no view position (PA, AP)");
    strict.require_modality = true;
    expect_job_refused(&silent, 1, &strict, "no usable image: part 1: it has no modality (CR, DX)");
    MF_AUTO(mf_index)
    struct mf_index *index = index_of(&silent, 1); /* absent is accepted otherwise */
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, &CHEST_RULES);
    assert_non_null(mf_study_list_job(list, true, NULL));
}

static void several_patients_are_no_job(void **state)
{
    (void)state;
    const struct build_object objects[] = {
        {"DX", "PA", "P1", "20190307", "1020", "CHEST", NULL, 1, 1, 1},
        {"DX", "PA", "P2", "20190308", "1020", "CHEST", NULL, 2, 1, 1},
        {"DX", "PA", NULL, "20190309", "1020", "CHEST", NULL, 3, 1, 1},
        {"DX", "PA", NULL, "20190310", "1020", "CHEST", NULL, 4, 1, 1},
        {"DX", "AP", NULL, "20190310", "1020", "CHEST", NULL, 4, 1, 2},
    };
    expect_job_refused(objects, 2, NULL,
                       "the objects belong to 2 patients, a job is about one patient");
    expect_job_refused(objects + 2, 3, NULL,
                       "the objects belong to 2 patients, a job is about one patient");
    size_t count;
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 5);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    const struct mf_study_patient *p = mf_study_list_patients(list, &count);
    assert_int_equal(count, 4); /* each study without a PatientID is its own patient */
    assert_string_equal(p[0].patient_id, "P1");
    assert_string_equal(p[1].patient_id, "P2");
    assert_null(p[2].patient_id);
    assert_int_equal(p[3].studies[0].object_count, 2);
}

/* 40 studies: the newest 31 priors; with 33 frames in all, round(k·32/31) are taken. */
static void long_series_are_thinned(void **state)
{
    (void)state;
    struct build_object objects[40];
    char dates[40][9];
    for (int i = 0; i < 40; i++) {
        snprintf(dates[i], sizeof dates[i], "2019%02d%02d", 1 + i / 28, 1 + i % 28);
        objects[i] = (struct build_object){.modality = "DX",
                                           .patient = "P1",
                                           .date = dates[i],
                                           .time = "1200",
                                           .study = i + 1,
                                           .series = 1,
                                           .instance = 1};
    }
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 40);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    assert_no_error(&err);
    assert_int_equal(r->frame_count, 32);
    assert_int_equal(r->frames[0].object_index, 8);
    assert_int_equal(r->frames[31].object_index, 39);
    const struct mf_study_rules few = {.max_frames = 4, .max_priors = 9};
    MF_AUTO(mf_study_list) struct mf_study_list *thin = list_of(index, &few);
    r = mf_study_list_job(thin, true, &err);
    assert_int_equal(r->frame_count, 4); /* of 10: 0, 3, 6, 9 */
    assert_int_equal(r->frames[0].object_index, 30);
    assert_int_equal(r->frames[1].object_index, 33);
    assert_int_equal(r->frames[2].object_index, 36);
    assert_int_equal(r->frames[3].object_index, 39);
    assert_int_equal(r->prior_count, 3);
}

static void expect_priors(const struct mf_index *index, const struct mf_study_rules *rules,
                          const char *const *uids, size_t n)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, rules);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    assert_no_error(&err);
    assert_int_equal(r->prior_count, n);
    assert_int_equal(r->frame_count, n + 1);
    for (size_t i = 0; i < n; i++)
        assert_string_equal(r->frames[i].object->study_instance_uid, uids[i]);
    assert_string_equal(r->study->study_instance_uid, "1.9.9");
}

static void priors_are_those_that_the_rules_want(void **state)
{
    (void)state;
    const struct build_object objects[] = {
        {"DX", "PA", "P1", "20200501", "1200", "CHEST", NULL, 9, 1, 1},
        {"DX", "PA", "P1", "20190502", "1200", "HAND", NULL, 3, 1, 1},
        {"DX", "PA", "P1", "20190501", "1200", NULL, NULL, 2, 1, 1},
        {"DX", "PA", "P1", "20100101", "1200", "chest", NULL, 1, 1, 1},
    };
    static const char *const all[] = {"1.9.1", "1.9.2", "1.9.3"};
    static const char *const chests[] = {"1.9.1", "1.9.2"};
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 4);
    expect_priors(index, &(struct mf_study_rules){.max_priors = 0}, all, 3);
    expect_priors(index, &(struct mf_study_rules){.no_priors = true}, all, 0);
    expect_priors(index, &(struct mf_study_rules){.max_priors = 2}, all + 1, 2);
    expect_priors(index, &(struct mf_study_rules){.prior_days = 366}, all + 1, 2);
    expect_priors(index, &(struct mf_study_rules){.prior_days = 364}, all + 2, 1);
    expect_priors(index, &(struct mf_study_rules){.prior_same_body_part = true}, chests, 2);
    expect_priors(index, &(struct mf_study_rules){.prior_same_body_part = true, .max_priors = 1},
                  chests + 1, 1); /* what does not count takes no place */
}

/* One slice of a stack. */
static void build_slice(struct builder *b, int series, int instance, const char *position)
{
    const struct build_object o = {"CT", NULL, "P1", "20190307", "1200",
                                   NULL, NULL, 1,    series,     instance};
    build_start(b, EXPLICIT_LE);
    build_identity(b, &o);
    build_string(b, TAG(0x0020, 0x0032), "DS", position);
    build_string(b, TAG(0x0020, 0x0037), "DS", "1\\0\\0\\0\\1\\0");
    build_image(b, 4, 4, 8);
    build_pixels(b, 16);
}

static void slices_are_ordered_along_the_normal(void **state)
{
    (void)state;
    static const char *const positions[] = {"0\\0\\10", "0\\0\\-5", "0\\0\\2.5"};
    struct mf_scan_input inputs[4];
    struct mf_error err = MF_ERROR_INIT;
    for (int i = 0; i < 4; i++) {
        struct builder b;
        build_slice(&b, i < 3 ? 2 : 1, i + 1, i < 3 ? positions[i] : "0\\0\\0");
        inputs[i] = (struct mf_scan_input){.fd = build_fd(b.bytes.data, b.bytes.len),
                                           .length = b.bytes.len};
        build_free(&b);
    }
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 4, NULL, &err);
    assert_no_error(&err);
    const struct mf_study_rules rules = {.order = MF_STUDY_BY_SLICE};
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, &rules);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    assert_int_equal(r->frame_count, 3); /* the larger series */
    assert_int_equal(r->frames[0].object->instance_number, 2);
    assert_int_equal(r->frames[1].object->instance_number, 3);
    assert_int_equal(r->frames[2].object->instance_number, 1);
    assert_true(fabs(r->frames[0].slice_position + 5) < 1e-9);
    for (int i = 0; i < 4; i++)
        close(inputs[i].fd);
}

/* One image with when it was taken said in each of the ways of DICOM. */
static void build_timed(struct builder *b, int instance, uint32_t tag, const char *vr,
                        const char *value, uint32_t time_tag, const char *time)
{
    const struct build_object o = {"DX", "PA", "P1", "20190307", "120000",
                                   NULL, NULL, 1,    1,          instance};
    build_start(b, EXPLICIT_LE);
    build_identity(b, &o);
    build_string(b, tag, vr, value);
    if (time_tag)
        build_string(b, time_tag, "TM", time);
    build_image(b, 4, 4, 8);
    build_pixels(b, 16);
}

static void frames_of_a_study_are_ordered_by_acquisition(void **state)
{
    (void)state;
    struct mf_scan_input inputs[5];
    struct builder b[5];
    struct mf_error err = MF_ERROR_INIT;
    build_timed(&b[0], 1, TAG(0x0008, 0x002A), "DT", "20190307113000.5", 0, NULL);
    build_timed(&b[1], 2, TAG(0x0008, 0x0022), "DA", "20190307", TAG(0x0008, 0x0032), "1045");
    build_timed(&b[2], 3, TAG(0x0008, 0x0023), "DA", "20190307", TAG(0x0008, 0x0033), "1000");
    build_timed(&b[3], 4, TAG(0x0008, 0x002A), "DT", "20190307110000+0100", 0, NULL);
    build_timed(&b[4], 5, TAG(0x0008, 0x0022), "DA", "not a date", 0, NULL);
    for (int i = 0; i < 5; i++)
        inputs[i] = (struct mf_scan_input){.fd = build_fd(b[i].bytes.data, b[i].bytes.len),
                                           .length = b[i].bytes.len};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, 5, NULL, &err);
    assert_no_error(&err);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    const struct mf_study_request *r = mf_study_list_job(list, true, &err);
    static const uint32_t ORDER[5] = {2, 3, 1, 0, 4}; /* the last by its study's time, 12:00 */
    for (int i = 0; i < 5; i++) {
        assert_int_equal(r->frames[i].object_index, ORDER[i]);
        assert_false(r->frames[i].prior);
    }
    for (int i = 0; i < 5; i++) {
        close(inputs[i].fd);
        build_free(&b[i]);
    }
}

static void equal_times_are_ordered_by_numbers(void **state)
{
    (void)state;
    const struct build_object objects[] = {
        {"DX", "PA", "P1", NULL, NULL, NULL, NULL, 1, 2, 1},
        {"DX", "PA", "P1", NULL, NULL, NULL, NULL, 1, 1, 7},
        {"DX", "PA", "P1", NULL, NULL, NULL, NULL, 1, 1, 3},
    };
    MF_AUTO(mf_index) struct mf_index *index = index_of(objects, 3);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    const struct mf_study_request *r = mf_study_list_job(list, true, NULL);
    assert_int_equal(r->frames[0].object_index, 0); /* no series numbers here: by instance */
    assert_int_equal(r->frames[1].object_index, 2);
    assert_int_equal(r->frames[2].object_index, 1);
    assert_null(r->frames[0].acquired);
    assert_true(r->frames[0].acquired_ms == INT64_MIN);
    assert_int_equal(r->study_time.precision, MF_TIME_UNKNOWN);
}

static void raw_twins_are_left_out(void **state)
{
    (void)state;
    struct mf_scan_input inputs[2];
    struct mf_error err = MF_ERROR_INIT;
    size_t count;
    for (int both = 0; both < 2; both++) {
        for (int i = 0; i <= both; i++) {
            const struct build_object o = {"DX", "PA", "P1", "20190307", "12",
                                           NULL, NULL, 1,    1,          i + 1};
            struct builder b;
            build_start(&b, EXPLICIT_LE);
            build_identity(&b, &o);
            build_string(&b, TAG(0x0008, 0x0068), "CS", i ? "FOR PRESENTATION" : "FOR PROCESSING");
            build_image(&b, 4, 4, 8);
            build_pixels(&b, 16);
            inputs[i] = (struct mf_scan_input){.fd = build_fd(b.bytes.data, b.bytes.len),
                                               .length = b.bytes.len};
            build_free(&b);
        }
        MF_AUTO(mf_index) struct mf_index *index = mf_scan(inputs, (size_t)both + 1, NULL, &err);
        MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
        const struct mf_study_request *r = mf_study_list_job(list, true, &err);
        assert_no_error(&err);
        assert_int_equal(r->frame_count, 1); /* raw data alone is better than nothing */
        assert_int_equal(r->frames[0].object_index, both);
        const struct mf_study_skipped *skipped = mf_study_list_skipped(list, &count);
        assert_int_equal(count, both);
        if (both)
            assert_string_equal(skipped[0].reason, "raw data beside an image for presentation");
        for (int i = 0; i <= both; i++)
            close(inputs[i].fd);
    }
}

static void localisers_are_left_out(void **state)
{
    (void)state;
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    const struct build_object o = {"CT", NULL, "P1", "20190307", "12", NULL, NULL, 1, 1, 1};
    build_start(&b, EXPLICIT_LE);
    build_string(&b, TAG(0x0008, 0x0008), "CS", "ORIGINAL\\PRIMARY\\LOCALIZER");
    build_identity(&b, &o);
    build_image(&b, 4, 4, 8);
    build_pixels(&b, 16);
    MF_AUTO(mf_index) struct mf_index *index = build_scan(b.bytes.data, b.bytes.len, NULL, &err);
    assert_no_error(&err);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    assert_null(mf_study_list_job(list, true, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "no usable image: part 1: a localiser");
    mf_error_clear(&err);
    assert_null(mf_study_list_request(list, 0, 0, true, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "no usable image: part 1: a localiser");
    build_free(&b);
}

static void only_strangers_were_given(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_scan_limits lenient = {.lenient = true};
    MF_AUTO(mf_index) struct mf_index *index = build_scan("just text", 9, &lenient, &err);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    assert_null(mf_study_list_job(list, true, &err));
    assert_error(&err, MF_ERR_UNUSABLE, "no usable image: part 1: not a DICOM file");
}

static void requests_that_do_not_exist(void **state)
{
    (void)state;
    const struct build_object one = {"DX", "PA", "P1", "20190307", "1020", "CHEST", NULL, 1, 1, 1};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_index) struct mf_index *index = index_of(&one, 1);
    MF_AUTO(mf_study_list) struct mf_study_list *list = list_of(index, NULL);
    assert_null(mf_study_list_request(list, 0, 1, true, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such study");
    mf_error_clear(&err);
    assert_null(mf_study_list_request(list, 1, 0, true, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no such study");
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(newest_study_is_current_and_earlier_ones_are_priors),
        cmocka_unit_test(priors_are_those_that_the_rules_want),
        cmocka_unit_test(unusable_objects_beside_usable_ones_are_listed),
        cmocka_unit_test(nothing_usable_says_why),
        cmocka_unit_test(several_patients_are_no_job),
        cmocka_unit_test(long_series_are_thinned),
        cmocka_unit_test(slices_are_ordered_along_the_normal),
        cmocka_unit_test(frames_of_a_study_are_ordered_by_acquisition),
        cmocka_unit_test(equal_times_are_ordered_by_numbers),
        cmocka_unit_test(raw_twins_are_left_out),
        cmocka_unit_test(localisers_are_left_out),
        cmocka_unit_test(only_strangers_were_given),
        cmocka_unit_test(requests_that_do_not_exist),
    };
    return cmocka_run_group_tests_name("dicom/study", tests, start, NULL);
}
