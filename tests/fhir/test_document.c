/* fhir/document.c, tree.c, check.c, file.c: what is accepted, and what is refused with which
 * sentence. */
#include "tests/fhir/document_expect.h"

#include <unistd.h>
#include <zlib.h>

static void bad_documents_are_refused_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum mf_code code;
        const char *msg;
    } ROWS[] = {
        {"", MF_ERR_MALFORMED, "ehr: empty, no FHIR in it"},
        {"\xEF\xBB\xBF \n", MF_ERR_MALFORMED, "ehr: empty, no FHIR in it"},
        {"\x1F\x8B\x08", MF_ERR_UNSUPPORTED, "ehr: FHIR in gzip is not supported, send JSON"},
        {"\xFE\xFF\0{", MF_ERR_UNSUPPORTED, "ehr: FHIR in UTF-16 is not supported, send JSON"},
        {"{\"resourceType\":", MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 16)"},
        {"# Title\n\nText {with} {braces}", MF_ERR_MALFORMED,
         "ehr: not valid JSON (line 1, column 1)"},
        {"hello", MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 5)"},
        {PATIENT("1") "\n{\"resourceType\":\n", MF_ERR_MALFORMED,
         "ehr: not valid JSON (line 3, column 0)"},
        {PATIENT("1") PATIENT("2"), MF_ERR_MALFORMED, "ehr: not valid JSON (line 1, column 36)"},
        {"<Bundle xmlns=\"http://hl7.org/fhir\"/>", MF_ERR_UNSUPPORTED,
         "ehr: FHIR in XML is not supported, send JSON"},
        {"{}", MF_ERR_MALFORMED,
         "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"[]", MF_ERR_MALFORMED,
         "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"id\":1}", MF_ERR_MALFORMED,
         "ehr: Patient.id must be a string"},
        {"{\"resourceType\":\"Patient\",\"resourceType\":\"Patient\"}", MF_ERR_MALFORMED,
         "ehr: a JSON object has the same key twice (line 1)"},
        {"{\"resourceType\":\"Bundle\",\"entry\":{}}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry must be a list"},
        {"{\"resourceType\":\"Bundle\",\"entry\":[1]}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry must be a list of objects"},
        {"{\"resourceType\":\"Bundle\",\"entry\":[{\"fullUrl\":1}]}", MF_ERR_MALFORMED,
         "ehr: Bundle.entry[0].fullUrl must be a string"},
        {BUNDLE("{\"resource\":7}"), MF_ERR_MALFORMED,
         "ehr: Bundle.entry[0].resource is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"contained\":{}}", MF_ERR_MALFORMED,
         "ehr: Patient.contained must be a list"},
        {"{\"resourceType\":\"Bundle\"}", MF_ERR_UNUSABLE, "ehr: no Patient in the FHIR data"},
        {"{\"resourceType\":\"Medication\"}", MF_ERR_UNUSABLE, "ehr: no Patient in the FHIR data"},
        {"{\"resourceType\":\"Observation\",\"code\":{}}", MF_ERR_UNUSABLE,
         "ehr: no Patient in the FHIR data"},
        /* elements that are read, with wrong types; content is never quoted */
        {"{\"resourceType\":\"Patient\",\"birthDate\":\"7 March 1980\"}", MF_ERR_MALFORMED,
         "ehr: Patient.birthDate must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Patient\",\"birthDate\":1980}", MF_ERR_MALFORMED,
         "ehr: Patient.birthDate must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Patient\",\"identifier\":[\"Miller\"]}", MF_ERR_MALFORMED,
         "ehr: Patient.identifier must be a list of objects"},
        {"{\"resourceType\":\"Patient\",\"identifier\":[{\"value\":7}]}", MF_ERR_MALFORMED,
         "ehr: Patient.identifier[0].value must be a string"},
        {"{\"resourceType\":\"Observation\"}", MF_ERR_MALFORMED,
         "ehr: Observation.code must be an object"},
        {"{\"resourceType\":\"Observation\",\"code\":{\"coding\":[{\"code\":5}]}}",
         MF_ERR_MALFORMED, "ehr: Observation.code.coding[0].code must be a string"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueQuantity\":{\"value\":\"5\"}}",
         MF_ERR_MALFORMED, "ehr: Observation.valueQuantity.value must be a number"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueInteger\":5.5}", MF_ERR_MALFORMED,
         "ehr: Observation.valueInteger must be a whole number"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"valueBoolean\":\"true\"}",
         MF_ERR_MALFORMED, "ehr: Observation.valueBoolean must be true or false"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"effectiveDateTime\":\"2019-02-30\"}",
         MF_ERR_MALFORMED,
         "ehr: Observation.effectiveDateTime must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"component\":[{\"valueInteger\":1}]}",
         MF_ERR_MALFORMED, "ehr: Observation.component[0].code must be an object"},
        {"{\"resourceType\":\"Observation\",\"code\":{},\"subject\":\"Patient/1\"}",
         MF_ERR_MALFORMED, "ehr: Observation.subject must be an object"},
        {BUNDLE("{\"resource\":" PATIENT("1") "},{\"resource\":{\"resourceType\":\"Observation\","
                                              "\"code\":{},\"issued\":\"now\"}}"),
         MF_ERR_MALFORMED,
         "ehr: Bundle.entry[1].resource.issued must be a FHIR date "
         "(YYYY[-MM[-DD[Thh:mm:ss+zz:zz]]])"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        if (parse(ROWS[i].text, &err))
            fail_msg("accepted %s", ROWS[i].text);
        assert_error(&err, ROWS[i].code, ROWS[i].msg);
    }
}

static void limits(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    static const char THREE[] =
        BUNDLE("{\"resource\":" PATIENT("1") "},{\"resource\":" PATIENT("2") "}");
    const struct mf_fhir_limits three = {.max_resources = 3}, two = {.max_resources = 2};
    const struct mf_fhir_limits bytes = {.max_bytes = sizeof THREE - 2};
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        mf_fhir_document_parse(THREE, sizeof THREE - 1, &three, "ehr", &err);
    assert_int_equal(mf_fhir_document_resource_count(doc), 3);
    assert_null(mf_fhir_patient(doc, 2));
    assert_null(mf_fhir_document_parse(THREE, sizeof THREE - 1, &two, "ehr", &err));
    assert_error(&err, MF_ERR_TOO_LARGE, "ehr: more than 2 resources");
    mf_error_clear(&err);
    char expected[100];
    assert_null(mf_fhir_document_parse(THREE, sizeof THREE - 1, &bytes, "ehr", &err));
    snprintf(expected, sizeof expected, "ehr: %zu bytes of FHIR, at most %zu are accepted",
             sizeof THREE - 1, sizeof THREE - 2);
    assert_error(&err, MF_ERR_TOO_LARGE, expected);
}

/* Ten thousand levels, as JSON arrays, as nested Bundles, as extensions of a Patient in NDJSON. */
static void depth(void **state)
{
    (void)state;
    enum { LEVELS = 10000 };
    static const struct {
        const char *before, *open, *close, *after, *msg;
    } ROWS[] = {
        {"", "[", "]", "", "ehr: JSON is nested deeper than 64 levels"},
        {"", "{\"resourceType\":\"Bundle\",\"entry\":[{\"resource\":", "}]}", "",
         "ehr: JSON is nested deeper than 64 levels"},
        {PATIENT("1") "\n", "{\"resourceType\":\"Patient\",\"extension\":[", "]}", "",
         "ehr: line 2: JSON is nested deeper than 64 levels"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        size_t open = strlen(ROWS[i].open), close = strlen(ROWS[i].close);
        size_t before = strlen(ROWS[i].before), n = before;
        MF_AUTO(mf_mem) char *text = malloc(before + LEVELS * (open + close) + 1);
        memcpy(text, ROWS[i].before, before);
        for (int k = 0; k < LEVELS; k++, n += open)
            memcpy(text + n, ROWS[i].open, open);
        for (int k = 0; k < LEVELS; k++, n += close)
            memcpy(text + n, ROWS[i].close, close);
        struct mf_error err = MF_ERROR_INIT;
        assert_null(mf_fhir_document_parse(text, n, NULL, "ehr", &err));
        assert_error(&err, MF_ERR_MALFORMED, ROWS[i].msg);
    }
}

/* Cut anywhere, a Bundle is refused; nothing is read behind its end (the copy ends where the text
 * does). */
static void truncation(void **state)
{
    (void)state;
    static const char WHOLE[] = BUNDLE(ENTRY("urn:uuid:aa", PATIENT("1")));
    for (size_t len = 0; len < sizeof WHOLE - 1; len++) {
        struct mf_error err = MF_ERROR_INIT;
        MF_AUTO(mf_mem) char *cut = malloc(len ? len : 1);
        memcpy(cut, WHOLE, len);
        assert_null(mf_fhir_document_parse(cut, len, NULL, "ehr", &err));
        assert_int_equal(err.code, MF_ERR_MALFORMED);
    }
}

static void latest_time(void **state)
{
    (void)state;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = parse(
        PATIENT("1") "\n" PATIENT(
            "2") "\n"
                 "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":" REF(
                     "Patient/1") ","
                                  "\"effectiveDateTime\":\"2019-03-07T23:30:00-02:00\"}\n"
                                  "{\"resourceType\":\"Observation\",\"code\":{},\"subject\":" REF(
                                      "Patient/1") ","
                                                   "\"effectiveDateTime\":\"2019-03-07\"}\n"
                                                   "{\"resourceType\":\"Observation\",\"code\":{},"
                                                   "\"subject\":" REF(
                                                       "Patient/1") ","
                                                                    "\"status\":\"entered-in-"
                                                                    "error\",\"effectiveDateTime\":"
                                                                    "\"2022\"}\n"
                                                                    "{\"resourceType\":"
                                                                    "\"Observation\",\"code\":{},"
                                                                    "\"subject\":" REF(
                                                                        "Patient/3") ","
                                                                                     "\"effectivePe"
                                                                                     "riod\":{"
                                                                                     "\"start\":"
                                                                                     "\"2020\","
                                                                                     "\"end\":"
                                                                                     "\"2021-02\"}"
                                                                                     "}",
        NULL);
    char text[MF_TIME_TEXT];
    struct mf_time t = mf_fhir_latest_time(doc, mf_fhir_patient(doc, 0));
    assert_string_equal(mf_time_format(&t, text), "2019-03-08T01:30:00Z");
    t = mf_fhir_latest_time(doc, mf_fhir_patient(doc, 1));
    assert_int_equal(t.precision, MF_TIME_UNKNOWN);
    t = mf_fhir_latest_time(doc, NULL);
    assert_int_equal(t.end - t.begin, INT64_C(86400000) * (366 + 31 + 28));
}

static void files(void **state)
{
    (void)state;
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc =
        mf_fhir_document_load(MF_SOURCE_DIR "/tests/fhir/excerpt/patients.ndjson", NULL, &err);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(doc), 6);
    assert_null(mf_fhir_document_load("/nonexistent.json", NULL, &err));
    assert_error(&err, MF_ERR_NOT_FOUND, "/nonexistent.json: No such file or directory");
    mf_fhir_document_free(NULL);
}

/* Objects of many members are searched for doubles in another way than those of few. */
static void many_keys_are_compared_too(void **state)
{
    (void)state;
    for (int twice = 0; twice < 2; twice++) {
        struct mf_error err = MF_ERROR_INIT;
        char *text = calloc(1, 4096);
        size_t n = (size_t)snprintf(text, 100, "{\"resourceType\":\"Patient\",\"id\":\"1\"");
        for (int i = 0; i < 100; i++)
            n += (size_t)snprintf(text + n, 30, ",\"k%d\":%d", i, i);
        snprintf(text + n, 20, "%s}", twice ? ",\"k50\":1" : "");
        MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = parse(text, &err);
        free(text);
        assert_int_equal(doc != NULL, !twice);
        if (twice)
            assert_error(&err, MF_ERR_MALFORMED,
                         "ehr: a JSON object has the same key twice (line 1)");
    }
}

/* Strings of more than a MiB are not kept, which matters only where they are read; keys of that
 * length are refused. */
static void long_strings_and_keys(void **state)
{
    (void)state;
    static const struct {
        const char *format, *refused; /* NULL: read */
    } CASES[] = {
        {"{\"resourceType\":\"Patient\",\"%s\":1}",
         "ehr: the document has a key of more than 1 MiB"},
        {"{\"resourceType\":\"Patient\",\"gender\":\"%s\"}",
         "ehr: Patient.gender must be a string"},
        {"{\"resourceType\":\"Patient\",\"remark\":\"%s\"}", NULL},
    };
    const size_t most = 1 << 20;
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        for (size_t more = 0; more < 2; more++) {
            struct mf_error err = MF_ERROR_INIT;
            char *text = calloc(1, most + 200), *value = calloc(1, most + more + 1);
            memset(value, 'a', most + more);
            snprintf(text, most + 200, CASES[i].format, value);
            struct mf_fhir_document *doc = parse(text, &err);
            free(text);
            free(value);
            assert_int_equal(doc != NULL, !more || !CASES[i].refused);
            if (!doc)
                assert_error(&err, MF_ERR_MALFORMED, CASES[i].refused);
            mf_fhir_document_free(doc);
        }
}

static void entries_that_are_none(void **state)
{
    (void)state;
    static const struct {
        const char *text, *msg;
    } ROWS[] = {
        {"7", "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"true", "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"\"x\"", "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {BUNDLE("[]"), "ehr: Bundle.entry must be a list of objects"},
        {BUNDLE("\"x\""), "ehr: Bundle.entry must be a list of objects"},
        {BUNDLE("null"), "ehr: Bundle.entry must be a list of objects"},
        {BUNDLE("{\"resource\":[]}"),
         "ehr: Bundle.entry[0].resource is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"entry\":[{\"resource\":" PATIENT("1") "}]}",
         "ehr: Patient has entries with resources, and is no Bundle"},
        {"{\"resourceType\":7}",
         "ehr: the document is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"contained\":[{}]}",
         "ehr: Patient.contained[0] is not a FHIR resource (an object with \"resourceType\")"},
        {"{\"resourceType\":\"Patient\",\"contained\":[{\"resourceType\":\"Patient\",\"id\":7}]}",
         "ehr: Patient.contained[0] has an id that is no string"},
    };
    for (size_t i = 0; i < sizeof ROWS / sizeof *ROWS; i++) {
        struct mf_error err = MF_ERROR_INIT;
        assert_null(parse(ROWS[i].text, &err));
        assert_error(&err, MF_ERR_MALFORMED, ROWS[i].msg);
    }
}

/* Whitespace of every kind before the first bracket, and a document in pieces of one byte. */
static void documents_in_pieces(void **state)
{
    (void)state;
    static const char TEXT[] = " \t\r\n\xEF\xBB\xBF";
    static const char WHOLE[] = "\t\r\n " BUNDLE("{\"resource\":" PATIENT("1") "}") " \r\n\t";
    struct mf_error err = MF_ERROR_INIT;
    MF_AUTO(mf_fhir_reader) struct mf_fhir_reader *r = mf_fhir_reader_new(NULL, "ehr", &err);
    for (size_t i = 0; i < sizeof WHOLE - 1; i++)
        assert_true(mf_fhir_reader_feed(r, WHOLE + i, 1, &err));
    MF_AUTO(mf_fhir_document) struct mf_fhir_document *doc = mf_fhir_reader_finish(r, &err);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(doc), 1);
    assert_null(parse(TEXT, &err)); /* a mark of byte order in the middle is none */
    assert_int_equal(err.code, MF_ERR_MALFORMED);
}

static void compressed_files(void **state)
{
    (void)state;
    static const char TEXT[] = PATIENT("1") "\n";
    char path[] = "/tmp/mf-fhir-XXXXXX", message[128];
    struct mf_error err = MF_ERROR_INIT;
    unsigned char bytes[200];
    MF_AUTO(mf_fd) int fd = mkstemp(path);
    assert_true(fd >= 0);
    gzFile out = gzopen(path, "wb");
    assert_int_equal(gzwrite(out, TEXT, sizeof TEXT - 1), sizeof TEXT - 1);
    assert_int_equal(gzclose(out), Z_OK);
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = mf_fhir_document_load(path, NULL, &err);
    assert_no_error(&err);
    assert_int_equal(mf_fhir_patient_count(doc), 1);
    ssize_t n = pread(fd, bytes, sizeof bytes, 0);
    assert_true(n > 20);
    assert_int_equal(ftruncate(fd, n - 9), 0); /* in the last of the data */
    assert_null(mf_fhir_document_load(path, NULL, &err));
    snprintf(message, sizeof message, "%s: damaged gzip data (unexpected end of file)", path);
    assert_error(&err, MF_ERR_MALFORMED, message);
    bytes[n - 8] ^= 1; /* the checksum */
    assert_int_equal(pwrite(fd, bytes, (size_t)n, 0), n);
    mf_error_clear(&err);
    assert_null(mf_fhir_document_load(path, NULL, &err));
    snprintf(message, sizeof message, "%s: damaged gzip data (incorrect data check)", path);
    assert_error(&err, MF_ERR_MALFORMED, message);
    unlink(path);
    mf_error_clear(&err);
    assert_null(mf_fhir_document_load("/", NULL, &err));
    assert_error(&err, MF_ERR_IO, "/: Is a directory");
    mf_error_clear(&err);
    assert_null(mf_fhir_document_load(MF_SOURCE_DIR "/tests/expect.h", NULL, &err));
    assert_int_equal(err.code, MF_ERR_MALFORMED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_documents_are_refused_with_a_reason),
        cmocka_unit_test(limits),
        cmocka_unit_test(depth),
        cmocka_unit_test(truncation),
        cmocka_unit_test(latest_time),
        cmocka_unit_test(files),
        cmocka_unit_test(many_keys_are_compared_too),
        cmocka_unit_test(long_strings_and_keys),
        cmocka_unit_test(entries_that_are_none),
        cmocka_unit_test(documents_in_pieces),
        cmocka_unit_test(compressed_files),
    };
    return cmocka_run_group_tests_name("fhir/document", tests, NULL, NULL);
}
