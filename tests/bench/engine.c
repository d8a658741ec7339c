/*
 * Times one network of a Hugging Face directory, and the matrix products that it consists of, done
 * by oneDNN alone. One measurement a process; tests/bench/engine.py drives it.
 *
 *   bench_engine run DIR [OPTION]…        {"min_ms", "median_ms", "ms", "load_ms", …}
 *   bench_engine products DIR [OPTION]…   the same sums and shapes on oneDNN: {"min_ms", …}
 *     --dtype f32|bf16|int8  --threads N  --size PIXELS | --length STEPS  --runs N  --seconds S
 *
 * The shapes of the products are taken down while the network plans its run: linear layers with
 * their weights packed, attention as two batched products over all heads.
 */
#include "core/arena.h"
#include "core/clock.h"
#include "engine/net/net.h"
#include "engine/weights.h"

#include <dnnl.h>
#include <getopt.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MAX_LAYERS = 4096, MAX_PRODUCTS = 8192, MAX_RUNS = 1000 };

struct product {
    size_t batch, m, k, n, count;
    const struct mf_linear *linear; /* NULL: attention */
};

static struct {
    struct {
        const struct mf_linear *linear;
        size_t out, in;
    } layers[MAX_LAYERS];
    size_t layer_count;
    struct product products[MAX_PRODUCTS];
    size_t product_count;
} taken;

struct options {
    const char *dir, *dtype;
    int threads;
    size_t size, length, runs;
    double seconds;
};

/* --- taking shapes down --- */

/* A layer that is run in parts is one product of all its rows. */
static void add_product(struct product p)
{
    for (size_t i = 0; p.linear && i < taken.product_count; i++)
        if (taken.products[i].linear == p.linear) {
            taken.products[i].m += p.m;
            return;
        }
    p.count = 1;
    if (taken.product_count < MAX_PRODUCTS)
        taken.products[taken.product_count++] = p;
}

/* Products of the same shape become one that is run `count` times, in the same memory. */
static void count_products(void)
{
    size_t n = 0;
    for (size_t i = 0; i < taken.product_count; i++) {
        struct product p = taken.products[i];
        size_t k = 0;
        for (; k < n; k++) {
            const struct product *q = &taken.products[k];
            if (q->batch == p.batch && q->m == p.m && q->k == p.k && q->n == p.n &&
                !q->linear == !p.linear)
                break;
        }
        if (k == n)
            taken.products[n++] = p;
        else
            taken.products[k].count++;
    }
    taken.product_count = n;
}

static struct mf_linear *linear_new(struct mf_backend *be, const struct mf_linear_source *source,
                                    struct mf_error *err)
{
    struct mf_linear *l = mf_cpu_ops.linear_new(be, source, err);
    if (taken.layer_count < MAX_LAYERS) {
        taken.layers[taken.layer_count].linear = l;
        taken.layers[taken.layer_count].out = source->out;
        taken.layers[taken.layer_count++].in = source->in;
    }
    return l;
}

static bool taking = false;

static bool linear_plan(struct mf_linear *l, size_t m, size_t x_row, enum mf_epilogue epilogue,
                        size_t *ret_scratch, struct mf_error *err)
{
    for (size_t i = 0; taking && i < taken.layer_count; i++)
        if (taken.layers[i].linear == l)
            add_product((struct product){1, m, taken.layers[i].in, taken.layers[i].out, 0, l});
    return mf_cpu_ops.linear_plan(l, m, x_row, epilogue, ret_scratch, err);
}

static size_t attention_scratch(struct mf_backend *be, const struct mf_attention *at)
{
    if (taking) {
        size_t batch = at->batch * at->heads;
        add_product((struct product){batch, at->queries, at->head_size, at->keys, 0, NULL});
        add_product((struct product){batch, at->queries, at->keys, at->head_size, 0, NULL});
    }
    return mf_cpu_ops.attention_scratch(be, at);
}

/* --- where the time goes --- */

static double since_ms(uint64_t start)
{
    return (double)(mf_clock_monotonic_ns() - start) / 1e6;
}

/* Processor time of this thread: what a run takes where nobody else computes. */
static double thread_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static struct {
    double linear, mlp, attention, norm; /* ms of thread time */
} spent;

static bool linear(struct mf_linear *l, const float *x, size_t m, size_t x_row, float *y,
                   enum mf_epilogue epilogue, float *scratch, struct mf_error *err)
{
    double start = thread_ms();
    bool ok = mf_cpu_ops.linear(l, x, m, x_row, y, epilogue, scratch, err);
    spent.linear += thread_ms() - start;
    return ok;
}

static void norm_linear(struct mf_linear *l, const struct mf_norm *norm, const float *x, size_t m,
                        float *y, enum mf_epilogue epilogue, float *scratch)
{
    double start = thread_ms();
    mf_cpu_ops.norm_linear(l, norm, x, m, y, epilogue, scratch);
    spent.linear += thread_ms() - start;
}

static void mlp(struct mf_linear *fc1, struct mf_linear *fc2, const struct mf_norm *norm,
                enum mf_epilogue activation, float *h, size_t m, float *scratch)
{
    double start = thread_ms();
    mf_cpu_ops.mlp(fc1, fc2, norm, activation, h, m, scratch);
    spent.mlp += thread_ms() - start;
}

static void attention(struct mf_backend *be, const struct mf_attention *at, const float *q,
                      const float *k, const float *v, float *o, float *scratch)
{
    double start = thread_ms();
    mf_cpu_ops.attention(be, at, q, k, v, o, scratch);
    spent.attention += thread_ms() - start;
}

static void window_attention(struct mf_backend *be, const struct mf_attention *at,
                             const struct mf_windows *windows, const float *q, const float *k,
                             const float *v, float *o, float *scratch)
{
    double start = thread_ms();
    mf_cpu_ops.window_attention(be, at, windows, q, k, v, o, scratch);
    spent.attention += thread_ms() - start;
}

static void layer_norm(struct mf_backend *be, const float *x, size_t rows, size_t width,
                       const float *weight, const float *bias, float eps, float *y)
{
    double start = thread_ms();
    mf_cpu_ops.layer_norm(be, x, rows, width, weight, bias, eps, y);
    spent.norm += thread_ms() - start;
}

/* --- the network --- */

struct network {
    const struct options *options;
    struct mf_vit *vit;
    struct mf_sam2 *sam2;
    struct mf_mamba *mamba;
    struct mf_transformer *transformer;
    size_t width; /* of a sequence */
    float *input; /* host */
};

static bool load(struct network *net, struct mf_exec *x, struct mf_weights *weights,
                 struct mf_arena *arena, struct mf_error *err)
{
    const char *type = mf_json_get_string(mf_weights_config(weights), "model_type", "");
    struct mf_loader ld;
    bool sam2 = strncmp(type, "sam2", 4) == 0, mamba = strcmp(type, "mamba") == 0;
    bool transformer = strcmp(type, "transformer") == 0;
    mf_weights_set_prefix(weights, sam2 ? "sam2." : mamba ? "backbone." : "dinov2.");
    mf_loader_init(&ld, weights, x, arena, err);
    if (sam2)
        net->sam2 = mf_sam2_load(&ld, false);
    else if (mamba)
        net->mamba = mf_mamba_load(&ld);
    else if (transformer)
        net->transformer = mf_transformer_load(&ld);
    else
        net->vit = mf_vit_load_any(&ld);
    if (mamba || transformer)
        net->width = mf_loader_int(&ld, "hidden_size", 1, 8192, -1);
    return !ld.failed;
}

static void body(struct mf_exec *x, void *arg)
{
    struct network *net = arg;
    size_t s = net->options->size, t = net->options->length;
    if (net->width) {
        size_t d = net->width;
        float *in = mf_exec_floats(x, t * d), *out = mf_exec_floats(x, t * d);
        MF_DO(x, upload, in, net->input, t * d);
        if (net->mamba)
            mf_mamba_run(x, net->mamba, in, t, out);
        else
            mf_transformer_run(x, net->transformer, in, t, out);
        return;
    }
    float *pixels = mf_exec_floats(x, 3 * s * s);
    MF_DO(x, upload, pixels, net->input, 3 * s * s);
    if (net->sam2) {
        struct mf_sam2_maps maps;
        mf_sam2_maps_alloc(x, net->sam2, &maps);
        mf_sam2_embed(x, net->sam2, pixels, &maps);
        return;
    }
    float *hidden = mf_exec_floats(x, mf_vit_tokens(net->vit, s, s) * mf_vit_width(net->vit));
    mf_vit_run(x, net->vit, pixels, 1, s, s, hidden);
}

static float *noise(size_t n)
{
    float *p = malloc(n * sizeof *p);
    uint32_t seed = 1;
    for (size_t i = 0; p && i < n; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (float)(seed >> 8) / (float)(1 << 23) - 1;
    }
    return p;
}

/* --- oneDNN alone --- */

static dnnl_engine_t engine;
static dnnl_stream_t stream;

struct primitive {
    dnnl_primitive_t primitive;
    dnnl_exec_arg_t args[3];
    size_t count;
};

static dnnl_memory_t memory(const dnnl_memory_desc_t *desc)
{
    dnnl_memory_t m = NULL;
    size_t bytes = dnnl_memory_desc_get_size(desc);
    void *p = aligned_alloc(64, bytes / 64 * 64 + 64);
    memset(p, 0, bytes);
    dnnl_memory_create(&m, desc, engine, p);
    return m;
}

static bool make_primitive(const struct product *p, const char *dtype, struct primitive *ret)
{
    dnnl_data_type_t in = strcmp(dtype, "f32") == 0    ? dnnl_f32
                          : strcmp(dtype, "bf16") == 0 ? dnnl_bf16
                          : !p->linear                 ? dnnl_bf16
                                                       : dnnl_s8;
    dnnl_data_type_t out = in == dnnl_s8 ? dnnl_f32 : in;
    int rank = !p->linear ? 3 : 2, skip = 3 - rank;
    dnnl_dim_t b = (dnnl_dim_t)p->batch, m = (dnnl_dim_t)p->m, k = (dnnl_dim_t)p->k,
               n = (dnnl_dim_t)p->n;
    dnnl_dims_t x = {b, m, k}, w = {b, k, n}, y = {b, m, n};
    dnnl_format_tag_t plain = !p->linear ? dnnl_abc : dnnl_ab;
    dnnl_memory_desc_t xd, wd, yd;
    dnnl_matmul_desc_t desc;
    dnnl_primitive_desc_t pd;
    if (dnnl_memory_desc_init_by_tag(&xd, rank, x + skip, in, plain) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&wd, rank, w + skip, in,
                                     !p->linear ? plain : dnnl_format_tag_any) != dnnl_success ||
        dnnl_memory_desc_init_by_tag(&yd, rank, y + skip, out, plain) != dnnl_success ||
        dnnl_matmul_desc_init(&desc, &xd, &wd, NULL, &yd) != dnnl_success ||
        dnnl_primitive_desc_create(&pd, &desc, NULL, engine, NULL) != dnnl_success ||
        dnnl_primitive_create(&ret->primitive, pd) != dnnl_success)
        return false;
    ret->args[0] = (dnnl_exec_arg_t){DNNL_ARG_SRC, memory(&xd)};
    ret->args[1] = (dnnl_exec_arg_t){
        DNNL_ARG_WEIGHTS, memory(dnnl_primitive_desc_query_md(pd, dnnl_query_weights_md, 0))};
    ret->args[2] = (dnnl_exec_arg_t){DNNL_ARG_DST, memory(&yd)};
    ret->count = p->count;
    return true;
}

static void run_products(const struct primitive *list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < list[i].count; k++)
            dnnl_primitive_execute(list[i].primitive, stream, 3, list[i].args);
    dnnl_stream_wait(stream);
}

/* --- the measurement --- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_times(double *ms, size_t n)
{
    qsort(ms, n, sizeof *ms, by_value);
    double median = n % 2 ? ms[n / 2] : (ms[n / 2 - 1] + ms[n / 2]) / 2;
    printf("{\"min_ms\": %.4f, \"median_ms\": %.4f, \"ms\": [", ms[0], median);
    for (size_t i = 0; i < n; i++)
        printf("%s%.4f", i ? ", " : "", ms[i]);
    printf("]");
}

static bool more(const struct options *o, uint64_t start, size_t done)
{
    return done < o->runs && (done < 3 || since_ms(start) < o->seconds * 1e3);
}

static bool measure_products(const struct options *o)
{
    static struct primitive list[MAX_PRODUCTS];
    double ms[MAX_RUNS], flop = 0;
    size_t n = 0;
    count_products();
    omp_set_num_threads(o->threads);
    dnnl_engine_create(&engine, dnnl_cpu, 0);
    dnnl_stream_create(&stream, engine, dnnl_stream_default_flags);
    for (size_t i = 0; i < taken.product_count; i++) {
        const struct product *p = &taken.products[i];
        if (!make_primitive(p, o->dtype, &list[i])) {
            fprintf(stderr, "oneDNN has no %s product here\n", o->dtype);
            return false;
        }
        flop += 2.0 * (double)(p->batch * p->m * p->k * p->n * p->count);
    }
    run_products(list, taken.product_count);
    for (uint64_t start = mf_clock_monotonic_ns(); more(o, start, n); n++) {
        uint64_t begin = mf_clock_monotonic_ns();
        run_products(list, taken.product_count);
        ms[n] = since_ms(begin);
    }
    print_times(ms, n);
    printf(", \"gflop\": %.2f}\n", flop / 1e9);
    return true;
}

static bool measure_network(const struct options *o, struct mf_exec *x, struct network *net,
                            double load_ms, struct mf_error *err)
{
    double ms[MAX_RUNS];
    size_t n = 0;
    struct rusage usage;
    if (!mf_exec_run(x, body, net, false, err))
        return false;
    memset(&spent, 0, sizeof spent);
    for (uint64_t start = mf_clock_monotonic_ns(); more(o, start, n); n++) {
        uint64_t begin = mf_clock_monotonic_ns();
        if (!mf_exec_replay(x, body, net, err))
            return false;
        ms[n] = since_ms(begin);
    }
    getrusage(RUSAGE_SELF, &usage);
    print_times(ms, n);
    printf(", \"linear_ms\": %.3f, \"mlp_ms\": %.3f, \"attention_ms\": %.3f, \"norm_ms\": %.3f",
           spent.linear / (double)n, spent.mlp / (double)n, spent.attention / (double)n,
           spent.norm / (double)n);
    printf(", \"load_ms\": %.1f, \"weight_bytes\": %zu, \"work_bytes\": %zu, \"peak_rss\": %ld}\n",
           load_ms, x->weight_bytes, x->capacity, usage.ru_maxrss * 1024);
    return true;
}

static bool measure(const struct options *o, bool products, struct mf_error *err)
{
    struct network net = {.options = o};
    MF_AUTO(mf_exec) struct mf_exec x = {0};
    struct mf_ops ops = mf_cpu_ops;
    ops.linear_new = linear_new;
    ops.linear_plan = linear_plan;
    ops.attention_scratch = attention_scratch;
    ops.linear = linear;
    ops.norm_linear = products ? NULL : norm_linear;
    ops.mlp = products ? NULL : mlp;
    ops.attention = attention;
    ops.window_attention = window_attention;
    ops.layer_norm = layer_norm;
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new((size_t)4 << 30);
    uint64_t start = mf_clock_monotonic_ns();
    if (!mf_exec_init(&x, "cpu", o->dtype, o->threads, err))
        return false;
    x.ops = &ops;
    MF_AUTO(mf_weights) struct mf_weights *weights = mf_weights_open(o->dir, err);
    if (!weights || !load(&net, &x, weights, arena, err))
        return false;
    double load_ms = since_ms(start);
    size_t n = net.width ? o->length * net.width : 3 * o->size * o->size;
    MF_AUTO(mf_mem) float *input = net.input = noise(n);
    taking = products;
    bool ok = products ? mf_exec_run(&x, body, &net, true, err) && measure_products(o)
                       : measure_network(o, &x, &net, load_ms, err);
    x.ops = &mf_cpu_ops;
    return ok;
}

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"dtype", required_argument, NULL, 'd'},
                                         {"threads", required_argument, NULL, 't'},
                                         {"size", required_argument, NULL, 's'},
                                         {"length", required_argument, NULL, 'l'},
                                         {"runs", required_argument, NULL, 'r'},
                                         {"seconds", required_argument, NULL, 'u'},
                                         {NULL, 0, NULL, 0}};
    struct options o = {
        .dtype = "f32", .threads = 1, .size = 224, .length = 544, .runs = 20, .seconds = 10};
    struct mf_error err = MF_ERROR_INIT;
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        long n = c == 'd' || c == '?' ? 0 : strtol(optarg, NULL, 10);
        if (c == 'd')
            o.dtype = optarg;
        else if (c == 't')
            o.threads = (int)n;
        else if (c == 's')
            o.size = (size_t)n;
        else if (c == 'l')
            o.length = (size_t)n;
        else if (c == 'r')
            o.runs = n < MAX_RUNS ? (size_t)n : MAX_RUNS;
        else if (c == 'u')
            o.seconds = strtod(optarg, NULL);
        else
            return 2;
    }
    if (optind + 2 != argc) {
        fprintf(stderr, "usage: bench_engine run|products DIR [OPTION]…\n");
        return 2;
    }
    o.dir = argv[optind + 1];
    if (measure(&o, strcmp(argv[optind], "products") == 0, &err))
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return 1;
}
