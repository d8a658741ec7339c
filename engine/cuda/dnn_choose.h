/* What cuDNN's heuristics propose for a graph, as far as it may be taken. */
#ifndef MF_ENGINE_CUDA_DNN_CHOOSE_H
#define MF_ENGINE_CUDA_DNN_CHOOSE_H

#include "engine/cuda/dnn_graph.h"

enum { MF_DNN_KNOBS = 48, MF_DNN_PROPOSALS = 24 };

/* An engine as it is set up, without its graph. */
struct mf_dnn_config {
    int64_t engine;
    size_t count;
    struct {
        cudnnBackendKnobType_t type;
        int64_t value;
    } knobs[MF_DNN_KNOBS];
};

/* Engines for the graph of a shape, the best first, that add in one order whatever there is to
 * compute beside; returns how many. */
size_t mf_dnn_proposals(struct mf_dnn_graph *g, cudnnBackendHeurMode_t mode,
                        const struct mf_dnn_shape *shape,
                        struct mf_dnn_config ret[MF_DNN_PROPOSALS]);

#endif
