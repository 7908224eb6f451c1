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
#include "tests/random_values.h"

enum { TILE = 240 };

static const size_t shapes[][2] = {{768, 192}, {64, 172}, {172, 64}, {64, 64}, {5, 64},
                                   {15, 47}, {300, 7}, {1, 1}, {257, 129}};

/* Largest difference to the plain product, over sqrt(K); packed in the place of another B. */
static double difference(bf_packing *room, size_t M, size_t N, size_t K, bool half, int form)
{
    const bool tb = form & 1, add = form & 2;
    const size_t lda = form & 4 ? K + 3 : K, ldb = (tb ? K : N) + (form & 4 ? 5 : 0);
    bf_packed *packed;
    float *a = random_floats(M * lda), *b = random_floats((tb ? N : K) * ldb), *c = random_floats(M * N);
    float *plain = random_floats(M * N), *other = random_floats(K * N);
    double worst = 0.0;
    memcpy(plain, c, M * N * sizeof *c);
    assert_int_equal(bf_packed_new(&packed, room, K, N, half, NULL), BF_OK);
    assert_true(bf_packed_fits(packed, K, N, half));
    assert_false(bf_packed_fits(packed, K, N, !half) || bf_packed_fits(packed, K + 1, N, half));
    bf_packed_fill(packed, 1, other, N, false);
    bf_packed_fill(packed, 0, b, ldb, tb);
    bf_gemm_f32(false, tb, M, N, K, 1, a, lda, b, ldb, add, plain, N);
    bf_packed_apply(packed, 1, M, a, lda, add, c);
    for (size_t k = 0; k < M * N; k++)
        worst = fmax(worst, isnan(c[k]) ? INFINITY : fabs((double)c[k] - (double)plain[k]));
    bf_packed_free(packed);
    free(a);
    free(b);
    free(c);
    free(plain);
    free(other);
    return worst / sqrt((double)K);
}

static void check(bool half, double tolerance)
{
    static const size_t rows[] = {TILE, BF_GRANULE, 1};
    bf_packing *room;
    assert_int_equal(bf_packing_new(&room, 2, NULL), BF_OK);
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 24; form++) {
            const double d = difference(room, rows[form / 8], shapes[s][0], shapes[s][1], half, form % 8);
            if (!(d <= tolerance))
                fail_msg("N %zu K %zu form %d: %g", shapes[s][0], shapes[s][1], form, d);
        }
    assert_int_equal(bf_room_failed(room, NULL), BF_OK);
    bf_packing_free(room);
}

static void packed_apply__is_the_product(void **unused)
{
    (void)unused;
    check(false, 1e-6);
}

static void packed_apply__agrees_within_bfloat16(void **unused)
{
    (void)unused;
    if (!bf_bf16_available()) {
        printf("skipped: no avx512_bf16 on this processor\n");
        skip();
    }
    check(true, 0.02);
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

/* What is left is the order of float sums, 2^-24 of at most K terms below 1. C beside the product stays. */
static void assert_product(const float *c, const float *want, size_t M, size_t N, size_t K, size_t ldc, int form)
{
    for (size_t k = 0; k < M * ldc; k++)
        if (!(fabs((double)c[k] - (double)want[k]) <= (k % ldc < N ? 0x1p-24 * ((double)K + 1) : 0)))
            fail_msg("%zu x %zu x %zu, form %d: %zu,%zu is %.9g, wanted %.9g", M, N, K, form, k / ldc,
                     k % ldc, (double)c[k], (double)want[k]);
}

/* Rows are farther apart than they are long. To BLAS's product of the same operands, rounded ones widened
 * again; where there is such a way, made as the transpose, too. */
static void check_gemm(bf_packing *packing, size_t M, size_t N, size_t K, int form)
{
    const bool ta = form & 1, tb = form & 2, add = form & 4, half = form & 8;
    const size_t lda = (ta ? M : K) + 3, ldb = (tb ? K : N) + 5, ldc = N + 2;
    float *a = random_floats((ta ? K : M) * lda), *b = random_floats((tb ? N : K) * ldb);
    float *c = random_floats(M * ldc), *want = random_floats(M * ldc), *turned = random_floats(M * ldc);
    uint16_t *half_a = half ? rounded(a, (ta ? K : M) * lda) : NULL;
    uint16_t *half_b = half ? rounded(b, (tb ? N : K) * ldb) : NULL;
    memcpy(want, c, M * ldc * sizeof *c);
    memcpy(turned, c, M * ldc * sizeof *c);
    bf_gemm_f32(ta, tb, M, N, K, 1, a, lda, b, ldb, add, want, ldc);
    if (half)
        bf_room_gemm_bf16(packing, 1, ta, tb, M, N, K, half_a, lda, half_b, ldb, add, c, ldc);
    else
        bf_room_gemm_f32(packing, 1, ta, tb, M, N, K, a, lda, b, ldb, add, c, ldc);
    assert_product(c, want, M, N, K, ldc, form);
    if (!half && !ta && tb) {
        bf_room_turned_f32(packing, 1, M, N, K, a, lda, b, ldb, add, turned, ldc);
        assert_product(turned, want, M, N, K, ldc, form);
    }
    free(a);
    free(b);
    free(c);
    free(want);
    free(turned);
    free(half_a);
    free(half_b);
}

static void check_gemms(int first)
{
    static const size_t rows[] = {256, 1, 47, 64};
    bf_packing *packing;
    assert_int_equal(bf_packing_new(&packing, 2, NULL), BF_OK);
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

/* As bf_gemm_rows_f32 (tests/test_gemm.c): a row's bits do not depend on how many stand beside it, or where;
 * nor on whether B was packed. */
static void check_rows(bf_packing *room, size_t N, size_t K, bool tb)
{
    enum { ROWS = 2 * TILE };
    bf_packed *packed;
    const size_t lda = K + 1;
    float *a = random_floats(ROWS * lda), *b = random_floats(K * N);
    float *whole = random_floats(ROWS * N), *part = random_floats(TILE * N);
    assert_int_equal(bf_packed_new(&packed, room, K, N, false, NULL), BF_OK);
    bf_packed_fill(packed, 0, b, tb ? K : N, tb);
    bf_packed_apply(packed, 0, ROWS, a, lda, false, whole);
    for (size_t from = 0; from + TILE <= ROWS; from += 37)
        for (size_t rows = from ? BF_GRANULE : 1; rows <= TILE; rows += BF_GRANULE) {
            bf_packed_apply(packed, 1, rows, a + from * lda, lda, false, part);
            assert_memory_equal(part, whole + from * N, rows * N * sizeof *part);
            bf_room_tile_f32(room, 1, tb, rows, N, K, a + from * lda, lda, b, false, part);
            assert_memory_equal(part, whole + from * N, rows * N * sizeof *part);
        }
    bf_packed_free(packed);
    free(a);
    free(b);
    free(whole);
    free(part);
}

static void packed_apply__rows_do_not_depend_on_where_they_stand(void **unused)
{
    (void)unused;
    static const size_t wide[][2] = {{3072, 768}, {768, 3072}, {1000, 1500}};
    bf_packing *room;
    if (!bf_room_gemm_pays()) {
        printf("skipped: no AVX-512 on this processor, BLAS multiplies\n");
        skip();
    }
    assert_int_equal(bf_packing_new(&room, 2, NULL), BF_OK);
    for (int tb = 0; tb < 2; tb++) {
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            check_rows(room, shapes[s][0], shapes[s][1], tb);
        for (size_t s = 0; s < sizeof wide / sizeof *wide; s++)
            check_rows(room, wide[s][0], wide[s][1], tb);
    }
    assert_int_equal(bf_room_failed(room, NULL), BF_OK);
    bf_packing_free(room);
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

static void packed_new__refuses_what_overflows(void **unused)
{
    (void)unused;
    bf_packing *room;
    bf_packed *packed;
    assert_int_equal(bf_packing_new(&room, 1, NULL), BF_OK);
    assert_int_equal(bf_packed_new(&packed, room, SIZE_MAX / 4, 16, false, NULL), BF_ENOMEM);
    bf_packing_free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packed_apply__is_the_product),
        cmocka_unit_test(packed_apply__agrees_within_bfloat16),
        cmocka_unit_test(packed_apply__rows_do_not_depend_on_where_they_stand),
        cmocka_unit_test(room_gemm_f32__is_the_product),
        cmocka_unit_test(room_gemm_bf16__is_the_product_of_rounded_operands),
        cmocka_unit_test(bf16_round__is_nearest_even_and_keeps_nan),
        cmocka_unit_test(packed_new__refuses_what_overflows),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
