/* folder.c -- a report's folder: written under another name, then renamed.
 *
 * One folder at a time may be open; the signal handler finds it in `open_folder`. */
#define _XOPEN_SOURCE 700 /* realpath */
#include "cli/cli.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli/folder.h"

enum { MAX_PATH = 4096 };

static struct {
    volatile sig_atomic_t live;
    char path[MAX_PATH];
    const char *const *files;
} open_folder;

/* Remove the files of these names and the folder, by system calls alone. */
static void remove_folder(const char *path, const char *const *files)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return;
    for (size_t k = 0; files[k]; k++)
        unlinkat(fd, files[k], 0);
    close(fd);
    rmdir(path);
}

void cli_folder_cleanup(void)
{
    if (open_folder.live)
        remove_folder(open_folder.path, open_folder.files);
}

static bf_code fail_errno(bf_error *err, const char *path, const char *verb)
{
    const char *why = strerror(errno);
    return bf_fail(err, BF_EIO, "%.300s: cannot %s: %s", path, verb, why);
}

static bool is_listed(const char *name, const char *const *files)
{
    for (size_t k = 0; files[k]; k++)
        if (strcmp(files[k], name) == 0)
            return true;
    return false;
}

/* May the folder at path be replaced? Only if it is empty, or a report and nothing else. */
static bf_code check_replaceable(const char *path, const char *const *files, bf_error *err)
{
    DIR *dir = opendir(path);
    bf_code rc = BF_OK;
    unsigned marks = 0;
    size_t entries = 0;
    if (!dir)
        return fail_errno(err, path, "read");
    for (struct dirent *d; !rc && (d = readdir(dir));) {
        if (strcmp(d->d_name, ".") == 0 || strcmp(d->d_name, "..") == 0)
            continue;
        entries++;
        marks |= strcmp(d->d_name, "run.safetensors") == 0 ||
                         strcmp(d->d_name, "text-01.safetensors") == 0
                     ? 1u
                     : 0u;
        marks |= strcmp(d->d_name, "index.html") == 0 ? 2u : 0u;
        if (!is_listed(d->d_name, files))
            rc = bf_fail(err, BF_EARG,
                         "%.200s: holds \"%.100s\", which is no part of a report; it is "
                         "not replaced, name another folder",
                         path, d->d_name);
    }
    closedir(dir);
    if (!rc && entries && marks != 3)
        rc = bf_fail(err, BF_EARG,
                     "%.200s: a folder that is no backflow report (run.safetensors and "
                     "index.html) is not replaced, name another",
                     path);
    return rc;
}

/* Where the folder will stand: links followed if something is there, no slash at the end. */
static bf_code resolve(cli_folder *folder, const char *path, const char *const *files,
                       bf_error *err)
{
    struct stat st;
    folder->exists = stat(path, &st) == 0;
    if (folder->exists && !S_ISDIR(st.st_mode))
        return bf_fail(err, BF_EARG, "%.300s: something that is no folder stands there", path);
    folder->path = folder->exists ? realpath(path, NULL) : strdup(path);
    if (!folder->path)
        return fail_errno(err, path, "find");
    size_t n = strlen(folder->path);
    while (n > 1 && folder->path[n - 1] == '/')
        folder->path[--n] = '\0';
    if (n + 32 > MAX_PATH)
        return bf_fail(err, BF_EIO, "%.300s...: path too long", path);
    return folder->exists ? check_replaceable(folder->path, files, err) : BF_OK;
}

bf_code cli_folder_begin(cli_folder *folder, const char *path, const char *const *files,
                         bf_error *err)
{
    bf_code rc = resolve(folder, path, files, err);
    if (rc)
        return rc;
    const size_t size = strlen(folder->path) + 32;
    folder->tmp = malloc(size);
    if (!folder->tmp)
        return bf_fail(err, BF_ENOMEM, "%.300s: no memory for a temporary name", path);
    snprintf(folder->tmp, size, "%s.backflow-XXXXXX", folder->path);
    cli_signals_hold(true);
    if (mkdtemp(folder->tmp)) {
        snprintf(open_folder.path, sizeof open_folder.path, "%s", folder->tmp);
        open_folder.files = files;
        open_folder.live = 1;
    } else {
        rc = fail_errno(err, path, "make the folder");
        free(folder->tmp);
        folder->tmp = NULL;
    }
    cli_signals_hold(false);
    return rc;
}

/* mkdtemp's folders are private; a report is as readable as any file that the user makes. */
static void open_up(const char *path)
{
    const mode_t mask = umask(0);
    umask(mask);
    chmod(path, 0777 & ~mask);
}

/* Move the report that stands at path out of the way: path.backflow-XXXXXX, an empty folder's
 * place. */
static char *step_aside(const char *path)
{
    const size_t size = strlen(path) + 32;
    char *aside = malloc(size);
    if (!aside)
        return NULL;
    snprintf(aside, size, "%s.backflow-XXXXXX", path);
    if (mkdtemp(aside) && rename(path, aside) == 0)
        return aside;
    const int why = errno;
    rmdir(aside);
    free(aside);
    errno = why;
    return NULL;
}

bf_code cli_folder_commit(cli_folder *folder, bf_error *err)
{
    bf_code rc = BF_OK;
    char *aside = NULL;
    open_up(folder->tmp);
    cli_signals_hold(true);
    if (folder->exists && !(aside = step_aside(folder->path))) {
        rc = fail_errno(err, folder->path, "replace");
    } else if (rename(folder->tmp, folder->path) < 0) {
        rc = fail_errno(err, folder->path, "write");
        if (aside)
            rename(aside, folder->path);
    } else {
        open_folder.live = 0;
        free(folder->tmp);
        folder->tmp = NULL;
        if (aside)
            remove_folder(aside, open_folder.files);
    }
    cli_signals_hold(false);
    free(aside);
    return rc;
}

void cli_folder_end(cli_folder *folder)
{
    if (folder->tmp) {
        cli_signals_hold(true);
        remove_folder(folder->tmp, open_folder.files);
        open_folder.live = 0;
        cli_signals_hold(false);
    }
    free(folder->tmp);
    free(folder->path);
    *folder = (cli_folder){0};
}
