/* server/mllp.c: addresses. The protocol is tested over real connections in
 * tests/integration/test_push.py. */
#include "server/mllp.h"

#include "tests/expect.h"

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *address, *host, *port, *application, *facility;
    } good[] = {
        {"mllp://ris:2575", "ris", "2575", "", ""},
        {"mllp://ris.example.org:2575/RIS", "ris.example.org", "2575", "RIS", ""},
        {"mllp://10.0.0.1:1/RIS/NORTH", "10.0.0.1", "1", "RIS", "NORTH"},
        {"mllp://[::1]:2575/RIS/NORTH", "::1", "2575", "RIS", "NORTH"},
        {"mllp://ris:2575/", "ris", "2575", "", ""},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct mf_mllp_peer p;
        assert_true(mf_mllp_address(good[i].address, &p));
        assert_string_equal(p.host, good[i].host);
        assert_string_equal(p.port, good[i].port);
        assert_string_equal(p.application, good[i].application);
        assert_string_equal(p.facility, good[i].facility);
    }
    static const char *const bad[] = {
        "",
        "mllp://",
        "mllp://:2575",
        "mllp://ris",
        "mllp://ris:",
        "mllp://ris:port",
        "mllp://ris:257512",
        "mllp://[::1:2575",
        "http://x:1",
        "mllp://ris:1/a/b/c",
        "mllp://ris:2575?x=1",
        "dicom://AE@ris:104",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mf_mllp_peer p;
        if (mf_mllp_address(bad[i], &p))
            fail_msg("%s was taken", bad[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
