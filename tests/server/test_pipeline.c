/*
 * The pipeline from parts to result on the sample study and a tiny bundle with random weights:
 * which study is chosen, what is refused and in which words, and that a result says what was done.
 */
#include "server/pipeline.h"

#include "core/buffer.h"
#include "engine/bundle.h"
#include "server/config.h"
#include "server/decoder_process.h"
#include "tests/expect.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#define SAMPLE MF_SOURCE_DIR "/tests/data/sample/"
#define NEWEST SAMPLE "dicom/2016-07-08.dcm"
#define OLDEST SAMPLE "dicom/2015-03-16.dcm"

struct fixture {
    char directory[64]; /* with the bundles "full" and "again" */
    char bundles[2][96];
    struct mf_zygote *zygote;
    struct mf_decoder *decoder;
    struct mf_registry *registry;
    struct mf_pipeline *pipeline;
};

/* --- set-up --- */

static bool run_command(const char *format, ...)
{
    char command[512];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    return system(command) == 0;
}

/* A copy of the golden bundle with a manifest and another name. */
static bool make_bundle(const char *directory, const char *name, struct mf_error *err)
{
    return run_command("cp -r " MF_SOURCE_DIR "/tests/golden/bundles/full %s && rm -rf %s/cases && "
                       "sed -i 's/\"golden-full\"/\"%s\"/' %s/bundle.json",
                       directory, directory, name, directory) &&
           mf_bundle_write_manifest(directory, err);
}

static bool open_all(struct fixture *f, struct mf_error *err)
{
    const char *const directories[] = {f->bundles[0]};
    const struct mf_registry_device device = {.device = "cpu", .threads = 1};
    return (f->zygote = mf_zygote_start(err)) &&
           (f->decoder = mf_decoder_new(mf_zygote_address(f->zygote), 1, NULL, err)) &&
           (f->registry = mf_registry_open(directories, 1, &device, err)) &&
           (f->pipeline = mf_pipeline_new(f->registry, f->decoder, err));
}

static int set_up(void **state)
{
    static struct fixture f;
    struct mf_error err = MF_ERROR_INIT;
    snprintf(f.directory, sizeof f.directory, "/tmp/mf-pipeline-XXXXXX");
    if (!mkdtemp(f.directory))
        return 1;
    snprintf(f.bundles[0], sizeof f.bundles[0], "%s/full", f.directory);
    snprintf(f.bundles[1], sizeof f.bundles[1], "%s/again", f.directory);
    *state = &f;
    if (make_bundle(f.bundles[0], "full", &err) && make_bundle(f.bundles[1], "again", &err) &&
        open_all(&f, &err))
        return 0;
    print_error("%s\n", err.msg);
    return 1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mf_pipeline_free(f->pipeline);
    mf_registry_free(f->registry);
    mf_decoder_free(f->decoder);
    mf_zygote_stop(f->zygote);
    return !run_command("rm -rf %s", f->directory);
}

/* --- uploads --- */

struct upload {
    struct mf_part parts[4];
    size_t count;
    struct mf_buffer index;
};

static void close_upload(struct upload *u)
{
    for (size_t i = 0; i < u->count; i++)
        close(u->parts[i].fd);
    mf_buffer_free(&u->index);
}

MF_AUTO_DEFINE(upload, struct upload, close_upload(p))

static void add_bytes(struct upload *u, enum mf_part_kind kind, const char *data, size_t len)
{
    int fd = memfd_create("part", MFD_CLOEXEC);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    u->parts[u->count++] = (struct mf_part){kind, fd, 0, len};
}

/* A file with the value of one short attribute replaced (explicit VR, little endian, the same
 * length), when tag is not 0. */
static void add_patched(struct upload *u, enum mf_part_kind kind, const char *path, uint32_t tag,
                        const char *value)
{
    MF_AUTO(mf_buffer) struct mf_buffer data;
    mf_buffer_init(&data, 16 << 20);
    assert_true(mf_buffer_read_file(&data, path, NULL));
    if (tag) {
        const char key[] = {(char)(tag >> 16 & 255), (char)(tag >> 24), (char)(tag & 255),
                            (char)(tag >> 8 & 255)};
        char *at = memmem(data.data, data.len, key, sizeof key);
        assert_non_null(at);
        size_t length = (unsigned char)at[6] | (size_t)(unsigned char)at[7] << 8;
        assert_true(strlen(value) <= length);
        memset(at + 8, ' ', length);
        memcpy(at + 8, value, strlen(value));
    }
    add_bytes(u, kind, data.data, data.len);
}

static void add_file(struct upload *u, enum mf_part_kind kind, const char *path)
{
    add_patched(u, kind, path, 0, NULL);
}

static void scan(struct fixture *f, struct upload *u)
{
    struct mf_error err = MF_ERROR_INIT;
    mf_buffer_init(&u->index, 16 << 20);
    if (!mf_decoder_scan(f->decoder, u->parts, u->count, &u->index, &err))
        fail_msg("%s", err.msg);
}

static bool accept_upload(struct fixture *f, struct upload *u, const char *options,
                          struct mf_acceptance *ret, struct mf_error *err)
{
    struct mf_pipeline_options o;
    scan(f, u);
    assert_true(mf_pipeline_options_parse(options, strlen(options), &o, err));
    return mf_pipeline_accept(f->registry, u->index.data, u->index.len, &o, ret, NULL, err);
}

static void assert_refused(struct fixture *f, struct upload *u, const char *options,
                           const char *message)
{
    struct mf_acceptance a;
    struct mf_error err = MF_ERROR_INIT;
    assert_false(accept_upload(f, u, options, &a, &err));
    assert_int_equal(err.code, MF_ERR_UNUSABLE);
    if (strncmp(err.msg, message, strlen(message)) != 0)
        fail_msg("message is \"%s\"", err.msg);
}

static json_t *run_upload(struct fixture *f, struct upload *u, const char *options,
                          bool (*stopped)(void *), struct mf_error *err)
{
    struct mf_pipeline_options o;
    assert_true(mf_pipeline_options_parse(options, strlen(options), &o, err));
    const struct mf_pipeline_job job = {.id = "0123",
                                        .parts = u->parts,
                                        .part_count = u->count,
                                        .index = u->index.data,
                                        .index_len = u->index.len,
                                        .options = &o,
                                        .stopped = stopped};
    return mf_pipeline_run(f->pipeline, &job, err);
}

/* --- accepting --- */

static void the_newest_study_is_reported_and_the_older_is_its_prior(void **state)
{
    struct mf_acceptance a;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    add_file(&u, MF_PART_EHR, SAMPLE "ehr.json");
    add_file(&u, MF_PART_DICOM, OLDEST);
    if (!accept_upload(*state, &u, "{}", &a, &err))
        fail_msg("%s", err.msg);
    assert_string_equal(a.model, "full");
    assert_string_equal(a.modality, "DX");
    assert_int_equal(a.frames, 2);
    assert_int_equal(a.priors, 1);
    assert_int_equal(a.skipped, 0);
    assert_true(strncmp(a.study_instance_uid, "2.25.", 5) == 0);
}

static void a_model_that_is_not_there_is_refused(void **state)
{
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    assert_refused(*state, &u, "{\"model\": \"other\"}", "there is no model named other");
}

static void a_modality_that_the_model_does_not_accept_is_refused(void **state)
{
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_patched(&u, MF_PART_DICOM, NEWEST, 0x00080060, "CT");
    assert_refused(*state, &u, "{}",
                   "no usable image: part 1: the modality CT is not accepted (CR, DX)");
}

static void two_patients_in_one_job_are_refused(void **state)
{
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    add_patched(&u, MF_PART_DICOM, OLDEST, 0x00100020, "0");
    assert_refused(*state, &u, "{}", "the objects belong to 2 patients");
}

static void fhir_of_another_patient_is_refused(void **state)
{
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_patched(&u, MF_PART_DICOM, NEWEST, 0x00100020, "0");
    add_file(&u, MF_PART_EHR, SAMPLE "ehr.json");
    assert_refused(*state, &u, "{}",
                   "the FHIR data is of another patient: no identifier in it equals the study's "
                   "PatientID");
}

/* Accepting the sample with its FHIR, its PatientID replaced by `id` where it is not NULL. */
static bool accept_with(struct fixture *f, const char *id, const struct mf_config_ehr *identity,
                        struct upload *u, struct mf_error *err)
{
    struct mf_acceptance a;
    struct mf_pipeline_options o = MF_PIPELINE_OPTIONS_INIT;
    o.identity = identity;
    add_patched(u, MF_PART_DICOM, NEWEST, id ? 0x00100020 : 0, id);
    add_file(u, MF_PART_EHR, SAMPLE "ehr.json");
    scan(f, u);
    return mf_pipeline_accept(f->registry, u->index.data, u->index.len, &o, &a, NULL, err);
}

static const char OTHER_SYSTEMS[] = "urn:oid:1.2.3 urn:medfusion:nih urn:medfusion:nih-cxr14/2";
static const char OWN_SYSTEM[] = "urn:oid:1.2.3  urn:medfusion:nih-cxr14 urn:x";

static void only_identifiers_of_configured_systems_count(void **state)
{
    const struct mf_config_ehr other = {OTHER_SYSTEMS, "refuse"};
    const struct mf_config_ehr own = {OWN_SYSTEM, "refuse"};
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(upload) struct upload u = {.count = 0}, v = {.count = 0};
    assert_false(accept_with(*state, NULL, &other, &u, &err));
    assert_error(&err, MF_ERR_UNUSABLE,
                 "the FHIR data is of another patient: no identifier of a configured system "
                 "equals the study's PatientID");
    mf_error_clear(&err);
    assert_true(accept_with(*state, NULL, &own, &v, &err));
    assert_no_error(&err);
}

/* What is left out is not used, and the result says so. */
static void fhir_of_another_patient_can_be_left_out_and_told(void **state)
{
    const struct mf_config_ehr rows[] = {{"off", "report"}, {OTHER_SYSTEMS, "report"}};
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_pipeline_options o = MF_PIPELINE_OPTIONS_INIT;
        MF_AUTO(upload) struct upload u = {.count = 0};
        assert_true(accept_with(f, i == 0 ? "0" : NULL, &rows[i], &u, &err));
        o.identity = &rows[i];
        const struct mf_pipeline_job job = {.id = "0123",
                                            .parts = u.parts,
                                            .part_count = u.count,
                                            .index = u.index.data,
                                            .index_len = u.index.len,
                                            .options = &o};
        MF_AUTO(mf_json) json_t *result = mf_pipeline_run(f->pipeline, &job, &err);
        assert_no_error(&err);
        const json_t *flags = json_object_get(json_object_get(result, "quality"), "flags");
        const json_t *last = json_array_get(flags, json_array_size(flags) - 1);
        assert_string_equal(json_string_value(last), "ehr_of_another_patient");
        const json_t *features = json_object_get(json_object_get(result, "ehr"), "features");
        for (size_t k = 0; k < json_array_size(features); k++) {
            const json_t *source = json_object_get(json_array_get(features, k), "source");
            assert_true(json_is_null(source) ||
                        strncmp(json_string_value(source), "dicom:", 6) == 0);
        }
    }
}

static void two_models_that_accept_need_a_choice(void **state)
{
    struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_acceptance a;
    const char *const directories[] = {f->bundles[0], f->bundles[1]};
    MF_AUTO(mf_registry) struct mf_registry *two = mf_registry_open(directories, 2, NULL, &err);
    struct fixture both = *f;
    both.registry = two;
    assert_non_null(two);
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    assert_refused(&both, &u, "{}",
                   "more than one model accepts this study (full, again): choose one");
    close_upload(&u);
    u.count = 0;
    add_file(&u, MF_PART_DICOM, NEWEST);
    assert_true(accept_upload(&both, &u, "{\"model\": \"again\"}", &a, &err));
    assert_string_equal(a.model, "again");
}

static void two_bundles_of_one_name_are_refused(void **state)
{
    const struct fixture *f = *state;
    struct mf_error err = MF_ERROR_INIT;
    const char *const directories[] = {f->bundles[0], f->bundles[0]};
    assert_null(mf_registry_open(directories, 2, NULL, &err));
    assert_int_equal(err.code, MF_ERR_MODEL);
    assert_non_null(strstr(err.msg, "another bundle is also named full"));
}

/* --- running --- */

static json_t *run_two(struct fixture *f, const char *options)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    add_file(&u, MF_PART_EHR, SAMPLE "ehr.json");
    add_file(&u, MF_PART_DICOM, OLDEST);
    scan(f, &u);
    json_t *result = run_upload(f, &u, options, NULL, &err);
    if (!result)
        fail_msg("%s", err.msg);
    return result;
}

static const char *text_at(const json_t *json, const char *a, size_t i, const char *b)
{
    const json_t *list = json_object_get(json, a);
    return mf_json_get_string(json_array_get(list, i), b, "");
}

static void a_result_tells_what_was_done(void **state)
{
    MF_AUTO(mf_json) json_t *r = run_two(*state, "{\"alpha\": 0.2}");
    const json_t *study = json_object_get(r, "study");
    assert_string_equal(mf_json_get_string(r, "schema", ""), "medfusion.result/1");
    assert_string_equal(mf_json_get_string(r, "job", ""), "0123");
    assert_true(mf_json_get_number(r, "alpha", 0) == 0.2);
    assert_int_equal(json_array_size(json_object_get(study, "frames")), 2);
    assert_string_equal(text_at(study, "frames", 0, "role"), "prior");
    assert_string_equal(text_at(study, "frames", 1, "role"), "current");
    assert_true(strncmp(text_at(study, "frames", 1, "acquired"), "2016-07-08", 10) == 0);
    assert_int_equal(json_array_size(json_object_get(r, "predictions")), 5);
    assert_string_equal(text_at(r, "predictions", 0, "guarantee"), "void"); /* not calibrated */
    const json_t *ehr = json_object_get(r, "ehr");
    assert_string_equal(text_at(ehr, "features", 0, "id"), "age");
    assert_string_equal(text_at(ehr, "features", 0, "source"), "Patient/sample-patient");
    const json_t *timing = json_object_get(r, "timing_ms");
    assert_true(mf_json_get_number(timing, "total", 0) > mf_json_get_number(timing, "decode", 1e9));
}

static void the_same_job_gives_the_same_numbers(void **state)
{
    MF_AUTO(mf_json) json_t *first = run_two(*state, "{}");
    MF_AUTO(mf_json) json_t *second = run_two(*state, "{}");
    assert_true(
        json_equal(json_object_get(first, "predictions"), json_object_get(second, "predictions")));
    assert_true(json_equal(json_object_get(first, "study"), json_object_get(second, "study")));
}

static void priors_change_the_numbers_and_can_be_left_out(void **state)
{
    MF_AUTO(mf_json) json_t *with = run_two(*state, "{}");
    MF_AUTO(mf_json) json_t *without = run_two(*state, "{\"priors\": false}");
    const json_t *frames = json_object_get(json_object_get(without, "study"), "frames");
    assert_int_equal(json_array_size(frames), 1);
    assert_false(
        json_equal(json_object_get(with, "predictions"), json_object_get(without, "predictions")));
}

static bool always(void *context)
{
    (void)context;
    return true;
}

static void a_job_stops_when_it_is_told_to(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(upload) struct upload u = {.count = 0};
    add_file(&u, MF_PART_DICOM, NEWEST);
    scan(*state, &u);
    assert_null(run_upload(*state, &u, "{}", always, &err));
    assert_int_equal(err.code, MF_ERR_CONFLICT);
    assert_string_equal(err.msg, "cancelled");
}

static void an_index_that_was_tampered_with_is_refused(void **state)
{
    static const char *const TEXTS[] = {
        "",
        "{}",
        "[]",
        "{\"schema\":\"medfusion.scan/1\"}",
        "{\"schema\":\"medfusion.scan/1\",\"dicom\":{},\"ehr\":null}",
        "{\"schema\":\"medfusion.scan/1\",\"dicom\":{\"schema\":\"medfusion.index/"
        "1\",\"objects\":[],"
        "\"skipped\":[]},\"ehr\":{\"problem\":null,\"systems\":[7],\"bundle\":null}}"};
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct upload u = {.count = 0};
        mf_buffer_init(&u.index, 4096);
        assert_true(mf_buffer_append_str(&u.index, TEXTS[i], &err));
        assert_null(run_upload(*state, &u, "{}", NULL, &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
        close_upload(&u);
    }
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], MF_ZYGOTE_ROLE) == 0)
        return mf_zygote_main(NULL, 0);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_newest_study_is_reported_and_the_older_is_its_prior),
        cmocka_unit_test(a_model_that_is_not_there_is_refused),
        cmocka_unit_test(a_modality_that_the_model_does_not_accept_is_refused),
        cmocka_unit_test(two_patients_in_one_job_are_refused),
        cmocka_unit_test(fhir_of_another_patient_is_refused),
        cmocka_unit_test(only_identifiers_of_configured_systems_count),
        cmocka_unit_test(fhir_of_another_patient_can_be_left_out_and_told),
        cmocka_unit_test(two_models_that_accept_need_a_choice),
        cmocka_unit_test(two_bundles_of_one_name_are_refused),
        cmocka_unit_test(a_result_tells_what_was_done),
        cmocka_unit_test(the_same_job_gives_the_same_numbers),
        cmocka_unit_test(priors_change_the_numbers_and_can_be_left_out),
        cmocka_unit_test(a_job_stops_when_it_is_told_to),
        cmocka_unit_test(an_index_that_was_tampered_with_is_refused),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
