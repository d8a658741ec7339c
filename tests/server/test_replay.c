/* server/replay.c: an id is good once, whichever of two processes sees it first. */
#include "server/replay.h"

#include "tests/expect.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { NOW = 1000, LATER = 2000 };

static char directory[] = "/tmp/medfusion-replay-XXXXXX";

static int make(void **state)
{
    (void)state;
    return mkdtemp(directory) ? 0 : -1;
}

static int clear(void **state)
{
    char path[64];
    (void)state;
    snprintf(path, sizeof path, "%s/used-tokens", directory);
    return unlink(path) == 0 && rmdir(directory) == 0 ? 0 : -1;
}

static void expect(struct mf_replay *r, const char *id, bool fresh)
{
    struct mf_error err = MF_ERROR_INIT;
    assert_int_equal(mf_replay_use(r, "ehr", id, NOW, LATER, &err), fresh);
    if (!fresh)
        assert_error(&err, MF_ERR_UNAUTHORIZED, "the token was used before (jti)");
}

static void two_processes_share_what_was_used(void **state)
{
    (void)state;
    MF_AUTO(mf_replay) struct mf_replay *old = mf_replay_open(directory, NOW, NULL);
    expect(old, "1", true);
    MF_AUTO(mf_replay) struct mf_replay *new = mf_replay_open(directory, NOW, NULL);
    expect(new, "1", false);
    expect(new, "2", true);
    expect(old, "2", false);
    expect(old, "3", true);
    expect(new, "3", false);
    expect(new, "4", true);
}

static void what_has_expired_is_dropped_and_the_rest_stays(void **state)
{
    (void)state;
    MF_AUTO(mf_replay) struct mf_replay *old = mf_replay_open(directory, NOW, NULL);
    assert_true(mf_replay_use(old, "ehr", "short", NOW, NOW + 1, NULL));
    MF_AUTO(mf_replay) struct mf_replay *new = mf_replay_open(directory, NOW + 2, NULL);
    expect(old, "4", false); /* of a file that was written anew, shorter */
    assert_true(mf_replay_use(new, "ehr", "short", NOW + 2, LATER, NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_processes_share_what_was_used),
        cmocka_unit_test(what_has_expired_is_dropped_and_the_rest_stays),
    };
    return cmocka_run_group_tests(tests, make, clear);
}
