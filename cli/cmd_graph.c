/* backflow graph: the ways of losses down through layers and positions, as a list and a picture. */
#include "cli/figure.h"

#include <stdlib.h>
#include <string.h>

static const char notes[] =
    "Prints the heaviest paths from token to loss: by which layer, head and key or value the flow\n"
    "passes from position to position, and which part of the flow takes this path. Between two "
    "such\n"
    "steps it stays on its position (stream, MLP, the attention's own position). In the picture,\n"
    "positions go across and layers up; the ending of FILE says what it is: svg, pdf, png, dot, "
    "or\n"
    "json for the viewers of Neuronpedia and circuit-tracer. Record with\n"
    "`trace --losses I --scores grad_norm,share,edge`: without the scores share and edge the flow "
    "is\n"
    "estimated, and the output says so. Definitions: docs/graphs.md.\n\n"
    "examples:\n"
    "  backflow graph run.safetensors --loss 17\n"
    "  backflow graph run.safetensors --loss 17 -o loss17.svg\n"
    "  backflow graph run.safetensors --loss 8:13 --keep 0.5 --label-heads -o losses.pdf\n"
    "  backflow graph run.safetensors --loss 17 --format neuronpedia -o loss17.json\n";

typedef struct {
    const char *record, *losses, *format;
    size_t top, paths;
    double keep;
    bool label_heads, json;
    cli_figure figure;
} job;

/* ---- paths as text and as JSON */

/* "17 " God"" */
static void print_token(const bf_record *record, size_t k)
{
    const bf_tensor *ids = bf_record_find(record, "tokens");
    printf("%zu ", k);
    if (k < bf_record_token_count(record)) {
        printf("\"");
        cli_print_visible(stdout, bf_record_token(record, k));
        printf("\"");
    } else if (ids && k < bf_tensor_count(ids)) {
        printf("#%.0f", bf_tensor_value(ids, k));
    }
}

/* Upwards, from the token to the loss. */
static void print_way(const bf_record *record, const bf_graph_way *way)
{
    printf("%6.2f %%  ", 100.0 * way->part);
    print_token(record, way->source);
    for (size_t k = way->n_steps; k-- > 0;) {
        const bf_graph_step *s = &way->step[k];
        printf(" -L%zu", s->layer);
        if (s->head != SIZE_MAX)
            printf(" head %zu", s->head);
        printf(" %s%s-> ", bf_graph_path_name(s->path), s->against ? " (against)" : "");
        print_token(record, s->from);
    }
    printf(" => ");
    print_token(record, bf_record_find(record, "masked") ? way->loss : way->loss + 1);
    printf("\n");
}

static const char *basis_words(bf_graph_basis basis)
{
    static const char *const words[] = {
        [BF_GRAPH_EDGES] = "measured (edge.value)",
        [BF_GRAPH_SHARES] = "shares measured, which position they came from estimated; "
                            "trace --scores edge measures it",
        [BF_GRAPH_NORMS] = "a rough guide from norms; trace --scores share,edge measures it"};
    return words[basis];
}

static void print_ways(const bf_record *record, const bf_graph_ways *ways)
{
    printf("%zu of %zu edges kept, whole paths of them carry %.1f %% of the flow\n", ways->kept,
           ways->edges, 100.0 * ways->carried);
    printf("the flow is %s\n", basis_words(ways->basis));
    if (ways->n)
        printf("\n    part  path: token -layer, head, key or value-> ... => predicted token\n");
    for (size_t k = 0; k < ways->n; k++)
        print_way(record, &ways->way[k]);
    if (ways->n)
        printf("%6.2f %%  in these %zu paths\n", 100.0 * ways->sum, ways->n);
}

static bf_code print_way_json(const bf_record *record, const bf_graph_way *way, bf_error *err)
{
    bf_code rc = BF_OK;
    printf("{\"part\": ");
    cli_print_json_number(way->part);
    printf(", \"source\": %zu, \"loss\": %zu, ", way->source, way->loss);
    if (way->source < bf_record_token_count(record)) {
        printf("\"source_token\": ");
        rc = cli_print_json_string(bf_record_token(record, way->source), err);
        printf(", ");
    }
    printf("\"steps\": [");
    for (size_t k = 0; k < way->n_steps; k++) {
        const bf_graph_step *s = &way->step[k];
        printf("%s{\"layer\": %zu, \"head\": ", k ? ", " : "", s->layer);
        if (s->head == SIZE_MAX)
            printf("null");
        else
            printf("%zu", s->head);
        printf(", \"path\": \"%s\", \"from\": %zu, \"to\": %zu, \"against\": %s}",
               bf_graph_path_name(s->path), s->from, s->to, s->against ? "true" : "false");
    }
    printf("]}");
    return rc;
}

static bf_code print_json(const bf_record *record, const bf_graph_style *style,
                          const bf_graph_ways *ways, bf_error *err)
{
    static const char *const basis[] = {
        [BF_GRAPH_EDGES] = "edges", [BF_GRAPH_SHARES] = "shares", [BF_GRAPH_NORMS] = "norms"};
    bf_code rc = BF_OK;
    printf("{\"losses\": [");
    for (size_t k = 0; k < style->n_losses; k++)
        printf("%s%zu", k ? ", " : "", style->losses[k]);
    printf("], \"basis\": \"%s\", \"edges\": %zu, \"kept\": %zu, \"carried\": ", basis[ways->basis],
           ways->edges, ways->kept);
    cli_print_json_number(ways->carried);
    printf(", \"paths\": [");
    for (size_t k = 0; k < ways->n && !rc; k++) {
        printf("%s", k ? ", " : "");
        rc = print_way_json(record, &ways->way[k], err);
    }
    printf("]}\n");
    return rc;
}

/* ---- the command */

static bf_code read_losses(size_t **losses, size_t *n, const bf_record *record, const char *text,
                           bf_error *err)
{
    const bf_tensor *pre = bf_record_find(record, "flow.resid_pre.grad_norm");
    if (!pre || pre->rank != 3 || !pre->dim[2])
        return bf_fail(err, BF_EARG, "the record has no tensor flow.resid_pre.grad_norm of three "
                                     "axes, which a graph needs");
    const bf_code rc = cli_parse_ranges(losses, n, text, pre->dim[2], "loss", err);
    return rc ? bf_error_prefix(err, rc, "--loss") : BF_OK;
}

static bf_code draw(const job *j, const bf_record *record, const bf_graph_style *style,
                    bf_error *err)
{
    const char *path = j->figure.path;
    if (!path)
        return BF_OK;
    return j->format ? bf_export_neuronpedia(record, style, path, err)
                     : bf_render_graph(record, style, path, err);
}

static bf_code graph(job *j, const cli_command *self, int argc, char **argv, bf_error *err)
{
    bf_record *record = NULL;
    bf_graph_ways ways = {0};
    size_t *losses = NULL, n = 0;
    bf_graph_style style = {.top = j->top, .keep = j->keep, .label_heads = j->label_heads};
    bf_code rc = bf_record_open(&record, j->record, err);
    if (!rc)
        rc = read_losses(&losses, &n, record, j->losses, err);
    style.losses = losses;
    style.n_losses = n;
    const cli_input input = {"record", j->record, NULL, record};
    if (!rc && j->figure.path)
        rc = cli_figure_look(&style.look, &j->figure, self, argc, argv, &input, 1, err);
    if (!rc)
        rc = bf_graph_find_ways(&ways, record, &style, j->paths, err);
    if (!rc)
        rc = draw(j, record, &style, err);
    if (!rc && j->json)
        rc = print_json(record, &style, &ways, err);
    else if (!rc)
        print_ways(record, &ways);
    bf_graph_ways_free(&ways);
    bf_record_free(record);
    free(losses);
    return rc;
}

static int misused(const cli_command *self, job *j)
{
    const char *path = j->figure.path;
    const bool json = cli_wants_json(path);
    if (!j->losses)
        return cli_misuse(self, "no --loss given, wanted the index of a loss, or several");
    if (j->keep > 1.0)
        return cli_misuse(self, "--keep: %g is above 1, wanted a part of the flow", j->keep);
    if (j->top && j->keep > 0.0)
        return cli_misuse(self, "--top and --keep are both given, wanted one of them");
    if (j->format && strcmp(j->format, "neuronpedia") != 0)
        return cli_misuse(self, "--format: unknown format \"%s\", wanted neuronpedia", j->format);
    if (j->format && !path)
        return cli_misuse(self, "--format is given without -o FILE");
    if (j->format && !json)
        return cli_misuse(self, "-o \"%s\": wanted a name that ends in .json", path);
    if (json)
        j->format = "neuronpedia";
    return path ? cli_figure_misused(self, &j->figure) : CLI_GO;
}

/* Looks of a figure, but for what a graph has not. */
static size_t add_looks(cli_option *to, cli_figure *figure)
{
    cli_option all[CLI_FIGURE_OPTIONS];
    const size_t n = cli_figure_options(all, figure);
    size_t added = 0;
    for (size_t k = 0; k < n; k++)
        if (strcmp(all[k].name, "palette") != 0 && strcmp(all[k].name, "o") != 0)
            to[added++] = all[k];
    to[added++] = (cli_option){"o", cli_parse_text, &figure->path, "FILE",
                               "where the picture goes: .svg, .pdf, .png, .dot; .json"};
    return added;
}

int cmd_graph(const cli_command *self, int argc, char **argv)
{
    job j = {.paths = 10};
    cli_option options[CLI_MAX_OPTIONS] = {
        {"loss", cli_parse_text, &j.losses, "I",
         "the loss, 0 is that of token 1; or several, 3,10:20\n"
         "(10 to 19), whose flows are added"},
        {"keep", cli_parse_positive, &j.keep, "P",
         "keep the heaviest edges, as few as carry this part\n"
         "of the flow down to the tokens, above 0 and at most 1\n"
         "(default: 0.9, but at most 250 edges between\n"
         "positions, 80 if there are over 48 positions)"},
        {"top", cli_parse_count, &j.top, "N",
         "keep the N heaviest edges between positions, and\n"
         "what stays on its position if as heavy"},
        {"paths", cli_parse_size, &j.paths, "N", "print the N heaviest paths (default: 10)"},
        {"label-heads", NULL, &j.label_heads, NULL, "write heads beside the edges"},
        {"format", cli_parse_text, &j.format, "F",
         "neuronpedia: the graph's JSON (FILE ends in .json)"},
        {"json", NULL, &j.json, NULL, "print the paths as JSON"},
    };
    const size_t n = 7 + add_looks(options + 7, &j.figure);
    const cli_syntax syntax = {options, n, "RECORD", &j.record, notes};
    int code = cli_read(self, &syntax, argc, argv);
    if (code == CLI_GO)
        code = misused(self, &j);
    if (code != CLI_GO)
        return code;
    bf_error err = {0};
    code = graph(&j, self, argc, argv, &err) ? cli_fail(&err) : CLI_DONE;
    cli_figure_end(&j.figure);
    return code;
}
