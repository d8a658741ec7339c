/* A FHIR document from a file: JSON or NDJSON, as it is or compressed with gzip (RFC 1952, several
 * members too). zlib tells them apart by the first bytes and passes plain text through. */
#include "fhir/document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

enum { PIECE = 64 << 10 };

/* Why gzread gave no more bytes; true at the end of the file. */
static bool at_end(gzFile file, const char *path, struct mf_error *err)
{
    int system = errno, number;
    const char *reason = gzerror(file, &number);
    if (number == Z_OK || number == Z_STREAM_END)
        return true;
    if (number == Z_ERRNO)
        return mf_error_set(err, MF_ERR_IO, "%s: %s", path, strerror(system));
    if (number == Z_MEM_ERROR)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", path);
    size_t n = strlen(path); /* zlib names the file too */
    bool named = strncmp(reason, path, n) == 0 && strncmp(reason + n, ": ", 2) == 0;
    return mf_error_set(err, MF_ERR_MALFORMED, "%s: damaged gzip data (%s)", path,
                        named ? reason + n + 2 : reason);
}

static struct mf_fhir_document *read_all(struct mf_fhir_reader *r, gzFile file, char *piece,
                                         const char *path, struct mf_error *err)
{
    for (;;) {
        int n = gzread(file, piece, PIECE);
        if (n > 0 && !mf_fhir_reader_feed(r, piece, (size_t)n, err))
            return NULL;
        if (n <= 0)
            return at_end(file, path, err) ? mf_fhir_reader_finish(r, err) : NULL;
    }
}

struct mf_fhir_document *
mf_fhir_document_load(const char *path, const struct mf_fhir_limits *limits, struct mf_error *err)
{
    errno = 0;
    gzFile file = gzopen(path, "re");
    if (!file) {
        enum mf_code code = errno == ENOENT ? MF_ERR_NOT_FOUND : MF_ERR_IO;
        mf_error_set(err, errno ? code : MF_ERR_NO_MEMORY, "%s: %s", path,
                     errno ? strerror(errno) : "out of memory");
        return NULL;
    }
    (void)gzbuffer(file, PIECE);
    MF_AUTO(mf_fhir_reader) struct mf_fhir_reader *r = mf_fhir_reader_new(limits, path, err);
    MF_AUTO(mf_mem) char *piece = malloc(PIECE);
    if (r && !piece)
        mf_error_set(err, MF_ERR_NO_MEMORY, "%s: out of memory", path);
    struct mf_fhir_document *doc = r && piece ? read_all(r, file, piece, path, err) : NULL;
    (void)gzclose_r(file); /* nothing was written */
    return doc;
}
