/* Every operation's vector-Jacobian product against central differences, in double. */
#define BF_BITS 64
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/gemm.h"
#include "model/num/forward.h"
#include "model/num/ops.h"

static uint64_t state = 1;

static double uniform(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 11) * 0x1p-52 - 1.0;
}

static void fill(double *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        x[k] = uniform();
}

/* A function of x [n] to y [m], with what else it needs in context. */
typedef void function(double *y, const double *x, void *context);

/* Largest |<dx,u> - d<dy,f(x+tu)>/dt|, relative, over some random directions u. */
static double mismatch(function *f, void *context, const double *x, size_t n, const double *dy,
                       size_t m, const double *dx)
{
    double worst = 0.0, *u = calloc(n, sizeof *u), *moved = calloc(n, sizeof *moved),
           *y = calloc(m, sizeof *y);
    static const double at[] = {-2, -1, 1, 2}, weight[] = {1, -8, 8, -1};
    const double h = 1e-3;
    assert_true(u && moved && y);
    for (int trial = 0; trial < 5; trial++) {
        double walked = 0.0, size = 0.0, slope = 0.0;
        fill(u, n);
        for (size_t k = 0; k < n; k++) {
            walked += dx[k] * u[k];
            size += fabs(dx[k] * u[k]);
        }
        for (int s = 0; s < 4; s++) {
            for (size_t k = 0; k < n; k++)
                moved[k] = x[k] + at[s] * h * u[k];
            f(y, moved, context);
            for (size_t k = 0; k < m; k++)
                slope += weight[s] * dy[k] * y[k] / (12 * h);
        }
        assert_true(size > 0.0);
        worst = fmax(worst, fabs(walked - slope) / size);
    }
    free(u);
    free(moved);
    free(y);
    return worst;
}

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

/* Attention of one head: x is q, k, v [T,WIDTH] one after the other. */
typedef struct {
    bf_mask mask;
    size_t positions;
    const double *kept; /* NULL, or the x whose keys and values stand where no gradient passes */
    const double *factor; /* NULL, or dropout's [positions,positions] */
    double pattern[131 * 131], mixed[131 * 131], links[131 * 131], u[131 * WIDTH], kept_u[131 * WIDTH];
} attention_case;

static bf_head_f64 head_of(attention_case *c, const double *x)
{
    const size_t n = c->positions * WIDTH;
    bf_head_f64 head = {.q = x, .k = x + n, .v = x + 2 * n, .pattern = c->pattern, .links = c->links,
                        .N = c->positions, .K = WIDTH, .ldq = WIDTH, .ldk = WIDTH, .ldv = WIDTH, .ldu = WIDTH,
                        .mask = c->mask, .scale = 0.6, .gate = c->mask.compressive, .factor = c->factor};
    head.u = c->mask.delta ? c->u : head.v;
    if (c->kept) {
        head.kept_k = c->kept + n;
        head.kept_v = c->kept + 2 * n;
        head.kept_u = c->mask.delta ? c->kept_u : head.kept_v;
    }
    return head;
}

/* What the memory holds, of x and of the other run. */
static void store(attention_case *c, const double *x)
{
    bf_head_f64 head = head_of(c, x);
    if (!c->mask.delta)
        return;
    if (c->kept) {
        head.k = head.kept_k;
        head.v = head.kept_v;
        bf_memory_store_f64(&head, c->kept_u);
        head = head_of(c, x);
    }
    bf_memory_store_f64(&head, c->u);
}

static void attention_function(double *z, const double *x, void *context)
{
    attention_case *c = context;
    bf_head_f64 head = head_of(c, x);
    store(c, x);
    bf_attention_pattern_f64(&head, 0, c->positions);
    for (size_t k = 0; k < head.N * head.N && c->factor; k++)
        c->mixed[k] = c->pattern[k] * c->factor[k];
    head.pattern = c->factor ? c->mixed : c->pattern;
    bf_attention_mix_f64(&head, z, WIDTH, 0, c->positions);
}

/* Cotangents of q, k, v from dz at the rows pos[0..n). */
static void attention_back(double *dx, attention_case *c, const double *x, const double *dz,
                           const unsigned *pos, size_t n)
{
    const size_t size = c->positions * WIDTH;
    double *z = calloc(size, sizeof *z);
    double *scratch = calloc(bf_attention_vjp_scratch(c->positions, WIDTH, c->mask.delta), sizeof *scratch);
    double sum = 0.0;
    assert_true(z && scratch);
    attention_function(z, x, c);
    const bf_head_f64 head = head_of(c, x);
    const bf_head_flow_f64 flow = {.dq = dx, .dk = dx + size, .dv = dx + 2 * size, .dz = dz,
                                   .lddq = WIDTH, .ldd = WIDTH, .ldz = WIDTH};
    memset(dx, 0, 3 * size * sizeof *dx);
    bf_attention_vjp_f64(&head, &flow, pos, n, scratch, &sum);
    assert_true(sum < 1e-12);
    free(z);
    free(scratch);
}

static void check_attention(size_t positions, bf_mask mask, size_t step, bool dropout)
{
    static attention_case c;
    const size_t n = 3 * positions * WIDTH;
    double *x = calloc(n, sizeof *x), *dz = calloc(n, sizeof *dz), *dx = calloc(n, sizeof *dx);
    unsigned pos[131];
    size_t rows = 0;
    assert_true(x && dz && dx);
    c = (attention_case){.mask = mask, .positions = positions};
    fill(x, n);
    for (size_t k = 0; k < n && mask.compressive > 0.0; k++)
        x[k] += x[k] < 0.0 ? -0.01 : 0.01; /* the slope of a memory's ELU has a kink at 0 */
    double *kept = calloc(n, sizeof *kept);
    assert_non_null(kept);
    memcpy(kept, x, n * sizeof *x);
    c.kept = mask.detach ? kept : NULL;
    static double factor[131 * 131];
    fill(factor, positions * positions);
    c.factor = dropout ? factor : NULL;
    for (size_t r = positions > 1 && step > 1 ? 1 : 0; r < positions; r += step) {
        pos[rows++] = (unsigned)r;
        fill(dz + r * WIDTH, WIDTH); /* the other rows stay 0, as inactive rows do */
    }
    attention_back(dx, &c, x, dz, pos, rows);
    assert_true(mismatch(attention_function, &c, x, n, dz, positions * WIDTH, dx) < 1e-8);
    free(kept);
    free(x);
    free(dz);
    free(dx);
}

static void attention_vjp__matches_central_difference(void **unused)
{
    (void)unused;
    check_attention(2, (bf_mask){0}, 1, false);
    check_attention(T, (bf_mask){0}, 1, false);
    check_attention(131, (bf_mask){0}, 1, false); /* more than one block of rows */
}

static void attention_vjp__takes_any_rows(void **unused)
{
    (void)unused;
    check_attention(T, (bf_mask){0}, 2, false);
    check_attention(131, (bf_mask){0}, 3, false);
}

static void attention_vjp__keeps_to_its_window(void **unused)
{
    (void)unused;
    check_attention(T, (bf_mask){.window = 2}, 1, false);
    check_attention(131, (bf_mask){.window = 9}, 1, false);
    check_attention(131, (bf_mask){.window = 70}, 2, false);
}

static const bf_mask MASKS[] = {
    {.window = 2, .sink = 1},        {.window = 9, .sink = 4},
    {.window = 1, .sink = 90},       {.segment = 2},
    {.segment = 3, .memory = 2},     {.segment = 50, .memory = 70},
    {.segment = 70},                 {.bidirectional = true},
    {.detach = BF_DETACH_MYOPIC},    {.window = 3, .sink = 2, .detach = BF_DETACH_MYOPIC},
    {.segment = 3, .memory = 2, .detach = BF_DETACH_MEMORY},
    {.segment = 40, .memory = 60, .detach = BF_DETACH_MEMORY},
    {.segment = 40, .memory = 30, .detach = BF_DETACH_MYOPIC},
    {.segment = 2, .compressive = 0.5}, {.segment = 70, .compressive = 0.3},
    {.segment = 9, .compressive = 0.8}, {.segment = 30, .compressive = 0.4, .detach = BF_DETACH_MEMORY},
    {.segment = 30, .compressive = 0.4, .detach = BF_DETACH_MYOPIC},
    {.segment = 2, .compressive = 0.5, .delta = true}, {.segment = 70, .compressive = 0.3, .delta = true},
    {.segment = 9, .compressive = 0.8, .delta = true}, {.segment = 43, .compressive = 0.6, .delta = true},
    {.segment = 30, .compressive = 0.4, .delta = true, .detach = BF_DETACH_MEMORY},
    {.segment = 30, .compressive = 0.4, .delta = true, .detach = BF_DETACH_MYOPIC}};

static void attention_vjp__matches_central_difference_under_every_mask(void **unused)
{
    (void)unused;
    for (size_t k = 0; k < sizeof MASKS / sizeof *MASKS; k++) {
        assert_null(bf_mask_fault(&MASKS[k]));
        check_attention(T, MASKS[k], 1, false);
        check_attention(131, MASKS[k], 1, false);
        check_attention(131, MASKS[k], 3, false);
        if (!(MASKS[k].compressive > 0)) /* which has no weights to drop */
            check_attention(131, MASKS[k], 3, true);
    }
}

static bool reads(const bf_mask *m, size_t r, size_t j)
{
    const size_t start = m->segment ? r / m->segment * m->segment : 0;
    if (m->bidirectional)
        return true;
    if (m->compressive > 0.0)
        return j <= r;
    return j <= r && (!m->window || r - j < m->window || j < m->sink) &&
           (!m->segment || j + m->memory >= start);
}

static void attention__weights_stand_at_the_masks_keys_and_sum_to_one(void **unused)
{
    (void)unused;
    static attention_case c;
    static double x[3 * 131 * WIDTH], z[131 * WIDTH];
    for (size_t k = 0; k < 2 * sizeof MASKS / sizeof *MASKS; k++) {
        c = (attention_case){.mask = MASKS[k / 2], .positions = k % 2 ? 131 : T};
        fill(x, 3 * c.positions * WIDTH);
        for (size_t n = 0; n < c.positions * c.positions; n++)
            c.pattern[n] = NAN; /* all of it must be written */
        attention_function(z, x, &c);
        for (size_t r = 0; r < c.positions; r++) {
            double sum = 0.0;
            for (size_t j = 0; j < c.positions; j++) {
                const double p = c.pattern[r * c.positions + j];
                assert_true(reads(&c.mask, r, j) ? p > 0.0 : p == 0.0 && !signbit(p));
                sum += p;
            }
            /* in the first segment the memory is empty, and answers 0 */
            const double empty = r < c.mask.segment ? c.mask.compressive : 0.0;
            assert_true(fabs(sum + empty - 1.0) < 1e-14);
        }
    }
}

/* Only what gradient passes: whatever the cut, q is reached as if there were none. */
static void attention_vjp__a_cut_ends_keys_and_values_alone(void **unused)
{
    (void)unused;
    enum { N = 131, SIZE = N * WIDTH };
    static attention_case c;
    static double x[3 * SIZE], dz[SIZE], whole[3 * SIZE], cut[3 * SIZE];
    unsigned pos[N];
    for (unsigned r = 0; r < N; r++)
        pos[r] = r;
    fill(x, 3 * SIZE);
    memset(dz, 0, sizeof dz);
    fill(dz + 100 * WIDTH, 31 * WIDTH);
    c = (attention_case){.mask = {.segment = 50, .memory = 30}, .positions = N};
    attention_back(whole, &c, x, dz, pos, N);
    c.mask.detach = BF_DETACH_MEMORY;
    attention_back(cut, &c, x, dz, pos, N);
    for (size_t n = 0; n < SIZE; n++) {
        assert_true(whole[n] == cut[n]);
        for (size_t part = 1; part < 3; part++) {
            const double all = whole[part * SIZE + n], left = cut[part * SIZE + n];
            assert_true(n / WIDTH < 100 ? left == 0.0 : fabs(all - left) < 1e-14);
            assert_true(n / WIDTH >= 100 || (all != 0.0) == (n / WIDTH >= 70));
        }
    }
}

static void attention__weights_are_causal_and_sum_to_one(void **unused)
{
    (void)unused;
    static attention_case c;
    double x[3 * T * WIDTH], z[T * WIDTH];
    c = (attention_case){.mask.window = 3, .positions = T};
    fill(x, 3 * T * WIDTH);
    attention_function(z, x, &c);
    for (size_t r = 0; r < T; r++) {
        double sum = 0.0;
        for (size_t j = 0; j < T; j++) {
            const double p = c.pattern[r * T + j];
            assert_true(j <= r && j + 3 > r ? p > 0.0 : p == 0.0);
            sum += p;
        }
        assert_true(fabs(sum - 1.0) < 1e-14);
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
        cmocka_unit_test(attention_vjp__matches_central_difference),
        cmocka_unit_test(attention_vjp__takes_any_rows),
        cmocka_unit_test(attention_vjp__keeps_to_its_window),
        cmocka_unit_test(attention_vjp__matches_central_difference_under_every_mask),
        cmocka_unit_test(attention_vjp__a_cut_ends_keys_and_values_alone),
        cmocka_unit_test(attention__weights_stand_at_the_masks_keys_and_sum_to_one),
        cmocka_unit_test(attention__weights_are_causal_and_sum_to_one),
        cmocka_unit_test(linear_vjp__matches_central_difference_in_both_layouts),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
