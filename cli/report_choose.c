/* report_choose.c -- what is recorded for a page: as much as it can show, as little as fits. */
#include <stdlib.h>

#include "cli/report.h"

enum { MANY_EDGES = 400000 }; /* 20 MB of a record */

void cli_report_choose(cli_run *run)
{
    const unsigned usual =
        BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_SHARE | (run->sum ? 0 : BF_SCORE_OWN);
    run->base_layer = true; /* what the page cannot do without */
    run->sites = run->sites ? run->sites | BF_SITE_RESID_PRE : BF_SITE_ALL;
    run->scores = run->scores ? run->scores | BF_SCORE_GRAD_NORM : usual;
}

/* Edges between positions: (i+1)(i+2)/2 pairs (r,j) by k and by v, of each layer and head. */
static double count_edges(const cli_run *run)
{
    const bf_dims *d = bf_model_dims(run->model);
    double pairs = 0.0;
    for (size_t k = 0; k < run->plan.losses; k++) {
        const double i = (double)(run->query.losses ? run->query.losses[k] : k);
        pairs += (i + 1.0) * (i + 2.0);
    }
    return pairs * (double)d->L * (double)d->H;
}

/* Edges need a list of losses: all, where none were named. */
static bf_code add_edges(cli_run *run, bf_error *err)
{
    bf_query *q = &run->query;
    if (!q->losses) {
        run->loss = malloc(run->plan.losses * sizeof *run->loss);
        if (!run->loss)
            return bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", run->plan.losses);
        q->n_losses = run->plan.losses;
        for (size_t k = 0; k < q->n_losses; k++)
            run->loss[k] = k;
        q->losses = run->loss;
    }
    q->scores |= BF_SCORE_EDGE;
    return bf_trace_plan(&run->plan, run->model, q, err);
}

bf_code cli_report_adjust(cli_run *run, bool sites_chosen, bool scores_chosen, bf_error *err)
{
    const size_t large = (size_t)1 << 30;
    char words[32];
    bf_query *q = &run->query;
    bf_code rc = BF_OK;
    if (!scores_chosen && !run->sum && run->tolerance <= 0.0 && !run->blocks &&
        count_edges(run) <= MANY_EDGES)
        rc = add_edges(run, err);
    if (rc || sites_chosen || run->plan.record_bytes <= large)
        return rc;
    if (!run->quiet)
        fprintf(stderr,
                "backflow: all sites would make a record of %s, only those that the page shows are "
                "kept (--sites all keeps all)\n",
                cli_size_words(words, run->plan.record_bytes));
    q->sites = BF_SITE_RESID_PRE | BF_SITE_RESID_MID | BF_SITE_RESID_FINAL | BF_SITE_V | BF_SITE_Z;
    rc = bf_trace_plan(&run->plan, run->model, q, err);
    if (!rc && !scores_chosen && run->plan.record_bytes > 2 * large) {
        q->scores &= ~(unsigned)BF_SCORE_GRAD_X_ACT;
        rc = bf_trace_plan(&run->plan, run->model, q, err);
    }
    return rc;
}
