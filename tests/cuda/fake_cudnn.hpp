/* Graphs of the made-up cuDNN: descriptors with their attributes, and what a graph of them means
 * (fake_cudnn_graph.cpp). */
#ifndef MF_TESTS_CUDA_FAKE_CUDNN_HPP
#define MF_TESTS_CUDA_FAKE_CUDNN_HPP

#include "tests/cuda/fake/cudnn.h"

#include <map>
#include <memory>
#include <stddef.h>
#include <string.h>
#include <vector>

namespace fake_dnn_graph
{

struct body;
typedef std::shared_ptr<body> link;

struct value {
    std::vector<char> bytes;
    std::vector<link> links; /* of attributes that are descriptors */
    size_t count;
};

struct body {
    cudnnBackendDescriptorType_t type;
    bool finalized;
    std::map<int, value> values;

    const value *find(int name) const
    {
        auto at = values.find(name);
        return at == values.end() ? nullptr : &at->second;
    }
    template <typename T>
    T get(int name) const
    {
        T result{};
        const value *v = find(name);
        if (v)
            memcpy(&result, v->bytes.data(), sizeof result);
        return result;
    }
    template <typename T>
    std::vector<T> list(int name) const
    {
        const value *v = find(name);
        std::vector<T> result(v ? v->count : 0);
        if (v)
            memcpy(result.data(), v->bytes.data(), result.size() * sizeof(T));
        return result;
    }
    const body &of(int name, size_t i = 0) const
    {
        return *find(name)->links[i];
    }
};

/* Arrays of a run by their numbers, and what is between operations. */
struct run {
    std::map<int64_t, void *> arrays;
    std::map<int64_t, std::vector<float>> between;

    std::vector<float> load(const body &tensor);
    void store(const body &tensor, std::vector<float> all);
};

bool is_half(const body &tensor);
/* Elements of a tensor. */
size_t count_of(const body &tensor);
std::vector<link> tensors_of(const body &graph);
/* Items that a graph computes together. */
int64_t batch_of(const body &graph);
/* Whether a descriptor's parts fit together. */
bool sound(const body &b);
/* Whether it is a pattern that the library knows, of whole words. */
bool known(const body &graph);
/* Computes it; sums are made of parts of `piece` products. */
void compute(run &r, const body &graph, size_t piece);

} // namespace fake_dnn_graph

#endif
