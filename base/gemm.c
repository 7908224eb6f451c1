#include "base/gemm.h"

#include <cblas.h>
#include <string.h>

void bf_gemm_init(void)
{
    openblas_set_num_threads(1);
}

static CBLAS_TRANSPOSE transposed(bool t)
{
    return t ? CblasTrans : CblasNoTrans;
}

#define GEMM(name, type, cblas)                                                                    \
    void name(bool ta, bool tb, size_t M, size_t N, size_t K, type alpha, const type *A,           \
              size_t lda, const type *B, size_t ldb, bool add, type *C, size_t ldc)                \
    {                                                                                              \
        if (!M || !N)                                                                              \
            return;                                                                                \
        if (!K) {                                                                                  \
            for (size_t m = 0; m < M && !add; m++)                                                 \
                memset(C + m * ldc, 0, N * sizeof *C);                                             \
            return;                                                                                \
        }                                                                                          \
        cblas(CblasRowMajor, transposed(ta), transposed(tb), (blasint)M, (blasint)N, (blasint)K,   \
              alpha, A, (blasint)lda, B, (blasint)ldb, add ? (type)1 : (type)0, C, (blasint)ldc);  \
    }

GEMM(bf_gemm_f32, float, cblas_sgemm)
GEMM(bf_gemm_f64, double, cblas_dgemm)

/* OpenBLAS has kernels of their own for M*N*K up to 10^6. */
#define GEMM_ROWS(name, gemm, type)                                                                \
    void name(bool tb, size_t M, size_t N, size_t K, const type *A, size_t lda, const type *B,     \
              size_t ldb, bool add, type *C, size_t ldc)                                           \
    {                                                                                              \
        const size_t step = N * K * BF_GRANULE > 1000 * 1000 ? M : BF_GRANULE;                     \
        for (size_t m = 0; m < M; m += step)                                                       \
            gemm(false, tb, step, N, K, 1, A + m * lda, lda, B, ldb, add, C + m * ldc, ldc);       \
    }

GEMM_ROWS(bf_gemm_rows_f32, bf_gemm_f32, float)
GEMM_ROWS(bf_gemm_rows_f64, bf_gemm_f64, double)
