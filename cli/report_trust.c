/* report_trust.c -- the same measurement as `backflow trust`, smaller. */
#include <stdlib.h>
#include <string.h>

#include "cli/report.h"

enum { PAIRS = 400 };
static const double sizes[] = {1.0 / 64, 1.0 / 4, 1.0};

static bf_code measure(cli_report_trust *out, const bf_record *record, cli_run *run, bf_error *err)
{
    cli_meter meter;
    const unsigned sites = BF_SITE_RESID_PRE | BF_SITE_RESID_MID | BF_SITE_Z;
    bf_trust_query query = {.sizes = sizes,
                            .n_sizes = sizeof sizes / sizeof *sizes,
                            .sites = sites & run->query.sites,
                            .pairs = PAIRS,
                            .no_curves = true,
                            .memory = run->memory,
                            .threads = run->threads,
                            .stop = cli_stop()};
    cli_meter_start(&meter);
    if (!run->quiet) {
        query.progress = cli_meter_say;
        query.progress_context = &meter;
    }
    cli_patient(true);
    const bf_code rc = bf_trust_measure(&out->trust, record, run->model, &query, err);
    cli_patient(false);
    cli_meter_clear(&meter);
    return *cli_stop() ? bf_fail(err, BF_EINTERRUPTED, "interrupted, nothing was written") : rc;
}

static bf_code hand_over(cli_report_trust *out, bf_report_extras *extras, bf_error *err)
{
    const bf_trust *t = out->trust;
    const size_t columns = t->n_sizes + 1;
    out->moves = calloc(t->n_rows ? t->n_rows : 1, sizeof *out->moves);
    out->agreement = calloc(t->n_rows ? t->n_rows : 1, 2 * columns * sizeof *out->agreement);
    if (!out->moves || !out->agreement)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu kinds of move", t->n_rows);
    for (size_t k = 0; k < t->n_rows; k++) {
        const bf_trust_row *row = &t->rows[k];
        double *r = out->agreement + 2 * columns * k;
        for (size_t s = 0; s < columns; s++) {
            r[s] = row->all[s].pearson;
            r[columns + s] = row->all[s].slope;
        }
        out->moves[k] = (bf_report_move){.what = row->what,
                                         .move = row->move,
                                         .n = row->n,
                                         .loss = row->loss,
                                         .position = row->position,
                                         .predicted = row->predicted,
                                         .real = row->real,
                                         .pearson = r,
                                         .slope = r + columns,
                                         .residual = row->residual,
                                         .range = row->range,
                                         .holds = row->holds};
    }
    extras->n_moves = t->n_rows;
    extras->n_sizes = t->n_sizes;
    extras->moves = out->moves;
    extras->sizes = t->sizes;
    return BF_OK;
}

bf_code cli_report_trust_measure(cli_report_trust *out, bf_report_extras *extras,
                                 const bf_record *record, cli_run *run, bf_error *err)
{
    const bf_code rc = measure(out, record, run, &out->why);
    if (!rc)
        return hand_over(out, extras, err);
    if (rc == BF_EINTERRUPTED || rc == BF_ENOMEM)
        return bf_fail(err, rc, "%s", out->why.msg);
    extras->no_trust = out->why.msg;
    return BF_OK;
}

void cli_report_trust_free(cli_report_trust *out)
{
    bf_trust_free(out->trust);
    free(out->moves);
    free(out->agreement);
    *out = (cli_report_trust){0};
}
