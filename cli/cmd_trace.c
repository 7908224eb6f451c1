/* backflow trace: a model and a text to a record. */
#include "cli/terminal.h"

#include <math.h>
#include <sys/stat.h>

static const char notes[] =
    "Loss i is that of predicting token i+1 from tokens 0 to i. FILE is a safetensors file that\n"
    "numpy, torch and jax open: attn, loss, tokens, flow.SITE.SCORE [layer, (head,) loss,\n"
    "position]. --check measures, too, that rows add up to the ordinary backward pass, that\n"
    "nothing flows to later positions, and that the flow predicts what small changes do; if one\n"
    "fails, nothing is written.\n"
    "\n"
    "examples:\n"
    "  backflow trace kjv-1m --text 'In the beginning God created' --show\n"
    "  backflow trace kjv-1m --text 'In the beginning God created' -o run.safetensors\n"
    "  backflow trace ./gpt2 --file story.txt --losses 40:50 --sites resid_pre,v -o r.safetensors\n"
    "  backflow trace ./gpt2 --file story.txt --dry-run\n";

/* What stands at path may be replaced if it is a record, or empty: never somebody's weights. */
static bf_code check_target(const char *path, bf_error *err)
{
    struct stat st;
    bf_record *old = NULL;
    if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size == 0)
        return BF_OK;
    const bf_code rc = bf_record_open(&old, path, NULL);
    const bool record = !rc && bf_record_meta(old, "backflow_record");
    bf_record_free(old);
    if (!record)
        return bf_fail(err, BF_EARG,
                       "%.300s: exists and is no record of backflow's, it is not replaced", path);
    return BF_OK;
}

static void say_summary(const bf_record *record, const char *path, double seconds)
{
    const bf_tensor *chosen = bf_record_find(record, "losses");
    const double mean = cli_mean_loss(record);
    char words[32];
    fprintf(stderr, "backflow: %zu losses, mean %.3f nats (perplexity %.2f), %s%s",
            bf_tensor_count(chosen ? chosen : bf_record_find(record, "loss")), mean, exp(mean),
            cli_time_words(words, seconds), path ? ": " : "");
    cli_print_visible(stderr, path ? path : "");
    fprintf(stderr, "\n");
}

static bf_code print_json(const bf_record *record, const char *path, const bf_check *checks,
                          size_t n_checks, bf_error *err)
{
    printf("{\"record\": ");
    bf_code rc = cli_print_json_string(path, err);
    printf(", \"mean_loss\": ");
    cli_print_json_number(cli_mean_loss(record));
    printf(", \"checks\": ");
    if (!rc)
        rc = cli_print_checks_json(checks, n_checks, err);
    printf("}\n");
    return rc;
}

/* Where a trace goes. */
typedef struct {
    const char *path; /* NULL: nowhere but the terminal */
    bool show;
    cli_color color;
} outputs;

static int trace(cli_run *run, const outputs *to, const char *command)
{
    const char *path = to->path;
    bf_error err = {0};
    bf_check checks[8];
    bf_record *record = NULL;
    size_t n_checks = 0;
    const double start = cli_now();
    bf_code rc = cli_run_trace(&record, run, path, checks, &n_checks, &err);
    if (!rc && run->check && !run->json)
        cli_print_checks(stdout, checks, n_checks);
    const bool held = rc || cli_checks_hold(checks, n_checks);
    if (!rc)
        rc = bf_record_set_meta(record, "command", command, &err);
    if (!rc && run->json)
        rc = print_json(record, path, checks, n_checks, &err);
    if (!rc && held && to->show)
        rc = cli_show(record, to->color, &err);
    if (!rc && held && path)
        rc = bf_record_commit(record, &err);
    if (!rc && held && !run->quiet)
        say_summary(record, path, cli_now() - start);
    bf_record_free(record);
    return rc ? cli_fail(&err) : held ? CLI_DONE : CLI_REFUTED;
}

static int run_trace(cli_run *run, const char *model, const outputs *to, const char *command)
{
    bf_error err = {0};
    bf_code rc = to->path ? check_target(to->path, &err) : BF_OK;
    if (!rc)
        rc = cli_run_open(run, model, &err);
    if (rc)
        return cli_fail(&err);
    if (run->dry_run) {
        cli_print_plan(run);
        return CLI_DONE;
    }
    return trace(run, to, command);
}

int cmd_trace(const cli_command *self, int argc, char **argv)
{
    cli_run run = {0};
    outputs to = {0};
    const char *model = NULL;
    cli_option options[CLI_MAX_OPTIONS];
    size_t n = cli_run_options(options, &run);
    options[n++] = (cli_option){"check", NULL, &run.check, NULL,
                                "measure the identities of this run and\n"
                                "print them"};
    n += cli_show_options(options + n, &to.show, &to.color);
    options[n++] = (cli_option){"o", cli_parse_text, &to.path, "FILE", "where the record goes"};
    const cli_syntax syntax = {options, n, "MODEL", &model, notes};
    int code = cli_read(self, &syntax, argc, argv);
    if (code == CLI_GO)
        code = cli_run_misused(self, &run);
    if (code == CLI_GO && !to.path && !to.show && !run.dry_run)
        code = cli_misuse(self, "no -o FILE given, wanted a place for the record (or --show)");
    if (code == CLI_GO && to.show && run.json)
        code = cli_misuse(self, "--show and --json are both given, wanted one of them");
    if (code != CLI_GO)
        return code;
    bf_buf command = {0};
    cli_command_line(&command, self, argc, argv);
    if (command.failed) {
        const bf_error err = {BF_ENOMEM, "cannot hold the command line"};
        code = cli_fail(&err);
    } else {
        code = run_trace(&run, model, &to, command.data);
    }
    cli_run_end(&run);
    bf_buf_free(&command);
    return code;
}
