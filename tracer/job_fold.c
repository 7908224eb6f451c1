/* Which positions to fold: those where forming the MLP's Jacobian costs less than it saves. */
#include "tracer/job.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const bf_job *job;
    bf_beam *beams; /* [losses] */
    double *saved;  /* [N] multiply-adds that folding a position saves */
    double plain;   /* those of all MLPs without */
    long *change;   /* [N+1] rows at position j less those at j-1 */
} fold_plan;

/* Saved in one layer of a chunk. n rows at a position cost D F m n multiply-adds through two products of
 * width F (three if gated); its Jacobian D^2 F (m-1) to form, and D^2 n to use. 1.5: small products run less
 * smoothly; 1.8: bf16 makes the plain products that much cheaper, and folds in f32. */
static void count_layer(fold_plan *p)
{
    const bf_config *c = &p->job->config;
    const double D = (double)c->D, F = (double)c->F, m = c->gated ? 3.0 : 2.0;
    const double plain = D * F * m / (p->job->query->precision == BF_PRECISION_BF16 ? 1.8 : 1.0);
    const double form = 1.5 * D * D * F * (m - 1.0);
    long n = 0;
    for (size_t j = 0; j < p->job->N; j++) {
        n += p->change[j];
        if (n > 0)
            p->saved[j] += (plain - D * D) * (double)n - form;
        p->plain += plain * (double)n;
    }
}

/* Beams first..end-1 in every layer but the top one, above whose attention each has its own row alone. */
static void count_chunk(fold_plan *p, size_t first, size_t end)
{
    const bf_job *job = p->job;
    for (size_t l = job->config.L; l-- > job->lowest + 1;) {
        const bf_mask mask = bf_config_mask(&job->config, l);
        memset(p->change, 0, (job->N + 1) * sizeof *p->change);
        for (size_t b = first; b < end; b++) {
            bf_span *at = &p->beams[b].at;
            *at = bf_mask_reach(&mask, *at, job->N);
            if (at->sinks) {
                p->change[0]++;
                p->change[at->sinks]--;
            }
            p->change[at->lo]++;
            p->change[at->hi + 1]--;
        }
        count_layer(p);
    }
}

/* The first positions that together save most. */
static void decide(fold_plan *p, bf_job *job, size_t chunk_rows)
{
    for (size_t k = 0; k < job->losses; k++) {
        const size_t lo = job->loss[k] - job->summed;
        p->beams[k] = bf_beam_make(&job->config, job->N, k, lo, job->loss[k], job->lowest);
        p->beams[k].at = (bf_span){0, lo, job->loss[k]};
    }
    for (size_t first = 0, end; first < job->losses; first = end) {
        end = bf_chunk_end(p->beams, job->losses, first, chunk_rows);
        count_chunk(p, first, end);
    }
    double sum = 0.0;
    for (size_t j = 0; j < job->N; j++) {
        sum += p->saved[j];
        if (2.0 * sum > job->fold_saves) {
            job->fold_saves = 2.0 * sum;
            job->fold_below = j + 1;
        }
    }
    if (job->fold_saves < 2.0 * 0.04 * p->plain) { /* not worth the memory */
        job->fold_below = 0;
        job->fold_saves = 0.0;
    }
}

bf_code bf_job_fold(bf_job *job, size_t chunk_rows, bf_error *err)
{
    job->fold_below = 0;
    job->fold_saves = 0.0;
    if (!job->losses || job->query->no_fold || job->scores & BF_SCORE_PARAM)
        return BF_OK;
    fold_plan p = {job, calloc(job->losses, sizeof *p.beams), calloc(job->N, sizeof *p.saved), 0.0,
                   calloc(job->N + 1, sizeof *p.change)};
    const bool ok = p.beams && p.saved && p.change;
    if (ok)
        decide(&p, job, chunk_rows);
    free(p.beams);
    free(p.saved);
    free(p.change);
    return ok ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", job->losses);
}
