/* server/vault.c, server/sealed_pack.c, server/pack.c: what is stored encrypted comes back as it
 * was, or not at all. */
#include "server/blobs.h"
#include "server/sealed_pack.h"

#include "tests/expect.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE = 64 << 10, HEADER = 4096, MOST = 3 * PIECE };

static char directory[] = "/tmp/medfusion-vault-XXXXXX", keys[64];
static unsigned char plain[MOST];
static const char NAME[] = "0123456789abcdef0123456789abcdef";

static int make(void **state)
{
    char id[MF_VAULT_ID];
    (void)state;
    if (!mkdtemp(directory))
        return -1;
    snprintf(keys, sizeof keys, "%s/keys", directory);
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = (unsigned char)(i * 2654435761u >> 13);
    return mf_vault_add(keys, id, NULL) ? 0 : -1;
}

static int clear(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r %s", directory);
    return system(command);
}

static struct mf_vault *vault(void)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_vault *v = mf_vault_open(keys, &err);
    assert_no_error(&err);
    return v;
}

/* A file with a pack of so many bytes, written in steps of 1000. */
static int sealed_file(const struct mf_vault *v, const char *name, size_t size)
{
    char path[] = "/tmp/medfusion-sealed-XXXXXX";
    int fd = mkstemp(path);
    unlink(path);
    MF_AUTO(mf_sealer) struct mf_sealer *s = mf_sealer_new(v, name, fd, NULL);
    assert_non_null(s);
    for (size_t at = 0; at < size; at += 1000)
        assert_true(mf_sealer_write(s, plain + at, size - at < 1000 ? size - at : 1000, NULL));
    assert_true(mf_sealer_finish(s, NULL));
    return fd;
}

static void expect_plain(int fd, size_t at, size_t size, size_t whole)
{
    static unsigned char back[MOST];
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_size, whole);
    assert_int_equal(pread(fd, back, size, (off_t)at), size);
    assert_memory_equal(back, plain + at, size);
}

static void every_size_comes_back(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 999, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, MOST};
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_fd) int fd = sealed_file(v, NAME, sizes[i]);
        MF_AUTO(mf_fd) int back = mf_sealed_open(v, NAME, fd, 0, UINT64_MAX, &err);
        assert_no_error(&err);
        expect_plain(back, 0, sizes[i], sizes[i]);
    }
}

static void a_part_is_opened_alone(void **state)
{
    (void)state;
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    MF_AUTO(mf_fd) int fd = sealed_file(v, NAME, MOST);
    MF_AUTO(mf_fd) int back = mf_sealed_open(v, NAME, fd, PIECE + 10, 20, NULL);
    unsigned char byte = 1;
    expect_plain(back, PIECE + 10, 20, MOST);
    assert_int_equal(pread(back, &byte, 1, 5), 1);
    assert_int_equal(byte, 0); /* what was not asked for was not decrypted */
    MF_AUTO(mf_fd) int across = mf_sealed_open(v, NAME, fd, PIECE - 5, PIECE + 10, NULL);
    expect_plain(across, PIECE - 5, PIECE + 10, MOST);
}

/* Opening fails with this sentence. */
static void expect_damaged(const struct mf_vault *v, const char *name, int fd, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_int_equal(mf_sealed_open(v, name, fd, 0, UINT64_MAX, &err), -1);
    assert_error(&err, MF_ERR_IO, message);
}

/* A file of the same length with nothing but these ranges of another. */
static int with_ranges(int from, const struct mf_s3_range *ranges, size_t n)
{
    static unsigned char bytes[HEADER + 4 * (PIECE + 16)];
    char path[] = "/tmp/medfusion-ranges-XXXXXX";
    struct stat st;
    int fd = mkstemp(path);
    unlink(path);
    assert_int_equal(fstat(from, &st), 0);
    assert_int_equal(ftruncate(fd, st.st_size), 0);
    const uint64_t length = (uint64_t)st.st_size;
    for (size_t i = 0; i < n; i++) {
        uint64_t size = ranges[i].size < length ? ranges[i].size : length;
        uint64_t at = ranges[i].offset == UINT64_MAX ? length - size : ranges[i].offset;
        if (at >= length)
            continue;
        size = size < length - at ? size : length - at;
        assert_int_equal(pread(from, bytes, size, (off_t)at), size);
        assert_int_equal(pwrite(fd, bytes, size, (off_t)at), size);
    }
    return fd;
}

/* What is fetched from a bucket is enough, and not much more than that. */
static void ranges_hold_what_a_part_needs(void **state)
{
    (void)state;
    static const size_t ends[] = {1, 100, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE, MOST - 1, MOST};
    enum { ENDS = sizeof ends / sizeof *ends };
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    MF_AUTO(mf_fd) int whole = sealed_file(v, NAME, MOST);
    for (size_t i = 0; i < ENDS; i++)
        for (size_t k = 0; k < i; k++) {
            const size_t offset = ends[k], size = ends[i] - ends[k];
            struct mf_s3_range ranges[MF_SEALED_RANGES];
            struct mf_error err = MF_ERROR_INIT;
            uint64_t fetched = 0;
            const size_t n = mf_sealed_ranges(offset, size, ranges);
            for (size_t r = 0; r < n; r++)
                fetched += ranges[r].size;
            MF_AUTO(mf_fd) int sparse = with_ranges(whole, ranges, n);
            MF_AUTO(mf_fd) int back = mf_sealed_open(v, NAME, sparse, offset, size, &err);
            assert_no_error(&err);
            expect_plain(back, offset, size, MOST);
            assert_true(fetched <= HEADER + size + 3 * (PIECE + 16));
        }
}

static void no_bit_can_be_changed_and_nothing_cut_off(void **state)
{
    (void)state;
    static const size_t places[] = {HEADER, HEADER + PIECE - 1, HEADER + PIECE /* a tag */,
                                    HEADER + PIECE + 16, HEADER + 2 * (PIECE + 16) + 9};
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    MF_AUTO(mf_fd) int fd = sealed_file(v, NAME, 2 * PIECE + 10);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        unsigned char byte;
        assert_int_equal(pread(fd, &byte, 1, (off_t)places[i]), 1);
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)places[i]), 1);
        expect_damaged(v, NAME, fd, "payload 0123456789abcdef0123456789abcdef: is damaged");
        byte ^= 1;
        assert_int_equal(pwrite(fd, &byte, 1, (off_t)places[i]), 1);
    }
    assert_int_equal(ftruncate(fd, HEADER + 2 * (PIECE + 16)), 0); /* whole pieces are left */
    expect_damaged(v, NAME, fd, "payload 0123456789abcdef0123456789abcdef: is damaged");
    assert_int_equal(ftruncate(fd, HEADER + 3), 0);
    expect_damaged(v, NAME, fd, "payload 0123456789abcdef0123456789abcdef: is cut off");
}

static void a_pack_opens_under_its_own_name_only(void **state)
{
    (void)state;
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    MF_AUTO(mf_fd) int fd = sealed_file(v, NAME, 10);
    struct mf_error err = MF_ERROR_INIT;
    assert_int_equal(mf_sealed_open(v, "another", fd, 0, UINT64_MAX, &err), -1);
    assert_int_equal(err.code, MF_ERR_IO);
    assert_non_null(
        strstr(err.msg, "payload: another: cannot be decrypted: it is damaged, or the key"));
}

static void keys_change_by_wrapping_anew(void **state)
{
    (void)state;
    char first[MF_VAULT_ID], second[MF_VAULT_ID], id[MF_VAULT_ID], old_keys[160];
    struct mf_error err = MF_ERROR_INIT;
    bool changed = false;
    MF_AUTO(mf_vault) struct mf_vault *before = vault();
    snprintf(first, sizeof first, "%s", mf_vault_newest(before));
    MF_AUTO(mf_fd) int fd = sealed_file(before, NAME, MOST);
    snprintf(old_keys, sizeof old_keys, "cp -p %s %s.old", keys, keys);
    assert_int_equal(system(old_keys), 0);
    assert_true(mf_vault_add(keys, second, &err));
    MF_AUTO(mf_vault) struct mf_vault *both = vault();
    assert_string_equal(mf_vault_newest(both), second);
    assert_true(mf_sealed_is(fd, id));
    assert_string_equal(id, first);
    MF_AUTO(mf_fd) int with_old = mf_sealed_open(both, NAME, fd, 0, UINT64_MAX, &err);
    expect_plain(with_old, 0, MOST, MOST);
    assert_true(mf_sealed_rewrap(both, NAME, fd, &changed, &err) && changed);
    assert_true(mf_sealed_rewrap(both, NAME, fd, &changed, &err) && !changed);
    assert_true(mf_sealed_is(fd, id));
    assert_string_equal(id, second);
    MF_AUTO(mf_fd) int with_new = mf_sealed_open(both, NAME, fd, 0, UINT64_MAX, &err);
    expect_plain(with_new, 0, MOST, MOST);
    char message[160];
    snprintf(message, sizeof message,
             "payload: %s: is encrypted with the key \"%s\", which is not in "
             "the key file",
             NAME, second);
    expect_damaged(before, NAME, fd, message); /* the old wrapping is gone */
}

static void a_rewrap_that_was_torn_leaves_the_old_key(void **state)
{
    (void)state;
    char id[MF_VAULT_ID];
    unsigned char place[112];
    bool changed;
    MF_AUTO(mf_vault) struct mf_vault *v = vault();
    MF_AUTO(mf_fd) int fd = sealed_file(v, NAME, 100);
    assert_true(mf_vault_add(keys, id, NULL));
    MF_AUTO(mf_vault) struct mf_vault *next = vault();
    assert_int_equal(pread(fd, place, sizeof place, 0), sizeof place);
    assert_true(mf_sealed_rewrap(next, NAME, fd, &changed, NULL));
    assert_int_equal(pwrite(fd, place, sizeof place, 0), sizeof place); /* not wiped yet … */
    assert_int_equal(pwrite(fd, "torn", 4, 2048 + 60), 4); /* … and the new one is torn */
    MF_AUTO(mf_fd) int back = mf_sealed_open(next, NAME, fd, 0, UINT64_MAX, NULL);
    expect_plain(back, 0, 100, 100);
}

static void wrong_key_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{}", "\"schema\" must be \"medfusion.vault/1\""},
        {"{\"schema\": \"medfusion.vault/1\", \"keys\": []}", "\"keys\" must hold 1 to 64 keys"},
        {"{\"schema\": \"medfusion.vault/1\", \"keys\": [{\"id\": \"a\", \"key\": \"AAAA\"}]}",
         "key \"a\" is not 32 bytes in base64url"},
        {"{\"schema\": \"medfusion.vault/1\", \"keys\": [{\"id\": \"a b\", \"key\": \"AAAA\"}]}",
         "\"id\" must be 1 to 16 letters, digits, '-', '_' or '.'"},
    };
    char path[64], message[160];
    snprintf(path, sizeof path, "%s/wrong", directory);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        FILE *file = fopen(path, "w");
        fputs(cases[i].text, file);
        fclose(file);
        chmod(path, 0600);
        snprintf(message, sizeof message, "%s: %s", path, cases[i].message);
        assert_null(mf_vault_open(path, &err));
        assert_error(&err, MF_ERR_USAGE, message);
    }
    struct mf_error err = MF_ERROR_INIT;
    chmod(path, 0640);
    snprintf(message, sizeof message, "%s: others than its owner may read or write it (chmod 600)",
             path);
    assert_null(mf_vault_open(path, &err));
    assert_error(&err, MF_ERR_USAGE, message);
}

static void packs_are_encrypted_on_disk_and_plain_to_those_who_look(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_pack_member member;
    char id[MF_VAULT_ID], path[128];
    MF_AUTO(mf_blobs) struct mf_blobs *blobs = mf_blobs_open(directory, keys, 0, &err);
    MF_AUTO(mf_pack) struct mf_pack *pack = mf_pack_new(blobs, &err);
    assert_true(mf_pack_begin(pack, &err) && mf_pack_write(pack, plain, MOST, &err) &&
                mf_pack_end(pack, &member, &err));
    int during = mf_pack_flush(pack, &err);
    expect_plain(during, 0, MOST, MOST);
    assert_true(mf_pack_sync(pack, &err));
    mf_pack_keep(pack);
    MF_AUTO(mf_fd) int back = mf_blobs_open_pack(blobs, mf_pack_name(pack), &err);
    expect_plain(back, 0, MOST, MOST);
    snprintf(path, sizeof path, "%s/payloads/%s", directory, mf_pack_name(pack));
    MF_AUTO(mf_fd) int file = open(path, O_RDONLY);
    assert_true(mf_sealed_is(file, id));
    static unsigned char bytes[HEADER + MOST];
    ssize_t n = read(file, bytes, sizeof bytes);
    assert_int_equal(n, sizeof bytes);
    assert_null(memmem(bytes, (size_t)n, plain, 32));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_size_comes_back),
        cmocka_unit_test(a_part_is_opened_alone),
        cmocka_unit_test(ranges_hold_what_a_part_needs),
        cmocka_unit_test(no_bit_can_be_changed_and_nothing_cut_off),
        cmocka_unit_test(a_pack_opens_under_its_own_name_only),
        cmocka_unit_test(keys_change_by_wrapping_anew),
        cmocka_unit_test(a_rewrap_that_was_torn_leaves_the_old_key),
        cmocka_unit_test(wrong_key_files_are_refused_by_name),
        cmocka_unit_test(packs_are_encrypted_on_disk_and_plain_to_those_who_look),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
