/* Joint loss of completions: prefixes of the batch's sequences are completed by the model itself, and the
 * completions with the highest joint probability (or any) are trained on.
 *
 * Sequences of context + n tokens stand where the batch stood, as many at a time as its rows hold. What is
 * drawn is a function of the seed, the batch's number and the sample's: no state. */
#include "model/num/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/gemm.h"
#include "model/data_random.h"

enum { STREAM = 0x1054 }; /* of draws, beside those of the data's splits and of first weights */

typedef struct {
    R(bf_train) *t;
    const bf_joint *joint;
    uint64_t seed, number;
    size_t sequences;       /* of the batch, before the completions */
    size_t context, T, all; /* tokens of a prefix; of a sequence; sequences in all */
    int32_t *tokens;        /* [all,T] */
    double *logp;           /* [all] of the completions */
    size_t first, at;       /* the group's first sequence; the position to draw */
} draws;

static void set_shape(R(bf_train) *t, size_t B, size_t T)
{
    t->B = B;
    t->T = T;
    t->rows = B * T;
    t->tiles = (t->rows + BF_TRAIN_TILE - 1) / BF_TRAIN_TILE;
}

/* Draw one token from logits x [V] and tell its log-probability. */
static size_t draw(double *logp, real *x, size_t V, double u)
{
    const double sum = R(bf_exp_shifted)(x, V);
    double left = u * sum;
    size_t v = 0;
    while (v + 1 < V && left >= (double)x[v])
        left -= (double)x[v++];
    *logp = log((double)x[v] / sum);
    return v;
}

/* One sequence's next token, from the row before it. */
static void draw_task(void *context, size_t b, size_t worker)
{
    (void)worker;
    const draws *d = context;
    R(bf_train) *t = d->t;
    const size_t D = t->c->D, V = t->c->V, r = b * d->T + d->at - 1, s = d->first + b;
    real *normed = t->normed + r * D, *logits = t->logits + b * V;
    double logp;
    R(bf_norm)(normed, t->mean + r, t->rstd + r, t->last + r * D, t->final_w, t->final_b, t->c->norm,
               t->c->norm_eps, D);
    R(bf_gemm)(false, !t->head.in_major, 1, V, D, 1, normed, D, t->head.w, t->head.ld, false, logits, V);
    bf_random random = bf_random_of(d->seed, STREAM, d->number * d->T + d->at, s);
    d->tokens[s * d->T + d->at] = (int32_t)draw(&logp, logits, V, bf_random_unit(&random));
    d->logp[s] += logp;
}

/* How many sequences stand together: what the rows and the logits hold. */
static size_t group_size(const R(bf_train) *t, size_t rows, size_t T)
{
    return rows / T < t->chunk ? rows / T : t->chunk;
}

static void sample(draws *d, size_t group)
{
    R(bf_train) *t = d->t;
    for (d->first = 0; d->first < d->all; d->first += group) {
        set_shape(t, d->all - d->first < group ? d->all - d->first : group, d->T);
        const bf_batch batch = {.B = t->B, .T = d->T, .heads = 1, .input = d->tokens + d->first * d->T};
        for (d->at = d->context; d->at < d->T; d->at++) {
            R(bf_train_forward)(t, &batch, t->c->L, false);
            bf_pool_run(t->pool, t->B, draw_task, d);
        }
    }
}

static void swap_samples(draws *d, size_t a, size_t b)
{
    const double logp = d->logp[a];
    d->logp[a] = d->logp[b];
    d->logp[b] = logp;
    for (size_t k = 0; k < d->T; k++) {
        const int32_t token = d->tokens[a * d->T + k];
        d->tokens[a * d->T + k] = d->tokens[b * d->T + k];
        d->tokens[b * d->T + k] = token;
    }
}

/* Bring the chosen samples of each prefix to the front; how many there are in all. */
static size_t choose(draws *d)
{
    const size_t S = d->joint->samples, keep = d->joint->keep;
    size_t n = 0;
    for (size_t p = 0; p < d->joint->prefixes; p++)
        for (size_t k = 0; k < keep; k++) {
            size_t best = p * S + k; /* samples do not depend on each other: the first are any */
            for (size_t s = best; s < (p + 1) * S && !d->joint->random; s++)
                if (d->logp[s] > d->logp[best])
                    best = s;
            swap_samples(d, best, p * S + k);
            memmove(d->tokens + n++ * d->T, d->tokens + (p * S + k) * d->T, d->T * sizeof *d->tokens);
        }
    return n;
}

static double learn(draws *d, size_t n, size_t group, int32_t *target, double share)
{
    R(bf_train) *t = d->t;
    const double scale = share * d->joint->weight / (double)(n * d->joint->n);
    double loss = 0;
    for (size_t k = 0; k < group * d->T; k++)
        target[k] = -1;
    for (size_t first = 0; first < n; first += group) {
        set_shape(t, n - first < group ? n - first : group, d->T);
        t->sequence = d->sequences + first;
        const int32_t *tokens = d->tokens + first * d->T;
        for (size_t b = 0; b < t->B; b++)
            memcpy(target + b * d->T + d->context - 1, tokens + b * d->T + d->context,
                   d->joint->n * sizeof *target);
        const bf_batch batch = {.B = t->B, .T = d->T, .heads = 1, .input = tokens, .target = target};
        loss += R(bf_train_pass)(t, &batch, true, scale);
        t->add = true;
    }
    t->sequence = 0;
    return loss;
}

/* Prefixes from anywhere in the batch, each `samples` times. */
static void begin(draws *d, const bf_batch *batch)
{
    for (size_t p = 0; p < d->joint->prefixes; p++) {
        bf_random random = bf_random_of(d->seed, STREAM, d->number * d->T, p);
        const size_t b = bf_random_below(&random, batch->B);
        const size_t from = bf_random_below(&random, batch->T - d->context + 1);
        for (size_t s = p * d->joint->samples; s < (p + 1) * d->joint->samples; s++)
            memcpy(d->tokens + s * d->T, batch->input + b * batch->T + from, d->context * sizeof *d->tokens);
    }
}

bf_code R(bf_train_joint)(double *loss, R(bf_train) *t, const bf_batch *batch, double share, bf_error *err)
{
    const bf_joint *j = &t->config->joint;
    const size_t T = j->context + j->n, all = j->prefixes * j->samples, group = group_size(t, t->rows, T);
    draws d = {.t = t, .joint = j, .seed = t->config->seed, .number = t->number, .sequences = batch->B,
               .context = j->context, .T = T, .all = all};
    d.tokens = calloc(all, T * sizeof *d.tokens);
    d.logp = calloc(all, sizeof *d.logp);
    int32_t *target = calloc(group, T * sizeof *target);
    bf_code rc = BF_OK;
    if (d.tokens && d.logp && target) {
        begin(&d, batch);
        sample(&d, group);
        *loss = learn(&d, choose(&d), group, target, share) / share;
        set_shape(t, batch->B, batch->T);
    } else {
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu completions", all);
    }
    free(d.tokens);
    free(d.logp);
    free(target);
    return rc;
}
