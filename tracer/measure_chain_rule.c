/* chain_rule: every completion of n tokens, its probability as a product of conditionals, samples
 * drawn token by token, and the likeliest token each time against the likeliest completion. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { P_LENGTH, P_SAMPLES, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"length", 4, 1, 12, NULL, "of completions, in tokens; vocabulary^length must be at most 2^21"},
    {"samples", 20000, 100, 10000000, NULL, "of completions, over all prompts"},
};

enum { SUM_ERROR, CHI_P, GREEDY, GREEDY_LOGPROB, BEST_LOGPROB, GAP, COMPLETIONS, PROMPTS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [SUM_ERROR] = {"sum_error", "",
                   "|sum of all completions' probabilities - 1|, the largest over prompts"},
    [CHI_P] = {"sampling_p", "",
               "chi-square of sampled against computed frequencies, all prompts together: p"},
    [GREEDY] = {"greedy_differs", "part",
                "of the prompts, those where the likeliest token each time does not "
                "give the likeliest completion; interval over prompts"},
    [GREEDY_LOGPROB] = {"greedy_logprob", "nats",
                        "of the greedy completion, where the two differ most"},
    [BEST_LOGPROB] = {"best_logprob", "nats", "of the likeliest completion there"},
    [GAP] = {"gap", "nats", "between the two, the largest"},
    [COMPLETIONS] = {"completions", "", "enumerated for each prompt"},
    [PROMPTS] = {"prompts", "", "looked at"},
};
static const bf_measure_result series[] = {
    {"gaps", "nats",
     "by prompt, the largest first: how much likelier the likeliest completion is than the "
     "greedy one"},
};

/* All completions of one prompt: level k holds V^(k+1) log-probabilities of the next token. */
typedef struct {
    size_t V, n, start; /* start: tokens of the prompt */
    double **level;     /* [n] */
    double *joint;      /* [V^n] */
    int64_t *tokens;    /* [start + n] */
    unsigned *drawn;    /* [V^n] */
    size_t leaves;
} tree;

static void tree_free(tree *y)
{
    for (size_t k = 0; y->level && k < y->n; k++)
        free(y->level[k]);
    free(y->level);
    free(y->joint);
    free(y->tokens);
    free(y->drawn);
}

static bf_code tree_new(tree *y, size_t V, size_t n, size_t most, bf_error *err)
{
    size_t size = 1;
    *y = (tree){.V = V, .n = n, .level = calloc(n, sizeof *y->level)};
    bool ok = y->level != NULL;
    for (size_t k = 0; k < n && ok; k++) {
        size *= V; /* at most 2^21 V: checked by the caller */
        ok = (y->level[k] = calloc(size, sizeof(double))) != NULL;
    }
    y->leaves = size;
    y->joint = calloc(size, sizeof *y->joint);
    y->drawn = calloc(size, sizeof *y->drawn);
    y->tokens = calloc(most + n, sizeof *y->tokens);
    return ok && y->joint && y->drawn && y->tokens
               ? BF_OK
               : bf_fail(err, BF_ENOMEM, "cannot hold %zu completions", size);
}

/* Conditionals after the prompt and the k digits of `node`, and all below. */
static bf_code grow(tree *y, bf_forwards *f, size_t k, size_t node, double sum, bf_error *err)
{
    double *next = y->level[k] + node * y->V;
    bf_code rc = bf_forwards_next(next, f, y->tokens, y->start + k, err);
    for (size_t v = 0; v < y->V && !rc; v++) {
        const size_t at = node * y->V + v;
        if (k + 1 == y->n) {
            y->joint[at] = sum + next[v];
        } else {
            y->tokens[y->start + k] = (int64_t)v;
            rc = grow(y, f, k + 1, at, sum + next[v], err);
        }
    }
    return rc;
}

static void draw(const tree *y, uint64_t *seed)
{
    size_t node = 0;
    for (size_t k = 0; k < y->n; k++) {
        const double *next = y->level[k] + node * y->V;
        double left = bf_random_unit(seed);
        size_t v = 0;
        while (v + 1 < y->V && (left -= exp(next[v])) >= 0.0)
            v++;
        node = node * y->V + v;
    }
    y->drawn[node]++;
}

/* Completions expected fewer than 5 times are counted together. */
static void chi_square(const tree *y, size_t samples, double *chi, double *degrees)
{
    double rest_expected = 0.0, rest_seen = 0.0;
    size_t bins = 0;
    for (size_t k = 0; k < y->leaves; k++) {
        const double expected = exp(y->joint[k]) * (double)samples, seen = y->drawn[k];
        if (expected < 5.0) {
            rest_expected += expected;
            rest_seen += seen;
            continue;
        }
        *chi += (seen - expected) * (seen - expected) / expected;
        bins++;
    }
    if (rest_expected >= 5.0) {
        *chi += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
        bins++;
    }
    *degrees += bins > 1 ? (double)bins - 1.0 : 0.0;
}

static size_t greedy(const tree *y)
{
    size_t node = 0;
    for (size_t k = 0; k < y->n; k++) {
        const double *next = y->level[k] + node * y->V;
        size_t best = 0;
        for (size_t v = 1; v < y->V; v++)
            best = next[v] > next[best] ? v : best;
        node = node * y->V + best;
    }
    return node;
}

typedef struct {
    double sum_error, chi, degrees;
    double *gap;            /* [prompts] */
    double *greedy_logprob; /* [prompts] */
} answers;

static bf_code ask(answers *a, tree *y, bf_forwards *f, const bf_subject *s, size_t t,
                   size_t samples, bf_error *err)
{
    double sum = 0.0, best = -INFINITY;
    uint64_t seed = s->seed * 7919u + t;
    y->start = s->length[t] - 1;
    memcpy(y->tokens, s->text[t], y->start * sizeof *y->tokens);
    memset(y->drawn, 0, y->leaves * sizeof *y->drawn);
    const bf_code rc = grow(y, f, 0, 0, 0.0, err);
    if (rc)
        return rc;
    for (size_t k = 0; k < y->leaves; k++) {
        sum += exp(y->joint[k]);
        best = fmax(best, y->joint[k]);
    }
    for (size_t k = 0; k < samples; k++)
        draw(y, &seed);
    chi_square(y, samples, &a->chi, &a->degrees);
    a->sum_error = fmax(a->sum_error, fabs(sum - 1.0));
    a->greedy_logprob[t] = y->joint[greedy(y)];
    a->gap[t] = best - a->greedy_logprob[t];
    return BF_OK;
}

static bf_code sum_up(bf_reading *out, answers *a, const tree *y, const bf_subject *s,
                      double *differs, bf_error *err)
{
    const size_t T = s->n_texts;
    size_t worst = 0;
    bf_estimate e;
    for (size_t t = 0; t < T; t++) {
        differs[t] = a->gap[t] > 0.0;
        worst = a->gap[t] > a->gap[worst] ? t : worst;
    }
    bf_code rc = bf_bootstrap_mean(&e, differs, T, 1000, s->seed, err);
    if (!rc)
        rc = bf_series_new(&out->series[0], 1, T, false, err);
    if (rc)
        return rc;
    out->result[SUM_ERROR] = bf_plain(a->sum_error);
    out->result[CHI_P] = bf_plain(a->degrees > 0.0 ? bf_chi_square_p(a->chi, a->degrees) : NAN);
    out->result[CHI_P].p = out->result[CHI_P].value;
    out->result[GREEDY] = (bf_measured){e.mean, e.low, e.high, NAN};
    out->result[GREEDY_LOGPROB] = bf_plain(a->greedy_logprob[worst]);
    out->result[BEST_LOGPROB] = bf_plain(a->greedy_logprob[worst] + a->gap[worst]);
    out->result[GAP] = bf_plain(a->gap[worst]);
    out->result[COMPLETIONS] = bf_plain((double)y->leaves);
    out->result[PROMPTS] = bf_plain((double)T);
    bf_quantile(a->gap, T, 0.5); /* sorts */
    for (size_t t = 0; t < T; t++)
        out->series[0].value[t] = a->gap[T - 1 - t];
    return BF_OK;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t V = s->model->config.V, n = (size_t)s->number[P_LENGTH], T = s->n_texts;
    const size_t samples = (size_t)s->number[P_SAMPLES] / T + 1;
    size_t most = 0;
    if (pow((double)V, (double)n) > 0x1p21)
        return bf_fail(err, BF_EARG,
                       "a vocabulary of %zu has too many completions of %zu tokens to enumerate, "
                       "wanted at most 2^21",
                       V, n);
    for (size_t t = 0; t < T; t++)
        most = s->length[t] > most ? s->length[t] : most;
    tree y = {0};
    bf_forwards f = {0};
    double *differs = calloc(3 * T, sizeof *differs);
    answers a = {.gap = differs ? differs + T : NULL,
                 .greedy_logprob = differs ? differs + 2 * T : NULL};
    bf_code rc = differs ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu prompts", T);
    if (!rc)
        rc = tree_new(&y, V, n, most, err);
    if (!rc)
        rc = bf_forwards_new(&f, s, most + n, err);
    for (size_t t = 0; t < T && !rc; t++) {
        rc = ask(&a, &y, &f, s, t, samples, err);
        bf_subject_tell(s, (double)(t + 1) / (double)T);
    }
    if (!rc)
        rc = sum_up(out, &a, &y, s, differs, err);
    bf_forwards_end(&f);
    tree_free(&y);
    free(differs);
    return rc;
}

const bf_measure bf_measure_chain_rule = {
    {"chain_rule",
     "all completions' probabilities by the chain rule, against samples and against greedy choice",
     params, PARAMS, results, RESULTS, series, 1, false},
    run};
