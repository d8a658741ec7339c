/* The other operations of the CPU backend against plain loops, over odd shapes and on every
 * instruction set this machine has. */
#include "tests/engine/ops_check.h"

static double reference_unary(enum mf_unary op, double x)
{
    switch (op) {
    case MF_UNARY_GELU:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case MF_UNARY_RELU:
        return x > 0 ? x : 0;
    case MF_UNARY_SILU:
        return x / (1 + exp(-x));
    case MF_UNARY_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        return tanh(x);
    }
}

static void activations_follow_their_formulas(void **state)
{
    enum { N = 4099 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        float x[N], y[N];
        double want[N];
        for (int op = MF_UNARY_GELU; be && op <= MF_UNARY_TANH; op++) {
            for (size_t k = 0; k < N; k++) {
                x[k] = k < 9 ? (float[]){0, -0.0f, 2.695f, -90, 90, -1e4f, 1e4f, 1e-8f, -20}[k]
                             : 12 * noise();
                want[k] = reference_unary((enum mf_unary)op, x[k]);
            }
            mf_cpu_ops.unary(be, (enum mf_unary)op, x, N, y);
            assert_near("activation", y, want, N, 2e-6);
        }
        mf_cpu_ops.backend_free(be);
    }
}

static void gates_multiply_the_right_half(void **state)
{
    enum { ROWS = 5, HALF = 19 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 1);
        float *x = noisy(ROWS * 2 * HALF), y[ROWS * HALF];
        double want[ROWS * HALF];
        for (int op = MF_GLU_RELU; be && op <= MF_GLU_SILU; op++) {
            for (size_t k = 0; k < ROWS * HALF; k++) {
                double a = x[k / HALF * 2 * HALF + k % HALF],
                       b = x[k / HALF * 2 * HALF + HALF + k % HALF];
                want[k] = op == MF_GLU_RELU ? a * (b > 0 ? b : 0) : a / (1 + exp(-a)) * b;
            }
            mf_cpu_ops.glu(be, (enum mf_glu)op, x, ROWS, HALF, y);
            assert_near("glu", y, want, ROWS * HALF, 2e-6);
        }
        free(x);
        mf_cpu_ops.backend_free(be);
    }
}

static void norms_have_the_right_mean_and_scale(void **state)
{
    static const size_t WIDTHS[] = {1, 3, 16, 31, 48, 192, 768};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++)
        for (size_t k = 0; k < sizeof WIDTHS / sizeof *WIDTHS; k++) {
            struct mf_backend *be = backend_of(ISAS[i], 2);
            size_t w = WIDTHS[k], rows = 67;
            float *x = noisy(rows * w), *g = noisy(w), *c = noisy(w), *y = noisy(rows * w),
                  *z = noisy(rows * w);
            double *layer = malloc(rows * w * sizeof *layer), *rms = malloc(rows * w * sizeof *rms);
            for (size_t r = 0; r < rows; r++) {
                double mean = 0, var = 0, square = 0;
                for (size_t j = 0; j < w; j++)
                    mean += x[r * w + j] / (double)w;
                for (size_t j = 0; j < w; j++) {
                    var += (x[r * w + j] - mean) * (x[r * w + j] - mean) / (double)w;
                    square += (double)x[r * w + j] * x[r * w + j] / (double)w;
                }
                for (size_t j = 0; j < w; j++) {
                    layer[r * w + j] = (x[r * w + j] - mean) / sqrt(var + 1e-3) * g[j] + c[j];
                    rms[r * w + j] = x[r * w + j] / sqrt(square + 1e-3) * g[j];
                }
            }
            if (be) {
                mf_cpu_ops.layer_norm(be, x, rows, w, g, c, 1e-3f, y);
                mf_cpu_ops.rms_norm(be, x, rows, w, g, 1e-3f, z);
                assert_near("layer_norm", y, layer, rows * w, 1e-5);
                assert_near("rms_norm", z, rms, rows * w, 1e-5);
            }
            free(x);
            free(g);
            free(c);
            free(y);
            free(z);
            free(layer);
            free(rms);
            mf_cpu_ops.backend_free(be);
        }
}

static void check_scan(struct mf_backend *be, size_t t, size_t channels, size_t states)
{
    size_t wide = 2 * states + 3, z_row = 2 * channels;
    float *u = noisy(t * channels), *dt = noisy(t * channels), *bc = noisy(t * wide),
          *z = noisy(t * z_row);
    float *a = noisy(states * channels), *d = noisy(channels), *y = noisy(t * channels);
    double *want = malloc(t * channels * sizeof *want), *h = malloc(states * sizeof *h);
    for (size_t i = 0; i < states * channels; i++)
        a[i] = -1 - a[i] * a[i];
    dt[0] = 25; /* the linear part of softplus, and the part where e^x is tiny */
    dt[t * channels - 1] = -18;
    for (size_t c = 0; c < channels; c++) {
        memset(h, 0, states * sizeof *h);
        for (size_t i = 0; i < t; i++) {
            double x = dt[i * channels + c], step = x > 20 ? x : log1p(exp(x)),
                   in = u[i * channels + c];
            double sum = (double)d[c] * in, gate = z[i * z_row + c];
            for (size_t s = 0; s < states; s++) {
                h[s] = exp(step * a[s * channels + c]) * h[s] + step * in * bc[i * wide + s];
                sum += h[s] * bc[i * wide + states + s];
            }
            want[i * channels + c] = sum * gate / (1 + exp(-gate));
        }
    }
    struct mf_scan scan = {.length = t,
                           .channels = channels,
                           .states = states,
                           .u = u,
                           .dt = dt,
                           .b = bc,
                           .c = bc + states,
                           .bc_row = wide,
                           .a = a,
                           .d = d,
                           .z = z,
                           .z_row = z_row};
    mf_cpu_ops.selective_scan(be, &scan, y);
    assert_near("selective_scan", y, want, t * channels, 1e-5);
    free(u);
    free(dt);
    free(bc);
    free(z);
    free(a);
    free(d);
    free(y);
    free(want);
    free(h);
}

static void the_scan_follows_its_recurrence(void **state)
{
    static const size_t SHAPES[][3] = {
        {1, 1, 1}, {17, 16, 16}, {34, 37, 16}, {51, 96, 8}, {5, 20, 3}};
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        for (size_t n = 0; be && n < sizeof SHAPES / sizeof *SHAPES; n++)
            check_scan(be, SHAPES[n][0], SHAPES[n][1], SHAPES[n][2]);
        mf_cpu_ops.backend_free(be);
    }
}

static void the_causal_convolution_sees_only_the_past(void **state)
{
    enum { T = 9, C = 21, K = 4, ROW = 45 };
    (void)state;
    for (size_t i = 0; i < ISA_COUNT; i++) {
        struct mf_backend *be = backend_of(ISAS[i], 2);
        float *x = noisy(T * ROW), *w = noisy(K * C), *b = noisy(C), y[T * C];
        double want[T * C];
        for (size_t t = 0; t < T; t++)
            for (size_t c = 0; c < C; c++) {
                double s = b[c];
                for (size_t k = 0; k < K; k++)
                    if (t + k + 1 >= K)
                        s += (double)w[k * C + c] * x[(t + k + 1 - K) * ROW + c];
                want[t * C + c] = s / (1 + exp(-s));
            }
        if (be) {
            mf_cpu_ops.causal_conv(be, x, T, C, ROW, w, b, K, y);
            assert_near("causal_conv", y, want, T * C, 2e-6);
        }
        free(x);
        free(w);
        free(b);
        mf_cpu_ops.backend_free(be);
    }
}

static void windows_come_back_where_they_were(void **state)
{
    enum { H = 5, WIDTH = 7, C = 3, S = 4 };
    (void)state;
    struct mf_backend *be = backend_of(NULL, 1);
    float *x = noisy(H * WIDTH * C), w[2 * 2 * S * S * C], y[H * WIDTH * C] = {0};
    mf_cpu_ops.windows(be, x, H, WIDTH, C, S, w);
    assert_true(w[(S * S + 3) * C] == 0); /* row 0, column 7 of the second window: outside */
    mf_cpu_ops.unwindows_add(be, w, H, WIDTH, C, S, y);
    assert_memory_equal(x, y, sizeof y);
    free(x);
    mf_cpu_ops.backend_free(be);
}

static void unfolding_pads_with_zeros(void **state)
{
    (void)state;
    struct mf_backend *be = backend_of(NULL, 1);
    const float image[6] = {1, 2, 3, 4, 5, 6}; /* 2 × 3, one channel */
    struct mf_unfold u = {1, 1, 2, 3, 3, 3, 2, 2, 1, 1, true};
    float y[2 * 9];
    const float want[2 * 9] = {0, 0, 0, 0, 1, 2, 0, 4, 5, 0, 0, 0, 2, 3, 0, 5, 6, 0};
    assert_int_equal(mf_unfold_rows(&u), 2);
    mf_cpu_ops.unfold(be, &u, image, y);
    assert_memory_equal(y, want, sizeof want);
    u.channels_last = false;
    mf_cpu_ops.unfold(be, &u, image, y);
    assert_memory_equal(y, want, sizeof want);
    mf_cpu_ops.backend_free(be);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(activations_follow_their_formulas),
        cmocka_unit_test(gates_multiply_the_right_half),
        cmocka_unit_test(norms_have_the_right_mean_and_scale),
        cmocka_unit_test(the_scan_follows_its_recurrence),
        cmocka_unit_test(the_causal_convolution_sees_only_the_past),
        cmocka_unit_test(windows_come_back_where_they_were),
        cmocka_unit_test(unfolding_pads_with_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
