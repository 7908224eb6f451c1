/* packed.h -- products by oneDNN, in float and of bfloat16 with float sums: the one door to it.
 *
 * A weight that many tiles are multiplied with is brought into the library's own layout once (packed).
 * Calls are serial; each worker of base/threads.h has its own room, so that two may call at once.
 * What fails is kept, nothing is then written and later calls of that worker do nothing: ask bf_room_failed. */
#ifndef BF_BASE_PACKED_H
#define BF_BASE_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"

/* Does this processor multiply bfloat16 natively? */
bool bf_bf16_available(void);
/* Does it have AVX-512? Then products in float have kernels of their own (docs/performance.md). */
bool bf_room_gemm_pays(void);

typedef struct bf_packing bf_packing;
typedef struct bf_packed bf_packed;

/* BF_ENOMEM. */
bf_code bf_packing_new(bf_packing **out, size_t workers, bf_error *err);
void bf_packing_free(bf_packing *room); /* NULL-safe; after all that was packed for it */
/* Have the library make its kernels: 30 ms that the first product would take else. */
void bf_room_start(bf_packing *room, size_t worker);
size_t bf_packing_workers(const bf_packing *room);
/* BF_OK; BF_ENOMEM, BF_EUNSUPPORTED: the first failure in a room. */
bf_code bf_room_failed(const bf_packing *room, bf_error *err);

/* C [M,N] = A [M,K] B [K,N] (+ C if add), laid out as bf_gemm_f32's (base/gemm.h), in the worker's room;
 * bf16: of operands that are bfloat16 already (bf_bf16_available). The library brings B into its layout on the
 * way, which costs 2 to 9 % of a product of 256 rows. K >= 1. */
void bf_room_gemm_bf16(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                       const uint16_t *A, size_t lda, const uint16_t *B, size_t ldb, bool add, float *C,
                       size_t ldc);
void bf_room_gemm_f32(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                      const float *A, size_t lda, const float *B, size_t ldb, bool add, float *C, size_t ldc);
/* C [M,N] = A [M,K] B^T (+ C if add), B [N,K], as the transpose of B A^T: B's rows are read as they stand then, and not
 * brought into another layout, which pays for some hundred rows of A at most (docs/performance.md). */
void bf_room_turned_f32(bf_packing *room, size_t worker, size_t M, size_t N, size_t K, const float *A, size_t lda,
                        const float *B, size_t ldb, bool add, float *C, size_t ldc);

/* Room for a B of K x N values; half: rounded to bfloat16, as A is then (bf_bf16_available).
 * BF_ENOMEM; BF_EUNSUPPORTED (the library refused; the message says with what). */
bf_code bf_packed_new(bf_packed **out, bf_packing *room, size_t K, size_t N, bool half, bf_error *err);
void bf_packed_free(bf_packed *packed); /* NULL-safe */
/* Was it made for these? False for NULL. */
bool bf_packed_fits(const bf_packed *packed, size_t K, size_t N, bool half);
/* Pack B [K,N] (tb: stored [N,K]), in place of what was packed before. B is not kept. */
void bf_packed_fill(bf_packed *packed, size_t worker, const float *B, size_t ldb, bool tb);

/* How a packed weight lies: `blocks` of `wide` columns one after the other, each of `rows` rows, which are K and
 * zeros; half: every two rows of a block are interleaved, value by value. False if the library's layout is another. */
typedef struct {
    void *values;
    size_t blocks, wide, rows;
} bf_grid;
bool bf_packed_grid(bf_grid *grid, const bf_packed *packed);

/* C [M,N] = A [M,K] B (+ C if add), rows of C one after the other. A row's bits depend on nothing but A's and B. */
void bf_packed_apply(const bf_packed *packed, size_t worker, size_t M, const float *A, size_t lda, bool add,
                     float *C);
/* The same bits of a B [K,N] (tb: [N,K]) as it stands, its rows one after the other. */
void bf_room_tile_f32(bf_packing *room, size_t worker, bool tb, size_t M, size_t N, size_t K, const float *A,
                      size_t lda, const float *B, bool add, float *C);

/* dst = src rounded to nearest even; NaN stays NaN. */
void bf_bf16_round(uint16_t *dst, const float *src, size_t n);

#endif
