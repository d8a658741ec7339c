/* Viewports of rendered images under libFuzzer: the first two bytes are the size of an image, the
 * rest is the text; what is cut lies within the image and is shown within the viewport. */
#include "server/viewport.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    uint32_t columns = data[0] * 257u + 1, rows = data[1] * 257u + 1;
    struct mf_error err = MF_ERROR_INIT;
    struct mf_viewport v;
    struct mf_cut c;
    char *text = malloc(size - 1);
    if (!text)
        abort();
    memcpy(text, data + 2, size - 2);
    text[size - 2] = '\0';
    bool ok = mf_viewport_parse(text, &v, &err) && mf_viewport_cut(&v, columns, rows, &c, &err);
    if (ok != (err.code == MF_OK))
        abort();
    if (ok && (c.columns < 1 || c.rows < 1 || c.x + c.columns > columns || c.y + c.rows > rows ||
               c.shown_columns < 1 || c.shown_rows < 1 || c.shown_columns > v.columns ||
               c.shown_rows > v.rows || v.columns > MF_VIEWPORT_SIDE || v.rows > MF_VIEWPORT_SIDE))
        abort();
    free(text);
    return 0;
}
