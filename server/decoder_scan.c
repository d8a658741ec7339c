/* Decoder client: scans. When parts bring the decoder to its end or to its limits, it is found out
 * which of them does. */
#include "server/decoder_client.h"

#include "core/clock.h"

#include <string.h>

static bool scan(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                 const struct mf_decoder_meanwhile *meanwhile, struct mf_buffer *ret_index,
                 int *ret_connection, struct mf_error *err)
{
    struct mf_decoder_call call = {.verb = MF_VERB_SCAN, .parts = parts, .part_count = part_count};
    MF_AUTO(mf_decoder_wire) struct mf_decoder_wire request = {.fd_count = 0};
    MF_AUTO(mf_message) struct mf_message answer;
    MF_AUTO(mf_fd) int connection = -1;
    mf_message_init(&answer, MF_DECODER_ANSWER_MAX);
    if (!mf_decoder_build(&call, &request, err) ||
        !mf_decoder_send(d, call.verb, &request, meanwhile, &answer,
                         ret_connection ? &connection : NULL, err) ||
        !mf_buffer_append(ret_index, answer.payload.data, answer.payload.len, err))
        return false;
    if (ret_connection) {
        *ret_connection = connection;
        connection = -1;
    }
    return true;
}

/* What a decoder that came to its end could not say: whose fault it was. */
static bool names_nobody(const struct mf_error *error)
{
    const bool ended = error->code == MF_ERR_CRASHED || error->code == MF_ERR_TIMEOUT ||
                       error->code == MF_ERR_TOO_LARGE;
    return ended && strncmp(error->msg, "part ", 5) != 0 && strncmp(error->msg, "ehr", 3) != 0;
}

/* The first part that ends a decoder alone, too, or `n`. Parts that do so only together are not
 * looked for longer than one request may take. */
static size_t find_guilty(struct mf_decoder *d, const struct mf_part *parts, size_t n)
{
    uint64_t deadline = mf_clock_monotonic_ns() + d->limits.wall_seconds * 1000000000ULL;
    if (n == 1)
        return 0;
    for (size_t i = 0; i < n && mf_clock_monotonic_ns() < deadline; i++) {
        MF_AUTO(mf_buffer) struct mf_buffer ignored;
        struct mf_error alone = MF_ERROR_INIT;
        mf_buffer_init(&ignored, MF_DECODER_ANSWER_MAX);
        if (!scan(d, &parts[i], 1, NULL, &ignored, NULL, &alone) && names_nobody(&alone))
            return i;
    }
    return n;
}

static void blame(struct mf_decoder *d, const struct mf_part *parts, size_t n, struct mf_error *err)
{
    size_t guilty = find_guilty(d, parts, n), number = 1;
    for (size_t i = 0; i < guilty; i++)
        number += parts[i].kind == MF_PART_DICOM;
    if (guilty < n && parts[guilty].kind == MF_PART_DICOM)
        mf_error_prefix(err, "part %zu", number);
    else if (guilty < n)
        mf_error_prefix(err, "ehr");
}

bool mf_decoder_scan_and_stay(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                              const struct mf_decoder_meanwhile *meanwhile,
                              struct mf_buffer *ret_index, int *ret_connection,
                              struct mf_error *err)
{
    struct mf_error problem = MF_ERROR_INIT;
    if (scan(d, parts, part_count, meanwhile, ret_index, ret_connection, &problem))
        return true;
    if (names_nobody(&problem))
        blame(d, parts, part_count, &problem);
    return mf_error_set(err, problem.code, "%s", problem.msg);
}

bool mf_decoder_scan(struct mf_decoder *d, const struct mf_part *parts, size_t part_count,
                     struct mf_buffer *ret_index, struct mf_error *err)
{
    return mf_decoder_scan_and_stay(d, parts, part_count, NULL, ret_index, NULL, err);
}
