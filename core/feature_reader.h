/* What the files that read a feature definition share. Not for other modules. */
#ifndef MF_CORE_FEATURE_READER_H
#define MF_CORE_FEATURE_READER_H

#include "core/feature.h"

enum { MF_FEATURE_LIST_MAX = 4096, MF_FEATURE_PATH_TEXT = 160 };

/* Where the reader is, for messages: the name of the input and the path of the member. */
struct mf_feature_reader {
    const char *name;
    struct mf_arena *arena;
    struct mf_error *err;
    char path[MF_FEATURE_PATH_TEXT];
    const json_t *value_sets; /* of the definition, checked; NULL = none */
    /* what a derived source may name: the helpers, and the numeric features read so far */
    const struct mf_feature_set *set;
    size_t helpers_read, features_read;
    /* finding all mistakes: where they go, and how many there were */
    void (*report)(void *context, const char *mistake);
    void *context;
    size_t mistakes;
};

/* Fails with "NAME: PATH.MEMBER: reason"; `member` may be NULL. */
bool mf_feature_fail(struct mf_feature_reader *r, const char *member, const char *reason, ...)
    MF_PRINTF(3, 4);
/* Memory of the set; an arena that is full is the definition's fault. */
void *mf_feature_allocate(struct mf_feature_reader *r, size_t n, size_t size);
const char *mf_feature_copy(struct mf_feature_reader *r, const char *s);
/* A member that must be a string with at least one character; one that may also be absent or null.
 */
bool mf_feature_need_text(struct mf_feature_reader *r, const json_t *object, const char *key,
                          const char **ret);
bool mf_feature_optional_text(struct mf_feature_reader *r, const json_t *object, const char *key,
                              const char **ret);
bool mf_feature_only_keys(struct mf_feature_reader *r, const json_t *object,
                          const char *const keys[]);
/* An ISO 8601 duration, or the fallback where there is none. */
bool mf_feature_duration(struct mf_feature_reader *r, const json_t *object, const char *key,
                         int64_t fallback, int64_t *ret);

/* "sources" of a feature whose kind and pick are known. */
bool mf_feature_read_sources(struct mf_feature_reader *r, const json_t *object,
                             struct mf_feature *f);
/* Checks "value_sets": {name: [codings]}; it has no value set in a value set. */
bool mf_feature_check_value_sets(struct mf_feature_reader *r, const json_t *value_sets);

#endif
