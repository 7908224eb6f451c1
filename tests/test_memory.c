/* Compressive memory: what it answers, and what its gate learns. The VJP by q, k, v is held in test_ops.c,
 * with those of the other masks. */
#define BF_BITS 64
#include "model/num/ops.h"

#include <math.h>
#include <string.h>

#include "base/gemm.h"
#include "tests/close.h"
#include "tests/make_model.h"

enum { N = 131, S = 20, WIDTH = 7, SIZE = N * WIDTH };

/* One head: q, k, v [N,WIDTH] one after the other in x. */
typedef struct {
    double x[3 * SIZE], z[SIZE], pattern[N * N], links[N * N], u[SIZE];
    bf_head_f64 head;
} memory;

static void fill(double *x, size_t n, uint64_t seed)
{
    for (size_t k = 0; k < n; k++)
        x[k] = made_random(&seed);
}

static void answer(memory *m, bf_mask mask, double gate)
{
    m->head = (bf_head_f64){.q = m->x, .k = m->x + SIZE, .v = m->x + 2 * SIZE, .pattern = m->pattern,
                            .links = m->links, .N = N, .K = WIDTH, .ldq = WIDTH, .ldk = WIDTH, .ldv = WIDTH,
                            .ldu = WIDTH, .scale = 0.6, .mask = mask, .gate = gate};
    m->head.u = mask.delta ? m->u : m->head.v;
    if (mask.delta)
        bf_memory_store_f64(&m->head, m->u);
    bf_attention_pattern_f64(&m->head, 0, N);
    bf_attention_mix_f64(&m->head, m->z, WIDTH, 0, N);
}

static double soft(double x)
{
    return x > 0 ? x + 1 : exp(x);
}

/* s(x) M / (s(x) total), column e; 0 from an empty memory. */
static double retrieve(const double *x, double (*M)[WIDTH], const double *total, size_t e)
{
    double top = 0.0, bottom = 0.0;
    for (size_t a = 0; a < WIDTH; a++) {
        top += soft(x[a]) * M[a][e];
        bottom += soft(x[a]) * total[a];
    }
    return bottom > 0.0 ? top / bottom : 0.0;
}

/* Add the segment that begins at b, as the paper's (4) or, delta, (5) has it. */
static void update(double (*M)[WIDTH], double *total, const double *k, const double *v, size_t b, bool delta)
{
    double add[WIDTH][WIDTH] = {{0}}, sum[WIDTH] = {0};
    for (size_t j = b; j < b + S; j++)
        for (size_t a = 0; a < WIDTH; a++) {
            sum[a] += soft(k[j * WIDTH + a]);
            for (size_t e = 0; e < WIDTH; e++)
                add[a][e] += soft(k[j * WIDTH + a]) *
                             (v[j * WIDTH + e] - (delta ? retrieve(k + j * WIDTH, M, total, e) : 0.0));
        }
    for (size_t a = 0; a < WIDTH; a++) {
        total[a] += sum[a];
        for (size_t e = 0; e < WIDTH; e++)
            M[a][e] += add[a][e];
    }
}

/* The library never forms M; here it is, as the paper has it. 1e-12: the recursion adds up roundings of
 * 1e-16 over 131 positions. */
static void memory__answers_as_the_matrix_would(void **state)
{
    (void)state;
    static memory local, m;
    const double g = 0.3;
    fill(m.x, 3 * SIZE, 5);
    memcpy(local.x, m.x, sizeof m.x);
    answer(&local, (bf_mask){.segment = S}, 0.0);
    for (unsigned delta = 0; delta < 2; delta++) {
        double M[WIDTH][WIDTH] = {{0}}, total[WIDTH] = {0};
        answer(&m, (bf_mask){.segment = S, .compressive = g, .delta = delta}, g);
        for (size_t r = 0; r < N; r++) {
            if (r && r % S == 0)
                update(M, total, m.x + SIZE, m.x + 2 * SIZE, r - S, delta);
            for (size_t e = 0; e < WIDTH; e++) {
                const double past = retrieve(m.x + r * WIDTH, M, total, e), here = local.z[r * WIDTH + e];
                assert_true(fabs(m.z[r * WIDTH + e] - (g * past + (1.0 - g) * here)) < 1e-12);
            }
        }
    }
}

/* <dz, z> where the gate is sigmoid(b). */
static double at_gate(memory *m, bf_mask mask, double b, const double *dz)
{
    double sum = 0.0;
    answer(m, mask, bf_memory_gate_f64(&mask, &b, 0));
    for (size_t k = 0; k < SIZE; k++)
        sum += dz[k] * m->z[k];
    return sum;
}

static void gate__slope_matches_central_difference(void **state)
{
    (void)state;
    static memory m;
    static double dz[SIZE], dx[3 * SIZE];
    static const double logit[] = {-9.0, -0.7, 0.0, 2.3};
    static const bf_detach cut[] = {BF_DETACH_NONE, BF_DETACH_MEMORY, BF_DETACH_MYOPIC};
    unsigned pos[N];
    double *scratch = calloc(bf_attention_vjp_scratch(N, WIDTH, true), sizeof *scratch);
    assert_non_null(scratch);
    for (unsigned r = 0; r < N; r++)
        pos[r] = r;
    fill(m.x, 3 * SIZE, 5);
    fill(dz, SIZE, 6);
    for (size_t k = 0; k < 6 * sizeof logit / sizeof *logit; k++) {
        const bf_mask mask = {.segment = S, .compressive = 0.5, .learnt = true, .delta = k % 2,
                              .detach = cut[k / 2 % 3]};
        const double b = logit[k / 6], h = 1e-4;
        double slope = 0.0;
        at_gate(&m, mask, b, dz);
        const bf_head_flow_f64 flow = {.dq = dx, .dk = dx + SIZE, .dv = dx + 2 * SIZE, .dz = dz,
                                       .dgate = &slope, .lddq = WIDTH, .ldd = WIDTH, .ldz = WIDTH};
        bf_attention_vjp_f64(&m.head, &flow, pos, N, scratch, NULL);
        const double moved = at_gate(&m, mask, b + h, dz) - at_gate(&m, mask, b - h, dz);
        assert_close(slope, moved / (2.0 * h), 1e-8); /* h^2 times a third derivative, rounding over h */
    }
    free(scratch);
}

/* A logit that ran away leaves 0 of one part: nothing that is not a number. */
static void gate__at_its_ends_passes_finite_gradient(void **state)
{
    (void)state;
    static memory m;
    static double dz[SIZE], dx[3 * SIZE];
    unsigned pos[N];
    double *scratch = calloc(bf_attention_vjp_scratch(N, WIDTH, true), sizeof *scratch);
    assert_non_null(scratch);
    for (unsigned r = 0; r < N; r++)
        pos[r] = r;
    fill(m.x, 3 * SIZE, 5);
    fill(dz, SIZE, 6);
    for (unsigned k = 0; k < 4; k++) {
        const bf_mask mask = {.segment = S, .compressive = 0.5, .learnt = true, .delta = k % 2};
        double slope = 0.0, residual = 0.0;
        at_gate(&m, mask, k / 2 ? 900.0 : -900.0, dz);
        const bf_head_flow_f64 flow = {.dq = dx, .dk = dx + SIZE, .dv = dx + 2 * SIZE, .dz = dz,
                                       .dgate = &slope, .lddq = WIDTH, .ldd = WIDTH, .ldz = WIDTH};
        bf_attention_vjp_f64(&m.head, &flow, pos, N, scratch, &residual);
        assert_true(slope == 0.0 && residual < 1e-12);
        for (size_t n = 0; n < 3 * SIZE; n++)
            assert_true(isfinite(dx[n]));
    }
    free(scratch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory__answers_as_the_matrix_would),
        cmocka_unit_test(gate__slope_matches_central_difference),
        cmocka_unit_test(gate__at_its_ends_passes_finite_gradient),
    };
    bf_gemm_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
