/*
 * Errors: a caller-owned struct, filled once, never allocated.
 *
 * Convention for every function of MedFusion that can fail: the last parameter is a nullable
 * `struct mf_error *err`; the function returns false or NULL on failure. The first error wins: a
 * struct that already holds an error is not overwritten, so clean-up code may fail without hiding
 * the cause. Messages are one sentence that names the input and the reason and never hold patient
 * data.
 */
#ifndef MF_CORE_ERROR_H
#define MF_CORE_ERROR_H

#include <stdarg.h>
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define MF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define MF_CHECK_RESULT __attribute__((warn_unused_result))
#else
#define MF_PRINTF(fmt, args)
#define MF_CHECK_RESULT
#endif

/* What went wrong, as a caller must act on it. One table (error.c) maps each code to its name in
 * problem documents, its HTTP status and its FHIR issue type (http://hl7.org/fhir/issue-type). */
enum mf_code {
    MF_OK = 0,
    MF_ERR_MALFORMED,    /* 400: not the format it claims, truncated, nested too deep, zip escape */
    MF_ERR_UNAUTHORIZED, /* 401 */
    MF_ERR_FORBIDDEN,    /* 403 */
    MF_ERR_NOT_FOUND,    /* 404 */
    MF_ERR_METHOD,       /* 405 */
    MF_ERR_NOT_ACCEPTABLE, /* 406 */
    MF_ERR_CONFLICT,       /* 409: state does not allow it */
    MF_ERR_GONE,           /* 410: purged */
    MF_ERR_TOO_LARGE,      /* 413: size, ratio or count cap */
    MF_ERR_UNSUPPORTED,    /* 415: content type, content encoding, transfer syntax */
    MF_ERR_UNUSABLE,       /* 422: readable, but cannot be used for this request */
    MF_ERR_BUSY,           /* 429: queue or quota full */
    MF_ERR_HEADERS,        /* 431: request header fields too large */
    MF_ERR_INTERNAL,       /* 500: our fault */
    MF_ERR_NO_MEMORY,      /* 500 */
    MF_ERR_CRASHED,        /* 500: the process that did the work died */
    MF_ERR_IO,             /* 503: disk, store or socket failed */
    MF_ERR_UNAVAILABLE,    /* 503: draining, starting, no worker */
    MF_ERR_TIMEOUT,        /* 504: a deadline passed */
    MF_ERR_USAGE,          /* command line or configuration mistake: exit status 2 */
    MF_ERR_MODEL,          /* 500: a bundle or weight file is invalid */
    MF_CODE_COUNT
};

struct mf_error {
    enum mf_code code;
    char msg[256];
};

#define MF_ERROR_INIT                                                                              \
    {                                                                                              \
        MF_OK, ""                                                                                  \
    }

/* Records an error unless `err` is NULL or already holds one; a message that does not fit is cut at
 * a UTF-8 boundary. Always returns false, so that `return mf_error_set(err, …);` reads well. */
bool mf_error_set(struct mf_error *err, enum mf_code code, const char *fmt, ...) MF_PRINTF(3, 4);
bool mf_error_vset(struct mf_error *err, enum mf_code code, const char *fmt, va_list ap)
    MF_PRINTF(3, 0);

/* Puts "context: " before the message of a recorded error, to name the input; a no-op without one.
 * Always returns false. */
bool mf_error_prefix(struct mf_error *err, const char *fmt, ...) MF_PRINTF(2, 3);

/* Forgets a recorded error. */
void mf_error_clear(struct mf_error *err);

/* Static properties of a code; unknown values are treated as MF_ERR_INTERNAL.
 * name: the last part of a problem's `type` ("unsupported"); title: its `title`. */
const char *mf_code_name(enum mf_code code);
const char *mf_code_title(enum mf_code code);
int mf_code_http_status(enum mf_code code);
const char *mf_code_fhir_issue(enum mf_code code);

/* The code with this name, or MF_ERR_INTERNAL. */
enum mf_code mf_code_from_name(const char *name);

#ifdef __cplusplus
}
#endif

#endif
