/* Workers take the devices that are named by turns. */
#include "server/worker_device.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void one_device_is_for_all(void **state)
{
    char name[MF_WORKER_DEVICE];
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(mf_worker_device("cuda:1", i, name), "cuda:1");
        assert_null(mf_worker_device("auto", i, name));
        assert_null(mf_worker_device("", i, name));
    }
}

static void several_are_taken_by_turns(void **state)
{
    static const char *const WANT[] = {"cuda:0", "cuda:3", "cpu", "cuda:0", "cuda:3", "cpu"};
    char name[MF_WORKER_DEVICE];
    (void)state;
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(mf_worker_device("cuda:0,cuda:3,cpu", i, name), WANT[i]);
    assert_null(mf_worker_device("cuda:0,auto", 1, name));
    assert_null(mf_worker_device("cuda:0,", 1, name));
}

static void a_name_too_long_is_no_device(void **state)
{
    char name[MF_WORKER_DEVICE];
    (void)state;
    assert_string_equal(mf_worker_device("cpu,cuda:00000000000000000000000000000000000", 1, name),
                        "cuda:00000000000000000000000000");
}

static void a_gpu_takes_one_worker(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    (void)state;
    assert_true(mf_worker_devices_check("cuda:0", 1, &err));
    assert_true(mf_worker_devices_check("cuda:0,cuda:1", 2, &err));
    assert_true(mf_worker_devices_check("cuda:0,cpu,cpu", 3, &err));
    assert_true(mf_worker_devices_check("cpu", 4, &err));
    assert_true(mf_worker_devices_check("auto", 4, &err));
    assert_true(mf_worker_devices_check("cuda:0", 0, &err));
    assert_false(mf_worker_devices_check("cuda:0,cuda:1", 3, &err));
    assert_int_equal(err.code, MF_ERR_USAGE);
    assert_string_equal(err.msg, "worker.count: 3 workers, and worker.device names cuda:0 for two "
                                 "of them: a GPU takes one, which computes jobs together");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_device_is_for_all),
        cmocka_unit_test(several_are_taken_by_turns),
        cmocka_unit_test(a_name_too_long_is_no_device),
        cmocka_unit_test(a_gpu_takes_one_worker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
