/* JPEG by libjpeg (ITU-T T.81, JFIF); its errors jump back here and become a mf_error. */
#include "server/jpeg.h"

#include <setjmp.h>
#include <stdio.h> /* jpeglib.h needs it */

#include <jpeglib.h>

enum { CHUNK_BYTES = 64 << 10, FULL_RESOLUTION = 1 };

struct target {
    struct jpeg_destination_mgr manager; /* first: libjpeg knows no more of it */
    struct jpeg_error_mgr errors;
    jmp_buf back;
    struct mf_buffer *out;
    struct mf_error *err;
    JOCTET chunk[CHUNK_BYTES];
};

static void jump_back(j_common_ptr info)
{
    struct target *t = info->client_data;
    longjmp(t->back, 1);
}

static void drop_message(j_common_ptr info)
{
    (void)info; /* library code does not log */
}

static void empty_chunk(j_compress_ptr info)
{
    struct target *t = info->client_data;
    t->manager.next_output_byte = t->chunk;
    t->manager.free_in_buffer = CHUNK_BYTES;
}

static void keep(j_compress_ptr info, size_t len)
{
    struct target *t = info->client_data;
    if (!mf_buffer_append(t->out, t->chunk, len, t->err))
        jump_back((j_common_ptr)info);
}

static boolean keep_full_chunk(j_compress_ptr info)
{
    keep(info, CHUNK_BYTES);
    empty_chunk(info);
    return TRUE;
}

static void keep_last_chunk(j_compress_ptr info)
{
    struct target *t = info->client_data;
    keep(info, CHUNK_BYTES - t->manager.free_in_buffer);
}

/* Everything that lives across the jump is a parameter. */
static bool write_picture(struct jpeg_compress_struct *info, struct target *t,
                          const struct mf_jpeg *p)
{
    if (setjmp(t->back))
        return false;
    jpeg_create_compress(info);
    info->dest = &t->manager;
    info->image_width = p->columns;
    info->image_height = p->rows;
    info->input_components = (int)p->channels;
    info->in_color_space = p->channels == 3 ? JCS_RGB : JCS_GRAYSCALE;
    jpeg_set_defaults(info);
    jpeg_set_quality(info, (int)p->quality, TRUE);
    info->comp_info[0].h_samp_factor = info->comp_info[0].v_samp_factor = FULL_RESOLUTION;
    info->optimize_coding = TRUE;
    jpeg_start_compress(info, TRUE);
    size_t stride = (size_t)p->columns * p->channels;
    while (info->next_scanline < info->image_height) {
        JSAMPROW row = (JSAMPROW)(uintptr_t)(p->samples + info->next_scanline * stride);
        (void)jpeg_write_scanlines(info, &row, 1); /* our chunk never makes it wait */
    }
    jpeg_finish_compress(info);
    return true;
}

bool mf_jpeg_encode(const struct mf_jpeg *p, struct mf_buffer *out, struct mf_error *err)
{
    if (p->rows > JPEG_MAX_DIMENSION || p->columns > JPEG_MAX_DIMENSION)
        return mf_error_set(err, MF_ERR_UNUSABLE, "a JPEG picture has at most %d pixels a side",
                            (int)JPEG_MAX_DIMENSION);
    struct jpeg_compress_struct info = {0};
    struct target *t = malloc(sizeof *t);
    if (!t)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
    t->manager = (struct jpeg_destination_mgr){.init_destination = empty_chunk,
                                               .empty_output_buffer = keep_full_chunk,
                                               .term_destination = keep_last_chunk};
    t->out = out;
    t->err = err;
    info.err = jpeg_std_error(&t->errors);
    t->errors.error_exit = jump_back;
    t->errors.output_message = drop_message;
    info.client_data = t;
    bool ok = write_picture(&info, t, p);
    jpeg_destroy_compress(&info);
    free(t);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
}
