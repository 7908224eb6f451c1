/* backflow find: heads by what they carry from later losses to earlier tokens, and their names. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backflow/find.h"
#include "backflow/heads.h"
#include "cli/figure.h"
#include "cli/find_texts.h"

static const char notes[] =
    "Of all that later losses send to the embeddings of earlier tokens, \"carried\" is the part\n"
    "that the head moved from position to position, by its keys (k) and its values (v); \"way\" is\n"
    "its part of the distance, which adds up to 100 % over all heads; \"of layer\" its part of what\n"
    "reaches earlier tokens at its layer's input; \"lag\" how many tokens far it carries. Intervals\n"
    "are of 95 %, by the bootstrap over texts. A name stands where a test says so (docs/heads.md):\n"
    "previous-token, current-token and sink by the texts, duplicate-token and induction by random\n"
    "tokens said twice.\n"
    "\n"
    "examples:\n"
    "  backflow find kjv-1m genesis.txt exodus.txt -o heads.svg\n"
    "  backflow find ./gpt2 stories.txt --split blank --texts 200 --json >heads.json\n";

enum { TOKENS = 128, TEXTS = 64 };

typedef struct {
    const char *model;
    const char **files; /* [n_files] */
    size_t n_files;
    cli_split split;
    size_t tokens, texts, top;
    size_t seed;
    const char *path; /* of the figure, or NULL */
    bool json, quiet;
    bf_find_query query;
    const cli_command *self; /* for the figure's provenance */
    int argc;
    char **argv;
} find_run;

/* ---- the table */

static void print_part(double part)
{
    if (isfinite(part))
        printf(" %7.2f", 100.0 * part);
    else
        printf(" %7s", "-");
}

static void print_names(const bf_found_head *head)
{
    size_t said = 0;
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++) {
        const bf_head_test *test = &head->test[name];
        const bf_head_kind *kind = bf_head_kind_of(name);
        const bf_estimate *decides = kind->random ? &test->random : &test->text;
        if (!test->named)
            continue;
        printf("%s%s %.2f [%.2f, %.2f]", said++ ? ", " : "  ", kind->name, decides->mean,
               decides->low, decides->high);
        if (kind->random && isfinite(test->text.mean))
            printf(" (in texts %.2f)", test->text.mean);
    }
    printf("\n");
}

static void print_table(const bf_found *found, size_t top)
{
    printf("%-6s %7s %17s %7s %7s %7s %8s %6s  %s\n", "head", "carried", "95 % interval", "by k",
           "by v", "way", "of layer", "lag", "names");
    for (size_t k = 0; k < top; k++) {
        const bf_found_head *h = &found->head[k];
        char name[48], interval[64];
        snprintf(name, sizeof name, "%zu.%zu", h->layer, h->head);
        snprintf(interval, sizeof interval, "[%.2f, %.2f]", 100.0 * h->carried.low,
                 100.0 * h->carried.high);
        printf("%-6s", name);
        print_part(h->carried.mean);
        printf(" %17s", interval);
        print_part(h->by_k.mean);
        print_part(h->by_v.mean);
        print_part(h->way.mean);
        printf(" ");
        print_part(h->of_layer.mean);
        if (isfinite(h->lag))
            printf(" %6.1f", h->lag);
        else
            printf(" %6s", "-");
        print_names(h);
    }
}

/* ---- JSON */

static void print_estimate(const char *key, const bf_estimate *e)
{
    printf(", \"%s\": {\"mean\": ", key);
    cli_print_json_number(e->mean);
    printf(", \"low\": ");
    cli_print_json_number(e->low);
    printf(", \"high\": ");
    cli_print_json_number(e->high);
    printf("}");
}

static void print_number(const char *key, double value)
{
    printf(", \"%s\": ", key);
    cli_print_json_number(value);
}

static void print_tests(const bf_found_head *head)
{
    size_t said = 0;
    printf(", \"names\": [");
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++)
        if (head->test[name].named)
            printf("%s\"%s\"", said++ ? ", " : "", bf_head_kind_of(name)->name);
    printf("], \"tests\": {");
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++) {
        const bf_head_test *test = &head->test[name];
        printf("%s\"%s\": {\"named\": %s", name ? ", " : "", bf_head_kind_of(name)->name,
               test->named ? "true" : "false");
        print_estimate("text", &test->text);
        print_estimate("random", &test->random);
        print_number("chance", test->chance);
        print_number("p", test->p);
        printf("}");
    }
    printf("}");
}

static void print_kinds(const bf_found *found)
{
    printf(", \"kinds\": {");
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++) {
        const bf_head_kind *kind = bf_head_kind_of(name);
        printf("%s\"%s\": {\"threshold\": ", name ? ", " : "", kind->name);
        cli_print_json_number(kind->threshold);
        printf(", \"decided_on\": \"%s\", \"text_queries\": %zu, \"random_queries\": %zu}",
               kind->random ? "random" : "text", found->queries[name][0], found->queries[name][1]);
    }
    printf("}");
}

static bf_code print_json(const find_run *run, const bf_found *found, size_t top, bf_error *err)
{
    printf("{\"model\": ");
    const bf_code rc = cli_print_json_string(run->model, err);
    printf(
        ", \"layers\": %zu, \"heads_per_layer\": %zu, \"texts\": %zu, \"random_sequences\": %zu, "
        "\"losses\": %zu, \"pairs\": %zu, \"seed\": %zu",
        found->layers, found->heads, found->texts, found->sequences, found->losses, found->pairs,
        run->seed);
    print_number("residual", found->residual);
    print_kinds(found);
    printf(", \"heads\": [");
    for (size_t k = 0; k < top; k++) {
        const bf_found_head *h = &found->head[k];
        printf("%s\n{\"layer\": %zu, \"head\": %zu", k ? "," : "", h->layer, h->head);
        print_estimate("carried", &h->carried);
        print_estimate("by_k", &h->by_k);
        print_estimate("by_v", &h->by_v);
        print_estimate("way", &h->way);
        print_estimate("of_layer", &h->of_layer);
        print_number("lag", h->lag);
        print_tests(h);
        printf("}");
    }
    printf("\n]}\n");
    return rc;
}

/* ---- the figure */

static void describe(bf_buf *note, bf_buf *legend, const bf_found *found)
{
    size_t count[BF_HEAD_NAMES] = {0}, said = 0;
    bf_buf_printf(note, "%zu texts, %zu losses", found->texts, found->losses);
    if (found->sequences)
        bf_buf_printf(note, "; names also by %zu sequences of random tokens said twice",
                      found->sequences);
    for (size_t k = 0; k < found->layers * found->heads; k++)
        for (unsigned name = 0; name < BF_HEAD_NAMES; name++)
            count[name] += found->head[k].test[name].named;
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++)
        if (count[name])
            bf_buf_printf(legend, "%s%c %s (%zu)", said++ ? " · " : "",
                          bf_head_kind_of(name)->initial, bf_head_kind_of(name)->name, count[name]);
    if (!said)
        bf_buf_text(legend, "no head is named");
}

/* The model and all texts, for the figure. */
static bf_code describe_run(bf_buf *out, const find_run *run, bf_model *model, bf_error *err)
{
    cli_input *inputs = calloc(run->n_files + 1, sizeof *inputs);
    if (!inputs)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu files", run->n_files);
    inputs[0] = (cli_input){.kind = "model", .path = run->model};
    for (size_t k = 0; k < run->n_files; k++)
        inputs[k + 1] = (cli_input){.kind = "file", .path = run->files[k]};
    bf_code rc = bf_model_sha256(&inputs[0].sha256, model, err);
    if (!rc)
        rc = cli_provenance(out, run->self, run->argc, run->argv, inputs, run->n_files + 1, err);
    free(inputs);
    return rc;
}

static bf_code draw(const find_run *run, bf_model *model, const bf_found *found, bf_error *err)
{
    typedef char initials[BF_HEAD_NAMES + 1];
    const size_t heads = found->layers * found->heads;
    double *value = calloc(heads, sizeof *value);
    initials *letters = calloc(heads, sizeof *letters);
    const char **marks = calloc(heads, sizeof *marks);
    bf_buf title = {0}, note = {0}, legend = {0};
    bf_code rc = BF_OK;
    bf_buf_printf(&title, "%s: what heads carry from later losses to earlier tokens",
                  bf_model_dims(model)->name);
    describe(&note, &legend, found);
    if (!value || !letters || !marks || title.failed || note.failed || legend.failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a figure of %zu heads", heads);
    for (size_t k = 0; k < heads && !rc; k++) {
        const bf_found_head *h = &found->head[k];
        const size_t at = h->layer * found->heads + h->head;
        size_t n = 0;
        value[at] = 100.0 * h->carried.mean;
        for (unsigned name = 0; name < BF_HEAD_NAMES; name++)
            if (h->test[name].named)
                letters[at][n++] = bf_head_kind_of(name)->initial;
        marks[at] = letters[at];
    }
    bf_heads_figure figure = {
        .layers = found->layers,
        .heads = found->heads,
        .value = value,
        .marks = marks,
        .title = title.data,
        .note = note.data,
        .legend = legend.data,
        .quantity = "carried (% of the flow from later losses to earlier tokens' embeddings)"};
    bf_buf provenance = {0};
    if (!rc)
        rc = describe_run(&provenance, run, model, err);
    figure.look.provenance = provenance.data;
    if (!rc)
        rc = bf_render_heads(&figure, run->path, err);
    bf_buf_free(&provenance);
    free(value);
    free(letters);
    free(marks);
    bf_buf_free(&title);
    bf_buf_free(&note);
    bf_buf_free(&legend);
    return rc;
}

/* ---- the run */

static void say_summary(const find_run *run, const cli_texts *texts, const bf_found *found)
{
    fprintf(stderr, "backflow: %zu of %zu texts", found->texts, texts->found);
    if (texts->too_short)
        fprintf(stderr, " (%zu more had fewer than %d tokens)", texts->too_short,
                (int)CLI_LEAST_TOKENS);
    fprintf(stderr, ", %zu losses, %zu pairs j < i; flow gone astray: %.1e\n", found->losses,
            found->pairs, found->residual);
    if (!found->sequences)
        fprintf(stderr,
                "backflow: the model is too small for random sequences, so none of its heads can "
                "be named duplicate-token or induction\n");
    if (run->path) {
        fprintf(stderr, "backflow: figure: ");
        cli_print_visible(stderr, run->path);
        fprintf(stderr, "\n");
    }
}

static bf_code trace_all(bf_found **found, find_run *run, bf_model *model, const cli_texts *texts,
                         bf_error *err)
{
    cli_meter meter;
    bf_find_query *q = &run->query;
    q->texts = texts->texts;
    q->lengths = texts->lengths;
    q->n_texts = texts->n;
    q->begin = texts->begin;
    q->n_begin = texts->n_begin;
    q->seed = run->seed;
    q->stop = cli_stop();
    cli_meter_start(&meter);
    if (!run->quiet) {
        q->progress = cli_meter_say;
        q->progress_context = &meter;
    }
    cli_patient(true);
    const bf_code rc = bf_find(found, model, q, err);
    cli_patient(false);
    cli_meter_clear(&meter);
    return *cli_stop() ? bf_fail(err, BF_EINTERRUPTED, "interrupted, nothing was written") : rc;
}

/* Can a figure be written there? Better known before the work than after. */
static bf_code check_target(const char *path, bf_error *err)
{
    char *tmp = NULL;
    const bf_code rc = bf_tmp_open(&tmp, path, err);
    if (!rc)
        bf_tmp_discard(tmp);
    return rc;
}

/* How long texts are, and that there are enough. */
static bf_code get_texts(cli_texts *texts, find_run *run, bf_model *model, bf_error *err)
{
    const size_t P = bf_model_dims(model)->P;
    if (!run->tokens)
        run->tokens = P < TOKENS ? P : TOKENS;
    if (run->tokens < CLI_LEAST_TOKENS || run->tokens - 1 > P)
        return bf_fail(err, BF_EARG,
                       "texts of %zu tokens, wanted %d to %zu (the model knows %zu positions)",
                       run->tokens, (int)CLI_LEAST_TOKENS, P + 1, P);
    const bf_code rc = cli_texts_read(texts, model, run->files, run->n_files, run->split,
                                      run->tokens, run->texts, err);
    if (!rc && texts->n < 2)
        return bf_fail(err, BF_EARG,
                       "%zu text%s of %d tokens or more in %zu file%s, wanted at least 2", texts->n,
                       texts->n == 1 ? "" : "s", (int)CLI_LEAST_TOKENS, run->n_files,
                       run->n_files == 1 ? "" : "s");
    return rc;
}

static int find(find_run *run)
{
    bf_error err = {0};
    bf_model *model = NULL;
    bf_found *found = NULL;
    cli_texts texts = {0};
    bf_code rc = run->path ? check_target(run->path, &err) : BF_OK;
    if (!rc)
        rc = bf_model_open(&model, run->model, &err);
    if (!rc)
        rc = get_texts(&texts, run, model, &err);
    if (!rc)
        rc = trace_all(&found, run, model, &texts, &err);
    if (!rc) {
        const size_t heads = found->layers * found->heads;
        const size_t top = run->top && run->top < heads ? run->top : heads;
        if (run->json)
            rc = print_json(run, found, top, &err);
        else
            print_table(found, top);
    }
    if (!rc && run->path)
        rc = draw(run, model, found, &err);
    if (!rc && !run->quiet)
        say_summary(run, &texts, found);
    bf_found_free(found);
    cli_texts_free(&texts);
    bf_model_free(model);
    return rc ? cli_fail(&err) : CLI_DONE;
}

/* ---- arguments */

/* Does the value of this option stand in the next argument? */
static bool wants_next(const char *arg, const cli_option *options, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const char *name = options[k].name;
        const size_t dashes = name[1] ? 2 : 1;
        if (options[k].parse && strncmp(arg, "--", dashes) == 0 && strcmp(arg + dashes, name) == 0)
            return true;
    }
    return false;
}

/* Move all positional arguments but the first from argv to the run's files: cli_read takes one.
 * rest  [argc] what is left, *n of it */
static void take_files(find_run *run, char **rest, int *n, int argc, char **argv,
                       const cli_option *options, size_t n_options)
{
    bool ended = false, model = false;
    *n = 0;
    for (int k = 0; k < argc; k++) {
        const bool dash = !ended && argv[k][0] == '-' && argv[k][1] != '\0';
        if (!dash && model) {
            run->files[run->n_files++] = argv[k];
            continue;
        }
        rest[(*n)++] = argv[k];
        if (dash && strcmp(argv[k], "--") == 0)
            ended = true;
        else if (!dash)
            model = true;
        else if (wants_next(argv[k], options, n_options) && k + 1 < argc)
            rest[(*n)++] = argv[++k];
    }
}

static bool is_picture(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot &&
           (!strcasecmp(dot, ".png") || !strcasecmp(dot, ".svg") || !strcasecmp(dot, ".pdf"));
}

static int misused(const cli_command *self, const find_run *run)
{
    if (!run->n_files)
        return cli_misuse(self, "no FILE given, wanted texts to trace (backflow find --help)");
    for (size_t k = 0; k < run->n_files; k++)
        if (!*run->files[k])
            return cli_misuse(self, "FILE %zu is empty", k + 1);
    if (run->path && !is_picture(run->path))
        return cli_misuse(self, "-o: \"%s\" does not end in .png, .svg or .pdf", run->path);
    return CLI_GO;
}

int cmd_find(const cli_command *self, int argc, char **argv)
{
    find_run run = {.texts = TEXTS, .self = self, .argc = argc, .argv = argv};
    bf_find_query *q = &run.query;
    const cli_option options[] = {
        {"split", cli_parse_split, &run.split, "S",
         "what a text is: tokens (so many after each other),\n"
         "blank (up to a blank line), file (default: tokens)"},
        {"tokens-per-text", cli_parse_count, &run.tokens, "N", "at most (default: 128)"},
        {"texts", cli_parse_count, &run.texts, "N",
         "at most, evenly spread over all there are\n"
         "(default: 64)"},
        {"losses-per-text", cli_parse_count, &q->losses, "N", "drawn at random (default: 32)"},
        {"sequences", cli_parse_count, &q->sequences, "N",
         "of random tokens said twice (default: 32)"},
        {"resamples", cli_parse_count, &q->resamples, "N", "of the bootstrap (default: 1000)"},
        {"seed", cli_parse_size, &run.seed, "N", "of all that is drawn (default: 0)"},
        {"top", cli_parse_count, &run.top, "N", "print the first N heads (default: all)"},
        {"o", cli_parse_text, &run.path, "FILE", "draw all heads: .png, .svg or .pdf"},
        {"precision", cli_parse_precision, &q->precision, "P", "f32, f64 or bf16 (default: f32)"},
        {"memory", cli_parse_bytes, &q->memory, "M",
         "room for activations and gradients: 512M, 1.5G\n"
         "(default: 4G); weights and edges come on top"},
        {"threads", cli_parse_count, &q->threads, "N",
         "default: as many as the machine has;\n"
         "the numbers are the same for any"},
        {"json", NULL, &run.json, NULL, "print all tests as JSON"},
        {"quiet", NULL, &run.quiet, NULL, "no progress or summary on standard error"},
    };
    const cli_syntax syntax = {options, sizeof options / sizeof *options, "MODEL", &run.model,
                               notes};
    const size_t room = argc > 0 ? (size_t)argc : 1;
    char **rest = calloc(room, sizeof *rest);
    int n = 0, code;
    run.files = calloc(room, sizeof *run.files);
    if (rest && run.files) {
        take_files(&run, rest, &n, argc, argv, options, sizeof options / sizeof *options);
        code = cli_read(self, &syntax, n, rest);
        if (code == CLI_GO)
            code = misused(self, &run);
        if (code == CLI_GO)
            code = find(&run);
    } else {
        const bf_error err = {BF_ENOMEM, "cannot hold the command line"};
        code = cli_fail(&err);
    }
    free(rest);
    free(run.files);
    return code;
}
