/* server/endpoint_dicomweb_search.c: QIDO-RS parameters, what fits them, what is refused. */
#include "loopback.h"

#include "server/store_instances.h"

static void store_two(struct loopback *l)
{
    for (int i = 0; i < 2; i++) {
        struct mf_stored in = {
            .locator = "0123456789abcdef0123456789abcdef", .size = 10, .source = "stow"};
        struct mf_added added;
        in.instance.transfer_syntax = "1.2.840.10008.1.2.1";
        in.instance.values[MF_STUDY_UID] = i ? "1.3" : "1.2";
        in.instance.values[MF_SERIES_UID] = i ? "1.3.1" : "1.2.1";
        in.instance.values[MF_SOP_INSTANCE_UID] = i ? "1.3.1.1" : "1.2.1.1";
        in.instance.values[MF_SOP_CLASS_UID] = "1.2.840.10008.5.1.4.1.1.1.1";
        in.instance.values[MF_PATIENT_NAME] = i ? "Roe^John_5%" : "Doe^Jane!";
        in.instance.values[MF_STUDY_DATE] = i ? "20210601" : "20200131";
        in.instance.values[MF_STUDY_TIME] = i ? "130000" : "115900";
        in.instance.values[MF_MODALITY] = i ? "CT" : "DX";
        assert_true(
            mf_store_instances_add(l->f.store, MF_TENANT_DEFAULT, -1, &in, 1, &added, NULL));
        assert_int_equal(added.result, MF_ADD_STORED);
    }
}

/* How many rows come; −1: a problem, with this detail. */
static int rows(struct loopback *l, const char *target, const char *headers, const char *detail)
{
    struct mf_request *r = loopback_get(l, target, headers);
    int n = -1;
    if (r->response.status == 204) {
        n = 0;
    } else {
        json_t *body = response_json(r);
        if (r->response.status == 200)
            n = (int)json_array_size(body);
        else
            assert_string_equal(json_string_value(json_object_get(body, "detail")), detail);
        json_decref(body);
    }
    mf_request_free(r);
    return n;
}

#define JSON "Accept: application/dicom+json"

static void a_query_finds_what_fits(void **state)
{
    (void)state;
    static const struct {
        const char *target;
        int rows;
    } cases[] = {
        {"/dicom-web/studies", 2},
        {"/dicom-web/studies?limit=1", 1},
        {"/dicom-web/studies?limit=0", 0},
        {"/dicom-web/studies?limit=999999999&offset=1", 1},
        {"/dicom-web/studies?offset=2", 0},
        {"/dicom-web/studies?StudyDate=20200131", 1},
        {"/dicom-web/studies?StudyDate=20200101-20201231", 1},
        {"/dicom-web/studies?StudyDate=-20201231", 1},
        {"/dicom-web/studies?StudyDate=20200201-", 1},
        {"/dicom-web/studies?StudyTime=1200-1400", 1},
        {"/dicom-web/studies?StudyTime=115900", 1},
        {"/dicom-web/studies?PatientName=doe*", 1},
        {"/dicom-web/studies?PatientName=*!", 1},
        {"/dicom-web/studies?PatientName=*_5%25", 1},
        {"/dicom-web/studies?PatientName=?oe^*", 2},
        {"/dicom-web/studies?PatientName=", 2},
        {"/dicom-web/studies?ModalitiesInStudy=CT", 1},
        {"/dicom-web/studies?00080061=DX", 1},
        {"/dicom-web/studies?StudyInstanceUID=1.2,1.3", 2},
        {"/dicom-web/studies?StudyInstanceUID=1.2\\1.9", 1},
        {"/dicom-web/studies?includefield=all&fuzzymatching=true", 2},
        {"/dicom-web/studies/1.2/series", 1},
        {"/dicom-web/studies/1.2/series/1.2.1/instances", 1},
        {"/dicom-web/studies/1.2/series/1.3.1/instances", 0},
        {"/dicom-web/instances?SOPInstanceUID=1.3.1.1", 1},
    };
    struct loopback l;
    loopback_start(&l);
    store_two(&l);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int n = rows(&l, cases[i].target, JSON, "");
        if (n != cases[i].rows)
            fail_msg("%s: %d rows", cases[i].target, n);
    }
    assert_int_equal(rows(&l, "/dicom-web/studies", "Accept: application/json", ""), 2);
    loopback_end(&l);
}

static void what_is_no_query_is_refused(void **state)
{
    (void)state;
    static const char limit[] = "query parameter \"limit\" has an invalid value";
    static const char date[] = "query parameter \"StudyDate\" is not a range of dates";
    static const struct {
        const char *target, *detail;
    } cases[] = {
        {"/dicom-web/studies?limit=", limit},
        {"/dicom-web/studies?limit=-1", limit},
        {"/dicom-web/studies?limit=1x", limit},
        {"/dicom-web/studies?limit=1000000000", limit},
        {"/dicom-web/studies?offset=x", "query parameter \"offset\" has an invalid value"},
        {"/dicom-web/studies?StudyDate=2020", date},
        {"/dicom-web/studies?StudyDate=-", date},
        {"/dicom-web/studies?StudyDate=20200101-2021", date},
        {"/dicom-web/studies?StudyDate=20200101-x", date},
        {"/dicom-web/studies?StudyDate=2020-20210101", date},
        {"/dicom-web/studies?Colour=red",
         "the query has a parameter that is no attribute to match by"},
        {"/dicom-web/studies/x/series", "the study in the path is not a UID"},
        {"/dicom-web/studies/1.2/series/x/instances", "the series in the path is not a UID"},
    };
    struct loopback l;
    loopback_start(&l);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (rows(&l, cases[i].target, JSON, cases[i].detail) >= 0)
            fail_msg("%s: it is answered", cases[i].target);
    static const char *const accepts[] = {NULL, "Accept: text/html"};
    for (int i = 0; i < 2; i++)
        assert_int_equal(rows(&l, "/dicom-web/studies", accepts[i],
                              "Accept: this can be given as application/dicom+json"),
                         -1);
    loopback_end(&l);
}

/* The address of what was found is that of the request, when it looks like one. */
static void addresses_are_those_of_the_request(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *url;
    } cases[] = {
        {JSON, "http://localhost/dicom-web/studies/1.2"},
        {JSON "\nHost: pacs.example:8080", "http://pacs.example:8080/dicom-web/studies/1.2"},
        {JSON "\nHost: [::1]:80", "http://[::1]:80/dicom-web/studies/1.2"},
        {JSON "\nHost: evil\"/x", "http://localhost/dicom-web/studies/1.2"},
    };
    struct loopback l;
    loopback_start(&l);
    store_two(&l);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct mf_request *r = loopback_get(&l, "/dicom-web/studies?limit=1", cases[i].headers);
        assert_int_equal(r->response.status, 200);
        json_t *body = response_json(r);
        const json_t *url = json_object_get(json_array_get(body, 0), "00081190");
        assert_string_equal(json_string_value(json_array_get(json_object_get(url, "Value"), 0)),
                            cases[i].url);
        json_decref(body);
        mf_request_free(r);
    }
    loopback_end(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_finds_what_fits),
        cmocka_unit_test(what_is_no_query_is_refused),
        cmocka_unit_test(addresses_are_those_of_the_request),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
