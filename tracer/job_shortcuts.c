/* Short cuts, where they pay: which positions are folded to the MLP's Jacobian, whether the others pass a gated MLP's
 * two input weights as one, whether queries and keys cross, and the top layer's k and v are sums over heads
 * (docs/performance.md). */
#include "tracer/job.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/num/params.h"

/* Multiply-adds, or others that take as long. */
typedef struct {
    const bf_job *job;
    bf_beam *beams; /* [losses or blocks, the more] */
    double *fold, *blend; /* [N] saved at a position by the one and by the other */
    double plain;         /* taken by all MLPs without */
    long *change;         /* [N+1] rows at position j less those at j-1 */
} plan;

/* How much cheaper bf16 makes products with weights; folds are in f32, and so is attention. */
static double cheaper(const bf_job *job)
{
    return job->query->precision == BF_PRECISION_BF16 ? 1.8 : 1.0;
}

/* In one layer of a chunk. n rows at a position cost D F m n through two products of width F (three if gated). The
 * Jacobian costs D^2 F to form and D^2 n to use; two weights blended cost as much as FORM rows to form, and save one
 * product. 1.5: small products run less smoothly. */
static void count_layer(plan *p)
{
    enum { FORM = 16 };
    const bf_config *c = &p->job->config;
    const double D = (double)c->D, F = (double)c->F, m = c->gated ? 3.0 : 2.0;
    const double one = D * F / cheaper(p->job), form = 1.5 * D * D * F;
    long n = 0;
    for (size_t j = 0; j < p->job->N; j++) {
        n += p->change[j];
        if (n > 0) {
            p->fold[j] += (one * m - D * D) * (double)n - form;
            p->blend[j] += one * ((double)n - FORM);
        }
        p->plain += one * m * (double)n;
    }
}

/* Beams first..end-1 in every layer but the top one, above whose attention each has its own row alone. */
static void count_chunk(plan *p, size_t first, size_t end)
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

static void count(plan *p, bool blocks, size_t n, size_t chunk_rows)
{
    const size_t N = p->job->N;
    memset(p->fold, 0, N * sizeof *p->fold);
    memset(p->blend, 0, N * sizeof *p->blend);
    p->plain = 0.0;
    for (size_t b = 0; b < n; b++) {
        p->beams[b] = bf_job_beam(p->job, blocks, b);
        p->beams[b].at = (bf_span){0, p->beams[b].lo, p->beams[b].own};
    }
    for (size_t first = 0, end; first < n; first = end) {
        end = bf_chunk_end(p->beams, n, first, chunk_rows);
        count_chunk(p, first, end);
    }
}

/* Neither is worth its while, or its memory, below this part of the MLPs. */
static bool pays(const plan *p, double saved)
{
    return saved > 0.04 * p->plain;
}

/* For each but the fold the library makes some dozen kernels, in 10 ms. */
static const double kernels = 1e9;

/* What blending saves, 0 where it does not pay; else what folding saves is counted from there on. */
static double decide_blend(plan *p)
{
    const bf_job *job = p->job;
    double sum = 0.0;
    if (job->query->precision == BF_PRECISION_F64 || !bf_mlp_blends_f32(&job->config))
        return 0.0;
    for (size_t j = 0; j < job->N; j++)
        sum += p->blend[j];
    if (!pays(p, sum) || sum < kernels)
        return 0.0;
    for (size_t j = 0; j < job->N; j++)
        p->fold[j] -= p->blend[j];
    return sum;
}

/* The first positions that together save most. */
static double decide_fold(size_t *below, const plan *p)
{
    double sum = 0.0, most = 0.0;
    for (size_t j = 0; j < p->job->N; j++) {
        sum += p->fold[j];
        if (sum > most) {
            most = sum;
            *below = j + 1;
        }
    }
    if (pays(p, most))
        return most;
    *below = 0;
    return 0.0;
}

/* Do all queries read all keys up to their own, and all of them pass gradient? */
static bool all_causal(const bf_config *c, size_t N)
{
    for (size_t l = 0; l < c->L; l++) {
        const bf_mask m = bf_config_mask(c, l);
        if (m.window || m.segment || m.bidirectional || bf_mask_cut(&m, N - 1))
            return false;
    }
    return true;
}

/* May queries and keys cross, for scores that want nothing else of them? */
static bool crosses(const bf_job *job)
{
    return job->query->precision != BF_PRECISION_F64 && bf_attention_crosses_f32(&job->config) &&
           all_causal(&job->config, job->N) && !job->summed && job->query->tolerance == 0.0 &&
           !(job->scores & ~(unsigned)(BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_OWN));
}

/* What crossing saves, 0 where it does not pay (cross.c). Below the top layer a loss's n rows cost n D (HK + GK)
 * through two weights, or, in c blocks of b, c (c+1) b^2 H D through tables, in smaller products; and these cost
 * 2 N HK D to make, twice that, as they are copied. Attention spends n^2 H times SPREAD to write what is multiplied with
 * them, and saves dq and dk if nobody wants them. bf16 is faster with weights and tables alone. */
static double decide_cross(const plan *p)
{
    enum { SPREAD = 26 };
    const bf_job *job = p->job;
    const bf_config *c = &job->config;
    const double D = (double)c->D, H = (double)c->H, HK = (double)(c->H * c->K), GK = (double)(c->G * c->K);
    const double b = (double)bf_cross_block_f32(c), layers = (double)(c->L - 1) - (double)job->lowest,
                 one = 1.0 / cheaper(job);
    const bool wanted = job->sites & (BF_SITE_Q | BF_SITE_K) || job->query->check;
    double sum = -4.0 * (double)job->N * HK * D;
    for (size_t k = 0; k < job->losses; k++) {
        const double n = (double)job->loss[k] + 1.0, blocks = ceil(n / b);
        sum += D * (n * (HK + GK) - 1.05 * blocks * (blocks + 1.0) * b * b * H) * one;
        sum += n * n * ((wanted ? 0.0 : HK) - SPREAD * H);
    }
    sum *= layers;
    return layers > 0.0 && pays(p, sum) && sum > kernels ? sum : 0.0;
}

/* What sums over heads save in the top layer, 0 where they do not (top.c): n D 2 GK or n D 2 H, and 2 HK D a loss. */
static double decide_top(const plan *p)
{
    const bf_job *job = p->job;
    const bf_config *c = &job->config;
    const double D = (double)c->D, H = (double)c->H, GK = (double)(c->G * c->K), one = 1.0 / cheaper(job);
    double sum = 0.0;
    for (size_t k = 0; k < job->losses; k++)
        sum += D * (((double)job->loss[k] + 1.0) * (2.0 * GK * one - 4.0 * H) - 4.0 * H * (double)c->K);
    return sum > kernels ? sum : 0.0;
}

static void decide(plan *p, bf_job *job, size_t chunk_rows)
{
    count(p, false, job->losses, chunk_rows);
    const double blended = decide_blend(p);
    job->blend = blended > 0.0;
    const bool may = crosses(job);
    const double crossed = may ? decide_cross(p) : 0.0, top = may ? decide_top(p) : 0.0;
    job->cross = crossed > 0.0;
    job->top = top > 0.0;
    job->saved = 2.0 * (blended + crossed + top + decide_fold(&job->fold_below, p));
    count(p, true, job->blocks, chunk_rows);
    const double blocks = decide_blend(p);
    job->blend_blocks = blocks > 0.0;
    job->saved += 2.0 * blocks * (double)bf_job_block_walks(job);
}

bf_code bf_job_shortcuts(bf_job *job, size_t chunk_rows, bf_error *err)
{
    const size_t most = job->losses > job->blocks ? job->losses : job->blocks;
    job->fold_below = 0;
    job->blend = job->blend_blocks = job->cross = job->top = false;
    job->saved = 0.0;
    if (job->query->no_fold || job->scores & BF_SCORE_PARAM)
        return BF_OK;
    plan p = {.job = job, .beams = calloc(most, sizeof *p.beams), .fold = calloc(job->N, sizeof *p.fold),
              .blend = calloc(job->N, sizeof *p.blend), .change = calloc(job->N + 1, sizeof *p.change)};
    const bool ok = p.beams && p.fold && p.blend && p.change;
    if (ok)
        decide(&p, job, chunk_rows);
    free(p.beams);
    free(p.fold);
    free(p.blend);
    free(p.change);
    return ok ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", most);
}
