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
        cmocka_unit_test(bf16_round__is_nearest_even_and_keeps_nan),
        cmocka_unit_test(packing_new__wants_tiles_of_granules),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
