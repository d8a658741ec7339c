/* The scheduler behind emulate.hpp. */
#include "tests/cuda/emulate.hpp"

#include <map>
#include <memory>
#include <setjmp.h>
#include <ucontext.h>
#include <vector>

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace
{

enum { STACK = 1 << 17, WARP = 32 };

struct fiber {
    ucontext_t context;
    jmp_buf at; /* where it waits */
    bool begun;
    std::unique_ptr<char[]> stack;
    dim3 index;
    bool done;
    size_t block_waits, warp_waits; /* barriers reached */
    uint32_t given[2];              /* to the warp, by turns */
};

std::vector<fiber> fibers;
size_t fiber_count, current;
jmp_buf scheduler;
const std::function<void()> *running;
std::vector<char> shared_memory;
std::map<emulate_kernel, size_t> allowed; /* bytes of shared memory that were asked for */

void enter_fiber()
{
    (*running)();
    fibers[current].done = true;
    _longjmp(scheduler, 1);
}

/* The current fiber goes on until it waits or ends. Contexts only begin fibers: switching them
 * costs system calls. */
__attribute__((noinline)) void resume()
{
    fiber &f = fibers[current];
    if (_setjmp(scheduler) != 0)
        return;
    if (f.begun)
        _longjmp(f.at, 1);
    f.begun = true;
    setcontext(&f.context);
}

void yield()
{
    if (_setjmp(fibers[current].at) == 0)
        _longjmp(scheduler, 1);
}

template <size_t fiber::*count>
void wait(size_t begin, size_t end)
{
    size_t mine = ++(fibers[current].*count);
    for (bool all = false; !all;) {
        yield();
        all = true;
        for (size_t i = begin; i < end; i++)
            all &= fibers[i].done || fibers[i].*count >= mine;
    }
}

size_t warp_begin()
{
    return current / WARP * WARP;
}

size_t warp_end()
{
    return std::min(warp_begin() + WARP, fiber_count);
}

dim3 index_of(size_t i)
{
    return dim3((unsigned)(i % blockDim.x), (unsigned)(i / blockDim.x % blockDim.y),
                (unsigned)(i / blockDim.x / blockDim.y));
}

void run_together()
{
    fiber_count = (size_t)blockDim.x * blockDim.y * blockDim.z;
    if (fibers.size() < fiber_count)
        fibers.resize(fiber_count);
    for (size_t i = 0; i < fiber_count; i++) {
        fiber &f = fibers[i];
        if (!f.stack)
            f.stack = std::make_unique<char[]>(STACK);
        f.index = index_of(i);
        f.done = f.begun = false;
        f.block_waits = f.warp_waits = 0;
        getcontext(&f.context);
        f.context.uc_stack.ss_sp = f.stack.get();
        f.context.uc_stack.ss_size = STACK;
        f.context.uc_link = nullptr;
        makecontext(&f.context, enter_fiber, 0);
    }
    for (size_t left = fiber_count; left > 0;) {
        left = 0;
        for (current = 0; current < fiber_count; current++) {
            if (fibers[current].done)
                continue;
            threadIdx = fibers[current].index;
            resume();
            left += !fibers[current].done;
        }
    }
}

void run_alone()
{
    size_t n = (size_t)blockDim.x * blockDim.y * blockDim.z;
    for (size_t i = 0; i < n; i++) {
        threadIdx = index_of(i);
        (*running)();
    }
}

/* What every lane of the warp gives. A lane's next gift lies in the other place, so that this one
 * is there until all have seen it. */
void gather(uint32_t value, uint32_t all[WARP])
{
    size_t turn = fibers[current].warp_waits % 2, begin = warp_begin();
    fibers[current].given[turn] = value;
    wait<&fiber::warp_waits>(begin, warp_end());
    for (size_t i = 0; i < WARP; i++)
        all[i] = begin + i < fiber_count ? fibers[begin + i].given[turn] : 0;
}

float half_of(uint32_t pair, int which)
{
    uint32_t bits = which ? pair & 0xFFFF0000u : pair << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace

int emulate_check(emulate_kernel kernel, dim3 grid, dim3 block, size_t shared)
{
    enum { INVALID = 9, MOST_THREADS = 1024, MOST_ACROSS = 65535, UNASKED = 48 << 10 };
    size_t threads = (size_t)block.x * block.y * block.z, most = UNASKED;
    auto asked = allowed.find(kernel);
    if (asked != allowed.end())
        most = std::max(most, asked->second);
    bool fits = grid.x > 0 && grid.x <= INT32_MAX && grid.y > 0 && grid.y <= MOST_ACROSS &&
                grid.z > 0 && grid.z <= MOST_ACROSS && threads > 0 && threads <= MOST_THREADS;
    return !fits ? INVALID : shared > most ? 1 : 0; /* cudaErrorInvalidConfiguration and -Value */
}

int emulate_allow_shared(emulate_kernel kernel, size_t bytes)
{
    enum { MOST = 99 << 10 }; /* of compute capability 8.6 and 8.9; others have more */
    if (bytes > MOST)
        return 1;
    allowed[kernel] = bytes;
    return 0;
}

void emulate_launch(dim3 grid, dim3 block, size_t shared, bool together,
                    const std::function<void()> &body)
{
    gridDim = grid;
    blockDim = block;
    running = &body;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                blockIdx = dim3(x, y, z);
                shared_memory.assign(shared + 16, (char)0xFF); /* poison: NaN in either format */
                if (together)
                    run_together();
                else
                    run_alone();
            }
}

void *emulate_shared(void)
{
    uintptr_t at = (uintptr_t)shared_memory.data();
    return (void *)((at + 15) / 16 * 16);
}

void __syncthreads(void)
{
    wait<&fiber::block_waits>(0, fiber_count);
}

unsigned emulate_lane(void)
{
    return (unsigned)(current % WARP);
}

uint32_t emulate_shuffle(uint32_t value, unsigned from)
{
    uint32_t all[WARP];
    gather(value, all);
    return all[from];
}

void emulate_mma(float d[4], const uint32_t a[4], const uint32_t b[2])
{
    float rows[16][16], columns[16][8];
    uint32_t all[6][WARP];
    for (int r = 0; r < 6; r++)
        gather(r < 4 ? a[r] : b[r - 4], all[r]);
    for (unsigned lane = 0; lane < WARP; lane++)
        for (int h = 0; h < 2; h++) {
            unsigned group = lane / 4, at = lane % 4 * 2 + (unsigned)h;
            rows[group][at] = half_of(all[0][lane], h);
            rows[group + 8][at] = half_of(all[1][lane], h);
            rows[group][at + 8] = half_of(all[2][lane], h);
            rows[group + 8][at + 8] = half_of(all[3][lane], h);
            columns[at][group] = half_of(all[4][lane], h);
            columns[at + 8][group] = half_of(all[5][lane], h);
        }
    unsigned lane = emulate_lane(), group = lane / 4, at = lane % 4 * 2;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 16; k++)
            d[i] += rows[group + (i < 2 ? 0 : 8)][k] * columns[k][at + (unsigned)i % 2];
}

void emulate_load_matrices(bool transposed, uint32_t r[4], const void *row)
{
    const uint16_t *rows[WARP];
    uint32_t low[WARP], high[WARP];
    uint64_t mine = (uint64_t)(uintptr_t)row;
    gather((uint32_t)mine, low);
    gather((uint32_t)(mine >> 32), high);
    for (size_t i = 0; i < WARP; i++)
        rows[i] = (const uint16_t *)(uintptr_t)(low[i] | (uint64_t)high[i] << 32);
    unsigned lane = emulate_lane(), g = lane / 4, t = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) {
        const uint16_t *const *m = rows + 8 * i;
        uint32_t first = transposed ? m[t][g] : m[g][t];
        uint32_t second = transposed ? m[t + 1][g] : m[g][t + 1];
        r[i] = first | second << 16;
    }
    __syncwarp(); /* nobody writes these rows before all have read */
}
