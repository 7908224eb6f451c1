/* blend.h -- products with a weighted sum of two weights: A (diag(a) B0 + diag(b) B1), the sum formed for each run
 * of rows that has its own a and b.
 *
 * For r rows that is K N r multiply-adds and forming the sum, where the two products apart take 2 K N r. Forming costs
 * as much as 7 to 16 rows (docs/performance.md). By oneDNN (base/packed.h). */
#ifndef BF_BASE_BLEND_H
#define BF_BASE_BLEND_H

#include "base/packed.h"

typedef struct bf_blend bf_blend;

/* So many rows, one after the other, and their weights [K]. */
typedef struct {
    size_t rows;
    const float *a, *b;
} bf_run;

/* Room for a B0 and a B1 of K x N values; half: in bfloat16, as A is then. K, N >= 1.
 * BF_ENOMEM; BF_EUNSUPPORTED (the library's layout is not one that is known here). */
bf_code bf_blend_new(bf_blend **out, bf_packing *room, size_t K, size_t N, bool half, bf_error *err);
void bf_blend_free(bf_blend *blend); /* NULL-safe */
/* Was it made for these? False for NULL. */
bool bf_blend_fits(const bf_blend *blend, size_t K, size_t N, bool half);
/* B0 and B1 are packed in panels, which may be filled by several workers at once. */
size_t bf_blend_panels(const bf_blend *blend);
/* Panel p of B0 (which: 0) or B1 (1) [K,N] (tb: stored [N,K]), given from its first value. It is not kept. */
void bf_blend_fill(bf_blend *blend, size_t worker, unsigned which, size_t p, const float *B, size_t ldb, bool tb);
/* C [rows of all runs, N], rows one after the other, = A [.., K] times each run's sum. A row's bits depend on nothing
 * but its own values, a, b and the weights. */
void bf_blend_apply(const bf_blend *blend, size_t worker, const bf_run *runs, size_t n, const float *A, size_t lda,
                    float *C);

#endif
