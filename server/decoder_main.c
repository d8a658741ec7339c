/* medfusion-decoder: the zygote and its decoders (decoder_process.h) as a program of their own,
 * which has no code but theirs mapped. */
#include "server/decoder_process.h"

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], MF_ZYGOTE_ROLE) == 0)
        return mf_zygote_main(NULL, 0);
    fputs("medfusion-decoder " MF_VERSION " is started by medfusion " MF_VERSION
          " and has no use of its own\n",
          stderr);
    return 2;
}
