/*
 * Sources: the servers of fetch.sources that studies are fetched from. A request names one, never
 * an address.
 *
 *   NAME=http(s)://host/dicom-web                    QIDO-RS and WADO-RS
 *   NAME=dicom(s)://AE@host:port                     C-FIND and C-GET
 *   NAME=dicom(s)://AE@host:port?move                C-FIND and C-MOVE to our own AE title
 *
 * TENANT/NAME is a source of a tenant that is not the default one.
 */
#ifndef MF_SERVER_FETCH_SOURCE_H
#define MF_SERVER_FETCH_SOURCE_H

#include "core/error.h"
#include "server/config.h"
#include "server/dicom_address.h"

#ifdef __cplusplus
extern "C" {
#endif

enum mf_fetch_method { MF_FETCH_WEB, MF_FETCH_GET, MF_FETCH_MOVE };

struct mf_fetch_source {
    char name[65], tenant[65];
    char address[512]; /* without a slash at its end, or without "?move" */
    enum mf_fetch_method method;
};

/* The source with this name (NULL: the first one) of the tenant. MF_ERR_UNUSABLE: there is none. */
bool mf_fetch_source_find(const struct mf_config *config, const char *tenant, const char *name,
                          struct mf_fetch_source *ret, struct mf_error *err) MF_CHECK_RESULT;

/* The tenant's source that a retrieve URL lies below, or whose AE title this is ("" = not named).
 */
bool mf_fetch_source_match(const struct mf_config *config, const char *tenant, const char *url,
                           const char *ae, struct mf_fetch_source *ret);

/* Whether fetch.sources is understood, and the configuration has what its entries need.
 * MF_ERR_USAGE names the entry. */
bool mf_fetch_sources_check(const struct mf_config *config, struct mf_error *err) MF_CHECK_RESULT;

/* Whether a source speaks DIMSE, so that the process of query.h is needed. */
bool mf_fetch_sources_need_query(const struct mf_config *config);

#ifdef __cplusplus
}
#endif

#endif
