/* What graphs of the made-up cuDNN mean (fake_cudnn.hpp): every operation as a plain loop. */
#include "tests/cuda/fake_cudnn.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace fake_dnn_graph
{
namespace
{

typedef std::vector<int64_t> sizes;

sizes sizes_of(const body &t)
{
    return t.list<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS);
}

uint16_t to_half(float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return (uint16_t)((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

float of_half(uint16_t half)
{
    uint32_t bits = (uint32_t)half << 16;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Where element i of the dense order lies. */
size_t place(const sizes &dims, const sizes &strides, size_t i)
{
    size_t at = 0;
    for (size_t d = dims.size(); d-- > 0; i /= (size_t)dims[d])
        at += i % (size_t)dims[d] * (size_t)strides[d];
    return at;
}

} // namespace

bool is_half(const body &t)
{
    return t.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE) == CUDNN_DATA_BFLOAT16;
}

size_t count_of(const body &t)
{
    size_t n = 1;
    for (int64_t each : sizes_of(t))
        n *= (size_t)each;
    return n;
}

std::vector<float> run::load(const body &t)
{
    int64_t number = t.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    if (t.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL))
        return between[number];
    sizes dims = sizes_of(t), strides = t.list<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    std::vector<float> all(count_of(t));
    for (size_t i = 0; i < all.size(); i++) {
        size_t at = place(dims, strides, i);
        all[i] = is_half(t) ? of_half(((const uint16_t *)arrays[number])[at])
                            : ((const float *)arrays[number])[at];
    }
    return all;
}

void run::store(const body &t, std::vector<float> all)
{
    int64_t number = t.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
    sizes dims = sizes_of(t), strides = t.list<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    bool stays = t.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
    for (size_t i = 0; i < all.size(); i++) {
        all[i] = is_half(t) ? of_half(to_half(all[i])) : all[i];
        size_t at = stays ? 0 : place(dims, strides, i);
        if (!stays && is_half(t))
            ((uint16_t *)arrays[number])[at] = to_half(all[i]);
        else if (!stays)
            ((float *)arrays[number])[at] = all[i];
    }
    if (stays)
        between[number] = std::move(all);
}

std::vector<link> tensors_of(const body &graph)
{
    std::vector<link> all;
    for (const link &op : graph.find(CUDNN_ATTR_OPERATIONGRAPH_OPS)->links)
        for (const auto &each : op->values)
            for (const link &to : each.second.links)
                if (to->type == CUDNN_BACKEND_TENSOR_DESCRIPTOR &&
                    std::find(all.begin(), all.end(), to) == all.end())
                    all.push_back(to);
    return all;
}

namespace
{

/* A sum in pieces, as long as the engine says: that is what differs in the last bits. */
struct sum {
    size_t piece, n;
    float total, part;
    explicit sum(size_t piece_) : piece(piece_), n(0), total(0), part(0)
    {
    }
    void add(float x)
    {
        part += x;
        if (++n % piece == 0) {
            total += part;
            part = 0;
        }
    }
    float value() const
    {
        return total + part;
    }
};

void convolve(run &r, const body &op, size_t piece)
{
    const body &x = op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X),
               &w = op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W),
               &y = op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y),
               &how = op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    sizes in = sizes_of(x), f = sizes_of(w), out = sizes_of(y),
          stride = how.list<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
          pad = how.list<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    std::vector<float> xs = r.load(x), ws = r.load(w), ys(count_of(y));
    for (size_t i = 0; i < ys.size(); i++) {
        int64_t at = (int64_t)i, ox = at % out[3], oy = at / out[3] % out[2],
                k = at / out[3] / out[2] % out[1], n = at / out[3] / out[2] / out[1];
        sum s(piece);
        for (int64_t c = 0; c < in[1]; c++)
            for (int64_t ky = 0; ky < f[2]; ky++)
                for (int64_t kx = 0; kx < f[3]; kx++) {
                    int64_t iy = oy * stride[0] + ky - pad[0], ix = ox * stride[1] + kx - pad[1];
                    if (iy >= 0 && iy < in[2] && ix >= 0 && ix < in[3])
                        s.add(xs[(size_t)(((n * in[1] + c) * in[2] + iy) * in[3] + ix)] *
                              ws[(size_t)(((k * f[1] + c) * f[2] + ky) * f[3] + kx)]);
                }
        ys[i] = s.value();
    }
    r.store(y, std::move(ys));
}

float combine(cudnnPointwiseMode_t mode, float a, float b)
{
    switch (mode) {
    case CUDNN_POINTWISE_ADD:
        return a + b;
    case CUDNN_POINTWISE_SUB:
        return a - b;
    case CUDNN_POINTWISE_MUL:
        return a * b;
    case CUDNN_POINTWISE_DIV:
        return a / b;
    case CUDNN_POINTWISE_EXP:
        return std::exp(a);
    case CUDNN_POINTWISE_LOG:
        return std::log(a);
    default:
        return a > 0 ? a : 0;
    }
}

void pointwise(run &r, const body &op)
{
    const body &x = op.of(CUDNN_ATTR_OPERATION_POINTWISE_XDESC),
               &y = op.of(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
    auto mode = op.of(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
                    .get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
    std::vector<float> xs = r.load(x), bs(1);
    sizes dims = sizes_of(y), strides(4, 0);
    if (op.find(CUDNN_ATTR_OPERATION_POINTWISE_BDESC)) {
        const body &b = op.of(CUDNN_ATTR_OPERATION_POINTWISE_BDESC);
        int64_t step = 1;
        for (size_t d = 4; d-- > 0; step *= sizes_of(b)[d])
            strides[d] = sizes_of(b)[d] == 1 ? 0 : step;
        bs = r.load(b);
    }
    for (size_t i = 0; i < xs.size(); i++)
        xs[i] = combine(mode, xs[i], bs[place(dims, strides, i)]);
    r.store(y, std::move(xs));
}

void reduce(run &r, const body &op, size_t piece)
{
    const body &x = op.of(CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
    bool most =
        op.of(CUDNN_ATTR_OPERATION_REDUCTION_DESC)
            .get<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR) == CUDNN_REDUCE_TENSOR_MAX;
    size_t width = (size_t)sizes_of(x)[3];
    std::vector<float> xs = r.load(x), ys(xs.size() / width);
    for (size_t i = 0; i < ys.size(); i++) {
        sum s(piece);
        for (size_t k = 0; k < width; k++)
            s.add(xs[i * width + k]);
        ys[i] = most ? *std::max_element(&xs[i * width], &xs[i * width] + width) : s.value();
    }
    r.store(op.of(CUDNN_ATTR_OPERATION_REDUCTION_YDESC), std::move(ys));
}

void multiply(run &r, const body &op, size_t piece)
{
    const body &a = op.of(CUDNN_ATTR_OPERATION_MATMUL_ADESC),
               &b = op.of(CUDNN_ATTR_OPERATION_MATMUL_BDESC),
               &c = op.of(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
    size_t m = (size_t)sizes_of(c)[2], n = (size_t)sizes_of(c)[3], k = (size_t)sizes_of(a)[3];
    std::vector<float> as = r.load(a), bs = r.load(b), cs(count_of(c));
    for (size_t i = 0; i < cs.size(); i++) {
        size_t row = i / n, item = row / m;
        sum s(piece);
        for (size_t j = 0; j < k; j++)
            s.add(as[row * k + j] * bs[(item * k + j) * n + i % n]);
        cs[i] = s.value();
    }
    r.store(c, std::move(cs));
}

/* Each of other numbers, and of extents that are there. */
bool tensors_are_sound(const body &graph)
{
    std::vector<int64_t> numbers;
    for (const link &t : tensors_of(graph)) {
        int64_t number = t->get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
        for (int64_t each : sizes_of(*t))
            if (each < 1)
                return false;
        if (std::find(numbers.begin(), numbers.end(), number) != numbers.end())
            return false;
        numbers.push_back(number);
    }
    return true;
}

int64_t output_size(int64_t in, int64_t pad, int64_t kernel, int64_t stride)
{
    return (in + 2 * pad - kernel) / stride + 1;
}

bool sound_convolution(const body &op)
{
    sizes x = sizes_of(op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X)),
          w = sizes_of(op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W)),
          y = sizes_of(op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y));
    const body &how = op.of(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC);
    sizes stride = how.list<int64_t>(CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES),
          pad = how.list<int64_t>(CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS);
    return x[0] == y[0] && x[1] == w[1] && w[0] == y[1] &&
           y[2] == output_size(x[2], pad[0], w[2], stride[0]) &&
           y[3] == output_size(x[3], pad[1], w[3], stride[1]) &&
           op.get<float>(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA) == 1 &&
           op.get<float>(CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA) == 0;
}

bool sound_product(const body &op)
{
    sizes a = sizes_of(op.of(CUDNN_ATTR_OPERATION_MATMUL_ADESC)),
          b = sizes_of(op.of(CUDNN_ATTR_OPERATION_MATMUL_BDESC)),
          c = sizes_of(op.of(CUDNN_ATTR_OPERATION_MATMUL_CDESC));
    return a[0] == c[0] && b[0] == c[0] && a[1] == c[1] && b[1] == c[1] && a[2] == c[2] &&
           a[3] == b[2] && b[3] == c[3];
}

/* The operations of a graph in short: c, m(atrix product), r(eduction), pointwise by mode. */
std::string pattern_of(const body &graph)
{
    std::string text;
    for (const link &op : graph.find(CUDNN_ATTR_OPERATIONGRAPH_OPS)->links) {
        if (op->type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR) {
            text += "c";
        } else if (op->type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR) {
            text += "m";
        } else if (op->type == CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR) {
            text += "r";
        } else {
            auto mode = op->of(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR)
                            .get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
            text += mode == CUDNN_POINTWISE_ADD   ? '+'
                    : mode == CUDNN_POINTWISE_SUB ? '-'
                    : mode == CUDNN_POINTWISE_MUL ? '*'
                    : mode == CUDNN_POINTWISE_DIV ? '/'
                    : mode == CUDNN_POINTWISE_EXP ? 'e'
                    : mode == CUDNN_POINTWISE_LOG ? 'l'
                                                  : '>';
        }
    }
    return text;
}

/* Numbers that lie beside each other in memory come in whole words. */
bool in_words(const body &t)
{
    sizes strides = t.list<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
    int64_t unit = is_half(t) ? 8 : 4, ones = 0;
    for (int64_t each : strides) {
        ones += each == 1;
        if (each != 1 && each % unit != 0)
            return false;
    }
    return ones > 0;
}

} // namespace

void compute(run &r, const body &graph, size_t piece)
{
    for (const link &op : graph.find(CUDNN_ATTR_OPERATIONGRAPH_OPS)->links)
        switch (op->type) {
        case CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR:
            convolve(r, *op, piece);
            break;
        case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
            pointwise(r, *op);
            break;
        case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
            reduce(r, *op, piece);
            break;
        default:
            multiply(r, *op, piece);
        }
}

bool sound(const body &b)
{
    if (b.type == CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)
        return sound_convolution(b);
    if (b.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR)
        return sound_product(b);
    return b.type != CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR || tensors_are_sound(b);
}

bool known(const body &graph)
{
    static const char *const PATTERNS[] = {"c", "c+", "c>", "c+>", "m*r-erl+/m"};
    std::string pattern = pattern_of(graph);
    if (std::none_of(std::begin(PATTERNS), std::end(PATTERNS),
                     [&](const char *each) { return pattern == each; }))
        return false;
    for (const link &t : tensors_of(graph))
        if (!t->get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL) && count_of(*t) > 1 && !in_words(*t))
            return false;
    return true;
}

int64_t batch_of(const body &graph)
{
    const body &first = *graph.find(CUDNN_ATTR_OPERATIONGRAPH_OPS)->links[0];
    return sizes_of(first.of(first.type == CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR
                                 ? (int)CUDNN_ATTR_OPERATION_MATMUL_ADESC
                                 : (int)CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X))[0];
}

} // namespace fake_dnn_graph
