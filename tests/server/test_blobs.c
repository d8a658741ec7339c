/* server/blobs.c: packs, members, hashes, what stays and what goes. */
#include "server/blobs.h"
#include "server/syncer.h"

#include "tests/expect.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

struct fixture {
    char directory[64];
    struct mf_blobs *blobs;
};

static void start(struct fixture *f)
{
    snprintf(f->directory, sizeof f->directory, "/tmp/medfusion-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    f->blobs = mf_blobs_open(f->directory, "off", 0, NULL);
    assert_non_null(f->blobs);
}

static void end(struct fixture *f)
{
    char command[128];
    mf_blobs_free(f->blobs);
    snprintf(command, sizeof command, "rm -rf '%s'", f->directory);
    assert_int_equal(system(command), 0);
}

static void write_member(struct mf_pack *pack, const void *data, size_t len, size_t slice,
                         struct mf_pack_member *ret)
{
    assert_true(mf_pack_begin(pack, NULL));
    for (size_t at = 0; at < len; at += slice)
        assert_true(mf_pack_write(pack, (const char *)data + at,
                                  len - at < slice ? len - at : slice, NULL));
    assert_true(mf_pack_end(pack, ret, NULL));
}

static void members_come_back_whole_with_their_digests(void **state)
{
    (void)state;
    enum { BIG = 300001 };
    struct fixture f;
    start(&f);
    char *big = malloc(BIG), *back = malloc(BIG);
    for (size_t i = 0; i < BIG; i++)
        big[i] = (char)(i * 7);
    static const size_t slices[] = {1, 4096, 65536, BIG};
    for (size_t i = 0; i < 4; i++) {
        struct mf_pack_member small, large, empty;
        struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
        write_member(pack, "abc", 3, 1, &small);
        write_member(pack, "", 0, 1, &empty);
        write_member(pack, big, BIG, slices[i], &large);
        assert_true(mf_pack_sync(pack, NULL));
        mf_pack_keep(pack);
        int fd = mf_blobs_open_pack(f.blobs, mf_pack_name(pack), NULL);
        assert_true(fd >= 0);
        assert_int_equal(empty.size, 0);
        assert_int_equal(large.offset % 8, 0);
        assert_int_equal(pread(fd, back, BIG, (off_t)large.offset), BIG);
        assert_memory_equal(back, big, BIG);
        unsigned char digest[MF_SHA256_BYTES];
        mf_sha256(big, BIG, digest);
        assert_memory_equal(digest, large.sha256, MF_SHA256_BYTES);
        mf_sha256("abc", 3, digest);
        assert_memory_equal(digest, small.sha256, MF_SHA256_BYTES);
        close(fd);
        mf_pack_free(pack);
    }
    free(big);
    free(back);
    end(&f);
}

static void members_may_be_hashed_later(void **state)
{
    (void)state;
    enum { BIG = 200001 };
    static const unsigned char none[MF_SHA256_BYTES];
    struct fixture f;
    start(&f);
    char *big = malloc(BIG);
    memset(big, 'b', BIG);
    struct mf_pack_member small, large;
    struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
    mf_pack_hash_later(pack);
    write_member(pack, "abc", 3, 3, &small);
    write_member(pack, big, BIG, 4096, &large);
    assert_memory_equal(small.sha256, none, MF_SHA256_BYTES);
    assert_true(mf_pack_flush(pack, NULL) >= 0);
    unsigned char digest[MF_SHA256_BYTES], expected[MF_SHA256_BYTES];
    struct mf_error err = MF_ERROR_INIT;
    assert_false(mf_pack_hash(pack, large.offset, large.size + 1, digest, &err));
    assert_int_equal(err.code, MF_ERR_IO);
    assert_true(mf_pack_hash(pack, large.offset, large.size, digest, NULL));
    mf_sha256(big, BIG, expected);
    assert_memory_equal(digest, expected, MF_SHA256_BYTES);
    assert_true(mf_pack_hash(pack, small.offset, small.size, digest, NULL));
    mf_sha256("abc", 3, expected);
    assert_memory_equal(digest, expected, MF_SHA256_BYTES);
    mf_pack_free(pack);
    free(big);
    end(&f);
}

static void digests_made_apart_are_those_of_the_members(void **state)
{
    (void)state;
    enum { BIG = 300001 };
    struct fixture f;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_pack_member member[3];
    unsigned char digest[MF_SHA256_BYTES], expected[MF_SHA256_BYTES];
    start(&f);
    char *big = calloc(1, BIG);
    assert_non_null(big);
    struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
    mf_pack_hash_apart(pack);
    write_member(pack, "abc", 3, 2, &member[0]);
    write_member(pack, big, BIG, 70000, &member[1]);
    write_member(pack, "", 0, 1, &member[2]);
    assert_true(mf_pack_digest(pack, 1, digest, NULL));
    mf_sha256(big, BIG, expected);
    assert_memory_equal(digest, expected, sizeof digest);
    assert_true(mf_pack_digest(pack, 0, digest, NULL)); /* in any order, and again */
    mf_sha256("abc", 3, expected);
    assert_memory_equal(digest, expected, sizeof digest);
    assert_true(mf_pack_digest(pack, 2, digest, NULL));
    mf_sha256("", 0, expected);
    assert_memory_equal(digest, expected, sizeof digest);
    assert_false(mf_pack_digest(pack, 3, digest, &err));
    assert_error(&err, MF_ERR_INTERNAL, "an upload has no member 3");
    write_member(pack, big, BIG, BIG, &member[0]);
    mf_pack_free(pack); /* waits for the last one */
    free(big);
    end(&f);
}

static void what_is_flushed_can_be_read_before_it_is_durable(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    struct mf_pack_member member;
    char text[4] = "";
    struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
    write_member(pack, "abc", 3, 3, &member);
    int fd = mf_pack_flush(pack, NULL);
    assert_int_equal(pread(fd, text, 3, 0), 3);
    assert_string_equal(text, "abc");
    mf_pack_free(pack);
    end(&f);
}

static void a_pack_that_is_not_kept_is_gone(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    char name[MF_BLOB_NAME];
    struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
    memcpy(name, mf_pack_name(pack), sizeof name);
    mf_pack_free(pack);
    struct mf_error err = MF_ERROR_INIT;
    assert_int_equal(mf_blobs_open_pack(f.blobs, name, &err), -1);
    assert_int_equal(err.code, MF_ERR_NOT_FOUND);
    assert_true(mf_blobs_delete(f.blobs, name, NULL)); /* gone is what was asked for */
    end(&f);
}

static void a_pack_made_ahead_is_taken_once(void **state)
{
    (void)state;
    struct fixture f;
    struct mf_pack_member member;
    start(&f);
    mf_blobs_prepare(f.blobs);
    mf_blobs_prepare(f.blobs); /* there is one: nothing to do */
    struct mf_pack *first = mf_pack_new(f.blobs, NULL), *second = mf_pack_new(f.blobs, NULL);
    assert_string_not_equal(mf_pack_name(first), mf_pack_name(second));
    write_member(first, "abc", 3, 3, &member);
    assert_true(mf_pack_sync(first, NULL));
    mf_pack_keep(first);
    int fd = mf_blobs_open_pack(f.blobs, mf_pack_name(first), NULL);
    assert_true(fd >= 0);
    close(fd);
    mf_pack_free(first);
    mf_pack_free(second);
    end(&f);
}

static void content_may_be_added_after_a_sync_and_synced_again(void **state)
{
    (void)state;
    struct fixture f;
    struct mf_pack_member first, second;
    char text[8] = "";
    start(&f);
    struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
    write_member(pack, "abc", 3, 3, &first);
    assert_true(mf_pack_sync(pack, NULL));
    write_member(pack, "defg", 4, 4, &second);
    mf_pack_begin_sync(pack);
    assert_true(mf_pack_sync(pack, NULL));
    mf_pack_keep(pack);
    int fd = mf_blobs_open_pack(f.blobs, mf_pack_name(pack), NULL);
    assert_true(fd >= 0);
    assert_int_equal(pread(fd, text, 4, (off_t)second.offset), 4);
    assert_string_equal(text, "defg");
    close(fd);
    mf_pack_free(pack);
    end(&f);
}

static int count_packs(const struct fixture *f)
{
    char path[192];
    int n = 0;
    snprintf(path, sizeof path, "%s/payloads", f->directory);
    DIR *dir = opendir(path);
    assert_non_null(dir);
    for (const struct dirent *e; (e = readdir(dir));)
        n += e->d_name[0] != '.';
    closedir(dir);
    return n;
}

static void packs_made_ahead_are_several_and_go_with_their_maker(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    struct mf_blobs *more = mf_blobs_open(f.directory, "off", 0, NULL);
    struct mf_pack *taken[4];
    assert_non_null(more);
    mf_blobs_prepare(more);
    int made = count_packs(&f);
    assert_true(made >= 4);
    for (int i = 0; i < 4; i++)
        assert_non_null(taken[i] = mf_pack_new(more, NULL));
    assert_int_equal(count_packs(&f), made); /* those were there */
    for (int i = 0; i < 4; i++)
        mf_pack_free(taken[i]);
    mf_blobs_free(more);
    assert_int_equal(count_packs(&f), 0);
    end(&f);
}

static void names_that_were_not_given_out_reach_no_file(void **state)
{
    (void)state;
    static const char *const names[] = {
        "", ".", "..", "../store.db", "a/b", "00112233445566778899AABBCCDDEEFF"};
    struct fixture f;
    start(&f);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_int_equal(mf_blobs_open_pack(f.blobs, names[i], &err), -1);
        assert_error(&err, MF_ERR_NOT_FOUND, "payload: not a name that was given out");
        assert_false(mf_blobs_delete(f.blobs, names[i], NULL));
    }
    end(&f);
}

static bool keep_first(void *context, const char *const *names, size_t n, bool *ret_used,
                       struct mf_error *err)
{
    (void)err;
    for (size_t i = 0; i < n; i++)
        ret_used[i] = strcmp(names[i], context) == 0;
    return true;
}

/* Makes the only pack of the directory two hours old. */
static void age_pack(const struct fixture *f)
{
    char command[192];
    snprintf(command, sizeof command, "touch -d '2 hours ago' '%s'/payloads/*", f->directory);
    assert_int_equal(system(command), 0);
}

static void the_sweep_leaves_a_pack_made_ahead_to_its_taker(void **state)
{
    (void)state;
    struct fixture f;
    char none[] = "";
    size_t deleted = 0;
    start(&f);
    mf_blobs_prepare(f.blobs);
    age_pack(&f);
    struct mf_pack *taken = mf_pack_new(f.blobs, NULL);
    assert_true(mf_blobs_sweep(f.blobs, 3600, keep_first, none, &deleted, NULL));
    assert_int_equal(deleted, 0);
    mf_pack_free(taken);
    /* One that nobody has taken goes, and is never given out afterwards. */
    mf_blobs_prepare(f.blobs);
    age_pack(&f);
    assert_true(mf_blobs_sweep(f.blobs, 3600, keep_first, none, &deleted, NULL));
    taken = mf_pack_new(f.blobs, NULL);
    int fd = mf_blobs_open_pack(f.blobs, mf_pack_name(taken), NULL);
    assert_true(fd >= 0);
    close(fd);
    mf_pack_free(taken);
    end(&f);
}

static void the_sweep_takes_what_is_old_and_unused(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    char used[MF_BLOB_NAME] = "", path[192];
    for (int i = 0; i < 300; i++) { /* more than one question's worth */
        struct mf_pack *pack = mf_pack_new(f.blobs, NULL);
        mf_pack_keep(pack);
        if (i == 0)
            memcpy(used, mf_pack_name(pack), sizeof used);
        mf_pack_free(pack);
    }
    snprintf(path, sizeof path, "%s/payloads/README", f.directory);
    close(open(path, O_CREAT | O_WRONLY, 0600)); /* not ours: stays */
    size_t deleted = 0;
    assert_true(mf_blobs_sweep(f.blobs, 3600, keep_first, used, &deleted, NULL));
    assert_int_equal(deleted, 0);
    assert_true(mf_blobs_sweep(f.blobs, 0, keep_first, used, &deleted, NULL));
    assert_int_equal(deleted, 299);
    int fd = mf_blobs_open_pack(f.blobs, used, NULL);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(access(path, F_OK), 0);
    end(&f);
}

static void no_room_is_said_before_anything_is_written(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_blobs_have_room(f.blobs, 1000, NULL));
    assert_false(mf_blobs_have_room(f.blobs, UINT64_MAX / 2, &err));
    assert_int_equal(err.code, MF_ERR_UNAVAILABLE);
    end(&f);
}

static void a_file_that_cannot_be_synced_does_not_spoil_its_neighbours(void **state)
{
    (void)state;
    struct fixture f;
    start(&f);
    char path[128];
    int ends[2];
    snprintf(path, sizeof path, "%s/file", f.directory);
    assert_int_equal(pipe(ends), 0);
    struct mf_sync good = {.fd = open(path, O_CREAT | O_RDWR, 0600)}, bad = {.fd = ends[0]};
    struct mf_syncer *syncer = mf_syncer_new(2, NULL);
    for (int i = 0; i < 20; i++) {
        assert_true(mf_syncer_begin(syncer, &good));
        assert_true(mf_syncer_begin(syncer, &bad));
        assert_false(mf_syncer_wait(syncer, &bad));
        assert_int_equal(bad.error, EINVAL); /* a pipe has nothing to sync */
        assert_true(mf_syncer_wait(syncer, &good));
    }
    mf_syncer_free(syncer);
    close(ends[0]);
    close(ends[1]);
    close(good.fd);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(members_come_back_whole_with_their_digests),
        cmocka_unit_test(members_may_be_hashed_later),
        cmocka_unit_test(what_is_flushed_can_be_read_before_it_is_durable),
        cmocka_unit_test(digests_made_apart_are_those_of_the_members),
        cmocka_unit_test(a_pack_that_is_not_kept_is_gone),
        cmocka_unit_test(a_pack_made_ahead_is_taken_once),
        cmocka_unit_test(content_may_be_added_after_a_sync_and_synced_again),
        cmocka_unit_test(packs_made_ahead_are_several_and_go_with_their_maker),
        cmocka_unit_test(names_that_were_not_given_out_reach_no_file),
        cmocka_unit_test(the_sweep_leaves_a_pack_made_ahead_to_its_taker),
        cmocka_unit_test(the_sweep_takes_what_is_old_and_unused),
        cmocka_unit_test(no_room_is_said_before_anything_is_written),
        cmocka_unit_test(a_file_that_cannot_be_synced_does_not_spoil_its_neighbours),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
