/* GET /fhir/metadata: the CapabilityStatement (http://hl7.org/fhir/R4/capabilitystatement.html),
 * what this server can do with FHIR. */
#include "server/endpoints.h"

#include "core/json.h"
#include "server/auth.h"
#include "server/services.h"

#include <string.h>

static const char *const TYPES[] = {"DiagnosticReport", "Observation", "RiskAssessment", "Device",
                                    "Provenance"};

static json_t *parameter(const char *name, const char *type)
{
    return json_pack("{s:s, s:s}", "name", name, "type", type);
}

static json_t *resource(const char *type)
{
    bool search = strcmp(type, "Device") != 0 && strcmp(type, "Provenance") != 0;
    json_t *r = json_pack("{s:s, s:[{s:s}]}", "type", type, "interaction", "code", "read");
    if (!search)
        return r;
    json_t *parameters =
        json_pack("[o,o,o]", parameter("_id", "token"), parameter("identifier", "token"),
                  parameter("patient.identifier", "token"));
    if (!r || !parameters ||
        json_array_append_new(json_object_get(r, "interaction"),
                              json_pack("{s:s}", "code", "search-type")) != 0 ||
        json_object_set_new(r, "searchParam", json_incref(parameters)) != 0) {
        json_decref(r);
        r = NULL;
    }
    json_decref(parameters);
    return r;
}

/* rest.security: who has to show what, and where SMART Backend Services get tokens
 * (http://hl7.org/fhir/smart-app-launch/STU1/conformance). NULL when it could not be made. */
static json_t *security(const struct mf_auth *auth)
{
    const char *token = mf_auth_token_url(auth);
    json_t *all = json_pack("{s:s}", "description",
                            "A credential as Authorization: Bearer: an API key, or an access token "
                            "of an issuer that is trusted here.");
    if (!all || !token)
        return all;
    json_t *uris =
        json_pack("[{s:s, s:[{s:s, s:s}]}]", "url",
                  "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
                  "extension", "url", "token", "valueUri", token);
    json_t *service = json_pack("[{s:[{s:s, s:s, s:s}]}]", "coding", "system",
                                "http://terminology.hl7.org/CodeSystem/restful-security-service",
                                "code", "SMART-on-FHIR", "display", "SMART-on-FHIR");
    bool ok = json_object_set_new(all, "extension", uris) == 0;
    ok = json_object_set_new(all, "service", service) == 0 && ok;
    if (!ok)
        json_decref(all);
    return ok ? all : NULL;
}

static bool get(struct mf_request *request, struct mf_error *err)
{
    static const char *const NO_QUERY[] = {NULL};
    json_t *resources = json_array();
    if (!mf_request_only_query(request, NO_QUERY, err)) {
        json_decref(resources);
        return false;
    }
    for (size_t i = 0; resources && i < sizeof TYPES / sizeof *TYPES; i++)
        if (json_array_append_new(resources, resource(TYPES[i])) != 0) {
            json_decref(resources);
            resources = NULL;
        }
    json_t *statement = json_pack(
        "{s:s, s:s, s:s, s:s, s:{s:s, s:s}, s:{s:s}, s:s, s:[s,s], s:[{s:s, s:s, s:o, s:[{s:s, "
        "s:s, "
        "s:s}]}]}",
        "resourceType", "CapabilityStatement", "status", "active", "date", "2026-11-22", "kind",
        "instance", "software", "name", "MedFusion", "version", MF_VERSION, "implementation",
        "description", "Calibrated findings of imaging studies with EHR data", "fhirVersion",
        "4.0.1", "format", "json", "application/fhir+json", "rest", "mode", "server",
        "documentation",
        "Results of $infer can be read and searched; it is asynchronous "
        "(http://hl7.org/fhir/R4/async.html).",
        "resource", resources, "operation", "name", "infer", "definition",
        "urn:medfusion:operation:infer", "documentation",
        "POST a Parameters resource (dicom: Binary or Attachment, repeated; ehr: Bundle; model, "
        "alpha, priority), or multipart/form-data as POST /v1/jobs takes it.");
    const struct mf_auth *auth = request->services->auth;
    if (statement && auth &&
        json_object_set_new(json_array_get(json_object_get(statement, "rest"), 0), "security",
                            security(auth)) != 0) {
        json_decref(statement);
        statement = NULL;
    }
    return mf_respond_json_take(request, 200, "application/fhir+json", statement, err);
}

const struct mf_endpoint mf_endpoint_fhir_metadata = {
    .method = "GET", .pattern = "/fhir/metadata", .quick = true, .handle = get};
