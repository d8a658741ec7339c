/*
 * Any bytes as a JSON file of a bundle. The first byte chooses which: bundle.json, a trust file, or
 * the config.json of a module over an empty weight file (so that sizes decide what is asked for).
 * Refused with a message or accepted; never a crash, never memory without bound.
 */
#include "engine/bundle_private.h"
#include "engine/net/sam2_memory.h"
#include "engine/trust/trust_private.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { LABELS = 2 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mf_label LABEL_LIST[LABELS] = {{.id = "A", .display = "A"},
                                                   {.id = "B", .display = "B"}};

static void parse_bundle(json_t *json)
{
    struct mf_error err = MF_ERROR_INIT;
    struct mf_bundle b = {.arena = mf_arena_new(0), .json = json};
    if (b.arena && !mf_bundle_parse(&b, &err) && !err.msg[0])
        __builtin_trap();
    mf_arena_free(b.arena);
}

static void parse_trust(json_t *json, size_t which)
{
    struct mf_error err = MF_ERROR_INIT;
    json_t *files[MF_TRUST_FILES] = {json_null(), json_null(), json_null()};
    files[which] = json;
    MF_AUTO(mf_trust) struct mf_trust *t = mf_trust_from_json(files, LABEL_LIST, LABELS, &err);
    if (!t && !err.msg[0])
        __builtin_trap();
}

static void parse_config(json_t *json, size_t which)
{
    static const char EMPTY[] = "\x02\0\0\0\0\0\0\0{}";
    struct mf_error err = MF_ERROR_INIT;
    struct mf_safetensors *file = mf_safetensors_parse(EMPTY, sizeof EMPTY - 1, "fuzz", &err);
    MF_AUTO(mf_weights)
    struct mf_weights *w = mf_weights_from(json_incref(json), file, "fuzz", &err);
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(64 << 20);
    struct mf_loader ld;
    if (!w || !arena)
        return;
    mf_loader_init(&ld, w, NULL, arena, &err);
    bool loaded = which == 0   ? mf_vit_load_any(&ld) != NULL
                  : which == 1 ? mf_sam2_load(&ld, true) != NULL
                  : which == 2 ? mf_temporal_load(&ld) != NULL
                  : which == 3 ? mf_ft_load(&ld) != NULL
                  : which == 4 ? mf_fusion_load(&ld) != NULL
                  : which == 5 ? mf_sam2_memory_load(&ld, 256, 64) != NULL
                               : mf_mamba_load(&ld) != NULL;
    if (loaded || !err.msg[0]) /* without a tensor nothing can load */
        __builtin_trap();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    MF_AUTO(mf_json)
    json_t *json = mf_json_parse((const char *)data + 1, size - 1, NULL, "fuzz", NULL);
    if (!json_is_object(json))
        return 0;
    size_t which = data[0] % 11;
    if (which == 0)
        parse_bundle(json);
    else if (which <= MF_TRUST_FILES)
        parse_trust(json, which - 1);
    else
        parse_config(json, which - 1 - MF_TRUST_FILES);
    return 0;
}
