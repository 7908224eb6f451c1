/* interference: the weight gradient of each token's loss against those of the others, and one step
 * of gradient descent after each token against one step for all of them. */
#include "tracer/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/train.h"
#include "base/gemm.h"
#include "model/files.h"
#include "model/num/train.h"

enum { P_RATE, PARAMS, RATES = 3 };
static const bf_measure_param params[PARAMS] = {
    {"rate", 1e-4, 1e-9, 1, NULL, "of the steps, and 10 and 100 times as much"},
};

enum { PASSED, COSINE, CROSS, SMALL, MIDDLE, LARGE, TOKENS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [PASSED] =
        {"passed_on", "part",
         "what small steps on tokens' losses do to the next tokens', in units of what they do to "
         "their own: sum <g_i, g_i+1> / sum <g_i, g_i> over a text's tokens; p by random signs "
         "over texts (null: 0)"},
    [COSINE] = {"cosine", "", "between the gradients of two tokens of a text, mean over pairs"},
    [CROSS] = {"cross", "part", "of |sum of gradients|^2, what is no token's own: cross terms"},
    [SMALL] = {"drift", "part",
               "|steps after each token - one step for all| / |one step for all|, at the rate"},
    [MIDDLE] = {"drift_10", "part", "the same at 10 times the rate"},
    [LARGE] = {"drift_100", "part", "the same at 100 times the rate"},
    [TOKENS] = {"tokens", "", "whose gradients were taken"},
};
static const bf_measure_result series[] = {
    {"cosine_by_lag", "", "mean cosine between the gradients of tokens so far apart, from 1 on"},
};

/* A model ready to learn from one text at a time. */
typedef struct {
    bf_train_config config;
    bf_train_layout layout;
    bf_buf json;
    bf_pool *pool;
    bf_train_f64 *t;
    double *first;           /* [values] the model's weights */
    float *gradient;         /* [N,values] */
    double *whole;           /* [values] their sum */
    int32_t *input, *target; /* [N] */
    size_t N, values;
} learner;

static void learner_end(learner *y)
{
    bf_train_free_f64(y->t);
    bf_train_layout_free(&y->layout);
    bf_pool_free(y->pool);
    bf_buf_free(&y->json);
    free(y->first);
    free(y->gradient);
    free(y->whole);
    free(y->input);
    free(y->target);
}

static bf_code learner_new(learner *y, const bf_subject *s, size_t N, bf_error *err)
{
    char *path = bf_path_join(s->model->folder, "config.json");
    bf_code rc = path ? bf_file_read(&y->json, path, 1 << 20, err)
                      : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    free(path);
    y->N = N;
    y->config = (bf_train_config){
        .model = y->json.data, .start = s->model->folder, .steps = 1, .f64 = true};
    bf_gemm_init();
    if (!rc)
        rc = bf_pool_new(&y->pool, s->query->threads, err);
    if (!rc)
        rc = bf_train_layout_new(&y->layout, &y->config, err);
    if (!rc)
        rc = bf_train_new_f64(&y->t, &y->config, &y->layout, y->pool, 1, N, err);
    if (rc)
        return rc;
    const bf_train_job job = {
        .folder = s->model->folder, .config = &y->config, .layout = &y->layout};
    rc = bf_train_start_read(y->t->param, &job, err);
    y->values = y->layout.values;
    if (rc || y->values > SIZE_MAX / N / 16)
        return rc ? rc : bf_fail(err, BF_ENOMEM, "%zu gradients of %zu values", N, y->values);
    y->first = malloc(y->values * sizeof *y->first);
    y->gradient = malloc(N * y->values * sizeof *y->gradient);
    y->whole = malloc(y->values * sizeof *y->whole);
    y->input = malloc(N * sizeof *y->input);
    y->target = malloc(N * sizeof *y->target);
    if (!y->first || !y->gradient || !y->whole || !y->input || !y->target)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu gradients of %zu weights", N, y->values);
    memcpy(y->first, y->t->param, y->values * sizeof *y->first);
    return BF_OK;
}

/* The gradient of loss i alone, to t->grad. */
static void differentiate(learner *y, const bf_subject *s, size_t text, size_t i)
{
    double loss;
    for (size_t k = 0; k < y->N; k++) {
        y->input[k] = (int32_t)s->text[text][k];
        y->target[k] = k == i ? (int32_t)s->text[text][k + 1] : -1;
    }
    const bf_batch batch = {.B = 1, .T = y->N, .heads = 1, .input = y->input, .target = y->target};
    bf_train_batch_f64(&loss, y->t, &batch, true, 1.0);
}

static double dot(const float *a, const float *b, size_t n)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++)
        sum += (double)a[k] * (double)b[k];
    return sum;
}

/* One text's numbers: passed on, cosine, cross. by_lag [N] sums of cosines. */
static void compare(double answer[3], double *by_lag, const learner *y)
{
    const size_t N = y->N, P = y->values;
    double square[4096], passed = 0.0, cosine = 0.0, all = 0.0, own = 0.0;
    /* Sums first, then their ratio: where the model is sure of a token <g, g> is next to 0, and a mean
     * of ratios would be made by these tokens alone. */
    for (size_t i = 0; i < N; i++)
        own += square[i] = dot(y->gradient + i * P, y->gradient + i * P, P);
    for (size_t i = 0; i < N; i++)
        for (size_t j = i + 1; j < N; j++) {
            const double product = dot(y->gradient + i * P, y->gradient + j * P, P),
                         c = product / sqrt(square[i] * square[j]);
            all += 2.0 * product;
            cosine += c;
            by_lag[j - i] += c / (double)(N - (j - i));
            if (j == i + 1)
                passed += product;
        }
    answer[PASSED] = passed / (own - square[N - 1]);
    answer[COSINE] = cosine / (0.5 * (double)(N * (N - 1)));
    answer[CROSS] = all / (all + own);
}

/* Steps after each token, from the first weights, against one for all. */
static double drift(learner *y, const bf_subject *s, size_t text, double rate)
{
    double off = 0.0, size = 0.0;
    for (size_t i = 0; i < y->N; i++) {
        differentiate(y, s, text, i);
        for (size_t k = 0; k < y->values; k++)
            y->t->param[k] -= rate * y->t->grad[k];
    }
    for (size_t k = 0; k < y->values; k++) {
        const double one = -rate * y->whole[k], each = y->t->param[k] - y->first[k];
        off += (each - one) * (each - one);
        size += one * one;
        y->t->param[k] = y->first[k];
    }
    return sqrt(off / size);
}

static bf_code read_text(double *answer, double *by_lag, learner *y, const bf_subject *s, size_t t)
{
    memset(y->whole, 0, y->values * sizeof *y->whole);
    for (size_t i = 0; i < y->N; i++) {
        differentiate(y, s, t, i);
        for (size_t k = 0; k < y->values; k++) {
            y->gradient[i * y->values + k] = (float)y->t->grad[k];
            y->whole[k] += y->t->grad[k];
        }
        if (s->query->stop && *s->query->stop)
            return BF_EINTERRUPTED;
    }
    compare(answer, by_lag, y);
    double rate = s->number[P_RATE];
    for (size_t r = 0; r < RATES; r++, rate *= 10.0)
        answer[SMALL + r] = drift(y, s, t, rate);
    return BF_OK;
}

static bf_code sum_up(bf_reading *out, const double *answer, const bf_subject *s, double *one,
                      bf_error *err)
{
    const size_t T = s->n_texts;
    bf_code rc = BF_OK;
    for (size_t r = 0; r < TOKENS && !rc; r++) {
        bf_estimate e;
        for (size_t t = 0; t < T; t++)
            one[t] = answer[t * RESULTS + r];
        rc = bf_bootstrap_mean(&e, one, T, 1000, s->seed + r, err);
        const bool tested = r <= COSINE && T >= 5;
        out->result[r] = (bf_measured){e.mean, e.low, e.high,
                                       tested ? bf_sign_test(one, T, 4999, s->seed) : NAN};
    }
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t T = s->n_texts;
    size_t N = 4096;
    learner y = {.N = 0};
    for (size_t t = 0; t < T; t++)
        N = s->length[t] - 1 < N ? s->length[t] - 1 : N;
    if (!bf_path_is_folder(s->model->folder)) {
        snprintf(out->missing, sizeof out->missing, "a random model has no folder to learn from");
        return BF_OK;
    }
    if (N < 2)
        return bf_fail(err, BF_EARG, "texts of %zu tokens have no pairs of losses", N + 1);
    double *answer = calloc(T * (RESULTS + 1), sizeof *answer);
    bf_code rc = answer ? learner_new(&y, s, N, err)
                        : bf_fail(err, BF_ENOMEM, "cannot hold %zu texts", T);
    if (!rc)
        rc = bf_series_new(&out->series[0], 1, N - 1, false, err);
    double *by_lag = rc ? NULL : calloc(N, sizeof *by_lag);
    if (!rc && !by_lag)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu lags", N);
    for (size_t t = 0; t < T && !rc; t++) {
        rc = read_text(answer + t * RESULTS, by_lag, &y, s, t);
        if (rc)
            bf_fail(err, rc, "interrupted");
        bf_subject_tell(s, (double)(t + 1) / (double)T);
    }
    for (size_t k = 0; k + 1 < N && !rc; k++) {
        out->series[0].x[k] = (double)k + 1.0;
        out->series[0].value[k] = by_lag[k + 1] / (double)T;
    }
    if (!rc)
        rc = sum_up(out, answer, s, answer + T * RESULTS, err);
    out->result[TOKENS] = bf_plain((double)(N * T));
    learner_end(&y);
    free(by_lag);
    free(answer);
    return rc;
}

const bf_measure bf_measure_interference = {{"interference",
                                             "token by token weight gradients against each other, "
                                             "and steps after each token against one for "
                                             "all; the model must have a folder",
                                             params, PARAMS, results, RESULTS, series, 1, false},
                                            run};
