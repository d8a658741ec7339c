/* `medfusion module run` without the server's libraries: module_run module run DIR --input FILE
 * --output FILE [--dtype DTYPE] [--kernels KIND]. For models/parity on a GPU machine;
 * MF_TEST_DEVICE chooses the device. */
#include "engine/module.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv)
{
    static const struct option LONG[] = {{"input", required_argument, NULL, 'i'},
                                         {"output", required_argument, NULL, 'o'},
                                         {"dtype", required_argument, NULL, 't'},
                                         {"kernels", required_argument, NULL, 'k'},
                                         {NULL, 0, NULL, 0}};
    struct mf_module_options options = {.device = getenv("MF_TEST_DEVICE")};
    struct mf_error err = MF_ERROR_INIT;
    const char *input = NULL, *output = NULL;
    for (int c; (c = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        if (c == 'i')
            input = optarg;
        else if (c == 'o')
            output = optarg;
        else if (c == 't')
            options.dtype = optarg;
        else if (c == 'k')
            options.kernels = optarg;
        else
            return 2;
    }
    if (optind + 3 != argc || !input || !output)
        return 2;
    if (mf_module_run(argv[optind + 2], input, output, &options, &err))
        return 0;
    fprintf(stderr, "%s\n", err.msg);
    return 1;
}
