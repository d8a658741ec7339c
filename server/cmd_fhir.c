/*
 * `medfusion fhir features`: the feature values a bundle would read from a FHIR file, one JSON line
 * per patient. Needs only the bundle's ehr/features.json.
 */
#include "server/cmd.h"

#include "core/feature.h"
#include "core/json.h"
#include "fhir/extract.h"
#include "server/cli.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: medfusion fhir features --model DIR [--at DATETIME] FILE\n"
    "\n"
    "Prints the EHR features that a model would read from a FHIR R4 file (a Bundle, a resource or\n"
    "NDJSON), one JSON object a line for each patient.\n"
    "\n"
    "  --model DIR     a model bundle; only its ehr/features.json is read\n"
    "  --at DATETIME   the moment of the study, as FHIR writes it (2019-03-07T10:20:00+01:00);\n"
    "                  without it, the latest Observation of each patient\n"
    "  FILE            - reads standard input\n";

struct options {
    const char *model, *at, *file;
};

/* Prints one patient's line; indented when it is the only one and a person is looking. */
static bool print_patient(const struct mf_feature_set *set, const struct mf_fhir_patient *patient,
                          const struct mf_time *at, int indent, struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_feature_value *values =
        arena ? mf_arena_alloc(arena, set->count, sizeof *values, err) : NULL;
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!mf_fhir_extract(set, patient, NULL, at, arena, values, err))
        return false;
    MF_AUTO(mf_json)
    json_t *json = mf_fhir_features_to_json(set, values, patient->reference, at);
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, indent) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (puts(text) < 0)
        return mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
    return true;
}

static bool print_features(const struct options *o, struct mf_error *err)
{
    char path[4096];
    struct mf_time given = {.precision = MF_TIME_UNKNOWN};
    const char *name = strcmp(o->file, "-") == 0 ? "/dev/stdin" : o->file;
    if (o->at && !mf_time_parse_fhir(o->at, &given, NULL))
        return mf_error_set(err, MF_ERR_USAGE, "--at: not a FHIR date or dateTime");
    if ((size_t)snprintf(path, sizeof path, "%s/ehr/features.json", o->model) >= sizeof path)
        return mf_error_set(err, MF_ERR_USAGE, "--model: the path is too long");
    MF_AUTO(mf_feature_set) struct mf_feature_set *set = mf_feature_set_load(path, err);
    MF_AUTO(mf_fhir_document)
    struct mf_fhir_document *doc = set ? mf_fhir_document_load(name, NULL, err) : NULL;
    if (!doc)
        return false;
    size_t count = mf_fhir_patient_count(doc);
    struct mf_time latest = mf_fhir_latest_time(doc, NULL);
    int indent = count == 1 && isatty(STDOUT_FILENO) ? 2 : 0;
    for (size_t i = 0; i < count; i++) {
        const struct mf_fhir_patient *patient = mf_fhir_patient(doc, i);
        struct mf_time at = o->at ? given : mf_fhir_latest_time(doc, patient);
        if (at.precision == MF_TIME_UNKNOWN)
            at = latest; /* a patient without Observations */
        if (at.precision == MF_TIME_UNKNOWN)
            return mf_error_set(err, MF_ERR_UNUSABLE, "%s: no Observation has a time, use --at",
                                o->file);
        if (!print_patient(set, patient, &at, indent, err))
            return false;
    }
    return fflush(stdout) == 0 || mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
}

/* Reads the options behind "features"; false also for --help (*ret_help). */
static bool parse_options(int argc, char **argv, struct options *o, bool *ret_help,
                          struct mf_error *err)
{
    static const struct option LONG[] = {{"model", required_argument, NULL, 'm'},
                                         {"at", required_argument, NULL, 'a'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    int c;
    optind = 2;
    while ((c = mf_cli_option(argc, argv, ":h", LONG, err)) != -1) {
        if (c == '?')
            return false;
        if (c == 'm')
            o->model = optarg;
        else if (c == 'a')
            o->at = optarg;
        else
            *ret_help = true;
    }
    o->file = optind == argc - 1 ? argv[optind] : NULL;
    if (*ret_help)
        return false;
    if (!o->model || !o->file) {
        mf_error_set(err, MF_ERR_USAGE, "--model DIR and one FILE are needed, see --help");
        return false;
    }
    return true;
}

int mf_cmd_fhir(int argc, char **argv)
{
    struct options o = {0};
    struct mf_error err = MF_ERROR_INIT;
    bool help = argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0);
    bool features = argc >= 2 && strcmp(argv[1], "features") == 0;
    if (!help && !features)
        mf_error_set(&err, MF_ERR_USAGE, "expected \"features\", see --help");
    bool ok = features && parse_options(argc, argv, &o, &help, &err);
    if (help && err.code == MF_OK)
        return mf_cli_help(USAGE);
    return ok && print_features(&o, &err) ? MF_EXIT_OK : mf_cli_fail("fhir", &err);
}
