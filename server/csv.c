/* CSV: fields are unquoted in place; the table is an array of pointers into the text. */
#include "server/csv.h"

#include "core/buffer.h"

#include <stdlib.h>
#include <string.h>

enum { CSV_MAX = 256 << 20 };

struct mf_csv {
    char *text;
    const char **fields; /* the header first, row-major */
    size_t field_count, capacity;
    size_t columns;
};

static bool push(struct mf_csv *csv, const char *field, struct mf_error *err)
{
    if (csv->field_count == csv->capacity) {
        size_t capacity = csv->capacity ? 2 * csv->capacity : 1024;
        const char **fields = realloc(csv->fields, capacity * sizeof *fields);
        if (!fields)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
        csv->fields = fields;
        csv->capacity = capacity;
    }
    csv->fields[csv->field_count++] = field;
    return true;
}

/* Takes the field at `at`: unquotes it, ends it with a NUL, puts what stood behind it (',', '\n' or
 * '\0') into *ret_end and returns where the next one begins. NULL when a quote does not end. */
static char *take_field(char *at, char *ret_end, size_t *line)
{
    char *to = at, *begin = at;
    if (*at == '"') {
        for (at++;; at++) {
            if (!*at)
                return NULL;
            *line += *at == '\n';
            if (*at == '"' && *++at != '"')
                break;
            *to++ = *at;
        }
    }
    while (*at && *at != ',' && *at != '\n')
        *to++ = *at++;
    if (*at != ',' && to > begin && to[-1] == '\r')
        to--;
    *ret_end = *at;
    char *next = *at ? at + 1 : at;
    *to = '\0';
    return next;
}

/* One row, header included. */
static char *take_row(struct mf_csv *csv, char *at, size_t *line, const char *path,
                      struct mf_error *err)
{
    size_t first = *line, count = 0;
    char end = ',';
    while (end == ',') {
        char *field = at;
        at = take_field(at, &end, line);
        if (!at) {
            mf_error_set(err, MF_ERR_MALFORMED, "%s: line %zu: a quote does not end", path, first);
            return NULL;
        }
        if (!push(csv, field, err))
            return NULL;
        count++;
    }
    *line += end == '\n';
    if (csv->columns == 0) {
        csv->columns = count;
    } else if (count != csv->columns) {
        mf_error_set(err, MF_ERR_MALFORMED, "%s: line %zu: %zu fields, the header has %zu", path,
                     first, count, csv->columns);
        return NULL;
    }
    return at;
}

static bool parse(struct mf_csv *csv, const char *path, struct mf_error *err)
{
    char *at = csv->text;
    size_t line = 1;
    if (strncmp(at, "\xEF\xBB\xBF", 3) == 0)
        at += 3;
    while (*at) {
        if (*at == '\n' || (*at == '\r' && at[1] == '\n')) {
            at += *at == '\r' ? 2 : 1;
            line++;
            continue;
        }
        if (!(at = take_row(csv, at, &line, path, err)))
            return false;
    }
    return csv->columns || mf_error_set(err, MF_ERR_MALFORMED, "%s: no header line", path);
}

struct mf_csv *mf_csv_read(const char *path, struct mf_error *err)
{
    MF_AUTO(mf_buffer) struct mf_buffer text;
    mf_buffer_init(&text, CSV_MAX);
    if (!mf_buffer_read_file(&text, path, err))
        return NULL;
    if (text.len && memchr(text.data, '\0', text.len)) {
        mf_error_set(err, MF_ERR_MALFORMED, "%s: not text", path);
        return NULL;
    }
    struct mf_csv *csv = calloc(1, sizeof *csv);
    if (csv)
        csv->text = mf_buffer_take(&text, NULL);
    if (!csv || !csv->text)
        mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    else if (parse(csv, path, err))
        return csv;
    mf_csv_free(csv);
    return NULL;
}

void mf_csv_free(struct mf_csv *csv)
{
    if (!csv)
        return;
    free(csv->text);
    free(csv->fields);
    free(csv);
}

size_t mf_csv_columns(const struct mf_csv *csv)
{
    return csv->columns;
}

size_t mf_csv_rows(const struct mf_csv *csv)
{
    return csv->field_count / csv->columns - 1;
}

const char *mf_csv_header(const struct mf_csv *csv, size_t column)
{
    return csv->fields[column];
}

const char *mf_csv_field(const struct mf_csv *csv, size_t row, size_t column)
{
    return csv->fields[(row + 1) * csv->columns + column];
}

long mf_csv_find(const struct mf_csv *csv, const char *name)
{
    for (size_t i = 0; i < csv->columns; i++)
        if (strcmp(csv->fields[i], name) == 0)
            return (long)i;
    return -1;
}
