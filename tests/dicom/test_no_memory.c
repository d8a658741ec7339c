/*
 * Every allocation of the module failed in turn: scan, JSON, study, decode and display give a clean
 * error, lose no memory (the sanitizer's leak check) and never crash. The linker wraps the
 * allocators of our own code.
 */
#include "core/grayscale.h"
#include "dicom/decode.h"
#include "dicom/dicom.h"
#include "dicom/scan.h"
#include "dicom/study.h"
#include "tests/dicom/builder.h"
#include "tests/expect.h"
#include "tests/scarce.h"

/* The whole way of an upload; false with an error when something failed. */
static bool whole_way(int fd, uint64_t length, struct mf_error *err)
{
    float pixels[16];
    uint8_t bytes[16];
    struct mf_scan_input input = {.fd = fd, .length = length};
    MF_AUTO(mf_frame) struct mf_frame f = {.owned = NULL};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(&input, 1, NULL, err);
    MF_AUTO(mf_json) json_t *json = index ? mf_index_to_json(index) : NULL;
    MF_AUTO(mf_index) struct mf_index *read = json ? mf_index_from_json(json, err) : NULL;
    MF_AUTO(mf_study_list)
    struct mf_study_list *list = read ? mf_study_list_new(read, NULL, err) : NULL;
    const struct mf_study_request *r = list ? mf_study_list_job(list, true, err) : NULL;
    return r && mf_decode_frame(fd, r->frames[0].object, r->frames[0].frame, &f, err) &&
           mf_grayscale_modality(&f, pixels, err) && mf_grayscale_display(&f, pixels, err) &&
           mf_grayscale_display8(&f, bytes, err);
}

/* Fails the first, second, … allocation until a run needs no more; returns how many there were. */
static long fail_each(int fd, uint64_t length, bool persistent)
{
    for (long n = 0; n < 2000; n++) {
        struct mf_error err = MF_ERROR_INIT;
        scarce_after(n, persistent);
        bool ok = whole_way(fd, length, &err);
        if (!scarce_end() && ok)
            return n;
        if (!ok && (err.code != MF_ERR_NO_MEMORY || !err.msg[0]))
            fail_msg("allocation %ld: %s (%s)", n, err.msg, mf_code_name(err.code));
    }
    return -1;
}

static void run_all(const void *data, size_t length)
{
    MF_AUTO(mf_fd) int fd = build_fd(data, length);
    for (int i = 0; i < 2; i++)
        assert_in_range(fail_each(fd, length, i == 1), 10, 1000);
}

static const struct build_object CHEST = {"DX",    "PA", "P1", "20190307", "102000",
                                          "CHEST", NULL, 1,    1,          1};

static void zip_with_a_deflated_image(void **state)
{
    (void)state;
    struct builder b;
    MF_AUTO(mf_buffer) struct mf_buffer zip;
    build_start(&b, DEFLATED_LE);
    build_identity(&b, &CHEST);
    build_image(&b, 4, 4, 16);
    build_pixels(&b, 32);
    build_finish(&b);
    const struct build_member members[] = {{"a.dcm", b.bytes.data, b.bytes.len, true, 0, -1},
                                           {"b.txt", "not DICOM at all", 16, true, 0, -1}};
    build_zip(&zip, members, 2);
    run_all(zip.data, zip.len);
    build_free(&b);
}

static void encapsulated_image_with_a_table(void **state)
{
    (void)state;
    struct builder b;
    const uint32_t header[16] = {1, 64};
    build_start(&b, RLE_LOSSLESS);
    build_identity(&b, &CHEST);
    build_image(&b, 4, 4, 8);
    build_header(&b, TAG(0x0028, 0x3010), "SQ", 8 + 8 + 6 + 12 + 4);
    build_item(&b, TAG(0xFFFE, 0xE000), 8 + 6 + 12 + 4);
    build_header(&b, TAG(0x0028, 0x3002), "US", 6);
    build_bytes(&b, "\2\0\0\0\20\0", 6);
    build_header(&b, TAG(0x0028, 0x3006), "OW", 4);
    build_bytes(&b, "\1\0\2\0", 4);
    build_header(&b, TAG(0x7FE0, 0x0010), "OB", UNDEFINED_LENGTH);
    build_item(&b, TAG(0xFFFE, 0xE000), 0);
    build_item(&b, TAG(0xFFFE, 0xE000), 66);
    build_bytes(&b, header, 64);
    build_bytes(&b, "\xF1\x07", 2);
    build_item(&b, TAG(0xFFFE, 0xE0DD), 0);
    run_all(b.bytes.data, b.bytes.len);
    build_free(&b);
}

static int start(void **state)
{
    (void)state;
    return mf_dicom_init(NULL) ? 0 : -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zip_with_a_deflated_image),
        cmocka_unit_test(encapsulated_image_with_a_table),
    };
    return cmocka_run_group_tests_name("dicom/no_memory", tests, start, NULL);
}
