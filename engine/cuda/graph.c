/* Work that is recorded once and replayed: CUDA graphs behind device.h. A graph is made executable
 * where it is recorded, because that allocates. */
#include "engine/cuda/device_private.h"

#include <stdlib.h>

struct mf_gpu_graph {
    cudaGraphExec_t exec;
};

bool mf_gpu_record(struct mf_gpu *gpu)
{
    if (gpu->status != 0 ||
        cudaStreamBeginCapture(gpu->stream, cudaStreamCaptureModeThreadLocal) != cudaSuccess) {
        cudaGetLastError();
        return false;
    }
    gpu->recording = true;
    gpu->spoilt = false;
    return true;
}

struct mf_gpu_graph *mf_gpu_recorded(struct mf_gpu *gpu)
{
    struct mf_gpu_graph *graph = calloc(1, sizeof *graph);
    cudaGraph_t captured = NULL;
    gpu->recording = false;
    bool ok = cudaStreamEndCapture(gpu->stream, &captured) == cudaSuccess && captured && graph &&
              !gpu->spoilt && cudaGraphInstantiate(&graph->exec, captured, 0) == cudaSuccess;
    if (captured)
        cudaGraphDestroy(captured);
    if (ok)
        return graph;
    cudaGetLastError();
    free(graph);
    return NULL;
}

void mf_gpu_replay(struct mf_gpu *gpu, struct mf_gpu_graph *graph)
{
    if (gpu->status == 0)
        mf_gpu_note(gpu, (int)cudaGraphLaunch(graph->exec, gpu->stream), "replaying a graph");
}

void mf_gpu_graph_free(struct mf_gpu_graph *graph)
{
    if (!graph)
        return;
    if (graph->exec)
        cudaGraphExecDestroy(graph->exec);
    free(graph);
}
