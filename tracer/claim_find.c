/* Where the claims that come with backflow stand, and on what machine we are. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "model/files.h"
#include "tracer/claim.h"

#ifndef BF_MODELS
#define BF_MODELS "/usr/local/share/backflow/models"
#endif

/* Folder of the running program, written to buf; "" if the system does not say. */
static void find_program(char *buf, size_t size)
{
    const ssize_t n = readlink("/proc/self/exe", buf, size - 1);
    buf[n > 0 && (size_t)n < size - 1 ? n : 0] = '\0';
    char *slash = strrchr(buf, '/');
    if (slash)
        *slash = '\0';
}

bf_code bf_claim_folder(char **out, bf_error *err)
{
    char exe[4096];
    const char *own = getenv("BACKFLOW_CLAIMS"), *models = getenv("BACKFLOW_MODELS");
    find_program(exe, sizeof exe);
    /* beside the models, wherever those are */
    const char *const place[][2] = {{own, ""},
                                    {models, "../claims"},
                                    {exe, "../share/backflow/claims"},
                                    {exe, "../examples/claims"},
                                    {BF_MODELS, "../claims"}};
    for (size_t k = 0; k < sizeof place / sizeof *place; k++) {
        if (!place[k][0] || !*place[k][0])
            continue;
        char *folder = bf_path_join(place[k][0], place[k][1]);
        char *first = folder ? bf_path_join(folder, "C01.json") : NULL;
        const bool there = first && bf_path_exists(first);
        free(first);
        if (there) {
            *out = folder;
            return BF_OK;
        }
        free(folder);
    }
    return bf_fail(err, BF_EIO,
                   "the claims that come with backflow are not installed, wanted a "
                   "folder with C01.json (BACKFLOW_CLAIMS names one)");
}

void bf_machine_words(char buf[200])
{
    char line[300] = "", name[160] = "unknown processor";
    FILE *f = fopen("/proc/cpuinfo", "r");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "model name", 10) == 0 && strchr(line, ':')) {
            snprintf(name, sizeof name, "%.150s", strchr(line, ':') + 2);
            name[strcspn(name, "\n")] = '\0';
            break;
        }
    if (f)
        fclose(f);
    snprintf(buf, 200, "%s, %ld processors", name, sysconf(_SC_NPROCESSORS_ONLN));
}
