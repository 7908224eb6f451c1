/* The one generator of the library. */
#include "base/random.h"
#include "tests/close.h"

/* Of the reference implementation (Vigna, splitmix64.c) from the seed 1234567. */
static void random__is_splitmix64(void **state)
{
    (void)state;
    static const uint64_t wanted[] = {UINT64_C(6457827717110365317), UINT64_C(3203168211198807973),
                                      UINT64_C(9817491932198370423), UINT64_C(4593380528125082431),
                                      UINT64_C(16408922859458223821)};
    uint64_t seed = 1234567;
    for (size_t k = 0; k < 5; k++)
        assert_true(bf_random_next(&seed) == wanted[k]);
}

static void random__normal_numbers_have_mean_0_and_variance_1(void **state)
{
    (void)state;
    enum { n = 100000 };
    double sum = 0.0, squares = 0.0, fourth = 0.0;
    uint64_t seed = 3;
    for (size_t k = 0; k < n; k++) {
        const double x = bf_random_normal(&seed);
        sum += x;
        squares += x * x;
        fourth += x * x * x * x;
    }
    assert_close(sum / n, 0.0, 0.02); /* six standard errors */
    assert_close(squares / n, 1.0, 0.03);
    assert_close(fourth / n, 3.0, 0.2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random__is_splitmix64),
        cmocka_unit_test(random__normal_numbers_have_mean_0_and_variance_1),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
