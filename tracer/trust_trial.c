/* The text run again with vectors moved: two sets of activations, one that stays as it is. */
#include "tracer/trust.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/gemm.h"
#include "tracer/job.h"

/* Values of own and future, which take the gradients of one loss out of the walk. */
static size_t sum_rows(const bf_trial *t)
{
    return (t->c->L + 1) * t->N;
}

static size_t add(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static size_t bytes_wanted(const bf_trial *t)
{
    const bf_config *c = t->c;
    const size_t width = c->D > c->K ? c->D : c->K, acts = bf_acts_bytes_f64(c, t->N, true);
    const size_t walk = bf_walk_bytes_f64(c, t->N, t->N, t->N, t->threads, false, false, false, false),
                 forward = bf_forward_scratch_f64(c, t->N);
    size_t n = add(acts, acts);
    n = add(n, walk > forward ? walk : forward);
    n = add(n, 2 * bf_arena_need(sum_rows(t), c->D * sizeof(double)));
    n = add(n,
            bf_arena_need(1, width * sizeof(double)) + bf_arena_need(t->N, c->K * sizeof(double)));
    n = add(n, bf_arena_need(t->N, sizeof *t->weights));
    return add(n, bf_arena_need(t->N, sizeof *t->edits));
}

static bf_code take_memory(bf_trial *t, size_t memory, bf_error *err)
{
    const bf_config *c = t->c;
    const size_t width = c->D > c->K ? c->D : c->K, bytes = bytes_wanted(t);
    if (bytes > memory)
        return bf_fail(err, BF_ENOMEM,
                       "%zu positions need %.1f MiB for activations, the budget is %.1f "
                       "MiB (--memory)",
                       t->N, (double)bytes / 1048576.0, (double)memory / 1048576.0);
    bf_code rc = bf_arena_new(&t->arena, bytes, err);
    if (!rc)
        rc = bf_acts_new_f64(&t->base, c, t->N, true, t->arena, err);
    if (!rc)
        rc = bf_acts_new_f64(&t->work, c, t->N, true, t->arena, err);
    if (rc)
        return rc;
    t->moved = bf_arena_take(t->arena, 1, width * sizeof *t->moved);
    t->rows = bf_arena_take(t->arena, t->N, c->K * sizeof *t->rows);
    t->weights = bf_arena_take(t->arena, t->N, sizeof *t->weights);
    t->edits = bf_arena_take(t->arena, t->N, sizeof *t->edits);
    t->walk.sums.own = bf_arena_take(t->arena, sum_rows(t), c->D * sizeof(double));
    t->walk.sums.future = bf_arena_take(t->arena, sum_rows(t), c->D * sizeof(double));
    t->no_slot = malloc(c->L * sizeof *t->no_slot);
    if (!t->moved || !t->rows || !t->weights || !t->edits || !t->walk.sums.own ||
        !t->walk.sums.future || !t->no_slot)
        return bf_fail(err, BF_ENOMEM, "cannot hold the vectors of %zu positions", t->N);
    for (size_t l = 0; l < c->L; l++)
        t->no_slot[l] = SIZE_MAX;
    return BF_OK;
}

bf_code bf_trial_new(bf_trial *t, const bf_evidence *e, bf_model *model,
                     const bf_trust_query *query, bf_error *err)
{
    bf_job job;
    const bf_query as_traced = {.tokens = e->tokens, .n_tokens = e->N + 1, .losses = e->loss,
                                .n_losses = 1, .target = e->target, .sites = BF_SITE_RESID_PRE,
                                .precision = BF_PRECISION_F64, .memory = query->memory,
                                .threads = query->threads};
    *t = (bf_trial){.evidence = e, .c = e->c, .N = e->N, .query = query};
    bf_gemm_init();
    bf_code rc = bf_job_make(&job, model, &as_traced, err);
    t->threads = job.threads;
    if (!rc)
        rc = take_memory(t, job.memory, err);
    if (!rc)
        rc = bf_pool_new(&t->pool, t->threads, err);
    if (!rc)
        rc = bf_params_new_f64(&t->params, model, job.keep, t->pool, err);
    bf_job_free(&job);
    if (rc)
        return rc;
    t->base->target = t->work->target = e->target;
    t->sink = (bf_sink_f64){.layer_slot = t->no_slot, .losses = 1, .N = t->N};
    t->walk.c = t->c;
    t->walk.params = t->params;
    t->walk.acts = t->base;
    t->walk.pool = t->pool;
    t->walk.arena = t->arena;
    t->walk.sink = &t->sink;
    t->walk.stop = query->stop;
    rc = bf_forward_f64(t->base, t->params, t->c, e->tokens, t->pool, t->arena, query->stop, err);
    const size_t tables = t->N * (t->c->rotary_dim / 2) * sizeof(double);
    if (!rc && t->base->cosines) {
        memcpy(t->work->cosines, t->base->cosines, tables);
        memcpy(t->work->sines, t->base->sines, tables);
    }
    return rc;
}

void bf_trial_end(bf_trial *t)
{
    bf_params_free_f64(t->params);
    bf_arena_free(t->arena);
    bf_pool_free(t->pool);
    free(t->no_slot);
}

size_t bf_trial_width(const bf_trial *t, unsigned k)
{
    return bf_site_heads(t->c, 1u << k) ? t->c->K : t->c->D;
}

const double *bf_trial_vector(const bf_trial *t, unsigned k, size_t l, size_t h, size_t j)
{
    const size_t D = t->c->D, H = t->c->H, G = t->c->G, K = t->c->K;
    if (k == BF_AT_RESID_FINAL)
        return t->base->resid_final + j * D;
    const bf_layer_acts_f64 *a = &t->base->layer[l];
    switch (k) {
    case BF_AT_RESID_PRE: return a->resid_pre + j * D;
    case BF_AT_RESID_MID: return a->resid_mid + j * D;
    case BF_AT_ATTN_OUT: return a->attn_out + j * D;
    case BF_AT_MLP_OUT: return a->mlp_out + j * D;
    case BF_AT_Q: return a->qkv + j * (H + 2 * G) * K + h * K;
    case BF_AT_K: return a->qkv + j * (H + 2 * G) * K + (H + h) * K;
    case BF_AT_V: return a->qkv + j * (H + 2 * G) * K + (H + G + h) * K;
    default: return a->z + j * H * K + h * K;
    }
}

bf_code bf_trial_run(bf_trial *t, size_t l, const bf_edit_f64 *edits, size_t n_edits, size_t n,
                     bf_error *err)
{
    const bool top = l == t->c->L;
    t->work->N = n;
    t->work->edits = edits;
    t->work->n_edits = n_edits;
    memcpy(top ? t->work->resid_final : t->work->layer[l].resid_pre,
           top ? t->base->resid_final : t->base->layer[l].resid_pre, n * t->c->D * sizeof(double));
    const bf_code rc = bf_forward_from_f64(t->work, l, t->params, t->c, t->evidence->tokens,
                                           t->pool, t->arena, t->query->stop, err);
    return rc == BF_ENONFINITE ? bf_error_prefix(err, rc, "with a vector moved") : rc;
}

double bf_trial_change(const bf_trial *t, size_t i)
{
    double sum = 0.0;
    for (size_t k = i - t->evidence->summed; k <= i; k++)
        sum += t->work->value[k] - t->base->value[k];
    return sum;
}

bool bf_trial_reaches(const bf_trial *t, unsigned k, size_t l, size_t j, size_t i)
{
    if (k == BF_AT_RESID_FINAL)
        return j <= i && j + t->evidence->summed >= i;
    const bool before = k == BF_AT_RESID_PRE || k == BF_AT_K ||
                        k == BF_AT_V; /* its layer's attention */
    const bf_span from = {0, i - t->evidence->summed, i};
    return bf_span_has(bf_walk_span(t->c, t->N, from, before ? l : l + 1), j);
}

void bf_trial_stage(bf_trial *t)
{
    t->start = bf_seconds();
}

void bf_trial_tell(const bf_trial *t, const char *stage, double done)
{
    const double spent = bf_seconds() - t->start;
    if (t->query->progress)
        t->query->progress(t->query->progress_context, stage, done,
                           done > 0.0 ? spent * (1.0 - done) / done : 0.0);
}
