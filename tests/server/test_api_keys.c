/* server/api_keys.c: making, revoking and recognising keys, and what a damaged file is refused for.
 */
#include "tests/expect.h"

#include "server/api_keys.h"

#include <sys/stat.h>
#include <unistd.h>

static const char SECRETS[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

struct directory {
    char path[64], file[96];
};

static void start(struct directory *d)
{
    snprintf(d->path, sizeof d->path, "/tmp/medfusion-test-XXXXXX");
    assert_non_null(mkdtemp(d->path));
    snprintf(d->file, sizeof d->file, "%s/keys.json", d->path);
}

static void end(const struct directory *d)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", d->path);
    assert_int_equal(system(command), 0);
}

static struct mf_api_key wanted(const char *name, const char *scopes, const char *tenant)
{
    struct mf_api_key key = {.created_ms = 1000};
    snprintf(key.name, sizeof key.name, "%s", name);
    snprintf(key.scopes, sizeof key.scopes, "%s", scopes);
    snprintf(key.tenant, sizeof key.tenant, "%s", tenant);
    return key;
}

static void a_key_is_its_tenants_until_it_ends(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char text[MF_API_KEY_TEXT], id[MF_API_KEY_ID] = "";
    struct mf_principal who;
    struct directory d;
    struct stat st;
    start(&d);
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(&err);
    struct mf_api_key key = wanted("ct", "jobs.read", "north");
    key.expires_ms = 5000;
    key.revoked_ms = 7; /* of no consequence */
    assert_true(mf_api_keys_add(keys, &key, text, &err));
    assert_true(mf_api_key_is(text));
    assert_true(mf_api_keys_write(keys, d.file, &err));
    assert_int_equal(stat(d.file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);

    MF_AUTO(mf_api_keys) struct mf_api_keys *read = mf_api_keys_read(d.file, &err);
    assert_no_error(&err);
    memcpy(id, text + 4, MF_API_KEY_ID - 1);
    assert_string_equal(read->keys[0].id, id);
    assert_string_equal(mf_api_key_state(&read->keys[0], 4999), "valid");
    assert_string_equal(mf_api_key_state(&read->keys[0], 5000), "expired");
    assert_true(mf_api_keys_identify(read, text, 4999, &who, &err));
    assert_string_equal(who.tenant, "north");
    assert_true(mf_grant_allows(&who.grant, MF_ACCESS_JOBS_READ, NULL));
    assert_false(mf_api_keys_identify(read, text, 5000, &who, &err));
    assert_error(&err, MF_ERR_UNAUTHORIZED, "the API key is not valid");

    mf_error_clear(&err);
    assert_true(mf_api_keys_revoke(read, id, 3000, &err));
    assert_true(mf_api_keys_revoke(read, id, 4000, &err)); /* again: nothing changes */
    assert_int_equal(read->keys[0].revoked_ms, 3000);
    assert_string_equal(mf_api_key_state(&read->keys[0], 1), "revoked");
    assert_false(mf_api_keys_identify(read, text, 4000, &who, NULL));
    assert_false(mf_api_keys_revoke(read, "nobody", 4000, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "there is no key \"nobody\"");
    end(&d);
}

static void a_key_is_nobodys_unless_all_of_it_is_right(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char text[MF_API_KEY_TEXT], other[MF_API_KEY_TEXT];
    struct mf_principal who;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(&err);
    struct mf_api_key key = wanted("ct", "jobs.read", "north");
    assert_true(mf_api_keys_add(keys, &key, text, &err));
    assert_true(mf_api_keys_add(keys, &key, other, &err));
    assert_true(mf_api_keys_identify(keys, other, 1, &who, &err));
    for (size_t i = 4; text[i]; i++) { /* behind "mfk_" */
        char wrong[MF_API_KEY_TEXT];
        memcpy(wrong, text, sizeof wrong);
        wrong[i] = wrong[i] == 'x' ? 'y' : 'x';
        assert_false(mf_api_keys_identify(keys, wrong, 1, &who, NULL));
        wrong[i] = '\0';
        assert_false(mf_api_keys_identify(keys, wrong, 1, &who, NULL));
    }
    assert_true(mf_api_keys_identify(keys, text, 1, &who, &err));
    assert_false(mf_api_key_is("mft_x"));
}

static void what_a_key_is_made_of_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *name, *scopes, *tenant, *said;
    } cases[] = {
        {"ct", "jobs.read", "../x", "a tenant is 1 to 64 of a-z, 0-9, '-', '_' and '.'"},
        {"", "jobs.read", "north", "a key needs a name and scopes"},
        {"ct", "", "north", "a key needs a name and scopes"},
        {"ct", "jobs.read jobs.erase", "north", "\"jobs.erase\" is no scope"},
    };
    char text[MF_API_KEY_TEXT];
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        struct mf_api_key key = wanted(cases[i].name, cases[i].scopes, cases[i].tenant);
        assert_false(mf_api_keys_add(keys, &key, text, &err));
        assert_error(&err, MF_ERR_USAGE, cases[i].said);
        assert_int_equal(keys->count, 0);
    }
}

static void a_file_has_room_for_so_many(void **state)
{
    (void)state;
    char text[MF_API_KEY_TEXT];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(&err);
    struct mf_api_key key = wanted("ct", "jobs.read", "north");
    while (keys->count < 100000 && mf_api_keys_add(keys, &key, text, &err)) {
    }
    assert_error(&err, MF_ERR_NO_MEMORY, "there are too many API keys");
    assert_in_range(keys->count, 10000, 50000);
    struct mf_principal who;
    snprintf(text, sizeof text, "mfk_%s_", keys->keys[keys->count - 1].id);
    assert_false(mf_api_keys_identify(keys, text, 1, &who, NULL)); /* and it is still whole */
}

static void a_damaged_file_is_refused_by_its_name(void **state)
{
    (void)state;
    static const struct {
        const char *text, *said;
    } cases[] = {
        {"[", "not valid JSON (line 1, column 1)"},
        {"{}", "\"schema\" must be \"medfusion.keys/1\""},
        {"{\"schema\":\"medfusion.keys/1\"}", "\"keys\" must be an array"},
        {"KEYS{\"id\":\"a\"}]}", "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"\",\"tenant\":\"t\",\"scopes\":\"admin\",\"sha256\":\"SHA\"}"
         "]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"scopes\":\"admin\",\"sha256\":\"SHA\"}]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"tenant\":\"t\",\"sha256\":\"SHA\"}]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"0123456789abcdef0\",\"name\":\"n\",\"tenant\":\"t\",\"scopes\":\"admin\","
         "\"sha256\":\"SHA\"}]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"tenant\":\"T\",\"scopes\":\"admin\",\"sha256\":"
         "\"SHA\"}]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"tenant\":\"t\",\"scopes\":\"admin\",\"sha256\":\"00\"}"
         "]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"tenant\":\"t\",\"scopes\":\"admin\",\"sha256\":"
         "\"xSHA\"}]}",
         "a key is incomplete"},
        {"KEYS{\"id\":\"a\",\"name\":\"n\",\"tenant\":\"t\",\"scopes\":\"x\",\"sha256\":\"SHA\"}]}",
         "\"x\" is no scope"},
        {"KEYS{\"id\":\"a\",\"colour\":\"red\"}]}", "key: unknown key \"colour\""},
    };
    struct directory d;
    start(&d);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_error err = MF_ERROR_INIT;
        char expected[256];
        FILE *file = fopen(d.file, "w");
        assert_non_null(file);
        for (const char *at = cases[i].text; *at; at++)
            if (strncmp(at, "KEYS", 4) == 0)
                at += fprintf(file, "{\"schema\":\"medfusion.keys/1\",\"keys\":[") ? 3 : 0;
            else if (strncmp(at, "xSHA", 4) == 0)
                at += fprintf(file, "x%s", SECRETS + 1) ? 3 : 0;
            else if (strncmp(at, "SHA", 3) == 0 && at[-1] == '"')
                at += fprintf(file, "%s", SECRETS) ? 2 : 0;
            else
                fputc(*at, file);
        assert_int_equal(fclose(file), 0);
        assert_null(mf_api_keys_read(d.file, &err));
        snprintf(expected, sizeof expected, "%s: %s", d.file, cases[i].said);
        assert_error(&err, MF_ERR_USAGE, expected);
    }
    end(&d);
}

static void who_changes_the_file_holds_its_lock(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char path[5000];
    struct directory d;
    start(&d);
    int fd = mf_api_keys_lock(d.file, &err);
    assert_true(fd >= 0);
    close(fd);
    snprintf(path, sizeof path, "%s/none/keys.json", d.path);
    assert_int_equal(mf_api_keys_lock(path, &err), -1);
    assert_int_equal(err.code, MF_ERR_IO);
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(NULL);
    assert_false(mf_api_keys_write(keys, path, NULL));
    memset(path, 'x', sizeof path);
    path[sizeof path - 1] = '\0';
    mf_error_clear(&err);
    assert_int_equal(mf_api_keys_lock(path, &err), -1);
    assert_int_equal(err.code, MF_ERR_USAGE);
    end(&d);
}

/* --- memory: a file that could not be made whole is not made --- */

static long allowed = -1;

static void *scarce(size_t n)
{
    return allowed < 0 || allowed-- != 0 ? malloc(n) : NULL;
}

static void without_memory_no_key_is_lost(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    char text[MF_API_KEY_TEXT];
    struct directory d;
    start(&d);
    MF_AUTO(mf_api_keys) struct mf_api_keys *keys = mf_api_keys_new(&err);
    struct mf_api_key key = wanted("ct", "jobs.read", "north");
    assert_true(mf_api_keys_add(keys, &key, text, &err));
    assert_true(mf_api_keys_add(keys, &key, text, &err));
    assert_true(mf_api_keys_write(keys, d.file, &err));
    bool written = false;
    long at = 0;
    for (; !written; at++) {
        json_set_alloc_funcs(scarce, free);
        allowed = at;
        mf_error_clear(&err);
        written = mf_api_keys_write(keys, d.file, &err);
        allowed = -1;
        json_set_alloc_funcs(malloc, free);
        assert_int_equal(written, err.code == MF_OK);
        MF_AUTO(mf_api_keys) struct mf_api_keys *read = mf_api_keys_read(d.file, &err);
        assert_non_null(read);
        assert_int_equal(read->count, 2);
    }
    assert_true(at > 30);
    end(&d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_is_its_tenants_until_it_ends),
        cmocka_unit_test(a_key_is_nobodys_unless_all_of_it_is_right),
        cmocka_unit_test(what_a_key_is_made_of_is_checked),
        cmocka_unit_test(a_file_has_room_for_so_many),
        cmocka_unit_test(a_damaged_file_is_refused_by_its_name),
        cmocka_unit_test(who_changes_the_file_holds_its_lock),
        cmocka_unit_test(without_memory_no_key_is_lost),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
