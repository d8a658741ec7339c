/* Ids of states from their content (seal.h). */
#include "engine/trust/seal.h"

#include <string.h>

bool mf_seal_id(json_t *content, char ret_id[MF_SHA256_HEX], struct mf_error *err)
{
    unsigned char digest[MF_SHA256_BYTES];
    MF_AUTO(mf_json) json_t *json = content;
    MF_AUTO(mf_mem)
    char *text =
        json ? json_dumps(json, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory for a state's id");
    mf_sha256(text, strlen(text), digest);
    mf_sha256_to_hex(digest, ret_id);
    return true;
}

json_t *mf_seal_with_id(json_t *content, const char *id)
{
    if (content && json_object_set_new(content, "id", json_string(id)) == 0)
        return content;
    json_decref(content);
    return NULL;
}
