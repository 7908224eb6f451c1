/* low_entropy: is one token said n times likelier, as a whole, than what the model says of itself?
 * And how likely are all such completions together? The latter by enumeration: there are V of them.
 */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { P_LENGTH, P_SAMPLES, P_RESAMPLES, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"length", 8, 2, 256, NULL, "of completions, in tokens"},
    {"samples", 32, 4, 10000, NULL, "drawn from the model, of each prompt"},
    {"resamples", 1000, 100, 100000, NULL, "of the bootstrap over prompts"},
};

enum {
    REPEATED, SAMPLED, GREEDY, BEATEN, BEATEN_GREEDY, MASS, FAVOUR, DIFFERENCE,
    GREEDY_ENTROPY, SAMPLED_ENTROPY, LESS, RESULTS
};
static const bf_measure_result results[RESULTS] = {
    [REPEATED] = {"repeated", "nats",
                  "log-probability of the likeliest completion that is one token n times; this "
                  "and all that follows: mean over prompts"},
    [SAMPLED] = {"sampled", "nats", "of a completion drawn from the model, the median"},
    [GREEDY] = {"greedy", "nats", "of the completion that takes the likeliest token each time"},
    [BEATEN] = {"beaten", "part", "of the samples, those less likely than the best repeated one"},
    [BEATEN_GREEDY] = {"beaten_by_greedy", "part",
                       "of the samples, those less likely than the greedy one"},
    [MASS] = {"class_mass", "part",
              "of all probability, on completions that are one token n times; enumerated"},
    [FAVOUR] = {"favour", "nats",
                "log of how much likelier a repeated completion is than the average one of all "
                "V^n, (mass/V) / V^-n"},
    [DIFFERENCE] = {"difference", "nats",
                    "repeated - sampled; p by random signs over prompts (null: 0)"},
    [GREEDY_ENTROPY] = {"greedy_entropy", "nats",
                        "of the frequencies of the tokens in the greedy completion"},
    [SAMPLED_ENTROPY] = {"sampled_entropy", "nats", "the same in a sampled one, mean"},
    [LESS] = {"entropy_difference", "nats",
              "greedy_entropy - sampled_entropy; p by random signs over prompts (null: 0)"},
};

/* Sum of log-probabilities of the last n of `length` tokens. */
static bf_code joint(double *out, bf_forwards *f, const int64_t *tokens, size_t length, size_t n,
                     bf_error *err)
{
    const double *loss;
    const bf_code rc = bf_forwards_losses(&loss, f, tokens, length, err);
    *out = 0.0;
    for (size_t k = length - 1 - n; !rc && k + 1 < length; k++)
        *out -= loss[k];
    return rc;
}

typedef struct {
    const bf_subject *s;
    bf_forwards f;
    size_t n, V, start; /* start: tokens of the prompt */
    int64_t *tokens;    /* [start + n] */
    double *next;       /* [V] */
    double *sample;     /* [samples] */
} bench;

/* Best repeated completion, and the mass of all. */
static bf_code enumerate(bench *b, double *best, double *mass, bf_error *err)
{
    bf_code rc = BF_OK;
    *best = -INFINITY;
    *mass = 0.0;
    for (size_t v = 0; v < b->V && !rc; v++) {
        double sum;
        for (size_t k = 0; k < b->n; k++)
            b->tokens[b->start + k] = (int64_t)v;
        rc = joint(&sum, &b->f, b->tokens, b->start + b->n, b->n, err);
        *best = fmax(*best, sum);
        *mass += exp(sum);
    }
    return rc;
}

/* Entropy of the frequencies of the completion's tokens: 0 if it is one token again and again. */
static double entropy_of(const bench *b)
{
    const int64_t *tokens = b->tokens + b->start;
    double sum = 0.0;
    for (size_t k = 0; k < b->n; k++) {
        size_t same = 0;
        for (size_t m = 0; m < b->n; m++)
            same += tokens[m] == tokens[k];
        sum -= log((double)same / (double)b->n) / (double)b->n;
    }
    return sum;
}

/* Complete token by token: drawn, or the likeliest each time (seed NULL). */
static bf_code complete(bench *b, double *sum, uint64_t *seed, bf_error *err)
{
    bf_code rc = BF_OK;
    *sum = 0.0;
    for (size_t k = 0; k < b->n && !rc; k++) {
        size_t choice = 0;
        rc = bf_forwards_next(b->next, &b->f, b->tokens, b->start + k, err);
        if (seed) {
            double left = bf_random_unit(seed);
            while (choice + 1 < b->V && (left -= exp(b->next[choice])) >= 0.0)
                choice++;
        } else {
            for (size_t v = 1; v < b->V; v++)
                choice = b->next[v] > b->next[choice] ? v : choice;
        }
        b->tokens[b->start + k] = (int64_t)choice;
        *sum += b->next[choice];
    }
    return rc;
}

static bf_code ask(double *answer, bench *b, size_t t, size_t samples, bf_error *err)
{
    double beaten = 0.0, below_greedy = 0.0;
    uint64_t seed = b->s->seed * 104729u + t;
    b->start = b->s->length[t] - 1;
    memcpy(b->tokens, b->s->text[t], b->start * sizeof *b->tokens);
    bf_code rc = enumerate(b, &answer[REPEATED], &answer[MASS], err);
    if (!rc)
        rc = complete(b, &answer[GREEDY], NULL, err);
    answer[GREEDY_ENTROPY] = entropy_of(b);
    answer[SAMPLED_ENTROPY] = 0.0;
    for (size_t k = 0; k < samples && !rc; k++) {
        rc = complete(b, &b->sample[k], &seed, err);
        answer[SAMPLED_ENTROPY] += entropy_of(b) / (double)samples;
        beaten += b->sample[k] < answer[REPEATED];
        below_greedy += b->sample[k] < answer[GREEDY];
    }
    if (rc)
        return rc;
    answer[SAMPLED] = bf_quantile(b->sample, samples, 0.5);
    answer[BEATEN] = beaten / (double)samples;
    answer[BEATEN_GREEDY] = below_greedy / (double)samples;
    answer[FAVOUR] = log(answer[MASS]) + ((double)b->n - 1.0) * log((double)b->V);
    answer[DIFFERENCE] = answer[REPEATED] - answer[SAMPLED];
    answer[LESS] = answer[GREEDY_ENTROPY] - answer[SAMPLED_ENTROPY];
    return BF_OK;
}

static bf_code sum_up(bf_reading *out, const double *answer, const bf_subject *s, double *one,
                      bf_error *err)
{
    const size_t T = s->n_texts;
    bf_code rc = BF_OK;
    for (size_t r = 0; r < RESULTS && !rc; r++) {
        bf_estimate e;
        for (size_t t = 0; t < T; t++)
            one[t] = answer[t * RESULTS + r];
        rc = bf_bootstrap_mean(&e, one, T, (size_t)s->number[P_RESAMPLES], s->seed + r, err);
        out->result[r] = (bf_measured){e.mean, e.low, e.high, NAN};
        if ((r == DIFFERENCE || r == LESS) && T >= 5)
            out->result[r].p = bf_sign_test(one, T, 4999, s->seed);
    }
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t T = s->n_texts, samples = (size_t)s->number[P_SAMPLES];
    bench b = {.s = s, .n = (size_t)s->number[P_LENGTH], .V = s->model->config.V};
    size_t most = 0;
    for (size_t t = 0; t < T; t++)
        most = s->length[t] > most ? s->length[t] : most;
    double *answer = calloc(T * (RESULTS + 1), sizeof *answer);
    b.tokens = calloc(most + b.n, sizeof *b.tokens);
    b.next = calloc(b.V, sizeof *b.next);
    b.sample = calloc(samples, sizeof *b.sample);
    bf_code rc = answer && b.tokens && b.next && b.sample
                     ? bf_forwards_new(&b.f, s, most + b.n, err)
                     : bf_fail(err, BF_ENOMEM, "cannot hold %zu prompts", T);
    for (size_t t = 0; t < T && !rc; t++) {
        rc = ask(answer + t * RESULTS, &b, t, samples, err);
        bf_subject_tell(s, (double)(t + 1) / (double)T);
    }
    if (!rc)
        rc = sum_up(out, answer, s, answer + T * RESULTS, err);
    bf_forwards_end(&b.f);
    free(answer);
    free(b.tokens);
    free(b.next);
    free(b.sample);
    return rc;
}

const bf_measure bf_measure_low_entropy = {
    {"low_entropy", "one token said n times against what the model samples: each, and all together",
     params, PARAMS, results, RESULTS, NULL, 0, false},
    run};
