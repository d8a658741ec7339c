/* server/web_client.c: where requests may go. */
#include "tests/expect.h"

#include "server/web_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>

static const struct {
    const char *address;
    bool allowed;
} ADDRESSES[] = {
    {"127.0.0.1", true},
    {"10.1.2.3", true},
    {"192.168.1.1", true},
    {"93.184.216.34", true},
    {"169.253.1.1", true},
    {"169.254.169.254", false},
    {"169.254.0.1", false},
    {"0.0.0.0", false},
    {"0.1.2.3", false},
    {"224.0.0.1", false},
    {"239.255.255.250", false},
    {"255.255.255.255", false},
    {"240.0.0.1", false},
    {"::1", true},
    {"2001:db8::1", true},
    {"fd00::1", true},
    {"::", false},
    {"fe80::1", false},
    {"febf::1", false},
    {"ff02::1", false},
    {"::ffff:169.254.169.254", false},
    {"::ffff:10.0.0.1", true},
    {"::ffff:0.0.0.0", false},
    {"::169.254.169.254", false},
    {"::ffff:224.0.0.1", false},
    {"64:ff9b::a9fe:a9fe", false},
    {"64:ff9b::a00:1", true},
};

static void addresses_are_judged_in_every_spelling(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ADDRESSES / sizeof ADDRESSES[0]; i++) {
        struct sockaddr_in v4 = {.sin_family = AF_INET};
        struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};
        bool four = inet_pton(AF_INET, ADDRESSES[i].address, &v4.sin_addr) == 1;
        if (!four)
            assert_int_equal(inet_pton(AF_INET6, ADDRESSES[i].address, &v6.sin6_addr), 1);
        const struct sockaddr *address = four ? (struct sockaddr *)&v4 : (struct sockaddr *)&v6;
        if (mf_web_address_allowed(address) != ADDRESSES[i].allowed)
            fail_msg("%s", ADDRESSES[i].address);
    }
    struct sockaddr local = {.sa_family = AF_UNIX};
    assert_false(mf_web_address_allowed(&local));
}

static void no_connection_is_made_to_others(void **state)
{
    (void)state;
    static const char *const urls[] = {"http://169.254.169.254/latest/meta-data/",
                                       "http://[::ffff:169.254.169.254]/",
                                       "http://0xa9fea9fe/",
                                       "http://2852039166/",
                                       "http://0/",
                                       "http://[fe80::1]/",
                                       "file:///etc/passwd",
                                       "gopher://127.0.0.1/"};
    for (size_t i = 0; i < sizeof urls / sizeof urls[0]; i++) {
        const struct mf_web_request request = {.url = urls[i], .accept = "*/*", .timeout_s = 2};
        struct mf_error err = MF_ERROR_INIT;
        long status = 0;
        assert_false(mf_web_send(&request, &status, &err));
        assert_int_equal(err.code, MF_ERR_IO); /* at once: a time-out would be another */
        assert_int_equal(status, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_judged_in_every_spelling),
        cmocka_unit_test(no_connection_is_made_to_others),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
