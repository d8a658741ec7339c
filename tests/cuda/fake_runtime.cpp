/* The bodies behind fake/cuda_runtime_api.h: streams are queues of work that run when somebody
 * waits (fake_cuda.h says why). */
#include "tests/cuda/fake_cuda.h"

#include "tests/cuda/fake/cuda_runtime_api.h"

#include <algorithm>
#include <deque>
#include <map>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <vector>

typedef std::function<void()> work;

struct fake_graph {
    std::vector<work> works;
};

struct fake_graph_exec {
    std::vector<work> works;
};

struct fake_stream {
    std::deque<work> queue;
    size_t done; /* works that have run */
    int device;
    fake_graph *capturing;
    bool invalid; /* the capture is: something in it cannot be captured */
};

struct fake_event {
    fake_stream *stream; /* null: never recorded */
    size_t position;
};

struct fake_cuda fake_cuda;

namespace
{

std::vector<fake_stream *> streams;
std::map<void *, size_t> memory;
cudaError_t last_error;
thread_local int device; /* whose GPU is the thread's */
enum { POISONED = 1 << 24 };

/* Runs what was put on the stream before `position`. */
void drain(fake_stream *stream, size_t position)
{
    while (stream->done < position && !stream->queue.empty()) {
        work next = std::move(stream->queue.front());
        stream->queue.pop_front();
        stream->done++;
        next();
    }
}

size_t end_of(const fake_stream *stream)
{
    return stream->done + stream->queue.size();
}

cudaError_t fails(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t sticky()
{
    return (cudaError_t)fake_cuda.sticky;
}

/* What cannot be captured, or done by a thread that captures: the capture is worthless. */
cudaError_t spoil(fake_stream *stream, cudaError_t error)
{
    stream->invalid = true;
    return fails(error);
}

fake_stream *capturing_stream()
{
    for (fake_stream *stream : streams)
        if (stream->capturing)
            return stream;
    return nullptr;
}

/* What somebody outside wants to go wrong now; 0: nothing. */
int outside_failure()
{
    static const char *const path = getenv("FAKE_CUDA_FAIL");
    FILE *f = path ? fopen(path, "r") : nullptr;
    int error = 0;
    char more[8] = "";
    if (!f)
        return 0;
    if (fscanf(f, "%d %7s", &error, more) < 1)
        error = cudaErrorIllegalAddress;
    fclose(f);
    if (strcmp(more, "stays") != 0)
        remove(path);
    while (error < 0) /* hangs, as work that does not end lets its waiters hang */
        pause();
    return error;
}

/* As many as somebody outside says, else one. */
int device_count()
{
    static const char *const text = getenv("FAKE_CUDA_DEVICES");
    return text ? (int)strtol(text, nullptr, 10) : 1;
}

} // namespace

void fake_cuda_reset(void)
{
    size_t used = fake_cuda.used;
    fake_cuda = {};
    fake_cudnn = {};
    fake_cuda.used = fake_cuda.most = used;
    last_error = cudaSuccess;
}

int fake_enqueue(void *to, work what)
{
    fake_stream *stream = (fake_stream *)to;
    if (sticky() != cudaSuccess)
        return fake_cuda.sticky;
    if (stream->device != device)
        return cudaErrorInvalidResourceHandle;
    fake_cuda.launches++;
    if (fake_cuda.fail_after && --fake_cuda.fail_after == 0) {
        int with = fake_cuda.fail_with ? fake_cuda.fail_with : cudaErrorIllegalAddress;
        fake_cuda.sticky = with == cudaErrorMemoryAllocation ? 0 : with;
        return with;
    }
    if (stream->capturing)
        stream->capturing->works.push_back(std::move(what));
    else
        stream->queue.push_back(std::move(what));
    return 0;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = fake_cuda.no_devices ? 0 : device_count();
    return fake_cuda.no_devices ? fails((cudaError_t)fake_cuda.no_devices) : cudaSuccess;
}

cudaError_t cudaSetDevice(int number)
{
    if (number < 0 || number >= device_count())
        return fails(cudaErrorNoDevice);
    device = number;
    return sticky();
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int number)
{
    (void)number;
    int capability = fake_cuda.capability ? fake_cuda.capability : 90;
    *value = attribute == cudaDevAttrComputeCapabilityMajor   ? capability / 10
             : attribute == cudaDevAttrComputeCapabilityMinor ? capability % 10
                                                              : 132;
    return sticky();
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
    case cudaSuccess:
        return "no error";
    case cudaErrorMemoryAllocation:
        return "out of memory";
    case cudaErrorInsufficientDriver:
        return "CUDA driver version is insufficient for CUDA runtime version";
    case cudaErrorIllegalAddress:
        return "an illegal memory access was encountered";
    default:
        return "a made-up error";
    }
}

cudaError_t cudaMalloc(void **ret, size_t bytes)
{
    if (sticky() != cudaSuccess)
        return sticky();
    if (capturing_stream())
        return spoil(capturing_stream(), cudaErrorStreamCaptureUnsupported);
    if (fake_cuda.memory && fake_cuda.used + bytes > fake_cuda.memory)
        return fails(cudaErrorMemoryAllocation);
    *ret = aligned_alloc(256, (bytes + 256) / 256 * 256);
    memset(*ret, 0xFF, std::min(bytes, (size_t)POISONED)); /* NaN in every format */
    memory[*ret] = bytes;
    fake_cuda.allocations++;
    fake_cuda.used += bytes;
    fake_cuda.most = std::max(fake_cuda.most, fake_cuda.used);
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (capturing_stream())
        return spoil(capturing_stream(), cudaErrorStreamCaptureUnsupported);
    for (fake_stream *stream : streams)
        drain(stream, end_of(stream));
    auto found = memory.find(p);
    if (found == memory.end())
        return p ? fails(cudaErrorInvalidValue) : cudaSuccess;
    fake_cuda.releases++;
    fake_cuda.used -= found->second;
    memory.erase(found);
    free(p);
    return sticky();
}

cudaError_t cudaMallocHost(void **ret, size_t bytes)
{
    if (sticky() != cudaSuccess)
        return sticky();
    fake_cuda.pinned++;
    *ret = malloc(bytes);
    return *ret ? cudaSuccess : fails(cudaErrorMemoryAllocation);
}

cudaError_t cudaFreeHost(void *p)
{
    for (fake_stream *stream : streams)
        drain(stream, end_of(stream));
    free(p);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = fake_cuda.memory ? fake_cuda.memory : (size_t)64 << 30;
    *available = *total - std::min(*total, fake_cuda.used);
    return sticky();
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    if (sticky() != cudaSuccess)
        return sticky();
    work copy = [=] { memcpy(to, from, bytes); };
    if (stream->capturing) {
        stream->capturing->works.push_back(copy);
        return cudaSuccess;
    }
    stream->queue.push_back(copy);
    if (fake_cuda.eager_copies && kind == cudaMemcpyHostToDevice)
        drain(stream, end_of(stream));
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    (void)flags;
    if (sticky() != cudaSuccess)
        return sticky();
    *stream = new fake_stream();
    (*stream)->device = device;
    streams.push_back(*stream);
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    drain(stream, end_of(stream));
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (stream->capturing)
        return spoil(stream, cudaErrorStreamCaptureUnsupported);
    int failure = outside_failure();
    if (failure == cudaErrorMemoryAllocation)
        return fails(cudaErrorMemoryAllocation);
    if (failure)
        fake_cuda.sticky = failure;
    drain(stream, end_of(stream));
    return sticky();
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    fake_stream *other = event->stream;
    size_t position = event->position;
    if (stream->capturing)
        return spoil(stream, cudaErrorStreamCaptureIsolation);
    if (other && other != stream)
        stream->queue.push_back([other, position] { drain(other, position); });
    return sticky();
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned flags)
{
    (void)flags;
    *event = new fake_event();
    return sticky();
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    delete event;
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    event->stream = stream;
    event->position = end_of(stream);
    return sticky();
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (event->stream)
        drain(event->stream, event->position);
    return sticky();
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    (void)mode;
    if (sticky() != cudaSuccess)
        return sticky();
    if (stream->capturing)
        return fails(cudaErrorIllegalState);
    stream->capturing = new fake_graph();
    stream->invalid = false;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = stream->capturing;
    stream->capturing = nullptr;
    if (!fake_cuda.refuse_capture && !stream->invalid && sticky() == cudaSuccess)
        return cudaSuccess;
    delete *graph;
    *graph = nullptr;
    return fails(sticky() != cudaSuccess ? sticky() : cudaErrorStreamCaptureInvalidated);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    fake_cuda.graphs++;
    *exec = new fake_graph_exec{graph->works};
    return sticky();
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    if (sticky() != cudaSuccess)
        return sticky();
    fake_cuda.graph_launches++;
    for (const work &each : exec->works)
        stream->queue.push_back(each);
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    delete exec;
    return cudaSuccess;
}
