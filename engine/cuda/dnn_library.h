/* The functions of cuDNN that are used, found in the library when the program runs. */
#ifndef MF_ENGINE_CUDA_DNN_LIBRARY_H
#define MF_ENGINE_CUDA_DNN_LIBRARY_H

#include "core/error.h"

#include <cudnn.h>

/* Names and meanings are NVIDIA's ("cuDNN Backend API", version 9). */
struct mf_dnn_library {
    size_t (*version)(void);
    cudnnStatus_t (*create)(cudnnHandle_t *handle);
    cudnnStatus_t (*destroy)(cudnnHandle_t handle);
    cudnnStatus_t (*set_stream)(cudnnHandle_t handle, cudaStream_t stream);
    cudnnStatus_t (*make)(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *descriptor);
    cudnnStatus_t (*drop)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*set)(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t count, const void *values);
    cudnnStatus_t (*get)(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                         cudnnBackendAttributeType_t type, int64_t room, int64_t *count,
                         void *values);
    cudnnStatus_t (*finalize)(cudnnBackendDescriptor_t descriptor);
    cudnnStatus_t (*execute)(cudnnHandle_t handle, cudnnBackendDescriptor_t plan,
                             cudnnBackendDescriptor_t pack);
};

/* The library, loaded once for the process. NULL and MF_ERR_UNAVAILABLE when it is not there. */
const struct mf_dnn_library *mf_dnn_load(struct mf_error *err);

#endif
