/* Products with a weighted sum of two weights, against the same in double. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/blend.h"
#include "tests/random_values.h"

enum { RUNS = 9, ROWS = 240 };

/* One panel and many, whole and not; columns in whole blocks and not. K, N */
static const size_t shapes[][2] = {{172, 64}, {64, 172}, {1000, 320}, {33, 300}, {2816, 1024}, {49, 48}, {1, 1}, {97, 2000}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* Both weights, which way they are stored, and runs of these rows, each with its own a and b. */
typedef struct {
    bf_packing *room;
    bf_blend *blend;
    size_t K, N, lda;
    float *B[2], *A, *a[RUNS], *b[RUNS];
    bool tb[2];
    bf_run runs[RUNS];
} setting;

static const size_t run_rows[RUNS] = {1, 16, 7, 90, 1, 31, 48, 2, 44}; /* 240 in all */

static void fill(setting *s)
{
    for (unsigned which = 0; which < 2; which++)
        for (size_t p = 0; p < bf_blend_panels(s->blend); p++)
            bf_blend_fill(s->blend, p % 2, which, p, s->B[which], s->tb[which] ? s->K : s->N, s->tb[which]);
}

static setting start(size_t K, size_t N, bool half, unsigned form)
{
    setting s = {.K = K, .N = N, .lda = K + form % 3, .tb = {form & 1, form & 2}};
    assert_int_equal(bf_packing_new(&s.room, 2, NULL), BF_OK);
    assert_int_equal(bf_blend_new(&s.blend, s.room, K, N, half, NULL), BF_OK);
    assert_true(bf_blend_fits(s.blend, K, N, half));
    assert_false(bf_blend_fits(s.blend, K + 1, N, half) || bf_blend_fits(s.blend, K, N, !half) ||
                 bf_blend_fits(NULL, K, N, half));
    for (unsigned k = 0; k < 2; k++)
        s.B[k] = random_floats(K * N);
    fill(&s); /* in whose place the others come */
    for (unsigned k = 0; k < 2; k++) {
        free(s.B[k]);
        s.B[k] = random_floats(K * N);
    }
    fill(&s);
    s.A = random_floats(ROWS * s.lda);
    for (size_t r = 0; r < RUNS; r++) {
        s.a[r] = random_floats(K);
        s.b[r] = random_floats(K);
        s.runs[r] = (bf_run){run_rows[r], s.a[r], s.b[r]};
    }
    return s;
}

static void end(setting *s)
{
    assert_int_equal(bf_room_failed(s->room, NULL), BF_OK);
    for (size_t r = 0; r < RUNS; r++) {
        free(s->a[r]);
        free(s->b[r]);
    }
    free(s->B[0]);
    free(s->B[1]);
    free(s->A);
    bf_blend_free(s->blend);
    bf_packing_free(s->room);
}

/* off: allowed, of the terms' sizes summed. */
static void check_row(const setting *s, size_t run, const float *A, const float *C, double off)
{
    for (size_t n = 0; n < s->N; n += s->N > 100 ? 37 : 1) {
        double want = 0.0, size = 0.0;
        for (size_t k = 0; k < s->K; k++) {
            const double x = s->B[0][s->tb[0] ? n * s->K + k : k * s->N + n], y = s->B[1][s->tb[1] ? n * s->K + k : k * s->N + n];
            const double one = (double)A[k] * (double)s->a[run][k] * x, other = (double)A[k] * (double)s->b[run][k] * y;
            want += one + other;
            size += fabs(one) + fabs(other);
        }
        if (!(fabs((double)C[n] - want) <= off * size))
            fail_msg("%zu x %zu, run %zu, column %zu: %.9g, wanted %.9g", s->K, s->N, run, n, (double)C[n], want);
    }
}

static void check(bool half, double off)
{
    for (size_t k = 0; k < SHAPES; k++)
        for (unsigned form = 0; form < 4; form++) {
            setting s = start(shapes[k][0], shapes[k][1], half, form);
            float *C = random_floats(ROWS * s.N);
            bf_blend_apply(s.blend, 1, s.runs, RUNS, s.A, s.lda, C);
            for (size_t r = 0, row = 0; r < RUNS; row += run_rows[r++]) {
                check_row(&s, r, s.A + row * s.lda, C + row * s.N, off);
                check_row(&s, r, s.A + (row + run_rows[r] - 1) * s.lda, C + (row + run_rows[r] - 1) * s.N, off);
            }
            free(C);
            end(&s);
        }
}

static void blend_apply__is_the_product_with_the_weighted_sum(void **unused)
{
    (void)unused;
    if (!bf_room_gemm_pays()) {
        printf("skipped: no AVX-512 on this processor, BLAS multiplies\n");
        skip();
    }
    check(false, 1e-6);
}

/* Two weights, their sum and A are rounded: four times 2^-9 at most, where terms have one sign. */
static void blend_apply__agrees_within_bfloat16(void **unused)
{
    (void)unused;
    if (!bf_bf16_available()) {
        printf("skipped: no avx512_bf16 on this processor\n");
        skip();
    }
    check(true, 4 * 0x1p-9);
}

/* All runs of one a and b are one run; and a row alone is what it is among others. */
static void rows_alike(bool half)
{
    for (size_t k = 0; k < SHAPES; k++) {
        setting s = start(shapes[k][0], shapes[k][1], half, 0);
        float *whole = random_floats(ROWS * s.N), *cut = random_floats(ROWS * s.N);
        const bf_run one = {ROWS, s.a[0], s.b[0]};
        bf_run same[RUNS];
        for (size_t r = 0; r < RUNS; r++)
            same[r] = (bf_run){run_rows[r], s.a[0], s.b[0]};
        bf_blend_apply(s.blend, 0, &one, 1, s.A, s.lda, whole);
        bf_blend_apply(s.blend, 1, same, RUNS, s.A, s.lda, cut);
        assert_memory_equal(whole, cut, ROWS * s.N * sizeof *cut);
        for (size_t row = 0; row < ROWS; row += 13) {
            const bf_run alone = {1, s.a[0], s.b[0]};
            bf_blend_apply(s.blend, 0, &alone, 1, s.A + row * s.lda, s.lda, cut);
            assert_memory_equal(whole + row * s.N, cut, s.N * sizeof *cut);
        }
        free(whole);
        free(cut);
        end(&s);
    }
}

static void blend_apply__rows_do_not_depend_on_where_they_stand(void **unused)
{
    (void)unused;
    if (!bf_room_gemm_pays()) {
        printf("skipped: no AVX-512 on this processor, BLAS multiplies\n");
        skip();
    }
    rows_alike(false);
    if (bf_bf16_available())
        rows_alike(true);
}

static void blend_new__refuses_what_overflows(void **unused)
{
    (void)unused;
    bf_packing *room;
    bf_blend *blend;
    assert_int_equal(bf_packing_new(&room, 1, NULL), BF_OK);
    assert_int_equal(bf_blend_new(&blend, room, 16, SIZE_MAX / 4, false, NULL), BF_ENOMEM);
    bf_blend_free(NULL);
    bf_packing_free(room);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blend_apply__is_the_product_with_the_weighted_sum),
        cmocka_unit_test(blend_apply__agrees_within_bfloat16),
        cmocka_unit_test(blend_apply__rows_do_not_depend_on_where_they_stand),
        cmocka_unit_test(blend_new__refuses_what_overflows),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
