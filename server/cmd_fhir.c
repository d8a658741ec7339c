/*
 * `medfusion fhir features`: the feature values a bundle would read from a FHIR file, one JSON line
 * per patient, or a table for people. `medfusion fhir check`: all mistakes of a feature definition.
 * Both need only the bundle's ehr/features.json.
 */
#include "server/cmd.h"

#include "core/feature.h"
#include "core/json.h"
#include "fhir/extract.h"
#include "server/cli.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char USAGE[] =
    "usage: medfusion fhir features --model DIR [--at DATETIME] [--format json|table] FILE\n"
    "       medfusion fhir check DIR|FILE\n"
    "\n"
    "features prints the EHR features that a model would read from a FHIR R4 file (a Bundle, a\n"
    "resource or NDJSON, also compressed with gzip), for each patient: one JSON object a line, or\n"
    "a table on a terminal.\n"
    "check tells every mistake in a feature definition (a model's ehr/features.json).\n"
    "\n"
    "  --model DIR     a model bundle; only its ehr/features.json is read\n"
    "  --at DATETIME   the moment of the study, as FHIR writes it (2019-03-07T10:20:00+01:00);\n"
    "                  without it, the latest Observation of each patient; in a file without\n"
    "                  Observations, the latest date\n"
    "  --format FORM   json or table\n"
    "  FILE            - reads standard input\n";

enum { COLUMNS = 6, CELL = 96 };

struct options {
    const char *model, *at, *file;
    bool table;
};

static bool no_output(struct mf_error *err)
{
    return mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
}

/* --- features --- */

static bool print_json(const struct mf_feature_set *set, const struct mf_feature_value *values,
                       const char *patient, const struct mf_time *at, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *json = mf_fhir_features_to_json(set, values, patient, at);
    MF_AUTO(mf_mem) char *text = json ? mf_json_text(json, 0) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return puts(text) >= 0 || no_output(err);
}

static void fill_row(const struct mf_feature *f, const struct mf_feature_value *v,
                     char row[COLUMNS][CELL])
{
    const char *status = mf_feature_status_name(v->status);
    snprintf(row[0], CELL, "%s", f->id);
    if (v->has_number)
        snprintf(row[1], CELL, "%.6g", v->number);
    else
        snprintf(row[1], CELL, "%s",
                 v->has_category ? f->categories[v->category]
                 : v->text       ? v->text
                                 : "-");
    snprintf(row[2], CELL, "%s", v->unit ? v->unit : f->unit ? f->unit : "-");
    if (v->policy)
        snprintf(row[3], CELL, "%s (%s)", status, v->policy);
    else
        snprintf(row[3], CELL, "%s", status);
    snprintf(row[4], CELL, "%s", v->time ? v->time : "-");
    snprintf(row[5], CELL, "%s", v->source ? v->source : "-");
}

/* Characters, not bytes, of UTF-8. */
static int width_of(const char *s)
{
    int n = 0;
    for (; *s; s++)
        n += ((unsigned char)*s & 0xC0) != 0x80;
    return n;
}

static void print_row(char row[COLUMNS][CELL], const int width[COLUMNS])
{
    for (int c = 0; c < COLUMNS; c++) {
        int pad = c + 1 < COLUMNS ? width[c] - width_of(row[c]) + 2 : 0;
        printf("%s%*s", row[c], pad, "");
    }
    putchar('\n');
}

static bool print_table(const struct mf_feature_set *set, const struct mf_feature_value *values,
                        const char *patient, const struct mf_time *at, struct mf_error *err)
{
    static const char *const HEAD[COLUMNS] = {"FEATURE", "VALUE", "UNIT",
                                              "STATUS",  "TIME",  "SOURCE"};
    char row[COLUMNS][CELL], time[MF_TIME_TEXT];
    int width[COLUMNS];
    for (int c = 0; c < COLUMNS; c++)
        width[c] = width_of(HEAD[c]);
    for (size_t i = 0; i < set->count; i++) {
        fill_row(&set->features[i], &values[i], row);
        for (int c = 0; c < COLUMNS; c++)
            width[c] = width_of(row[c]) > width[c] ? width_of(row[c]) : width[c];
    }
    printf("%s at %s\n", patient, mf_time_format(at, time));
    for (int c = 0; c < COLUMNS; c++)
        snprintf(row[c], CELL, "%s", HEAD[c]);
    print_row(row, width);
    for (size_t i = 0; i < set->count; i++) {
        fill_row(&set->features[i], &values[i], row);
        print_row(row, width);
    }
    return putchar('\n') != EOF || no_output(err);
}

static bool print_patient(const struct options *o, const struct mf_feature_set *set,
                          const struct mf_fhir_patient *patient, const struct mf_time *at,
                          struct mf_error *err)
{
    MF_AUTO(mf_arena) struct mf_arena *arena = mf_arena_new(0);
    struct mf_feature_value *values =
        arena ? mf_arena_alloc(arena, set->count, sizeof *values, err) : NULL;
    if (!values)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    if (!mf_fhir_extract(set, patient, NULL, at, arena, values, err))
        return mf_error_prefix(err, "%s", patient->reference);
    return (o->table ? print_table : print_json)(set, values, patient->reference, at, err);
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
    struct mf_time latest = mf_fhir_latest_time(doc, NULL);
    for (size_t i = 0; i < mf_fhir_patient_count(doc); i++) {
        const struct mf_fhir_patient *patient = mf_fhir_patient(doc, i);
        struct mf_time at = o->at ? given : mf_fhir_latest_time(doc, patient);
        if (at.precision == MF_TIME_UNKNOWN)
            at = latest; /* a patient without Observations */
        if (at.precision == MF_TIME_UNKNOWN)
            return mf_error_set(err, MF_ERR_UNUSABLE, "%s: nothing in it has a time, use --at",
                                o->file);
        if (!print_patient(o, set, patient, &at, err))
            return false;
    }
    return fflush(stdout) == 0 || no_output(err);
}

/* --- check --- */

static void print_mistake(void *context, const char *mistake)
{
    (void)context;
    fprintf(stderr, "%s\n", mistake);
}

/* Every mistake is a line on stderr. */
static bool check_definition(const char *argument, struct mf_error *err)
{
    char path[4096];
    struct stat st;
    bool directory = stat(argument, &st) == 0 && S_ISDIR(st.st_mode);
    if ((size_t)snprintf(path, sizeof path, "%s%s", argument,
                         directory ? "/ehr/features.json" : "") >= sizeof path)
        return mf_error_set(err, MF_ERR_USAGE, "the path is too long");
    MF_AUTO(mf_json) json_t *json = mf_json_read_file(path, NULL, err);
    if (!json)
        return false;
    size_t mistakes = mf_feature_set_check(json, path, print_mistake, NULL);
    if (mistakes)
        return mf_error_set(err, MF_ERR_MODEL, "%s: %zu mistake%s", path, mistakes,
                            mistakes == 1 ? "" : "s");
    printf("%s: %zu features, no mistake\n", path,
           json_array_size(json_object_get(json, "features")));
    return fflush(stdout) == 0 || no_output(err);
}

/* --- arguments --- */

static bool read_format(const char *name, struct options *o, struct mf_error *err)
{
    o->table = strcmp(name, "table") == 0;
    return o->table || strcmp(name, "json") == 0 ||
           mf_error_set(err, MF_ERR_USAGE, "--format: json or table");
}

/* Reads the options behind the verb; false also for --help (*ret_help). */
static bool parse_options(int argc, char **argv, bool features, struct options *o, bool *ret_help,
                          struct mf_error *err)
{
    static const struct option LONG[] = {{"model", required_argument, NULL, 'm'},
                                         {"at", required_argument, NULL, 'a'},
                                         {"format", required_argument, NULL, 'f'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    int c;
    optind = 2;
    o->table = isatty(STDOUT_FILENO);
    while ((c = mf_cli_option(argc, argv, ":h", LONG, err)) != -1) {
        if (c == '?' || (c == 'f' && !read_format(optarg, o, err)))
            return false;
        if (c == 'm')
            o->model = optarg;
        else if (c == 'a')
            o->at = optarg;
        else if (c == 'h')
            *ret_help = true;
    }
    o->file = optind == argc - 1 ? argv[optind] : NULL;
    if (*ret_help)
        return false;
    if (!o->file || (features && !o->model)) {
        mf_error_set(err, MF_ERR_USAGE,
                     features ? "--model DIR and one FILE are needed, see --help"
                              : "one DIR or FILE is needed, see --help");
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
    bool check = argc >= 2 && strcmp(argv[1], "check") == 0;
    if (!help && !features && !check)
        mf_error_set(&err, MF_ERR_USAGE, "expected \"features\" or \"check\", see --help");
    bool ok = (features || check) && parse_options(argc, argv, features, &o, &help, &err);
    if (help && err.code == MF_OK)
        return mf_cli_help(USAGE);
    ok = ok && (features ? print_features(&o, &err) : check_definition(o.file, &err));
    return ok ? MF_EXIT_OK : mf_cli_fail("fhir", &err);
}
