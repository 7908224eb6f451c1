/* packed.h -- products in bfloat16 with float sums: the one door to oneDNN.
 *
 * A weight is rounded and brought into the library's own layout once, and multiplied with many tiles.
 * Calls are serial; each worker of base/threads.h has its own room, so that two may call at once. */
#ifndef BF_BASE_PACKED_H
#define BF_BASE_PACKED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"

/* Does this processor multiply bfloat16 natively? */
bool bf_bf16_available(void);

typedef struct bf_packing bf_packing;
typedef struct bf_packed bf_packed;

/* Room for tiles of tile rows (a multiple of BF_GRANULE; 0: nothing is packed in it) and products of up to
 * widest_k terms, a worker each.
 * BF_EUNSUPPORTED to pack without the instructions; BF_ENOMEM. */
bf_code bf_packing_new(bf_packing **out, size_t workers, size_t tile, size_t widest_k, bf_error *err);
void bf_packing_free(bf_packing *packing); /* NULL-safe; after all that was packed in it */

/* Pack B [K,N] (tb: stored [N,K]). K <= widest_k. B is not kept.
 * BF_ENOMEM, BF_EUNSUPPORTED (the library refused; the message says with what). */
bf_code bf_packed_new(bf_packed **out, bf_packing *packing, size_t worker, size_t K, size_t N,
                      const float *B, size_t ldb, bool tb, bf_error *err);
void bf_packed_free(bf_packed *packed); /* NULL-safe */

/* C [M,N] = A [M,K] B (+ C if add); A is rounded if need be. M a multiple of BF_GRANULE, at most tile; rows of C
 * are N apart. False if the library failed. */
bool bf_packed_apply(const bf_packed *packed, size_t worker, size_t M, const float *A, size_t lda,
                     bool add, float *C);

/* ---- operands as they stand ---- */

/* C [M,N] = A [M,K] B [K,N] (+ C if add), laid out as bf_gemm_f32's (base/gemm.h), in the worker's room;
 * bf16: of operands that are bfloat16 already (bf_bf16_available). The library brings B into its layout on the
 * way, which costs 2 to 4 % of a product of 256 rows: what changes with each step need not be packed.
 * What fails is kept, C is then not written and later calls do nothing: ask bf_room_failed. K >= 1. */
void bf_room_gemm_bf16(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                       const uint16_t *A, size_t lda, const uint16_t *B, size_t ldb, bool add, float *C,
                       size_t ldc);
void bf_room_gemm_f32(bf_packing *room, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                      const float *A, size_t lda, const float *B, size_t ldb, bool add, float *C, size_t ldc);
/* BF_OK; BF_ENOMEM, BF_EUNSUPPORTED: the first failure of these in a room. */
bf_code bf_room_failed(const bf_packing *room, bf_error *err);
/* Does this processor have AVX-512? Then bf_room_gemm_f32 has kernels of its own (docs/performance.md). */
bool bf_room_gemm_pays(void);

/* dst = src rounded to nearest even; NaN stays NaN. */
void bf_bf16_round(uint16_t *dst, const float *src, size_t n);

#endif
