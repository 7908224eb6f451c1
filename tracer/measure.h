/* measure.h -- what several measures use; all in double: include this first (internal to tracer).
 */
#ifndef BF_TRACER_MEASURE_H
#define BF_TRACER_MEASURE_H

#define BF_BITS 64

#include <stdbool.h>
#include <stddef.h>

#include "model/model.h"
#include "model/num/forward.h"
#include "tracer/claim.h"
#include "tracer/stats.h"

/* Where the mask alone lets a loss's gradient arrive, whatever the weights: at layer l's input,
 * from loss i, at position j. Layer L is the input of the final norm. */
typedef struct {
    size_t L, N;
    char *can; /* [L+1,N,N] */
} bf_reachable;

bf_code bf_reach_new(bf_reachable *out, const bf_model *model, size_t N, bf_error *err);
void bf_reach_free(bf_reachable *reach);
static inline bool bf_can_reach(const bf_reachable *r, size_t l, size_t i, size_t j)
{
    return r->can[(l * r->N + i) * r->N + j];
}

/* The forward run in double, again and again (claim_forward.c). */
typedef struct {
    bf_model *model;
    size_t N; /* positions there is room for */
    bf_pool *pool;
    bf_arena *arena;
    bf_params_f64 *params;
    bf_acts_f64 *acts;
    double *normed; /* [D] */
    const volatile sig_atomic_t *stop;
} bf_forwards;

/* Room for texts of N positions. End it whatever the outcome.  BF_ENOMEM, BF_ENONFINITE. */
bf_code bf_forwards_new(bf_forwards *f, const bf_subject *s, size_t N, bf_error *err);
void bf_forwards_end(bf_forwards *f);
/* Losses [n-1] of n tokens; borrowed until the next run.  n - 1 <= N. */
bf_code bf_forwards_losses(const double **loss, bf_forwards *f, const int64_t *tokens, size_t n,
                           bf_error *err);
/* Log-probabilities [V] of what follows n tokens, n <= N. */
bf_code bf_forwards_next(double *logprob, bf_forwards *f, const int64_t *tokens, size_t n,
                         bf_error *err);

#endif
