/* `module run` of SAM 2's image encoder alone (Hugging Face's Sam2VisionModel), for images of any
 * size that its windows take. */
#include "engine/module_io.h"

#include <string.h>

enum { LEVELS = 3 };

struct job {
    struct mf_hiera *net;
    const float *pixels;
    size_t batch, rows, cols;
    size_t sizes[4][2];
    float *out[LEVELS], *last; /* host: channels first; channels last */
};

static size_t cells(const struct job *j, size_t stage)
{
    return j->sizes[stage][0] * j->sizes[stage][1];
}

static void run_image(struct mf_exec *x, const struct job *j, size_t b)
{
    size_t f = mf_hiera_features(j->net), width = mf_hiera_width(j->net);
    size_t image = 3 * j->rows * j->cols, mark = mf_exec_mark(x);
    float *pixels = mf_exec_floats(x, image), *last = mf_exec_floats(x, cells(j, 3) * width);
    float *levels[LEVELS];
    for (size_t i = 0; i < LEVELS; i++)
        levels[i] = mf_exec_floats(x, cells(j, i) * f);
    MF_DO(x, upload, pixels, j->pixels + b * image, image);
    mf_hiera_run(x, j->net, pixels, j->rows, j->cols, levels, last);
    MF_DO(x, download, j->last + b * cells(j, 3) * width, last, cells(j, 3) * width);
    for (size_t i = 0; i < LEVELS; i++)
        mf_module_download_maps(x, levels[i], cells(j, i), f, j->out[i] + b * cells(j, i) * f);
    mf_exec_rewind(x, mark);
}

static void body(struct mf_exec *x, void *arg)
{
    const struct job *j = arg;
    for (size_t b = 0; b < j->batch; b++)
        run_image(x, j, b);
}

static bool make_outputs(struct mf_module_io *io, struct job *j)
{
    size_t f = mf_hiera_features(j->net);
    j->last = mf_module_output(
        io, "last_hidden_state", 4,
        (size_t[]){j->batch, j->sizes[3][0], j->sizes[3][1], mf_hiera_width(j->net)});
    bool ok = j->last != NULL;
    for (size_t i = 0; i < LEVELS; i++) {
        char name[32];
        snprintf(name, sizeof name, "fpn_hidden_states.%zu", i);
        j->out[i] =
            mf_module_output(io, name, 4, (size_t[]){j->batch, f, j->sizes[i][0], j->sizes[i][1]});
        ok = ok && j->out[i];
    }
    return ok;
}

bool mf_module_hiera(struct mf_exec *x, struct mf_loader *ld, struct mf_module_io *io)
{
    struct job j = {0};
    size_t shape[4];
    j.net = mf_hiera_load(ld);
    j.pixels = mf_loader_finish(ld, NULL) ? mf_module_floats(io, "pixel_values", 4, shape) : NULL;
    if (!j.pixels)
        return false;
    if (shape[1] != 3 || shape[2] < 32 || shape[3] < 32)
        return mf_module_bad(
            io, "tensor \"pixel_values\" must be (b, 3, h, w) with h and w at least 32");
    j.batch = shape[0];
    j.rows = shape[2];
    j.cols = shape[3];
    mf_hiera_sizes(j.net, j.rows, j.cols, j.sizes);
    return make_outputs(io, &j) && mf_exec_run(x, body, &j, false, io->err);
}
