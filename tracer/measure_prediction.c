/* prediction: how well a model predicts, and how sure it is. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>

enum { LOSS, ENTROPY, LAST, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [LOSS] = {"loss", "nats", "mean over positions, with an interval over texts"},
    [ENTROPY] = {"entropy", "nats", "of what is predicted, the same"},
    [LAST] = {"last_half", "nats", "loss of the later half of the positions"},
};
static const bf_measure_result series[] = {
    {"loss_by_position", "nats", "mean over texts"},
};

static bf_code read_text(double *loss, double *entropy, const bf_subject *s, size_t t,
                         bf_error *err)
{
    bf_record *record = NULL;
    const bf_query q = {.tokens = s->text[t],
                        .n_tokens = s->length[t],
                        .sites = BF_SITE_RESID_FINAL,
                        .scores = BF_SCORE_GRAD_NORM,
                        .no_attn = true,
                        .precision = BF_PRECISION_F64,
                        .target = {.kind = BF_TARGET_ENTROPY},
                        .memory = s->query->memory,
                        .threads = s->query->threads,
                        .stop = s->query->stop};
    const bf_code rc = bf_trace(&record, s->model, &q, NULL, NULL, NULL, err);
    for (size_t i = 0; i + 1 < s->length[t] && !rc; i++) {
        loss[i] = bf_tensor_value(bf_record_find(record, "loss"), i);
        entropy[i] = bf_tensor_value(bf_record_find(record, "target"), i);
    }
    bf_record_free(record);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t T = s->n_texts;
    size_t most = 0, least = SIZE_MAX;
    for (size_t t = 0; t < T; t++) {
        most = s->length[t] > most ? s->length[t] : most;
        least = s->length[t] < least ? s->length[t] : least;
    }
    double *loss = calloc(2 * most + RESULTS * T, sizeof *loss), *entropy = loss + most,
           *mean = entropy + most; /* [RESULTS,T] */
    bf_code rc = loss ? bf_series_new(&out->series[0], 1, least - 1, false, err)
                      : bf_fail(err, BF_ENOMEM, "cannot hold the losses of %zu tokens", most);
    for (size_t t = 0; t < T && !rc; t++) {
        const size_t N = s->length[t] - 1;
        rc = read_text(loss, entropy, s, t, err);
        mean[LOSS * T + t] = bf_mean(loss, N);
        mean[ENTROPY * T + t] = bf_mean(entropy, N);
        mean[LAST * T + t] = bf_mean(loss + N / 2, N - N / 2);
        for (size_t i = 0; i + 1 < least && !rc; i++)
            out->series[0].value[i] += loss[i] / (double)T;
    }
    for (size_t r = 0; r < RESULTS && !rc; r++) {
        bf_estimate e;
        rc = bf_bootstrap_mean(&e, mean + r * T, T, 1000, s->seed + r, err);
        out->result[r] = (bf_measured){e.mean, e.low, e.high, NAN};
    }
    free(loss);
    return rc;
}

const bf_measure bf_measure_prediction = {{"prediction",
                                           "how well a model predicts, and how sure it is", NULL, 0,
                                           results, RESULTS, series, 1, false},
                                          run};
