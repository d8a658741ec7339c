/* server/dimse_association.c: who may call. The rest is tests/integration/test_dimse.py. */
#include "server/dimse.h"

#include "tests/expect.h"

static bool allowed(const char *entry, const char *ae, const char *address)
{
    const char *const items[] = {"OTHER", entry};
    const struct mf_string_list list = {items, 2};
    return mf_dimse_allowed(&list, ae, address);
}

static void titles_are_compared_whole(void **state)
{
    (void)state;
    assert_true(allowed("MODALITY", "MODALITY", "10.0.0.1"));
    assert_false(allowed("MODALITY", "MODALIT", "10.0.0.1"));
    assert_false(allowed("MODALITY", "MODALITYX", "10.0.0.1"));
    assert_false(allowed("MODALITY", "modality", "10.0.0.1"));
    assert_false(allowed("MODALITY", "", "10.0.0.1"));
    assert_true(allowed("*", "ANY", "10.0.0.1"));
}

static void an_address_binds_a_title(void **state)
{
    (void)state;
    assert_true(allowed("CT1@10.0.0.1", "CT1", "10.0.0.1"));
    assert_false(allowed("CT1@10.0.0.1", "CT1", "10.0.0.10"));
    assert_false(allowed("CT1@10.0.0.1", "CT1", ""));
    assert_false(allowed("CT1@10.0.0.1", "CT1@10.0.0.1", "10.0.0.1"));
}

static void an_empty_list_allows_nobody(void **state)
{
    const struct mf_string_list none = {NULL, 0};
    (void)state;
    assert_false(mf_dimse_allowed(&none, "CT1", "10.0.0.1"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(titles_are_compared_whole),
        cmocka_unit_test(an_address_binds_a_title),
        cmocka_unit_test(an_empty_list_allows_nobody),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
