/* server/s3_settings.c: addresses of buckets, and credentials. */
#include "server/s3_settings.h"

#include "tests/expect.h"

#include <unistd.h>

static void addresses_are_taken_apart(void **state)
{
    (void)state;
    static const struct {
        const char *text, *url, *host, *bucket, *prefix;
    } cases[] = {
        {"https://s3.eu.example.org/scans", "https://s3.eu.example.org", "s3.eu.example.org",
         "/scans", ""},
        {"https://s3:9000/scans/", "https://s3:9000", "s3:9000", "/scans", ""},
        {"http://127.0.0.1:9000/a/b.c/d-e_f", "http://127.0.0.1:9000", "127.0.0.1:9000", "/a",
         "b.c/d-e_f/"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_s3_place place;
        struct mf_error err = MF_ERROR_INIT;
        assert_true(mf_s3_place_parse(cases[i].text, &place, &err));
        assert_string_equal(place.url, cases[i].url);
        assert_string_equal(place.host, cases[i].host);
        assert_string_equal(place.bucket, cases[i].bucket);
        assert_string_equal(place.prefix, cases[i].prefix);
    }
}

static void other_addresses_are_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "/",
                                        "s3",
                                        "s3://scans",
                                        "https://host",
                                        "https://host/",
                                        "https://host//scans",
                                        "https://host/a/../b",
                                        "https://host/a/./b",
                                        "https://host/a b",
                                        "https://host/a?b",
                                        "https://host/a%20b",
                                        "https://user:secret@host/a",
                                        "http://elsewhere/scans"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct mf_s3_place place;
        struct mf_error err = MF_ERROR_INIT;
        char expected[300];
        assert_false(mf_s3_place_parse(wrong[i], &place, &err));
        snprintf(expected, sizeof expected,
                 "payloads.s3: \"%s\" is not https://host/bucket or https://host/bucket/prefix of "
                 "letters, digits, '-', '.' and '_' (http on this machine only)",
                 wrong[i]);
        assert_error(&err, MF_ERR_USAGE, expected);
    }
    char longest[2000];
    struct mf_s3_place place;
    struct mf_error err = MF_ERROR_INIT;
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    memcpy(longest, "https://host/", 13);
    assert_false(mf_s3_place_parse(longest, &place, &err));
}

/* Reads a credentials file with this text. */
static bool read_text(const char *text, struct mf_sigv4_key *key, struct mf_error *err)
{
    char path[] = "/tmp/medfusion-test-XXXXXX";
    struct mf_config *config = mf_config_new(NULL);
    int fd = mkstemp(path);
    assert_non_null(config);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    config->payloads.s3_credentials = path;
    bool ok = mf_s3_credentials(config, key, err);
    char *name = strstr(err->msg, path);
    if (name) /* the same in every run */
        memcpy(name, "/tmp/credentials-of-the-te", strlen(path));
    unlink(path);
    config->payloads.s3_credentials = "off";
    mf_config_free(config);
    return ok;
}

static void credentials_of_a_file(void **state)
{
    (void)state;
    struct mf_sigv4_key key;
    struct mf_error err = MF_ERROR_INIT;
    assert_true(read_text("# ours\n[other]\naws_access_key_id = WRONG\n[default]\r\n"
                          " aws_access_key_id=AKIA \n\naws_secret_access_key = a/b+c=\n"
                          "region = eu\naws_session_token\t=\ttoken==\n",
                          &key, &err));
    assert_string_equal(key.id, "AKIA");
    assert_string_equal(key.secret, "a/b+c=");
    assert_string_equal(key.token, "token==");
    assert_true(read_text("aws_access_key_id=A\naws_secret_access_key=B", &key, &err));
    assert_string_equal(key.token, "");
}

#define NAMED "payloads.s3_credentials: /tmp/credentials-of-the-te: "

static void wrong_credentials_are_named_without_the_secret(void **state)
{
    (void)state;
    static const char lines[] = NAMED "it is no file of name = value lines";
    static const char lacks[] = NAMED "it has no aws_access_key_id and aws_secret_access_key";
    static const struct {
        const char *text, *message;
    } cases[] = {{"", lacks},
                 {"aws_access_key_id=A\n", lacks},
                 {"aws_secret_access_key=B\n", lacks},
                 {"aws_access_key_id=A\naws_secret_access_key=\n", lacks},
                 {"[other]\naws_access_key_id=A\naws_secret_access_key=B\n", lacks},
                 {"aws_access_key_id=A\x01\naws_secret_access_key=B\n", lacks},
                 {"aws_access_key_id=A B\naws_secret_access_key=B\n", lacks},
                 {"{\"key\": 1}", lines}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_sigv4_key key;
        struct mf_error err = MF_ERROR_INIT;
        assert_false(read_text(cases[i].text, &key, &err));
        assert_error(&err, MF_ERR_USAGE, cases[i].message);
    }
    char longest[600] = "aws_access_key_id=";
    struct mf_sigv4_key key;
    struct mf_error err = MF_ERROR_INIT;
    memset(longest + strlen(longest), 'A', sizeof longest - 1 - strlen(longest));
    longest[sizeof longest - 1] = '\0';
    assert_false(read_text(longest, &key, &err));
    assert_error(&err, MF_ERR_USAGE, lines);
}

static void credentials_of_the_environment(void **state)
{
    (void)state;
    struct mf_config *config = mf_config_new(NULL);
    struct mf_sigv4_key key;
    struct mf_error err = MF_ERROR_INIT;
    assert_non_null(config);
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("AWS_SESSION_TOKEN");
    assert_false(mf_s3_credentials(config, &key, &err));
    assert_error(&err, MF_ERR_USAGE,
                 "payloads.s3 needs payloads.s3_credentials, or AWS_ACCESS_KEY_ID and "
                 "AWS_SECRET_ACCESS_KEY in the environment");
    setenv("AWS_ACCESS_KEY_ID", "AKIA", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "secret", 1);
    mf_error_clear(&err);
    assert_true(mf_s3_credentials(config, &key, &err));
    assert_string_equal(key.id, "AKIA");
    config->payloads.s3_credentials = "/nonexistent/file";
    assert_false(mf_s3_credentials(config, &key, &err));
    assert_error(&err, MF_ERR_USAGE,
                 "payloads.s3_credentials: /nonexistent/file: No such file or directory");
    config->payloads.s3_credentials = "off";
    mf_config_free(config);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_are_taken_apart), cmocka_unit_test(other_addresses_are_refused),
        cmocka_unit_test(credentials_of_a_file),
        cmocka_unit_test(wrong_credentials_are_named_without_the_secret),
        cmocka_unit_test(credentials_of_the_environment)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
