/* server/webhooks.c: the file of webhooks and their signatures. */
#include "tests/expect.h"

#include "server/webhooks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct files {
    char directory[64], list[128], secret[128];
};

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void make(struct files *f, const char *secret, const char *list)
{
    char text[1024];
    snprintf(f->directory, sizeof f->directory, "/tmp/medfusion-test-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    snprintf(f->list, sizeof f->list, "%s/webhooks.json", f->directory);
    snprintf(f->secret, sizeof f->secret, "%s/secret", f->directory);
    write_text(f->secret, secret);
    const char *at = strchr(list, '$'); /* stands for the file of secrets */
    if (at)
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - list), list, f->secret, at + 1);
    else
        snprintf(text, sizeof text, "%s", list);
    write_text(f->list, text);
}

static void discard(const struct files *f)
{
    unlink(f->list);
    unlink(f->secret);
    rmdir(f->directory);
}

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
#define HOOK "{\"ris\": {\"url\": \"https://ris.example/hooks\", \"secret_file\": \"$\"}}"

/* The example of the Standard Webhooks specification's reference implementations. */
static void test_a_signature_is_the_standards(void **state)
{
    struct files f;
    struct mf_error err = MF_ERROR_INIT;
    char signature[MF_WEBHOOK_SIGNATURE];
    (void)state;
    make(&f, SECRET "\n", HOOK);
    MF_AUTO(mf_webhooks) struct mf_webhooks *list = mf_webhooks_load(f.list, &err);
    if (!list)
        fail_msg("%s", err.msg);
    const struct mf_webhook *hook = mf_webhooks_find(list, "ris");
    assert_non_null(hook);
    assert_null(mf_webhooks_find(list, "ri"));
    assert_string_equal(hook->url, "https://ris.example/hooks");
    assert_null(hook->ca_file);
    assert_true(mf_webhook_sign(hook, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330,
                                "{\"test\": 2432232314}", signature, &err));
    assert_string_equal(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    discard(&f);
}

static void test_every_secret_signs(void **state)
{
    struct files f;
    char signature[MF_WEBHOOK_SIGNATURE], alone[MF_WEBHOOK_SIGNATURE];
    (void)state;
    make(&f, SECRET "\r\n\n" OTHER, HOOK);
    MF_AUTO(mf_webhooks) struct mf_webhooks *list = mf_webhooks_load(f.list, NULL);
    assert_non_null(list);
    const struct mf_webhook *hook = mf_webhooks_find(list, "ris");
    assert_int_equal(hook->secret_count, 2);
    assert_int_equal(hook->secrets[0].len, 24);
    assert_int_equal(hook->secrets[1].len, 32);
    assert_int_equal(hook->secrets[1].bytes[31], 31);
    assert_true(mf_webhook_sign(hook, "a", 1, "b", signature, NULL));
    struct mf_webhook second = *hook;
    second.secrets[0] = hook->secrets[1];
    second.secret_count = 1;
    assert_true(mf_webhook_sign(&second, "a", 1, "b", alone, NULL));
    char *space = strchr(signature, ' ');
    assert_non_null(space);
    assert_string_equal(space + 1, alone);
    assert_string_not_equal(signature, alone);
    discard(&f);
}

static void test_off_is_an_empty_list(void **state)
{
    (void)state;
    MF_AUTO(mf_webhooks) struct mf_webhooks *list = mf_webhooks_load("off", NULL);
    assert_non_null(list);
    assert_null(mf_webhooks_find(list, "ris"));
}

static const struct {
    const char *secret, *list, *expected; /* what follows the file's name */
} WRONG[] = {
    {SECRET, "[]", ": must be an object of at most 64 webhooks"},
    {SECRET, "{\"a\": 1}", ": webhook \"a\": must be an object"},
    {SECRET, "{\"a/b\": {}}", ": webhook \"a/b\": a webhook's name has no space, /, :, @ or ="},
    {SECRET, "{\"a\": {}}", ": webhook \"a\": \"url\" must be a string"},
    {SECRET, "{\"a\": {\"url\": \"http://ris.example/\", \"secret_file\": \"$\"}}",
     ": webhook \"a\": \"url\" must be https beyond this machine"},
    {SECRET, "{\"a\": {\"url\": \"http://localhost.ris.example/\", \"secret_file\": \"$\"}}",
     ": webhook \"a\": \"url\" must be https beyond this machine"},
    {SECRET, "{\"a\": {\"url\": \"https://u@ris.example/\", \"secret_file\": \"$\"}}",
     ": webhook \"a\": \"url\" must be an http or https URL without user, query or fragment"},
    {SECRET, "{\"a\": {\"url\": \"https://ris.example/\"}}",
     ": webhook \"a\": \"secret_file\" must be a string"},
    {SECRET, "{\"a\": {\"url\": \"https://ris.example/\", \"secret_file\": \"$\", \"x\": 1}}",
     ": webhook \"a\": webhook: unknown key \"x\""},
#define SECRETS                                                                                    \
    ": webhook \"ris\": \"secret_file\" must hold 1 to 4 lines of \"whsec_\" and 24 to 64 bytes "  \
    "as base64"
    {"", HOOK, SECRETS},
    {"MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", HOOK, SECRETS},
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS", HOOK, SECRETS},
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa==", HOOK, SECRETS},
    {"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa.w", HOOK, SECRETS},
    {"whsec_", HOOK, SECRETS},
    {SECRET "\n" SECRET "\n" SECRET "\n" SECRET "\n" SECRET, HOOK, SECRETS},
};

static void test_a_wrong_file_is_named(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof WRONG / sizeof *WRONG; i++) {
        struct files f;
        struct mf_error err = MF_ERROR_INIT;
        make(&f, WRONG[i].secret, WRONG[i].list);
        MF_AUTO(mf_webhooks) struct mf_webhooks *list = mf_webhooks_load(f.list, &err);
        assert_null(list);
        assert_int_equal(err.code, MF_ERR_USAGE);
        assert_memory_equal(err.msg, f.list, strlen(f.list));
        assert_string_equal(err.msg + strlen(f.list), WRONG[i].expected);
        discard(&f);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_signature_is_the_standards),
        cmocka_unit_test(test_every_secret_signs),
        cmocka_unit_test(test_off_is_an_empty_list),
        cmocka_unit_test(test_a_wrong_file_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
