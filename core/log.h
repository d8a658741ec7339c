/*
 * Logging: one JSON object a line on stderr, typed fields only. There is no printf of free text, so
 * patient data cannot slip in with a message: events are literals, fields are numbers, our own ids,
 * or error messages (which hold none by convention). Library code does not log; servers and tools
 * do.
 */
#ifndef MF_CORE_LOG_H
#define MF_CORE_LOG_H

#include "core/error.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mf_log_level { MF_LOG_DEBUG, MF_LOG_INFO, MF_LOG_WARN, MF_LOG_ERROR };

struct mf_log_field {
    const char *key;
    enum { MF_LOG_END = 0, MF_LOG_INT, MF_LOG_REAL, MF_LOG_ID } kind;
    int64_t i;
    double r;
    const char *id; /* control characters and quotes are escaped; longer than 200 bytes is cut */
};

#define MF_LOG_I(k, v) ((struct mf_log_field){.key = (k), .kind = MF_LOG_INT, .i = (int64_t)(v)})
#define MF_LOG_R(k, v) ((struct mf_log_field){.key = (k), .kind = MF_LOG_REAL, .r = (v)})
#define MF_LOG_S(k, v) ((struct mf_log_field){.key = (k), .kind = MF_LOG_ID, .id = (v)})

/* Lines below this level are dropped; the component ("front", "worker") is on every line. */
void mf_log_setup(enum mf_log_level least, const char *component);
bool mf_log_level_parse(const char *name, enum mf_log_level *ret);

/* Writes {"time","level","component","event", fields…} with one write(2), so lines of several
 * processes do not mix. `event` is a literal such as "job.finished". */
void mf_log_write(enum mf_log_level level, const char *event, const struct mf_log_field *fields);

#define mf_log(level, event, ...)                                                                  \
    mf_log_write((level), (event),                                                                 \
                 (const struct mf_log_field[]){__VA_ARGS__ __VA_OPT__(, ){.kind = MF_LOG_END}})

#ifdef __cplusplus
}
#endif

#endif
