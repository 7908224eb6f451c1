/* Packed products against plain ones. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/gemm.h"
#include "base/packed.h"

enum { TILE = 240 };

static float *random_floats(size_t n)
{
    static uint64_t state = 11;
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t k = 0; k < n; k++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        x[k] = (float)((double)(state >> 11) * 0x1p-52 - 1.0);
    }
    return x;
}

/* Largest difference to the plain product, over sqrt(K). */
static double difference(size_t M, size_t N, size_t K, bool tb, bool add, size_t lda)
{
    bf_packing *packing;
    bf_packed *packed;
    bf_error err = {0};
    float *a = random_floats(M * lda), *b = random_floats(K * N), *c = random_floats(M * N);
    float *plain = random_floats(M * N);
    double worst = 0.0;
    memcpy(plain, c, M * N * sizeof *c);
    assert_int_equal(bf_packing_new(&packing, 2, TILE, K + 3, &err), BF_OK);
    assert_int_equal(bf_packed_new(&packed, packing, 0, K, N, b, tb ? K : N, tb, &err), BF_OK);
    bf_gemm_f32(false, tb, M, N, K, 1, a, lda, b, tb ? K : N, add, plain, N);
    assert_true(bf_packed_apply(packed, 1, M, a, lda, add, c));
    for (size_t k = 0; k < M * N; k++)
        worst = fmax(worst, isnan(c[k]) ? INFINITY : fabs((double)c[k] - (double)plain[k]));
    bf_packed_free(packed);
    bf_packing_free(packing);
    free(a);
    free(b);
    free(c);
    free(plain);
    return worst / sqrt((double)K);
}

static const size_t shapes[][2] = {{768, 192}, {64, 172}, {172, 64}, {64, 64}, {5, 64},
                                   {15, 47}, {300, 7}, {1, 1}, {257, 129}};

static void check(double tolerance)
{
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 8; form++) {
            const size_t N = shapes[s][0], K = shapes[s][1];
            const double d = difference(form & 1 ? BF_GRANULE : TILE, N, K, form & 2, form & 4,
                                        form & 1 ? K + 3 : K);
            if (!(d <= tolerance))
                printf("N %zu K %zu form %d: %g\n", N, K, form, d);
            assert_true(d <= tolerance);
        }
}

static void packed_apply__agrees_within_bfloat16(void **unused)
{
    (void)unused;
    if (!bf_bf16_available()) {
        printf("skipped: no avx512_bf16 on this processor\n");
        skip();
    }
    check(0.02);
}

static uint16_t *rounded(float *x, size_t n)
{
    uint16_t *half = malloc(n * sizeof *half);
    assert_non_null(half);
    bf_bf16_round(half, x, n);
    for (size_t k = 0; k < n; k++) { /* and x as the product sees it */
        const uint32_t bits = (uint32_t)half[k] << 16;
        memcpy(x + k, &bits, sizeof bits);
    }
    return half;
}

/* Rows are farther apart than they are long. To BLAS's product of the same operands, rounded ones widened
 * again: what is left is the order of float sums, 2^-24 of at most K terms below 1. C beside the product
 * stays. */
static void check_gemm(bf_packing *packing, size_t M, size_t N, size_t K, int form)
{
    const bool ta = form & 1, tb = form & 2, add = form & 4, half = form & 8;
    const size_t lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 5, ldc = N + 2;
    float *a = random_floats((ta ? K : M) * lda), *b = random_floats((tb ? N : K) * ldb);
    float *c = random_floats(M * ldc), *want = random_floats(M * ldc);
    uint16_t *half_a = half ? rounded(a, (ta ? K : M) * lda) : NULL;
    uint16_t *half_b = half ? rounded(b, (tb ? N : K) * ldb) : NULL;
    memcpy(want, c, M * ldc * sizeof *c);
    bf_gemm_f32(ta, tb, M, N, K, 1, a, lda, b, ldb, add, want, ldc);
    if (half)
        bf_room_gemm_bf16(packing, 1, ta, tb, M, N, K, half_a, lda, half_b, ldb, add, c, ldc);
    else
        bf_room_gemm_f32(packing, 1, ta, tb, M, N, K, a, lda, b, ldb, add, c, ldc);
    for (size_t k = 0; k < M * ldc; k++)
        if (!(fabs((double)c[k] - (double)want[k]) <= (k % ldc < N ? 0x1p-24 * ((double)K + 1) : 0)))
            fail_msg("%zu x %zu x %zu, form %d: %zu,%zu is %.9g, wanted %.9g", M, N, K, form, k / ldc,
                     k % ldc, (double)c[k], (double)want[k]);
    free(a);
    free(b);
    free(c);
    free(want);
    free(half_a);
    free(half_b);
}

static void check_gemms(int first)
{
    static const size_t rows[] = {256, 1, 47, 64};
    bf_packing *packing;
    assert_int_equal(bf_packing_new(&packing, 2, 0, 0, NULL), BF_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = first; form < first + 8; form++)
            for (size_t r = 0; r < 4; r++) {
                check_gemm(packing, rows[r], shapes[s][0], shapes[s][1], form);
                check_gemm(packing, rows[r], shapes[s][0], shapes[s][1], form); /* as it was made */
            }
    assert_int_equal(bf_room_failed(packing, NULL), BF_OK);
    bf_packing_free(packing);
}

static void room_gemm_f32__is_the_product(void **unused)
{
    (void)unused;
    check_gemms(0);
}

static void room_gemm_bf16__is_the_product_of_rounded_operands(void **unused)
{
    (void)unused;
    if (!bf_bf16_available()) {
        printf("skipped: no avx512_bf16 on this processor\n");
        skip();
    }
    check_gemms(8);
}

/* As bf_gemm_rows_f32 (tests/test_gemm.c): a row's bits do not depend on how many stand beside it, or where. */
static void check_rows(bf_packing *packing, size_t N, size_t K, bool tb)
{
    enum { ROWS = 2 * TILE };
    const size_t ldb = tb ? K : N;
    float *a = random_floats(ROWS * K), *b = random_floats(K * N);
    float *whole = random_floats(ROWS * N), *part = random_floats(TILE * N);
    bf_room_gemm_f32(packing, 0, false, tb, ROWS, N, K, a, K, b, ldb, false, whole, N);
    for (size_t from = 0; from + TILE <= ROWS; from += 37)
        for (size_t rows = BF_GRANULE; rows <= TILE; rows += BF_GRANULE) {
            bf_room_gemm_f32(packing, 1, false, tb, rows, N, K, a + from * K, K, b, ldb, false, part, N);
            assert_memory_equal(part, whole + from * N, rows * N * sizeof *part);
        }
    free(a);
    free(b);
    free(whole);
    free(part);
}

static void room_gemm_f32__rows_do_not_depend_on_where_they_stand(void **unused)
{
    (void)unused;
    bf_packing *packing;
    if (!bf_room_gemm_pays()) {
        printf("skipped: no AVX-512 on this processor, BLAS multiplies\n");
        skip();
    }
    assert_int_equal(bf_packing_new(&packing, 2, 0, 0, NULL), BF_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int tb = 0; tb < 2; tb++)
            check_rows(packing, shapes[s][0], shapes[s][1], tb);
    assert_int_equal(bf_room_failed(packing, NULL), BF_OK);
    bf_packing_free(packing);
}

static void bf16_round__is_nearest_even_and_keeps_nan(void **unused)
{
    (void)unused;
    const float in[] = {1.0f, 1.00390625f, 1.01171875f, -2.5f, INFINITY, NAN, 3.0e38f, 0.0f};
    const uint16_t want[] = {0x3f80, 0x3f80, 0x3f82, 0xc020, 0x7f80, 0x7fc0, 0x7f62, 0};
    uint16_t out[8];
    bf_bf16_round(out, in, 8);
    for (size_t k = 0; k < 8; k++)
        assert_int_equal(out[k], want[k]);
}

static void packing_new__wants_tiles_of_granules(void **unused)
{
    (void)unused;
    bf_packing *packing;
    if (!bf_bf16_available())
        skip();
    assert_int_equal(bf_packing_new(&packing, 1, 100, 7, NULL), BF_EARG);
    assert_int_equal(bf_packing_new(&packing, 1, 1024, 7, NULL), BF_EARG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_apply__agrees_within_bfloat16),
        cmocka_unit_test(room_gemm_f32__is_the_product),
        cmocka_unit_test(room_gemm_f32__rows_do_not_depend_on_where_they_stand),
        cmocka_unit_test(room_gemm_bf16__is_the_product_of_rounded_operands),
        cmocka_unit_test(bf16_round__is_nearest_even_and_keeps_nan),
        cmocka_unit_test(packing_new__wants_tiles_of_granules),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
