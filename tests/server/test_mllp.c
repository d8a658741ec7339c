/* server/mllp.c: addresses, acknowledgements. The protocol is tested over real connections in
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

static void acknowledgements(void **state)
{
    (void)state;
    static const char NONE[] = "the receiver's answer is not an HL7 acknowledgement";
    static const char OTHER[] = "the receiver acknowledged another message";
    static const struct {
        const char *answer;
        enum mf_code code;
        const char *msg;
    } ROWS[] = {
        {"MSH|^~\\&|RIS\rMSA|AA|7", MF_OK, ""},
        {"\x0BMSH|^~\\&|RIS\rMSA|CA|7|fine\r", MF_OK, ""},
        {"MSH$^~\\&$RIS\rSFT$x\rMSA$AA$7\r", MF_OK, ""},
        {"MSH|^~\\&\rMSA|AE|7\r", MF_ERR_UNUSABLE, "the receiver answered AE"},
        {"MSH|^~\\&\rMSA|CR|7\r", MF_ERR_UNUSABLE, "the receiver answered CR"},
        {"MSH|^~\\&\rMSA|AA|70\r", MF_ERR_UNAVAILABLE, OTHER},
        {"MSH|^~\\&\rMSA|AA\r7|7\r", MF_ERR_UNAVAILABLE, OTHER},
        {"MSH|^~\\&\rMSA|AA", MF_ERR_UNAVAILABLE, OTHER},
        {"MSH|^~\\&\rMSA|AX|7\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH|^~\\&\rMSA|A|7\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH|^~\\&\rMSA|BA|7\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH|^~\\&\rMSA$AA$7\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH|^~\\&\rMSA", MF_ERR_UNAVAILABLE, NONE},
        {"MSH|^~\\&\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH\rMSA\rAA\r7\r", MF_ERR_UNAVAILABLE, NONE},
        {"MSH", MF_ERR_UNAVAILABLE, NONE},
        {"\x0B", MF_ERR_UNAVAILABLE, NONE},
        {"", MF_ERR_UNAVAILABLE, NONE},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        bool ok = mf_mllp_accepted(ROWS[i].answer, "7", &err);
        if (ok != (ROWS[i].code == MF_OK))
            fail_msg("%s", ROWS[i].answer);
        assert_int_equal(err.code, ROWS[i].code);
        assert_string_equal(err.msg, ROWS[i].msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses),
                                       cmocka_unit_test(acknowledgements)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
