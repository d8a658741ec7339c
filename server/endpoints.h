/* The endpoints, one file each (endpoint_*.c). router.c lists them. */
#ifndef MF_SERVER_ENDPOINTS_H
#define MF_SERVER_ENDPOINTS_H

#include "server/request.h"

extern const struct mf_endpoint mf_endpoint_jobs_post;   /* POST   /v1/jobs */
extern const struct mf_endpoint mf_endpoint_jobs_list;   /* GET    /v1/jobs */
extern const struct mf_endpoint mf_endpoint_job_get;     /* GET    /v1/jobs/{id} */
extern const struct mf_endpoint mf_endpoint_job_cancel;  /* DELETE /v1/jobs/{id} */
extern const struct mf_endpoint mf_endpoint_job_purge;   /* DELETE /v1/jobs/{id}/data */
extern const struct mf_endpoint mf_endpoint_result;      /* GET    /v1/jobs/{id}/result */
extern const struct mf_endpoint mf_endpoint_artifacts;   /* GET    /v1/jobs/{id}/artifacts */
extern const struct mf_endpoint mf_endpoint_artifact;    /* GET    /v1/jobs/{id}/artifacts/{name} */
extern const struct mf_endpoint mf_endpoint_server;      /* GET    /v2 */
extern const struct mf_endpoint mf_endpoint_live;        /* GET    /v2/health/live */
extern const struct mf_endpoint mf_endpoint_ready;       /* GET    /v2/health/ready */
extern const struct mf_endpoint mf_endpoint_model;       /* GET    /v2/models/{model} */
extern const struct mf_endpoint mf_endpoint_model_ready; /* GET    /v2/models/{model}/ready */
extern const struct mf_endpoint mf_endpoint_metrics;     /* GET    /metrics */
extern const struct mf_endpoint mf_endpoint_openapi;     /* GET    /openapi.json */
extern const struct mf_endpoint mf_endpoint_study;       /* GET    /v1/studies/{study} */
extern const struct mf_endpoint mf_endpoint_stow;        /* POST   /dicom-web/studies */
extern const struct mf_endpoint mf_endpoint_stow_study;  /* POST   /dicom-web/studies/{study} */

#endif
