/* core/log.c: every line is one JSON object, whatever is in its fields. */
#include "core/log.h"

#include <fcntl.h>
#include <unistd.h>

#include "tests/expect.h"

/* Runs `write_lines` with stderr going to a file; returns what was written. */
static char *captured(void (*write_lines)(void))
{
    char path[] = "/tmp/mf_test_XXXXXX";
    int fd = mkstemp(path), old = dup(STDERR_FILENO);
    dup2(fd, STDERR_FILENO);
    write_lines();
    dup2(old, STDERR_FILENO);
    close(old);
    off_t len = lseek(fd, 0, SEEK_END);
    char *text = calloc(1, (size_t)len + 1);
    assert_int_equal(pread(fd, text, (size_t)len, 0), len);
    close(fd);
    unlink(path);
    return text;
}

static void ordinary(void)
{
    mf_log_setup(MF_LOG_INFO, "front");
    mf_log(MF_LOG_DEBUG, "dropped");
    mf_log(MF_LOG_WARN, "job.finished", MF_LOG_I("ms", -12), MF_LOG_R("share", 0.5),
           MF_LOG_S("job", "abc"), MF_LOG_S("none", NULL));
    mf_log(MF_LOG_ERROR, "alone");
}

static void lines_are_json(void **state)
{
    (void)state;
    char *text = captured(ordinary);
    char *second = strchr(text, '\n');
    assert_non_null(second);
    *second++ = '\0';
    json_t *a = json_loads(text, 0, NULL), *b = json_loads(second, 0, NULL);
    assert_non_null(a);
    assert_non_null(b);
    const char *time = json_string_value(json_object_get(a, "time"));
    assert_int_equal(strlen(time), strlen("2026-11-22T13:24:00.123Z"));
    assert_int_equal(time[23], 'Z');
    json_object_del(a, "time");
    assert_json(a, "{\"level\":\"warn\",\"component\":\"front\",\"event\":\"job.finished\","
                   "\"ms\":-12,\"share\":0.5,\"job\":\"abc\",\"none\":\"\"}");
    assert_string_equal(json_string_value(json_object_get(b, "level")), "error");
    json_decref(a);
    json_decref(b);
    free(text);
}

static void hostile(void)
{
    char longest[5000];
    memset(longest, '"', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    mf_log_setup(MF_LOG_DEBUG, "worker");
    mf_log(MF_LOG_INFO, "hostile", MF_LOG_S("id", "a\"b\\c\nd\x1b[31m\x7f\xff"));
    mf_log(MF_LOG_INFO, "long", MF_LOG_S("a", longest), MF_LOG_S("b", longest),
           MF_LOG_S("c", longest), MF_LOG_S("d", longest), MF_LOG_S("e", longest),
           MF_LOG_S("f", longest), MF_LOG_S("g", longest), MF_LOG_I("last", 1));
}

static void hostile_fields_stay_inside_their_string(void **state)
{
    (void)state;
    char *text = captured(hostile);
    for (const char *p = text; *p; p++)
        assert_true(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
    char *second = strchr(text, '\n');
    *second++ = '\0';
    json_t *a = json_loads(text, 0, NULL), *b = json_loads(second, 0, NULL);
    assert_non_null(a);
    assert_string_equal(json_string_value(json_object_get(a, "id")),
                        "a\"b\\c\nd\x1b[31m\x7f\xC3\xBF");
    assert_non_null(b); /* a line that is too long loses fields, not its closing */
    assert_string_equal(json_string_value(json_object_get(b, "event")), "long");
    assert_int_equal(strlen(json_string_value(json_object_get(b, "a"))), 200);
    assert_null(strchr(strchr(second, '\n') + 1, '\n'));
    json_decref(a);
    json_decref(b);
    free(text);
}

static void levels_by_name(void **state)
{
    (void)state;
    enum mf_log_level level = MF_LOG_DEBUG;
    assert_true(mf_log_level_parse("error", &level));
    assert_int_equal(level, MF_LOG_ERROR);
    assert_true(mf_log_level_parse("debug", &level));
    assert_int_equal(level, MF_LOG_DEBUG);
    assert_false(mf_log_level_parse("Error", &level));
    assert_false(mf_log_level_parse("", &level));
    assert_int_equal(level, MF_LOG_DEBUG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lines_are_json),
        cmocka_unit_test(hostile_fields_stay_inside_their_string),
        cmocka_unit_test(levels_by_name),
    };
    return cmocka_run_group_tests_name("core/log", tests, NULL, NULL);
}
