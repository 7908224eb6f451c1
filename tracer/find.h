/* find.h -- the parts of bf_find: what heads carry, what they look at, and the statistics (internal
 * to tracer). */
#ifndef BF_TRACER_FIND_H
#define BF_TRACER_FIND_H

#include "backflow/find.h"
#include "backflow/record.h"
#include "base/random.h"

/* ---- statistics (find_stats.c) */

/* Choose m of 0..n-1, ascending; m <= n. */
void bf_random_choose(size_t *out, size_t m, size_t n, uint64_t *state);

/* Which of n units each of so many resamples holds: out [resamples,n]; free().  BF_ENOMEM. */
bf_code bf_resamples_draw(uint32_t **out, size_t resamples, size_t n, uint64_t seed, bf_error *err);

/* sum(top)/sum(bottom) over n units, and the 2.5 % and 97.5 % points of the same over the resamples
 * (those whose bottom is above 0). top     [n] with stride between them bottom  [n], 0 or more
 * draws   [resamples,n]; room [resamples] */
bf_estimate bf_estimate_ratio(const double *top, size_t stride, const double *bottom, size_t n,
                              const uint32_t *draws, size_t resamples, double *room);

/* A sum of independent terms, each within 1 of its mean, is at least `above` over its mean with at
 * most this probability (Bernstein's inequality); variance of the sum. */
double bf_bernstein(double above, double variance);

/* Holm's step-down: p-values adjusted in place for n tests. room [n]. */
void bf_holm(double *p, size_t n, size_t *room);

/* ---- what heads carry (find_carry.c) */

/* Sums over the losses of one text. */
typedef struct {
    size_t L, H, N;
    double *by[2];         /* [L,H] flow carried by k, by v */
    double *way;           /* [L,H] flow times tokens */
    double *direct;        /* [L,H] flow brought to the layer's input */
    double *layer;         /* [L] all flow at the layer's input */
    double flow, distance; /* at the embeddings: all; times tokens */
    double lost;           /* that ended elsewhere than at the loss's own position */
    size_t pairs;
    double *here, *above; /* [N] room */
} bf_carry;

/* Room for texts of at most N positions; bf_carry_free, also after a failure.  BF_ENOMEM. */
bf_code bf_carry_new(bf_carry *carry, size_t L, size_t H, size_t N, bf_error *err);
void bf_carry_free(bf_carry *carry);
void bf_carry_clear(bf_carry *carry);
/* Add the losses of a record that has flow.resid_pre.grad_norm and edges of all layers.
 * BF_EFORMAT. */
bf_code bf_carry_add(bf_carry *carry, const bf_record *record, bf_error *err);

/* ---- what heads look at (find_names.c) */

/* Sums over the queries of units (texts, or sequences) with targets, of all names. */
typedef struct {
    size_t units, heads;             /* heads of all layers */
    double *score[BF_HEAD_NAMES];    /* [units,heads] attention on targets */
    double *queries[BF_HEAD_NAMES];  /* [units] */
    double *chance[BF_HEAD_NAMES];   /* [heads] mean of the sum of scores, had targets been drawn */
    double *variance[BF_HEAD_NAMES]; /* [heads] and its variance */
    double *block;                   /* all of the above */
    size_t *target;                  /* [most] room */
} bf_looks;

/* Room for so many units of at most N positions; bf_looks_free, also after a failure. 
 * BF_ENOMEM. */
bf_code bf_looks_new(bf_looks *looks, size_t units, size_t heads, size_t N, bf_error *err);
void bf_looks_free(bf_looks *looks);
/* Add a unit's attention.  tokens [N]; attn [L,H,N,N], L*H = heads.  BF_EFORMAT. */
bf_code bf_looks_add(bf_looks *looks, size_t unit, const int64_t *tokens, const bf_tensor *attn,
                     bf_error *err);

#endif
