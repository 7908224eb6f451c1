/* Every operation's vector-Jacobian product but attention's against central differences, in double. */
#include "central.h"

#include "base/gemm.h"
#include "model/num/forward.h"
#include "model/num/ops.h"

enum { D = 7, T = 5, HEADS = 3, WIDTH = 4, OUT = 11 };

typedef struct {
    bf_norm_kind kind;
    double w[D], b[D];
} norm_case;

static void norm_function(double *y, const double *x, void *context)
{
    const norm_case *c = context;
    double mean, rstd;
    bf_norm_f64(y, &mean, &rstd, x, c->w, c->b, c->kind, 1e-5, D);
}

static void norm_vjp__matches_central_difference(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 2; kind++) {
        norm_case c = {.kind = kind ? BF_NORM_RMS : BF_NORM_LAYER};
        double x[D], y[D], dy[D], dx[D] = {0}, mean, rstd;
        fill(c.w, D);
        fill(c.b, D);
        fill(x, D);
        fill(dy, D);
        bf_norm_f64(y, &mean, &rstd, x, c.w, c.b, c.kind, 1e-5, D);
        bf_norm_vjp_f64(dx, dy, x, mean, rstd, c.w, c.kind, D);
        assert_true(mismatch(norm_function, &c, x, D, dy, D, dx) < 1e-9);
    }
}

static void norm_vjp__adds_to_what_is_there(void **unused)
{
    (void)unused;
    double x[D], y[D], w[D], dy[D], once[D] = {0}, twice[D] = {0}, mean, rstd;
    fill(x, D);
    fill(w, D);
    fill(dy, D);
    bf_norm_f64(y, &mean, &rstd, x, w, NULL, BF_NORM_RMS, 1e-6, D);
    bf_norm_vjp_f64(once, dy, x, mean, rstd, w, BF_NORM_RMS, D);
    bf_norm_vjp_f64(twice, dy, x, mean, rstd, w, BF_NORM_RMS, D);
    bf_norm_vjp_f64(twice, dy, x, mean, rstd, w, BF_NORM_RMS, D);
    for (size_t d = 0; d < D; d++)
        assert_true(fabs(twice[d] - 2 * once[d]) < 1e-14);
}

static void norm_pull__is_the_transpose_of_the_vjp(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 2; kind++) {
        const bf_norm_kind k = kind ? BF_NORM_RMS : BF_NORM_LAYER;
        double x[D], y[D], w[D], dy[D], g[D], dx[D] = {0}, pulled[D], mean, rstd, a = 0.0, b = 0.0;
        fill(x, D);
        fill(w, D);
        fill(dy, D);
        fill(g, D);
        bf_norm_f64(y, &mean, &rstd, x, w, NULL, k, 1e-5, D);
        bf_norm_vjp_f64(dx, dy, x, mean, rstd, w, k, D);
        bf_norm_pull_f64(pulled, g, x, mean, rstd, w, k, D);
        for (size_t d = 0; d < D; d++) {
            a += dx[d] * g[d];
            b += dy[d] * pulled[d];
        }
        assert_true(fabs(a - b) < 1e-12 * (1.0 + fabs(a)));
    }
}

static void act_function(double *y, const double *x, void *context)
{
    double slope[OUT];
    bf_act_f64(y, slope, x, *(bf_act_kind *)context, OUT);
}

static void act_slope__matches_central_difference(void **unused)
{
    (void)unused;
    for (bf_act_kind kind = BF_ACT_GELU_TANH; kind <= BF_ACT_TANH; kind++) {
        double x[OUT], y[OUT], slope[OUT], dy[OUT], dx[OUT];
        for (size_t k = 0; k < OUT; k++) /* away from the corner of relu */
            x[k] = (k % 2 ? -1.0 : 1.0) * (0.05 + 0.4 * (double)k);
        fill(dy, OUT);
        bf_act_f64(y, slope, x, kind, OUT);
        for (size_t k = 0; k < OUT; k++)
            dx[k] = dy[k] * slope[k];
        assert_true(mismatch(act_function, &kind, x, OUT, dy, OUT, dx) < 1e-8);
    }
}

static void act__keeps_nan(void **unused)
{
    (void)unused;
    for (bf_act_kind kind = BF_ACT_GELU_TANH; kind <= BF_ACT_TANH; kind++) {
        double x[9] = {NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN}, y[9] = {0}, slope[9];
        bf_act_f64(y, slope, x, kind, 9);
        for (size_t k = 0; k < 9; k++)
            assert_true(isnan(y[k]));
    }
}

typedef struct {
    double cosines[WIDTH / 2], sines[WIDTH / 2];
    bool pairs;
} rotate_case;

static void rotate_function(double *y, const double *x, void *context)
{
    const rotate_case *c = context;
    memcpy(y, x, HEADS * WIDTH * sizeof *y);
    bf_rotate_f64(y, c->cosines, c->sines, HEADS, WIDTH, WIDTH / 2, c->pairs, false);
}

static void rotate__inverse_is_its_vjp(void **unused)
{
    (void)unused;
    for (int pairs = 0; pairs < 2; pairs++) {
        rotate_case c = {.pairs = pairs};
        double x[HEADS * WIDTH], dy[HEADS * WIDTH], dx[HEADS * WIDTH];
        for (size_t k = 0; k < WIDTH / 2; k++) { /* scaled too, as YaRN has it */
            c.cosines[k] = 1.3 * cos(0.7 + (double)k);
            c.sines[k] = 1.3 * sin(0.7 + (double)k);
        }
        fill(x, HEADS * WIDTH);
        fill(dy, HEADS * WIDTH);
        memcpy(dx, dy, sizeof dx);
        bf_rotate_f64(dx, c.cosines, c.sines, HEADS, WIDTH, WIDTH / 2, c.pairs, true);
        assert_true(mismatch(rotate_function, &c, x, HEADS * WIDTH, dy, HEADS * WIDTH, dx) < 1e-9);
    }
}

typedef struct {
    bf_mat_f64 W;
    bf_pool *pool;
} linear_case;

static void linear_function(double *y, const double *x, void *context)
{
    const linear_case *c = context;
    bf_linear_f64(y, OUT, x, D, BF_GRANULE, &c->W, NULL, c->pool);
}

static void linear_vjp__matches_central_difference_in_both_layouts(void **unused)
{
    (void)unused;
    double w[OUT * D], x[BF_GRANULE * D], dy[BF_GRANULE * OUT], dx[BF_GRANULE * D];
    bf_pool *pool;
    assert_int_equal(bf_pool_new(&pool, 2, NULL), BF_OK);
    for (int in_major = 0; in_major < 2; in_major++) {
        linear_case c = {{.w = w, .out = OUT, .in = D, .ld = in_major ? OUT : D, .in_major = in_major}, pool};
        fill(w, OUT * D);
        fill(x, BF_GRANULE * D);
        fill(dy, BF_GRANULE * OUT);
        bf_linear_vjp_f64(dx, dy, OUT, BF_GRANULE, &c.W, false, 0);
        assert_true(mismatch(linear_function, &c, x, BF_GRANULE * D, dy, BF_GRANULE * OUT, dx) < 1e-9);
    }
    bf_pool_free(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm_vjp__matches_central_difference),
        cmocka_unit_test(norm_vjp__adds_to_what_is_there),
        cmocka_unit_test(norm_pull__is_the_transpose_of_the_vjp),
        cmocka_unit_test(act_slope__matches_central_difference),
        cmocka_unit_test(act__keeps_nan),
        cmocka_unit_test(rotate__inverse_is_its_vjp),
        cmocka_unit_test(linear_vjp__matches_central_difference_in_both_layouts),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
