/*
 * Decoding alone, for tests/bench/decode.py: every frame of the first image in FILE, again and
 * again, in one thread.
 *
 *     bench_decode FILE SECONDS    prints megabytes of samples a second
 */
#include "dicom/decode.h"
#include "core/clock.h"
#include "dicom/dicom.h"
#include "dicom/scan.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static bool run(const char *path, double seconds, struct mf_error *err)
{
    struct stat st;
    MF_AUTO(mf_fd) int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0)
        return mf_error_set(err, MF_ERR_IO, "%s cannot be read", path);
    struct mf_scan_input input = {.fd = fd, .length = (uint64_t)st.st_size};
    MF_AUTO(mf_index) struct mf_index *index = mf_scan(&input, 1, NULL, err);
    if (!index)
        return false;
    uint64_t begin = mf_clock_monotonic_ns(), bytes = 0;
    double elapsed;
    do {
        for (uint32_t f = 0; f < index->objects[0].frames; f++) {
            MF_AUTO(mf_frame) struct mf_frame frame = {.owned = NULL};
            if (!mf_decode_frame(fd, &index->objects[0], f, &frame, err))
                return false;
            bytes += mf_frame_bytes(&frame);
        }
        elapsed = (double)(mf_clock_monotonic_ns() - begin) / 1e9;
    } while (elapsed < seconds);
    printf("%.1f\n", (double)bytes / 1e6 / elapsed);
    return true;
}

int main(int argc, char **argv)
{
    struct mf_error err = MF_ERROR_INIT;
    if (argc != 3) {
        fprintf(stderr, "usage: bench_decode FILE SECONDS\n");
        return 2;
    }
    if (mf_dicom_init(&err) && run(argv[1], strtod(argv[2], NULL), &err))
        return 0;
    fprintf(stderr, "bench_decode: %s\n", err.msg);
    return 1;
}
