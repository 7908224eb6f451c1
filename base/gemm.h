/* gemm.h -- matrix products, the one door to BLAS.
 *
 * C [M,N] = A [M,K] * B [K,N] (+ C if add), row-major with leading dimensions; ta: A is stored [K,M],
 * tb: B is stored [N,K]. Each call is serial: threads are ours (base/threads.h), so that no second
 * pool fights with them. Empty sizes are allowed. */
#ifndef BF_BASE_GEMM_H
#define BF_BASE_GEMM_H

#include <stdbool.h>
#include <stddef.h>

#include "base/real.h"

/* Must run once before the first product: makes BLAS serial. Cheap, may be repeated. */
void bf_gemm_init(void);

void bf_gemm_f32(bool ta, bool tb, size_t M, size_t N, size_t K, float alpha, const float *A,
                 size_t lda, const float *B, size_t ldb, bool add, float *C, size_t ldc);
void bf_gemm_f64(bool ta, bool tb, size_t M, size_t N, size_t K, double alpha, const double *A,
                 size_t lda, const double *B, size_t ldb, bool add, double *C, size_t ldc);

enum { BF_GRANULE = 48 };

/* The same product for M a multiple of BF_GRANULE (of 24: kernels for AVX-512 take rows by 24 or 12 and
 * sum what is left over in another order), with the promise that the bits of a row of C do not
 * depend on M or on where the row stands (BLAS takes other kernels for small products, so those are
 * cut into calls of one size). Tested in tests/test_gemm.c; equal records for any memory rest on it. */
void bf_gemm_rows_f32(bool tb, size_t M, size_t N, size_t K, const float *A, size_t lda,
                      const float *B, size_t ldb, bool add, float *C, size_t ldc);
void bf_gemm_rows_f64(bool tb, size_t M, size_t N, size_t K, const double *A, size_t lda,
                      const double *B, size_t ldb, bool add, double *C, size_t ldc);

#endif
