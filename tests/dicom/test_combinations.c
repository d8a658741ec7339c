/* dicom/decode.c, core/grayscale.c: every combination of image attributes is shown or refused. */
#include "core/grayscale.h"
#include "tests/dicom/decode_expect.h"

struct combination {
    const char *syntax, *photometric;
    uint16_t samples, allocated, stored, high, representation, planar;
};

static void build_combination(struct builder *b, const struct combination *c, const uint8_t *noise,
                              size_t length)
{
    build_start(b, c->syntax);
    build_u16(b, TAG(0x0028, 0x0002), c->samples);
    build_string(b, TAG(0x0028, 0x0004), "CS", c->photometric);
    build_u16(b, TAG(0x0028, 0x0006), c->planar);
    build_u16(b, TAG(0x0028, 0x0010), 2);
    build_u16(b, TAG(0x0028, 0x0011), 3);
    build_u16(b, TAG(0x0028, 0x0100), c->allocated);
    build_u16(b, TAG(0x0028, 0x0101), c->stored);
    build_u16(b, TAG(0x0028, 0x0102), c->high);
    build_u16(b, TAG(0x0028, 0x0103), c->representation);
    bool native = strcmp(c->syntax, EXPLICIT_LE) == 0 || strcmp(c->syntax, EXPLICIT_BE) == 0;
    build_header(b, TAG(0x7FE0, 0x0010), "OW", native ? (int64_t)length : UNDEFINED_LENGTH);
    if (!native) {
        build_item(b, TAG(0xFFFE, 0xE000), 0);
        build_item(b, TAG(0xFFFE, 0xE000), (int64_t)length);
    }
    build_bytes(b, noise, length);
    if (!native)
        build_item(b, TAG(0xFFFE, 0xE0DD), 0);
}

/* Decodes and shows it, or is refused with a sentence; returns whether it was shown. */
static bool try_combination(const struct combination *c, const uint8_t *noise, size_t length)
{
    struct builder b;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    uint8_t picture[18];
    build_combination(&b, c, noise, length);
    if (!decode(&b, 0, &f, &err)) {
        assert_true(err.code == MF_ERR_MALFORMED || err.code == MF_ERR_UNUSABLE ||
                    err.code == MF_ERR_UNSUPPORTED);
        assert_true(strlen(err.msg) > 10);
        return false;
    }
    assert_true(mf_frame_check(&f, &err));
    assert_true(mf_grayscale_display8(&f, picture, &err));
    return true;
}

static void combinations_are_shown_or_refused(void **state)
{
    (void)state;
    static const char *const SYNTAXES[] = {EXPLICIT_LE,   EXPLICIT_BE, RLE_LOSSLESS,
                                           JPEG_BASELINE, JPEG_2000,   "1.2.840.10008.1.2.4.80"};
    static const char *const PHOTOMETRICS[] = {"MONOCHROME1", "MONOCHROME2",  "RGB",
                                               "YBR_FULL",    "YBR_FULL_422", "PALETTE COLOR",
                                               "YBR_RCT",     "CMYK"};
    static const uint16_t SAMPLES[] = {0, 1, 2, 3, 4}, BITS[] = {0, 1, 7, 8, 12, 16, 32, 64, 65535};
    uint8_t noise[300];
    int shown = 0, tried = 0;
    for (size_t i = 0; i < sizeof noise; i++)
        noise[i] = (uint8_t)(i * 89 + 3);
    for (size_t s = 0; s < 6; s++)
        for (size_t p = 0; p < 8; p++)
            for (size_t n = 0; n < 5; n++)
                for (size_t a = 0; a < 9; a++)
                    for (size_t k = 0; k < 9; k++)
                        for (int bits = 0; bits < 4; bits++) {
                            const struct combination c = {
                                SYNTAXES[s], PHOTOMETRICS[p], SAMPLES[n],
                                BITS[a],     BITS[k],         (uint16_t)(BITS[k] - 1 + (bits == 3)),
                                bits & 1,    bits >> 1};
                            tried++;
                            shown += try_combination(&c, noise, sizeof noise);
                        }
    assert_int_equal(tried, 6 * 8 * 5 * 9 * 9 * 4);
    assert_in_range(shown, 200, 2000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(combinations_are_shown_or_refused),
    };
    return cmocka_run_group_tests_name("dicom/combinations", tests, start, NULL);
}
