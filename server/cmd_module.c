/* `medfusion module run`: one network of a bundle (or any Hugging Face directory of a known kind)
 * on tensors. */
#include "server/cli.h"
#include "server/cmd.h"

#include "engine/module.h"

#include <string.h>

static const char USAGE[] =
    "usage: medfusion module run DIR --input IN.safetensors --output OUT.safetensors\n"
    "                            [--device DEV] [--dtype f32|bf16|int8|fp8] [--threads N]\n"
    "\n"
    "Runs the network in DIR (config.json and model.safetensors; dinov2, dinov2_with_registers, "
    "vit,\n"
    "sam2, mamba, transformer, ft_transformer or fusion) on the tensors of IN, which carry "
    "Hugging\n"
    "Face's names, and writes its outputs.\n";

static const struct option LONG[] = {{"input", required_argument, NULL, 'i'},
                                     {"output", required_argument, NULL, 'o'},
                                     {"device", required_argument, NULL, 'd'},
                                     {"dtype", required_argument, NULL, 't'},
                                     {"threads", required_argument, NULL, 'n'},
                                     {"help", no_argument, NULL, 'h'},
                                     {NULL, 0, NULL, 0}};

struct arguments {
    const char *input, *output;
    struct mf_module_options options;
    bool help;
};

static bool parse(int argc, char **argv, struct arguments *a, struct mf_error *err)
{
    double threads;
    int c;
    while ((c = mf_cli_option(argc, argv, ":hi:o:", LONG, err)) != -1) {
        if (c == 'i')
            a->input = optarg;
        else if (c == 'o')
            a->output = optarg;
        else if (c == 'd')
            a->options.device = optarg;
        else if (c == 't')
            a->options.dtype = optarg;
        else if (c == 'h')
            return a->help = true;
        else if (c == '?')
            return false;
        else if (!mf_cli_number("--threads", optarg, 0, 4096, &threads, err))
            return false;
        else
            a->options.threads = (int)threads;
    }
    if (optind + 2 != argc || strcmp(argv[optind], "run") != 0 || !a->input || !a->output)
        return mf_error_set(err, MF_ERR_USAGE,
                            "expected \"run\" DIR --input FILE --output FILE, see --help");
    return true;
}

int mf_cmd_module(int argc, char **argv)
{
    struct arguments a = {0};
    struct mf_error err = MF_ERROR_INIT;
    if (!parse(argc, argv, &a, &err))
        return mf_cli_fail("module", &err);
    if (a.help)
        return mf_cli_help(USAGE);
    if (!mf_module_run(argv[optind + 1], a.input, a.output, &a.options, &err))
        return mf_cli_fail("module", &err);
    return MF_EXIT_OK;
}
