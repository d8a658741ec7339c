/*
 * Prints the result of one study:  example BUNDLE DICOM… [EHR.json]
 *
 *     cc example.c -o example $(pkg-config --cflags --libs medfusion)
 */
#include <medfusion.h>

#include <stdio.h>
#include <string.h>

enum { MOST = 64 };

static int fail(char *problem)
{
    fprintf(stderr, "%s\n", problem ? problem : "out of memory");
    medfusion_free(problem);
    return 1;
}

int main(int argc, char **argv)
{
    struct medfusion_part parts[MOST] = {{0}};
    char *problem = NULL;
    int count = argc - 2;
    if (count < 1 || count > MOST) {
        fprintf(stderr, "usage: %s BUNDLE DICOM… [EHR.json]\n", argv[0]);
        return 2;
    }
    for (int i = 0; i < count; i++) {
        const char *path = argv[i + 2], *dot = strrchr(path, '.');
        parts[i].kind = dot && strcmp(dot, ".json") == 0 ? MEDFUSION_EHR : MEDFUSION_DICOM;
        parts[i].path = path;
    }
    struct medfusion *m = medfusion_open(argv[1], NULL, &problem);
    if (!m)
        return fail(problem);
    char *result = medfusion_predict(m, parts, (size_t)count, NULL, &problem);
    medfusion_close(m);
    if (!result)
        return fail(problem);
    puts(result);
    medfusion_free(result);
    return 0;
}
