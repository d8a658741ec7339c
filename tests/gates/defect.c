/*
 * Defects that sanitizers and valgrind are there for, one for each word: overflow, freed, leak,
 * signed, race, unwritten. A build with sanitizers has to end it (CMakeLists.txt beside this), and
 * valgrind has to name it, or their silence elsewhere says nothing.
 */
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *count(void *context)
{
    for (int i = 0; i < 10000; i++)
        shared++;
    return context;
}

static int race(void)
{
    pthread_t a, b;
    if (pthread_create(&a, NULL, count, NULL) != 0 || pthread_create(&b, NULL, count, NULL) != 0)
        return 2;
    pthread_join(a, NULL);
    pthread_join(b, NULL);
    return shared == 0;
}

int main(int argc, char **argv)
{
    const char *word = argc == 2 ? argv[1] : "";
    char *volatile p = malloc(16);
    volatile int number = INT_MAX;
    if (!p)
        return 2;
    p[0] = 1;
    if (strcmp(word, "overflow") == 0)
        p[15 + argc] = 1;
    if (strcmp(word, "leak") == 0) {
        p = NULL;
        return 0;
    }
    if (strcmp(word, "unwritten") == 0 && p[argc] == 1) /* p[0] alone was written */
        number = 1;
    free(p);
    if (strcmp(word, "freed") == 0)
        return p[0];
    if (strcmp(word, "signed") == 0)
        number = number + argc;
    if (strcmp(word, "race") == 0)
        return race();
    return number == 0;
}
