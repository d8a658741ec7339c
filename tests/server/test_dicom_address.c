/* server/dicom_address.c: addresses of DICOM peers. */
#include "server/dicom_address.h"

#include "tests/expect.h"

static void addresses(void **state)
{
    (void)state;
    static const struct {
        const char *text, *ae, *host;
        int port;
        bool secure;
    } good[] = {
        {"dicom://PACS@10.0.0.1:104", "PACS", "10.0.0.1", 104, false},
        {"dicoms://PACS@pacs.example.org:2762", "PACS", "pacs.example.org", 2762, true},
        {"dicom://SIXTEEN_LETTERS_@h:1", "SIXTEEN_LETTERS_", "h", 1, false},
        {"dicom://A B@h:65535", "A B", "h", 65535, false},
    };
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct mf_dicom_address a;
        if (!mf_dicom_address_parse(good[i].text, &a))
            fail_msg("%s was not taken", good[i].text);
        assert_string_equal(a.ae, good[i].ae);
        assert_string_equal(a.host, good[i].host);
        assert_int_equal(a.port, good[i].port);
        assert_int_equal(a.secure, good[i].secure);
    }
    static const char *const bad[] = {"",
                                      "dicom://",
                                      "dicom://PACS",
                                      "dicom://PACS@h",
                                      "dicom://PACS@:104",
                                      "dicom://@h:104",
                                      "dicom://PACS@h:0",
                                      "dicom://PACS@h:65536",
                                      "dicom://PACS@h:104x",
                                      "dicom://SEVENTEEN_LETTERS@h:104",
                                      "dicomx://PACS@h:104",
                                      "http://PACS@h:104"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct mf_dicom_address a;
        if (mf_dicom_address_parse(bad[i], &a))
            fail_msg("%s was taken", bad[i]);
    }
}

static void addresses_with_a_flag(void **state)
{
    (void)state;
    struct mf_dicom_address a;
    bool flag = true;
    assert_true(mf_dicom_address_parse_with("dicom://A@h:1", "commit", &a, &flag));
    assert_false(flag);
    assert_true(mf_dicom_address_parse_with("dicoms://A@h:1?commit", "commit", &a, &flag));
    assert_true(flag && a.secure);
    assert_int_equal(a.port, 1);
    assert_false(mf_dicom_address_parse_with("dicom://A@h:1?move", "commit", &a, &flag));
    assert_false(mf_dicom_address_parse_with("dicom://A@h:1?", "commit", &a, &flag));
    assert_false(mf_dicom_address_parse_with("dicom://A@h?commit", "commit", &a, &flag));
}

static void a_peer_has_our_files_only_with_tls(void **state)
{
    (void)state;
    struct mf_config config = {.dimse = {.ae_title = "MEDFUSION",
                                         .tls_certificate = "c.pem",
                                         .tls_key = "off",
                                         .tls_ca = "off"}};
    struct mf_dicom_address a;
    assert_true(mf_dicom_address_parse("dicom://PACS@h:104", &a));
    assert_true(mf_dicom_address_usable(&a, &config));
    struct mf_net_peer peer = mf_dicom_address_peer(&a, &config, 7);
    assert_false(peer.secure);
    assert_null(peer.tls.certificate);
    assert_string_equal(peer.called, "PACS");
    assert_string_equal(peer.calling, "MEDFUSION");
    assert_int_equal(peer.timeout_s, 7);
    assert_true(mf_dicom_address_parse("dicoms://PACS@h:104", &a));
    assert_false(mf_dicom_address_usable(&a, &config));
    config.dimse.tls_ca = "ca.pem";
    assert_true(mf_dicom_address_usable(&a, &config));
    peer = mf_dicom_address_peer(&a, &config, 7);
    assert_true(peer.secure);
    assert_string_equal(peer.tls.certificate, "c.pem");
    assert_string_equal(peer.tls.ca, "ca.pem");
    assert_null(peer.tls.key);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(addresses),
                                       cmocka_unit_test(addresses_with_a_flag),
                                       cmocka_unit_test(a_peer_has_our_files_only_with_tls)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
