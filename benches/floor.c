/*
 * The floor for starting workers: posix_spawn in a bare loop, nothing kept, nothing watched.
 * Usage: floor COUNT PROGRAM [ARGUMENT...]
 * Prints the seconds from before the first posix_spawn to after the last. glibc's posix_spawn returns once the child
 * has executed its program, so this is the time until all of them run. Then ends and reaps them.
 */
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv) {
    long count = argc > 2 ? strtol(argv[1], NULL, 10) : 0;
    if (count < 1) {
        fprintf(stderr, "usage: floor COUNT PROGRAM [ARGUMENT...]\n");
        return 64;
    }
    pid_t *pids = calloc((size_t)count, sizeof *pids);
    if (pids == NULL) {
        perror("floor");
        return 1;
    }
    long started = 0;
    int error = 0;
    double before = seconds();
    for (; started < count && error == 0; started++)
        error = posix_spawn(&pids[started], argv[2], NULL, NULL, argv + 2, environ);
    double after = seconds();
    if (error != 0) {
        started--;
        fprintf(stderr, "floor: posix_spawn of %s: %s\n", argv[2], strerror(error));
    }
    for (long i = 0; i < started; i++)
        kill(pids[i], SIGKILL);
    for (long i = 0; i < started; i++)
        waitpid(pids[i], NULL, 0);
    free(pids);
    if (error != 0)
        return 1;
    printf("%.9f\n", after - before);
    return 0;
}
