/* See dnn_library.h. It is not linked: a program that was built with cuDNN's headers starts on
 * machines without the library, and computes with its own kernels there. */
#include "engine/cuda/dnn_library.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

static const char *const NAME = "libcudnn.so.9";

static bool find(void *library, const char *name, void *ret, struct mf_error *err)
{
    void *symbol = dlsym(library, name);
    if (!symbol)
        return mf_error_set(err, MF_ERR_UNAVAILABLE, "%s has no function %s", NAME, name);
    memcpy(ret, &symbol, sizeof symbol); /* ISO C has no cast to a function pointer */
    return true;
}

static bool find_all(void *library, struct mf_dnn_library *ret, struct mf_error *err)
{
    return find(library, "cudnnGetVersion", &ret->version, err) &&
           find(library, "cudnnCreate", &ret->create, err) &&
           find(library, "cudnnDestroy", &ret->destroy, err) &&
           find(library, "cudnnSetStream", &ret->set_stream, err) &&
           find(library, "cudnnBackendCreateDescriptor", &ret->make, err) &&
           find(library, "cudnnBackendDestroyDescriptor", &ret->drop, err) &&
           find(library, "cudnnBackendSetAttribute", &ret->set, err) &&
           find(library, "cudnnBackendGetAttribute", &ret->get, err) &&
           find(library, "cudnnBackendFinalize", &ret->finalize, err) &&
           find(library, "cudnnBackendExecute", &ret->execute, err);
}

const struct mf_dnn_library *mf_dnn_load(struct mf_error *err)
{
    static struct mf_dnn_library functions;
    static void *library; /* a GPU's process loads one engine at a time */
    if (library)
        return &functions;
    void *found = dlopen(NAME, RTLD_NOW | RTLD_LOCAL);
    if (!found) {
        const char *why = dlerror();
        mf_error_set(err, MF_ERR_UNAVAILABLE, "cuDNN 9 cannot be loaded: %.160s",
                     why ? why : "unknown reason");
        return NULL;
    }
    if (!find_all(found, &functions, err)) {
        dlclose(found);
        return NULL;
    }
    library = found;
    return &functions;
}
