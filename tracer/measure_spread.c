/* spread: does a loss's flow go to all other positions alike? Against an even share each. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

enum { P_LAYER, P_MASKED, P_RESAMPLES, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"layer", 0, 0, 1e6, NULL, "at this layer's input; beyond the last: at the last layer's"},
    {"masked", 7, 2, 1000, NULL,
     "bidirectional models: every so many-th token is masked, and has a loss"},
    {"resamples", 1000, 100, 100000, NULL, "of the bootstrap over texts"},
};

enum { EVENNESS, LARGEST, DEVIATION, SUPPORT, BOTH, LOSSES, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [EVENNESS] = {"evenness", "part",
                  "exp(entropy of the shares) / positions: 1 if all others get alike"},
    [LARGEST] = {"largest", "times", "the largest share, in units of an even one"},
    [DEVIATION] = {"deviation", "part",
                   "standard deviation of the shares, in units of an even one"},
    [SUPPORT] = {"support", "part",
                 "of pairs (loss, other position that the mask allows), those with flow"},
    [BOTH] = {"both_sides", "part",
              "of the losses, those whose flow goes to earlier and to later positions"},
    [LOSSES] = {"losses", "", "looked at"},
};
static const bf_measure_result series[] = {
    {"shares", "even shares",
     "by rank, the largest first, in units of an even share, mean over losses"},
};

enum { RANKS = 32 };

typedef struct {
    double evenness, largest, deviation, losses; /* of one text */
    double support, pairs, both, all_losses, rank[RANKS];
} counts;

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* Norms of n other positions; 4 or more. */
static void count_loss(counts *n, double *norm, size_t others)
{
    double sum = 0.0, entropy = 0.0, squares = 0.0;
    for (size_t k = 0; k < others; k++)
        sum += norm[k];
    if (!(sum > 0.0))
        return;
    qsort(norm, others, sizeof *norm, falling);
    for (size_t k = 0; k < others; k++) {
        const double p = norm[k] / sum, even = p * (double)others;
        entropy -= p > 0.0 ? p * log(p) : 0.0;
        squares += (even - 1.0) * (even - 1.0);
    }
    for (size_t k = 0; k < RANKS; k++)
        n->rank[k] += norm[k * (others - 1) / (RANKS - 1)] / sum * (double)others;
    n->evenness += exp(entropy) / (double)others;
    n->largest += norm[0] / sum * (double)others;
    n->deviation += sqrt(squares / (double)others);
    n->losses++;
    n->all_losses++;
}

static bf_code trace(bf_record **record, const bf_subject *s, size_t t, size_t *masked,
                     bf_error *err)
{
    const bf_config *c = &s->model->config;
    const size_t every = (size_t)s->number[P_MASKED];
    bf_query q = {.tokens = s->text[t],
                  .n_tokens = s->length[t],
                  .sites = BF_SITE_RESID_PRE,
                  .scores = BF_SCORE_GRAD_NORM,
                  .no_attn = true,
                  .precision = BF_PRECISION_F64,
                  .memory = s->query->memory,
                  .threads = s->query->threads,
                  .stop = s->query->stop};
    if (bf_config_mask(c, 0).bidirectional) {
        q.n_tokens--; /* as many positions as in a causal run */
        for (size_t k = every / 2; k < q.n_tokens; k += every)
            masked[q.n_masked++] = k;
        q.masked = masked;
    }
    return bf_trace(record, s->model, &q, NULL, NULL, NULL, err);
}

static bf_code count_text(counts *n, const bf_subject *s, size_t t, double *norm, size_t *masked,
                          bf_error *err)
{
    bf_record *record = NULL;
    bf_reachable can = {0};
    const size_t N = s->length[t] - 1, L = s->model->config.L;
    const size_t l = s->number[P_LAYER] < (double)L ? (size_t)s->number[P_LAYER] : L - 1;
    bf_code rc = trace(&record, s, t, masked, err);
    if (!rc)
        rc = bf_reach_new(&can, s->model, N, err);
    const bf_tensor *flow = rc ? NULL : bf_record_find(record, "flow.resid_pre.grad_norm"),
                    *chosen = rc ? NULL : bf_record_find(record, "losses");
    const size_t I = rc ? 0 : flow->dim[1];
    for (size_t k = 0; k < I; k++) {
        const size_t i = chosen ? (size_t)bf_tensor_value(chosen, k) : k;
        size_t others = 0;
        bool before = false, behind = false;
        for (size_t j = 0; j < N; j++) {
            const double g = bf_tensor_value(flow, (l * I + k) * N + j);
            if (j == i || !bf_can_reach(&can, l, i, j))
                continue;
            norm[others++] = g;
            n->support += g > 0.0;
            n->pairs++;
            *(j < i ? &before : &behind) |= g > 0.0;
        }
        if (others >= 4) {
            count_loss(n, norm, others);
            n->both += before && behind;
        }
    }
    bf_reach_free(&can);
    bf_record_free(record);
    return rc;
}

static bf_code sum_up(bf_reading *out, const counts *n, const double *mean, size_t T,
                      const bf_subject *s, bf_error *err)
{
    bf_code rc = bf_series_new(&out->series[0], 1, RANKS, false, err);
    for (size_t k = 0; k < RANKS && !rc; k++) {
        out->series[0].x[k] = (double)k / (RANKS - 1);
        out->series[0].value[k] = n->rank[k] / n->all_losses;
    }
    for (size_t r = 0; r < 3 && !rc; r++) {
        bf_estimate e;
        rc = bf_bootstrap_mean(&e, mean + r * T, T, (size_t)s->number[P_RESAMPLES], s->seed, err);
        out->result[EVENNESS + r] = (bf_measured){e.mean, e.low, e.high, NAN};
    }
    out->result[SUPPORT] = bf_plain(n->support / n->pairs);
    out->result[BOTH] = bf_plain(n->both / n->all_losses);
    out->result[LOSSES] = bf_plain(n->all_losses);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    counts n = {0};
    size_t most = 0, used = 0;
    bf_code rc = BF_OK;
    for (size_t t = 0; t < s->n_texts; t++)
        most = s->length[t] > most ? s->length[t] : most;
    const size_t T = s->n_texts;
    double *norm = malloc((most + 1) * sizeof *norm), *mean = calloc(3 * T, sizeof *mean);
    size_t *masked = malloc((most + 1) * sizeof *masked);
    if (!norm || !mean || !masked)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the flow of %zu tokens", most);
    for (size_t t = 0; t < T && !rc; t++) {
        n.evenness = n.largest = n.deviation = n.losses = 0.0;
        rc = count_text(&n, s, t, norm, masked, err);
        if (rc || n.losses == 0.0)
            continue;
        mean[used] = n.evenness / n.losses;
        mean[T + used] = n.largest / n.losses;
        mean[2 * T + used++] = n.deviation / n.losses;
    }
    if (!rc && used < T)
        rc = bf_fail(err, BF_EARG, "%zu of %zu texts have no loss with flow to 4 other positions",
                     T - used, T);
    if (!rc)
        rc = sum_up(out, &n, mean, T, s, err);
    free(norm);
    free(mean);
    free(masked);
    return rc;
}

const bf_measure bf_measure_spread = {{"spread",
                                       "whether a loss's flow goes to all other positions alike",
                                       params, PARAMS, results, RESULTS, series, 1, false},
                                      run};
