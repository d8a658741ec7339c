/* What cuDNN is asked to compute, as graphs of its operations. */
#ifndef MF_ENGINE_CUDA_DNN_GRAPH_H
#define MF_ENGINE_CUDA_DNN_GRAPH_H

#include "engine/cuda/dnn.h"
#include "engine/cuda/dnn_library.h"

enum { MF_DNN_ARRAYS = 5, MF_DNN_DESCRIPTORS = 64, MF_DNN_OPERATIONS = 16 };

/* Array i of a graph has the number i + 1: of a convolution x, filters, y, bias; of attention q, k,
 * v, o and what scores are multiplied with (a float of the host). */
enum { MF_DNN_X, MF_DNN_FILTERS, MF_DNN_Y, MF_DNN_BIAS };
enum { MF_DNN_Q, MF_DNN_K, MF_DNN_V, MF_DNN_O, MF_DNN_SCALE };

struct mf_dnn_shape {
    bool attention;
    struct mf_dnn_conv conv;
    struct mf_attention at;
};

/* A finalized graph with everything that it is made of. */
struct mf_dnn_graph {
    const struct mf_dnn_library *lib;
    cudnnBackendDescriptor_t made[MF_DNN_DESCRIPTORS], ops[MF_DNN_OPERATIONS], graph;
    size_t made_count, op_count, arrays;
    cudnnStatus_t status; /* of the first call that failed */
};

/* False: the library refuses the graph itself, and `status` says why. Free it in either case. */
bool mf_dnn_graph_init(struct mf_dnn_graph *g, const struct mf_dnn_library *lib,
                       cudnnHandle_t handle, const struct mf_dnn_shape *shape, size_t batch);
void mf_dnn_graph_free(struct mf_dnn_graph *g);

/* A descriptor that lives as long as the graph, or NULL; its attributes; its end. Errors stick. */
cudnnBackendDescriptor_t mf_dnn_make(struct mf_dnn_graph *g, cudnnBackendDescriptorType_t type);
void mf_dnn_set(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, size_t count,
                const void *values);
void mf_dnn_finalize(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor);

#endif
