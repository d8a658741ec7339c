/* server/cmd_dicom.c: exit statuses, what the verbs write, and that nothing half-made stays behind.
 */
#include "server/cmd.h"

#include "core/buffer.h"
#include "core/npy.h"
#include "dicom/dicom.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[] = "/tmp/mf_cmd_dicom_XXXXXX";

static const char *in_folder(const char *name)
{
    static char paths[4][256];
    static int next;
    next = (next + 1) % 4;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static void write_file(const char *name, const void *data, size_t length)
{
    FILE *f = fopen(in_folder(name), "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, length, f), length);
    assert_int_equal(fclose(f), 0);
}

/* Runs `medfusion dicom ARGUMENTS…` (NULL-terminated) with stdout and stderr in files. */
static int run(const char *const arguments[], struct mf_buffer *out, struct mf_buffer *errors)
{
    char *argv[16] = {(char *)(uintptr_t) "medfusion dicom"};
    int argc = 1;
    while (arguments[argc - 1]) {
        argv[argc] = (char *)(uintptr_t)arguments[argc - 1];
        argc++;
    }
    fflush(stdout);
    fflush(stderr);
    int old_out = dup(1), old_err = dup(2);
    int to_out = open(in_folder("stdout"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int to_err = open(in_folder("stderr"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(to_out, 1);
    dup2(to_err, 2);
    int status = mf_cmd_dicom(argc, argv);
    fflush(stdout);
    fflush(stderr);
    dup2(old_out, 1);
    dup2(old_err, 2);
    close(old_out);
    close(old_err);
    close(to_out);
    close(to_err);
    mf_buffer_init(out, 1 << 20);
    mf_buffer_init(errors, 1 << 20);
    assert_true(mf_buffer_read_file(out, in_folder("stdout"), NULL));
    assert_true(mf_buffer_read_file(errors, in_folder("stderr"), NULL));
    return status;
}

/* Runs and compares the whole of stderr. */
static void expect_run(const char *const arguments[], int status, const char *errors)
{
    MF_AUTO(mf_buffer) struct mf_buffer out, err;
    assert_int_equal(run(arguments, &out, &err), status);
    assert_string_equal(err.data ? err.data : "", errors);
}

#define ARGUMENTS(...) ((const char *const[]){__VA_ARGS__, NULL})

static void info_prints_the_index(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer out, err;
    assert_int_equal(run(ARGUMENTS("info", in_folder("a.dcm")), &out, &err), 0);
    json_t *json = json_of(out.data);
    const json_t *object = json_array_get(json_object_get(json, "objects"), 0);
    assert_string_equal(json_string_value(json_object_get(object, "modality")), "DX");
    assert_int_equal(json_integer_value(json_object_get(object, "rows")), 4);
    json_decref(json);
}

static void frames_are_written_in_every_stage(void **state)
{
    (void)state;
    struct stat st;
    expect_run(
        ARGUMENTS("frame", in_folder("a.dcm"), "--stage", "stored", "-o", in_folder("stored.npy")),
        0, "");
    MF_AUTO(mf_buffer) struct mf_buffer npy;
    mf_buffer_init(&npy, 4096);
    assert_true(mf_buffer_read_file(&npy, in_folder("stored.npy"), NULL));
    assert_int_equal(npy.len, 128 + 16);
    for (int i = 0; i < 16; i++)
        assert_int_equal(npy.data[128 + i], i);
    expect_run(ARGUMENTS("frame", in_folder("a.dcm"), "--stage", "modality", "-o",
                         in_folder("modality.npy")),
               0, "");
    assert_int_equal(stat(in_folder("modality.npy"), &st), 0);
    assert_int_equal(st.st_size, 128 + 64);
    expect_run(ARGUMENTS("frame", in_folder("a.dcm"), "-o", in_folder("display.png")), 0, "");
    MF_AUTO(mf_buffer) struct mf_buffer png;
    mf_buffer_init(&png, 4096);
    assert_true(mf_buffer_read_file(&png, in_folder("display.png"), NULL));
    assert_memory_equal(png.data, "\x89PNG\r\n\x1A\n", 8);
}

static void mistakes_exit_with_2(void **state)
{
    (void)state;
    expect_run(ARGUMENTS("dance"), 2,
               "medfusion dicom: expected info, frame, study, volume or deidentify, see --help\n");
    expect_run(ARGUMENTS("info"), 2, "medfusion dicom: info takes one FILE, see --help\n");
    expect_run(ARGUMENTS("study"), 2,
               "medfusion dicom: study takes at least one PATH, see --help\n");
    expect_run(ARGUMENTS("frame", "x.dcm"), 2,
               "medfusion dicom: frame takes one FILE and -o OUT, see --help\n");
    expect_run(ARGUMENTS("frame", "x.dcm", "-o", "x.jpg"), 2,
               "medfusion dicom: -o: the name must end in .png or .npy\n");
    expect_run(ARGUMENTS("frame", "x.dcm", "-o", "x.png", "--stage", "raw"), 2,
               "medfusion dicom: --stage: must be stored, modality or display\n");
    expect_run(ARGUMENTS("frame", "x.dcm", "-o", "x.png", "--index", "1.5"), 2,
               "medfusion dicom: --index: must be a whole number\n");
    expect_run(ARGUMENTS("frame", "x.dcm", "-o", "x.png", "--speed"), 2,
               "medfusion dicom: unknown option --speed, see --help\n");
}

static void work_that_fails_exits_with_1(void **state)
{
    (void)state;
    char want[512];
    snprintf(want, sizeof want, "medfusion dicom: %s: No such file or directory\n",
             in_folder("none.dcm"));
    expect_run(ARGUMENTS("info", in_folder("none.dcm")), 1, want);
    snprintf(want, sizeof want, "medfusion dicom: %s: there is no frame 7, the object has 1\n",
             in_folder("a.dcm"));
    expect_run(ARGUMENTS("frame", in_folder("a.dcm"), "--index", "7", "-o", in_folder("none.png")),
               1, want);
    assert_int_not_equal(access(in_folder("none.png"), F_OK), 0);
    snprintf(want, sizeof want, "medfusion dicom: %s: part 1: not a DICOM file\n",
             in_folder("text.txt"));
    expect_run(ARGUMENTS("info", in_folder("text.txt")), 1, want);
}

static void studies_are_listed_and_strangers_skipped(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer out, err;
    assert_int_equal(mkdir(in_folder("set"), 0700), 0);
    assert_int_equal(rename(in_folder("b.dcm"), in_folder("set/b.dcm")), 0);
    assert_int_equal(rename(in_folder("text.txt"), in_folder("set/text.txt")), 0);
    assert_int_equal(run(ARGUMENTS("study", in_folder("a.dcm"), in_folder("set")), &out, &err), 0);
    json_t *json = json_of(out.data);
    const json_t *patients = json_object_get(json, "patients");
    assert_int_equal(json_array_size(patients), 1);
    const json_t *patient = json_array_get(patients, 0);
    assert_int_equal(json_array_size(json_object_get(patient, "studies")), 2);
    const json_t *frames = json_object_get(patient, "frames");
    assert_int_equal(json_array_size(frames), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(frames, 0), "role")),
                        "prior");
    assert_int_equal(json_array_size(json_object_get(json, "refused")), 0);
    json_decref(json);
}

static int start(void **state)
{
    (void)state;
    const struct build_object first = {"DX",    "PA", "P1", "20190307", "1020",
                                       "CHEST", NULL, 1,    1,          1};
    const struct build_object second = {"DX",    "PA", "P1", "20200307", "1020",
                                        "CHEST", NULL, 2,    1,          1};
    struct builder b;
    if (!mf_dicom_init(NULL) || !mkdtemp(folder))
        return -1;
    build_simple(&b, &first);
    write_file("a.dcm", b.bytes.data, b.bytes.len);
    build_free(&b);
    build_simple(&b, &second);
    write_file("b.dcm", b.bytes.data, b.bytes.len);
    build_free(&b);
    write_file("text.txt", "not DICOM, and long enough to be looked at", 42);
    return 0;
}

static int finish(void **state)
{
    (void)state;
    static const char *const NAMES[] = {"a.dcm",        "b.dcm",      "text.txt",     "set/b.dcm",
                                        "set/text.txt", "stored.npy", "modality.npy", "display.png",
                                        "stdout",       "stderr"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        unlink(in_folder(NAMES[i]));
    rmdir(in_folder("set"));
    return rmdir(folder); /* fails when a command left something behind */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(info_prints_the_index),
        cmocka_unit_test(frames_are_written_in_every_stage),
        cmocka_unit_test(mistakes_exit_with_2),
        cmocka_unit_test(work_that_fails_exits_with_1),
        cmocka_unit_test(studies_are_listed_and_strangers_skipped),
    };
    return cmocka_run_group_tests_name("server/cmd_dicom", tests, start, finish);
}
