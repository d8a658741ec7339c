/* server/sigv4.c: against the examples of the Amazon S3 API reference ("Authenticating Requests:
 * Using the Authorization Header"), whose keys are AWS's own for examples. */
#include "server/sigv4.h"

#include "tests/expect.h"

#define EMPTY "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define HOST "host:examplebucket.s3.amazonaws.com"
#define DATE "x-amz-date:20130524T000000Z"
#define CREDENTIAL                                                                                 \
    "AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request, "

static const struct mf_sigv4_key KEY = {.id = "AKIAIOSFODNN7EXAMPLE",
                                        .secret = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"};

static const struct {
    struct mf_sigv4_request request;
    const char *expected;
} CASES[] = {
    {{.method = "GET",
      .path = "/test.txt",
      .query = "",
      .fields = {HOST, "range:bytes=0-9", "x-amz-content-sha256:" EMPTY, DATE},
      .field_count = 4,
      .payload = EMPTY},
     CREDENTIAL "SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature="
                "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"},
    {{.method = "PUT",
      .path = "/test%24file.text",
      .query = "",
      .fields = {"date:Fri, 24 May 2013 00:00:00 GMT", HOST,
                 "x-amz-content-sha256:"
                 "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
                 DATE, "x-amz-storage-class:REDUCED_REDUNDANCY"},
      .field_count = 5,
      .payload = "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
     CREDENTIAL "SignedHeaders=date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class, "
                "Signature=98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd"},
    {{.method = "GET",
      .path = "/",
      .query = "lifecycle=",
      .fields = {HOST, "x-amz-content-sha256:" EMPTY, DATE},
      .field_count = 3,
      .payload = EMPTY},
     CREDENTIAL "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
                "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543"},
    {{.method = "GET",
      .path = "/",
      .query = "max-keys=2&prefix=J",
      .fields = {HOST, "x-amz-content-sha256:" EMPTY, DATE},
      .field_count = 3,
      .payload = EMPTY},
     CREDENTIAL "SignedHeaders=host;x-amz-content-sha256;x-amz-date, Signature="
                "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7"},
};

static void the_examples_of_the_reference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        struct mf_sigv4_request r = CASES[i].request;
        struct mf_error err = MF_ERROR_INIT;
        char text[MF_SIGV4_TEXT];
        r.region = "us-east-1";
        r.service = "s3";
        r.time = "20130524T000000Z";
        assert_true(mf_sigv4_authorization(&r, &KEY, text, &err));
        assert_string_equal(text, CASES[i].expected);
    }
}

static void times_are_without_fractions(void **state)
{
    (void)state;
    char text[MF_SIGV4_TIME];
    assert_string_equal(mf_sigv4_time(1369353600999, text), "20130524T000000Z");
    assert_string_equal(mf_sigv4_time(1795381199001, text), "20261122T205959Z");
}

static void what_is_too_large_is_refused(void **state)
{
    (void)state;
    char region[200], text[MF_SIGV4_TEXT];
    struct mf_error err = MF_ERROR_INIT;
    struct mf_sigv4_request r = CASES[0].request;
    memset(region, 'x', sizeof region - 1);
    region[sizeof region - 1] = '\0';
    r.region = region;
    r.service = "s3";
    r.time = "20130524T000000Z";
    assert_false(mf_sigv4_authorization(&r, &KEY, text, &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "a request is too large to be signed");
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_examples_of_the_reference),
                                       cmocka_unit_test(times_are_without_fractions),
                                       cmocka_unit_test(what_is_too_large_is_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
