/* server/audit_message.c, syslog_client.c: rows as DICOM audit messages, addresses of collectors.
 */
#include "tests/expect.h"

#include "server/audit_message.h"
#include "server/syslog_client.h"

static void make(const struct mf_audit_row *row, struct mf_buffer *out)
{
    struct mf_error err = MF_ERROR_INIT;
    mf_buffer_init(out, 1 << 16);
    if (!mf_audit_message(row, "gateway", out, &err))
        fail_msg("%s", err.msg);
}

static void test_a_request_names_who_asked_for_what(void **state)
{
    const struct mf_audit_row row = {.seq = 7,
                                     .time_ms = 1700000000123,
                                     .tenant = "north",
                                     .actor = "client:\"M\xc3\xbcller\" <a&b>",
                                     .job = "00112233445566778899aabbccddeeff",
                                     .event = "request",
                                     .detail = "GET /v1/jobs/1?x=%20y 404"};
    struct mf_buffer m;
    (void)state;
    make(&row, &m);
    assert_string_equal(
        m.data,
        "<84>1 2023-11-14T22:13:20.123Z gateway medfusion - DICOM+RFC3881 - "
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><AuditMessage>"
        "<EventIdentification EventActionCode=\"R\" EventDateTime=\"2023-11-14T22:13:20.123Z\" "
        "EventOutcomeIndicator=\"4\"><EventID csd-code=\"110110\" codeSystemName=\"DCM\" "
        "originalText=\"Patient Record\"/><EventTypeCode csd-code=\"request\" "
        "codeSystemName=\"99MEDFUSION\" originalText=\"request\"/></EventIdentification>"
        "<ActiveParticipant UserID=\"client:&#34;M%C3%BCller&#34; &#60;a&#38;b&#62;\" "
        "UserIsRequestor=\"true\"/>"
        "<ActiveParticipant UserID=\"medfusion\" UserIsRequestor=\"false\" "
        "NetworkAccessPointID=\"gateway\" NetworkAccessPointTypeCode=\"1\"><RoleIDCode "
        "csd-code=\"110150\" codeSystemName=\"DCM\" originalText=\"Application\"/>"
        "</ActiveParticipant>"
        "<AuditSourceIdentification AuditEnterpriseSiteID=\"north\" "
        "AuditSourceID=\"medfusion@gateway\"><AuditSourceTypeCode csd-code=\"4\"/>"
        "</AuditSourceIdentification>"
        "<ParticipantObjectIdentification "
        "ParticipantObjectID=\"/v1/jobs/00112233445566778899aabbccddeeff\" "
        "ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"20\">"
        "<ParticipantObjectIDTypeCode csd-code=\"12\" codeSystemName=\"RFC-3881\" "
        "originalText=\"URI\"/><ParticipantObjectName>job</ParticipantObjectName>"
        "</ParticipantObjectIdentification>"
        "<ParticipantObjectIdentification ParticipantObjectID=\"/v1/jobs/1?x=%20y\" "
        "ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"25\">"
        "<ParticipantObjectIDTypeCode csd-code=\"12\" codeSystemName=\"RFC-3881\" "
        "originalText=\"URI\"/><ParticipantObjectName>path</ParticipantObjectName>"
        "</ParticipantObjectIdentification>"
        "<ParticipantObjectIdentification ParticipantObjectID=\"urn:medfusion:audit:7\" "
        "ParticipantObjectTypeCode=\"2\" ParticipantObjectTypeCodeRole=\"13\">"
        "<ParticipantObjectIDTypeCode csd-code=\"12\" codeSystemName=\"RFC-3881\" "
        "originalText=\"URI\"/><ParticipantObjectName>row of the trail</ParticipantObjectName>"
        "<ParticipantObjectDetail type=\"hash\" "
        "value=\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\"/>"
        "<ParticipantObjectDetail type=\"detail\" "
        "value=\"R0VUIC92MS9qb2JzLzE/eD0lMjB5IDQwNA==\"/></ParticipantObjectIdentification>"
        "</AuditMessage>");
    mf_buffer_free(&m);
}

static const struct {
    const char *event, *detail;
    const char *code, *action, *outcome;
} EVENTS[] = {
    {"job.submitted", NULL, "110111", "C", "0"},
    {"job.failed", "internal", "110111", "U", "8"},
    {"job.purged", NULL, "110111", "D", "0"},
    {"instances.stored", "1 of 1 by AE", "110104", "C", "0"},
    {"result.delivered", NULL, "110106", "R", "0"},
    {"result.not_delivered", NULL, "110106", "R", "8"},
    {"delivery.retried", "webhook:ris", "110106", "E", "0"},
    {"delivery.dropped", "webhook:ris", "110106", "D", "0"},
    {"audit.purged", "3:00", "110101", "D", "0"},
    {"something.new", NULL, "110100", "E", "0"},
    {"request", "GET /dicom-web/studies 200", "110112", "E", "0"},
    {"request", "GET /dicom-web/studies/1.2/series 200", "110112", "E", "0"},
    {"request", "GET /dicom-web/studies/1.2 200", "110103", "R", "0"},
    {"request", "POST /dicom-web/studies 409", "110104", "C", "4"},
    {"request", "PUT /v1/jobs/x/feedback 204", "110110", "U", "0"},
    {"request", "HEAD /v1/jobs/x 200", "110110", "R", "0"},
    {"request", "DELETE /v1/jobs/x 503", "110110", "D", "8"},
    {"request", "nothing", "110100", "E", "0"},
    {"request", NULL, "110100", "E", "0"},
    {"job.failed", "GET / 200", "110111", "U", "8"}, /* a detail that looks like a request */
};

static void test_every_row_is_an_event(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof EVENTS / sizeof *EVENTS; i++) {
        const struct mf_audit_row row = {.seq = 1,
                                         .tenant = "",
                                         .job = "",
                                         .event = EVENTS[i].event,
                                         .detail = EVENTS[i].detail};
        struct mf_buffer m;
        char expected[128];
        make(&row, &m);
        snprintf(expected, sizeof expected, "EventActionCode=\"%s\"", EVENTS[i].action);
        assert_non_null(strstr(m.data, expected));
        snprintf(expected, sizeof expected, "EventOutcomeIndicator=\"%s\"><EventID csd-code=\"%s\"",
                 EVENTS[i].outcome, EVENTS[i].code);
        if (!strstr(m.data, expected))
            fail_msg("%s %s: %s", EVENTS[i].event, EVENTS[i].detail ? EVENTS[i].detail : "",
                     m.data);
        assert_memory_equal(m.data, EVENTS[i].outcome[0] == '0' ? "<85>1 " : "<84>1 ", 6);
        assert_non_null(strstr(m.data, "UserID=\"medfusion\" UserIsRequestor=\"true\""));
        assert_null(strstr(m.data, "AuditEnterpriseSiteID"));
        mf_buffer_free(&m);
    }
}

static const struct {
    const char *address, *expected; /* NULL = right */
} ADDRESSES[] = {
    {"tls://audit.example:6514", NULL},
    {"tls://[2001:db8::1]:6514", NULL},
    {"tcp://127.0.0.1:601", NULL},
    {"tcp://[::1]:601", NULL},
    {"tcp://audit.example:601", "audit.syslog: tcp:// is for this machine only"},
    {"tcp://127.0.0.1.example:601", "audit.syslog: tcp:// is for this machine only"},
    {"udp://127.0.0.1:514",
     "audit.syslog: \"udp://127.0.0.1:514\" is no tls://host:port or tcp://host:port"},
    {"tls://audit.example", "audit.syslog: \"tls://audit.example\" is no tls://host:port or "
                            "tcp://host:port"},
    {"tls://:6514", "audit.syslog: \"tls://:6514\" is no tls://host:port or tcp://host:port"},
    {"tls://a:6514/x", "audit.syslog: \"tls://a:6514/x\" is no tls://host:port or tcp://host:port"},
    {"tls://u@a:6514", "audit.syslog: \"tls://u@a:6514\" is no tls://host:port or tcp://host:port"},
    {"", "audit.syslog: \"\" is no tls://host:port or tcp://host:port"},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof ADDRESSES / sizeof *ADDRESSES; i++) {
        struct mf_error err = MF_ERROR_INIT;
        bool ok = mf_syslog_check(ADDRESSES[i].address, &err);
        assert_int_equal(ok, ADDRESSES[i].expected == NULL);
        if (!ok)
            assert_error(&err, MF_ERR_USAGE, ADDRESSES[i].expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_request_names_who_asked_for_what),
        cmocka_unit_test(test_every_row_is_an_event),
        cmocka_unit_test(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
