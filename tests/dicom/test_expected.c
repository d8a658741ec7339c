/*
 * Every file of ../shared/data/dicom against expected_pixels.json (pydicom with its plug-ins, made
 * by make_expected.py): equal samples, within the tolerance of a lossy codec, or refused with
 * exactly the reason that EXCEPTIONS.md explains.
 */
#include "core/digest.h"
#include "core/json.h"
#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "dicom/scan.h"
#include "tests/expect.h"

#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>

static const char *const TYPES[] = {"uint8",  "int8",  "uint16",  "int16",
                                    "uint32", "int32", "float32", "float64"};

/* Files that pydicom decodes, or should, and we do not. */
static const struct {
    const char *file, *reason;
} REFUSED[] = {
    {"pydicom/JPEG2000-embedded-sequence-delimiter.dcm",
     "frame 0: the JPEG 2000 header is damaged"},
    {"pydicom/MR_truncated.dcm", "part 1: truncated: (7FE0,0010) claims 8192 bytes, 8130 are left"},
    {"pydicom/meta_missing_tsyntax.dcm", "part 1: the object has pixel data but no Rows"},
    {"pydicom/nested_priv_SQ.dcm", "part 1: the object has pixel data but no Rows"},
    {"pydicom/no_meta.dcm", "part 1: not a DICOM file"},
    {"pydicom/rtplan_truncated.dcm",
     "part 1: truncated: (300A,00B0) claims 976 bytes, 711 are left"},
    {"pydicom_data/bad_sequence.dcm", "part 1: sop_instance_uid is not a UID"},
    {"pydicom_data/emri_small_jpeg_2k_lossless_too_short.dcm",
     "part 1: truncated: the file ends inside an element at byte 40316"},
};

/* Files that we decode and pydicom does not; where another file holds the same image, its name. */
static const struct {
    const char *file, *same_as;
} BEYOND[] = {
    {"pydicom/JPEG-lossy.dcm", "pydicom/JPGExtended.dcm"},
    {"pydicom/badVR.dcm", NULL},
    {"pydicom_data/liver_deflate.dcm", "pydicom_data/liver.dcm"},
    {"pydicom_data/liver_rle.dcm", "pydicom_data/liver.dcm"},
    {"pydicom_data/liver_nonbyte_aligned_deflate.dcm", "pydicom_data/liver_nonbyte_aligned.dcm"},
    {"pydicom_data/liver_nonbyte_aligned_rle.dcm", "pydicom_data/liver_nonbyte_aligned.dcm"},
};

static struct {
    int equal, tolerated, refused, beyond, without_pixels;
} counts;

static json_t *expected; /* the member "files" */

/* ---- one frame ---- */

static double sample(const struct mf_frame *f, size_t i)
{
    switch (f->type) {
    case MF_SAMPLE_U8:
        return ((const uint8_t *)f->samples)[i];
    case MF_SAMPLE_I8:
        return ((const int8_t *)f->samples)[i];
    case MF_SAMPLE_U16:
        return ((const uint16_t *)f->samples)[i];
    case MF_SAMPLE_I16:
        return ((const int16_t *)f->samples)[i];
    default:
        return NAN; /* no lossy codec gives these */
    }
}

/* A grid of samples within the tolerance, and the same mean. */
static void expect_close(const char *file, const struct mf_frame *f, const json_t *want)
{
    const json_t *rows = json_object_get(want, "rows"), *columns = json_object_get(want, "columns");
    const json_t *samples = json_object_get(want, "samples");
    double tolerance = mf_json_get_number(want, "tolerance", 0), mean = 0;
    size_t n = 0, total = (size_t)f->rows * f->columns * f->samples_per_pixel;
    for (size_t y = 0; y < json_array_size(rows); y++)
        for (size_t x = 0; x < json_array_size(columns); x++)
            for (uint32_t c = 0; c < f->samples_per_pixel; c++) {
                size_t row = (size_t)json_integer_value(json_array_get(rows, y));
                size_t column = (size_t)json_integer_value(json_array_get(columns, x));
                size_t at = (row * f->columns + column) * f->samples_per_pixel + c;
                double difference = sample(f, at) - json_number_value(json_array_get(samples, n++));
                if (!(fabs(difference) <= tolerance))
                    fail_msg("%s: sample (%zu, %zu, %u) differs by %g", file, row, column, c,
                             difference);
            }
    for (size_t i = 0; i < total; i++)
        mean += sample(f, i) / (double)total;
    if (n == 0 || !(fabs(mean - mf_json_get_number(want, "mean", NAN)) < 0.5))
        fail_msg("%s: the mean is %g, not %g", file, mean, mf_json_get_number(want, "mean", NAN));
}

/* Returns whether the frame is bit-exact. */
static bool expect_frame(const char *file, const struct mf_frame *f, const json_t *want)
{
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX];
    const json_t *shape = json_object_get(want, "shape");
    if (json_integer_value(json_array_get(shape, 0)) != f->rows ||
        json_integer_value(json_array_get(shape, 1)) != f->columns ||
        (json_array_size(shape) == 3 ? 3u : 1u) != f->samples_per_pixel)
        fail_msg("%s: the shape differs", file);
    assert_string_equal(TYPES[f->type], mf_json_get_string(want, "type", ""));
    mf_sha256(f->samples, mf_frame_bytes(f), digest);
    if (strcmp(mf_sha256_to_hex(digest, hex), mf_json_get_string(want, "sha256", "")) == 0)
        return true;
    if (!json_object_get(want, "tolerance"))
        fail_msg("%s: the samples differ", file);
    expect_close(file, f, want);
    return false;
}

/* ---- one file ---- */

struct file {
    const char *name;
    int fd;
    struct mf_index *index; /* NULL = refused, with the reason in err */
    struct mf_error err;
};

static void open_file(struct file *f)
{
    char path[1024];
    struct stat st;
    snprintf(path, sizeof path, "%s/dicom/%s", MF_SHARED_DATA, f->name);
    f->fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(f->fd >= 0);
    assert_int_equal(fstat(f->fd, &st), 0);
    struct mf_scan_input input = {.fd = f->fd, .length = (uint64_t)st.st_size};
    f->index = mf_scan(&input, 1, NULL, &f->err);
}

/* All frames against `frames`; the reason why not in f->err. */
static bool expect_frames(struct file *f, const json_t *frames)
{
    const struct mf_index_object *o = &f->index->objects[0];
    bool exact = true;
    size_t i;
    json_t *want;
    assert_int_equal(f->index->object_count, 1);
    json_array_foreach((json_t *)frames, i, want)
    {
        MF_AUTO(mf_frame) struct mf_frame frame = {.owned = NULL};
        if (!mf_decode_frame(f->fd, o, (uint32_t)i, &frame, &f->err))
            return false;
        exact = expect_frame(f->name, &frame, want) && exact;
    }
    assert_int_equal(o->frames, json_array_size(frames));
    exact ? counts.equal++ : counts.tolerated++;
    return true;
}

/* Files whose reference failed: they decode to something, or to what `same_as` holds. */
static bool expect_beyond(struct file *f, const char *same_as)
{
    const json_t *other = same_as ? json_object_get(expected, same_as) : NULL;
    const json_t *frames = json_object_get(other, "frames");
    if (frames) {
        if (!expect_frames(f, frames))
            return false;
        counts.beyond++;
        return true;
    }
    MF_AUTO(mf_frame) struct mf_frame frame = {.owned = NULL};
    if (!mf_decode_frame(f->fd, &f->index->objects[0], 0, &frame, &f->err))
        return false;
    counts.beyond++;
    return true;
}

static const char *refusal_of(const char *name)
{
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++)
        if (strcmp(REFUSED[i].file, name) == 0)
            return REFUSED[i].reason;
    return NULL;
}

static bool decode_file(struct file *f, const json_t *entry)
{
    const json_t *frames = json_object_get(entry, "frames");
    if (!f->index)
        return false;
    if (frames)
        return expect_frames(f, frames);
    for (size_t i = 0; i < sizeof BEYOND / sizeof *BEYOND; i++)
        if (strcmp(BEYOND[i].file, f->name) == 0)
            return expect_beyond(f, BEYOND[i].same_as);
    if (refusal_of(f->name))
        return mf_decode_frame(f->fd, &f->index->objects[0], 0, &(struct mf_frame){.rows = 0},
                               &f->err);
    assert_false(mf_json_get_bool(entry, "pixels", false));
    assert_int_equal(f->index->objects[0].pixel_data, MF_PIXEL_DATA_NONE);
    counts.without_pixels++;
    return true;
}

static void check_file(const char *name, const json_t *entry)
{
    struct file f = {.name = name, .fd = -1, .err = MF_ERROR_INIT};
    open_file(&f);
    const char *reason = refusal_of(name);
    bool ok = decode_file(&f, entry);
    if (ok && reason)
        fail_msg("%s: decodes, but is listed as refused", name);
    if (!ok) {
        if (!reason && mf_json_get_bool(entry, "pixels", false))
            fail_msg("%s: refused: %s", name, f.err.msg);
        assert_string_equal(f.err.msg, reason ? reason : "part 1: not a DICOM file");
        counts.refused++;
    }
    mf_index_free(f.index);
    close(f.fd);
}

static void every_file_is_equal_or_refused_for_a_known_reason(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct stat st;
    if (stat(MF_SHARED_DATA "/dicom", &st) != 0) {
        printf("skipped: no ../shared/data\n");
        return;
    }
    MF_AUTO(mf_json)
    json_t *json = mf_json_read_file(MF_SOURCE_DIR "/tests/dicom/expected_pixels.json", NULL, &err);
    assert_no_error(&err);
    const char *name;
    json_t *entry;
    expected = json_object_get(json, "files");
    assert_true(json_object_size(expected) > 150);
    json_object_foreach(expected, name, entry) check_file(name, entry);
    printf("%zu files: %d equal, %d within tolerance, %d refused, %d without pixels; %d of them "
           "pydicom does not decode\n",
           json_object_size(expected), counts.equal, counts.tolerated, counts.refused,
           counts.without_pixels, counts.beyond);
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_file_is_equal_or_refused_for_a_known_reason)};
    return cmocka_run_group_tests_name("dicom/expected", tests, start, NULL);
}
