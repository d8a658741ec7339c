/* server/adaptation.c: adapters of sites, and their states as files that several processes swap. */
#include "server/adaptation.h"

#include "tests/engine/adapter_fixture.h"

#include <dirent.h>

static struct mf_adaptation *open_adaptation(enum mf_adapt_mode mode, const char *directory)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adaptation *a = mf_adaptation_new(mode, directory, &err);
    if (!a)
        fail_msg("%s", err.msg);
    return a;
}

static struct mf_adapter *adapter_of(struct mf_adaptation *a, struct fixture *f, const char *site)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_adapter *adapter = mf_adaptation_adapter(a, f->bundle, NULL, site, &err);
    if (!adapter)
        fail_msg("%s", err.msg);
    return adapter;
}

static void directory_of(const struct fixture *f, char ret[96])
{
    snprintf(ret, 96, "%s-states", f->dir);
}

/* How many files lie there; the name of one of them. */
static size_t files_in(const char *directory, char name[256])
{
    size_t n = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e; d && (e = readdir(d));)
        if (e->d_name[0] != '.') {
            snprintf(name, 256, "%s", e->d_name);
            n++;
        }
    if (d)
        closedir(d);
    return n;
}

static void remove_all(const char *directory)
{
    char name[256], path[512];
    while (files_in(directory, name) > 0) {
        snprintf(path, sizeof path, "%s/%s", directory, name);
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(directory), 0);
}

/* Teaches a site `n` studies of as many patients. */
static void teach(struct mf_adaptation *a, struct fixture *f, const char *site, size_t n)
{
    float readout[MOST], logits[LABELS];
    struct mf_error err = MF_ERROR_INIT;
    for (size_t i = 0; i < n; i++) {
        char patient[16];
        snprintf(patient, sizeof patient, "P%zu", i);
        draw(f->head, readout, logits);
        if (!mf_adaptation_learn(a, adapter_of(a, f, site), f->bundle, site, readout, patient,
                                 false, &err))
            fail_msg("%s", err.msg);
    }
}

static uint64_t version_of(struct mf_adaptation *a, struct fixture *f, const char *site)
{
    const struct mf_adapt_state *state = mf_adapter_state(adapter_of(a, f, site));
    return state ? mf_adapt_state_version(state) : 0;
}

static void a_step_is_a_file_that_the_next_process_goes_on_from(void **state)
{
    struct fixture *f = *state;
    char directory[96], name[256];
    directory_of(f, directory);
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SITE, directory);
    teach(a, f, "north", 31);
    assert_int_equal(files_in(directory, name), 0);
    teach(a, f, "north", 1);
    assert_int_equal(files_in(directory, name), 1);
    assert_non_null(strstr(name, ".1.json")); /* no draft is left */
    assert_int_equal(strncmp(name, mf_bundle_model_hash(f->bundle), 16), 0);
    char id[128];
    snprintf(id, sizeof id, "%s", mf_adapt_state_id(mf_adapter_state(adapter_of(a, f, "north"))));
    mf_adaptation_free(a);
    a = open_adaptation(MF_ADAPT_SITE, directory);
    assert_int_equal(version_of(a, f, "north"), 1);
    assert_string_equal(mf_adapt_state_id(mf_adapter_state(adapter_of(a, f, "north"))), id);
    assert_int_equal(version_of(a, f, "south"), 0); /* another site has learnt nothing */
    teach(a, f, "north", 32);
    assert_int_equal(version_of(a, f, "north"), 2);
    assert_int_equal(files_in(directory, name), 2);
    mf_adaptation_free(a);
    remove_all(directory);
}

static void whoever_comes_second_goes_on_with_the_others_state(void **state)
{
    struct fixture *f = *state;
    char directory[96], name[256];
    directory_of(f, directory);
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SITE, directory);
    struct mf_adaptation *b = open_adaptation(MF_ADAPT_SITE, directory);
    assert_int_equal(version_of(b, f, "north"), 0); /* both begin at the source */
    teach(a, f, "north", 32);
    teach(b, f, "north", 32);
    assert_int_equal(files_in(directory, name), 1);
    const struct mf_adapt_state *first = mf_adapter_state(adapter_of(a, f, "north"));
    const struct mf_adapt_state *second = mf_adapter_state(adapter_of(b, f, "north"));
    assert_int_equal(mf_adapt_state_version(second), 1);
    assert_string_equal(mf_adapt_state_id(second), mf_adapt_state_id(first));
    teach(b, f, "north", 32); /* and builds on it */
    assert_int_equal(version_of(b, f, "north"), 2);
    mf_adaptation_free(a);
    mf_adaptation_free(b);
    remove_all(directory);
}

static void a_damaged_state_is_an_error_that_names_its_file(void **state)
{
    struct fixture *f = *state;
    char directory[96], name[256], path[512];
    directory_of(f, directory);
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SITE, directory);
    teach(a, f, "north", 32);
    mf_adaptation_free(a);
    assert_int_equal(files_in(directory, name), 1);
    snprintf(path, sizeof path, "%s/%s", directory, name);
    struct mf_buffer text;
    mf_buffer_init(&text, 1 << 20);
    assert_true(mf_buffer_read_file(&text, path, NULL));
    char *digits = strstr(text.data, "\"gamma\":[");
    assert_non_null(digits);
    digits[9] = digits[9] == '1' ? '2' : '1'; /* the id no longer fits */
    assert_true(write_text(path, text.data, text.len));
    mf_buffer_free(&text);
    a = open_adaptation(MF_ADAPT_SITE, directory);
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_adaptation_adapter(a, f->bundle, NULL, "north", &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
    assert_non_null(strstr(err.msg, name));
    assert_non_null(strstr(err.msg, "not a valid medfusion.adaptation_state/1 of this model"));
    mf_adaptation_free(a);
    remove_all(directory);
}

static void other_modes_share_one_adapter_and_write_nothing(void **state)
{
    struct fixture *f = *state;
    char directory[96];
    directory_of(f, directory);
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SHADOW, directory);
    assert_int_equal(mf_adaptation_mode(a), MF_ADAPT_SHADOW);
    assert_ptr_equal(adapter_of(a, f, "north"), adapter_of(a, f, "south"));
    assert_int_equal(access(directory, F_OK), -1);
    mf_adaptation_free(a);
    struct mf_error err = MF_ERROR_INIT;
    assert_null(mf_adaptation_new(MF_ADAPT_SITE, "/dev/null/states", &err));
    assert_string_equal(err.msg, "/dev/null/states: cannot be created");
}

static void a_site_that_made_room_finds_its_state_again(void **state)
{
    struct fixture *f = *state;
    char directory[96], site[16];
    directory_of(f, directory);
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SITE, directory);
    teach(a, f, "north", 32);
    for (int i = 0; i < 64; i++) { /* as many as are kept in memory */
        snprintf(site, sizeof site, "site %d", i);
        assert_int_equal(version_of(a, f, site), 0);
    }
    assert_int_equal(version_of(a, f, "north"), 1);
    mf_adaptation_free(a);
    remove_all(directory);
}

static void without_a_directory_states_stay_in_memory(void **state)
{
    struct fixture *f = *state;
    struct mf_adaptation *a = open_adaptation(MF_ADAPT_SITE, NULL);
    teach(a, f, "north", 64);
    assert_int_equal(version_of(a, f, "north"), 2);
    mf_adaptation_free(a);
    a = open_adaptation(MF_ADAPT_SITE, NULL);
    assert_int_equal(version_of(a, f, "north"), 0);
    mf_adaptation_free(a);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_step_is_a_file_that_the_next_process_goes_on_from),
        TEST(whoever_comes_second_goes_on_with_the_others_state),
        TEST(a_damaged_state_is_an_error_that_names_its_file),
        TEST(other_modes_share_one_adapter_and_write_nothing),
        TEST(a_site_that_made_room_finds_its_state_again),
        TEST(without_a_directory_states_stay_in_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
