/* backflow report: the main job, a text to a page about it; several texts to pages and an index. */
#include "cli/report.h"

#include <stdlib.h>
#include <string.h>

static const char notes[] =
    "FOLDER gets index.html, a page to explore in any browser, from disk; figures to print (PNG,\n"
    "SVG, PDF); and the record they are made of. It appears when all is done; one that holds an\n"
    "older report, and nothing else, is replaced. --text, --file and --tokens may be given several\n"
    "times: then each text has its own page and record, text-01.html, text-01.safetensors, and\n"
    "index.html compares them.\n"
    "Unless chosen otherwise all sites are recorded, with norms, inner products, shares, own and\n"
    "future, and in short texts edges; or, if that makes more than 1 GiB, the sites that the page\n"
    "shows. What it cannot do without always is. The identities of the run are measured, too; if\n"
    "one fails, nothing is written. Then vectors are moved, as `backflow trust` does, and the page\n"
    "says how what happened agrees with what was predicted; exit 1 if the record was wrong.\n"
    "\n"
    "examples:\n"
    "  backflow report kjv-1m --text 'In the beginning God created the heaven and the earth.'\n"
    "  backflow report ./gpt2 --file story.txt --precision f64 -o story-report\n"
    "  backflow report ./gpt2 --file a.txt --file b.txt -o both\n";

typedef struct {
    const char **field; /* of cli_run: &text, &file or &tokens */
    const char *value;
} input;

/* The inputs in the order they were given. */
typedef struct {
    input list[BF_REPORT_TEXTS];
    size_t n;
} inputs;

typedef struct {
    inputs *to;
    const char **field;
} input_option;

typedef struct {
    cli_run run;
    inputs in;
    input_option option[3];
    cli_again again[3];
    const char *model, *path;
    bool no_check, no_trust, sites_chosen, scores_chosen;
    const char *command;
    cli_folder folder;
    bf_record *record[BF_REPORT_TEXTS]; /* of several texts, to the end, for the index */
    char stem[BF_REPORT_TEXTS][16], name[BF_REPORT_TEXTS][80];
    bool refuted, distrusted;
} job;

static bf_code add_input(void *target, const char *value, bf_error *err)
{
    const input_option *o = target;
    if (o->to->n == BF_REPORT_TEXTS)
        return bf_fail(err, BF_EARG, "a report holds at most %d texts", BF_REPORT_TEXTS);
    o->to->list[o->to->n++] = (input){o->field, value};
    return BF_OK;
}

/* Let --text, --file and --tokens be given several times. */
static void collect_inputs(cli_option *options, size_t n, job *j)
{
    const char **const field[] = {&j->run.text, &j->run.file, &j->run.tokens};
    static const char *const names[] = {"text", "file", "tokens"};
    for (size_t k = 0; k < n; k++)
        for (size_t f = 0; f < 3; f++)
            if (strcmp(options[k].name, names[f]) == 0) {
                j->option[f] = (input_option){&j->in, field[f]};
                j->again[f] = (cli_again){add_input, &j->option[f]};
                options[k].parse = cli_parse_again;
                options[k].target = &j->again[f];
            }
}

/* What a text is called: its file's name, or how it begins. Cut at a character's end. */
static void name_text(char name[80], const input *in, const cli_run *run)
{
    const char *slash = in->field == &run->file ? strrchr(in->value, '/') : NULL;
    const char *from = slash && slash[1] ? slash + 1 : in->value;
    size_t n = strlen(from);
    if (n > 70)
        for (n = 70; n && ((unsigned char)from[n] & 0xC0) == 0x80;)
            n--;
    snprintf(name, 80, "%.*s%s", (int)n, from, from[n] ? "…" : "");
}

/* ---- one text */

static bf_code trust_and_draw(job *j, cli_run *run, const bf_record *record, size_t k,
                              bf_error *err)
{
    const bool several = j->in.n > 1;
    bf_report_extras extras = {.stem = several ? j->stem[k] : NULL,
                               .text_name = several ? j->name[k] : NULL,
                               .model = j->model,
                               .no_trust = j->no_trust ? "--no-trust was given" : NULL};
    cli_report_trust trust = {0};
    bf_code rc = BF_OK;
    if (!j->no_trust)
        rc = cli_report_trust_measure(&trust, &extras, record, run, err);
    if (!rc)
        rc = bf_render_report(record, &extras, j->folder.tmp, err);
    j->distrusted = j->distrusted || (trust.trust && !trust.trust->holds);
    cli_report_trust_free(&trust);
    return rc;
}

/* Trace into the folder and draw what came; if an identity failed nothing is drawn. */
static bf_code fill_folder(job *j, cli_run *run, size_t k, bf_error *err)
{
    bf_check checks[8];
    bf_record *record = NULL;
    bf_buf path = {0};
    size_t n_checks = 0;
    bf_buf_printf(&path, "%s/%s.safetensors", j->folder.tmp, j->in.n > 1 ? j->stem[k] : "run");
    bf_code rc = path.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path")
                             : cli_run_trace(&record, run, path.data, checks, &n_checks, err);
    j->refuted = !rc && !cli_checks_hold(checks, n_checks);
    if (!rc && !j->refuted)
        rc = bf_record_set_meta(record, "command", j->command, err);
    if (!rc && !j->refuted)
        rc = bf_record_commit(record, err);
    if (!rc && !j->refuted)
        rc = trust_and_draw(j, run, record, k, err);
    if (!rc && !j->refuted && j->in.n > 1)
        j->record[k] = record;
    else
        bf_record_free(record);
    bf_buf_free(&path);
    return rc;
}

static bf_code report_text(job *j, size_t k, bf_error *err)
{
    cli_run run = j->run;
    const input *in = &j->in.list[k];
    run.text = in->field == &j->run.text ? in->value : NULL;
    run.file = in->field == &j->run.file ? in->value : NULL;
    run.tokens = in->field == &j->run.tokens ? in->value : NULL;
    snprintf(j->stem[k], sizeof j->stem[k], "text-%02u", (unsigned)k + 1);
    name_text(j->name[k], in, &j->run);
    bf_code rc = cli_run_open(&run, j->model, err);
    if (!rc)
        rc = cli_report_adjust(&run, j->sites_chosen, j->scores_chosen, err);
    if (!rc && run.dry_run)
        cli_print_plan(&run);
    else if (!rc && !j->folder.tmp)
        rc = cli_folder_begin(&j->folder, j->path, bf_report_files(), err);
    if (!rc && !run.dry_run)
        rc = fill_folder(j, &run, k, err);
    cli_run_end(&run);
    return rc;
}

/* ---- all */

static bf_code write_index(job *j, bf_error *err)
{
    bf_report_entry entry[BF_REPORT_TEXTS];
    for (size_t k = 0; k < j->in.n; k++)
        entry[k] = (bf_report_entry){j->stem[k], j->name[k], j->record[k]};
    return bf_render_report_index(entry, j->in.n, j->folder.tmp, err);
}

static int report(job *j)
{
    bf_error err = {0};
    bf_code rc = bf_report_files() ? BF_OK : bf_fail(&err, BF_ENOMEM, "cannot hold file names");
    for (size_t k = 0; k < j->in.n && !rc && !j->refuted; k++)
        rc = report_text(j, k, &err);
    const bool write = !rc && !j->refuted && !j->run.dry_run;
    if (write && j->in.n > 1)
        rc = write_index(j, &err);
    for (size_t k = 0; k < j->in.n; k++)
        bf_record_free(j->record[k]);
    if (write && !rc)
        rc = cli_folder_commit(&j->folder, &err);
    if (write && !rc && !j->run.quiet) {
        fprintf(stderr, "backflow: open ");
        cli_print_visible(stderr, j->folder.path);
        fprintf(stderr, "/index.html\n");
    }
    if (!rc && j->distrusted)
        fprintf(stderr, "backflow: the record contradicts what really happens, see panel 9\n");
    cli_folder_end(&j->folder);
    return rc ? cli_fail(&err) : j->refuted || j->distrusted ? CLI_REFUTED : CLI_DONE;
}

int cmd_report(const cli_command *self, int argc, char **argv)
{
    job *j = calloc(1, sizeof *j);
    cli_option options[CLI_MAX_OPTIONS];
    if (!j) {
        const bf_error err = {BF_ENOMEM, "cannot hold a report"};
        return cli_fail(&err);
    }
    j->path = "report";
    size_t n = cli_run_options(options, &j->run);
    collect_inputs(options, n, j);
    options[n++] =
        (cli_option){"no-check", NULL, &j->no_check, NULL, "do not measure the identities"};
    options[n++] = (cli_option){"no-trust", NULL, &j->no_trust, NULL,
                                "do not hold the record against moved vectors"};
    options[n++] = (cli_option){"o", cli_parse_text, &j->path, "FOLDER",
                                "where the report goes (default: report)"};
    const cli_syntax syntax = {options, n, "MODEL", &j->model, notes};
    int code = cli_read(self, &syntax, argc, argv);
    if (code == CLI_GO && !j->in.n)
        code = cli_run_misused(self, &j->run);
    bf_buf command = {0};
    if (code == CLI_GO) {
        j->run.check = !j->no_check;
        j->sites_chosen = j->run.sites != 0;
        j->scores_chosen = j->run.scores != 0;
        cli_report_choose(&j->run);
        cli_command_line(&command, self, argc, argv);
        j->command = command.data;
        const bf_error err = {BF_ENOMEM, "cannot hold the command line"};
        code = command.failed ? cli_fail(&err) : report(j);
    }
    bf_buf_free(&command);
    free(j);
    return code;
}
