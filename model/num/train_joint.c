/* Joint loss of completions: prefixes of the batch's sequences are completed by the model itself, and the
 * completions with the highest joint probability (or any) are trained on.
 *
 * Sequences of context + n tokens stand where the batch stood, as many at a time as its rows hold; the
 * rows' q, k, v, which the backward pass wants of any batch, are the keys and values that a next token
 * reads. What is drawn is a function of the seed, the batch's number and the sample's: no state. */
#include "model/num/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/gemm.h"
#include "model/data_random.h"

enum { STREAM = 0x1054 }; /* of draws, beside those of the data's splits and of first weights */
enum { TOGETHER = 16 };   /* sequences whose logits are one product */

typedef struct {
    R(bf_train) *t;
    const bf_joint *joint;
    uint64_t seed, number;
    size_t sequences;       /* of the batch, before the completions */
    size_t context, T, all; /* tokens of a prefix; of a sequence; sequences in all */
    int32_t *tokens;        /* [all,T] */
    int32_t *spare;         /* [group,T] prefixes of a group, then targets */
    double *logp;           /* [all] of the completions */
    size_t first, at;       /* the group's first sequence; the position to draw */
} draws;

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

/* The next token of some sequences, from the row before it. */
static void draw_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const draws *d = context;
    R(bf_train) *t = d->t;
    const size_t D = t->c->D, V = t->c->V, b0 = task * TOGETHER, left = t->B - b0;
    const size_t n = left < TOGETHER ? left : TOGETHER, r0 = b0 * d->T + d->at - 1;
    real *logits = t->logits + b0 * V;
    for (size_t r = r0; r < r0 + n * d->T; r += d->T)
        R(bf_norm)(t->normed + r * D, t->mean + r, t->rstd + r, t->last + r * D, t->final_w, t->final_b,
                   t->c->norm, t->c->norm_eps, D);
    R(bf_gemm)(false, !t->head.in_major, n, V, D, 1, t->normed + r0 * D, d->T * D, t->head.w, t->head.ld,
               false, logits, V);
    for (size_t b = 0; b < n; b++) {
        const size_t s = d->first + b0 + b;
        double logp;
        bf_random random = bf_random_of(d->seed, STREAM, d->number * d->T + d->at, s);
        d->tokens[s * d->T + d->at] = (int32_t)draw(&logp, logits + b * V, V, bf_random_unit(&random));
        d->logp[s] += logp;
    }
}

/* How many sequences stand together: what the rows and the logits hold. */
static size_t group_size(const R(bf_train) *t, size_t rows, size_t T)
{
    return rows / T < t->chunk ? rows / T : t->chunk;
}

/* Prefixes stand one after the other, `context` rows of x each; give every sequence of the group its own.
 * From the last to the first: no row is written before it was read, as none goes to an earlier place. */
static void hand_out(const draws *d, real *x, size_t width)
{
    const size_t p0 = d->first / d->joint->samples;
    for (size_t b = d->t->B; b-- > 0;) {
        const size_t p = (d->first + b) / d->joint->samples - p0;
        memmove(x + b * d->T * width, x + p * d->context * width, d->context * width * sizeof *x);
    }
}

/* The group's n sequences up to where they are to be completed: each prefix goes through the model once, and
 * its keys and values, and what its end predicts, are handed to all of its samples. */
static void read_prefixes(draws *d, size_t n)
{
    R(bf_train) *t = d->t;
    const size_t S = d->joint->samples, p0 = d->first / S, prefixes = (d->first + n - 1) / S + 1 - p0;
    for (size_t p = 0; p < prefixes; p++) {
        const size_t s = p ? (p0 + p) * S : d->first;
        memcpy(d->spare + p * d->context, d->tokens + s * d->T, d->context * sizeof *d->spare);
    }
    const bf_batch batch = {.B = prefixes, .T = d->context, .heads = 1, .input = d->spare};
    R(bf_train_shape)(t, prefixes, d->context);
    R(bf_train_forward)(t, &batch, t->c->L, false);
    R(bf_train_shape)(t, n, d->T);
    for (size_t l = 0; l < t->c->L; l++)
        hand_out(d, t->acts[l].qkv, t->block[l].qkv.out);
    hand_out(d, t->last, t->c->D);
}

/* Complete a group of sequences, all of them by one token at a time. */
static void sample_group(draws *d, size_t n)
{
    R(bf_train) *t = d->t;
    const bf_batch batch = {.B = n, .T = d->T, .heads = 1, .input = d->tokens + d->first * d->T};
    const bool whole = t->kept != NULL; /* BF_CUT_LOCAL: two models run, acts hold one's keys and values */
    if (!whole)
        read_prefixes(d, n);
    R(bf_train_shape)(t, n, d->T);
    for (d->at = d->context; d->at < d->T; d->at++) {
        if (!whole && d->at > d->context)
            R(bf_train_single)(t, d->at - 1);
        if (whole || d->at > d->context)
            R(bf_train_forward)(t, &batch, t->c->L, false);
        bf_pool_run(t->pool, (n + TOGETHER - 1) / TOGETHER, draw_task, d);
    }
}

static void sample(draws *d, size_t group)
{
    for (d->first = 0; d->first < d->all; d->first += group)
        sample_group(d, d->all - d->first < group ? d->all - d->first : group);
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

static double learn(draws *d, size_t n, size_t group, double share)
{
    int32_t *target = d->spare;
    R(bf_train) *t = d->t;
    const double scale = share * d->joint->weight / (double)(n * d->joint->n);
    double loss = 0;
    for (size_t k = 0; k < group * d->T; k++)
        target[k] = -1;
    for (size_t first = 0; first < n; first += group) {
        R(bf_train_shape)(t, n - first < group ? n - first : group, d->T);
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
    d.spare = calloc(group, T * sizeof *d.spare);
    bf_code rc = BF_OK;
    if (d.tokens && d.logp && d.spare) {
        begin(&d, batch);
        sample(&d, group);
        *loss = learn(&d, choose(&d), group, share) / share;
        R(bf_train_shape)(t, batch->B, batch->T);
    } else {
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu completions", all);
    }
    free(d.tokens);
    free(d.logp);
    free(d.spare);
    return rc;
}
