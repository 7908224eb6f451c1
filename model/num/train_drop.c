/* Dropout (Srivastava et al. 2014, JMLR 15): of a place's values the share p becomes 0, drawn one by one,
 * and the others grow by 1 / (1 - p). Places are GPT-2's: the sum of embeddings, attention's weights after
 * softmax, and what attention and MLP add to the residual stream.
 *
 * A factor is a function of the seed, the batch's number, and the value's own sequence, layer, place, head,
 * position and index. So nothing is kept for the way back, which draws the same again, and neither threads
 * nor tiles nor interruptions change a bit. */
#include "model/num/train.h"

#include <math.h>

#include "model/data_random.h"

enum { STREAM = 0xd209, PLACES = BF_DROP_MLP_OUT + 1 };

typedef struct {
    uint64_t least; /* draws below it drop their value */
    real rest;      /* the factor of the others */
} odds;

static double share_of(const R(bf_train) *t, bf_drop place)
{
    const bf_dropout *d = &t->config->dropout;
    return place == BF_DROP_EMBEDDING ? d->embedding : place == BF_DROP_WEIGHTS ? d->attention : d->residual;
}

/* bf_random_unit(...) < p, in whole numbers. */
static odds odds_of(const R(bf_train) *t, bf_drop place)
{
    const double p = share_of(t, place);
    return (odds){(uint64_t)ceil(p * 0x1p53), (real)(1 / (1 - p))};
}

/* The generator of the values that head h (0: there are none) has at row r. */
static bf_random row_random(const R(bf_train) *t, bf_drop place, size_t block, size_t h, size_t r)
{
    const bf_random sequence = bf_random_of(t->config->seed, STREAM, t->number, t->sequence + r / t->T);
    return bf_random_of(sequence, block * PLACES + place, h, r % t->T);
}

/* Of value k of a row: what the generator's draw k + 1 says, without those before it. */
static inline real factor_of(bf_random random, size_t k, odds o)
{
    return bf_splitmix(random + (k + 1) * BF_RANDOM_STEP) >> 11 < o.least ? 0 : o.rest;
}

bool R(bf_train_drops)(const R(bf_train) *t, bf_drop place)
{
    return t->dropping && share_of(t, place) > 0;
}

BF_HOT void R(bf_train_drop)(const R(bf_train) *t, bf_drop place, size_t block, real *y, const real *x,
                             size_t r0, size_t n)
{
    const size_t D = t->c->D;
    const odds o = odds_of(t, place);
    for (size_t r = r0; r < r0 + n; r++) {
        const bf_random random = row_random(t, place, block, 0, r);
        for (size_t d = 0; d < D; d++)
            y[r * D + d] = x[r * D + d] * factor_of(random, d, o);
    }
}

BF_HOT void R(bf_train_factors)(const R(bf_train) *t, size_t block, size_t s, size_t h, const bf_mask *mask,
                                real *factor)
{
    const size_t T = t->T;
    const odds o = odds_of(t, BF_DROP_WEIGHTS);
    for (size_t i = 0; i < T; i++) {
        const bf_random random = row_random(t, BF_DROP_WEIGHTS, block, h, s * T + i);
        const bf_span keys = bf_mask_keys(mask, i, T);
        for (size_t j = 0; j < T; j++)
            factor[i * T + j] = bf_span_has(keys, j) ? factor_of(random, j, o) : 0;
    }
}
