/* Audit trail: the chain, and verifying it. */
#include "server/store_audit.h"

#include "server/store_ops.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

bool mf_store_audit_add(struct mf_store *store, const struct mf_audit_row *row,
                        struct mf_error *err)
{
    return store->ops->audit_add(store, row, err);
}

bool mf_store_audit_read(struct mf_store *store, int64_t after, struct mf_arena *arena,
                         struct mf_audit_point *ret_base, struct mf_audit_row **ret,
                         size_t *ret_count, struct mf_error *err)
{
    return store->ops->audit_read(store, after, arena, ret_base, ret, ret_count, err);
}

/* --- the chain --- */

static size_t put_int(unsigned char *out, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        out[i] = (unsigned char)(value >> (56 - 8 * i));
    return 8;
}

void mf_audit_hash(const unsigned char before[MF_SHA256_BYTES], const struct mf_audit_row *row,
                   unsigned char out[MF_SHA256_BYTES])
{
    /* Fixed fields, then each text behind its length (all ones: NULL). Long texts go in as their
     * own digest, so that everything fits a buffer without an allocation. */
    const char *const texts[] = {row->tenant, row->actor, row->job, row->event, row->detail};
    unsigned char buffer[MF_SHA256_BYTES + 2 * 8 + 5 * (8 + 512)];
    size_t n = MF_SHA256_BYTES;
    memcpy(buffer, before, MF_SHA256_BYTES);
    n += put_int(buffer + n, (uint64_t)row->seq);
    n += put_int(buffer + n, (uint64_t)row->time_ms);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        size_t len = texts[i] ? strlen(texts[i]) : 0;
        n += put_int(buffer + n, texts[i] ? len : UINT64_MAX);
        if (len > 512) {
            mf_sha256(texts[i], len, buffer + n);
            n += MF_SHA256_BYTES;
        } else if (len > 0) {
            memcpy(buffer + n, texts[i], len);
            n += len;
        }
    }
    mf_sha256(buffer, n, out);
}

const char *mf_audit_point_format(const struct mf_audit_point *point, char out[MF_AUDIT_POINT_TEXT])
{
    char hex[MF_SHA256_HEX];
    snprintf(out, MF_AUDIT_POINT_TEXT, "%" PRId64 ":%s", point->seq,
             mf_sha256_to_hex(point->hash, hex));
    return out;
}

bool mf_audit_point_parse(const char *text, struct mf_audit_point *ret)
{
    char *end;
    long long seq = strtoll(text, &end, 10);
    if (end == text || seq < 0 || *end++ != ':' || strlen(end) != MF_SHA256_HEX - 1 ||
        strspn(end, "0123456789abcdef") != MF_SHA256_HEX - 1)
        return false;
    ret->seq = seq;
    for (size_t i = 0; i < MF_SHA256_BYTES; i++) {
        const char digits[3] = {end[2 * i], end[2 * i + 1], '\0'};
        ret->hash[i] = (unsigned char)strtoul(digits, NULL, 16);
    }
    return true;
}

/* --- verifying --- */

struct walk {
    const struct mf_audit_point *known;
    struct mf_audit_report report;
    bool base_told, known_found;
    char base_text[MF_AUDIT_POINT_TEXT];
};

static bool same(const struct mf_audit_point *a, int64_t seq, const unsigned char *hash)
{
    return a->seq == seq && memcmp(a->hash, hash, MF_SHA256_BYTES) == 0;
}

static bool step(struct walk *w, const struct mf_audit_row *row, struct mf_error *err)
{
    unsigned char hash[MF_SHA256_BYTES];
    struct mf_audit_point *head = &w->report.head;
    if (row->seq != head->seq + 1)
        return mf_error_set(err, MF_ERR_MALFORMED, "audit trail: row %" PRId64 " is missing",
                            head->seq + 1);
    mf_audit_hash(head->hash, row, hash);
    if (memcmp(hash, row->hash, sizeof hash) != 0)
        return mf_error_set(err, MF_ERR_MALFORMED, "audit trail: row %" PRId64 " was changed",
                            row->seq);
    head->seq = row->seq;
    memcpy(head->hash, row->hash, sizeof head->hash);
    w->report.rows++;
    w->known_found = w->known_found || (w->known && same(w->known, row->seq, row->hash));
    w->base_told = w->base_told || (strcmp(row->event, "audit.purged") == 0 && row->detail &&
                                    strcmp(row->detail, w->base_text) == 0);
    return true;
}

static bool conclude(const struct walk *w, struct mf_error *err)
{
    if (!w->base_told)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "audit trail: its beginning was removed, and no row tells of it");
    if (w->known && !w->known_found)
        return mf_error_set(err, MF_ERR_MALFORMED,
                            "audit trail: row %" PRId64 " is not the one that is known",
                            w->known->seq);
    return true;
}

bool mf_audit_verify(struct mf_store *store, const struct mf_audit_point *known,
                     struct mf_audit_report *ret, struct mf_error *err)
{
    struct walk w = {.known = known};
    for (bool first = true;; first = false) {
        struct mf_audit_row *rows = NULL;
        struct mf_audit_point base;
        size_t n = 0;
        MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(64 << 20);
        if (!arena)
            return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for the audit trail");
        if (!mf_store_audit_read(store, w.report.head.seq, arena, &base, &rows, &n, err))
            return false;
        if (first) {
            w.report.base = w.report.head = base;
            w.base_told = base.seq == 0;
            w.known_found = known && same(known, base.seq, base.hash);
            mf_audit_point_format(&base, w.base_text);
            if (base.seq > 0) { /* read again, from where it begins */
                continue;
            }
        }
        for (size_t i = 0; i < n; i++)
            if (!step(&w, &rows[i], err))
                return false;
        if (n < MF_AUDIT_PAGE)
            break;
    }
    if (!conclude(&w, err))
        return false;
    *ret = w.report;
    return true;
}
