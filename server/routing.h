/*
 * Routing: rules that choose the model, the destinations and the priority of a job by what its
 * study is and where it came from. A JSON file, routing.rules:
 *
 *   {"rules": [{"name": "chest", "tenant": "default",
 *               "match": {"modality": ["CR", "DX"], "body_part": "CHEST*",
 *                         "study_description": "*thorax*", "series_description": "*",
 *                         "calling": "MODALITY1", "called": "MEDFUSION"},
 *               "model": "thorax-nih", "destinations": ["fhir:ehr"], "priority": "urgent"}]}
 *
 * The first rule of the tenant that fits wins; every member but `name` may be missing. A pattern is
 * a shell pattern (*, ?, […]) without regard to case, or a list of which one must fit; "" fits what
 * is absent. What the request itself says (model, priority, destinations) is stronger.
 */
#ifndef MF_SERVER_ROUTING_H
#define MF_SERVER_ROUTING_H

#include "core/auto.h"
#include "core/error.h"
#include "core/json.h"
#include "dicom/index.h"
#include "server/config.h"
#include "server/registry.h"
#include "server/store.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_route {
    const char *name;
    const char *model;          /* NULL = the one that accepts the study */
    const json_t *destinations; /* array of addresses; NULL = all of the tenant's */
    bool has_priority;
    enum mf_priority priority;
};

/* What a study is matched as, besides its index. */
struct mf_route_origin {
    const char *tenant;
    const char *calling, *called; /* AE titles; NULL: it did not come by an association */
};

struct mf_routing;

/* The rules of a file; `path` "off": none. MF_ERR_USAGE names the file, the rule and the mistake.
 */
struct mf_routing *mf_routing_load(const char *path, struct mf_error *err) MF_CHECK_RESULT;
void mf_routing_free(struct mf_routing *routing);

/* Whether the models that the rules name are served, and their destinations configured. */
bool mf_routing_check(const struct mf_routing *routing, const struct mf_config *config,
                      const struct mf_registry *registry, struct mf_error *err) MF_CHECK_RESULT;

/* The first rule that fits an image of the newest study of the index; NULL = none. Borrowed from
 * the rules. */
const struct mf_route *mf_routing_choose(const struct mf_routing *routing,
                                         const struct mf_index *index,
                                         const struct mf_route_origin *origin);

/* The AE titles of an instance's source ("dimse:CALLING", "dimse:CALLING\CALLED"; `main` is the
 * called title that is not written); empty for other sources. */
struct mf_route_titles {
    char calling[17], called[17];
};
struct mf_route_titles mf_route_titles(const char *source, const char *main);

/* Whether `address` is one of the tenant's in outbox.destinations. */
bool mf_destination_known(const struct mf_config *config, const char *tenant, const char *address);

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_routing, struct mf_routing *, mf_routing_free(*p))

#endif
