/* core/digest.c: the test vectors of FIPS 180-4, in one piece, in pieces, from a file. */
#include "core/digest.h"

#include "tests/expect.h"

static const struct {
    const char *text, *hex;
} VECTORS[] = {
    {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
    {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
    {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
     "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
};

static void vectors_at_once_and_in_pieces(void **state)
{
    (void)state;
    unsigned char digest[MF_SHA256_BYTES];
    char hex[MF_SHA256_HEX];
    MF_AUTO(mf_sha256) struct mf_sha256 *h = mf_sha256_new();
    for (size_t v = 0; v < sizeof VECTORS / sizeof *VECTORS; v++) {
        size_t len = strlen(VECTORS[v].text);
        mf_sha256(VECTORS[v].text, len, digest);
        assert_string_equal(mf_sha256_to_hex(digest, hex), VECTORS[v].hex);
        for (size_t i = 0; i < len; i++)
            mf_sha256_update(h, VECTORS[v].text + i, 1);
        mf_sha256_final(h, digest); /* and starts anew for the next vector */
        assert_string_equal(mf_sha256_to_hex(digest, hex), VECTORS[v].hex);
    }
}

static void a_million_letters_in_a_file(void **state)
{
    (void)state;
    char path[] = "/tmp/mf_test_XXXXXX", hex[MF_SHA256_HEX];
    unsigned char digest[MF_SHA256_BYTES];
    MF_AUTO(mf_fd) int fd = mkstemp(path);
    char *text = malloc(1000000);
    memset(text, 'a', 1000000);
    assert_int_equal(write(fd, text, 1000000), 1000000);
    free(text);
    assert_true(mf_sha256_file(path, digest, NULL));
    assert_string_equal(mf_sha256_to_hex(digest, hex),
                        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    unlink(path);
}

static void missing_files_are_named(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    unsigned char digest[MF_SHA256_BYTES];
    assert_false(mf_sha256_file("/nonexistent", digest, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "/nonexistent: No such file or directory");
    mf_error_clear(&err);
    assert_false(mf_sha256_file("/", digest, &err));
    assert_error(&err, MF_ERR_IO, "/: Is a directory");
    mf_sha256_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors_at_once_and_in_pieces),
        cmocka_unit_test(a_million_letters_in_a_file),
        cmocka_unit_test(missing_files_are_named),
    };
    return cmocka_run_group_tests_name("core/digest", tests, NULL, NULL);
}
