/* The list of measures, and what they share. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

static const bf_measure *const MEASURES[] = {
    &bf_measure_support,         &bf_measure_replace,      &bf_measure_staircase,
    &bf_measure_weights_reached, &bf_measure_attends,      &bf_measure_permute,
    &bf_measure_lag_profile,     &bf_measure_spread,       &bf_measure_own_future,
    &bf_measure_chain_rule,      &bf_measure_low_entropy,  &bf_measure_teacher,
    &bf_measure_prediction,      &bf_measure_interference, &bf_measure_kept,
    &bf_measure_kept_gap,
};
enum { MEASURE_COUNT = sizeof MEASURES / sizeof *MEASURES };

const bf_measure *bf_measure_of(size_t k)
{
    return MEASURES[k];
}

const bf_measure_info *bf_measure_at(size_t k)
{
    return k < MEASURE_COUNT ? &MEASURES[k]->info : NULL;
}

bf_code bf_subject_trace(bf_record **out, const bf_subject *s, size_t t, unsigned sites,
                         unsigned scores, bool attn, bf_error *err)
{
    const bf_query query = {.tokens = s->text[t],
                            .n_tokens = s->length[t],
                            .sites = sites,
                            .scores = scores,
                            .no_attn = !attn,
                            .precision = BF_PRECISION_F64,
                            .memory = s->query->memory,
                            .threads = s->query->threads,
                            .stop = s->query->stop};
    return bf_trace(out, s->model, &query, NULL, NULL, NULL, err);
}

void bf_subject_tell(const bf_subject *s, double done)
{
    if (s->query->progress)
        s->query->progress(s->query->progress_context, bf_model_dims(s->model)->name, done, 0.0);
}

bf_code bf_series_new(bf_series *series, size_t rows, size_t columns, bool intervals, bf_error *err)
{
    *series = (bf_series){.rows = rows, .columns = columns};
    series->x = calloc(columns + 1, sizeof(double));
    series->value = calloc(rows * columns + 1, sizeof(double));
    series->low = intervals ? calloc(rows * columns + 1, sizeof(double)) : NULL;
    series->high = intervals ? calloc(rows * columns + 1, sizeof(double)) : NULL;
    if (!series->x || !series->value || (intervals && (!series->low || !series->high)))
        return bf_fail(err, BF_ENOMEM, "cannot hold a series of %zu values", rows * columns);
    for (size_t k = 0; k < columns; k++)
        series->x[k] = (double)k;
    return BF_OK;
}

void bf_series_free(bf_series *series)
{
    free(series->x);
    free(series->value);
    free(series->low);
    free(series->high);
}

/* ---- what the mask lets through */

bf_code bf_reach_new(bf_reachable *out, const bf_model *model, size_t N, bf_error *err)
{
    const bf_config *c = &model->config;
    const size_t L = c->L;
    *out = (bf_reachable){.L = L, .N = N, .can = calloc((L + 1) * N * N, 1)};
    if (!out->can)
        return bf_fail(err, BF_ENOMEM, "cannot hold the reach of %zu positions", N);
    for (size_t i = 0; i < N; i++)
        out->can[(L * N + i) * N + i] = 1;
    for (size_t l = L; l-- > 0;)
        for (size_t i = 0; i < N; i++) {
            const char *above = out->can + ((l + 1) * N + i) * N;
            char *here = out->can + (l * N + i) * N;
            for (size_t r = 0; r < N; r++)
                for (size_t j = 0; above[r] && j < N; j++) {
                    const bf_mask mask = bf_config_mask(c, l);
                    here[j] |= j == r || bf_span_has(bf_mask_flow(&mask, r, N), j);
                }
        }
    return BF_OK;
}

void bf_reach_free(bf_reachable *reach)
{
    free(reach->can);
}
