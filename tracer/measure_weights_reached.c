/* weights_reached: through an earlier token, which part of a block's weights gets gradient? */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

enum { P_FLOOR, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"floor", 1e-60, 0, 1, NULL, "norms of a weight's gradient up to this are called underflow"},
};

enum { REACHED, LEAST, MOST, FORMULA, LAST_KV, LAST_OTHERS, LOWER, FIRST, DEPTH, PAIRS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [REACHED] = {"reached", "part",
                 "of the weights in the blocks' matrices, what gets gradient through an "
                 "earlier token from a later loss, on average over pairs j < i, j not the "
                 "first token"},
    [LEAST] = {"least", "part", "the same for the pair where it is least"},
    [MOST] = {"most", "part", "the same for the pair where it is most"},
    [FORMULA] = {"formula", "part",
                 "all matrices of all layers but the last, keys and values of the last"},
    [LAST_KV] = {"last_kv", "part",
                 "of pairs, last layer: those that reach both the key and the value weights"},
    [LAST_OTHERS] = {"last_others", "pairs", "last layer: those that reach any other weight"},
    [LOWER] = {"lower", "part",
               "of pairs and matrices below the last layer, those that are reached"},
    [FIRST] = {"first", "part",
               "the same through the first token: its query reads one key, so a softmax without "
               "slope, and query weights get nothing there"},
    [DEPTH] = {"layers", "layers", "of the model, L"},
    [PAIRS] = {"pairs", "pairs", "0 < j < i that the mask allows"},
};
static const bf_measure_result series[] = {
    {"by_layer", "part",
     "matrices down (q, k, v, o, mlp_in, mlp_gate, mlp_out), layers across: part of the "
     "pairs that reach it; NaN: no such matrix"},
};

typedef struct {
    size_t L;
    size_t size[BF_PARAMS]; /* values in the matrix */
    double *reached;        /* [BF_PARAMS,L] pairs */
    double sum, least, most, kv, others, pairs, first, first_pairs;
} counts;

/* The norms of one pair's weight gradients. */
static void count_pair(counts *n, const bf_tensor *const *norm, size_t N, size_t i, size_t j,
                       double floor)
{
    double part = 0.0, all = 0.0;
    bool last[BF_PARAMS] = {false}, others = false;
    for (size_t l = 0; l < n->L; l++)
        for (size_t p = 0; p < BF_PARAMS; p++) {
            if (!norm[p])
                continue;
            const bool is = bf_tensor_value(norm[p], (l * N + i) * N + j) > floor;
            n->reached[p * n->L + l] += is && j > 0;
            part += is ? (double)n->size[p] : 0.0;
            all += (double)n->size[p];
            if (l + 1 == n->L)
                last[p] = is;
        }
    for (size_t p = 0; p < BF_PARAMS; p++)
        others |= last[p] && p != BF_PARAM_K && p != BF_PARAM_V;
    n->others += others;
    if (j == 0) {
        n->first += part / all;
        n->first_pairs++;
        return;
    }
    n->pairs++;
    n->sum += part / all;
    n->least = fmin(n->least, part / all);
    n->most = fmax(n->most, part / all);
    n->kv += last[BF_PARAM_K] && last[BF_PARAM_V];
}

static bf_code count_text(counts *n, const bf_subject *s, size_t t, bf_error *err)
{
    bf_record *record = NULL;
    bf_reachable can = {0};
    const size_t N = s->length[t] - 1;
    const bf_tensor *norm[BF_PARAMS] = {NULL};
    bf_code rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE, BF_SCORE_PARAM, false, err);
    if (!rc)
        rc = bf_reach_new(&can, s->model, N, err);
    for (size_t p = 0; p < BF_PARAMS && !rc; p++) {
        norm[p] = bf_record_find(record, bf_param_names[p]);
        n->size[p] = norm[p] ? n->size[p] : 0;
    }
    for (size_t i = 0; i < N && !rc; i++)
        for (size_t j = 0; j < i; j++)
            if (bf_can_reach(&can, n->L - 1, i, j))
                count_pair(n, norm, N, i, j, s->number[P_FLOOR]);
    bf_reach_free(&can);
    bf_record_free(record);
    return rc;
}

static bf_code sum_up(bf_reading *out, const counts *n, bf_error *err)
{
    double all = 0.0, lower = 0.0, lower_all = 0.0;
    const size_t L = n->L, kv = n->size[BF_PARAM_K] + n->size[BF_PARAM_V];
    const bf_code rc = bf_series_new(&out->series[0], BF_PARAMS, L, false, err);
    for (size_t p = 0; p < BF_PARAMS && !rc; p++) {
        all += (double)n->size[p];
        for (size_t l = 0; l < L; l++) {
            const double part = n->reached[p * L + l] / n->pairs;
            out->series[0].value[p * L + l] = n->size[p] ? part : NAN;
            if (l + 1 < L && n->size[p]) {
                lower += part;
                lower_all++;
            }
        }
    }
    const double formula = ((double)(L - 1) * all + (double)kv) / ((double)L * all);
    const double value[RESULTS] = {[REACHED] = n->sum / n->pairs,
                                   [LEAST] = n->least,
                                   [MOST] = n->most,
                                   [FORMULA] = formula,
                                   [LAST_KV] = n->kv / n->pairs,
                                   [LAST_OTHERS] = n->others,
                                   [LOWER] = lower_all > 0.0 ? lower / lower_all : 1.0,
                                   [FIRST] = n->first_pairs > 0.0 ? n->first / n->first_pairs : NAN,
                                   [DEPTH] = (double)L,
                                   [PAIRS] = n->pairs};
    for (size_t k = 0; k < RESULTS && !rc; k++)
        out->result[k] = bf_plain(value[k]);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const bf_config *c = &s->model->config;
    counts n = {.L = c->L, .least = INFINITY, .most = -INFINITY};
    const size_t q = c->H * c->K * c->D, k = c->G * c->K * c->D, F = c->F * c->D;
    const size_t size[BF_PARAMS] = {
        [BF_PARAM_Q] = q,      [BF_PARAM_K] = k,        [BF_PARAM_V] = k,      [BF_PARAM_O] = q,
        [BF_PARAM_MLP_IN] = F, [BF_PARAM_MLP_GATE] = F, [BF_PARAM_MLP_OUT] = F};
    bf_code rc = BF_OK;
    memcpy(n.size, size, sizeof size);
    n.reached = calloc(BF_PARAMS * c->L, sizeof *n.reached);
    if (!n.reached)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the weights of %zu layers", c->L);
    for (size_t t = 0; t < s->n_texts && !rc; t++)
        rc = count_text(&n, s, t, err);
    if (!rc && n.pairs == 0.0)
        rc = bf_fail(err, BF_EARG, "no pairs of a loss and an earlier token");
    if (!rc)
        rc = sum_up(out, &n, err);
    free(n.reached);
    return rc;
}

const bf_measure bf_measure_weights_reached = {
    {"weights_reached", "which part of the weights gets gradient through an earlier token", params,
     PARAMS, results, RESULTS, series, 1, false},
    run};
