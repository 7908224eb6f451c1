/* attends: does every query give every key some weight, and does flow come down there by k and by
 * v? */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

enum { P_FLOOR, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"floor", 1e-60, 0, 1, NULL, "weights and norms up to this are called underflow"},
};

enum { WEIGHTS, SMALLEST, BY_K, BY_V, STREAM, UNDERFLOW, LAST_SMALLEST, NINE_TENTHS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [WEIGHTS] = {"attended", "part",
                 "of (layer, head, query, key <= query), those with a weight above the floor"},
    [SMALLEST] = {"smallest", "weight", "among them"},
    [BY_K] = {"by_k", "part",
              "of (layer, key head, loss i >= 1, position j <= i), those whose key gets gradient"},
    [BY_V] = {"by_v", "part", "of the same, those whose value gets gradient"},
    [STREAM] = {"stream", "part",
                "of (layer, loss, position j <= i), those whose layer input gets gradient"},
    [UNDERFLOW] = {"underflow", "weights",
                   "at the floor or below it, though the mask lets the key be read"},
    [LAST_SMALLEST] = {"last_smallest", "weight", "the smallest that the last token gives"},
    [NINE_TENTHS] = {"nine_tenths", "part",
                     "of its keys that the last token gives 90 % of its weight, the "
                     "median over layers and heads"},
};

typedef struct {
    double weights, above, k, k_above, v_above, stream, stream_above, smallest, last, underflow;
    double *part; /* [texts*L*H] */
    size_t n_parts;
} counts;

static int falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x > y ? -1 : x < y;
}

/* How many of n weights, the largest first, make nine tenths? As a part of n. */
static double nine_tenths(double *weight, size_t n)
{
    double sum = 0.0;
    size_t k = 0;
    qsort(weight, n, sizeof *weight, falling);
    while (k < n && sum < 0.9)
        sum += weight[k++];
    return (double)k / (double)n;
}

static void count_attention(counts *n, const bf_tensor *attn, const bf_config *c, size_t N,
                            double floor, double *room)
{
    for (size_t l = 0; l < c->L; l++) {
        const bf_mask mask = bf_config_mask(c, l);
        for (size_t h = 0; h < c->H; h++) {
            for (size_t q = 0; q < N; q++) {
                const bf_span keys = bf_mask_keys(&mask, q, N);
                for (size_t k = 0; k <= q; k++) {
                    const double w = bf_tensor_value(attn, ((l * c->H + h) * N + q) * N + k);
                    n->weights++;
                    n->above += w > floor;
                    n->underflow += bf_span_has(keys, k) && !(w > floor);
                    n->smallest = fmin(n->smallest, w);
                    if (q + 1 == N)
                        n->last = fmin(n->last, room[k] = w);
                }
            }
            n->part[n->n_parts++] = nine_tenths(room, N);
        }
    }
}

static void count_flow(counts *n, const bf_record *record, const bf_config *c, size_t N,
                       double floor)
{
    const bf_tensor *k = bf_record_find(record, "flow.k.grad_norm"),
                    *v = bf_record_find(record, "flow.v.grad_norm"),
                    *x = bf_record_find(record, "flow.resid_pre.grad_norm");
    for (size_t l = 0; l < c->L; l++)
        for (size_t i = 1; i < N; i++)
            for (size_t j = 0; j <= i; j++) {
                n->stream++;
                n->stream_above += bf_tensor_value(x, (l * N + i) * N + j) > floor;
                for (size_t g = 0; g < c->G; g++) {
                    const size_t at = ((l * c->G + g) * N + i) * N + j;
                    n->k++;
                    n->k_above += bf_tensor_value(k, at) > floor;
                    n->v_above += bf_tensor_value(v, at) > floor;
                }
            }
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const bf_config *c = &s->model->config;
    counts n = {.smallest = INFINITY, .last = INFINITY};
    bf_code rc = BF_OK;
    size_t most = 0;
    for (size_t t = 0; t < s->n_texts; t++)
        most = s->length[t] > most ? s->length[t] : most;
    double *room = malloc((most + 1) * sizeof *room);
    n.part = malloc((s->n_texts * c->L * c->H + 1) * sizeof *n.part);
    if (!room || !n.part)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the attention of %zu tokens", most);
    for (size_t t = 0; t < s->n_texts && !rc; t++) {
        bf_record *record = NULL;
        const size_t N = s->length[t] - 1;
        rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE | BF_SITE_K | BF_SITE_V,
                              BF_SCORE_GRAD_NORM, true, err);
        if (!rc) {
            count_attention(&n, bf_record_find(record, "attn"), c, N, s->number[P_FLOOR], room);
            count_flow(&n, record, c, N, s->number[P_FLOOR]);
        }
        bf_record_free(record);
    }
    if (!rc) {
        const double value[RESULTS] = {[WEIGHTS] = n.above / n.weights,
                                       [SMALLEST] = n.smallest,
                                       [BY_K] = n.k_above / n.k,
                                       [BY_V] = n.v_above / n.k,
                                       [STREAM] = n.stream_above / n.stream,
                                       [UNDERFLOW] = n.underflow,
                                       [LAST_SMALLEST] = n.last,
                                       [NINE_TENTHS] = bf_quantile(n.part, n.n_parts, 0.5)};
        for (size_t k = 0; k < RESULTS; k++)
            out->result[k] = bf_plain(value[k]);
    }
    free(room);
    free(n.part);
    return rc;
}

const bf_measure bf_measure_attends = {
    {"attends",
     "whether every query weighs every key, and flow comes down there by key and by value", params,
     PARAMS, results, RESULTS, NULL, 0, false},
    run};
