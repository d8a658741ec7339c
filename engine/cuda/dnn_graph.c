/*
 * Graphs for cuDNN ("cuDNN Backend API", version 9). A convolution is one with its bias and ReLU
 * behind it, all in floats until it is written. Attention is the pattern that the library's
 * fused kernels are found by: product, scale, softmax written out (maximum, difference,
 * exponential, sum, quotient, and the logarithm of the sum, which nobody reads), product. What lies
 * between operations is virtual: it never reaches memory.
 */
#include "engine/cuda/dnn_graph.h"

#include <string.h>

enum { RANK = 4, ALIGNMENT = 16, FIRST_VIRTUAL = 100 };
enum kind { REAL, VIRTUAL, BY_VALUE };

struct extent {
    int64_t sizes[RANK], strides[RANK];
};

static bool works(const struct mf_dnn_graph *g)
{
    return g->status == CUDNN_STATUS_SUCCESS;
}

cudnnBackendDescriptor_t mf_dnn_make(struct mf_dnn_graph *g, cudnnBackendDescriptorType_t type)
{
    cudnnBackendDescriptor_t d = NULL;
    if (works(g) && g->made_count == MF_DNN_DESCRIPTORS)
        g->status = CUDNN_STATUS_INTERNAL_ERROR;
    if (works(g))
        g->status = g->lib->make(type, &d);
    if (!works(g))
        return NULL;
    g->made[g->made_count++] = d;
    return d;
}

void mf_dnn_set(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor,
                cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type, size_t count,
                const void *values)
{
    if (works(g))
        g->status = g->lib->set(descriptor, name, type, (int64_t)count, values);
}

void mf_dnn_finalize(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor)
{
    if (works(g))
        g->status = g->lib->finalize(descriptor);
}

static void refer(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor,
                  cudnnBackendAttributeName_t name, cudnnBackendDescriptor_t to)
{
    mf_dnn_set(g, descriptor, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &to);
}

static void set_integers(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t name, size_t count, const int64_t *values)
{
    mf_dnn_set(g, descriptor, name, CUDNN_TYPE_INT64, count, values);
}

static void set_type(struct mf_dnn_graph *g, cudnnBackendDescriptor_t descriptor,
                     cudnnBackendAttributeName_t name, cudnnDataType_t type)
{
    mf_dnn_set(g, descriptor, name, CUDNN_TYPE_DATA_TYPE, 1, &type);
}

static cudnnBackendDescriptor_t tensor(struct mf_dnn_graph *g, enum kind kind, int64_t number,
                                       cudnnDataType_t type, const struct extent *e)
{
    const int64_t alignment = ALIGNMENT;
    const bool is_virtual = kind == VIRTUAL, by_value = kind == BY_VALUE;
    cudnnBackendDescriptor_t d = mf_dnn_make(g, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    set_type(g, d, CUDNN_ATTR_TENSOR_DATA_TYPE, type);
    set_integers(g, d, CUDNN_ATTR_TENSOR_DIMENSIONS, RANK, e->sizes);
    set_integers(g, d, CUDNN_ATTR_TENSOR_STRIDES, RANK, e->strides);
    set_integers(g, d, CUDNN_ATTR_TENSOR_UNIQUE_ID, 1, &number);
    set_integers(g, d, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 1, &alignment);
    mf_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_VIRTUAL, CUDNN_TYPE_BOOLEAN, 1, &is_virtual);
    mf_dnn_set(g, d, CUDNN_ATTR_TENSOR_IS_BY_VALUE, CUDNN_TYPE_BOOLEAN, 1, &by_value);
    mf_dnn_finalize(g, d);
    return d;
}

static cudnnBackendDescriptor_t array(struct mf_dnn_graph *g, int which, cudnnDataType_t type,
                                      const struct extent *e)
{
    g->arrays++;
    return tensor(g, REAL, which + 1, type, e);
}

/* What one operation hands to the next. */
static cudnnBackendDescriptor_t between(struct mf_dnn_graph *g, cudnnDataType_t type,
                                        const struct extent *e)
{
    return tensor(g, VIRTUAL, FIRST_VIRTUAL + (int64_t)g->made_count, type, e);
}

static void add_operation(struct mf_dnn_graph *g, cudnnBackendDescriptor_t op)
{
    mf_dnn_finalize(g, op);
    if (works(g) && g->op_count == MF_DNN_OPERATIONS)
        g->status = CUDNN_STATUS_INTERNAL_ERROR;
    else if (works(g))
        g->ops[g->op_count++] = op;
}

/* y = mode(x, b); b NULL: of x alone. */
static void pointwise(struct mf_dnn_graph *g, cudnnPointwiseMode_t mode, cudnnBackendDescriptor_t x,
                      cudnnBackendDescriptor_t b, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t how = mf_dnn_make(g, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    mf_dnn_set(g, how, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    set_type(g, how, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_DATA_FLOAT);
    mf_dnn_finalize(g, how);
    cudnnBackendDescriptor_t op = mf_dnn_make(g, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    refer(g, op, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, how);
    refer(g, op, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b)
        refer(g, op, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    refer(g, op, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    add_operation(g, op);
}

/* Over the last dimension. */
static void reduction(struct mf_dnn_graph *g, cudnnReduceTensorOp_t operator,
                      cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t y)
{
    cudnnBackendDescriptor_t how = mf_dnn_make(g, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    mf_dnn_set(g, how, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1,
               &operator);
    set_type(g, how, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    mf_dnn_finalize(g, how);
    cudnnBackendDescriptor_t op = mf_dnn_make(g, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    refer(g, op, CUDNN_ATTR_OPERATION_REDUCTION_DESC, how);
    refer(g, op, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    refer(g, op, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, y);
    add_operation(g, op);
}

static void product(struct mf_dnn_graph *g, cudnnBackendDescriptor_t a, cudnnBackendDescriptor_t b,
                    cudnnBackendDescriptor_t c)
{
    cudnnBackendDescriptor_t how = mf_dnn_make(g, CUDNN_BACKEND_MATMUL_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_MATMUL_COMP_TYPE, CUDNN_DATA_FLOAT);
    mf_dnn_finalize(g, how);
    cudnnBackendDescriptor_t op = mf_dnn_make(g, CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR);
    refer(g, op, CUDNN_ATTR_OPERATION_MATMUL_DESC, how);
    refer(g, op, CUDNN_ATTR_OPERATION_MATMUL_ADESC, a);
    refer(g, op, CUDNN_ATTR_OPERATION_MATMUL_BDESC, b);
    refer(g, op, CUDNN_ATTR_OPERATION_MATMUL_CDESC, c);
    add_operation(g, op);
}

static void convolution(struct mf_dnn_graph *g, const struct mf_dnn_conv *c,
                        cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t filters,
                        cudnnBackendDescriptor_t y)
{
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t dilations[2] = {1, 1}, dimensions = 2,
                  strides[2] = {(int64_t)c->stride_h, (int64_t)c->stride_w},
                  pads[2] = {(int64_t)c->pad_h, (int64_t)c->pad_w};
    const float alpha = 1, beta = 0;
    cudnnBackendDescriptor_t how = mf_dnn_make(g, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    set_type(g, how, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_DATA_FLOAT);
    mf_dnn_set(g, how, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    set_integers(g, how, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 1, &dimensions);
    set_integers(g, how, CUDNN_ATTR_CONVOLUTION_DILATIONS, 2, dilations);
    set_integers(g, how, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, 2, strides);
    set_integers(g, how, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, 2, pads);
    set_integers(g, how, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, 2, pads);
    mf_dnn_finalize(g, how);
    cudnnBackendDescriptor_t op =
        mf_dnn_make(g, CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR);
    refer(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, how);
    refer(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, x);
    refer(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, filters);
    refer(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, y);
    mf_dnn_set(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_TYPE_FLOAT, 1, &alpha);
    mf_dnn_set(g, op, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, CUDNN_TYPE_FLOAT, 1, &beta);
    add_operation(g, op);
}

/* Sizes as the library orders them (n, c, h, w), channels last in memory. */
static struct extent channels_last(size_t n, size_t c, size_t h, size_t w)
{
    return (struct extent){{(int64_t)n, (int64_t)c, (int64_t)h, (int64_t)w},
                           {(int64_t)(h * w * c), 1, (int64_t)(w * c), (int64_t)c}};
}

static void build_conv(struct mf_dnn_graph *g, const struct mf_dnn_conv *c, size_t batch)
{
    const cudnnDataType_t type = c->half ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
    size_t ow = (c->width + 2 * c->pad_w - c->kernel_w) / c->stride_w + 1;
    const struct extent image = channels_last(batch, c->channels, c->height, c->width),
                        filter = channels_last(c->out, c->channels, c->kernel_h, c->kernel_w),
                        output = channels_last(batch, c->out, mf_dnn_conv_rows(c) / ow, ow),
                        one_each = channels_last(1, c->out, 1, 1);
    cudnnBackendDescriptor_t x = array(g, MF_DNN_X, type, &image),
                             w = array(g, MF_DNN_FILTERS, type, &filter),
                             y = array(g, MF_DNN_Y, type, &output);
    cudnnBackendDescriptor_t sum = c->bias || c->relu ? between(g, CUDNN_DATA_FLOAT, &output) : y;
    convolution(g, c, x, w, sum);
    if (c->bias) {
        cudnnBackendDescriptor_t to = c->relu ? between(g, CUDNN_DATA_FLOAT, &output) : y;
        pointwise(g, CUDNN_POINTWISE_ADD, sum, array(g, MF_DNN_BIAS, CUDNN_DATA_FLOAT, &one_each),
                  to);
        sum = to;
    }
    if (c->relu)
        pointwise(g, CUDNN_POINTWISE_RELU_FWD, sum, NULL, y);
}

/* Rows of heads: (batch, heads, rows, size); an item's stride does not matter where there is one.
 */
static struct extent heads_of(const struct mf_attention *at, size_t batch, size_t rows, size_t row,
                              size_t item)
{
    return (struct extent){
        {(int64_t)batch, (int64_t)at->heads, (int64_t)rows, (int64_t)at->head_size},
        {(int64_t)(item ? item : rows * row), (int64_t)at->head_size, (int64_t)row, 1}};
}

static struct extent packed(size_t batch, size_t heads, size_t rows, size_t columns)
{
    return (struct extent){
        {(int64_t)batch, (int64_t)heads, (int64_t)rows, (int64_t)columns},
        {(int64_t)(heads * rows * columns), (int64_t)(rows * columns), (int64_t)columns, 1}};
}

/* Scores → weights of bfloat16. */
static cudnnBackendDescriptor_t softmax(struct mf_dnn_graph *g, cudnnBackendDescriptor_t scores,
                                        const struct extent *all, const struct extent *rows)
{
    cudnnBackendDescriptor_t most = between(g, CUDNN_DATA_FLOAT, rows),
                             less = between(g, CUDNN_DATA_FLOAT, all),
                             power = between(g, CUDNN_DATA_FLOAT, all),
                             sum = between(g, CUDNN_DATA_FLOAT, rows),
                             log = between(g, CUDNN_DATA_FLOAT, rows),
                             stats = between(g, CUDNN_DATA_FLOAT, rows),
                             weights = between(g, CUDNN_DATA_BFLOAT16, all);
    reduction(g, CUDNN_REDUCE_TENSOR_MAX, scores, most);
    pointwise(g, CUDNN_POINTWISE_SUB, scores, most, less);
    pointwise(g, CUDNN_POINTWISE_EXP, less, NULL, power);
    reduction(g, CUDNN_REDUCE_TENSOR_ADD, power, sum);
    pointwise(g, CUDNN_POINTWISE_LOG, sum, NULL, log);
    pointwise(g, CUDNN_POINTWISE_ADD, most, log, stats);
    pointwise(g, CUDNN_POINTWISE_DIV, power, sum, weights);
    return weights;
}

static void build_attention(struct mf_dnn_graph *g, const struct mf_attention *at, size_t batch)
{
    const cudnnDataType_t half = CUDNN_DATA_BFLOAT16;
    const struct extent q = heads_of(at, batch, at->queries, at->q_row, at->q_batch),
                        v = heads_of(at, batch, at->keys, at->v_row, at->v_batch),
                        o = heads_of(at, batch, at->queries, at->o_row, at->o_batch),
                        all = packed(batch, at->heads, at->queries, at->keys),
                        rows = packed(batch, at->heads, at->queries, 1), one = packed(1, 1, 1, 1);
    struct extent k = heads_of(at, batch, at->keys, at->k_row, at->k_batch);
    k.sizes[2] = (int64_t)at->head_size; /* as the transposed matrix that scores are made with */
    k.sizes[3] = (int64_t)at->keys;
    k.strides[2] = 1;
    k.strides[3] = (int64_t)at->k_row;
    cudnnBackendDescriptor_t queries = array(g, MF_DNN_Q, half, &q),
                             keys = array(g, MF_DNN_K, half, &k),
                             values = array(g, MF_DNN_V, half, &v),
                             outputs = array(g, MF_DNN_O, half, &o);
    cudnnBackendDescriptor_t scale = tensor(g, BY_VALUE, MF_DNN_SCALE + 1, CUDNN_DATA_FLOAT, &one);
    g->arrays++;
    cudnnBackendDescriptor_t scores = between(g, CUDNN_DATA_FLOAT, &all),
                             scaled = between(g, CUDNN_DATA_FLOAT, &all);
    product(g, queries, keys, scores);
    pointwise(g, CUDNN_POINTWISE_MUL, scores, scale, scaled);
    product(g, softmax(g, scaled, &all, &rows), values, outputs);
}

bool mf_dnn_graph_init(struct mf_dnn_graph *g, const struct mf_dnn_library *lib,
                       cudnnHandle_t handle, const struct mf_dnn_shape *shape, size_t batch)
{
    memset(g, 0, sizeof *g);
    g->lib = lib;
    g->status = CUDNN_STATUS_SUCCESS;
    if (shape->attention)
        build_attention(g, &shape->at, batch);
    else
        build_conv(g, &shape->conv, batch);
    cudnnBackendDescriptor_t graph = mf_dnn_make(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    mf_dnn_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &handle);
    mf_dnn_set(g, graph, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->op_count,
               (const void *)g->ops);
    mf_dnn_finalize(g, graph);
    g->graph = graph;
    return works(g);
}

void mf_dnn_graph_free(struct mf_dnn_graph *g)
{
    while (g->made_count > 0)
        g->lib->drop(g->made[--g->made_count]);
    g->op_count = 0;
    g->graph = NULL;
}
