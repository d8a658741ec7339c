/* CSV (RFC 4180): a header line and rows, quoted fields, CRLF or LF, UTF-8 with or without a byte
 * order mark. */
#ifndef MF_SERVER_CSV_H
#define MF_SERVER_CSV_H

#include "core/auto.h"
#include "core/error.h"

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct mf_csv; /* owns its text */

/* Reads a whole file of at most 256 MiB. MF_ERR_MALFORMED names the line: a quote that does not
 * end, or a row with another number of fields than the header. Empty lines are passed over. */
struct mf_csv *mf_csv_read(const char *path, struct mf_error *err) MF_CHECK_RESULT;
void mf_csv_free(struct mf_csv *csv);

size_t mf_csv_columns(const struct mf_csv *csv);
size_t mf_csv_rows(const struct mf_csv *csv); /* without the header */
const char *mf_csv_header(const struct mf_csv *csv, size_t column);
const char *mf_csv_field(const struct mf_csv *csv, size_t row, size_t column);
/* Number of the column with this name, or −1. */
long mf_csv_find(const struct mf_csv *csv, const char *name);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_csv, struct mf_csv *, mf_csv_free(*p))

#endif
