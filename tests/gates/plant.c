/*
 * Faults planted in the libraries that a decoder uses, for LD_PRELOAD: a JPEG 2000 frame of a
 * certain width, or deflated bytes that begin with certain words, crash it, keep it busy for ever,
 * or make it take all the memory there is (tests/integration/test_contained.py). A frame of another
 * width comes out with one bit wrong (test_matrix.py).
 */
#include <dlfcn.h>
#include <openjpeg.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { CRASH_WIDTH = 101, LOOP_WIDTH, BOMB_WIDTH, WRONG_WIDTH };

static void crash(void)
{
    volatile int *volatile nowhere = NULL;
    *nowhere = 1;
}

static void loop(void)
{
    volatile unsigned turns = 0;
    while (turns < 2) /* never more than 1 */
        turns ^= 1;
}

static void bomb(void)
{
    enum { CHUNK = 1 << 20 };
    static char *volatile kept; /* or a compiler leaves out what nobody looks at */
    while ((kept = malloc(CHUNK)))
        memset(kept, 1, CHUNK);
}

OPJ_BOOL opj_decode(opj_codec_t *codec, opj_stream_t *stream, opj_image_t *image)
{
    static OPJ_BOOL (*next)(opj_codec_t *, opj_stream_t *, opj_image_t *);
    switch (image->x1 - image->x0) {
    case CRASH_WIDTH:
        crash();
        break;
    case LOOP_WIDTH:
        loop();
        break;
    case BOMB_WIDTH:
        bomb();
        return OPJ_FALSE;
    default:
        break;
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "opj_decode");
    OPJ_BOOL ok = next(codec, stream, image);
    if (ok && image->x1 - image->x0 == WRONG_WIDTH)
        image->comps[0].data[0] ^= 1;
    return ok;
}

int inflate(z_streamp z, int flush)
{
    static int (*next)(z_streamp, int);
    static const char words[3][14] = {"PLANTED-CRASH", "PLANTED-LOOP", "PLANTED-BOMB"};
    static void (*const faults[3])(void) = {crash, loop, bomb};
    for (size_t i = 0; i < 3; i++) { /* a block that is stored, not compressed, shows its text */
        size_t n = strlen(words[i]);
        if (z->avail_in >= 64 && memmem(z->next_in, 64, words[i], n)) {
            faults[i]();
            return Z_MEM_ERROR;
        }
    }
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "inflate");
    return next(z, flush);
}
