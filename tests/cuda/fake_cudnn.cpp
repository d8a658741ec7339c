/*
 * The made-up cuDNN behind fake/cudnn.h, with the library's rules for what may be asked, and its
 * habits: it proposes engines that are not deterministic, that cut sums, or that cannot do one
 * item, before the one that will do; other engines' sums differ in the last bits. What a graph
 * means is taken from its operations (fake_cudnn_graph.cpp). engine/cuda/dnn_library.c is not
 * there: this is the library.
 */
#include "tests/cuda/fake_cudnn.hpp"
#include "tests/cuda/fake_cuda.h"

extern "C" {
#include "engine/cuda/dnn_library.h"
}

#include <algorithm>

using namespace fake_dnn_graph;

struct fake_cudnn fake_cudnn;

struct fake_dnn {
    void *stream;
};

namespace
{

struct descriptor {
    link inside;
};

enum { NONDETERMINISTIC = 1, WINOGRAD, STREAM_K, CUT, MANY, TENSOR_CORE, GOOD, ENGINES };
enum { WORK = 1 << 12, PIECE = 32, OTHER_PIECE = 16 };

/* What an attribute is: of which descriptor, its type, how many, whether it must be there. */
struct rule {
    int descriptor, name, type;
    size_t bytes;
    int64_t least, most;
    bool needed;
};

#define ONE(d, n, t, c, needed)                                                                    \
    {                                                                                              \
        CUDNN_BACKEND_##d##_DESCRIPTOR, CUDNN_ATTR_##n, CUDNN_TYPE_##t, sizeof(c), 1, 1, needed    \
    }
#define SOME(d, n, t, c, least, most)                                                              \
    {                                                                                              \
        CUDNN_BACKEND_##d##_DESCRIPTOR, CUDNN_ATTR_##n, CUDNN_TYPE_##t, sizeof(c), least, most,    \
            true                                                                                   \
    }
#define TO(d, n, needed) ONE(d, n, BACKEND_DESCRIPTOR, void *, needed)

const rule RULES[] = {
    ONE(TENSOR, TENSOR_DATA_TYPE, DATA_TYPE, cudnnDataType_t, true),
    SOME(TENSOR, TENSOR_DIMENSIONS, INT64, int64_t, 4, 4),
    SOME(TENSOR, TENSOR_STRIDES, INT64, int64_t, 4, 4),
    ONE(TENSOR, TENSOR_UNIQUE_ID, INT64, int64_t, true),
    ONE(TENSOR, TENSOR_BYTE_ALIGNMENT, INT64, int64_t, true),
    ONE(TENSOR, TENSOR_IS_VIRTUAL, BOOLEAN, bool, false),
    ONE(TENSOR, TENSOR_IS_BY_VALUE, BOOLEAN, bool, false),
    ONE(POINTWISE, POINTWISE_MODE, POINTWISE_MODE, cudnnPointwiseMode_t, true),
    ONE(POINTWISE, POINTWISE_MATH_PREC, DATA_TYPE, cudnnDataType_t, true),
    TO(OPERATION_POINTWISE, OPERATION_POINTWISE_PW_DESCRIPTOR, true),
    TO(OPERATION_POINTWISE, OPERATION_POINTWISE_XDESC, true),
    TO(OPERATION_POINTWISE, OPERATION_POINTWISE_BDESC, false),
    TO(OPERATION_POINTWISE, OPERATION_POINTWISE_YDESC, true),
    ONE(REDUCTION, REDUCTION_OPERATOR, REDUCTION_OPERATOR_TYPE, cudnnReduceTensorOp_t, true),
    ONE(REDUCTION, REDUCTION_COMP_TYPE, DATA_TYPE, cudnnDataType_t, true),
    TO(OPERATION_REDUCTION, OPERATION_REDUCTION_DESC, true),
    TO(OPERATION_REDUCTION, OPERATION_REDUCTION_XDESC, true),
    TO(OPERATION_REDUCTION, OPERATION_REDUCTION_YDESC, true),
    ONE(MATMUL, MATMUL_COMP_TYPE, DATA_TYPE, cudnnDataType_t, true),
    TO(OPERATION_MATMUL, OPERATION_MATMUL_DESC, true),
    TO(OPERATION_MATMUL, OPERATION_MATMUL_ADESC, true),
    TO(OPERATION_MATMUL, OPERATION_MATMUL_BDESC, true),
    TO(OPERATION_MATMUL, OPERATION_MATMUL_CDESC, true),
    ONE(CONVOLUTION, CONVOLUTION_COMP_TYPE, DATA_TYPE, cudnnDataType_t, true),
    ONE(CONVOLUTION, CONVOLUTION_CONV_MODE, CONVOLUTION_MODE, cudnnConvolutionMode_t, true),
    ONE(CONVOLUTION, CONVOLUTION_SPATIAL_DIMS, INT64, int64_t, true),
    SOME(CONVOLUTION, CONVOLUTION_DILATIONS, INT64, int64_t, 2, 2),
    SOME(CONVOLUTION, CONVOLUTION_FILTER_STRIDES, INT64, int64_t, 2, 2),
    SOME(CONVOLUTION, CONVOLUTION_PRE_PADDINGS, INT64, int64_t, 2, 2),
    SOME(CONVOLUTION, CONVOLUTION_POST_PADDINGS, INT64, int64_t, 2, 2),
    TO(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_CONV_DESC, true),
    TO(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_X, true),
    TO(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_W, true),
    TO(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_Y, true),
    ONE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_ALPHA, FLOAT, float, true),
    ONE(OPERATION_CONVOLUTION_FORWARD, OPERATION_CONVOLUTION_FORWARD_BETA, FLOAT, float, true),
    ONE(OPERATIONGRAPH, OPERATIONGRAPH_HANDLE, HANDLE, void *, true),
    SOME(OPERATIONGRAPH, OPERATIONGRAPH_OPS, BACKEND_DESCRIPTOR, void *, 1, 50),
    TO(ENGINE, ENGINE_OPERATION_GRAPH, true),
    ONE(ENGINE, ENGINE_GLOBAL_INDEX, INT64, int64_t, true),
    ONE(KNOB_CHOICE, KNOB_CHOICE_KNOB_TYPE, KNOB_TYPE, cudnnBackendKnobType_t, true),
    ONE(KNOB_CHOICE, KNOB_CHOICE_KNOB_VALUE, INT64, int64_t, true),
    TO(ENGINECFG, ENGINECFG_ENGINE, true),
    {CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
     CUDNN_TYPE_BACKEND_DESCRIPTOR, sizeof(void *), 1, 44, false},
    TO(ENGINEHEUR, ENGINEHEUR_OPERATION_GRAPH, true),
    ONE(ENGINEHEUR, ENGINEHEUR_MODE, HEUR_MODE, cudnnBackendHeurMode_t, true),
    ONE(EXECUTION_PLAN, EXECUTION_PLAN_HANDLE, HANDLE, void *, true),
    TO(EXECUTION_PLAN, EXECUTION_PLAN_ENGINE_CONFIG, true),
    SOME(VARIANT_PACK, VARIANT_PACK_UNIQUE_IDS, INT64, int64_t, 1, 64),
    SOME(VARIANT_PACK, VARIANT_PACK_DATA_POINTERS, VOID_PTR, void *, 1, 64),
    ONE(VARIANT_PACK, VARIANT_PACK_WORKSPACE, VOID_PTR, void *, true),
};

const rule *rule_of(const body &b, int name)
{
    for (const rule &each : RULES)
        if (each.descriptor == (int)b.type && each.name == name)
            return &each;
    return nullptr;
}

descriptor *as(cudnnBackendDescriptor_t d)
{
    return (descriptor *)d;
}

bool has_engines(const body &graph)
{
    return !fake_cudnn.nothing && known(graph);
}

const body &graph_of(const body &plan)
{
    return plan.of(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
        .of(CUDNN_ATTR_ENGINECFG_ENGINE)
        .of(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
}

int64_t engine_of(const body &plan)
{
    return plan.of(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG)
        .of(CUDNN_ATTR_ENGINECFG_ENGINE)
        .get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX);
}

/* Whether an engine can do a graph; the tile that it was proposed with is what it runs with. */
cudnnStatus_t check_plan(const body &plan)
{
    const body &graph = graph_of(plan), &setup = plan.of(CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
    const value *knobs = setup.find(CUDNN_ATTR_ENGINECFG_KNOB_CHOICES);
    int64_t batch = batch_of(graph);
    bool tile = knobs && knobs->links[0]->get<cudnnBackendKnobType_t>(
                             CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE) == CUDNN_KNOB_TYPE_TILE_SIZE;
    if (!has_engines(graph) || !tile || (engine_of(plan) == MANY && batch == 1) ||
        (fake_cudnn.refused_batch && batch == (int64_t)fake_cudnn.refused_batch))
        return CUDNN_STATUS_NOT_SUPPORTED;
    fake_cudnn.plans++;
    return CUDNN_STATUS_SUCCESS;
}

/* --- What is answered --- */

template <typename T>
void put(body &b, int name, T what)
{
    value &v = b.values[name];
    v.bytes.assign((const char *)&what, (const char *)&what + sizeof what);
    v.count = 1;
}

void put_links(body &b, int name, std::vector<link> links)
{
    value &v = b.values[name];
    v.count = links.size();
    v.links = std::move(links);
}

link made(cudnnBackendDescriptorType_t type)
{
    return std::make_shared<body>(body{type, true, {}});
}

link knob(cudnnBackendKnobType_t type, int64_t setting)
{
    link k = made(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    put(*k, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, type);
    put(*k, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, setting);
    return k;
}

link proposal(const link &graph, int64_t index)
{
    link engine = made(CUDNN_BACKEND_ENGINE_DESCRIPTOR),
         setup = made(CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    put_links(*engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, {graph});
    put(*engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, index);
    std::vector<link> knobs = {knob(CUDNN_KNOB_TYPE_TILE_SIZE, 3)};
    if (index == STREAM_K)
        knobs.push_back(knob(CUDNN_KNOB_TYPE_STREAM_K, 1));
    if (index == CUT)
        knobs.push_back(knob(CUDNN_KNOB_TYPE_SPLIT_K_SLC, 4));
    put_links(*setup, CUDNN_ATTR_ENGINECFG_ENGINE, {engine});
    put_links(*setup, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knobs);
    return setup;
}

/* What is best comes first, and is of no use here; the one that will do is a last resort where
 * `late` says so. */
std::vector<link> proposals(const body &heuristics)
{
    const link &graph = heuristics.find(CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH)->links[0];
    bool fallback = heuristics.get<cudnnBackendHeurMode_t>(CUDNN_ATTR_ENGINEHEUR_MODE) ==
                    CUDNN_HEUR_MODE_FALLBACK;
    std::vector<link> all;
    if (!has_engines(*graph))
        return all;
    for (int64_t i = NONDETERMINISTIC; !fallback && i < GOOD; i++)
        all.push_back(proposal(graph, i));
    if (fallback == fake_cudnn.late)
        all.push_back(proposal(graph, GOOD));
    for (size_t i = 0; i < fake_cudnn.more; i++)
        all.push_back(proposal(graph, NONDETERMINISTIC));
    return all;
}

std::vector<cudnnBackendNumericalNote_t> notes_of(const body &engine)
{
    const body &graph = engine.of(CUDNN_ATTR_ENGINE_OPERATION_GRAPH);
    bool half = false;
    for (const link &t : tensors_of(graph))
        half |= is_half(*t);
    switch (engine.get<int64_t>(CUDNN_ATTR_ENGINE_GLOBAL_INDEX)) {
    case NONDETERMINISTIC:
        return {CUDNN_NUMERICAL_NOTE_TENSOR_CORE, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC};
    case WINOGRAD:
        return {CUDNN_NUMERICAL_NOTE_WINOGRAD};
    case TENSOR_CORE: /* not to be taken for floats, and slow for the rest of this pretence */
        return half ? std::vector<cudnnBackendNumericalNote_t>{CUDNN_NUMERICAL_NOTE_WINOGRAD}
                    : std::vector<cudnnBackendNumericalNote_t>{CUDNN_NUMERICAL_NOTE_TENSOR_CORE};
    default:
        return {CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP};
    }
}

/* --- The interface --- */

size_t get_version()
{
    return 91900;
}

cudnnStatus_t create(cudnnHandle_t *handle)
{
    *handle = nullptr;
    if (fake_cudnn.start_status)
        return (cudnnStatus_t)fake_cudnn.start_status;
    *handle = new fake_dnn{nullptr};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t destroy(cudnnHandle_t handle)
{
    delete handle;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t set_stream(cudnnHandle_t handle, cudaStream_t stream)
{
    handle->stream = stream;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t make(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *ret)
{
    *ret = new descriptor{std::make_shared<body>(body{type, false, {}})};
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t drop(cudnnBackendDescriptor_t d)
{
    delete as(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t set(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t count, const void *from)
{
    if (!d || !from)
        return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
    body &b = *as(d)->inside;
    const rule *r = rule_of(b, name);
    if (!r || r->type != (int)type)
        return CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE;
    if (b.finalized || count < r->least || count > r->most)
        return CUDNN_STATUS_BAD_PARAM;
    value v;
    v.count = (size_t)count;
    v.bytes.assign((const char *)from, (const char *)from + v.count * r->bytes);
    for (size_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < v.count; i++) {
        descriptor *to = ((descriptor *const *)from)[i];
        if (!to || !to->inside->finalized)
            return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
        v.links.push_back(to->inside);
    }
    b.values[name] = std::move(v);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t finalize(cudnnBackendDescriptor_t d)
{
    body &b = *as(d)->inside;
    for (const rule &each : RULES)
        if (each.descriptor == (int)b.type && each.needed && !b.find(each.name))
            return CUDNN_STATUS_BAD_PARAM;
    if (!sound(b))
        return CUDNN_STATUS_BAD_PARAM_SHAPE_MISMATCH;
    cudnnStatus_t status =
        b.type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? check_plan(b) : CUDNN_STATUS_SUCCESS;
    b.finalized = status == CUDNN_STATUS_SUCCESS;
    return status;
}

cudnnStatus_t hand_out(const std::vector<link> &links, int64_t room, int64_t *count, void *to)
{
    *count = (int64_t)links.size(); /* how many there are, not how many fit */
    for (int64_t i = 0; i < std::min(room, *count); i++)
        ((descriptor **)to)[i]->inside = links[(size_t)i];
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t get(cudnnBackendDescriptor_t d, cudnnBackendAttributeName_t name,
                  cudnnBackendAttributeType_t type, int64_t room, int64_t *count, void *to)
{
    const body &b = *as(d)->inside;
    if (!b.finalized)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    if (name == CUDNN_ATTR_ENGINEHEUR_RESULTS)
        return hand_out(proposals(b), room, count, to);
    if (name == CUDNN_ATTR_ENGINE_NUMERICAL_NOTE) {
        std::vector<cudnnBackendNumericalNote_t> notes = notes_of(b);
        *count = (int64_t)notes.size();
        memcpy(to, notes.data(), notes.size() * sizeof notes[0]);
        return CUDNN_STATUS_SUCCESS;
    }
    if (name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE) {
        const int64_t work = WORK;
        *count = 1;
        memcpy(to, &work, sizeof work);
        return CUDNN_STATUS_SUCCESS;
    }
    const value *v = b.find(name);
    if (!v)
        return CUDNN_STATUS_BAD_PARAM;
    if (type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        return hand_out(v->links, room, count, to);
    *count = 1;
    memcpy(to, v->bytes.data(), v->bytes.size());
    return CUDNN_STATUS_SUCCESS;
}

/* Every array that the graph reads or writes, aligned as was promised. */
cudnnStatus_t gather(const body &graph, const body &pack, run *ret)
{
    std::vector<int64_t> numbers = pack.list<int64_t>(CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS);
    std::vector<void *> arrays = pack.list<void *>(CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS);
    if (numbers.size() != arrays.size())
        return CUDNN_STATUS_BAD_PARAM;
    for (size_t i = 0; i < numbers.size(); i++)
        ret->arrays[numbers[i]] = arrays[i];
    for (const link &t : tensors_of(graph)) {
        void *at = ret->arrays[t->get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)];
        bool device = !t->get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE);
        if (t->get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL))
            continue;
        if (!at)
            return CUDNN_STATUS_BAD_PARAM_NULL_POINTER;
        if (device &&
            (uintptr_t)at % (uintptr_t)t->get<int64_t>(CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT) != 0)
            return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    }
    return CUDNN_STATUS_SUCCESS;
}

/* What is passed by value is read now, not when the work is done. */
void keep_values(const body &graph, run *r, std::vector<float> *room)
{
    for (const link &t : tensors_of(graph))
        if (t->get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE)) {
            void *&at = r->arrays[t->get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID)];
            room->assign(1, *(const float *)at);
            at = room->data();
        }
}

cudnnStatus_t execute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                      cudnnBackendDescriptor_t pack)
{
    link p = as(plan)->inside;
    const body &graph = graph_of(*p);
    void *work = as(pack)->inside->get<void *>(CUDNN_ATTR_VARIANT_PACK_WORKSPACE);
    auto values = std::make_shared<std::vector<float>>();
    run r;
    if (fake_cudnn.execute_status)
        return (cudnnStatus_t)fake_cudnn.execute_status;
    if (!p->finalized || !as(pack)->inside->finalized)
        return CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED;
    cudnnStatus_t status = gather(graph, *as(pack)->inside, &r);
    if (status != CUDNN_STATUS_SUCCESS)
        return status;
    if (!work || (uintptr_t)work % 256 != 0)
        return CUDNN_STATUS_BAD_PARAM_MISALIGNED_POINTER;
    keep_values(graph, &r, values.get());
    fake_cudnn.runs++;
    size_t piece = engine_of(*p) == GOOD ? PIECE : OTHER_PIECE;
    int failed = fake_enqueue(handle->stream, [p, r, values, work, piece]() mutable {
        memset(work, 0xFF, WORK); /* whoever has something there loses it */
        compute(r, graph_of(*p), piece);
    });
    return failed == 0 ? CUDNN_STATUS_SUCCESS
           : failed == cudaErrorMemoryAllocation
               ? CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED
               : CUDNN_STATUS_EXECUTION_FAILED;
}

} // namespace

const struct mf_dnn_library *mf_dnn_load(struct mf_error *err)
{
    static const struct mf_dnn_library FUNCTIONS = {
        get_version, create, destroy, set_stream, make, drop, set, get, finalize, execute};
    if (!fake_cudnn.missing)
        return &FUNCTIONS;
    mf_error_set(err, MF_ERR_UNAVAILABLE, "cuDNN 9 cannot be loaded: it is not there");
    return nullptr;
}
