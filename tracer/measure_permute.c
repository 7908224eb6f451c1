/* permute: does it matter in which order the earlier tokens stand? */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { P_SHUFFLES, P_FLOOR, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"shuffles", 20, 1, 10000, NULL, "of the tokens before the last one, of each text"},
    {"floor", 1e-9, 0, 1, NULL, "changes of the loss up to this, in nats, are rounding"},
};

enum { LARGEST, MEDIAN, RELATIVE, CHANGED, N_SHUFFLES, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [LARGEST] = {"largest", "nats",
                 "change of the last loss when the tokens before the last are shuffled"},
    [MEDIAN] = {"median", "nats", "the same, the median"},
    [RELATIVE] = {"relative", "part", "median change in units of the loss"},
    [CHANGED] = {"changed", "part",
                 "of the shuffles, those that change the loss by more than the floor"},
    [N_SHUFFLES] = {"shuffles", "", "made, of all texts"},
};

static void shuffle(int64_t *tokens, size_t n, uint64_t *seed)
{
    for (size_t k = n; k > 1; k--) {
        const size_t at = bf_random_below(seed, k);
        const int64_t t = tokens[k - 1];
        tokens[k - 1] = tokens[at];
        tokens[at] = t;
    }
}

/* change, relative: out [shuffles]. */
static bf_code shuffle_text(double *change, double *relative, const bf_subject *s, size_t t,
                            bf_error *err)
{
    const size_t N = s->length[t] - 1, shuffles = (size_t)s->number[P_SHUFFLES];
    uint64_t seed = s->seed * 1000u + t;
    double base = 0.0;
    bf_forwards f;
    const double *loss;
    int64_t *tokens = malloc((N + 1) * sizeof *tokens);
    bf_code rc = bf_forwards_new(&f, s, N, err);
    if (!rc && !tokens)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", N);
    if (!rc)
        rc = bf_forwards_losses(&loss, &f, s->text[t], N + 1, err);
    if (!rc) {
        base = loss[N - 1];
        memcpy(tokens, s->text[t], (N + 1) * sizeof *tokens);
    }
    for (size_t k = 0; k < shuffles && !rc; k++) {
        shuffle(tokens, N - 1, &seed);
        rc = bf_forwards_losses(&loss, &f, tokens, N + 1, err);
        change[k] = rc ? 0.0 : fabs(loss[N - 1] - base);
        relative[k] = change[k] / base;
    }
    bf_forwards_end(&f);
    free(tokens);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    const size_t shuffles = (size_t)s->number[P_SHUFFLES], n = s->n_texts * shuffles;
    double *change = calloc(2 * n + 1, sizeof *change), largest = 0.0, changed = 0.0;
    bf_code rc = change ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu shuffles", n);
    for (size_t t = 0; t < s->n_texts && !rc; t++)
        rc = shuffle_text(change + t * shuffles, change + n + t * shuffles, s, t, err);
    for (size_t k = 0; k < n && !rc; k++) {
        largest = fmax(largest, change[k]);
        changed += change[k] > s->number[P_FLOOR];
    }
    if (!rc) {
        out->result[LARGEST] = bf_plain(largest);
        out->result[MEDIAN] = bf_plain(bf_quantile(change, n, 0.5));
        out->result[RELATIVE] = bf_plain(bf_quantile(change + n, n, 0.5));
        out->result[CHANGED] = bf_plain(changed / (double)n);
        out->result[N_SHUFFLES] = bf_plain((double)n);
    }
    free(change);
    return rc;
}

const bf_measure bf_measure_permute = {
    {"permute", "how the last loss changes when the tokens before the last are shuffled", params,
     PARAMS, results, RESULTS, NULL, 0, false},
    run};
