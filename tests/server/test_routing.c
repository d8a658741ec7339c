/* server/routing.c, job_options.c: rules, what they fit, what they may name. */
#include "server/job_options.h"
#include "server/routing.h"

#include "tests/expect.h"

#include <stdlib.h>
#include <unistd.h>

static struct mf_routing *load(const char *text, struct mf_error *err)
{
    char path[] = "/tmp/test_routing.XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    struct mf_routing *routing = mf_routing_load(path, err);
    unlink(path);
    for (char *at; (at = strstr(err->msg, path));) /* its name is not the same twice */
        memmove(at, at + strlen(path), strlen(at + strlen(path)) + 1);
    return routing;
}

static void expect_refused(const char *text, const char *message)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_null(load(text, &err));
    assert_error(&err, MF_ERR_USAGE, message);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    expect_refused("[]", "routing.rules: : must hold {\"rules\": […]}");
    expect_refused("{\"rules\": [{}]}", "routing.rules: : rule 1 has no \"name\"");
    expect_refused("{\"rules\": [{\"name\": \"a\"}, {\"name\": \"a\"}]}",
                   "routing.rules: : two rules are named \"a\"");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"match\": []}]}",
                   "routing.rules: : rule \"a\": \"match\" must be an object");
    expect_refused(
        "{\"rules\": [{\"name\": \"a\", \"match\": {\"modality\": [\"CR\", 1]}}]}",
        "routing.rules: : rule \"a\": \"modality\" must be a string or a list of strings");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"match\": {\"patient\": \"*\"}}]}",
                   "routing.rules: : rule \"a\": match: unknown key \"patient\"");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"model\": 1}]}",
                   "routing.rules: : rule \"a\": \"model\" must be the name of a model");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"destinations\": \"x\"}]}",
                   "routing.rules: : rule \"a\": \"destinations\" must be a list of addresses");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"priority\": \"soon\"}]}",
                   "routing.rules: : rule \"a\": \"priority\" must be stat, urgent or routine");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"priority\": 1}]}",
                   "routing.rules: : rule \"a\": \"priority\" must be stat, urgent or routine");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"tenant\": 1}]}",
                   "routing.rules: : rule \"a\": \"tenant\" must be the name of a tenant");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"destinations\": [1]}]}",
                   "routing.rules: : rule \"a\": \"destinations\" must be a list of addresses");
    expect_refused("{\"rules\": [{\"name\": \"a\", \"colour\": 1}]}",
                   "routing.rules: : rule \"a\": rule: unknown key \"colour\"");
    expect_refused(
        "{\"rules\": [{\"name\": \"a\", \"match\": {\"modality\": []}}]}",
        "routing.rules: : rule \"a\": \"modality\" must be a string or a list of strings");
    expect_refused("{\"rules\": [], \"more\": 1}", "routing.rules: : file: unknown key \"more\"");
    expect_refused("{", "routing.rules: : not valid JSON (line 1, column 1)");
}

static void names_and_rules_have_their_limits(void **state)
{
    (void)state;
    char text[16 << 10], name[80];
    memset(name, 'n', sizeof name);
    name[sizeof name - 1] = '\0';
    snprintf(text, sizeof text, "{\"rules\": [{\"name\": \"%s\"}]}", name);
    expect_refused(text, "routing.rules: : rule 1 has no \"name\"");
    size_t used = (size_t)snprintf(text, sizeof text, "{\"rules\": [");
    for (int i = 0; i < 257; i++)
        used += (size_t)snprintf(text + used, sizeof text - used, "%s{\"name\": \"%d\"}",
                                 i ? "," : "", i);
    snprintf(text + used, sizeof text - used, "]}");
    expect_refused(text, "routing.rules: : has more than 256 rules");
    mf_routing_free(NULL);
}

/* --- choosing --- */

static const char RULES[] =
    "{\"rules\": ["
    "{\"name\": \"er\", \"match\": {\"called\": \"MF_ER\"}, \"priority\": \"stat\"},"
    "{\"name\": \"room 1\", \"match\": {\"calling\": [\"CR1\", \"DX?\"]}, \"destinations\": []},"
    "{\"name\": \"chest\", \"match\": {\"modality\": [\"cr\", \"dx\"], \"body_part\": [\"CHEST*\", "
    "\"\"],"
    " \"study_description\": \"*Thorax*\"}, \"model\": \"thorax\"},"
    "{\"name\": \"series\", \"match\": {\"series_description\": \"*lung*\"}},"
    "{\"name\": \"north\", \"tenant\": \"north\"}]}";

struct image {
    const char *modality, *body_part, *study, *series;
};

/* The name of the rule that is chosen for one image. */
static const char *chosen(struct image image, const char *tenant, const char *calling,
                          const char *called)
{
    static char name[65];
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_routing) struct mf_routing *routing = load(RULES, &err);
    assert_no_error(&err);
    struct mf_index_object object = {.name = "part 1",
                                     .sop_instance_uid = "1.2.3",
                                     .study_instance_uid = "1.2",
                                     .series_instance_uid = "1.2.1",
                                     .patient_id = "P",
                                     .modality = image.modality,
                                     .body_part = image.body_part,
                                     .study_description = image.study,
                                     .series_description = image.series,
                                     .pixel_data = MF_PIXEL_DATA_INTEGER,
                                     .rows = 1,
                                     .columns = 1,
                                     .frames = 1};
    const struct mf_index index = {.objects = &object, .object_count = 1};
    const struct mf_route_origin origin = {tenant, calling, called};
    const struct mf_route *route = mf_routing_choose(routing, &index, &origin);
    snprintf(name, sizeof name, "%s", route ? route->name : "none");
    return name;
}

static void the_first_rule_that_fits_wins(void **state)
{
    (void)state;
    const struct image chest = {"DX", "Chest", "XR THORAX pa", "pa"};
    assert_string_equal(chosen(chest, "default", NULL, NULL), "chest");
    assert_string_equal(chosen(chest, "default", "CR1", "MEDFUSION"), "room 1");
    assert_string_equal(chosen(chest, "default", "DX7", "MEDFUSION"), "room 1");
    assert_string_equal(chosen(chest, "default", "DX77", "MEDFUSION"), "chest");
    assert_string_equal(chosen(chest, "default", "CR1", "MF_ER"), "er");
    assert_string_equal(chosen(chest, "north", "CR1", "MF_ER"), "north");
    assert_string_equal(chosen(chest, "south", NULL, NULL), "none");
    assert_string_equal(chosen((struct image){"CR", NULL, "Thorax", NULL}, "default", NULL, NULL),
                        "chest"); /* "" fits what is absent */
    assert_string_equal(chosen((struct image){"CR", "HAND", "Thorax", NULL}, "default", NULL, NULL),
                        "none");
    assert_string_equal(chosen((struct image){"CR", "CHEST", NULL, NULL}, "default", NULL, NULL),
                        "none"); /* no other pattern does */
    assert_string_equal(
        chosen((struct image){"CT", "CHEST", NULL, "Lung 1.0"}, "default", NULL, NULL), "series");
}

static void titles_of_sources(void **state)
{
    (void)state;
    struct mf_route_titles t = mf_route_titles("dimse:CT 1", "MEDFUSION");
    assert_string_equal(t.calling, "CT 1");
    assert_string_equal(t.called, "MEDFUSION");
    t = mf_route_titles("dimse:CT1\\OTHER", "MEDFUSION");
    assert_string_equal(t.calling, "CT1");
    assert_string_equal(t.called, "OTHER");
    t = mf_route_titles("stow", "MEDFUSION");
    assert_string_equal(t.calling, "");
    assert_string_equal(t.called, "");
}

/* --- destinations --- */

static void destinations_are_those_of_the_tenant(void **state)
{
    (void)state;
    const struct mf_config config = {
        .outbox = {.destinations = "http://a/x=y  north=fhir:ehr dicom://A@h:1"}};
    assert_true(mf_destination_known(&config, "default", "http://a/x=y"));
    assert_true(mf_destination_known(&config, "default", "dicom://A@h:1"));
    assert_true(mf_destination_known(&config, "north", "fhir:ehr"));
    assert_false(mf_destination_known(&config, "default", "fhir:ehr"));
    assert_false(mf_destination_known(&config, "north", "dicom://A@h:1"));
    assert_false(mf_destination_known(&config, "default", "http://a"));
    const struct mf_config off = {.outbox = {.destinations = "off"}};
    assert_false(mf_destination_known(&off, "default", "off"));
}

static void a_rule_adds_its_destinations(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    MF_AUTO(mf_json) json_t *list = json_pack("[s]", "http://a");
    const struct mf_route route = {.name = "r", .destinations = list};
    const struct mf_route silent = {.name = "s"};
    const char *own = "{\"destinations\":[]}";
    assert_string_equal(mf_job_options_route("{\"alpha\":0.5}", &route, arena, &err),
                        "{\"alpha\":0.5,\"destinations\":[\"http://a\"]}");
    assert_ptr_equal(mf_job_options_route(own, &route, arena, &err), own);
    assert_ptr_equal(mf_job_options_route(own, &silent, arena, &err), own);
    assert_ptr_equal(mf_job_options_route(own, NULL, arena, &err), own);
    assert_no_error(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(mistakes_are_named),
                                       cmocka_unit_test(names_and_rules_have_their_limits),
                                       cmocka_unit_test(the_first_rule_that_fits_wins),
                                       cmocka_unit_test(titles_of_sources),
                                       cmocka_unit_test(destinations_are_those_of_the_tenant),
                                       cmocka_unit_test(a_rule_adds_its_destinations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
