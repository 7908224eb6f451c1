/* Attention's vector-Jacobian product against central differences, under every mask. */
#include "central.h"

#include "base/gemm.h"
#include "model/num/ops.h"

enum { T = 5, WIDTH = 4 };

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

/* [131,131] cotangents of scores, as bf_attention_vjp tells them. */
static void keep_scores(void *context, const double *ds, size_t ld, size_t r, size_t n)
{
    double *all = context;
    assert_true(r % 64 == 0 && (n == 64 || r + n == 131) && ld == r + n);
    for (size_t k = 0; k < n; k++)
        memcpy(all + (r + k) * 131, ds + k * ld, ld * sizeof *ds);
}

/* The scores' cotangents are what dq and dk are sums of; without these dv is the same. */
static void attention_vjp__tells_of_its_scores(void **unused)
{
    (void)unused;
    enum { N = 131, SIZE = N * WIDTH };
    static attention_case c;
    static double x[3 * SIZE], z[SIZE], dz[SIZE], dx[3 * SIZE], dv[SIZE], ds[N * N];
    double *scratch = calloc(bf_attention_vjp_scratch(N, WIDTH, false), sizeof *scratch);
    unsigned pos[N];
    assert_non_null(scratch);
    for (unsigned r = 0; r < N; r++)
        pos[r] = r;
    fill(x, 3 * SIZE);
    fill(dz, SIZE);
    c = (attention_case){.positions = N};
    attention_function(z, x, &c);
    attention_back(dx, &c, x, dz, pos, N);
    const bf_head_f64 head = head_of(&c, x);
    const bf_head_flow_f64 flow = {.dv = dv, .dz = dz, .ldd = WIDTH, .ldz = WIDTH, .scores = keep_scores, .context = ds};
    bf_attention_vjp_f64(&head, &flow, pos, N, scratch, NULL);
    assert_memory_equal(dv, dx + 2 * SIZE, sizeof dv);
    for (size_t k = 0; k < SIZE; k++) {
        const size_t r = k / WIDTH, e = k % WIDTH;
        double q = 0.0, key = 0.0;
        for (size_t j = 0; j < N; j++) {
            q += ds[r * N + j] * head.k[j * WIDTH + e];
            key += ds[j * N + r] * head.q[j * WIDTH + e];
        }
        assert_true(fabs(dx[k] - q) < 1e-12 && fabs(dx[SIZE + k] - key) < 1e-12);
    }
    free(scratch);
}

/* More keys than one product takes at a time. */
enum { MANY = 520, WIDE = 32 };

static bf_head_f64 wide_head(const double *x, double *pattern)
{
    return (bf_head_f64){.q = x, .k = x + MANY * WIDE, .v = x + 2 * MANY * WIDE, .pattern = pattern, .N = MANY,
                         .K = WIDE, .ldq = WIDE, .ldk = WIDE, .ldv = WIDE, .scale = 0.3};
}

static void wide_function(double *z, const double *x, void *pattern)
{
    const bf_head_f64 head = wide_head(x, pattern);
    bf_attention_pattern_f64(&head, 0, MANY);
    bf_attention_mix_f64(&head, z, WIDE, 0, MANY);
}

static void attention_vjp__takes_many_keys_and_values_transposed(void **unused)
{
    (void)unused;
    enum { SIZE = MANY * WIDE };
    static double x[3 * SIZE], dz[SIZE], z[SIZE], dx[2][3 * SIZE], vt[SIZE], pattern[MANY * MANY];
    double *scratch = calloc(bf_attention_vjp_scratch(MANY, WIDE, false), sizeof *scratch);
    unsigned pos[MANY];
    assert_non_null(scratch);
    for (unsigned r = 0; r < MANY; r++)
        pos[r] = r;
    fill(x, 3 * SIZE);
    fill(dz, SIZE);
    wide_function(z, x, pattern);
    bf_head_f64 head = wide_head(x, pattern);
    bf_transpose_values_f64(vt, &head);
    for (size_t k = 0; k < 2; k++) {
        const bf_head_flow_f64 flow = {.dq = dx[k], .dk = dx[k] + SIZE, .dv = dx[k] + 2 * SIZE, .dz = dz,
                                       .lddq = WIDE, .ldd = WIDE, .ldz = WIDE};
        head.vt = k ? vt : NULL;
        bf_attention_vjp_f64(&head, &flow, pos, MANY, scratch, NULL);
        assert_true(mismatch(wide_function, pattern, x, 3 * SIZE, dz, SIZE, dx[k]) < 1e-8);
        wide_function(z, x, pattern);
    }
    for (size_t n = 0; n < 3 * SIZE; n++)
        assert_true(fabs(dx[0][n] - dx[1][n]) < 1e-12);
    free(scratch);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(attention_vjp__matches_central_difference),
        cmocka_unit_test(attention_vjp__takes_any_rows),
        cmocka_unit_test(attention_vjp__keeps_to_its_window),
        cmocka_unit_test(attention_vjp__tells_of_its_scores),
        cmocka_unit_test(attention_vjp__takes_many_keys_and_values_transposed),
        cmocka_unit_test(attention_vjp__matches_central_difference_under_every_mask),
        cmocka_unit_test(attention_vjp__a_cut_ends_keys_and_values_alone),
        cmocka_unit_test(attention__weights_stand_at_the_masks_keys_and_sum_to_one),
        cmocka_unit_test(attention__weights_are_causal_and_sum_to_one),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
