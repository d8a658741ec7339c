/* server/config.c: one table, three sources, wrong keys by name. */
#include "server/config.h"

#include "tests/expect.h"

#include <unistd.h>

static struct mf_config *fresh(void)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_config *config = mf_config_new(&err);
    assert_no_error(&err);
    return config;
}

/* Loads a file with this text. */
static bool load(struct mf_config *config, const char *text, struct mf_error *err)
{
    char path[] = "/tmp/medfusion-config-XXXXXX";
    int fd = mkstemp(path);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
    bool ok = mf_config_load_file(config, path, err);
    unlink(path);
    if (!ok) { /* the random name */
        char *at = strstr(err->msg, path);
        assert_non_null(at);
        memmove(at + 4, at + strlen(path), strlen(at + strlen(path)) + 1);
        memcpy(at, "FILE", 4);
    }
    return ok;
}

static void defaults_are_complete(void **state)
{
    (void)state;
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    assert_string_equal(c->http.listen, "127.0.0.1:8080");
    assert_int_equal(c->jobs.max_crashes, 3);
    assert_int_equal(c->jobs.max_losses, 20);
    assert_int_equal(c->http.max_parts, 10000);
    assert_int_equal(c->models.directories.count, 0);
}

static void the_command_line_wins_over_the_environment_over_the_file(void **state)
{
    (void)state;
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    struct mf_error err = MF_ERROR_INIT;
    assert_true(load(c,
                     "{\"http\":{\"listen\":\"a:1\",\"handlers\":3},"
                     "\"models\":{\"directories\":[\"x\",\"y\"]},\"jobs\":{\"lease_s\":9}}",
                     &err));
    char *environment[] = {"PATH=/bin", "MEDFUSION_HTTP_LISTEN=b:2", "MEDFUSION_JOBS_LEASE_S=8",
                           "MEDFUSION_MODELS_DIRECTORIES=/a:/b:/c", NULL};
    assert_true(mf_config_load_environment(c, environment, &err));
    assert_true(mf_config_set(c, "http.listen", "c:3", &err));
    assert_string_equal(c->http.listen, "c:3");
    assert_int_equal(c->http.handlers, 3);
    assert_int_equal(c->jobs.lease_s, 8);
    assert_int_equal(c->models.directories.count, 3);
    assert_string_equal(c->models.directories.items[2], "/c");
}

static void wrong_files_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"{\"http\":{\"lisen\":\"a:1\"}}", "FILE: unknown key \"http.lisen\""},
        {"{\"web\":{\"port\":1}}", "FILE: unknown key \"web.port\""},
        {"{\"http\":1}", "FILE: \"http\" must be an object"},
        {"[]", "FILE: must hold a JSON object"},
        {"{\"http\":{\"listen\":8080}}", "FILE: \"http.listen\" must be a string"},
        {"{\"http\":{\"listen\":\"\"}}", "FILE: \"http.listen\" must not be empty"},
        {"{\"http\":{\"handlers\":\"8\"}}", "FILE: \"http.handlers\" must be an integer"},
        {"{\"http\":{\"handlers\":1.5}}", "FILE: \"http.handlers\" must be an integer"},
        {"{\"http\":{\"handlers\":0}}", "FILE: \"http.handlers\" must lie between 1 and 256"},
        {"{\"models\":{\"directories\":\"x\"}}",
         "FILE: \"models.directories\" must be an array of at most 256 strings"},
        {"{\"models\":{\"directories\":[1]}}",
         "FILE: \"models.directories\" must be an array of strings"},
        {"{\"http\":{},\"http\":{}}",
         "FILE: a JSON object has the same key twice (line 1, column 17)"},
        {"{", "FILE: not valid JSON (line 1, column 1)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        MF_AUTO(mf_config) struct mf_config *c = fresh();
        struct mf_error err = MF_ERROR_INIT;
        assert_false(load(c, cases[i].text, &err));
        assert_error(&err, MF_ERR_USAGE, cases[i].message);
    }
}

static void a_list_has_so_many_entries(void **state)
{
    (void)state;
    char text[4096], colons[1024] = "a";
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    struct mf_error err = MF_ERROR_INIT;
    for (int count = 256; count <= 257; count++) {
        size_t used = (size_t)snprintf(text, sizeof text, "{\"models\":{\"directories\":[\"a\"");
        for (int i = 1; i < count; i++) {
            used += (size_t)snprintf(text + used, sizeof text - used, ",\"a\"");
            memcpy(colons + 2 * i - 1, ":a", 3);
        }
        snprintf(text + used, sizeof text - used, "]}}");
        assert_int_equal(load(c, text, &err), count == 256);
        assert_string_equal(
            err.msg, count == 256
                         ? ""
                         : "FILE: \"models.directories\" must be an array of at most 256 strings");
        mf_error_clear(&err);
        assert_int_equal(mf_config_set(c, "models.directories", colons, &err), count == 256);
        assert_string_equal(
            err.msg,
            count == 256 ? "" : "command line: \"models.directories\" has more than 256 entries");
        mf_error_clear(&err);
        assert_int_equal(c->models.directories.count, 256);
    }
    assert_true(mf_config_set(c, "models.directories", "::a:", &err)); /* nothing is no entry */
    assert_int_equal(c->models.directories.count, 1);
}

static void the_database_is_given_in_one_place(void **state)
{
    (void)state;
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    struct mf_error err = MF_ERROR_INIT;
    char path[] = "/tmp/medfusion-test-XXXXXX", *text = NULL;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_true(mf_config_database(c, &text, &err));
    assert_null(text);
    c->store.database = "host=db";
    assert_true(mf_config_database(c, &text, &err));
    assert_string_equal(text, "host=db");
    free(text);
    c->store.database_file = path;
    assert_false(mf_config_database(c, &text, &err));
    assert_error(&err, MF_ERR_USAGE,
                 "store.database: store.database_file is set, too: one of them");
    mf_error_clear(&err);
    c->store.database = "off";
    assert_false(mf_config_database(c, &text, &err)); /* an empty file */
    assert_null(text);
    assert_int_equal(err.code, MF_ERR_USAGE);
    assert_non_null(strstr(err.msg, "its first line is empty"));
    mf_error_clear(&err);
    assert_int_equal(write(fd, "host=there\r\nmore", 16), 16);
    close(fd);
    assert_true(mf_config_database(c, &text, &err));
    assert_string_equal(text, "host=there");
    free(text);
    assert_int_equal(unlink(path), 0);
    assert_false(mf_config_database(c, &text, &err));
    assert_int_equal(strncmp(err.msg, "store.database_file: ", 21), 0);
    assert_false(mf_config_has(NULL));
    assert_true(mf_config_has("store.database"));
}

static void wrong_variables_and_arguments_are_refused_by_name(void **state)
{
    (void)state;
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    struct mf_error err = MF_ERROR_INIT;
    char *unknown[] = {"MEDFUSION_HTTP_LISEN=x", NULL};
    assert_false(mf_config_load_environment(c, unknown, &err));
    assert_error(&err, MF_ERR_USAGE, "environment: unknown key \"MEDFUSION_HTTP_LISEN\"");
    mf_error_clear(&err);
    char *wrong[] = {"MEDFUSION_HTTP_HANDLERS=many", NULL};
    assert_false(mf_config_load_environment(c, wrong, &err));
    assert_error(&err, MF_ERR_USAGE,
                 "MEDFUSION_HTTP_HANDLERS: \"http.handlers\" must be an integer");
    mf_error_clear(&err);
    assert_false(mf_config_set(c, "http.port", "1", &err));
    assert_error(&err, MF_ERR_USAGE, "command line: unknown key \"http.port\"");
    mf_error_clear(&err);
    assert_false(mf_config_set(c, "jobs.max_queued", "99999999999999999999", &err));
    assert_error(&err, MF_ERR_USAGE, "command line: \"jobs.max_queued\" must be an integer");
    mf_error_clear(&err);
    assert_false(mf_config_set(c, "http.handlers", "8x", &err));
    assert_error(&err, MF_ERR_USAGE, "command line: \"http.handlers\" must be an integer");
    mf_error_clear(&err);
    assert_false(mf_config_set(c, "http.handlers", "257", &err));
    assert_error(&err, MF_ERR_USAGE, "command line: \"http.handlers\" must lie between 1 and 256");
    mf_error_clear(&err);
    char long_one[160] = "MEDFUSION_", *too_long[] = {"MEDFUSION_ROOT", long_one, NULL};
    memset(long_one + 10, 'X', 120);
    memcpy(long_one + 130, "=1", 3);
    assert_false(mf_config_load_environment(c, too_long, &err)); /* no "=": no setting */
    long_one[100] = '\0';
    char expected[160];
    snprintf(expected, sizeof expected, "environment: unknown key \"%s\"", long_one);
    assert_error(&err, MF_ERR_USAGE, expected);
    mf_error_clear(&err);
    assert_false(mf_config_load_file(c, "/nowhere/medfusion.json", &err));
    assert_int_equal(err.code, MF_ERR_USAGE);
}

static void the_example_loads_and_changes_nothing(void **state)
{
    (void)state;
    MF_AUTO(mf_config) struct mf_config *c = fresh();
    MF_AUTO(mf_buffer) struct mf_buffer example, help;
    struct mf_error err = MF_ERROR_INIT;
    mf_buffer_init(&example, 100000);
    mf_buffer_init(&help, 100000);
    assert_true(mf_config_example(&example, &err));
    if (!load(c, example.data, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(c->http.max_body_bytes, 2147483648);
    assert_true(mf_config_help(&help, &err));
    assert_non_null(strstr(help.data, "| `http.listen` | `MEDFUSION_HTTP_LISTEN` | string |"));
}

static void the_committed_example_is_the_table(void **state)
{
    (void)state;
    MF_AUTO(mf_buffer) struct mf_buffer made, committed;
    struct mf_error err = MF_ERROR_INIT;
    mf_buffer_init(&made, 100000);
    mf_buffer_init(&committed, 100000);
    assert_true(mf_config_example(&made, &err));
    assert_true(mf_buffer_read_file(&committed, MF_SOURCE_DIR "/deploy/config.example.json", &err));
    assert_string_equal(committed.data, made.data); /* medfusion serve --example-config > … */
}

static void what_a_reload_may_change(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *refusal; /* NULL: allowed */
    } cases[] = {
        {"models.directories", "/a:/b", NULL},
        {"quota.requests_per_minute", "7", NULL},
        {"worker.device", "cuda:1", NULL},
        {"http.listen", "127.0.0.1:9",
         "http.listen: cannot change while the daemon runs; start it again"},
        {"worker.count", "3", "worker.count: cannot change while the daemon runs; start it again"},
        {"data.directory", "x",
         "data.directory: cannot change while the daemon runs; start it again"},
        {"http.tls_certificate", "cert.pem",
         "http.tls_certificate: TLS cannot be turned on or off while the daemon runs; start it "
         "again"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        MF_AUTO(mf_config) struct mf_config *old = fresh(), *wanted = fresh();
        struct mf_error err = MF_ERROR_INIT;
        assert_true(mf_config_set(wanted, cases[i].key, cases[i].value, &err));
        assert_int_equal(mf_config_check_reload(old, wanted, &err), !cases[i].refusal);
        if (cases[i].refusal)
            assert_error(&err, MF_ERR_USAGE, cases[i].refusal);
    }
}

struct texts {
    size_t count, devices, models;
};

static void note_text(void *context, const char *key, const char *text)
{
    struct texts *seen = context;
    seen->count++;
    seen->devices += strcmp(key, "worker.device") == 0 && strcmp(text, "cuda:1") == 0;
    seen->models += strcmp(key, "models.directories") == 0 && *text;
}

static void every_text_is_visited(void **state)
{
    (void)state;
    struct texts seen = {0};
    struct mf_error err = MF_ERROR_INIT;
    struct mf_config *c = mf_config_new(&err);
    assert_true(mf_config_set(c, "worker.device", "cuda:1", &err));
    assert_true(mf_config_set(c, "models.directories", "a:b:c", &err));
    mf_config_each_text(c, note_text, &seen);
    assert_int_equal(seen.devices, 1);
    assert_int_equal(seen.models, c->models.directories.count);
    assert_true(seen.models > 0 && seen.count > 20);
    mf_config_free(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_complete),
        cmocka_unit_test(every_text_is_visited),
        cmocka_unit_test(the_command_line_wins_over_the_environment_over_the_file),
        cmocka_unit_test(wrong_files_are_refused_by_name),
        cmocka_unit_test(a_list_has_so_many_entries),
        cmocka_unit_test(the_database_is_given_in_one_place),
        cmocka_unit_test(wrong_variables_and_arguments_are_refused_by_name),
        cmocka_unit_test(the_example_loads_and_changes_nothing),
        cmocka_unit_test(the_committed_example_is_the_table),
        cmocka_unit_test(what_a_reload_may_change),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
