#include "tracer/num/check.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"

/* A standard normal number from a counter: the same directions every time. */
static double normal(uint64_t k)
{
    uint64_t state = 2 * k * BF_RANDOM_STEP;
    return bf_random_normal(&state);
}

bf_code R(bf_checker_start)(R(bf_checker) *k, R(bf_walk) *walk, const bf_job *job, bf_error *err)
{
    const size_t L = walk->c->L, n = job->N * walk->c->D, middle = (job->lowest + L) / 2;
    k->layer[0] = job->lowest;
    k->layer[1] = middle;
    k->n_layers = middle > job->lowest ? 2 : 1;
    k->direction = calloc(L, sizeof *k->direction);
    k->derivative = calloc(L * job->losses, sizeof *k->derivative);
    k->squares = calloc(L * job->losses, sizeof *k->squares);
    bool ok = k->direction && k->derivative && k->squares;
    for (size_t d = 0; d < k->n_layers && ok; d++) {
        real *u = k->values[d] = malloc(n * sizeof *u);
        ok = u != NULL;
        for (size_t e = 0; e < n && ok; e++)
            u[e] = (real)normal(d * n + e);
        if (ok)
            k->direction[k->layer[d]] = u;
    }
    if (!ok)
        return bf_fail(err, BF_ENOMEM, "cannot hold the directions of the check");
    walk->probe.direction = k->direction;
    walk->probe.derivative = k->derivative;
    walk->probe.squares = k->squares;
    walk->residuals = &k->residuals;
    return BF_OK;
}

void R(bf_checker_end)(R(bf_checker) *k)
{
    free(k->direction);
    free(k->derivative);
    free(k->squares);
    for (size_t d = 0; d < BF_DIRECTIONS; d++)
        free(k->values[d]);
}

static double relative(double worst, double size)
{
    return size > 0.0 ? worst / size : worst;
}

/* Larger, with NaN the largest of all. */
static double larger(double a, double b)
{
    return a >= b ? a : b != b || b > a ? b : a;
}

static void put(bf_check *checks, size_t *n, const char *name, double residual, double tolerance,
                const char *what)
{
    bf_check *c = &checks[(*n)++];
    snprintf(c->name, sizeof c->name, "%s", name);
    snprintf(c->what, sizeof c->what, "%s", what);
    c->residual = residual;
    c->tolerance = tolerance;
}

/* --- rows add up to the ordinary backward pass */

/* Chosen losses as runs of neighbours, each walked as one sum. */
static size_t block_beams(bf_beam *beams, const bf_job *job)
{
    size_t n = 0;
    for (size_t k = 0; k < job->losses; k++) {
        const bool next = n && beams[n - 1].own + 1 == job->loss[k];
        const size_t lo = next ? beams[n - 1].lo : job->loss[k] - job->summed;
        n += next ? 0 : 1;
        beams[n - 1] = bf_beam_make(&job->config, job->N, n - 1, lo, job->loss[k], job->lowest);
    }
    return n;
}

/* Largest difference of column sums over losses, and the largest sum, of a tensor [outer, losses, N]. */
static void compare_columns(double *worst, double *size, const real *rows, size_t n_rows,
                            const real *blocks, size_t n_blocks, size_t outer, size_t N)
{
    for (size_t o = 0; o < outer; o++) {
        for (size_t j = 0; j < N; j++) {
            double a = 0.0, b = 0.0;
            for (size_t i = 0; i < n_rows; i++)
                a += (double)rows[(o * n_rows + i) * N + j];
            for (size_t i = 0; i < n_blocks; i++)
                b += (double)blocks[(o * n_blocks + i) * N + j];
            *worst = larger(*worst, fabs(a - b));
            *size = larger(*size, fabs(b));
        }
    }
}

static bf_code rows_sum(double *residual, R(bf_walk) *walk, const bf_job *job, bf_error *err)
{
    const R(bf_sink) *rows = walk->sink;
    R(bf_sink) blocks = {.layer_slot = rows->layer_slot, .N = job->N};
    bf_beam *beams = calloc(job->losses, sizeof *beams);
    double worst = 0.0, size = 0.0;
    if (!beams)
        return bf_fail(err, BF_ENOMEM, "cannot hold the beams of the check");
    blocks.losses = block_beams(beams, job);
    size_t outer[BF_SITES] = {0};
    bool ok = true;
    for (unsigned k = 0; k < BF_SITES; k++) {
        if (!rows->dot[k])
            continue;
        const size_t heads = bf_site_heads(walk->c, 1u << k);
        outer[k] = 1u << k == BF_SITE_RESID_FINAL ? 1 : job->layers * (heads ? heads : 1);
        blocks.dot[k] = calloc(outer[k] * blocks.losses * job->N, sizeof(real));
        ok = ok && blocks.dot[k];
    }
    bf_code rc = ok ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold the summed walk of the check");
    R(bf_walk) summed = *walk;
    summed.sink = &blocks;
    summed.sums = (R(bf_sums)){0};
    summed.probe = (R(bf_probe)){0};
    summed.fold_below = 0;
    summed.blend = summed.cross = summed.top = false;
    if (!rc)
        rc = R(bf_walk_all)(&summed, job->query, beams, blocks.losses, job->chunk_rows, err);
    for (unsigned k = 0; k < BF_SITES; k++) {
        if (!rc && rows->dot[k])
            compare_columns(&worst, &size, rows->dot[k], rows->losses, blocks.dot[k], blocks.losses,
                            outer[k], job->N);
        free(blocks.dot[k]);
    }
    free(beams);
    *residual = relative(worst, size);
    return rc;
}

/* --- zeros where nothing can arrive */

/* Of one layer's rows [heads, losses, N], which lie below the attention of layer l. */
static double beyond_reach(const real *t, size_t heads, size_t l, const bf_job *job)
{
    double worst = 0.0;
    for (size_t o = 0; t && o < heads * job->losses; o++) {
        const size_t i = job->loss[o % job->losses];
        const bf_span span = bf_walk_span(&job->config, job->N, (bf_span){0, i - job->summed, i}, l);
        for (size_t j = 0; j < job->N; j++)
            if (!bf_span_has(span, j))
                worst = larger(worst, fabs((double)t[o * job->N + j]));
    }
    return worst;
}

static double out_of_reach(const R(bf_sink) *sink, const bf_job *job)
{
    const unsigned below = BF_SITE_RESID_PRE | BF_SITE_K | BF_SITE_V;
    double worst = 0.0;
    for (unsigned k = 0; k < BF_SITES; k++) {
        const bool final = 1u << k == BF_SITE_RESID_FINAL;
        const size_t site_heads = bf_site_heads(&job->config, 1u << k), heads = site_heads ? site_heads : 1;
        for (size_t n = 0; n < (final ? 1 : job->layers); n++) {
            const size_t at = n * heads * job->losses * job->N;
            const size_t l = final ? job->config.L : job->layer[n] + (1u << k & below ? 0 : 1);
            worst = larger(worst, beyond_reach(sink->norm[k] ? sink->norm[k] + at : NULL, heads, l, job));
            worst = larger(worst, beyond_reach(sink->dot[k] ? sink->dot[k] + at : NULL, heads, l, job));
        }
    }
    return worst;
}

/* --- central differences */

static bf_code differences(double *residual, const R(bf_checker) *k, const bf_job *job, bf_error *err)
{
    const size_t n = job->N * job->config.D;
    double *u = malloc(n * sizeof *u), *slope = malloc(job->N * sizeof *slope);
    bf_code rc = u && slope ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold the check's directions");
    for (size_t d = 0; d < k->n_layers && !rc; d++) {
        double worst = 0.0, size = 0.0;
        for (size_t e = 0; e < n; e++)
            u[e] = (double)k->values[d][e];
        rc = bf_differences(slope, job, k->layer[d], u, err);
        for (size_t i = 0; i < job->losses && !rc; i++) {
            const double walked = k->derivative[k->layer[d] * job->losses + i];
            double real_slope = 0.0;
            for (size_t s = 0; s <= job->summed; s++)
                real_slope += slope[job->loss[i] - s];
            worst = larger(worst, fabs(walked - real_slope));
            /* along a standard normal direction a gradient g slopes by about |g| */
            size = larger(size, sqrt(k->squares[k->layer[d] * job->losses + i]));
        }
        *residual = larger(*residual, relative(worst, size));
    }
    free(u);
    free(slope);
    return rc;
}

/* Roundings of the walk, with room; differences are always made in double. bfloat16 has 8 bits. */
typedef struct {
    double rows_sum, softmax_rows, key_bias, difference;
} limits;

static const limits limits_of[] = {[BF_PRECISION_F32] = {1e-4, 1e-5, 1e-4, 1e-3},
                                   [BF_PRECISION_F64] = {1e-10, 1e-12, 1e-10, 1e-6},
                                   [BF_PRECISION_BF16] = {5e-2, 1e-5, 1e-4, 5e-2}};

static bf_code note(bf_record *record, const bf_check *checks, size_t n, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        char key[48], value[96];
        snprintf(key, sizeof key, "check.%s", checks[k].name);
        snprintf(value, sizeof value, "%.3g (tolerance %.3g)", checks[k].residual, checks[k].tolerance);
        rc = bf_record_set_meta(record, key, value, err);
    }
    return rc;
}

bf_code R(bf_checker_finish)(R(bf_checker) *k, R(bf_walk) *walk, R(bf_run_state) *run,
                             bf_record *record, bf_check *checks, size_t *n_checks, bf_error *err)
{
    const limits *at = &limits_of[run->job->query->precision];
    double sum = 0.0, difference = 0.0;
    bf_code rc = rows_sum(&sum, walk, run->job, err);
    if (!rc)
        rc = differences(&difference, k, run->job, err);
    if (rc)
        return rc;
    *n_checks = 0;
    put(checks, n_checks, "rows_sum", sum, at->rows_sum,
        "the rows of all losses add up to the ordinary backward pass of their sum");
    put(checks, n_checks, "zeros", out_of_reach(walk->sink, run->job), 0.0,
        "nothing arrives where no query lets it through");
    put(checks, n_checks, "softmax_rows", k->residuals.softmax_rows, at->softmax_rows,
        "each softmax row's score gradients add up to 0");
    if (run->config->pos != BF_POS_ROTARY)
        put(checks, n_checks, "key_bias", relative(k->residuals.key_sum, k->residuals.key_size),
            at->key_bias, "each loss's key gradients add up to 0 where keys are not rotated");
    put(checks, n_checks, "central_difference", difference, at->difference,
        "the flow predicts the change of each loss along random directions");
    return note(record, checks, *n_checks, err);
}
