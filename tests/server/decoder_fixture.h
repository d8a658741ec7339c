/* A zygote and a client of it, for the tests of decoders. */
#ifndef MF_TESTS_SERVER_DECODER_FIXTURE_H
#define MF_TESTS_SERVER_DECODER_FIXTURE_H

#include "server/decoder.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

struct fixture {
    struct mf_zygote *zygote;
    struct mf_decoder *decoder;
};

static int set_up(void **state)
{
    static struct fixture f;
    struct mf_error err = MF_ERROR_INIT;
    const struct mf_decoder_limits limits = {
        .memory = 256 << 20, .cpu_seconds = 1, .wall_seconds = 120};
    f.zygote = mf_zygote_start(&err);
    f.decoder = f.zygote ? mf_decoder_new(mf_zygote_address(f.zygote), 4, &limits, &err) : NULL;
    if (!f.decoder)
        print_error("%s\n", err.msg);
    *state = &f;
    return f.decoder ? 0 : 1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mf_decoder_free(f->decoder);
    mf_zygote_stop(f->zygote);
    return 0;
}

#endif
