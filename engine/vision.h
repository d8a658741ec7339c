/*
 * The vision module at work inside an engine: frames are collected, of whatever study, and computed
 * together, as many at a time as the device likes (mf_engine.batch; 1 on the CPU). What comes out
 * for a frame does not depend on those beside it.
 */
#ifndef MF_ENGINE_VISION_H
#define MF_ENGINE_VISION_H

#include "engine/engine_private.h"

enum { MF_VISION_BANKS = 2 };

/* Frames that wait for their turn; of one run, on the workspace. */
struct mf_vision {
    float *banks[MF_VISION_BANKS]; /* (batch, 3, rows, cols) each: one is filled while the other is
                                      read; NULL where frames are not collected. One and the same
                                      where they are made on the device (frames.h) */
    float *regions;                /* (batch, tokens, width) */
    int bank;
    size_t count;
    struct {
        struct run *run;
        float *tokens;
    } frames[MF_ENGINE_FRAMES];
};

/* Takes its part of the workspace. */
void mf_vision_begin(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v);
/* Where the next frame's input lies on the device; NULL where it is put into e->pixels. */
float *mf_vision_place(const struct mf_engine *e, const struct mf_vision *v);
/* The frame in e->pixels (host), or in its place on the device; its region tokens will lie in
 * `tokens`, at the latest after mf_vision_end(). */
void mf_vision_add(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v, struct run *run,
                   float *tokens);
/* Computes what still waits. */
void mf_vision_end(struct mf_exec *x, struct mf_engine *e, struct mf_vision *v);
/* Runs every size of batch on whatever lies there, so that it is recorded. */
void mf_vision_rehearse(struct mf_exec *x, struct mf_engine *e, const struct mf_vision *v);

#endif
