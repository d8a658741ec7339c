/*
 * Plan: which bundle runs on which frames of an upload, decided from the index alone. The front,
 * the worker and the command line all decide here.
 */
#ifndef MF_SERVER_PLAN_H
#define MF_SERVER_PLAN_H

#include "dicom/study.h"
#include "fhir/document.h"
#include "server/pipeline.h"
#include "server/upload.h"

#ifdef __cplusplus
extern "C" {
#endif

struct mf_plan {
    size_t model;               /* index into the registry */
    struct mf_study_list *list; /* owns the request */
    bool owns_list;
    const struct mf_study_request *request;
    const struct mf_fhir_patient *ehr; /* borrowed from the upload; NULL without FHIR */
    bool ehr_refused;            /* there was FHIR, of another patient: left out, and to be told */
    bool priors_unavailable;     /* as in the options: to be told */
    const struct mf_study *only; /* list as skipped only objects of this study; NULL = all */
};

/* One patient's upload: the newest usable study is reported (mf_study_list_job). The bundle is the
 * one of options->model, else the only one that accepts the study. FHIR of another patient, by
 * options->identity, is refused or left out. `upload` must outlive the plan. MF_ERR_UNUSABLE says
 * why not. */
bool mf_plan_job(const struct mf_registry *registry, const struct mf_upload *upload,
                 const struct mf_pipeline_options *options, struct mf_plan *ret,
                 struct mf_error *err) MF_CHECK_RESULT;

/* One study among many patients' for the bundle `model`. `list` comes from mf_plan_studies() and
 * stays the caller's: the plan only borrows it. `ehr` NULL = no FHIR given. */
bool mf_plan_study(struct mf_study_list *list, size_t patient, size_t study, size_t model,
                   const struct mf_fhir_document *ehr, const struct mf_pipeline_options *options,
                   struct mf_plan *ret, struct mf_error *err) MF_CHECK_RESULT;

/* Adds FHIR to a plan: its patient is found by the DICOM PatientID. `ehr` NULL changes nothing. */
bool mf_plan_attach_ehr(const struct mf_fhir_document *ehr, struct mf_plan *plan,
                        struct mf_error *err) MF_CHECK_RESULT;

/* The studies of an index as a bundle sees them. */
struct mf_study_list *mf_plan_studies(const struct mf_bundle *bundle, const struct mf_index *index,
                                      struct mf_error *err) MF_CHECK_RESULT;

/* In which ways the files of the current study that are analysed are broken: bits of enum
 * mf_irregularity. */
uint32_t mf_plan_irregular(const struct mf_plan *plan);

void mf_plan_free(struct mf_plan *plan); /* what it owns */

#ifdef __cplusplus
}
#endif

MF_AUTO_DEFINE(mf_plan, struct mf_plan, mf_plan_free(p))

#endif
