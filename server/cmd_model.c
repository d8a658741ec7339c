/*
 * `medfusion model`: inspect, verify, sign (signature.h) and smooth (cmd_smooth.c) a bundle.
 */
#include "server/cli.h"
#include "server/cmd.h"

#include "core/json.h"
#include "engine/bundle.h"
#include "engine/engine.h"
#include "engine/smoothing.h"
#include "server/cmd_smooth.h"
#include "server/signature.h"

#include <stdio.h>
#include <string.h>

static const char USAGE[] =
    "usage: medfusion model inspect DIR\n"
    "       medfusion model verify  DIR [--key PUBLIC.pem]\n"
    "       medfusion model sign    DIR --key PRIVATE.pem\n"
    "       medfusion model smooth  DIR -o OUT [--alpha A] [--studies N] [--ehr FHIR] PATH…\n"
    "\n"
    "inspect  prints what the bundle is: labels, modules, sizes, memory, calibration\n"
    "verify   checks every file against the manifest, every tensor against the configurations, and "
    "with\n"
    "         --key the signature\n"
    "sign     checks the bundle and writes manifest.sig with an Ed25519 key (openssl genpkey "
    "-algorithm\n"
    "         ed25519)\n"
    "smooth   runs the DICOM studies in PATH (unlabelled; --studies of them, default 64) in fp32 "
    "and\n"
    "         writes to OUT a copy of the bundle in which int8 keeps its accuracy where some "
    "channels\n"
    "         dwarf the others. --alpha: how much of that moves into the weights, 0 to 1, default "
    "0.5.\n"
    "         The factors are part of the model hash: calibrate OUT afterwards\n";

/* Bytes that a worker with this bundle plans for on the CPU: a study of one frame, and of the most.
 */
static bool add_memory(const struct mf_bundle *bundle, json_t *description, struct mf_error *err)
{
    static const char *const DTYPES[] = {"f32", "bf16", "int8"};
    json_t *memory = json_object();
    for (size_t i = 0; i < sizeof DTYPES / sizeof *DTYPES; i++) {
        const struct mf_engine_options options = {.device = "cpu", .dtype = DTYPES[i]};
        MF_AUTO(mf_engine) struct mf_engine *engine = mf_engine_new(bundle, &options, err);
        size_t weights, one = engine ? mf_engine_memory(engine, &weights) : 0;
        if (!engine || !mf_engine_warm(engine, mf_bundle_max_frames(bundle), err)) {
            json_decref(memory);
            return false;
        }
        size_t most = mf_engine_memory(engine, &weights);
        json_object_set_new(memory, DTYPES[i],
                            json_pack("{s:I, s:I, s:I, s:I}", "weights", (json_int_t)weights,
                                      "work_one_frame", (json_int_t)one, "work_max_frames",
                                      (json_int_t)most, "peak",
                                      (json_int_t)weights + (json_int_t)most));
    }
    return json_object_set_new(description, "planned_memory_bytes", memory) == 0;
}

static bool inspect(const struct mf_bundle *bundle, struct mf_error *err)
{
    MF_AUTO(mf_json) json_t *description = mf_bundle_describe(bundle, err);
    if (!description || !add_memory(bundle, description, err))
        return false;
    MF_AUTO(mf_mem) char *text = description ? mf_json_text(description, 2) : NULL;
    if (!text)
        return mf_error_set(err, MF_ERR_NO_MEMORY, "out of memory");
    return puts(text) >= 0 || mf_error_set(err, MF_ERR_IO, "cannot write to standard output");
}

static bool run(const char *verb, const char *dir, const char *key, struct mf_error *err)
{
    MF_AUTO(mf_bundle) struct mf_bundle *bundle = mf_bundle_open(dir, MF_BUNDLE_FULL, err);
    if (!bundle)
        return false;
    if (strcmp(verb, "inspect") == 0)
        return inspect(bundle, err);
    bool sign = strcmp(verb, "sign") == 0;
    if (sign ? !mf_signature_write(dir, key, err)
             : key && !mf_signature_verify(dir, &key, 1, NULL, err))
        return false;
    printf("%s %s %s: %s\n", mf_bundle_name(bundle), mf_bundle_version(bundle),
           mf_bundle_digest(bundle),
           sign  ? "signed"
           : key ? "files and signature are right"
                 : "files are right, the signature was not checked (--key)");
    return true;
}

struct arguments {
    const char *key;
    struct mf_smooth_arguments smooth;
    bool help;
};

static bool take_option(int c, struct arguments *a, struct mf_error *err)
{
    double n;
    if (c == 'k')
        a->key = optarg;
    else if (c == 'o')
        a->smooth.output = optarg;
    else if (c == 'e')
        a->smooth.ehr = optarg;
    else if (c == 'a')
        return mf_cli_number("--alpha", optarg, 0, 1, &a->smooth.alpha, err);
    else if (c == 'n' && mf_cli_number("--studies", optarg, 1, 100000, &n, err))
        a->smooth.studies = (size_t)n;
    else
        return false; /* mf_cli_option() or mf_cli_number() has said why */
    return true;
}

static bool parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    static const struct option LONG[] = {{"key", required_argument, NULL, 'k'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"ehr", required_argument, NULL, 'e'},
                                         {"alpha", required_argument, NULL, 'a'},
                                         {"studies", required_argument, NULL, 'n'},
                                         {"help", no_argument, NULL, 'h'},
                                         {NULL, 0, NULL, 0}};
    int c;
    while ((c = mf_cli_option(argc, argv, ":hk:o:", LONG, err)) != -1) {
        if (c == 'h')
            return a->help = true;
        if (!take_option(c, a, err))
            return false;
    }
    return true;
}

static bool smooth(struct arguments *a, int argc, char **argv, struct mf_error *err)
{
    if (argc < 2 || !a->smooth.output)
        return mf_error_set(err, MF_ERR_USAGE, "smooth needs DIR, -o OUT and at least one PATH");
    a->smooth.model = argv[0];
    a->smooth.paths = argv + 1;
    a->smooth.path_count = (size_t)argc - 1;
    return mf_model_smooth(&a->smooth, err);
}

static bool run_verb(struct arguments *a, int argc, char **argv, struct mf_error *err)
{
    const char *verb = argc ? argv[0] : "";
    bool sign = strcmp(verb, "sign") == 0,
         known = sign || strcmp(verb, "inspect") == 0 || strcmp(verb, "verify") == 0;
    if (strcmp(verb, "smooth") == 0)
        return smooth(a, argc - 1, argv + 1, err);
    if (!known || argc != 2)
        return mf_error_set(err, MF_ERR_USAGE,
                            "expected inspect, verify, sign or smooth, and one DIR; see --help");
    if (sign && !a->key)
        return mf_error_set(err, MF_ERR_USAGE, "sign needs --key PRIVATE.pem");
    return run(verb, argv[1], a->key, err);
}

int mf_cmd_model(int argc, char **argv)
{
    struct arguments a = {.smooth = {.alpha = MF_SMOOTHING_ALPHA, .studies = 64}};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &a, &err))
        return mf_cli_fail("model", &err);
    if (a.help)
        return mf_cli_help(USAGE);
    return run_verb(&a, argc - optind, argv + optind, &err) ? MF_EXIT_OK
                                                            : mf_cli_fail("model", &err);
}
