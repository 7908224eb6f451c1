/* backflow redo: a figure drawn again by the command that it carries.
 *
 * A figure may come from anyone. Only commands that draw are run, by name from the table below,
 * with the arguments as they are (no shell); they read files and write one: the place after -o. */
#include "cli/figure.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

static const char notes[] =
    "A figure of backflow's carries its command and the SHA-256 of the records it was made of\n"
    "(backflow info FIGURE prints them). redo checks these, runs the command from the current\n"
    "folder, and compares. Without -o nothing is kept. Exit: 0 the same bytes, 1 others.\n"
    "\n"
    "examples:\n"
    "  backflow redo flow.png\n"
    "  backflow redo flow.pdf -o again.pdf\n";

static const cli_command figures[] = {
    {"heatmap", cmd_heatmap, "", ""}, {"profile", cmd_profile, "", ""},
    {"figure", cmd_figure, "", ""},   {"graph", cmd_graph, "", ""},
    {"trust", cmd_trust, "", ""},     {"find", cmd_find, "", ""},
};

enum { MOST_ARGUMENTS = 4096, MOST_BYTES = 1 << 29 };

/* ---- what the figure says */

static bf_code check_input(const bf_json *input, const char *figure, bf_error *err)
{
    const char *kind = bf_json_string(bf_json_get(input, "kind")),
               *path = bf_json_string(bf_json_get(input, "path")),
               *wanted = bf_json_string(bf_json_get(input, "sha256")), *found = NULL;
    char sha[65];
    bf_model *model = NULL;
    bf_code rc;
    if (!kind || !path || !wanted)
        return bf_fail(err, BF_EFORMAT, "%.300s: provenance: an input without kind, path or sha256",
                       figure);
    if (strcmp(kind, "model") == 0) {
        rc = bf_model_open(&model, path, err);
        if (!rc)
            rc = bf_model_sha256(&found, model, err);
    } else {
        rc = bf_file_sha256(sha, path, err);
        found = sha;
    }
    if (!rc && strcmp(found, wanted) != 0)
        rc = bf_fail(err, BF_EARG,
                     "%.120s: made of the %.20s %.120s with SHA-256 %.64s, found %.64s", figure,
                     kind, path, wanted, found);
    bf_model_free(model);
    return rc;
}

static bf_code check_inputs(const bf_json *provenance, const char *figure, bf_error *err)
{
    bf_code rc = BF_OK;
    const bf_json *input = bf_json_first(bf_json_get(provenance, "inputs"));
    for (; input && !rc; input = bf_json_next(input))
        rc = check_input(input, figure, err);
    return rc;
}

static const cli_command *find_command(const char *name)
{
    for (size_t k = 0; name && k < sizeof figures / sizeof *figures; k++)
        if (strcmp(figures[k].name, name) == 0)
            return &figures[k];
    return NULL;
}

/* The command's arguments with "-o out" before them.
 * argv  free(); its strings are the JSON's and out */
static bf_code take_arguments(char ***argv, int *argc, const cli_command **command,
                              const bf_json *provenance, const char *figure, const char *out,
                              bf_error *err)
{
    const bf_json *list = bf_json_get(provenance, "argv"), *item = bf_json_first(list);
    const size_t n = list ? bf_json_count(list) : 0;
    *command = find_command(item ? bf_json_string(item) : NULL);
    if (!*command)
        return bf_fail(err, BF_EFORMAT,
                       "%.300s: provenance: the command is \"%.60s\", wanted one that draws: "
                       "heatmap, profile, figure, graph, trust or find",
                       figure, item && bf_json_string(item) ? bf_json_string(item) : "");
    if (n > MOST_ARGUMENTS)
        return bf_fail(err, BF_EFORMAT, "%.300s: provenance: %zu arguments, wanted at most %d",
                       figure, n, (int)MOST_ARGUMENTS);
    *argv = calloc(n + 2, sizeof **argv);
    if (!*argv)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu arguments", n);
    static char option[] = "-o";
    (*argv)[(*argc)++] = option;
    (*argv)[(*argc)++] = (char *)out; /* commands do not write their arguments */
    while ((item = bf_json_next(item))) {
        const char *text = bf_json_string(item);
        if (!text)
            return bf_fail(err, BF_EFORMAT, "%.300s: provenance: an argument that is no string",
                           figure);
        (*argv)[(*argc)++] = (char *)text;
    }
    return BF_OK;
}

/* ---- doing it */

static bf_code same_bytes(bool *same, const char *a, const char *b, bf_error *err)
{
    bf_buf x = {0}, y = {0};
    bf_code rc = bf_file_read(&x, a, MOST_BYTES, err);
    if (!rc)
        rc = bf_file_read(&y, b, MOST_BYTES, err);
    *same = !rc && x.len == y.len && (!x.len || memcmp(x.data, y.data, x.len) == 0);
    bf_buf_free(&x);
    bf_buf_free(&y);
    return rc;
}

/* Run it with its output at out. */
static int run(const bf_json *provenance, const char *figure, const char *out, bf_error *err)
{
    const cli_command *command;
    char **argv = NULL;
    int argc = 0, code = CLI_FAILED;
    bf_code rc = take_arguments(&argv, &argc, &command, provenance, figure, out, err);
    if (!rc)
        rc = check_inputs(provenance, figure, err);
    if (!rc)
        code = command->run(command, argc, argv);
    free(argv);
    return rc ? cli_fail(err) : code;
}

static int compare(const bf_json *provenance, const char *figure, const char *out, bool kept,
                   bf_error *err)
{
    const char *version = bf_json_string(bf_json_get(provenance, "backflow"));
    bool same;
    if (same_bytes(&same, figure, out, err))
        return cli_fail(err);
    fprintf(stderr, "backflow: ");
    cli_print_visible(stderr, kept ? out : figure);
    const bool ours = version && strcmp(version, BF_VERSION) == 0;
    fprintf(stderr, kept ? ": written, %s%s\n" : ": drawn again, %s%s\n",
            same ? "the same bytes" : "not the same bytes",
            same ? "" : ours ? ": other fonts or libraries" : ": another version of backflow");
    return same ? CLI_DONE : CLI_REFUTED;
}

/* Somewhere to draw to that does not stay: in $TMPDIR, with the figure's ending. */
static bf_code temporary(char **out, const char *figure, bf_error *err)
{
    const char *where = getenv("TMPDIR"), *ending = strrchr(figure, '.');
    bf_buf path = {0};
    bf_buf_printf(&path, "%s/backflow%s", where && *where ? where : "/tmp", ending ? ending : "");
    const bf_code rc = path.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path")
                                   : bf_tmp_open(out, path.data, err);
    bf_buf_free(&path);
    return rc;
}

static int redo(const bf_json *provenance, const char *figure, const char *path, bf_error *err)
{
    char *tmp = NULL;
    if (!path && temporary(&tmp, figure, err))
        return cli_fail(err);
    const char *out = path ? path : tmp;
    int code = run(provenance, figure, out, err);
    if (code == CLI_DONE || code == CLI_REFUTED) /* trust draws what does not hold, too */
        code = compare(provenance, figure, out, path != NULL, err);
    bf_tmp_discard(tmp);
    return code;
}

int cmd_redo(const cli_command *self, int argc, char **argv)
{
    const char *figure = NULL, *path = NULL;
    const cli_option options[] = {
        {"o", cli_parse_text, &path, "FILE", "where the picture goes (default: only compare)"}};
    const cli_syntax syntax = {options, 1, "FIGURE", &figure, notes};
    int code = cli_read(self, &syntax, argc, argv);
    if (code != CLI_GO)
        return code;
    const char *has = strrchr(figure, '.'), *wants = path ? strrchr(path, '.') : has;
    if (path && (!has || !wants || strcasecmp(has, wants) != 0))
        return cli_misuse(self, "-o: \"%.200s\" does not end like the figure, wanted %.20s", path,
                          has ? has : "an ending");
    bf_error err = {0};
    char *text = NULL;
    bf_json *provenance = NULL;
    bf_code rc = bf_figure_provenance(&text, figure, &err);
    if (!rc) {
        rc = bf_json_parse(&provenance, text, strlen(text), &err);
        rc = rc ? bf_error_prefix(&err, rc, figure) : rc;
    }
    code = rc ? cli_fail(&err) : redo(provenance, figure, path, &err);
    bf_json_free(provenance);
    free(text);
    return code;
}
