/* Parameters → multipart/form-data: see fhir_parameters.h. */
#include "server/fhir_parameters.h"

#include "core/json.h"

#include <openssl/evp.h>
#include <string.h>

struct writer {
    const char *boundary;
    mf_fhir_write write;
    void *context;
    json_t *options;
    size_t dicom, ehr;
    struct mf_error *err;
};

static bool put(struct writer *w, const char *text)
{
    return w->write(w->context, text, strlen(text), w->err);
}

static bool put_part(struct writer *w, const char *name, const void *data, size_t len)
{
    return put(w, "--") && put(w, w->boundary) &&
           put(w, "\r\nContent-Disposition: form-data; name=\"") && put(w, name) &&
           put(w, "\"\r\n\r\n") && w->write(w->context, data, len, w->err) && put(w, "\r\n");
}

static bool wrong(struct writer *w, size_t i, const char *member, const char *reason)
{
    return mf_error_set(w->err, MF_ERR_UNUSABLE, "Parameters.parameter[%zu]%s%s must %s", i,
                        *member ? "." : "", member, reason);
}

/* Decodes base64 (RFC 4648, 4; line breaks and blanks are allowed) in place of a copy; *ret is
 * owned. The alphabet is checked here: to OpenSSL a "-" is the end of the data. */
static bool decode(const char *text, unsigned char **ret, size_t *ret_len)
{
    static const char ALPHABET[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/= \t\r\n";
    size_t len = strlen(text);
    if (strspn(text, ALPHABET) != len)
        return false;
    EVP_ENCODE_CTX *context = EVP_ENCODE_CTX_new();
    unsigned char *out = malloc(len / 4 * 3 + 4);
    int n = 0, last = 0;
    bool ok = context && out && len <= INT32_MAX;
    if (ok) {
        EVP_DecodeInit(context);
        ok = EVP_DecodeUpdate(context, out, &n, (const unsigned char *)text, (int)len) >= 0 &&
             EVP_DecodeFinal(context, out + n, &last) == 1;
    }
    EVP_ENCODE_CTX_free(context);
    if (!ok) {
        free(out);
        return false;
    }
    *ret = out;
    *ret_len = (size_t)n + (size_t)last;
    return true;
}

static bool put_dicom(struct writer *w, size_t i, const json_t *parameter)
{
    const json_t *holder = json_object_get(parameter, "resource");
    const char *member = holder ? "resource.data" : "valueAttachment.data";
    MF_AUTO(mf_mem) unsigned char *data = NULL;
    size_t len = 0;
    if (!holder)
        holder = json_object_get(parameter, "valueAttachment");
    const char *text = mf_json_get_string(holder, "data", NULL);
    if (!text || !decode(text, &data, &len))
        return wrong(w, i, member, "be base64");
    w->dicom++;
    return put_part(w, "dicom", data, len);
}

static bool put_ehr(struct writer *w, size_t i, const json_t *parameter)
{
    const json_t *resource = json_object_get(parameter, "resource");
    if (!json_is_object(resource))
        return wrong(w, i, "resource", "be a resource");
    if (w->ehr++)
        return wrong(w, i, "name", "be ehr once at most");
    MF_AUTO(mf_mem) char *text = mf_json_text(resource, 0);
    if (!text)
        return mf_error_set(w->err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    return put_part(w, "ehr", text, strlen(text));
}

static bool put_option(struct writer *w, size_t i, const char *name, const json_t *parameter)
{
    static const struct {
        const char *name, *member;
    } OPTIONS[] = {{"model", "valueString"},
                   {"alpha", "valueDecimal"},
                   {"priors", "valueBoolean"},
                   {"priority", "valueCode"}};
    for (size_t k = 0; k < sizeof OPTIONS / sizeof *OPTIONS; k++) {
        json_t *value = json_object_get(parameter, OPTIONS[k].member);
        if (strcmp(OPTIONS[k].name, name) != 0)
            continue;
        if (!value)
            return wrong(w, i, OPTIONS[k].member, "be given");
        return json_object_set(w->options, name, value) == 0 ||
               mf_error_set(w->err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    }
    return wrong(w, i, "name", "be dicom, ehr, model, alpha, priors or priority");
}

static bool put_parameter(struct writer *w, size_t i, const json_t *parameter)
{
    const char *name = mf_json_get_string(parameter, "name", NULL);
    if (!name)
        return wrong(w, i, "name", "be a string");
    if (strcmp(name, "dicom") == 0)
        return put_dicom(w, i, parameter);
    if (strcmp(name, "ehr") == 0)
        return put_ehr(w, i, parameter);
    return put_option(w, i, name, parameter);
}

static bool put_options(struct writer *w)
{
    if (json_object_size(w->options) == 0)
        return true;
    MF_AUTO(mf_mem) char *text = mf_json_text(w->options, 0);
    if (!text)
        return mf_error_set(w->err, MF_ERR_NO_MEMORY, "out of memory for an upload");
    return put_part(w, "options", text, strlen(text));
}

bool mf_fhir_parameters_to_multipart(const char *text, size_t len,
                                     const char boundary[MF_FHIR_BOUNDARY], mf_fhir_write write,
                                     void *context, struct mf_error *err)
{
    const struct mf_json_limits limits = {len, 64};
    MF_AUTO(mf_json) json_t *whole = mf_json_parse(text, len, &limits, "Parameters", err);
    MF_AUTO(mf_json) json_t *options = json_object();
    const json_t *list = json_object_get(whole, "parameter");
    struct writer w = {boundary, write, context, options, 0, 0, err};
    if (!whole)
        return false;
    if (strcmp(mf_json_get_string(whole, "resourceType", ""), "Parameters") != 0)
        return mf_error_set(err, MF_ERR_UNUSABLE, "the body must be a Parameters resource");
    if (!json_is_array(list))
        return mf_error_set(err, MF_ERR_UNUSABLE, "Parameters.parameter must be a list");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!put_parameter(&w, i, json_array_get(list, i)))
            return false;
    if (w.dicom == 0)
        return mf_error_set(err, MF_ERR_UNUSABLE,
                            "Parameters.parameter must have one named dicom at least");
    return put_options(&w) && put(&w, "--") && put(&w, boundary) && put(&w, "--\r\n");
}
