/* backflow heatmap: a tensor of a record as a picture. */
#include "cli/figure.h"

#include <stdlib.h>
#include <string.h>

static const char notes[] =
    "Losses go down (the token to be predicted), positions across (the token that is read). Above\n"
    "the diagonal nothing can flow and nothing is drawn; values below 0 are marked by a dash or\n"
    "hatched. S is a site (resid_pre, resid_mid, resid_final, attn_out, mlp_out, q, k, v, z),\n"
    "attn, or a tensor's name as backflow info RECORD lists it (share.mlp, param.q.grad_norm,\n"
    "own_future.cosine, overview.v.grad_norm, ...). A FILE that ends in .json is a Vega-Lite\n"
    "specification with its data.\n"
    "\n"
    "examples:\n"
    "  backflow heatmap run.safetensors --site resid_pre -o flow.png\n"
    "  backflow heatmap run.safetensors --site resid_pre --scale log -o flow.vl.json\n"
    "  backflow heatmap run.safetensors --site v --layer 3 --head 1 --scale log -o head.pdf\n"
    "  backflow heatmap run.safetensors --site attn --layers all --heads 0,3 -o attention.svg\n"
    "  backflow heatmap run.safetensors --site share.mlp --layers all --columns 2 -o mlp.pdf\n"
    "  backflow heatmap new.safetensors --minus old.safetensors --site resid_pre -o diff.pdf\n";

enum { MOST = 1024 }; /* layers or heads in a figure */

typedef struct {
    bf_heatmap_style style;
    cli_figure figure;
    const char *record, *minus, *layers, *heads;
    bool log;
    size_t *layer, *head;
    bf_record *other;
} job;

static int misused(const cli_command *self, const job *j)
{
    if (!j->style.site)
        return cli_misuse(self,
                          "no --site given, wanted resid_pre, resid_mid, resid_final, attn_out, "
                          "mlp_out, q, k, v, z, attn or a tensor's name");
    if (j->log && j->style.scale != BF_SCALE_LINEAR)
        return cli_misuse(self, "--log and --scale are both given, wanted one of them");
    if (j->layers && j->style.layer >= 0)
        return cli_misuse(self, "--layer and --layers are both given, wanted one of them");
    if (j->heads && j->style.head >= 0)
        return cli_misuse(self, "--head and --heads are both given, wanted one of them");
    return cli_figure_misused(self, &j->figure);
}

/* "all", or a list. */
static bf_code choose(size_t **list, size_t *n, bool *all, const char *text, const char *what,
                      bf_error *err)
{
    *all = text && strcmp(text, "all") == 0;
    return !text || *all ? BF_OK : cli_parse_ranges(list, n, text, MOST, what, err);
}

static bf_code draw(job *j, const cli_command *self, int argc, char **argv, bf_error *err)
{
    bf_record *record = NULL;
    bf_heatmap_style *s = &j->style;
    bf_code rc = choose(&j->layer, &s->n_layers, &s->all_layers, j->layers, "layer", err);
    if (!rc)
        rc = choose(&j->head, &s->n_heads, &s->all_heads, j->heads, "head", err);
    if (!rc)
        rc = bf_record_open(&record, j->record, err);
    if (!rc && j->minus)
        rc = bf_record_open(&j->other, j->minus, err);
    const cli_input inputs[] = {{"record", j->record, NULL, record},
                                {"record", j->minus, NULL, j->other}};
    if (!rc)
        rc = cli_figure_look(&s->look, &j->figure, self, argc, argv, inputs, j->minus ? 2 : 1, err);
    s->layers = j->layer;
    s->heads = j->head;
    s->minus = j->other;
    if (!rc)
        rc = cli_wants_json(j->figure.path) ? bf_export_vega_heatmap(record, s, j->figure.path, err)
                                            : bf_render_heatmap(record, s, j->figure.path, err);
    bf_record_free(record);
    return rc;
}

int cmd_heatmap(const cli_command *self, int argc, char **argv)
{
    job j = {.style = {.score = "grad_norm", .layer = -1, .head = -1}};
    bf_heatmap_style *s = &j.style;
    cli_option options[10 + CLI_FIGURE_OPTIONS] = {
        {"site", cli_parse_text, &s->site, "S", "a site, attn, or a tensor's name"},
        {"score", cli_parse_text, &s->score, "C", "grad_norm or grad_x_act (default: grad_norm)"},
        {"layer", cli_parse_index, &s->layer, "L", "default: the first that the record has"},
        {"head", cli_parse_index, &s->head, "H", "default: all heads together"},
        {"layers", cli_parse_text, &j.layers, "0,3:6|all", "a panel for each of these layers"},
        {"heads", cli_parse_text, &j.heads, "0,3:6|all", "a panel for each of these heads"},
        {"minus", cli_parse_text, &j.minus, "RECORD",
         "draw the difference to this record of the same\n"
         "tokens, on a scale centred at 0"},
        {"by-row", NULL, &s->by_row, NULL, "divide each row by the sum of its magnitudes"},
        {"scale", cli_parse_scale, &s->scale, "S", "linear, log or rank (default: linear)"},
        {"log", NULL, &j.log, NULL, "the same as --scale log"},
    };
    const size_t n = 10 + cli_figure_options(options + 10, &j.figure);
    const cli_syntax syntax = {options, n, "RECORD", &j.record, notes};
    int code = cli_read(self, &syntax, argc, argv);
    if (code == CLI_GO)
        code = misused(self, &j);
    if (code != CLI_GO)
        return code;
    s->scale = j.log ? BF_SCALE_LOG : s->scale;
    bf_error err = {0};
    const bf_code rc = draw(&j, self, argc, argv, &err);
    bf_record_free(j.other);
    cli_figure_end(&j.figure);
    free(j.layer);
    free(j.head);
    return rc ? cli_fail(&err) : CLI_DONE;
}
