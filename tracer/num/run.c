/* One trace from tokens to record: forward, the walk chunk by chunk, sums, checks. */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tracer/job.h"
#include "tracer/num/check.h"
#include "tracer/num/run.h"

/* --- memory */

static size_t sums_bytes(const bf_job *job)
{
    const bf_config *c = &job->config;
    if (!(job->scores & BF_SCORE_OWN))
        return 0;
    return bf_arena_need((c->L + 1) * job->N, c->D * sizeof(double)) +
           bf_arena_need((c->L + 1) * job->N, c->D * sizeof(real));
}

size_t R(bf_run_fixed)(const bf_job *job)
{
    const bf_config *c = &job->config;
    const size_t acts = R(bf_acts_bytes)(c, job->N, job->shared), scratch = R(bf_forward_scratch)(c, job->N);
    if (acts > SIZE_MAX / 4 || scratch > SIZE_MAX / 4)
        return SIZE_MAX / 2;
    return acts + scratch + sums_bytes(job) +
           (job->scores & BF_SCORE_WEIGHT ? R(bf_weights_bytes)(c, job->N) : 0) + bf_arena_need(job->losses, sizeof(bf_beam)) +
           bf_arena_need(job->losses, sizeof(double));
}

bf_code R(bf_run_new)(R(bf_run_state) *run, const bf_job *job, bf_error *err)
{
    const bf_config *c = &job->config;
    *run = (R(bf_run_state)){.job = job, .config = c};
    bf_code rc = bf_pool_new(&run->pool, job->threads, err);
    if (!rc)
        rc = bf_arena_new(&run->arena, job->fixed_bytes + job->chunk_bytes, err);
    if (!rc)
        rc = R(bf_params_new)(&run->params, job->model, job->keep, run->pool, err);
    if (!rc)
        rc = R(bf_acts_new)(&run->acts, c, job->N, job->shared, run->arena, err);
    if (!rc)
        run->acts->targets = job->targets;
    if (!rc && job->query->target.kind != BF_TARGET_LOSS)
        run->acts->target = job->query->target;
    if (!rc)
        run->acts->reference = job->reference;
    return rc;
}

void R(bf_run_end)(R(bf_run_state) *run)
{
    R(bf_params_free)(run->params);
    bf_arena_free(run->arena);
    bf_pool_free(run->pool);
}

/* --- progress */

static void report(const bf_query *q, const char *stage, double done, double start)
{
    const double spent = bf_seconds() - start;
    if (q->progress)
        q->progress(q->progress_context, stage, done, done > 0.0 ? spent * (1.0 - done) / done : 0.0);
}

typedef struct {
    const bf_query *query;
    double start, before, part; /* of all rows: before this chunk, in it */
} ticker;

static void tick(void *context, double part)
{
    const ticker *t = context;
    report(t->query, "walk", t->before + t->part * part, t->start);
}

/* --- the walk over all chunks */

bf_code R(bf_walk_all)(const R(bf_walk) *walk, const bf_query *query, bf_beam *beams, size_t n,
                       size_t chunk_rows, bf_error *err)
{
    double rows = 0.0, done = 0.0;
    ticker t = {.query = query, .start = bf_seconds()};
    for (size_t b = 0; b < n; b++)
        rows += (double)bf_beam_rows(&beams[b]);
    R(bf_walk) ticking = *walk;
    ticking.tick = tick;
    ticking.tick_context = &t;
    for (size_t first = 0, end; first < n; first = end) {
        double part = 0.0;
        end = bf_chunk_end(beams, n, first, chunk_rows);
        for (size_t b = first; b < end; b++)
            part += (double)bf_beam_rows(&beams[b]);
        t.before = done / rows;
        t.part = part / rows;
        const bf_code rc = R(bf_walk_chunk)(&ticking, beams + first, end - first, err);
        if (rc)
            return rc;
        done += part;
    }
    return BF_OK;
}

static bf_beam *loss_beams(const R(bf_run_state) *run)
{
    const bf_job *job = run->job;
    bf_beam *beams = bf_arena_take(run->arena, job->losses, sizeof *beams);
    for (size_t k = 0; beams && k < job->losses; k++)
        beams[k] = bf_job_beam(job, false, k);
    return beams;
}

/* --- the record */

static void *tensor_data(const bf_record *record, const char *name)
{
    const bf_tensor *t = bf_record_find(record, name);
    return t ? t->data : NULL;
}

void R(bf_sink_open)(R(bf_sink) *sink, const bf_job *job, const bf_record *record)
{
    *sink = (R(bf_sink)){.layer_slot = job->layer_slot, .losses = job->losses, .N = job->N};
    for (unsigned k = 0; k < BF_SITES; k++) {
        char name[BF_NAME_MAX];
        snprintf(name, sizeof name, "flow.%s.grad_norm", bf_site_name(1u << k));
        sink->norm[k] = tensor_data(record, name);
        snprintf(name, sizeof name, "flow.%s.grad_x_act", bf_site_name(1u << k));
        sink->dot[k] = tensor_data(record, name);
    }
    for (size_t p = 0; p < BF_SHARES; p++)
        sink->share[p] = tensor_data(record, bf_share_names[p]);
    for (size_t p = 0; p < BF_PARAMS; p++)
        sink->param[p] = tensor_data(record, bf_param_names[p]);
    sink->edge = tensor_data(record, "edge.value");
    sink->edge_start = job->edge_start;
}

/* What the forward pass alone decides. */
static void record_forward(bf_record *record, const R(bf_run_state) *run)
{
    const bf_job *job = run->job;
    const size_t N = job->N, H = run->config->H;
    int64_t *tokens = tensor_data(record, "tokens"), *losses = tensor_data(record, "losses"),
            *layers = tensor_data(record, "layers");
    real *loss = tensor_data(record, "loss"), *attn = tensor_data(record, "attn");
    int64_t *masked = tensor_data(record, "masked");
    memcpy(tokens, job->query->tokens, job->query->n_tokens * sizeof *tokens);
    for (size_t k = 0; masked && k < job->query->n_masked; k++)
        masked[k] = (int64_t)job->query->masked[k];
    for (size_t i = 0; i < N; i++)
        loss[i] = (real)run->acts->loss[i];
    real *value = tensor_data(record, "target");
    for (size_t i = 0; value && i < N; i++)
        value[i] = (real)run->acts->value[i];
    for (size_t k = 0; losses && k < job->losses; k++)
        losses[k] = (int64_t)job->loss[k];
    for (size_t k = 0; layers && k < job->layers; k++)
        layers[k] = (int64_t)job->layer[k];
    for (size_t k = 0; attn && k < job->layers; k++) {
        R(bf_acts_pattern)(run->acts, run->config, job->layer[k], run->pool);
        memcpy(attn + k * H * N * N, run->acts->layer[job->layer[k]].pattern,
               H * N * N * sizeof *attn);
    }
}

/* Edges of one loss, layer and head; returns where the next ones go. */
static int64_t *edge_rows(int64_t *to, const bf_config *c, size_t N, size_t i, size_t l, size_t h)
{
    const bf_mask mask = bf_config_mask(c, l);
    const bf_span queries = bf_walk_span(c, N, (bf_span){0, i, i}, l + 1);
    for (size_t r = bf_span_first(queries); r <= queries.hi; r = bf_span_next(queries, r)) {
        const bf_span keys = bf_mask_flow(&mask, r, N);
        for (size_t j = bf_span_first(keys); j <= keys.hi; j = bf_span_next(keys, j))
            for (int64_t path = 0; path < 2; path++, to += 6) {
                const int64_t edge[6] = {(int64_t)i, (int64_t)l, (int64_t)h, (int64_t)r, (int64_t)j, path};
                memcpy(to, edge, sizeof edge);
            }
    }
    return to;
}

/* Which edge each value is of, in the order in which the walk writes them. */
static void record_edge_index(bf_record *record, const bf_job *job)
{
    const bf_config *c = &job->config;
    int64_t *to = tensor_data(record, "edge.index");
    for (size_t k = 0; to && k < job->losses; k++)
        for (size_t n = 0; n < job->layers; n++)
            for (size_t h = 0; h < c->H; h++)
                to = edge_rows(to, c, job->N, job->loss[k], job->layer[n], h);
}

static void record_sums(bf_record *record, const R(bf_run_state) *run, const R(bf_sums) *sums)
{
    const size_t D = run->config->D, rows = (run->config->L + 1) * run->job->N;
    real *own = tensor_data(record, "own.grad_norm"), *future = tensor_data(record, "future.grad_norm"),
         *cosine = tensor_data(record, "own_future.cosine");
    for (size_t r = 0; own && r < rows; r++) {
        double a = 0.0, b = 0.0, ab = 0.0;
        for (size_t d = 0; d < D; d++) {
            const double x = (double)sums->own[r * D + d], y = sums->future[r * D + d];
            a += x * x;
            b += y * y;
            ab += x * y;
        }
        own[r] = (real)sqrt(a);
        future[r] = (real)sqrt(b);
        cosine[r] = a > 0.0 && b > 0.0 ? (real)(ab / (sqrt(a) * sqrt(b))) : 0;
    }
}

static bf_code take_sums(R(bf_sums) *sums, const R(bf_run_state) *run, bf_error *err)
{
    const size_t D = run->config->D, rows = (run->config->L + 1) * run->job->N;
    if (!(run->job->scores & BF_SCORE_OWN))
        return BF_OK;
    sums->future = bf_arena_take(run->arena, rows, D * sizeof *sums->future);
    sums->own = bf_arena_take(run->arena, rows, D * sizeof *sums->own);
    if (!sums->future || !sums->own)
        return bf_fail(err, BF_ENOMEM, "cannot hold own and future");
    memset(sums->future, 0, rows * D * sizeof *sums->future);
    memset(sums->own, 0, rows * D * sizeof *sums->own); /* losses that were not chosen have none */
    return BF_OK;
}

bf_code R(bf_note_seconds)(bf_record *record, const char *key, double seconds, bf_error *err)
{
    char text[32];
    snprintf(text, sizeof text, "%.6f", seconds);
    return bf_record_set_meta(record, key, text, err);
}

/* Largest over losses of what ended, summed over layers; 0 where the walk was exact. */
static bf_code note_dropped(bf_record *record, const R(bf_walk) *walk, const bf_job *job, bf_error *err)
{
    double worst = 0.0, sum = 0.0;
    char text[96];
    if (!(walk->tolerance > 0.0) || !job->losses)
        return BF_OK;
    for (size_t k = 0; k < job->losses; k++) {
        worst = walk->dropped[k] > worst ? walk->dropped[k] : worst;
        sum += walk->dropped[k];
    }
    snprintf(text, sizeof text, "tolerance %g, dropped: largest %.4g, mean %.4g of a loss's norms",
             walk->tolerance, worst, sum / (double)job->losses);
    return bf_record_set_meta(record, "pruned", text, err);
}

static bf_code walk_into(bf_record *record, R(bf_run_state) *run, bf_check *checks, size_t *n_checks,
                         bf_error *err)
{
    const bf_job *job = run->job;
    R(bf_sink) sink;
    R(bf_checker) checker = {0};
    double seconds_attention = 0.0;
    R(bf_sink_open)(&sink, job, record);
    R(bf_walk) walk = {.c = run->config, .params = run->params, .acts = run->acts, .pool = run->pool,
                       .arena = run->arena, .sink = &sink, .lowest = job->lowest,
                       .stop = job->query->stop, .tolerance = job->query->tolerance, .fold_below = job->fold_below,
                       .blend = job->blend, .cross = job->cross, .top = job->top,
                       .part_rows = job->part_rows,
                       .dropped = bf_arena_take(run->arena, job->losses, sizeof(double)),
                       .seconds_attention = &seconds_attention};
    bf_beam *beams = loss_beams(run);
    bf_code rc = beams && walk.dropped ? take_sums(&walk.sums, run, err) : bf_fail(err, BF_ENOMEM, "cannot hold beams");
    if (!rc && job->scores & BF_SCORE_WEIGHT)
        rc = R(bf_weights_take)(&walk.bands, run->config, job->N, run->arena, err);
    if (!rc && job->query->check)
        rc = R(bf_checker_start)(&checker, &walk, job, err);
    const double start = bf_seconds();
    for (size_t k = 0; k < job->losses && !rc; k++)
        walk.dropped[k] = 0.0;
    if (!rc)
        rc = R(bf_walk_all)(&walk, job->query, beams, job->losses, job->chunk_rows, err);
    if (!rc && job->scores & BF_SCORE_WEIGHT)
        rc = R(bf_weights_measure)(record, run, &walk.bands, err);
    walk.bands = (R(bf_band_sums)){0};
    if (!rc)
        rc = note_dropped(record, &walk, job, err);
    walk.tolerance = 0.0; /* overview and checks are exact */
    if (!rc && job->blocks)
        rc = R(bf_run_overview)(record, &walk, job, err);
    if (!rc)
        rc = R(bf_note_seconds)(record, "seconds_walk", bf_seconds() - start, err);
    if (!rc)
        rc = R(bf_note_seconds)(record, "seconds_attention", seconds_attention, err);
    if (!rc)
        record_sums(record, run, &walk.sums);
    if (!rc && job->query->check)
        rc = R(bf_checker_finish)(&checker, &walk, run, record, checks, n_checks, err);
    R(bf_checker_end)(&checker);
    if (!rc && job->query->precision == BF_PRECISION_BF16)
        rc = R(bf_run_precision)(record, &walk, job, err);
    return rc;
}

bf_code R(bf_run)(bf_record **out, const bf_job *job, const char *path, bf_check *checks,
                  size_t *n_checks, bf_error *err)
{
    R(bf_run_state) run;
    bf_record *record = NULL;
    bf_tensor *specs = NULL;
    size_t n = 0;
    bf_code rc = R(bf_run_new)(&run, job, err);
    if (!rc)
        rc = bf_job_specs(&specs, &n, job, err);
    if (!rc)
        rc = path ? bf_record_create(&record, path, specs, n, err) : bf_record_new(&record, specs, n, err);
    if (!rc)
        run.acts->logprobs = tensor_data(record, "logprobs");
    const double start = bf_seconds();
    report(job->query, "forward", 0.0, start);
    if (!rc)
        rc = R(bf_forward)(run.acts, run.params, run.config, job->inputs, run.pool, run.arena,
                           job->query->stop, err);
    const double seconds = bf_seconds() - start;
    if (!rc && job->query->precision == BF_PRECISION_BF16)
        rc = R(bf_params_bf16)(run.params, true, err);
    if (!rc)
        rc = bf_job_describe(record, job, err);
    if (!rc)
        rc = R(bf_note_seconds)(record, "seconds_forward", seconds, err);
    if (!rc) {
        record_forward(record, &run);
        record_edge_index(record, job);
        rc = walk_into(record, &run, checks, n_checks, err);
    }
    R(bf_run_end)(&run);
    free(specs);
    if (rc) {
        bf_record_free(record);
        return rc;
    }
    *out = record;
    return BF_OK;
}
