/* core/frame.c: the invariants of a frame and the block that carries it between processes. */
#include "core/frame.h"

#include "tests/expect.h"

static const uint16_t TABLE[4] = {0, 100, 200, 300};

/* A valid 2 × 3 frame with every part filled. */
static struct mf_frame sample_frame(const int16_t samples[6])
{
    return (struct mf_frame){
        .rows = 2,
        .columns = 3,
        .samples_per_pixel = 1,
        .type = MF_SAMPLE_I16,
        .photometric = MF_PHOTOMETRIC_MONOCHROME1,
        .bits_stored = 12,
        .high_bit = 11,
        .samples = samples,
        .rescale_slope = 2,
        .rescale_intercept = -1024,
        .modality_lut = {.count = 4, .first = -2, .bits = 9, .data = TABLE},
        .has_window = true,
        .voi_function = MF_VOI_SIGMOID,
        .window_center = 40,
        .window_width = 400,
        .has_padding = true,
        .padding_low = -2000,
        .padding_high = -1900,
        .pixel_spacing = {0.143, 0.143},
        .position = {1, 2, 3},
        .orientation = {1, 0, 0, 0, 1, 0},
        .has_position = true,
        .has_orientation = true,
    };
}

static const int16_t SAMPLES[6] = {-5, 0, 5, 2047, -2048, 7};

static void block_gives_every_field_back(void **state)
{
    (void)state;
    struct mf_frame in = sample_frame(SAMPLES), out;
    size_t size = mf_frame_packed_size(&in);
    void *block = aligned_alloc(64, (size + 63) / 64 * 64);
    mf_frame_pack(&in, block);
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_frame_unpack(block, size, &out, &err));
    assert_no_error(&err);
    assert_memory_equal(out.samples, SAMPLES, sizeof SAMPLES);
    assert_int_equal((uintptr_t)out.samples % 64, 0);
    assert_memory_equal(out.modality_lut.data, TABLE, sizeof TABLE);
    assert_int_equal(out.modality_lut.first, -2);
    assert_int_equal(out.type, MF_SAMPLE_I16);
    assert_int_equal(out.photometric, MF_PHOTOMETRIC_MONOCHROME1);
    assert_int_equal(out.padding_low, -2000);
    assert_int_equal(out.padding_high, -1900);
    assert_int_equal(out.voi_function, MF_VOI_SIGMOID);
    assert_true(out.has_window && out.has_padding && out.has_position && out.has_orientation);
    assert_memory_equal(out.position, in.position, sizeof in.position);
    assert_memory_equal(out.orientation, in.orientation, sizeof in.orientation);
    assert_true(out.rescale_slope == 2 && out.rescale_intercept == -1024);
    assert_null(out.owned);
    free(block);
}

/* Flips every byte of the header in turn: the receiver refuses or stays inside the block. */
static void no_header_byte_leads_outside_the_block(void **state)
{
    (void)state;
    struct mf_frame in = sample_frame(SAMPLES), out;
    size_t size = mf_frame_packed_size(&in), room = (size + 63) / 64 * 64, refused = 0;
    unsigned char *block = aligned_alloc(64, room);
    for (size_t i = 0; i < 256 && i < size; i++)
        for (int bit = 0; bit < 8; bit++) {
            mf_frame_pack(&in, block);
            block[i] ^= (unsigned char)(1 << bit);
            struct mf_error err = MF_ERROR_INIT;
            if (!mf_frame_unpack(block, size, &out, &err)) {
                assert_int_equal(err.code, MF_ERR_MALFORMED);
                refused++;
                continue;
            }
            const unsigned char *p = out.samples;
            assert_true(p >= block && p + mf_frame_bytes(&out) <= block + size);
        }
    assert_true(refused > 100);
    free(block);
}

static void short_and_unaligned_blocks_are_refused(void **state)
{
    (void)state;
    struct mf_frame in = sample_frame(SAMPLES), out;
    size_t size = mf_frame_packed_size(&in);
    unsigned char *block = aligned_alloc(64, (size + 127) / 64 * 64);
    mf_frame_pack(&in, block);
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_frame_unpack(block, 16, &out, &err));
    assert_error(&err, MF_ERR_MALFORMED, "frame block: too short or not aligned");
    mf_error_clear(&err);
    assert_false(mf_frame_unpack(block, size - 1, &out, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    mf_error_clear(&err);
    assert_false(mf_frame_unpack(block + 8, size, &out, &err));
    assert_error(&err, MF_ERR_MALFORMED, "frame block: too short or not aligned");
    free(block);
}

/* One change to a valid frame and the sentence it must give. */
static void check_refused(struct mf_frame f, enum mf_code code, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_frame_check(&f, &err));
    assert_error(&err, code, message);
}

static void broken_frames_are_refused(void **state)
{
    (void)state;
    struct mf_frame f = sample_frame(SAMPLES);
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_frame_check(&f, &err));
    f.rows = 0;
    check_refused(f, MF_ERR_MALFORMED, "a frame of 0 x 3 pixels is not possible");
    f.rows = 65535;
    f.columns = 65535;
    check_refused(f, MF_ERR_TOO_LARGE, "a frame of 65535 x 65535 x 1 samples is too large");
    f = sample_frame(SAMPLES);
    f.samples_per_pixel = 3;
    check_refused(f, MF_ERR_MALFORMED,
                  "the frame has 3 samples per pixel, its photometric interpretation 1");
    f = sample_frame(SAMPLES);
    f.bits_stored = 17;
    check_refused(f, MF_ERR_MALFORMED, "17 bits stored up to bit 11 do not fit samples of 16 bits");
    f = sample_frame(SAMPLES);
    f.high_bit = 16;
    check_refused(f, MF_ERR_MALFORMED, "12 bits stored up to bit 16 do not fit samples of 16 bits");
    f = sample_frame(SAMPLES);
    f.modality_lut.count = 65537;
    check_refused(f, MF_ERR_MALFORMED, "the modality table has 65537 entries, at most 65536 fit");
    f = sample_frame(SAMPLES);
    f.window_width = 1.0 / 0.0;
    check_refused(f, MF_ERR_MALFORMED,
                  "the frame's rescale, window or geometry holds a number that is not finite");
    f = sample_frame(SAMPLES);
    f.photometric = MF_PHOTOMETRIC_PALETTE;
    check_refused(f, MF_ERR_MALFORMED, "the red palette table is missing");
    f = sample_frame(SAMPLES);
    f.samples = NULL;
    check_refused(f, MF_ERR_MALFORMED, "the frame has no samples");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_gives_every_field_back),
        cmocka_unit_test(no_header_byte_leads_outside_the_block),
        cmocka_unit_test(short_and_unaligned_blocks_are_refused),
        cmocka_unit_test(broken_frames_are_refused),
    };
    return cmocka_run_group_tests_name("core/frame", tests, NULL, NULL);
}
