/* Zip members by minizip, which reads the archive from memory through the callbacks below. */
#include "dicom/zip.h"

#include <minizip/unzip.h>
#include <string.h>

enum { MAX_NAME = 1024, METHOD_STORED = 0, METHOD_DEFLATED = 8, FLAG_ENCRYPTED = 1 };
enum { EMPTY_BYTES = 22 }; /* of an archive without members */

/* ---- the archive as a "file" of minizip ---- */

struct memory_file {
    const uint8_t *data;
    size_t length;
    uint64_t at;
};

static voidpf open_memory(voidpf opaque, const void *name, int mode)
{
    (void)name;
    (void)mode;
    return opaque;
}

static uLong read_memory(voidpf opaque, voidpf stream, void *out, uLong n)
{
    struct memory_file *f = stream;
    (void)opaque;
    if (f->at >= f->length)
        return 0;
    if (n > f->length - f->at)
        n = f->length - f->at;
    memcpy(out, f->data + f->at, n);
    f->at += n;
    return n;
}

static ZPOS64_T tell_memory(voidpf opaque, voidpf stream)
{
    (void)opaque;
    return ((struct memory_file *)stream)->at;
}

static long seek_memory(voidpf opaque, voidpf stream, ZPOS64_T offset, int origin)
{
    struct memory_file *f = stream;
    (void)opaque;
    uint64_t base = origin == ZLIB_FILEFUNC_SEEK_CUR   ? f->at /* never behind the end */
                    : origin == ZLIB_FILEFUNC_SEEK_END ? f->length
                                                       : 0;
    if (offset > f->length - base)
        return -1;
    f->at = base + offset;
    return 0;
}

static int close_memory(voidpf opaque, voidpf stream)
{
    (void)opaque;
    (void)stream;
    return 0;
}

static unzFile open_archive(struct memory_file *file)
{
    zlib_filefunc64_def functions = {.zopen64_file = open_memory,
                                     .zread_file = read_memory,
                                     .ztell64_file = tell_memory,
                                     .zseek64_file = seek_memory,
                                     .zclose_file = close_memory,
                                     .zerror_file = close_memory,
                                     .opaque = file};
    return unzOpen2_64("", &functions);
}

MF_AUTO_DEFINE(archive, unzFile, if (*p) unzClose(*p))

/* ---- members ---- */

bool mf_zip_plausible(const void *data, size_t length)
{
    const uint8_t *p = data;
    return length >= 4 && p[0] == 'P' && p[1] == 'K' &&
           ((p[2] == 3 && p[3] == 4) || (p[2] == 5 && p[3] == 6));
}

/* Absolute names, drive letters and ".." components. */
static bool name_escapes(const char *name)
{
    if (name[0] == '/' || name[0] == '\\' || (name[0] && name[1] == ':'))
        return true;
    for (const char *p = name; *p;) {
        size_t n = strcspn(p, "/\\");
        if (n == 2 && p[0] == '.' && p[1] == '.')
            return true;
        p += n + (p[n] != '\0');
    }
    return false;
}

/* The place of the current member's bytes, from its local header. */
static bool locate(unzFile archive, const unz_file_info64 *info, size_t length, uint32_t number,
                   struct mf_zip_member *member, struct mf_error *err)
{
    int method, level;
    if (unzOpenCurrentFile2(archive, &method, &level, 1) != UNZ_OK)
        return mf_error_set(err, MF_ERR_MALFORMED, "member %u: the zip is damaged", number);
    member->offset = unzGetCurrentFileZStreamPos64(archive);
    unzCloseCurrentFile(archive);
    member->length = info->compressed_size;
    member->deflated = info->compression_method == METHOD_DEFLATED;
    member->crc = (uint32_t)info->crc;
    if (member->offset > length || member->length > length - member->offset)
        return mf_error_set(err, MF_ERR_MALFORMED, "member %u: truncated", number);
    return true;
}

static bool visit_member(unzFile archive, size_t length, uint32_t number, mf_zip_visit *visit,
                         void *context, struct mf_error *err)
{
    unz_file_info64 info;
    char name[MAX_NAME] = "";
    if (unzGetCurrentFileInfo64(archive, &info, name, sizeof name - 1, NULL, 0, NULL, 0) != UNZ_OK)
        return mf_error_set(err, MF_ERR_MALFORMED, "member %u: the zip is damaged", number);
    size_t n = strlen(name);
    if (info.size_filename >= sizeof name || n != info.size_filename)
        return mf_error_set(err, MF_ERR_MALFORMED, "member %u: its name is too long or holds NUL",
                            number);
    if (name_escapes(name))
        return mf_error_set(err, MF_ERR_MALFORMED, "member %u: its name leads out of the zip",
                            number);
    if (n && name[n - 1] == '/')
        return true;
    if (info.flag & FLAG_ENCRYPTED)
        return mf_error_set(err, MF_ERR_UNSUPPORTED, "member %u: encrypted zips are not read",
                            number);
    if (info.compression_method != METHOD_STORED && info.compression_method != METHOD_DEFLATED)
        return mf_error_set(err, MF_ERR_UNSUPPORTED,
                            "member %u: the zip's compression method %lu is not read", number,
                            (unsigned long)info.compression_method);
    struct mf_zip_member member;
    return locate(archive, &info, length, number, &member, err) && visit(context, &member, err);
}

bool mf_zip_walk(const void *data, size_t length, uint32_t max_members, mf_zip_visit *visit,
                 void *context, struct mf_error *err)
{
    struct memory_file file = {.data = data, .length = length};
    if (length == EMPTY_BYTES && memcmp(data, "PK\5\6", 4) == 0)
        return true; /* minizip finds no directory at the very beginning */
    MF_AUTO(archive) unzFile archive = open_archive(&file);
    unz_global_info64 info;
    if (!archive)
        return mf_error_set(err, MF_ERR_MALFORMED, "the zip is damaged or truncated");
    unzGetGlobalInfo64(archive, &info); /* what opening it has read */
    if (info.number_entry > max_members)
        return mf_error_set(err, MF_ERR_TOO_LARGE, "the zip has %llu members, at most %u are read",
                            (unsigned long long)info.number_entry, max_members);
    if (info.number_entry == 0)
        return true;
    int status = unzGoToFirstFile(archive);
    for (uint32_t number = 1; status == UNZ_OK; number++) {
        if (!visit_member(archive, length, number, visit, context, err))
            return false;
        status = unzGoToNextFile(archive);
    }
    if (status != UNZ_END_OF_LIST_OF_FILE)
        return mf_error_set(err, MF_ERR_MALFORMED, "the zip is damaged");
    return true;
}
