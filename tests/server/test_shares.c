/* server/shares.c: reading jobs.shares. */
#include "server/shares.h"

#include "tests/expect.h"

static void a_share_is_what_a_job_costs_less(void **state)
{
    (void)state;
    struct mf_shares shares;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(mf_shares_parse("  north=4 south.hospital=1000 ", &shares, &err));
    assert_int_equal(shares.count, 2);
    const int64_t one = mf_shares_cost(&shares, "default");
    assert_int_equal(mf_shares_cost(&shares, "north"), one / 4);
    assert_int_equal(mf_shares_cost(&shares, "south.hospital"), one / 1000);
    assert_int_equal(mf_shares_cost(&shares, "nort"), one);
}

static void none_means_that_all_are_equal(void **state)
{
    (void)state;
    static const char *const none[] = {NULL, "off", "", "  "};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        struct mf_shares shares;
        struct mf_error err = MF_ERROR_INIT;
        assert_true(mf_shares_parse(none[i], &shares, &err));
        assert_int_equal(shares.count, 0);
    }
}

static void mistakes_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"north", "\"north\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=", "\"north=\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"=3", "\"=3\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"a=1 north=0", "\"north=0\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=1001", "\"north=1001\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=-1", "\"north=-1\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=1.5", "\"north=1.5\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=00001", "\"north=00001\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"North=2", "\"North=2\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"-n=2", "\"-n=2\" is not TENANT=SHARE with a share from 1 to 1000"},
        {"north=2 south=1 north=3", "\"north\" is there twice"},
        {"a-tenant-whose-name-is-longer-than-any-tenant-may-have-as-a-name-0=2",
         "\"a-tenant-whose-name-is-longer-than-any-tenant-may-have-as-a-name-0=2\" is not "
         "TENANT=SHARE with a share from 1 to 1000"},
        {"what-is-longer-than-a-line-is-cut-so-that-the-message-stays-one-line-"
         "012345678901234567890=1",
         "\"what-is-longer-than-a-line-is-cut-so-that-the-message-stays-one-line-"
         "01234567890\" is not TENANT=SHARE with a share from 1 to 1000"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_shares shares;
        struct mf_error err = MF_ERROR_INIT;
        char expected[sizeof err.msg];
        assert_false(mf_shares_parse(cases[i].text, &shares, &err));
        snprintf(expected, sizeof expected, "jobs.shares: %s", cases[i].message);
        assert_error(&err, MF_ERR_USAGE, expected);
    }
}

static void there_is_room_for_so_many(void **state)
{
    (void)state;
    char text[16 * (MF_SHARES + 1)] = "";
    size_t used = 0;
    struct mf_shares shares;
    struct mf_error err = MF_ERROR_INIT;
    for (int i = 0; i <= MF_SHARES; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "t%d=2 ", i);
    assert_false(mf_shares_parse(text, &shares, &err));
    assert_error(&err, MF_ERR_USAGE, "jobs.shares: more than 256 tenants");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(a_share_is_what_a_job_costs_less),
                                       cmocka_unit_test(none_means_that_all_are_equal),
                                       cmocka_unit_test(mistakes_are_named),
                                       cmocka_unit_test(there_is_room_for_so_many)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
