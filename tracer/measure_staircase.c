/* staircase: how far up, and how far back? Layer against lag. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

enum { P_FLOOR, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"floor", 1e-60, 0, 1, NULL, "norms up to this are called underflow"},
};

enum { ONE_EACH, MASK, REACHED, TOP_FAR, LAYERS, LAGS, UNDERFLOW, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [ONE_EACH] =
        {"one_layer_a_token", "part",
         "of the cells (layer, lag >= 1), those that are as the claim has it: layer l's output is "
         "reached from up to L - l tokens on, and from no further"},
    [MASK] = {"as_mask", "part", "of the cells, those that are reached as the mask says"},
    [REACHED] = {"reached", "part", "of the cells, those that some loss reaches"},
    [TOP_FAR] = {"top_far", "layers", "whose output is reached at the largest lag"},
    [LAYERS] = {"layers", "layers", "of the model, L"},
    [LAGS] = {"lags", "tokens", "the largest lag looked at"},
    [UNDERFLOW] = {"underflow", "cells", "that the mask allows, but at the floor or below it"},
};
static const bf_measure_result series[] = {
    {"reach", "part",
     "layers up (row l: output of layer l, 0 the embedding), lags across: part of the "
     "pairs of that lag that are reached"},
    {"top", "layer", "by lag: the highest layer whose output is reached; NaN: none is"},
};

/* Cells [L,N]: pairs, those reached, those that the mask allows. */
typedef struct {
    size_t L, N;
    double *pairs, *reached, *allowed;
} cells;

static bf_code count_text(cells *y, const bf_subject *s, size_t t, bf_error *err)
{
    bf_record *record = NULL;
    bf_reachable can = {0};
    const size_t N = s->length[t] - 1;
    bf_code rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE, BF_SCORE_GRAD_NORM, false, err);
    if (!rc)
        rc = bf_reach_new(&can, s->model, N, err);
    const bf_tensor *norm = rc ? NULL : bf_record_find(record, "flow.resid_pre.grad_norm");
    for (size_t l = 0; l < y->L && !rc; l++)
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j <= i; j++) {
                const size_t at = l * y->N + i - j;
                y->pairs[at]++;
                y->reached[at] += bf_tensor_value(norm, (l * N + i) * N + j) > s->number[P_FLOOR];
                y->allowed[at] += bf_can_reach(&can, l, i, j);
            }
    bf_reach_free(&can);
    bf_record_free(record);
    return rc;
}

/* Row l is the input of layer l, and so the output of the l-th layer of L, counted from 1. */
static bf_code sum_up(bf_reading *out, const cells *y, bf_error *err)
{
    double as_claimed = 0.0, as_mask = 0.0, reached = 0.0, underflow = 0.0, far = 0.0, n = 0.0;
    bf_code rc = bf_series_new(&out->series[0], y->L, y->N, false, err);
    if (!rc)
        rc = bf_series_new(&out->series[1], 1, y->N, false, err);
    for (size_t lag = 0; lag < y->N && !rc; lag++)
        out->series[1].value[lag] = NAN;
    for (size_t l = 0; l < y->L && !rc; l++)
        for (size_t lag = 0; lag < y->N; lag++) {
            const size_t at = l * y->N + lag;
            const bool is = y->reached[at] > 0.0, may = y->allowed[at] > 0.0;
            out->series[0].value[at] = y->reached[at] / y->pairs[at];
            if (is)
                out->series[1].value[lag] = (double)l;
            if (lag == 0)
                continue;
            n++;
            as_claimed += is == (lag <= y->L - l);
            as_mask += is == may;
            reached += is;
            underflow += may && !is;
            if (lag == y->N - 1 && is)
                far = (double)l;
        }
    const double value[RESULTS] = {[ONE_EACH] = as_claimed / n, [MASK] = as_mask / n,
                                   [REACHED] = reached / n,     [TOP_FAR] = far,
                                   [LAYERS] = (double)y->L,     [LAGS] = (double)y->N - 1.0,
                                   [UNDERFLOW] = underflow};
    for (size_t k = 0; k < RESULTS && !rc; k++)
        out->result[k] = bf_plain(value[k]);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    cells y = {.L = s->model->config.L};
    bf_code rc = BF_OK;
    for (size_t t = 0; t < s->n_texts; t++)
        y.N = s->length[t] - 1 > y.N ? s->length[t] - 1 : y.N;
    if (y.N < 2)
        return bf_fail(err, BF_EARG, "texts of %zu tokens are too short for lags", y.N + 1);
    y.pairs = calloc(3 * y.L * y.N, sizeof *y.pairs);
    if (!y.pairs)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu layers of %zu lags", y.L, y.N);
    y.reached = y.pairs + y.L * y.N;
    y.allowed = y.reached + y.L * y.N;
    for (size_t t = 0; t < s->n_texts && !rc; t++)
        rc = count_text(&y, s, t, err);
    if (!rc)
        rc = sum_up(out, &y, err);
    free(y.pairs);
    return rc;
}

const bf_measure bf_measure_staircase = {
    {"staircase", "which layers' outputs are reached from how many tokens on", params, PARAMS,
     results, RESULTS, series, 2, false},
    run};
