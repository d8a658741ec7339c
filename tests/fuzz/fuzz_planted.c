/* A planted defect under libFuzzer, that tests/run has to see found: three letters write beyond
 * the end. */
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *volatile room = malloc(4);
    if (room && size >= 3 && data[0] == 'B' && data[1] == 'U' && data[2] == 'G')
        room[size + 1] = 1;
    free(room);
    return 0;
}
