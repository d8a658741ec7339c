/* PNG by libpng's classic interface; its errors jump back here and become a mf_error. */
#include "server/png.h"

#include "core/outfile.h"

#include <png.h>
#include <setjmp.h>

enum { FILE_BYTES = 1 << 30 };

struct target {
    struct mf_buffer *out;
    struct mf_error *err;
};

static void drop_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message; /* library code does not log */
}

static void jump_back(png_structp png, png_const_charp message)
{
    (void)message;
    longjmp(png_jmpbuf(png), 1);
}

static void append(png_structp png, png_bytep data, size_t len)
{
    struct target *t = png_get_io_ptr(png);
    if (!mf_buffer_append(t->out, data, len, t->err))
        png_error(png, "the buffer is full");
}

static void flush_nothing(png_structp png)
{
    (void)png;
}

static void describe(png_structp png, png_infop info, const struct mf_png *p)
{
    char low[32], range[32], unit[32];
    char *parameters[] = {low, range};
    if (p->unit) {
        snprintf(low, sizeof low, "%.9g", p->low);
        snprintf(range, sizeof range, "%.9g", p->high - p->low);
        snprintf(unit, sizeof unit, "%s", p->unit);
        png_set_pCAL(png, info, "values", 0, (1 << p->bits) - 1, PNG_EQUATION_LINEAR, 2, unit,
                     parameters);
    }
    if (p->text) {
        png_text text = {.compression = PNG_TEXT_COMPRESSION_NONE,
                         .key = (char *)(uintptr_t)p->keyword,
                         .text = (char *)(uintptr_t)p->text};
        png_set_text(png, info, &text, 1);
    }
}

/* Everything that lives across the jump is a parameter. */
static bool write_picture(png_structp png, png_infop info, struct target *target,
                          const struct mf_png *p)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_set_write_fn(png, target, append, flush_nothing);
    png_set_compression_level(png, 3); /* pictures for people: fast before small */
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(png, info, p->columns, p->rows, (int)p->bits,
                 p->channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    describe(png, info, p);
    png_write_info(png, info);
    if (p->bits == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        png_set_swap(png);
    size_t stride = (size_t)p->columns * p->channels * p->bits / 8;
    const uint8_t *samples = p->samples;
    for (uint32_t y = 0; y < p->rows; y++)
        png_write_row(png, samples + y * stride);
    png_write_end(png, info);
    return true;
}

bool mf_png_encode(const struct mf_png *p, struct mf_buffer *out, struct mf_error *err)
{
    struct target target = {out, err};
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, jump_back, drop_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool ok = info && write_picture(png, info, &target, p);
    png_destroy_write_struct(&png, &info);
    return ok || mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a picture");
}

bool mf_png_write(const char *path, uint32_t rows, uint32_t columns, uint32_t channels,
                  uint32_t bits, const void *samples, struct mf_error *err)
{
    const struct mf_png picture = {
        .rows = rows, .columns = columns, .channels = channels, .bits = bits, .samples = samples};
    struct mf_outfile out;
    MF_AUTO(mf_buffer) struct mf_buffer content;
    mf_buffer_init(&content, FILE_BYTES);
    if (!mf_png_encode(&picture, &content, err) || !mf_outfile_open(&out, path, err))
        return false;
    if (fwrite(content.data, 1, content.len, out.file) == content.len)
        return mf_outfile_commit(&out, err);
    mf_outfile_abandon(&out);
    return mf_error_set(err, MF_ERR_IO, "%s: the picture cannot be written", path);
}
