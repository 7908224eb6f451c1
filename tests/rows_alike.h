/* rows_alike.h -- what this machine's OpenBLAS can promise of rows. */
#ifndef BF_TESTS_ROWS_ALIKE_H
#define BF_TESTS_ROWS_ALIKE_H

#include <stdio.h>
#include <string.h>

#include "base/gemm.h"

/* Are equal rows of a product in float equal bit by bit, wherever they stand? Not with OpenBLAS's kernels
 * for AVX2 alone, and there bf_gemm_rows_f32 cannot keep its promise. */
static inline bool rows_are_alike(void)
{
    enum { M = BF_GRANULE, N = 32, K = 96 }; /* kernels take 12 rows or 24 at a time */
    float a[M * K], b[N * K], c[M * N];
    for (size_t k = 0; k < M * K; k++)
        a[k] = 1.0f / (float)(1 + k % K * 7 % 31);
    for (size_t k = 0; k < N * K; k++)
        b[k] = 1.0f / (float)(3 + k * 5 % 89);
    bf_gemm_f32(false, true, M, N, K, 1, a, K, b, K, false, c, N);
    for (size_t m = 1; m < M; m++)
        if (memcmp(c, c + m * N, N * sizeof *c) != 0)
            return false;
    return true;
}

static inline void skip_unless_rows_are_alike(void)
{
    if (rows_are_alike())
        return;
    printf("skipped: this OpenBLAS kernel sums some rows in another order (docs/performance.md)\n");
    skip();
}

#endif
