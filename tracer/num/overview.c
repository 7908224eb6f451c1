/* The overview: what blocks of losses send together, at the cost of one walk a block.
 *
 * grad_x_act is linear in the loss, so a block's is exact. The norm of a block is taken as the root of
 * the sum of squares over its losses: E |sum_i s_i g_i|^2 = sum_i |g_i|^2 for independent random signs
 * s_i (Hutchinson 1990, doi:10.1080/03610919008812866), estimated by the mean of K such walks. */
#include "tracer/num/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Regularised lower incomplete gamma P(a, x) by its series (DLMF 8.11.4). */
static double gamma_p(double a, double x)
{
    double term = 1.0 / a, sum = term;
    for (int n = 1; n < 10000 && term > 1e-16 * sum; n++) {
        term *= x / (a + n);
        sum += term;
    }
    return sum * exp(a * log(x) - x - lgamma(a));
}

/* The p-quantile of chi-square with k degrees of freedom, by bisection. */
static double chi_square(double p, double k)
{
    double lo = 0.0, hi = k + 20.0 * sqrt(2.0 * k) + 40.0;
    for (int n = 0; n < 200; n++) {
        const double mid = 0.5 * (lo + hi);
        if (gamma_p(0.5 * k, 0.5 * mid) < p)
            lo = mid;
        else
            hi = mid;
    }
    return 0.5 * (lo + hi);
}

static real *overview_tensor(const bf_record *record, unsigned k, const char *score)
{
    char name[BF_NAME_MAX];
    snprintf(name, sizeof name, "overview.%s.%s", bf_site_name(1u << k), score);
    const bf_tensor *t = bf_record_find(record, name);
    return t ? t->data : NULL;
}

/* Roots of sums of squares over K rounds to norms. Were all cotangents of a block parallel, the mean of
 * K squares would be spread as chi-square over K; otherwise less. So the 95 % interval of that case
 * covers. */
static void finish_norms(const bf_record *record, unsigned k, size_t rounds)
{
    const bf_tensor *t = NULL;
    char name[BF_NAME_MAX];
    snprintf(name, sizeof name, "overview.%s.grad_norm", bf_site_name(1u << k));
    t = bf_record_find(record, name);
    if (!t)
        return;
    real *mid = t->data, *low = overview_tensor(record, k, "grad_norm_low"),
         *high = overview_tensor(record, k, "grad_norm_high");
    const double K = (double)rounds, top = chi_square(0.975, K), bottom = chi_square(0.025, K);
    for (size_t n = 0; n < bf_tensor_count(t); n++) {
        const double sum = (double)mid[n] * (double)mid[n];
        mid[n] = (real)sqrt(sum / K);
        low[n] = (real)sqrt(sum / top);
        high[n] = (real)sqrt(sum / bottom);
    }
}

static bf_code walk_blocks(const R(bf_walk) *walk, const R(bf_sink) *sink, unsigned signs,
                           const bf_job *job, bf_beam *beams, bf_error *err)
{
    R(bf_walk) blocks = *walk;
    blocks.sink = sink;
    blocks.sums = (R(bf_sums)){0};
    blocks.probe = (R(bf_probe)){0};
    blocks.signs = signs;
    blocks.fold_below = 0;
    blocks.blend = job->blend_blocks;
    blocks.cross = blocks.top = false;
    for (size_t b = 0; b < job->blocks; b++) /* a walk moves their lo */
        beams[b] = bf_job_beam(job, true, b);
    return R(bf_walk_all)(&blocks, job->query, beams, job->blocks, job->chunk_rows, err);
}

bf_code R(bf_run_overview)(bf_record *record, const R(bf_walk) *walk, const bf_job *job, bf_error *err)
{
    R(bf_sink) sums = {.layer_slot = job->layer_slot, .losses = job->blocks, .N = job->N}, norms = sums;
    bf_beam *beams = calloc(job->blocks, sizeof *beams);
    bf_code rc = beams ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu blocks", job->blocks);
    int64_t *bounds = bf_record_find(record, "blocks")->data;
    for (size_t b = 0; b < job->blocks; b++) {
        size_t from, to;
        bf_job_block(&from, &to, job, b);
        bounds[b] = (int64_t)from;
        bounds[b + 1] = (int64_t)to;
    }
    norms.squares = true;
    for (unsigned k = 0; k < BF_SITES; k++) {
        sums.dot[k] = overview_tensor(record, k, "grad_x_act");
        norms.norm[k] = overview_tensor(record, k, "grad_norm");
    }
    if (!rc && job->scores & BF_SCORE_GRAD_X_ACT)
        rc = walk_blocks(walk, &sums, 0, job, beams, err);
    for (unsigned k = 1; k <= job->probes && !rc; k++)
        rc = walk_blocks(walk, &norms, k, job, beams, err);
    for (unsigned k = 0; k < BF_SITES && !rc && job->probes; k++)
        finish_norms(record, k, job->probes);
    free(beams);
    return rc;
}
