/* backflow figure: pictures of a record that are neither matrices nor curves. */
#include "cli/figure.h"

#include <string.h>

static const char notes[] =
    "KIND strip: the sentence itself, each token tinted by what it received from --loss I, or by\n"
    "what its loss sends back to --source J; without either by what it received from all later\n"
    "losses. Matrices are drawn by backflow heatmap, curves by backflow profile, paths by\n"
    "backflow graph.\n"
    "\n"
    "examples:\n"
    "  backflow figure strip run.safetensors --loss 17 -o strip.pdf\n"
    "  backflow figure strip run.safetensors --source 3 --score grad_x_act -o given.svg\n";

typedef struct {
    bf_strip_style style;
    cli_figure figure;
    const char *kind, *record;
} job;

static int misused(const cli_command *self, const job *j)
{
    if (strcmp(j->kind, "strip") != 0)
        return cli_misuse(self, "there is no kind \"%.60s\", wanted strip", j->kind);
    if (j->style.loss >= 0 && j->style.source >= 0)
        return cli_misuse(self, "--loss and --source are both given, wanted one of them");
    return cli_figure_misused(self, &j->figure);
}

int cmd_figure(const cli_command *self, int argc, char **argv)
{
    job j = {.style = {.layer = -1, .head = -1, .loss = -1, .source = -1}};
    bf_strip_style *s = &j.style;
    cli_option options[8 + CLI_FIGURE_OPTIONS] = {
        {"loss", cli_parse_index, &s->loss, "I", "the loss, 0 is that of token 1"},
        {"source", cli_parse_index, &s->source, "J", "the position"},
        {"site", cli_parse_text, &s->site, "S", "default: resid_pre"},
        {"score", cli_parse_text, &s->score, "C", "grad_norm or grad_x_act (default: grad_norm)"},
        {"layer", cli_parse_index, &s->layer, "L", "default: the first that the record has"},
        {"head", cli_parse_index, &s->head, "H", "default: all heads together"},
        {"scale", cli_parse_scale, &s->scale, "S", "linear, log or rank (default: linear)"},
        {"numbers", NULL, &s->numbers, NULL, "write the value below each token"},
    };
    const size_t n = 8 + cli_figure_options(options + 8, &j.figure);
    const cli_syntax syntax = {options, n, "KIND", &j.kind, notes};
    int code = cli_read_two(self, &syntax, "RECORD", &j.record, argc, argv);
    if (code == CLI_GO)
        code = misused(self, &j);
    if (code != CLI_GO)
        return code;
    bf_error err = {0};
    bf_record *record = NULL;
    bf_code rc = bf_record_open(&record, j.record, &err);
    const cli_input input = {"record", j.record, NULL, record};
    if (!rc)
        rc = cli_figure_look(&s->look, &j.figure, self, argc, argv, &input, 1, &err);
    if (!rc)
        rc = bf_render_strip(record, s, j.figure.path, &err);
    bf_record_free(record);
    cli_figure_end(&j.figure);
    return rc ? cli_fail(&err) : CLI_DONE;
}
