/*
 * The GPU that tests play with: what it counts, and how it is made to fail. It is as slow as the
 * interface allows: nothing on a stream happens before somebody waits for it, so whatever reads too
 * early, or changes what is still to be read, computes nonsense. With `eager_copies` copies happen
 * at once instead, which catches those that do not wait for the work before them.
 *
 * In a program of its own (medfusion-emulated) a file named by FAKE_CUDA_FAIL makes the next wait
 * for work fail for good; it holds the error's number, 2 (no memory) can be got over, −1 is a wait
 * that never ends. The file is taken away, unless "stays" comes after the number.
 * FAKE_CUDA_DEVICES says how many GPUs there are, if not one.
 *
 * What the runtime refuses is refused: work for a GPU that is not the thread's, and while work is
 * recorded what would take memory, wait, or depend on work that is not recorded.
 */
#ifndef MF_TESTS_CUDA_FAKE_CUDA_H
#define MF_TESTS_CUDA_FAKE_CUDA_H

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
#include <functional>
/* Puts work on a stream; the value is 0, or an error of the runtime. */
int fake_enqueue(void *stream, std::function<void()> work);
extern "C" {
#endif

struct fake_cuda {
    /* Counted. */
    size_t allocations, releases; /* of device memory */
    size_t pinned;                /* allocations of pinned memory */
    size_t used, most;            /* bytes of device memory */
    size_t launches;              /* kernels, products: directly or while capturing */
    size_t graphs, graph_launches;
    /* Set by tests. */
    int no_devices;     /* the error that stands for GPUs, as without a driver; 0: none */
    int capability;     /* of the device; 0: 90 */
    size_t memory;      /* bytes of the device; 0: plenty */
    int sticky;         /* what every call fails with; 0: nothing */
    size_t fail_after;  /* so many launches on, `fail_with` becomes sticky; 0: never */
    int fail_with;      /* cudaErrorIllegalAddress unless set; 2 (no memory) fails one launch */
    bool eager_copies;  /* see above */
    bool narrow_minded; /* cuBLASLt proposes one algorithm, and that for many rows alone does all */
    bool refuse_capture; /* captures fail, as they do when something in them cannot be captured */
};

/* cuDNN beside it. */
struct fake_cudnn {
    size_t plans, runs; /* counted */
    /* Set by tests. */
    bool missing;         /* the library is not on this machine */
    bool nothing;         /* no engine can do anything */
    bool late;            /* the engine that will do is proposed as a last resort only */
    size_t more;          /* proposals behind the one that will do, of no use */
    size_t refused_batch; /* no plan can be made of so many items; 0: of any number */
    int start_status, execute_status; /* what it fails with */
};

extern struct fake_cudnn fake_cudnn;
extern struct fake_cuda fake_cuda;
/* Everything plenty, nothing failing, counts at 0 (but for `used`). */
void fake_cuda_reset(void);

#ifdef __cplusplus
}
#endif

#endif
