/* The head's gradient on an engine's device (engine/trust/adapt_device.h): the head's vectors and a
 * share of the studies go up, a block of threads takes a study. */
#include "engine/adapt_device.h"

#include "engine/frames_private.h"

#include <stdlib.h>
#include <string.h>

/* Studies at a time, and what one block's shared memory holds of a head. */
enum { SHARE = 1024, MOST_SHARED = 96 << 10 };

/* One call: everything in one array of the device, doubles. */
struct call {
    struct mf_frames *frames;
    const struct mf_frame_ops *ops;
    struct mf_backend *be;
    struct mf_device_head head; /* on the device */
    double *u, *dgamma, *dbeta, *loss, *z, *sum;
    size_t share;
};

static size_t head_doubles(const struct mf_adapt_head *h)
{
    return h->labels * h->width + h->labels + 4 * h->width;
}

static double *put(const struct call *c, double **at, const double *host, size_t n)
{
    double *there = *at;
    c->ops->put(c->be, there, host, n * sizeof *host);
    *at += n;
    return there;
}

static bool begin(struct call *c, struct mf_engine *e, const struct mf_adapt_head *h,
                  const struct mf_adapt_norm *norm, size_t count, struct mf_error *err)
{
    size_t w = h->width, share = count < SHARE ? count : SHARE;
    size_t n = head_doubles(h) + share * (3 * w + 1 + h->labels) + w;
    struct mf_frames *f = e->frames;
    *c = (struct call){.frames = f, .ops = f->ops, .be = f->be, .share = share};
    if ((w + h->labels) * sizeof(double) > MOST_SHARED)
        return mf_error_set(err, MF_ERR_UNAVAILABLE,
                            "a head of %zu activations is too wide for the device's adaptation", w);
    f->device->enter(f->be);
    if (!mf_frames_grow(f, &f->head, n * sizeof(double), err))
        return false;
    double *at = f->head.memory;
    c->head = (struct mf_device_head){.width = w, .labels = h->labels, .epsilon = h->epsilon};
    c->head.w2 = put(c, &at, h->w2, h->labels * w);
    c->head.b2 = put(c, &at, h->b2, h->labels);
    c->head.gamma = put(c, &at, norm->gamma, w);
    c->head.beta = put(c, &at, norm->beta, w);
    c->head.mean = put(c, &at, norm->mean, w);
    c->head.variance = put(c, &at, norm->variance, w);
    c->u = at;
    c->dgamma = c->u + share * w;
    c->dbeta = c->dgamma + share * w;
    c->loss = c->dbeta + share * w;
    c->z = c->loss + share;
    c->sum = c->z + share * h->labels;
    return true;
}

/* Sums over shares of the studies, added on the host in their order. */
static bool gradient(void *arg, const struct mf_adapt_head *h, const struct mf_adapt_norm *norm,
                     const double *u, size_t count, double *dgamma, double *dbeta, double *ret_loss,
                     struct mf_error *err)
{
    struct call c;
    size_t w = h->width;
    double scale = 1.0 / ((double)count * (double)h->labels);
    if (!begin(&c, arg, h, norm, count, err))
        return false;
    MF_AUTO(mf_mem) double *part = calloc(w + c.share, sizeof *part);
    memset(dgamma, 0, w * sizeof *dgamma);
    memset(dbeta, 0, w * sizeof *dbeta);
    *ret_loss = 0;
    for (size_t done = 0, n; part && done < count; done += n) {
        n = count - done < c.share ? count - done : c.share;
        c.ops->put(c.be, c.u, u + done * w, n * w * sizeof *u);
        c.ops->head_gradient(c.be, &c.head, c.u, n, scale, c.dgamma, c.dbeta, c.loss);
        for (int k = 0; k < 2; k++) {
            double *sum = k ? dbeta : dgamma;
            c.ops->head_sum(c.be, k ? c.dbeta : c.dgamma, n, w, c.sum);
            c.ops->get(c.be, part, c.sum, w * sizeof *part);
            for (size_t i = 0; i < w; i++)
                sum[i] += part[i];
        }
        c.ops->get(c.be, part + w, c.loss, n * sizeof *part);
        for (size_t b = 0; b < n; b++)
            *ret_loss += part[w + b];
    }
    if (!part)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the adaptation");
    return c.frames->device->finish(c.be, err);
}

static bool episodic(void *arg, const struct mf_adapt_head *h, const double *u, size_t count,
                     double rate, double bound, double *before, double *z, struct mf_error *err)
{
    struct call c;
    size_t w = h->width, labels = h->labels;
    const struct mf_adapt_norm source = mf_adapt_source(h);
    if (!begin(&c, arg, h, &source, count, err))
        return false;
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < c.share ? count - done : c.share;
        size_t bytes = n * labels * sizeof *z;
        c.ops->put(c.be, c.u, u + done * w, n * w * sizeof *u);
        c.ops->head_gradient(c.be, &c.head, c.u, n, 1.0 / (double)labels, c.dgamma, c.dbeta,
                             c.loss);
        c.ops->head_step(c.be, &c.head, c.u, n, 0, 0, c.dgamma, c.dbeta, c.z); /* no step */
        c.ops->get(c.be, before + done * labels, c.z, bytes);
        c.ops->head_step(c.be, &c.head, c.u, n, rate, bound, c.dgamma, c.dbeta, c.z);
        c.ops->get(c.be, z + done * labels, c.z, bytes);
    }
    return c.frames->device->finish(c.be, err);
}

bool mf_engine_adapt_device(struct mf_engine *e, struct mf_adapt_device *ret)
{
    size_t width = mf_fusion_head_width(e->fusion), labels = mf_fusion_labels(e->fusion);
    *ret = (struct mf_adapt_device){gradient, episodic, e};
    return e->frames && (width + labels) * sizeof(double) <= MOST_SHARED;
}
