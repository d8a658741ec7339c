/* The endpoints, one file each (endpoint_*.c). router.c lists them. */
#ifndef MF_SERVER_ENDPOINTS_H
#define MF_SERVER_ENDPOINTS_H

#include "server/request.h"

extern const struct mf_endpoint mf_endpoint_jobs_post;   /* POST   /v1/jobs */
extern const struct mf_endpoint mf_endpoint_jobs_list;   /* GET    /v1/jobs */
extern const struct mf_endpoint mf_endpoint_job_get;     /* GET    /v1/jobs/{id} */
extern const struct mf_endpoint mf_endpoint_job_cancel;  /* DELETE /v1/jobs/{id} */
extern const struct mf_endpoint mf_endpoint_job_purge;   /* DELETE /v1/jobs/{id}/data */
extern const struct mf_endpoint mf_endpoint_events;      /* GET    /v1/events */
extern const struct mf_endpoint mf_endpoint_job_events;  /* GET    /v1/jobs/{id}/events */
extern const struct mf_endpoint mf_endpoint_result;      /* GET    /v1/jobs/{id}/result */
extern const struct mf_endpoint mf_endpoint_artifacts;   /* GET    /v1/jobs/{id}/artifacts */
extern const struct mf_endpoint mf_endpoint_artifact;    /* GET    /v1/jobs/{id}/artifacts/{name} */
extern const struct mf_endpoint mf_endpoint_frames;      /* GET    /v1/jobs/{id}/frames */
extern const struct mf_endpoint mf_endpoint_frame;       /* GET    /v1/jobs/{id}/frames/{n} */
extern const struct mf_endpoint mf_endpoint_report;      /* GET    /v1/jobs/{id}/report */
extern const struct mf_endpoint mf_endpoint_server;      /* GET    /v2 */
extern const struct mf_endpoint mf_endpoint_live;        /* GET    /v2/health/live */
extern const struct mf_endpoint mf_endpoint_accepting;   /* GET    /v2/health/accepting */
extern const struct mf_endpoint mf_endpoint_ready;       /* GET    /v2/health/ready */
extern const struct mf_endpoint mf_endpoint_model;       /* GET    /v2/models/{model} */
extern const struct mf_endpoint mf_endpoint_model_ready; /* GET    /v2/models/{model}/ready */
extern const struct mf_endpoint mf_endpoint_metrics;     /* GET    /metrics */
extern const struct mf_endpoint mf_endpoint_openapi;     /* GET    /openapi.json */
extern const struct mf_endpoint mf_endpoint_study;       /* GET    /v1/studies/{study} */
extern const struct mf_endpoint mf_endpoint_stow;        /* POST   /dicom-web/studies */
extern const struct mf_endpoint mf_endpoint_stow_study;  /* POST   /dicom-web/studies/{study} */
/* PUT and GET /v1/jobs/{id}/feedback, GET /v1/quality */
extern const struct mf_endpoint mf_endpoint_feedback_put, mf_endpoint_feedback_get,
    mf_endpoint_quality;
/* /v1/admin/…: models, reload, audit trail, API keys, dead letters. */
extern const struct mf_endpoint mf_endpoint_admin_models, mf_endpoint_admin_reload_get,
    mf_endpoint_admin_reload_post, mf_endpoint_admin_audit, mf_endpoint_admin_keys_get,
    mf_endpoint_admin_keys_post, mf_endpoint_admin_keys_delete;
extern const struct mf_endpoint mf_endpoint_dead_letters_list, mf_endpoint_dead_letters_drop,
    mf_endpoint_dead_letters_retry, mf_endpoint_dead_letter_get, mf_endpoint_dead_letter_drop,
    mf_endpoint_dead_letter_retry;
/* GET /dicom-web/…: searching and retrieving what is stored. */
extern const struct mf_endpoint mf_endpoint_qido_studies, mf_endpoint_qido_series,
    mf_endpoint_qido_instances, mf_endpoint_qido_study_series, mf_endpoint_qido_study_instances,
    mf_endpoint_qido_series_instances;
extern const struct mf_endpoint mf_endpoint_wado_study, mf_endpoint_wado_series,
    mf_endpoint_wado_instance, mf_endpoint_wado_study_metadata, mf_endpoint_wado_series_metadata,
    mf_endpoint_wado_instance_metadata, mf_endpoint_wado_rendered, mf_endpoint_wado_frames_rendered,
    mf_endpoint_wado_series_rendered, mf_endpoint_wado_study_rendered,
    mf_endpoint_wado_study_thumbnail, mf_endpoint_wado_series_thumbnail,
    mf_endpoint_wado_instance_thumbnail, mf_endpoint_wado_frame_thumbnail;
extern const struct mf_endpoint mf_endpoint_fhir_metadata; /* GET    /fhir/metadata */
extern const struct mf_endpoint mf_endpoint_fhir_infer;    /* POST   /fhir/$infer */
extern const struct mf_endpoint mf_endpoint_fhir_poll;     /* GET    /fhir/$infer/{id} */
extern const struct mf_endpoint mf_endpoint_fhir_cancel;   /* DELETE /fhir/$infer/{id} */
extern const struct mf_endpoint mf_endpoint_fhir_read;     /* GET    /fhir/{type}/{id} */
extern const struct mf_endpoint mf_endpoint_fhir_search;   /* GET    /fhir/{type} */
extern const struct mf_endpoint mf_endpoint_cds_list;      /* GET    /cds-services */
extern const struct mf_endpoint mf_endpoint_cds_call;      /* POST   /cds-services/{id} */
extern const struct mf_endpoint mf_endpoint_token;         /* POST   /oauth2/token */
/* GET /fhir/.well-known/smart-configuration */
extern const struct mf_endpoint mf_endpoint_smart_configuration;
/* GET /, /ui, /ui/, /ui/{file}, /schemas/, /schemas/{name}: what is compiled in. */
extern const struct mf_endpoint mf_endpoint_root, mf_endpoint_ui_bare, mf_endpoint_ui,
    mf_endpoint_ui_file, mf_endpoint_schemas, mf_endpoint_schema;

#endif
