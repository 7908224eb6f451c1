/* own_future: how much of what arrives at a token comes from its own loss, how much from later
 * ones, and do the two pull the same way? future = total - own, as vectors. */
#include "tracer/measure.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tracer/job.h"

enum { P_RESAMPLES, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"resamples", 1000, 100, 100000, NULL, "of the bootstrap over texts"},
};

enum { FUTURE, COSINE, W_FUTURE, W_COSINE, TEXTS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [FUTURE] = {"future", "part",
                "|future| / (|own| + |future|) at the layers' inputs, mean over layers and over "
                "the positions that have later ones"},
    [COSINE] = {"cosine", "",
                "between own and future there; p by random signs of the texts' means (null: 0)"},
    [W_FUTURE] = {"weights_future", "part",
                  "the same of the weight matrices' gradients, mean over layers and "
                  "matrices"},
    [W_COSINE] = {"weights_cosine", "",
                  "between own and future gradient of a weight matrix, mean; p as above"},
    [TEXTS] = {"texts", "", "taken"},
};
static const bf_measure_result curves[] = {
    {"future_by_layer", "part", "|future| / (|own| + |future|) at each layer's input"},
    {"cosine_by_layer", "", "between own and future there"},
    {"weights_by_layer", "part",
     "the same of the weights' gradients: matrices down, layers across"},
    {"future_by_position", "part", "by position, mean over layers"},
};

enum { BY_FUTURE, BY_COSINE, BY_WEIGHTS, BY_POSITION };

static double part_of(double own, double future)
{
    return own + future > 0.0 ? future / (own + future) : 0.0;
}

/* Add a text's layers and positions to the series, its means to mean[FUTURE], mean[COSINE]. */
static void add_stream(bf_series *series, double *mean, const bf_record *record, size_t L, size_t N,
                       size_t least_N, size_t T)
{
    const bf_tensor *own = bf_record_find(record, "own.grad_norm"),
                    *future = bf_record_find(record, "future.grad_norm"),
                    *cosine = bf_record_find(record, "own_future.cosine");
    const double cells = (double)(L * (N - 1)), texts = (double)T;
    for (size_t l = 0; l < L; l++)
        for (size_t j = 0; j + 1 < N; j++) { /* the last has no later ones */
            const size_t at = l * N + j;
            const double part = part_of(bf_tensor_value(own, at), bf_tensor_value(future, at)),
                         c = bf_tensor_value(cosine, at);
            mean[FUTURE] += part / cells;
            mean[COSINE] += c / cells;
            series[BY_FUTURE].value[l] += part / (double)(N - 1) / texts;
            series[BY_COSINE].value[l] += c / (double)(N - 1) / texts;
            if (j + 1 < least_N)
                series[BY_POSITION].value[j] += part / (double)L / texts;
        }
}

static void add_weights(bf_series *series, double *mean, const bf_record *record, size_t L,
                        size_t T)
{
    double n = 0.0, future_sum = 0.0, cosine_sum = 0.0;
    for (size_t p = 0; p < BF_PARAMS; p++) {
        char name[BF_NAME_MAX];
        const bf_tensor *t[3];
        static const char *const what[] = {"own", "future", "cosine"};
        for (size_t k = 0; k < 3; k++) {
            snprintf(name, sizeof name, "weight.%s.%s", bf_weight_names[p], what[k]);
            t[k] = bf_record_find(record, name);
        }
        for (size_t l = 0; l < L; l++) {
            double *to = &series[BY_WEIGHTS].value[p * L + l];
            if (!t[0] || !t[1] || !t[2]) {
                *to = NAN;
                continue;
            }
            const double part = part_of(bf_tensor_value(t[0], l), bf_tensor_value(t[1], l));
            *to += part / (double)T;
            n++;
            future_sum += part;
            cosine_sum += bf_tensor_value(t[2], l);
        }
    }
    mean[W_FUTURE] = future_sum / n;
    mean[W_COSINE] = cosine_sum / n;
}

static bf_code new_series(bf_reading *out, size_t L, size_t N, bf_error *err)
{
    const size_t rows[] = {1, 1, BF_PARAMS, 1}, columns[] = {L, L, L, N - 1};
    bf_code rc = BF_OK;
    for (size_t k = 0; k < 4 && !rc; k++)
        rc = bf_series_new(&out->series[k], rows[k], columns[k], false, err);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t T = s->n_texts, L = s->model->config.L;
    double *mean = calloc(4 * T, sizeof *mean); /* [4,T] */
    size_t least = SIZE_MAX;
    for (size_t t = 0; t < T; t++)
        least = s->length[t] - 1 < least ? s->length[t] - 1 : least;
    bf_code rc = mean ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu texts", T);
    if (!rc && least < 2)
        rc = bf_fail(err, BF_EARG, "texts of %zu tokens have no later losses", least + 1);
    if (!rc)
        rc = new_series(out, L, least, err);
    for (size_t t = 0; t < T && !rc; t++) {
        bf_record *record = NULL;
        double one[4] = {0};
        rc = bf_subject_trace(&record, s, t, BF_SITE_RESID_PRE, BF_SCORE_OWN | BF_SCORE_WEIGHT,
                              false, err);
        if (!rc) {
            add_stream(out->series, one, record, L, s->length[t] - 1, least, T);
            add_weights(out->series, one, record, L, T);
        }
        for (size_t k = 0; k < 4; k++)
            mean[k * T + t] = one[k];
        bf_record_free(record);
        bf_subject_tell(s, (double)(t + 1) / (double)T);
    }
    for (size_t k = 0; k < 4 && !rc; k++) {
        bf_estimate e;
        rc = bf_bootstrap_mean(&e, mean + k * T, T, (size_t)s->number[P_RESAMPLES], s->seed + k,
                               err);
        const bool tested = (k == COSINE || k == W_COSINE) && T >= 5;
        out->result[k] = (bf_measured){e.mean, e.low, e.high,
                                       tested ? bf_sign_test(mean + k * T, T, 4999, s->seed) : NAN};
    }
    out->result[TEXTS] = bf_plain((double)T);
    free(mean);
    return rc;
}

const bf_measure bf_measure_own_future = {
    {"own_future",
     "what arrives at a token from its own loss and from later ones, and whether they agree",
     params, PARAMS, results, RESULTS, curves, 4, false},
    run};
