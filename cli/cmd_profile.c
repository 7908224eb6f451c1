/* backflow profile: curves of one record, or of many. */
#include "cli/figure.h"

#include <stdlib.h>
#include <string.h>

static const char notes[] =
    "Parts: lag (mean flow against distance, a line a layer, with the slope of its power law), reach\n"
    "(layer against distance; what no gradient can reach has a grey of its own), position and layer\n"
    "(own against future and their cosine; needs a trace with --scores own). Several records, of one\n"
    "model and any lengths, give means with 95 % bootstrap intervals over them. A FILE that ends in\n"
    ".json is a Vega-Lite specification with its data.\n"
    "\n"
    "examples:\n"
    "  backflow profile run.safetensors -o profile.pdf\n"
    "  backflow profile run.safetensors --parts lag --site v --columns 1 -o lag.pdf\n"
    "  backflow profile texts/*.safetensors --parts lag,layer -o many.png\n";

typedef struct {
    bf_profile_style style;
    cli_figure figure;
    const char *first;
    cli_list more;
    bf_record **record; /* [more.n + 1] */
    cli_input *input;
} job;

static bf_code parse_parts(void *target, const char *value, bf_error *err)
{
    static const struct {
        const char *name;
        unsigned bit;
    } parts[] = {{"lag", BF_PROFILE_LAG}, {"reach", BF_PROFILE_REACH},
                 {"position", BF_PROFILE_POSITION}, {"layer", BF_PROFILE_LAYER},
                 {"all", BF_PROFILE_ALL}};
    unsigned found = 0;
    for (const char *at = value;; at++) {
        const size_t n = strcspn(at, ",");
        size_t k = 0;
        while (k < 5 && (strlen(parts[k].name) != n || strncmp(parts[k].name, at, n) != 0))
            k++;
        if (k == 5)
            return bf_fail(err, BF_EARG,
                           "\"%.*s\" is no part, wanted lag, reach, position, layer or all", (int)n,
                           at);
        found |= parts[k].bit;
        at += n;
        if (!*at)
            break;
    }
    *(unsigned *)target = found;
    return BF_OK;
}

static bf_code open_all(job *j, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k <= j->more.n && !rc; k++) {
        const char *path = k ? j->more.item[k - 1] : j->first;
        rc = bf_record_open(&j->record[k], path, err);
        j->input[k] = (cli_input){"record", path, NULL, j->record[k]};
    }
    return rc;
}

static bf_code draw(job *j, const cli_command *self, int argc, char **argv, bf_error *err)
{
    const size_t n = j->more.n + 1;
    j->record = calloc(n, sizeof(bf_record *));
    j->input = calloc(n, sizeof *j->input);
    bf_code rc = j->record && j->input ? open_all(j, err)
                                       : bf_fail(err, BF_ENOMEM, "cannot hold %zu records", n);
    if (!rc)
        rc = cli_figure_look(&j->style.look, &j->figure, self, argc, argv, j->input, n, err);
    const bf_record *const *records = (const bf_record *const *)j->record;
    if (!rc)
        rc = cli_wants_json(j->figure.path)
                 ? bf_export_vega_profile(records, n, &j->style, j->figure.path, err)
                 : bf_render_profile(records, n, &j->style, j->figure.path, err);
    for (size_t k = 0; j->record && k < n; k++)
        bf_record_free(j->record[k]);
    free(j->record);
    free(j->input);
    cli_figure_end(&j->figure);
    return rc;
}

int cmd_profile(const cli_command *self, int argc, char **argv)
{
    job j = {.style = {.layer = -1}};
    cli_option options[5 + CLI_FIGURE_OPTIONS] = {
        {"parts", parse_parts, &j.style.parts, "A,B",
         "lag, reach, position, layer (default: all that\n"
         "the records have tensors for)"},
        {"site", cli_parse_text, &j.style.site, "S", "of lag and reach (default: resid_pre)"},
        {"score", cli_parse_text, &j.style.score, "C",
         "grad_norm, or grad_x_act: its magnitude\n"
         "(default: grad_norm)"},
        {"layer", cli_parse_index, &j.style.layer, "L",
         "of own and future by position (default: the\n"
         "mean over all)"},
        {"resamples", cli_parse_count, &j.style.resamples, "N", "of the bootstrap (default: 1000)"},
    };
    const size_t n = 5 + cli_figure_options(options + 5, &j.figure);
    const cli_syntax syntax = {options, n, "RECORD", &j.first, notes};
    bf_error err = {0};
    j.more.item = calloc(argc > 0 ? (size_t)argc : 1, sizeof *j.more.item);
    if (!j.more.item) {
        bf_fail(&err, BF_ENOMEM, "cannot hold the command line");
        return cli_fail(&err);
    }
    int code = cli_read_list(self, &syntax, &j.more, argc, argv);
    if (code == CLI_GO)
        code = cli_figure_misused(self, &j.figure);
    if (code == CLI_GO)
        code = draw(&j, self, argc, argv, &err) ? cli_fail(&err) : CLI_DONE;
    free(j.more.item);
    return code;
}
