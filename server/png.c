/* PNG by libpng's classic interface; its errors jump back here and become a mf_error. */
#include "server/png.h"

#include "core/outfile.h"

#include <png.h>
#include <setjmp.h>

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

/* Everything that lives across the jump is a parameter. */
static bool write_picture(png_structp png, png_infop info, FILE *file, uint32_t rows,
                          uint32_t columns, uint32_t channels, uint32_t bits,
                          const uint8_t *samples)
{
    if (setjmp(png_jmpbuf(png)))
        return false;
    png_init_io(png, file);
    png_set_compression_level(png, 3); /* pictures for people: fast before small */
    png_set_user_limits(png, 0x7fffffff, 0x7fffffff);
    png_set_IHDR(png, info, columns, rows, (int)bits,
                 channels == 3 ? PNG_COLOR_TYPE_RGB : PNG_COLOR_TYPE_GRAY, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    png_write_info(png, info);
    if (bits == 16 && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__)
        png_set_swap(png);
    size_t stride = (size_t)columns * channels * bits / 8;
    for (uint32_t y = 0; y < rows; y++)
        png_write_row(png, samples + y * stride);
    png_write_end(png, info);
    return true;
}

bool mf_png_write(const char *path, uint32_t rows, uint32_t columns, uint32_t channels,
                  uint32_t bits, const void *samples, struct mf_error *err)
{
    struct mf_outfile out;
    if (!mf_outfile_open(&out, path, err))
        return false;
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, jump_back, drop_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    bool ok = info && write_picture(png, info, out.file, rows, columns, channels, bits, samples);
    png_destroy_write_struct(&png, &info);
    if (ok)
        return mf_outfile_commit(&out, err);
    mf_outfile_abandon(&out);
    return mf_error_set(err, MF_ERR_IO, "%s: the picture cannot be written", path);
}
