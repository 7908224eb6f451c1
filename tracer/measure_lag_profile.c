/* lag_profile: how the flow to earlier tokens falls off with distance.
 *
 * Of N positions, losses i >= N/2 and lags 1 .. N/2 are taken, so that every lag stands in every
 * loss; each loss's flow to these lags is made to sum to 1. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

enum { P_LAYER, P_RESAMPLES, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"layer", 0, 0, 1e6, NULL, "at this layer's input; beyond the last: at the last layer's"},
    {"resamples", 1000, 100, 100000, NULL, "of the bootstrap over texts"},
};

enum { SLOPE, NEAR, FAR, LAGS, TEXTS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [SLOPE] = {"slope", "",
               "of log flow on log lag, every octave counting alike; interval over texts, p by "
               "random signs of the texts' slopes (null: none)"},
    [NEAR] = {"near", "part", "of the flow, to the four lags nearest"},
    [FAR] = {"far", "part", "of the flow, to the farther half of the lags"},
    [LAGS] = {"lags", "tokens", "looked at"},
    [TEXTS] = {"texts", "", "taken"},
};
static const bf_measure_result series[] = {
    {"profile", "part", "of the flow by lag, from lag 1 on; intervals over texts"},
};

/* Shares [texts,M] of lags 1..M. */
static bf_code read_text(double *share, size_t M, const bf_subject *s, size_t t, bf_error *err)
{
    bf_record *record = NULL;
    const size_t N = 2 * M, L = s->model->config.L;
    const size_t l = s->number[P_LAYER] < (double)L ? (size_t)s->number[P_LAYER] : L - 1;
    const size_t length = s->length[t] - 1;
    const bf_code rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE, BF_SCORE_GRAD_NORM, false,
                                        err);
    const bf_tensor *norm = rc ? NULL : bf_record_find(record, "flow.resid_pre.grad_norm");
    double losses = 0.0;
    for (size_t i = M; i < N && !rc; i++) {
        double sum = 0.0;
        for (size_t lag = 1; lag <= M; lag++)
            sum += bf_tensor_value(norm, (l * length + i) * length + i - lag);
        if (!(sum > 0.0))
            continue;
        losses++;
        for (size_t lag = 1; lag <= M; lag++)
            share[lag - 1] += bf_tensor_value(norm, (l * length + i) * length + i - lag) / sum;
    }
    for (size_t k = 0; k < M && losses > 0.0; k++)
        share[k] /= losses;
    bf_record_free(record);
    return rc;
}

/* Weights 1/lag make octaves count alike; lags that nothing reaches have no logarithm. */
static double slope_of(const double *share, size_t M, double *room)
{
    double *x = room, *y = room + M, *w = room + 2 * M;
    for (size_t k = 0; k < M; k++) {
        const bool there = share[k] > 0.0;
        x[k] = log((double)k + 1.0);
        y[k] = there ? log(share[k]) : 0.0;
        w[k] = there ? 1.0 / ((double)k + 1.0) : 0.0;
    }
    return bf_fit_slope(x, y, w, M);
}

/* Mean curves of resamples: slope's interval, and each lag's. share [T,M]; room 4M + resamples
 * (M+1). */
static void resample(bf_reading *out, const double *share, size_t T, size_t M, size_t resamples,
                     uint64_t seed, double *room)
{
    double *mean = room + 3 * M, *slopes = room + 4 * M, *by_lag = slopes + resamples;
    bf_series *y = &out->series[0];
    for (size_t r = 0; r < resamples; r++) {
        for (size_t k = 0; k < M; k++)
            mean[k] = 0.0;
        for (size_t u = 0; u < T; u++) {
            const double *one = share + bf_random_below(&seed, T) * M;
            for (size_t k = 0; k < M; k++)
                mean[k] += one[k] / (double)T;
        }
        slopes[r] = slope_of(mean, M, room);
        for (size_t k = 0; k < M; k++)
            by_lag[k * resamples + r] = mean[k];
    }
    out->result[SLOPE].low = bf_quantile(slopes, resamples, 0.025);
    out->result[SLOPE].high = bf_quantile(slopes, resamples, 0.975);
    for (size_t k = 0; k < M; k++) {
        y->low[k] = bf_quantile(by_lag + k * resamples, resamples, 0.025);
        y->high[k] = bf_quantile(by_lag + k * resamples, resamples, 0.975);
    }
}

/* share [T,M]; part [T] room. */
static bf_code sum_up(bf_reading *out, const double *share, size_t T, size_t M, const bf_subject *s,
                      double *part, double *room, bf_error *err)
{
    const size_t resamples = (size_t)s->number[P_RESAMPLES];
    bf_series *y = &out->series[0];
    bf_estimate e;
    bf_code rc = bf_series_new(y, 1, M, true, err);
    for (size_t k = 0; k < M && !rc; k++) {
        y->x[k] = (double)k + 1.0;
        for (size_t t = 0; t < T; t++)
            y->value[k] += share[t * M + k] / (double)T;
        y->low[k] = y->high[k] = y->value[k];
    }
    if (rc)
        return rc;
    out->result[SLOPE] = bf_plain(slope_of(y->value, M, room));
    if (T > 1)
        resample(out, share, T, M, resamples, s->seed, room);
    for (size_t t = 0; t < T; t++)
        part[t] = slope_of(share + t * M, M, room);
    if (T >= 5)
        out->result[SLOPE].p = bf_sign_test(part, T, 4999, s->seed);
    for (int far = 0; far < 2 && !rc; far++) {
        for (size_t t = 0; t < T; t++) {
            part[t] = 0.0;
            for (size_t k = far ? M / 2 : 0; k < (far ? M : 4) && k < M; k++)
                part[t] += share[t * M + k];
        }
        rc = bf_bootstrap_mean(&e, part, T, resamples, s->seed + 1u, err);
        out->result[far ? FAR : NEAR] = (bf_measured){e.mean, e.low, e.high, NAN};
    }
    out->result[LAGS] = bf_plain((double)M);
    out->result[TEXTS] = bf_plain((double)T);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t T = s->n_texts, resamples = (size_t)s->number[P_RESAMPLES];
    size_t N = SIZE_MAX;
    for (size_t t = 0; t < T; t++)
        N = s->length[t] - 1 < N ? s->length[t] - 1 : N;
    const size_t M = N / 2;
    if (M < 4)
        return bf_fail(err, BF_EARG,
                       "texts of %zu tokens are too short for a profile, wanted 9 or more", N + 1);
    double *share = calloc(T * M, sizeof *share), *part = calloc(T, sizeof *part),
           *room = calloc(4 * M + resamples * (M + 1), sizeof *room);
    bf_code rc = share && part && room
                     ? BF_OK
                     : bf_fail(err, BF_ENOMEM, "cannot hold profiles of %zu texts", T);
    for (size_t t = 0; t < T && !rc; t++) {
        rc = read_text(share + t * M, M, s, t, err);
        bf_subject_tell(s, (double)(t + 1) / (double)T);
    }
    if (!rc)
        rc = sum_up(out, share, T, M, s, part, room, err);
    free(share);
    free(part);
    free(room);
    return rc;
}

const bf_measure bf_measure_lag_profile = {
    {"lag_profile", "how the flow to earlier tokens falls off with distance", params, PARAMS,
     results, RESULTS, series, 1, false},
    run};
