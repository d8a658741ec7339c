/*
 * Reading cuDNN's proposals ("cuDNN Backend API", engine heuristics). Refused are engines that the
 * library notes as not deterministic, as computing in less than floats or by other algorithms than
 * sums of products, and configurations that cut sums into parts.
 */
#include "engine/cuda/dnn_choose.h"

/* Descriptors that the library fills in: proposals and what they are made of. */
struct list {
    cudnnBackendDescriptor_t at[MF_DNN_KNOBS];
    int64_t count;
};

static void list_free(const struct mf_dnn_library *lib, struct list *list, size_t made)
{
    for (size_t i = 0; i < made; i++)
        lib->drop(list->at[i]);
}

/* An attribute that is a list of descriptors; false: nothing is to be freed. The library counts all
 * that there are, also where it hands out no more than there is room for. */
static bool list_get(const struct mf_dnn_library *lib, cudnnBackendDescriptor_t of,
                     cudnnBackendAttributeName_t name, cudnnBackendDescriptorType_t type,
                     size_t room, struct list *ret)
{
    size_t made = 0;
    ret->count = 0;
    while (made < room && lib->make(type, &ret->at[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    if (made == room &&
        lib->get(of, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, (int64_t)room, &ret->count,
                 (void *)ret->at) == CUDNN_STATUS_SUCCESS &&
        ret->count >= 0)
        return true;
    list_free(lib, ret, made);
    return false;
}

/* Whether an engine adds in one order whatever else it computes, and in floats. */
static bool sums_in_order(const struct mf_dnn_library *lib, cudnnBackendDescriptor_t engine,
                          const struct mf_dnn_shape *shape)
{
    cudnnBackendNumericalNote_t notes[CUDNN_NUMERICAL_NOTE_TYPE_COUNT];
    int64_t count = 0;
    if (lib->get(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE,
                 CUDNN_NUMERICAL_NOTE_TYPE_COUNT, &count, notes) != CUDNN_STATUS_SUCCESS ||
        count > CUDNN_NUMERICAL_NOTE_TYPE_COUNT) /* a later library's, and not known here */
        return false;
    bool floats = !shape->attention && !shape->conv.half;
    for (int64_t i = 0; i < count; i++)
        switch (notes[i]) {
        case CUDNN_NUMERICAL_NOTE_STRICT_NAN_PROP:
            break;
        case CUDNN_NUMERICAL_NOTE_TENSOR_CORE: /* of floats: as TF32 */
            if (floats)
                return false;
            break;
        default:
            return false;
        }
    return true;
}

/* Whether a knob makes several parts of one sum, by how much there is to do. */
static bool splits(cudnnBackendKnobType_t type, int64_t value)
{
    return type == CUDNN_KNOB_TYPE_STREAM_K ? value != 0
           : type == CUDNN_KNOB_TYPE_SPLIT_K || type == CUDNN_KNOB_TYPE_SPLIT_K_SLC ||
                   type == CUDNN_KNOB_TYPE_SPLIT_K_BUF
               ? value > 1
               : false;
}

static bool read_knobs(const struct mf_dnn_library *lib, cudnnBackendDescriptor_t proposal,
                       struct mf_dnn_config *ret)
{
    struct list knobs;
    bool ok = true;
    if (!list_get(lib, proposal, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                  CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, MF_DNN_KNOBS, &knobs))
        return false;
    ret->count = (size_t)knobs.count;
    ok = ret->count <= MF_DNN_KNOBS; /* all of them, or it is another engine */
    for (size_t i = 0; ok && i < ret->count; i++) {
        int64_t n = 0;
        ok = lib->get(knobs.at[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &n,
                      &ret->knobs[i].type) == CUDNN_STATUS_SUCCESS &&
             lib->get(knobs.at[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &n,
                      &ret->knobs[i].value) == CUDNN_STATUS_SUCCESS &&
             !splits(ret->knobs[i].type, ret->knobs[i].value);
    }
    list_free(lib, &knobs, MF_DNN_KNOBS);
    return ok;
}

/* A proposal as a configuration; false where it is not to be taken. */
static bool read_proposal(const struct mf_dnn_library *lib, cudnnBackendDescriptor_t proposal,
                          const struct mf_dnn_shape *shape, struct mf_dnn_config *ret)
{
    struct list engine;
    int64_t n = 0;
    if (!list_get(lib, proposal, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_BACKEND_ENGINE_DESCRIPTOR, 1,
                  &engine))
        return false;
    bool ok = engine.count == 1 &&
              lib->get(engine.at[0], CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &n,
                       &ret->engine) == CUDNN_STATUS_SUCCESS &&
              sums_in_order(lib, engine.at[0], shape) && read_knobs(lib, proposal, ret);
    list_free(lib, &engine, 1);
    return ok;
}

size_t mf_dnn_proposals(struct mf_dnn_graph *g, cudnnBackendHeurMode_t mode,
                        const struct mf_dnn_shape *shape,
                        struct mf_dnn_config ret[MF_DNN_PROPOSALS])
{
    struct list proposals;
    size_t count = 0;
    cudnnBackendDescriptor_t heuristics = mf_dnn_make(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    mf_dnn_set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR,
               1, (const void *)&g->graph);
    mf_dnn_set(g, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
    mf_dnn_finalize(g, heuristics);
    bool asked = g->status == CUDNN_STATUS_SUCCESS &&
                 list_get(g->lib, heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS,
                          CUDNN_BACKEND_ENGINECFG_DESCRIPTOR, MF_DNN_PROPOSALS, &proposals);
    g->status = CUDNN_STATUS_SUCCESS; /* the other kind may still be asked */
    if (!asked)
        return 0;
    for (int64_t i = 0; i < proposals.count && i < MF_DNN_PROPOSALS; i++) /* the best come first */
        count += read_proposal(g->lib, proposals.at[i], shape, &ret[count]);
    list_free(g->lib, &proposals, MF_DNN_PROPOSALS);
    return count;
}
