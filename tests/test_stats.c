/* Tests of the statistics that claims rest on. */
#include <math.h>

#include "tests/close.h"
#include "tracer/stats.h"

static double even(uint64_t *seed)
{
    return (double)(bf_random_next(seed) >> 11) * 0x1p-53;
}

/* Sum of twelve even numbers: normal enough, mean 0, variance 1. */
static double normal(uint64_t *seed)
{
    double sum = -6.0;
    for (int k = 0; k < 12; k++)
        sum += even(seed);
    return sum;
}

static void chi_square__known_points(void **state)
{
    (void)state;
    assert_close(bf_chi_square_p(3.841458820694124, 1), 0.05, 1e-12);
    assert_close(bf_chi_square_p(5.991464547107979, 2), 0.05, 1e-12);
    assert_close(bf_chi_square_p(18.307038053275146, 10), 0.05, 1e-12);
    assert_close(bf_chi_square_p(124.34211340400407, 100), 0.05, 1e-11);
    assert_close(bf_chi_square_p(2.0, 2), exp(-1.0), 1e-14);
    assert_close(bf_chi_square_p(0.0, 3), 1.0, 0);
}

static void slope__is_least_squares(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2, 3}, y[] = {1, 3, 4, 8}, w[] = {1, 0, 0, 1};
    assert_close(bf_fit_slope(x, y, NULL, 4), 2.2, 1e-14);
    assert_close(bf_fit_slope(x, y, w, 4), 7.0 / 3.0, 1e-14);
    assert_true(isnan(bf_fit_slope(x, y, NULL, 1)));
}

static void quantile__lies_between_values(void **state)
{
    (void)state;
    double x[] = {5, 1, 3};
    assert_close(bf_quantile(x, 3, 0.5), 3, 0);
    assert_close(bf_quantile(x, 3, 0.25), 2, 1e-15);
    assert_close(bf_quantile(x, 3, 1.0), 5, 0);
    assert_true(isnan(bf_quantile(x, 0, 0.5)));
}

/* Five of one sign: of 32 sign patterns two are as far out. */
static void sign_test__exact_for_few(void **state)
{
    (void)state;
    const double all[] = {1, 2, 3, 4, 5}, mixed[] = {1, -1, 2, -2, 0.5};
    assert_close(bf_sign_test(all, 5, 0, 1), 2.0 / 32.0, 1e-15);
    assert_true(bf_sign_test(mixed, 5, 0, 1) > 0.5);
}

enum { SIMULATIONS = 2000 };

/* 5 % of 2,000 are 100; the binomial's standard deviation is 9.7, so 4 of them on both sides. */
static void assert_at_level(size_t rejected)
{
    if (rejected < 61 || rejected > 139)
        fail_msg("%zu of %d true nulls were rejected at 5 %%", rejected, SIMULATIONS);
}

static void sign_test__rejects_a_true_null_at_its_level(void **state)
{
    (void)state;
    uint64_t seed = 11;
    size_t rejected = 0;
    for (size_t k = 0; k < SIMULATIONS; k++) {
        double x[10];
        for (size_t n = 0; n < 10; n++)
            x[n] = normal(&seed);
        rejected += bf_sign_test(x, 10, 0, k) <= 0.05;
    }
    assert_at_level(rejected);
}

static void sign_test__sampled_rejects_a_true_null_at_its_level(void **state)
{
    (void)state;
    uint64_t seed = 12;
    size_t rejected = 0;
    for (size_t k = 0; k < SIMULATIONS; k++) {
        double x[16];
        for (size_t n = 0; n < 16; n++)
            x[n] = normal(&seed);
        rejected += bf_sign_test(x, 16, 399, k) <= 0.05;
    }
    assert_at_level(rejected);
}

static void permutation_test__rejects_a_true_null_at_its_level(void **state)
{
    (void)state;
    uint64_t seed = 13;
    size_t rejected = 0;
    for (size_t k = 0; k < SIMULATIONS; k++) {
        double x[8], y[12], p;
        for (size_t n = 0; n < 8; n++)
            x[n] = normal(&seed);
        for (size_t n = 0; n < 12; n++)
            y[n] = normal(&seed);
        assert_int_equal(bf_permutation_test(&p, x, 8, y, 12, 199, k, NULL), BF_OK);
        rejected += p <= 0.05;
    }
    assert_at_level(rejected);
}

/* Holm over 4 tests: any rejection in at most 5 % of the families; with independent ones nearly
 * that. */
static void holm__keeps_the_family_at_its_level(void **state)
{
    (void)state;
    uint64_t seed = 14;
    size_t rejected = 0, single = 0;
    for (size_t k = 0; k < SIMULATIONS; k++) {
        double p[4];
        size_t room[4];
        bool any = false, raw = false;
        for (size_t t = 0; t < 4; t++) {
            double x[10];
            for (size_t n = 0; n < 10; n++)
                x[n] = normal(&seed);
            p[t] = bf_sign_test(x, 10, 0, k);
            raw |= p[t] <= 0.05;
        }
        bf_holm(p, 4, room);
        for (size_t t = 0; t < 4; t++)
            any |= p[t] <= 0.05;
        rejected += any;
        single += raw;
    }
    assert_at_level(rejected);
    assert_true(single > 2 * rejected); /* without it: 1 - 0.95^4 = 18.5 % */
}

static void tests__find_what_is_there(void **state)
{
    (void)state;
    uint64_t seed = 15;
    size_t found = 0;
    for (size_t k = 0; k < 200; k++) {
        double x[12], y[12], p;
        for (size_t n = 0; n < 12; n++) {
            x[n] = normal(&seed) + 2.0;
            y[n] = normal(&seed);
        }
        assert_int_equal(bf_permutation_test(&p, x, 12, y, 12, 199, k, NULL), BF_OK);
        found += p <= 0.05 && bf_sign_test(x, 12, 0, k) <= 0.05;
    }
    assert_true(found > 190);
}

/* Percentile intervals of 30 normal numbers cover a little less than they say. */
static void bootstrap__covers_the_mean(void **state)
{
    (void)state;
    uint64_t seed = 16;
    size_t covered = 0;
    for (size_t k = 0; k < 500; k++) {
        double x[30];
        bf_estimate e;
        for (size_t n = 0; n < 30; n++)
            x[n] = normal(&seed);
        assert_int_equal(bf_bootstrap_mean(&e, x, 30, 300, k, NULL), BF_OK);
        covered += e.low <= 0.0 && e.high >= 0.0;
    }
    assert_in_range(covered, 448, 490); /* 89.6 % to 98 % */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(chi_square__known_points),
        cmocka_unit_test(slope__is_least_squares),
        cmocka_unit_test(quantile__lies_between_values),
        cmocka_unit_test(sign_test__exact_for_few),
        cmocka_unit_test(sign_test__rejects_a_true_null_at_its_level),
        cmocka_unit_test(sign_test__sampled_rejects_a_true_null_at_its_level),
        cmocka_unit_test(permutation_test__rejects_a_true_null_at_its_level),
        cmocka_unit_test(holm__keeps_the_family_at_its_level),
        cmocka_unit_test(tests__find_what_is_there),
        cmocka_unit_test(bootstrap__covers_the_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
