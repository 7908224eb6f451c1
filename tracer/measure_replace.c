/* replace: put another token in each position's place, and see whose loss changes. Forward runs
 * alone, so it does not rest on the walk. */
#include "tracer/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { EARLIER, LATER, MEDIAN, PAIRS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [EARLIER] = {"earlier", "part",
                 "of the pairs j <= i, those where token j changes loss i in any bit"},
    [LATER] = {"later", "part", "of the pairs j > i, those where it does"},
    [MEDIAN] = {"median", "nats", "size of the change over the pairs j <= i"},
    [PAIRS] = {"pairs", "pairs", "looked at"},
};

typedef struct {
    double earlier, later, earlier_pairs, later_pairs;
    double *change; /* sizes, of j <= i */
    size_t n_changes;
} counts;

static void count_losses(counts *n, const double *before, const double *after, size_t N, size_t j)
{
    for (size_t i = 0; i < N; i++) {
        const bool changed = before[i] != after[i];
        if (i < j) {
            n->later_pairs++;
            n->later += changed;
        } else {
            n->earlier_pairs++;
            n->earlier += changed;
            n->change[n->n_changes++] = fabs(after[i] - before[i]);
        }
    }
}

/* room: N losses; N + 1 tokens. */
static bf_code replace_in(counts *n, const bf_subject *s, size_t t, double *before, int64_t *tokens,
                          bf_error *err)
{
    const size_t N = s->length[t] - 1, V = s->model->config.V;
    uint64_t seed = s->seed + t;
    bf_forwards f;
    const double *loss;
    bf_code rc = bf_forwards_new(&f, s, N, err);
    memcpy(tokens, s->text[t], (N + 1) * sizeof *tokens);
    if (!rc) {
        f.acts->targets = s->text[t] + 1; /* what is to be predicted stays */
        rc = bf_forwards_losses(&loss, &f, tokens, N + 1, err);
    }
    if (!rc)
        memcpy(before, loss, N * sizeof *before);
    for (size_t j = 0; j < N && !rc; j++) {
        const size_t step = 1 + bf_random_below(&seed, V - 1);
        tokens[j] = (int64_t)(((size_t)s->text[t][j] + step) % V);
        rc = bf_forwards_losses(&loss, &f, tokens, N + 1, err);
        tokens[j] = s->text[t][j];
        if (!rc)
            count_losses(n, before, loss, N, j);
    }
    bf_forwards_end(&f);
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    size_t most = 0, pairs = 0;
    bf_code rc = BF_OK;
    if (s->model->config.V < 2)
        return bf_fail(err, BF_EARG, "a vocabulary of one token has no other to put in its place");
    for (size_t t = 0; t < s->n_texts; t++) {
        most = s->length[t] > most ? s->length[t] : most;
        pairs += s->length[t] * s->length[t];
    }
    counts n = {.change = malloc((pairs + 1) * sizeof *n.change)};
    double *before = malloc((most + 1) * sizeof *before);
    int64_t *tokens = malloc((most + 1) * sizeof *tokens);
    if (!n.change || !before || !tokens)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu pairs", pairs);
    for (size_t t = 0; t < s->n_texts && !rc; t++)
        rc = replace_in(&n, s, t, before, tokens, err);
    if (!rc) {
        out->result[EARLIER] = bf_plain(n.earlier / n.earlier_pairs);
        out->result[LATER] = bf_plain(n.later_pairs > 0.0 ? n.later / n.later_pairs : 0.0);
        out->result[MEDIAN] = bf_plain(bf_quantile(n.change, n.n_changes, 0.5));
        out->result[PAIRS] = bf_plain(n.earlier_pairs + n.later_pairs);
    }
    free(n.change);
    free(before);
    free(tokens);
    return rc;
}

const bf_measure bf_measure_replace = {
    {"replace",
     "whose loss changes when one token is replaced: forward runs, independent of the walk", NULL,
     0, results, RESULTS, NULL, 0, false},
    run};
