/* Errors for FHIR clients: OperationOutcome (http://hl7.org/fhir/R4/operationoutcome.html), with
 * the path of the element that was wrong where the message names one. */
#include "fhir/report.h"

#include <ctype.h>
#include <string.h>

bool mf_fhir_error_path(const char *message, char out[MF_FHIR_PATH])
{
    static const char *const VERBS[] = {" must ", " is not a FHIR resource", " has "};
    for (size_t i = 0; i < sizeof VERBS / sizeof *VERBS; i++) {
        const char *end = strstr(message, VERBS[i]), *start = end;
        while (start && start > message &&
               (isalnum((unsigned char)start[-1]) || strchr(".[]", start[-1])))
            start--;
        size_t n = end ? (size_t)(end - start) : 0;
        if (n == 0 || n >= MF_FHIR_PATH || !isupper((unsigned char)*start))
            continue;
        memcpy(out, start, n);
        out[n] = '\0';
        return true;
    }
    return false;
}

static json_t *outcome(enum mf_code code, const char *detail)
{
    char path[MF_FHIR_PATH];
    json_t *issue =
        json_pack("{s:s, s:s, s:{s:s}, s:s}", "severity",
                  code == MF_ERR_CRASHED || code == MF_ERR_NO_MEMORY ? "fatal" : "error", "code",
                  mf_code_fhir_issue(code), "details", "text", mf_code_title(code), "diagnostics",
                  *detail ? detail : mf_code_title(code));
    if (mf_fhir_error_path(detail, path) &&
        json_object_set_new(issue, "expression", json_pack("[s]", path)) != 0) {
        json_decref(issue);
        return NULL;
    }
    return json_pack("{s:s, s:[o]}", "resourceType", "OperationOutcome", "issue", issue);
}

json_t *mf_fhir_operation_outcome(const struct mf_error *error)
{
    return outcome(error->code, error->msg);
}

json_t *mf_fhir_operation_outcome_from_problem(const json_t *problem)
{
    const char *type = mf_json_get_string(problem, "type", "");
    const char *name = strrchr(type, ':');
    return outcome(mf_code_from_name(name ? name + 1 : type),
                   mf_json_get_string(problem, "detail", ""));
}
