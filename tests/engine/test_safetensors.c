/* safetensors files that break a rule are refused with the exact reason; what is written reads
 * back. */
#include "engine/safetensors.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* A file: header length (or the given one), header, `data` bytes of data. */
static struct mf_safetensors *parse(const char *header, long length, size_t data,
                                    struct mf_error *err)
{
    static char bytes[4096];
    size_t n = strlen(header);
    uint64_t stated = length < 0 ? n : (uint64_t)length;
    memset(bytes, 0, sizeof bytes);
    for (int i = 0; i < 8; i++)
        bytes[i] = (char)(stated >> 8 * i);
    memcpy(bytes + 8, header, n);
    return mf_safetensors_parse(bytes, 8 + n + data, "f", err);
}

static void refuse(const char *header, long length, size_t data, const char *reason)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_null(parse(header, length, data, &err));
    assert_string_equal(err.msg, reason);
    assert_int_equal(err.code, MF_ERR_MALFORMED);
}

#define T(begin, end) "{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[" #begin "," #end "]}"

static void files_that_break_a_rule_are_refused(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_null(mf_safetensors_parse("1234567", 7, "f", &err));
    assert_string_equal(err.msg, "f: 7 bytes are too few for safetensors");
    refuse("{}", 2 << 20, 0, "f: a header of 2097152 bytes, at most 1048576 are accepted");
    refuse("{}", 100, 0, "f: the file ends inside its header");
    refuse("", 0, 0, "f: the header does not start with '{'");
    refuse(" {}", -1, 0, "f: the header does not start with '{'");
    refuse("{", -1, 0, "f: header: not valid JSON (line 1, column 1)");
    refuse("{\"a\":" T(0, 8) ",\"a\":" T(8, 16) "}", -1, 16,
           "f: header: a JSON object has the same key twice (line 1, column 57)");
    refuse("{\"a\":[[[[[]]]]]}", -1, 0, "f: header: JSON is nested deeper than 4 levels");
    refuse("{\"a\":1}", -1, 0, "f: tensor \"a\": must be an object");
    refuse("{\"a\":" T(0, 8) "}", -1, 12, "f: 4 bytes after the last tensor");
    refuse("{\"a\":" T(4, 12) "}", -1, 12, "f: a hole between tensors at offset 0");
    refuse("{\"a\":" T(0, 8) ",\"b\":" T(12, 20) "}", -1, 20,
           "f: a hole between tensors at offset 8");
    refuse("{\"a\":" T(0, 8) ",\"b\":" T(4, 12) "}", -1, 12, "f: tensors overlap at offset 4");
    refuse("{\"a\":" T(0, 16) "}", -1, 16,
           "f: tensor \"a\": its data is not the size that its shape says");
    refuse("{\"a\":" T(8, 0) "}", -1, 8, "f: tensor \"a\": its data lies outside the file");
    refuse("{\"a\":" T(0, 8) "}", -1, 4, "f: tensor \"a\": its data lies outside the file");
    refuse("{\"a\":{\"dtype\":\"Q4\",\"shape\":[],\"data_offsets\":[0,0]}}", -1, 0,
           "f: tensor \"a\": \"dtype\" must be F32, F16, BF16, F64, I64, I32, U8 or BOOL");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[-1],\"data_offsets\":[0,0]}}", -1, 0,
           "f: tensor \"a\": every size must be a whole number from 0 to 2147483648");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1,1,1,1,1,1,1],\"data_offsets\":[0,4]}}", -1, 4,
           "f: tensor \"a\": \"shape\" must be an array of at most 6 sizes");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[2147483648,2147483648,2147483648],\"data_"
           "offsets\":[0,0]}}",
           -1, 0, "f: tensor \"a\": the shape overflows");
    refuse("{\"a\":{\"dtype\":\"F64\",\"shape\":[2147483648,2147483648],\"data_offsets\":[0,0]}}",
           -1, 0, "f: tensor \"a\": its data is not the size that its shape says");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0]}}", -1, 4,
           "f: tensor \"a\": \"data_offsets\" must be two offsets");
    refuse("{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"x\":1}}", -1, 4,
           "f: tensor \"a\": header: unknown key \"x\"");
}

static void a_missing_file_is_named(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_null(mf_safetensors_open("/nonexistent/model.safetensors", &err));
    assert_string_equal(err.msg, "/nonexistent/model.safetensors: cannot be read as a file");
}

static void an_empty_file_of_tensors_is_valid(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    struct mf_safetensors *f = parse("{\"__metadata__\":{\"format\":\"pt\"}}", -1, 0, &err);
    assert_non_null(f);
    assert_int_equal(mf_safetensors_count(f), 0);
    assert_null(mf_safetensors_at(f, 0));
    mf_safetensors_free(f);
}

static void what_is_written_reads_back(void **state)
{
    const float x[6] = {1, -2, 3.5f, 0, 1e-8f, 65504};
    const int64_t n[2] = {-7, 1LL << 40};
    const uint16_t half[4] = {0x3C00, 0xC000, 0x0001, 0x7BFF}; /* 1, −2, 2^−24, 65504 */
    const uint16_t brain[2] = {0x3F80, 0xC040};                /* 1, −3 */
    const struct mf_tensor tensors[] = {
        {.name = "x", .dtype = MF_DTYPE_F32, .rank = 2, .shape = {2, 3}, .count = 6, .data = x},
        {.name = "n", .dtype = MF_DTYPE_I64, .rank = 1, .shape = {2}, .count = 2, .data = n},
        {.name = "half", .dtype = MF_DTYPE_F16, .rank = 1, .shape = {4}, .count = 4, .data = half},
        {.name = "brain",
         .dtype = MF_DTYPE_BF16,
         .rank = 1,
         .shape = {2},
         .count = 2,
         .data = brain},
    };
    char path[] = "/tmp/mf-tensors-XXXXXX";
    struct mf_error err = MF_ERROR_INIT;
    float out[6];
    (void)state;
    close(mkstemp(path));
    assert_true(mf_safetensors_write(path, tensors, 4, &err));
    struct mf_safetensors *f = mf_safetensors_open(path, &err);
    assert_non_null(f);
    assert_int_equal(mf_safetensors_count(f), 4);
    const struct mf_tensor *t = mf_safetensors_find(f, "x");
    assert_int_equal(t->rank, 2);
    assert_int_equal(t->shape[1], 3);
    assert_true(mf_tensor_to_floats(t, out));
    assert_memory_equal(out, x, sizeof x);
    assert_true(mf_tensor_integer(mf_safetensors_find(f, "n"), 1) == 1LL << 40);
    assert_true(mf_tensor_to_floats(mf_safetensors_find(f, "half"), out));
    assert_true(out[0] == 1 && out[1] == -2 && out[2] == ldexpf(1, -24) && out[3] == 65504);
    assert_true(mf_tensor_to_floats(mf_safetensors_find(f, "brain"), out));
    assert_true(out[0] == 1 && out[1] == -3);
    assert_null(mf_safetensors_find(f, "y"));
    mf_safetensors_free(f);
    unlink(path);
}

static void numbers_that_are_not_finite_are_seen(void **state)
{
    static const uint16_t HALF_INFINITY[1] = {0x7C00}, BRAIN_NAN[1] = {0x7FC0}, FINE[1] = {0x7BFF};
    const float nan[2] = {1, NAN};
    struct mf_tensor t = {
        .dtype = MF_DTYPE_F16, .rank = 1, .shape = {1}, .count = 1, .data = HALF_INFINITY};
    (void)state;
    assert_false(mf_tensor_is_finite(&t));
    t.data = FINE;
    assert_true(mf_tensor_is_finite(&t));
    t.dtype = MF_DTYPE_BF16;
    t.data = BRAIN_NAN;
    assert_false(mf_tensor_is_finite(&t));
    t = (struct mf_tensor){.dtype = MF_DTYPE_F32, .rank = 1, .shape = {2}, .count = 2, .data = nan};
    assert_false(mf_tensor_is_finite(&t));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(files_that_break_a_rule_are_refused),
        cmocka_unit_test(a_missing_file_is_named),
        cmocka_unit_test(an_empty_file_of_tensors_is_valid),
        cmocka_unit_test(what_is_written_reads_back),
        cmocka_unit_test(numbers_that_are_not_finite_are_seen),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
