/* Products against plain loops, and the property that bitwise equal records rest on. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/gemm.h"
#include "tests/random_values.h"
#include "tests/rows_alike.h"

enum { TILE = 240, ROWS = 700 };

static void gemm__agrees_with_plain_loops(void **unused)
{
    (void)unused;
    enum { M = 13, N = 7, K = 5 };
    for (int form = 0; form < 8; form++) {
        const bool ta = form & 1, tb = form & 2, add = form & 4;
        float *a = random_floats(M * K), *b = random_floats(K * N), *c = random_floats(M * N);
        float *old = random_floats(M * N);
        memcpy(c, old, M * N * sizeof *c);
        bf_gemm_f32(ta, tb, M, N, K, 0.5f, a, ta ? M : K, b, tb ? K : N, add, c, N);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                double sum = add ? old[m * N + n] : 0.0;
                for (size_t k = 0; k < K; k++)
                    sum += 0.5 * a[ta ? k * M + m : m * K + k] * b[tb ? n * K + k : k * N + n];
                assert_true(fabs(sum - c[m * N + n]) < 1e-5);
            }
        free(a);
        free(b);
        free(c);
        free(old);
    }
}

static void gemm__empty_sizes_are_allowed(void **unused)
{
    (void)unused;
    float a[1] = {1}, c[2] = {3, 4};
    bf_gemm_f32(false, false, 1, 2, 0, 1, a, 1, a, 2, true, c, 2);
    assert_true(c[0] == 3 && c[1] == 4);
    bf_gemm_f32(false, false, 1, 2, 0, 1, a, 1, a, 2, false, c, 2);
    assert_true(c[0] == 0 && c[1] == 0);
    bf_gemm_f32(false, false, 0, 2, 1, 1, a, 1, a, 2, false, c, 2);
}

/* A product of `rows` rows from any row on must give the bits that any other cut gives. */
#define CHECK_ROWS(name, type, numbers, product)                                                   \
    static void name(size_t N, size_t K, bool tb)                                                  \
    {                                                                                              \
        const size_t ldb = tb ? K : N;                                                             \
        type *a = numbers(ROWS * K), *b = numbers(K * N);                                          \
        type *whole = numbers(TILE * N), *part = numbers(TILE * N);                                \
        for (size_t from = 0; from + 2 * TILE <= ROWS; from += 111) {                              \
            product(tb, TILE, N, K, a + from * K, K, b, ldb, false, whole, N);                     \
            for (size_t shift = 0; shift < TILE; shift += 37)                                      \
                for (size_t rows = BF_GRANULE; rows <= TILE; rows += BF_GRANULE) {                 \
                    const size_t common = rows < TILE - shift ? rows : TILE - shift;               \
                    product(tb, rows, N, K, a + (from + shift) * K, K, b, ldb, false, part, N);    \
                    assert_memory_equal(part, whole + shift * N, common * N * sizeof *part);       \
                }                                                                                  \
        }                                                                                          \
        free(a);                                                                                   \
        free(b);                                                                                   \
        free(whole);                                                                               \
        free(part);                                                                                \
    }

CHECK_ROWS(check_rows_f32, float, random_floats, bf_gemm_rows_f32)
CHECK_ROWS(check_rows_f64, double, random_doubles, bf_gemm_rows_f64)

static void check_shapes(void (*check)(size_t N, size_t K, bool tb))
{
    static const size_t shapes[][2] = {{768, 192}, {64, 172}, {172, 64}, {64, 64}, {5, 64}, {15, 47},
                                       {300, 7}, {128, 344}, {1, 1}, {3, 1000}, {257, 129}};
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int tb = 0; tb < 2; tb++)
            check(shapes[s][0], shapes[s][1], tb);
}

static void gemm_rows__do_not_depend_on_where_they_stand(void **unused)
{
    (void)unused;
    skip_unless_rows_are_alike();
    check_shapes(check_rows_f32);
}

static void gemm_rows__do_not_depend_on_where_they_stand_in_f64(void **unused)
{
    (void)unused;
    check_shapes(check_rows_f64);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gemm__agrees_with_plain_loops),
        cmocka_unit_test(gemm__empty_sizes_are_allowed),
        cmocka_unit_test(gemm_rows__do_not_depend_on_where_they_stand),
        cmocka_unit_test(gemm_rows__do_not_depend_on_where_they_stand_in_f64),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
