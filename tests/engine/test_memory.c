/*
 * Planned memory is what a process really takes: a vision transformer of 11 million random weights
 * is loaded and run in a process of its own, whose resident peak above what it had before must be
 * the planned sum of weights and work within 5 %.
 */
#include "core/json.h"
#include "engine/net/net.h"
#include "engine/weights.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { WIDTH = 384, LAYERS = 6, PATCH = 14, IMAGE = 224, TENSORS = 128 };

static const double LIMIT = 0.05;
static const double SLACK = 1e6;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = 1 }; /* they keep memory of their own */
#else
enum { SANITIZED = 0 };
#endif

struct model {
    struct mf_tensor tensors[TENSORS];
    size_t count;
};

static void add(struct model *m, const char *prefix, const char *name, int rank,
                const size_t *shape)
{
    char full[128];
    struct mf_tensor *t = &m->tensors[m->count++];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    *t = (struct mf_tensor){.name = strdup(full), .dtype = MF_DTYPE_F32, .rank = rank, .count = 1};
    for (int i = 0; i < rank; i++)
        t->count *= t->shape[i] = shape[i];
    float *data = malloc(t->count * sizeof *data);
    uint32_t seed = (uint32_t)m->count;
    for (size_t i = 0; i < t->count; i++) {
        seed = seed * 1664525 + 1013904223;
        data[i] = 0.05f * ((float)(seed >> 8) / (float)(1 << 23) - 1);
    }
    t->data = data;
}

static void add_layer(struct model *m, size_t i)
{
    static const char *const SQUARE[] = {"attention.attention.query", "attention.attention.key",
                                         "attention.attention.value", "attention.output.dense"};
    static const char *const VECTORS[] = {
        "norm1.weight",         "norm1.bias",           "norm2.weight", "norm2.bias",
        "layer_scale1.lambda1", "layer_scale2.lambda1", "mlp.fc2.bias"};
    const size_t d = WIDTH, wide = 4 * d;
    char prefix[64], name[64];
    snprintf(prefix, sizeof prefix, "encoder.layer.%zu.", i);
    for (size_t k = 0; k < 4; k++) {
        snprintf(name, sizeof name, "%s.weight", SQUARE[k]);
        add(m, prefix, name, 2, (size_t[]){d, d});
        snprintf(name, sizeof name, "%s.bias", SQUARE[k]);
        add(m, prefix, name, 1, &d);
    }
    for (size_t k = 0; k < 7; k++)
        add(m, prefix, VECTORS[k], 1, &d);
    add(m, prefix, "mlp.fc1.weight", 2, (size_t[]){wide, d});
    add(m, prefix, "mlp.fc1.bias", 1, &wide);
    add(m, prefix, "mlp.fc2.weight", 2, (size_t[]){d, wide});
}

static void write_model(const char *dir, size_t layers)
{
    const size_t d = WIDTH, tokens = 1 + IMAGE / PATCH * IMAGE / PATCH;
    struct model m = {.count = 0};
    char path[128];
    add(&m, "embeddings.", "cls_token", 3, (size_t[]){1, 1, d});
    add(&m, "embeddings.", "mask_token", 2, (size_t[]){1, d});
    add(&m, "embeddings.", "position_embeddings", 3, (size_t[]){1, tokens, d});
    add(&m, "embeddings.", "patch_embeddings.projection.weight", 4, (size_t[]){d, 3, PATCH, PATCH});
    add(&m, "embeddings.", "patch_embeddings.projection.bias", 1, &d);
    for (size_t i = 0; i < layers; i++)
        add_layer(&m, i);
    add(&m, "layernorm.", "weight", 1, &d);
    add(&m, "layernorm.", "bias", 1, &d);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    assert_true(mf_safetensors_write(path, m.tensors, m.count, NULL));
    for (size_t i = 0; i < m.count; i++) {
        free((void *)(uintptr_t)m.tensors[i].name);
        free((void *)(uintptr_t)m.tensors[i].data);
    }
    snprintf(path, sizeof path, "%s/config.json", dir);
    json_t *config = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i}", "model_type", "dinov2",
                               "hidden_size", WIDTH, "num_hidden_layers", (int)layers,
                               "num_attention_heads", 6, "patch_size", PATCH, "image_size", IMAGE);
    assert_int_equal(json_dump_file(config, path, 0), 0);
    json_decref(config);
}

static void remove_model(const char *dir)
{
    static const char *const FILES[] = {"model.safetensors", "config.json"};
    char path[128];
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, FILES[i]);
        unlink(path);
    }
    rmdir(dir);
}

/* A figure of /proc/self/status in bytes. */
static double status_bytes(const char *key)
{
    char line[256];
    unsigned long kb = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtoul(line + strlen(key) + 1, NULL, 10);
    if (f)
        fclose(f);
    return (double)kb * 1024;
}

struct pass {
    struct mf_vit *vit;
    size_t image;
};

static void body(struct mf_exec *x, void *arg)
{
    static float pixels[3 * IMAGE * IMAGE];
    const struct pass *p = arg;
    size_t n = 3 * p->image * p->image;
    float *in = mf_exec_floats(x, n);
    float *out =
        mf_exec_floats(x, mf_vit_tokens(p->vit, p->image, p->image) * mf_vit_width(p->vit));
    MF_DO(x, upload, in, pixels, n);
    mf_vit_run(x, p->vit, in, 1, p->image, p->image, out);
}

/* Loads and runs; planned bytes of weights and work, the network's arena included. */
static size_t run(const char *dir, const char *dtype, size_t image, struct mf_exec *x)
{
    struct mf_weights *weights = mf_weights_open(dir, NULL);
    struct mf_arena *arena = mf_arena_new(1 << 28);
    struct mf_loader ld;
    if (!weights || !arena || !mf_exec_init(x, "cpu", dtype, 1, NULL))
        return 0;
    mf_loader_init(&ld, weights, x, arena, NULL);
    struct pass p = {mf_vit_load_any(&ld), image};
    mf_weights_forget(weights); /* as an engine does */
    if (!p.vit || !mf_exec_run(x, body, &p, false, NULL))
        return 0;
    return x->weight_bytes + x->capacity + mf_arena_used(arena);
}

/* In a process of its own: 0 when the peak is as planned. The network of one layer is run first:
 * what the libraries take once for such shapes (generated code among it) is no network's. */
static int measure(const char *one_layer, const char *dir, const char *dtype)
{
    struct mf_exec first, x;
    if (!run(one_layer, dtype, IMAGE, &first))
        return 2;
    double before = status_bytes("VmRSS:");
    double planned = (double)run(dir, dtype, IMAGE, &x);
    double real = status_bytes("VmHWM:") - before;
    printf("%-5s planned %.1f MB, real %.1f MB (%+.1f %%)\n", dtype, planned / 1e6, real / 1e6,
           100 * (planned / real - 1));
    fflush(stdout);
    /* Of a network as small as this one a few pages of the allocator are a percent. */
    return planned > 0 && fabs(planned - real) <= fmax(LIMIT * real, SLACK) ? 0 : 1;
}

static void planned_memory_is_the_resident_peak(void **state)
{
    static const char *const DTYPES[] = {"f32", "bf16", "int8"};
    char dir[] = "/tmp/mf-memory-XXXXXX", one_layer[] = "/tmp/mf-memory-XXXXXX";
    (void)state;
    if (SANITIZED) {
        printf("skipped: a sanitizer's own memory counts too\n");
        return;
    }
    assert_non_null(mkdtemp(dir));
    assert_non_null(mkdtemp(one_layer));
    write_model(dir, LAYERS);
    write_model(one_layer, 1);
    int failed = 0;
    for (int i = 0; i < 3; i++) {
        int status = -1;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0)
            _exit(measure(one_layer, dir, DTYPES[i]));
        assert_true(waitpid(child, &status, 0) == child);
        failed += status != 0;
    }
    remove_model(dir);
    remove_model(one_layer);
    assert_int_equal(failed, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planned_memory_is_the_resident_peak)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
