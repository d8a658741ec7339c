/* Every module of tests/golden/modules against what PyTorch says: each expected tensor within 1e-4.
 */
#include "engine/module.h"
#include "tests/engine/parity.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_ENTRIES = 64, PATH_BYTES = 1024 };

static const char *ROOT = MF_SOURCE_DIR "/tests/golden/modules";

static int by_name(const void *a, const void *b)
{
    return strcmp((const char *)a, (const char *)b);
}

/* Names in a directory, sorted. */
static size_t list(const char *dir, char names[MAX_ENTRIES][128])
{
    size_t n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *e; d && (e = readdir(d)) && n < MAX_ENTRIES;)
        if (e->d_name[0] != '.')
            snprintf(names[n++], 128, "%.127s", e->d_name);
    if (d)
        closedir(d);
    qsort(names, n, sizeof *names, by_name);
    return n;
}

static void compare_outputs(struct parity *p, const char *where, const char *got, const char *want)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_safetensors *a = mf_safetensors_open(got, &err), *b = mf_safetensors_open(want, &err);
    if (!a || !b)
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < mf_safetensors_count(b); i++) {
        const struct mf_tensor *wanted = mf_safetensors_at(b, i);
        const struct mf_tensor *t = mf_safetensors_find(a, wanted->name);
        if (!t)
            fail_msg("%s: no output \"%s\"", where, wanted->name);
        float *data = malloc((t->count + 1) * sizeof *data);
        mf_tensor_to_floats(t, data);
        parity_compare(p, where, b, wanted->name, data, t->count);
        free(data);
    }
    mf_safetensors_free(a);
    mf_safetensors_free(b);
}

static void run_case(struct parity *p, const char *module, const char *name)
{
    char dir[PATH_BYTES], input[PATH_BYTES + 64], want[PATH_BYTES + 64], where[280];
    char output[] = "/tmp/mf-golden-XXXXXX";
    struct mf_error err = MF_ERROR_INIT;
    struct mf_module_options options = {.device = parity_device(),
                                        .threads = 2,
                                        .dtype = parity_dtype(),
                                        .kernels = getenv("MF_TEST_KERNELS")};
    snprintf(dir, sizeof dir, "%s/%s", ROOT, module);
    snprintf(input, sizeof input, "%s/cases/%s/input.safetensors", dir, name);
    snprintf(want, sizeof want, "%s/cases/%s/expected.safetensors", dir, name);
    snprintf(where, sizeof where, "%s/%s", module, name);
    int fd = mkstemp(output);
    assert_true(fd >= 0);
    close(fd);
    if (!mf_module_run(dir, input, output, &options, &err))
        fail_msg("%s: %s", where, err.msg);
    compare_outputs(p, where, output, want);
    unlink(output);
}

static void every_module_equals_pytorch(void **state)
{
    (void)state;
    struct parity p = {0};
    static char modules[MAX_ENTRIES][128], cases[MAX_ENTRIES][128];
    size_t n = list(ROOT, modules);
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        char dir[PATH_BYTES];
        snprintf(dir, sizeof dir, "%s/%s/cases", ROOT, modules[i]);
        size_t count = list(dir, cases);
        assert_true(count > 0);
        for (size_t k = 0; k < count; k++)
            run_case(&p, modules[i], cases[k]);
    }
    printf("%zu tensors compared, worst %.2e\n", p.compared, p.worst);
    assert_true(p.compared > 0);
    assert_int_equal(p.failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_module_equals_pytorch)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
