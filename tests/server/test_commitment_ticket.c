/* server/commitment_ticket.c: UIDs that name a delivery, and nobody can make up. */
#include "server/commitment_ticket.h"

#include "dicom/instance.h"
#include "tests/expect.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static void a_ticket_names_its_delivery(void **state)
{
    (void)state;
    static const struct {
        int64_t delivery;
        size_t objects;
    } cases[] = {{1, 0}, {7, 3}, {INT64_C(0xFFFFFFFFFFFF), MF_TICKET_MAX_OBJECTS}};
    unsigned char key[MF_TICKET_KEY] = {1, 2, 3}, other[MF_TICKET_KEY] = {1, 2, 4};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char uid[MF_TICKET_UID];
        int64_t delivery = 0;
        size_t objects = 0;
        struct mf_error err = MF_ERROR_INIT;
        assert_true(mf_ticket_make(key, cases[i].delivery, cases[i].objects, uid, &err));
        assert_true(mf_uid_valid(uid));
        assert_true(mf_ticket_read(key, uid, &delivery, &objects));
        assert_int_equal(delivery, cases[i].delivery);
        assert_int_equal(objects, cases[i].objects);
        assert_false(mf_ticket_read(other, uid, &delivery, &objects));
        for (size_t k = strlen("2.25."); uid[k]; k++) { /* no digit may change */
            char kept = uid[k];
            uid[k] = (char)(kept == '9' ? '0' : kept + 1);
            assert_false(mf_ticket_read(key, uid, &delivery, &objects));
            uid[k] = kept;
        }
    }
}

static void what_is_no_ticket(void **state)
{
    (void)state;
    static const char *const uids[] = {"",
                                       "2.25",
                                       "2.25.",
                                       "2.25.0",
                                       "1.2.3",
                                       "2.25.1.2",
                                       "2.25.340282366920938463463374607431768211456",
                                       "2.25.99999999999999999999999999999999999999999999"};
    unsigned char key[MF_TICKET_KEY] = {0};
    char uid[MF_TICKET_UID];
    int64_t delivery;
    size_t objects;
    struct mf_error err = MF_ERROR_INIT;
    for (size_t i = 0; i < sizeof uids / sizeof *uids; i++)
        assert_false(mf_ticket_read(key, uids[i], &delivery, &objects));
    assert_false(mf_ticket_make(key, 0, 1, uid, &err));
    assert_error(&err, MF_ERR_INTERNAL, "a delivery has no transaction UID");
    assert_false(mf_ticket_make(key, INT64_C(1) << 48, 1, uid, NULL));
    assert_false(mf_ticket_make(key, 1, MF_TICKET_MAX_OBJECTS + 1, uid, NULL));
}

static void the_key_is_made_once(void **state)
{
    (void)state;
    char directory[] = "/tmp/test_ticket.XXXXXX", path[64];
    unsigned char first[MF_TICKET_KEY], second[MF_TICKET_KEY];
    struct mf_error err = MF_ERROR_INIT;
    struct stat status;
    assert_non_null(mkdtemp(directory));
    assert_true(mf_ticket_key(directory, first, &err));
    assert_true(mf_ticket_key(directory, second, &err));
    assert_memory_equal(first, second, sizeof first);
    snprintf(path, sizeof path, "%s/commitment.key", directory);
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 0777, 0600);
    assert_int_equal(truncate(path, 5), 0);
    assert_false(mf_ticket_key(directory, first, &err));
    assert_int_equal(err.code, MF_ERR_IO);
    unlink(path);
    rmdir(directory);
    assert_false(mf_ticket_key("/nowhere/at/all", first, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_ticket_names_its_delivery),
                                       cmocka_unit_test(what_is_no_ticket),
                                       cmocka_unit_test(the_key_is_made_once)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
