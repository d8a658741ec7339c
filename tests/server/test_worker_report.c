/* What a worker without a front tells the metrics travels with its announcement. */
#include "server/worker_report.h"

#include "server/metrics.h"

#include "core/json.h"
#include "tests/expect.h"

#include <stdio.h>
#include <string.h>

static const char MODELS[] = "[{\"name\":\"thorax\",\"digest\":\"ab\"}]";

static const struct mf_worker_gauges GAUGES = {.device = "cuda:1",
                                               .computing_ns = 2500000000,
                                               .batches = 3,
                                               .studies = 7,
                                               .batch_most = 4,
                                               .memory_total = 80,
                                               .memory_available = 60,
                                               .memory_taken = 20};

static void test_numbers_come_back_and_models_stay(void **state)
{
    struct mf_worker_gauges read;
    char name[MF_WORKER_NAME];
    (void)state;
    MF_AUTO(mf_mem) char *text = mf_worker_report(MODELS, &GAUGES, "gpu-7.example-0");
    assert_non_null(text);
    MF_AUTO(mf_json) json_t *list = json_loads(text, 0, NULL);
    assert_int_equal(json_array_size(list), 2);
    assert_string_equal(mf_json_get_string(json_array_get(list, 0), "name", ""), "thorax");
    assert_string_equal(mf_json_get_string(json_array_get(list, 1), "name", "no model"),
                        "no model"); /* for programs that know nothing of it */
    assert_true(mf_worker_reported(text, &read, name));
    assert_string_equal(name, "gpu-7.example-0");
    assert_string_equal(read.device, "cuda:1");
    assert_true(read.computing_ns == 2500000000 && read.batches == 3 && read.studies == 7);
    assert_true(read.batch_most == 4 && read.memory_total == 80 && read.memory_available == 60);
    assert_int_equal(read.memory_taken, 20);
}

static void test_what_makes_no_sense_is_not_shown(void **state)
{
    static const char *const TEXTS[] = {
        "",
        "[]",
        "{}",
        "[1]",
        MODELS,
        "[{\"worker\":\"a-0\",\"device\":\"cpu\",\"gauges\":{}}]",
        "[{\"worker\":\"a\\\"} 1\",\"device\":\"cpu\",\"gauges\":{\"computing_ns\":1,\"batches\":1,"
        "\"studies\":1,\"batch_most\":1,\"memory_total\":0,\"memory_available\":0,"
        "\"memory_taken\":0}}]",
        "[{\"worker\":\"a-0\",\"device\":\"cpu\",\"gauges\":{\"computing_ns\":-1,\"batches\":1,"
        "\"studies\":1,\"batch_most\":1,\"memory_total\":0,\"memory_available\":0,"
        "\"memory_taken\":0}}]"};
    struct mf_worker_gauges read;
    char name[MF_WORKER_NAME];
    (void)state;
    for (size_t i = 0; i < sizeof TEXTS / sizeof *TEXTS; i++)
        if (mf_worker_reported(TEXTS[i], &read, name))
            fail_msg("%s", TEXTS[i]);
    assert_null(mf_worker_report("no list", &GAUGES, "a-0"));
}

static void test_a_name_is_this_machine_and_the_place(void **state)
{
    char first[MF_WORKER_NAME], third[MF_WORKER_NAME];
    (void)state;
    mf_worker_name(0, first);
    mf_worker_name(2, third);
    assert_string_equal(first + strlen(first) - 2, "-0");
    assert_string_equal(third + strlen(third) - 2, "-2");
    assert_true(strncmp(first, third, strlen(first) - 2) == 0 && strlen(first) > 2);
}

/* Two workers that say the same name are one line: Prometheus takes none twice. */
static void test_every_front_shows_them_once(void **state)
{
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_store_counts counts = {.wait_count = 0};
    MF_AUTO(mf_mem) char *text = mf_worker_report(MODELS, &GAUGES, "gpu-7-0");
    const struct mf_worker workers[] = {
        {.id = "a", .device = "cuda:1", .ready = true, .models = text},
        {.id = "b", .device = "cpu", .ready = true, .models = MODELS},
        {.id = "c", .device = "cuda:1", .models = text}};
    (void)state;
    MF_AUTO(mf_metrics) struct mf_metrics *metrics = mf_metrics_new(NULL, &err);
    MF_AUTO(mf_buffer) struct mf_buffer out;
    mf_buffer_init(&out, 1 << 20);
    assert_true(mf_metrics_write(metrics, &counts, workers, 3, &out, &err));
    assert_true(mf_buffer_append(&out, "", 1, &err));
    static const char *const LINES[] = {
        "# TYPE medfusion_standalone_worker_studies_total counter\n",
        "medfusion_standalone_worker_studies_total{worker=\"gpu-7-0\",device=\"cuda:1\"} 7\n",
        "medfusion_standalone_worker_computing_seconds_total{worker=\"gpu-7-0\",device=\"cuda:1\"} "
        "2.5\n",
        "medfusion_standalone_gpu_memory_bytes{worker=\"gpu-7-0\",device=\"cuda:1\",kind="
        "\"models\"} 20\n"};
    for (size_t i = 0; i < sizeof LINES / sizeof *LINES; i++) {
        const char *at = strstr(out.data, LINES[i]);
        if (!at || strstr(at + 1, LINES[i]))
            fail_msg("not once: %s", LINES[i]);
    }
    assert_null(strstr(out.data, "medfusion_worker_studies_total"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers_come_back_and_models_stay),
        cmocka_unit_test(test_what_makes_no_sense_is_not_shown),
        cmocka_unit_test(test_a_name_is_this_machine_and_the_place),
        cmocka_unit_test(test_every_front_shows_them_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
