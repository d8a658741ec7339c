/* What a bundle accepts, as plain lists: see bundle.h. */
#include "engine/bundle_private.h"

#include <string.h>

static bool requires(const struct mf_bundle *b, const char *key)
{
    for (size_t i = 0; i < b->require.count; i++)
        if (strcmp(b->require.items[i], key) == 0)
            return true;
    return false;
}

void mf_bundle_rules(const struct mf_bundle *b, struct mf_bundle_rules *ret)
{
    *ret = (struct mf_bundle_rules){.modalities = b->modalities.items,
                                    .modality_count = b->modalities.count,
                                    .views = b->views.items,
                                    .view_count = b->views.count,
                                    .body_parts = b->body_parts.items,
                                    .body_part_count = b->body_parts.count,
                                    .require_modality = requires(b, "modalities"),
                                    .require_view = requires(b, "views"),
                                    .require_body_part = requires(b, "body_parts"),
                                    .priors = b->priors};
}
