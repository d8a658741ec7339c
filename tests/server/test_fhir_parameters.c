/* server/fhir_parameters.c: what a Parameters resource becomes, byte by byte, and what is refused.
 */
#include "server/fhir_parameters.h"

#include "core/buffer.h"
#include "tests/expect.h"

static bool keep(void *context, const void *data, size_t len, struct mf_error *err)
{
    return mf_buffer_append(context, data, len, err);
}

static bool convert(const char *text, struct mf_buffer *out, struct mf_error *err)
{
    static const char boundary[MF_FHIR_BOUNDARY] = "B";
    mf_buffer_init(out, 1 << 20);
    return mf_fhir_parameters_to_multipart(text, strlen(text), boundary, keep, out, err);
}

#define WITH(list) "{\"resourceType\":\"Parameters\",\"parameter\":[" list "]}"
#define DICOM(data)                                                                                \
    "{\"name\":\"dicom\",\"resource\":{\"resourceType\":\"Binary\",\"data\":\"" data "\"}}"
#define PART(name, body)                                                                           \
    "--B\r\nContent-Disposition: form-data; name=\"" name "\"\r\n\r\n" body "\r\n"

static void parts(void **state)
{
    (void)state;
    static const struct {
        const char *text, *multipart;
    } ROWS[] = {
        {WITH(DICOM("QUJD")), PART("dicom", "ABC") "--B--\r\n"},
        {WITH(DICOM("QUJ\\r\\n D QQ==\\n") ",{\"name\":\"dicom\",\"valueAttachment\":{\"data\":"
                                           "\"Qg==\"}}"),
         PART("dicom", "ABCA") PART("dicom", "B") "--B--\r\n"},
        {WITH("{\"name\":\"alpha\",\"valueDecimal\":0.2}," DICOM(
             "") ",{\"name\":\"ehr\",\"resource\":{\"a\":1}}"),
         PART("dicom", "") PART("ehr", "{\"a\":1}") PART("options", "{\"alpha\":0.2}") "--B--\r\n"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_buffer) struct mf_buffer out;
        bool ok = convert(ROWS[i].text, &out, &err);
        assert_no_error(&err);
        assert_true(ok);
        assert_int_equal(out.len, strlen(ROWS[i].multipart));
        assert_memory_equal(out.data, ROWS[i].multipart, out.len);
    }
}

static void mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mf_code code;
        const char *msg;
    } ROWS[] = {
        {"{", MF_ERR_MALFORMED, "Parameters: not valid JSON (line 1, column 1)"},
        {"[]", MF_ERR_UNUSABLE, "the body must be a Parameters resource"},
        {"{\"resourceType\":\"Parameters\"}", MF_ERR_UNUSABLE,
         "Parameters.parameter must be a list"},
        {WITH(""), MF_ERR_UNUSABLE, "Parameters.parameter must have one named dicom at least"},
        {WITH("7"), MF_ERR_UNUSABLE, "Parameters.parameter[0].name must be a string"},
        {WITH(DICOM("QUJD-A")), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].resource.data must be base64"},
        {WITH(DICOM("QUJ")), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].resource.data must be base64"},
        {WITH(DICOM("QQ==QQ==")), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].resource.data must be base64"},
        {WITH(DICOM("====")), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].resource.data must be base64"},
        {WITH("{\"name\":\"dicom\"}"), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].valueAttachment.data must be base64"},
        {WITH("{\"name\":\"ehr\",\"resource\":[]}"), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].resource must be a resource"},
        {WITH("{\"name\":\"ehr\",\"resource\":{}},{\"name\":\"ehr\",\"resource\":{}}"),
         MF_ERR_UNUSABLE, "Parameters.parameter[1].name must be ehr once at most"},
        {WITH("{\"name\":\"alpha\",\"valueString\":\"1\"}"), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].valueDecimal must be given"},
        {WITH("{\"name\":\"x\"}"), MF_ERR_UNUSABLE,
         "Parameters.parameter[0].name must be dicom, ehr, model, alpha, priors or priority"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_buffer) struct mf_buffer out;
        if (convert(ROWS[i].text, &out, &err))
            fail_msg("%s was taken", ROWS[i].text);
        assert_error(&err, ROWS[i].code, ROWS[i].msg);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(parts), cmocka_unit_test(mistakes)};
    return cmocka_run_group_tests_name("server/fhir_parameters", tests, NULL, NULL);
}
