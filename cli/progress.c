/* progress.c -- what a run says while it runs: plan, progress, checks. */
#include "cli/cli.h"

#include <math.h>
#include <string.h>
#include <unistd.h>

/* ---- the plan */

static void print_plan_json(const bf_plan *p)
{
    printf(
        "{\"positions\": %zu, \"losses\": %zu, \"rows\": %zu, \"chunks\": %zu, \"chunk_rows\": "
        "%zu, \"bytes\": %zu, \"record_bytes\": %zu, \"folded\": %zu, \"blended\": %s, \"crossed\": %s, \"flops\": ",
        p->N, p->losses, p->rows, p->chunks, p->chunk_rows, p->bytes, p->record_bytes, p->folded,
        p->blended ? "true" : "false", p->crossed ? "true" : "false");
    cli_print_json_number(p->flops);
    printf(", \"seconds\": ");
    cli_print_json_number(p->seconds);
    printf("}\n");
}

void cli_print_plan(const cli_run *run)
{
    const bf_plan *p = &run->plan;
    char words[32];
    if (run->json) {
        print_plan_json(p);
        return;
    }
    printf("positions       %zu\n", p->N);
    printf("losses          %zu\n", p->losses);
    printf("pairs (i,j)     %zu\n", p->rows);
    printf("chunks          %zu, the largest of %zu pairs\n", p->chunks, p->chunk_rows);
    printf("memory          %s for activations and gradients\n", cli_size_words(words, p->bytes));
    printf("record          %s\n", cli_size_words(words, p->record_bytes));
    if (p->folded)
        printf("folded          %zu positions pass their MLP as one matrix\n", p->folded);
    if (p->blended)
        printf("blended         the MLP's gate and input weights, at each position\n");
    if (p->crossed)
        printf("crossed         sums over heads in the place of weights of q, k or v\n");
    printf("work            %.3g GFLOP\n", p->flops * 1e-9);
    printf("estimated time  %s\n",
           p->seconds > 0.0 ? cli_time_words(words, p->seconds) : "not known");
}

static void say_plan(const bf_plan *p)
{
    char memory[32], record[32], seconds[32];
    fprintf(stderr,
            "plan: %zu losses, %zu pairs (i,j) in %zu chunk%s; %s of memory, a record of %s; "
            "about %s\n",
            p->losses, p->rows, p->chunks, p->chunks == 1 ? "" : "s",
            cli_size_words(memory, p->bytes), cli_size_words(record, p->record_bytes),
            cli_time_words(seconds, p->seconds));
}

/* ---- progress */

void cli_meter_start(cli_meter *m)
{
    *m = (cli_meter){.tty = isatty(STDERR_FILENO) == 1, .start = cli_now()};
    m->last = m->start;
}

void cli_meter_say(void *context, const char *stage, double done, double seconds_left)
{
    cli_meter *m = context;
    char line[80], left[32];
    const double t = cli_now();
    if (t - m->last < (m->tty ? 0.2 : 10.0))
        return;
    m->last = t;
    int n = snprintf(line, sizeof line, "%s %3.0f %%", stage, 100.0 * done);
    if (done > 0.0 && t - m->start > 1.0 && seconds_left > 0.5 && n > 0 && n < 40)
        n += snprintf(line + n, sizeof line - (size_t)n, ", %s left",
                      cli_time_words(left, seconds_left));
    if (m->tty)
        fprintf(stderr, "\r%-*s", (int)m->width, line);
    else
        fprintf(stderr, "backflow: %s\n", line);
    fflush(stderr);
    m->width = n > 0 ? (size_t)n : 0;
}

void cli_meter_clear(cli_meter *m)
{
    if (m->tty && m->width)
        fprintf(stderr, "\r%-*s\r", (int)m->width, "");
    m->width = 0;
}

bf_code cli_run_trace(bf_record **out, cli_run *run, const char *path, bf_check checks[8],
                      size_t *n_checks, bf_error *err)
{
    cli_meter m;
    bf_record *record = NULL;
    cli_meter_start(&m);
    if (!run->quiet) {
        if (run->plan.seconds > 2.0)
            say_plan(&run->plan);
        run->query.progress = cli_meter_say;
        run->query.progress_context = &m;
    }
    cli_patient(true);
    bf_code rc = bf_trace(&record, run->model, &run->query, path, checks, n_checks, err);
    cli_patient(false);
    cli_meter_clear(&m);
    if (*cli_stop()) {
        bf_record_free(record);
        return bf_fail(err, BF_EINTERRUPTED, "interrupted, nothing was written");
    }
    if (!rc && !run->quiet && bf_record_meta(record, "bf16_error"))
        fprintf(stderr, "backflow: bf16 error %s\n", bf_record_meta(record, "bf16_error"));
    if (!rc)
        *out = record;
    return rc;
}

/* ---- checks */

static bool holds(const bf_check *check)
{
    return check->residual <= check->tolerance; /* false for NaN */
}

bool cli_checks_hold(const bf_check *checks, size_t n)
{
    bool all = true;
    for (size_t k = 0; k < n; k++) {
        if (holds(&checks[k]))
            continue;
        all = false;
        fprintf(stderr, "backflow: CHECK FAILED: %s: residual %.3g, tolerance %.3g: %s\n",
                checks[k].name, checks[k].residual, checks[k].tolerance, checks[k].what);
    }
    if (!all)
        fprintf(stderr,
                "backflow: the numbers of this run cannot be trusted, nothing was written\n");
    return all;
}

void cli_print_checks(FILE *to, const bf_check *checks, size_t n)
{
    fprintf(to, "%-19s %10s %10s  %-5s  %s\n", "identity", "residual", "tolerance", "",
            "what must hold");
    for (size_t k = 0; k < n; k++)
        fprintf(to, "%-19s %10.2e %10.2e  %-5s  %s\n", checks[k].name, checks[k].residual,
                checks[k].tolerance, holds(&checks[k]) ? "holds" : "FAILS", checks[k].what);
}

bf_code cli_print_checks_json(const bf_check *checks, size_t n, bf_error *err)
{
    bf_code rc = BF_OK;
    printf("[");
    for (size_t k = 0; k < n && !rc; k++) {
        printf("%s{\"name\": ", k ? ", " : "");
        rc = cli_print_json_string(checks[k].name, err);
        printf(", \"residual\": ");
        cli_print_json_number(checks[k].residual);
        printf(", \"tolerance\": ");
        cli_print_json_number(checks[k].tolerance);
        printf(", \"holds\": %s, \"what\": ", holds(&checks[k]) ? "true" : "false");
        if (!rc)
            rc = cli_print_json_string(checks[k].what, err);
        printf("}");
    }
    printf("]");
    return rc;
}
