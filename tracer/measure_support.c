/* support: which positions does each loss's gradient arrive at, against what the mask allows? */
#include "tracer/measure.h"

#include <math.h>
#include <string.h>

enum { P_LAYER, P_FLOOR, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"layer", 0, 0, 1e6, NULL, "at this layer's input; beyond the last: at the last layer's"},
    {"floor", 1e-60, 0, 1, NULL, "norms up to this are called underflow"},
};

enum {
    ALLOWED,
    REACHED,
    SMALLEST,
    UNDERFLOW,
    EARLIER,
    LATER,
    EARLIER_ALLOWED,
    LATER_ALLOWED,
    BROKEN,
    PAIRS,
    RESULTS
};
static const bf_measure_result results[RESULTS] = {
    [ALLOWED] = {"allowed", "part", "of all pairs (loss i, position j), what the mask allows"},
    [REACHED] = {"reached", "part", "of the allowed pairs, those whose norm is above the floor"},
    [SMALLEST] = {"smallest", "nats per unit", "norm among the allowed pairs"},
    [UNDERFLOW] = {"underflow", "pairs", "allowed, but at the floor or below it"},
    [EARLIER] = {"earlier", "part", "of the pairs j <= i, those whose norm is above the floor"},
    [LATER] = {"later", "part", "of the pairs j > i, those whose norm is above the floor"},
    [EARLIER_ALLOWED] = {"earlier_allowed", "part", "of the pairs j <= i, what the mask allows"},
    [LATER_ALLOWED] = {"later_allowed", "part", "of the pairs j > i, what the mask allows"},
    [BROKEN] = {"broken", "pairs", "structurally zero, yet not 0.0 in the record"},
    [PAIRS] = {"pairs", "pairs", "looked at"},
};
static const bf_measure_result series[] = {
    {"flow", "log10 nats per unit", "losses down, positions across; NaN: structural"},
};

typedef struct {
    double allowed, reached, underflow, earlier, earlier_pairs, later, later_pairs, earlier_allowed,
        later_allowed, broken, pairs, smallest;
} counts;

static void count_pair(counts *n, bool allowed, bool later, double norm, double floor)
{
    const bool above = norm > floor;
    n->pairs++;
    n->allowed += allowed;
    n->reached += allowed && above;
    n->underflow += allowed && !above;
    n->broken += !allowed && norm != 0.0;
    *(later ? &n->later_pairs : &n->earlier_pairs) += 1.0;
    *(later ? &n->later : &n->earlier) += above;
    *(later ? &n->later_allowed : &n->earlier_allowed) += allowed;
    if (allowed)
        n->smallest = fmin(n->smallest, norm);
}

static bf_code count_text(counts *n, bf_series *flow, const bf_subject *s, size_t t, bf_error *err)
{
    bf_record *record = NULL;
    bf_reachable can = {0};
    const size_t N = s->length[t] - 1, L = s->model->config.L;
    const size_t l = s->number[P_LAYER] < (double)L ? (size_t)s->number[P_LAYER] : L - 1;
    bf_code rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE, BF_SCORE_GRAD_NORM, false, err);
    if (!rc)
        rc = bf_reach_new(&can, s->model, N, err);
    if (!rc && t == 0)
        rc = bf_series_new(flow, N, N, false, err);
    const bf_tensor *norm = rc ? NULL : bf_record_find(record, "flow.resid_pre.grad_norm");
    for (size_t i = 0; i < N && !rc; i++)
        for (size_t j = 0; j < N; j++) {
            const double g = bf_tensor_value(norm, (l * N + i) * N + j);
            const bool allowed = bf_can_reach(&can, l, i, j);
            count_pair(n, allowed, j > i, g, s->number[P_FLOOR]);
            if (t == 0)
                flow->value[i * N + j] = allowed ? log10(fmax(g, 1e-300)) : NAN;
        }
    bf_reach_free(&can);
    bf_record_free(record);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    counts n = {.smallest = INFINITY};
    bf_code rc = BF_OK;
    for (size_t t = 0; t < s->n_texts && !rc; t++)
        rc = count_text(&n, &out->series[0], s, t, err);
    const double value[RESULTS] = {[ALLOWED] = n.allowed / n.pairs,
                                   [REACHED] = n.reached / n.allowed,
                                   [SMALLEST] = n.smallest,
                                   [UNDERFLOW] = n.underflow,
                                   [EARLIER] = n.earlier / n.earlier_pairs,
                                   [LATER] = n.later / n.later_pairs,
                                   [EARLIER_ALLOWED] = n.earlier_allowed / n.earlier_pairs,
                                   [LATER_ALLOWED] = n.later_allowed / n.later_pairs,
                                   [BROKEN] = n.broken,
                                   [PAIRS] = n.pairs};
    for (size_t k = 0; k < RESULTS && !rc; k++)
        out->result[k] = bf_plain(value[k]);
    return rc;
}

const bf_measure bf_measure_support = {
    {"support", "which positions each loss's gradient arrives at, against what the mask allows",
     params, PARAMS, results, RESULTS, series, 1, false},
    run};
