/* backflow verify: decide claims, and say on what evidence. */
#include "cli/verify.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

static const char notes[] =
    "Without arguments the claims that come with backflow are decided, C1 to C13, on the bundled "
    "model,\n"
    "on random models, and on results of training that are kept beside the claims. With a MODEL "
    "those\n"
    "that can be asked of any model are decided on it, on your text (or on bundled ones, if it has "
    "a\n"
    "tokenizer). CLAIM.json is a claim of your own: docs/claims.schema.json, examples/claims/.\n"
    "\n"
    "Verdicts: holds, refuted, depends (on the condition that is said), measured (a question of "
    "how\n"
    "much), open (what would decide is not there). Numbers in brackets are 95 % intervals.\n"
    "Exit: 0 all is as the claims expect (or, where they expect nothing, not refuted); 1 it is "
    "not;\n"
    "2 misused, bad input or failed.\n"
    "\n"
    "examples:\n"
    "  backflow verify\n"
    "  backflow verify C2 C4 --json >verdicts.json\n"
    "  backflow verify ./gpt2 --file story.txt --junit verdicts.xml\n"
    "  backflow verify examples/claims/own_windows.json\n"
    "  backflow verify --full        (hours of training; stop it and start it again at will)\n";

enum { BUNDLED = 13 };

/* ---- which claims */

static bool is_number(const char *arg)
{
    return (arg[0] == 'C' || arg[0] == 'c') && isdigit((unsigned char)arg[1]) &&
           strspn(arg + 1, "0123456789") == strlen(arg + 1);
}

static bool is_claim(const char *arg)
{
    const size_t n = strlen(arg);
    return is_number(arg) || (n > 5 && strcmp(arg + n - 5, ".json") == 0);
}

static bf_code open_claims(verify_run *run, bf_error *err)
{
    const size_t n = run->n_claims ? run->n_claims : BUNDLED;
    bf_code rc = BF_OK;
    run->one = calloc(n, sizeof *run->one);
    if (!run->one)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu claims", n);
    for (size_t k = 0; k < n && !rc; k++) {
        char id[32];
        bf_claim *claim = NULL;
        snprintf(id, sizeof id, "C%zu", k + 1);
        rc = bf_claim_open(&claim, run->n_claims ? run->claims[k] : id, err);
        if (rc)
            break;
        if (run->model && !bf_claim_for_any_model(claim)) {
            if (run->n_claims)
                rc = bf_fail(err, BF_EARG,
                             "%.200s: nothing in this claim can be asked of any model "
                             "(\"any_model\": true)",
                             bf_claim_path(claim));
            bf_claim_free(claim);
            continue;
        }
        run->one[run->n++].claim = claim;
    }
    return rc;
}

/* ---- deciding */

typedef struct {
    cli_meter meter;
    const char *id;
    size_t k, n;
} teller;

static void tell(void *context, const char *stage, double done, double seconds_left)
{
    teller *t = context;
    char words[160];
    (void)seconds_left;
    snprintf(words, sizeof words, "%s (%zu of %zu) %.80s", t->id, t->k, t->n, stage);
    cli_meter_say(&t->meter, words, done, 0.0);
}

static void say_one(const verify_one *one)
{
    char time[32];
    const bf_decided *d = one->decided;
    fprintf(stderr, "backflow: ");
    cli_print_visible(stderr, bf_claim_id(one->claim));
    fprintf(stderr, ": %s%s, %s\n", bf_verdict_name(d->verdict),
            !d->judged      ? ""
            : d->surprising ? ", which was not expected"
                            : " as expected",
            cli_time_words(time, d->seconds));
}

static bf_code decide_all(verify_run *run, const char *text, bf_error *err)
{
    teller t = {.n = run->n};
    const char *texts[] = {text};
    bf_code rc = BF_OK;
    bf_claim_query q = {.model = run->model,
                        .texts = text ? texts : NULL,
                        .n_texts = text != NULL,
                        .results = run->results,
                        .seed = run->seed,
                        .memory = run->memory,
                        .threads = run->threads,
                        .stop = cli_stop()};
    cli_meter_start(&t.meter);
    if (!run->quiet) {
        q.progress = tell;
        q.progress_context = &t;
    }
    cli_patient(true);
    for (size_t k = 0; k < run->n && !rc; k++) {
        t.id = bf_claim_id(run->one[k].claim);
        t.k = k + 1;
        rc = bf_claim_decide(&run->one[k].decided, run->one[k].claim, &q, err);
        cli_meter_clear(&t.meter);
        if (!rc && !run->quiet)
            say_one(&run->one[k]);
    }
    cli_patient(false);
    return *cli_stop() ? bf_fail(err, BF_EINTERRUPTED, "interrupted, nothing was written") : rc;
}

/* ---- training what verdicts rest on */

static void tell_training(void *context, const char *words, double done)
{
    teller *t = context;
    if (done < 1.0) {
        cli_meter_say(&t->meter, words, done, 0.0);
        return;
    }
    cli_meter_clear(&t->meter);
    fprintf(stderr, "backflow: ");
    cli_print_visible(stderr, words);
    fprintf(stderr, "\n");
}

/* "folder/name"; free(). */
static char *inside(const char *folder, const char *name)
{
    bf_buf path = {0};
    bf_buf_printf(&path, "%s/%s", folder, name);
    return path.failed ? NULL : path.data;
}

static bf_code train_all(const verify_run *run, bf_error *err)
{
    teller t = {.n = 0};
    char *claims = NULL, *folder = NULL, *results = NULL;
    bf_code rc = bf_claim_folder(&claims, err);
    if (!rc) {
        folder = inside(claims, "full");
        results = run->results ? NULL : inside(claims, "results");
    }
    if (!rc && (!folder || (!results && !run->results)))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a path");
    const bf_full_query q = {.folder = folder,
                             .results = run->results ? run->results : results,
                             .work = run->work ? run->work : "backflow-full",
                             .only = run->only,
                             .seeds = run->seeds,
                             .command = "backflow verify --full",
                             .memory = run->memory,
                             .threads = run->threads,
                             .tell = run->quiet ? NULL : tell_training,
                             .tell_context = &t,
                             .stop = cli_stop()};
    cli_meter_start(&t.meter);
    cli_patient(true);
    if (!rc)
        rc = bf_claims_train(&q, err);
    cli_patient(false);
    cli_meter_clear(&t.meter);
    free(claims);
    free(folder);
    free(results);
    return *cli_stop()
               ? bf_fail(err, BF_EINTERRUPTED, "interrupted; the same command goes on from here")
               : rc;
}

static int exit_code(const verify_run *run)
{
    for (size_t k = 0; k < run->n; k++)
        if (run->one[k].decided->surprising)
            return CLI_REFUTED;
    return CLI_DONE;
}

static int verify(verify_run *run)
{
    bf_error err = {0};
    bf_buf text = {0};
    bf_code rc = open_claims(run, &err);
    if (!rc && run->full)
        rc = train_all(run, &err);
    const bool decide = !run->only; /* some of the training alone: more is to come */
    if (!rc && (run->text || run->file))
        rc = cli_read_text(&text, run->text, run->file, &err);
    if (!rc && decide)
        rc = decide_all(run, text.data, &err);
    if (!rc && run->json) /* not with --only */
        rc = verify_print_json(run, &err);
    else if (!rc && decide)
        verify_print_table(run);
    if (!rc && run->junit)
        rc = verify_write_junit(run, &err);
    if (!rc && run->write)
        rc = verify_write_page(run, &err);
    const int code = rc ? cli_fail(&err) : decide ? exit_code(run) : CLI_DONE;
    for (size_t k = 0; k < run->n; k++) {
        bf_decided_free(run->one[k].decided);
        bf_claim_free(run->one[k].claim);
    }
    free(run->one);
    bf_buf_free(&text);
    return code;
}

/* ---- arguments */

/* Does the value of this option stand in the next argument? */
static bool wants_next(const char *arg, const cli_option *options, size_t n)
{
    for (size_t k = 0; k < n; k++)
        if (options[k].parse && strncmp(arg, "--", 2) == 0 && strcmp(arg + 2, options[k].name) == 0)
            return true;
    return false;
}

/* Claims and the model leave argv; rest [argc + 1] is what remains, *n of it, with a positional for
 * cli_read, which wants one. */
static int take_arguments(const cli_command *self, verify_run *run, char **rest, int *n, int argc,
                          char **argv, const cli_option *options, size_t n_options)
{
    bool ended = false;
    static char some[] = "claims";
    *n = 0;
    rest[(*n)++] = some;
    for (int k = 0; k < argc; k++) {
        const bool dash = !ended && argv[k][0] == '-' && argv[k][1] != '\0';
        if (dash && strcmp(argv[k], "--") == 0) {
            ended = true;
        } else if (dash) {
            rest[(*n)++] = argv[k];
            if (wants_next(argv[k], options, n_options) && k + 1 < argc)
                rest[(*n)++] = argv[++k];
        } else if (is_claim(argv[k])) {
            run->claims[run->n_claims++] = argv[k];
        } else if (run->model) {
            return cli_misuse(self, "unexpected argument \"%s\" after MODEL \"%s\"", argv[k],
                              run->model);
        } else if (!*argv[k]) {
            return cli_misuse(self, "MODEL is empty");
        } else {
            run->model = argv[k];
        }
    }
    return CLI_GO;
}

static int misused(const cli_command *self, const verify_run *run)
{
    if (run->text && run->file)
        return cli_misuse(self, "--text and --file both given, wanted one of them");
    if ((run->text || run->file) && !run->model)
        return cli_misuse(self, "--text and --file are for a MODEL, none is given");
    if (run->write && (run->model || run->n_claims))
        return cli_misuse(self, "--write is for the claims that come with backflow, all of them");
    if (!run->full && (run->work || run->only || run->seeds))
        return cli_misuse(self, "--work, --only and --seeds are for --full");
    if (run->only && (run->write || run->junit || run->json))
        return cli_misuse(self, "--only trains and decides nothing: no --write, --junit, --json");
    if (run->full && (run->model || run->n_claims))
        return cli_misuse(
            self, "--full makes the results of the claims that come with backflow: no MODEL, "
                  "no CLAIM");
    return CLI_GO;
}

static int go(const cli_command *self, verify_run *run)
{
    bf_error err = {0};
    const int code = misused(self, run);
    if (code != CLI_GO)
        return code;
    if (run->measures) {
        const bf_code rc = verify_print_measures(run->json, &err);
        return rc ? cli_fail(&err) : CLI_DONE;
    }
    return verify(run);
}

int cmd_verify(const cli_command *self, int argc, char **argv)
{
    verify_run run = {0};
    const char *unused = NULL;
    const cli_option options[] = {
        {"text", cli_parse_any_text, &run.text, "T", "for MODEL: ask about this text"},
        {"file", cli_parse_text, &run.file, "F",
         "for MODEL: the text of this file (-: standard input)"},
        {"measures", NULL, &run.measures, NULL, "list what can be measured, and stop"},
        {"full", NULL, &run.full, NULL,
         "first train what verdicts rest on and is not kept\n"
         "yet; stop it and start it again at will"},
        {"work", cli_parse_text, &run.work, "DIR", "--full: train here (default: backflow-full)"},
        {"only", cli_parse_text, &run.only, "NAME", "--full: only groups whose name begins so; then stop"},
        {"seeds", cli_parse_count, &run.seeds, "N", "--full: only the first N seeds of each group"},
        {"results", cli_parse_text, &run.results, "DIR",
         "kept results of training (default: results/\nbeside the claim)"},
        {"junit", cli_parse_text, &run.junit, "FILE", "write verdicts as a JUnit file, too"},
        {"write", cli_parse_text, &run.write, "FILE",
         "write all answers with their figures as a page\n(Markdown; figures go into claims/ "
         "beside it)"},
        {"seed", cli_parse_size, &run.seed, "N", "of all that is drawn (default: 0)"},
        {"memory", cli_parse_bytes, &run.memory, "M",
         "room for activations and gradients (default: 4G)"},
        {"threads", cli_parse_count, &run.threads, "N",
         "default: as many as the machine has;\nthe numbers are the same for any"},
        {"json", NULL, &run.json, NULL, "print verdicts and all numbers as JSON"},
        {"quiet", NULL, &run.quiet, NULL, "no progress on standard error"},
    };
    const size_t n_options = sizeof options / sizeof *options;
    const cli_syntax syntax = {options, n_options, "CLAIM", &unused, notes};
    const size_t room = (size_t)(argc > 0 ? argc : 0) + 2;
    char **rest = calloc(room, sizeof *rest);
    int n = 0, code;
    run.claims = calloc(room, sizeof *run.claims);
    if (rest && run.claims) {
        code = take_arguments(self, &run, rest, &n, argc, argv, options, n_options);
        if (code == CLI_GO)
            code = cli_read(self, &syntax, n, rest);
        if (code == CLI_GO)
            code = go(self, &run);
    } else {
        const bf_error err = {BF_ENOMEM, "cannot hold the command line"};
        code = cli_fail(&err);
    }
    free(rest);
    free(run.claims);
    return code;
}
