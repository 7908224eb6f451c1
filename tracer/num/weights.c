/* Own and future parts of each weight's whole gradient, without forming any gradient.
 *
 * The gradient of W is sum_j x_j (sum_i delta_ij)^T: own takes i = j, future i > j, a band its lags. With
 * X [N,in] and D_a [N,out] the inputs and summed deltas, <grad_a, grad_b> = sum((X X^T) o (D_a D_b^T)), so
 * N x N products do. The deltas inside the MLP are linear in what enters its output at the same
 * position, so only sums over losses at three sites are kept (docs/math.md#weights). */
#include "tracer/num/run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/gemm.h"

/* What is multiplied with what: each band with itself, future with itself, own with future. */
enum { FUTURE = BF_BANDS, DELTAS, OWN_FUTURE = DELTAS, PRODUCTS };

/* One weight of one layer. */
typedef struct {
    size_t N, parts;       /* parts: heads whose own norms are wanted, 0 none */
    const real *x;         /* [N,in], rows ldx apart */
    size_t in, ldx;
    const double *sums;    /* [BF_BANDS,N,out], rows ldd apart, bands band_step apart */
    size_t out, ldd, band_step;
    bool split_input;      /* heads cut the input (o), not the output (q, k, v) */
} weight;

typedef struct {
    double own, future, cosine, lag[BF_BANDS];
} answer;

/* One part of a weight, and the products of its gradient's parts. */
typedef struct {
    size_t N, in, out, ldx;
    const real *x, *deltas; /* deltas [DELTAS,N,ldd] */
    size_t ldd;
    real *xx, *dd;          /* [N,N], [PRODUCTS,N,N] */
    double product[PRODUCTS];
} part;

static void product_task(void *context, size_t k, size_t worker)
{
    (void)worker;
    part *p = context;
    const size_t N = p->N, a = k == OWN_FUTURE ? 0 : k, b = k == OWN_FUTURE ? FUTURE : k;
    real *dd = p->dd + k * N * N;
    double sum = 0.0;
    R(bf_gemm)(false, true, N, N, p->out, 1, p->deltas + a * N * p->ldd, p->ldd,
               p->deltas + b * N * p->ldd, p->ldd, false, dd, N);
    for (size_t n = 0; n < N * N; n++)
        sum += (double)p->xx[n] * (double)dd[n];
    p->product[k] = sum;
}

static answer measure_part(part *p, bf_pool *pool)
{
    answer r;
    R(bf_gemm)(false, true, p->N, p->N, p->in, 1, p->x, p->ldx, p->x, p->ldx, false, p->xx, p->N);
    bf_pool_run(pool, PRODUCTS, product_task, p);
    for (size_t b = 0; b < BF_BANDS; b++)
        r.lag[b] = sqrt(fmax(p->product[b], 0.0));
    r.own = r.lag[0];
    r.future = sqrt(fmax(p->product[FUTURE], 0.0));
    r.cosine = r.own > 0.0 && r.future > 0.0 ? p->product[OWN_FUTURE] / (r.own * r.future) : 0.0;
    return r;
}

static void put(const bf_record *record, const char *name, const char *what, size_t at, double value)
{
    char full[BF_NAME_MAX];
    snprintf(full, sizeof full, "weight.%s.%s", name, what);
    const bf_tensor *t = bf_record_find(record, full);
    if (t)
        ((real *)t->data)[at] = (real)value;
}

/* What the layer's weights read, their deltas, and room. */
typedef struct {
    real *normed, *hidden, *x, *y, *gate, *slope; /* [N,D], [N,F], and [N, max(D,F)] */
    double *mlp_in, *mlp_gate;                    /* sums of deltas, [BF_BANDS,N,F] */
    real *deltas, *xx, *dd;                       /* [DELTAS,N,max(D,F)], [N,N], [PRODUCTS,N,N] */
    bf_pool *pool;
} bench;

/* The weight's sums to deltas, rows out apart, future last. */
static void gather_deltas(const weight *w, real *deltas)
{
    for (size_t j = 0; j < w->N; j++)
        for (size_t o = 0; o < w->out; o++) {
            double future = 0.0;
            for (size_t b = 0; b < BF_BANDS; b++) {
                const double sum = w->sums[b * w->band_step + j * w->ldd + o];
                deltas[(b * w->N + j) * w->out + o] = (real)sum;
                future += b ? sum : 0.0;
            }
            deltas[(FUTURE * w->N + j) * w->out + o] = (real)future;
        }
}

static void measure(const bf_record *record, const char *name, size_t slot, const weight *w, bench *b)
{
    gather_deltas(w, b->deltas);
    part p = {.N = w->N, .in = w->in, .out = w->out, .ldx = w->ldx, .x = w->x, .deltas = b->deltas,
              .ldd = w->out, .xx = b->xx, .dd = b->dd};
    const answer all = measure_part(&p, b->pool);
    put(record, name, "own", slot, all.own);
    put(record, name, "future", slot, all.future);
    put(record, name, "cosine", slot, all.cosine);
    for (size_t k = 0; k < BF_BANDS; k++)
        put(record, name, "lag", slot * BF_BANDS + k, all.lag[k]);
    for (size_t h = 0; h < w->parts; h++) {
        p.in = w->split_input ? w->in / w->parts : w->in;
        p.out = w->split_input ? w->out : w->out / w->parts;
        p.x = w->x + (w->split_input ? h * p.in : 0);
        p.deltas = b->deltas + (w->split_input ? 0 : h * p.out);
        const answer one = measure_part(&p, b->pool);
        put(record, name, "head_own", slot * w->parts + h, one.own);
        put(record, name, "head_future", slot * w->parts + h, one.future);
        put(record, name, "head_cosine", slot * w->parts + h, one.cosine);
    }
}

static void norms(const R(bf_run_state) *run, bench *b, const real *x, const real *w, const real *bias)
{
    const size_t D = run->config->D;
    real mean, rstd;
    for (size_t j = 0; j < run->job->N; j++)
        R(bf_norm)(b->normed + j * D, &mean, &rstd, x + j * D, w, bias, run->config->norm,
                   run->config->norm_eps, D);
}

/* The MLP's hidden values once more, and its deltas from what entered its output. */
static void mlp_inside(const R(bf_run_state) *run, bench *b, const R(bf_block) *p, size_t l,
                       const double *sums)
{
    const bf_config *c = run->config;
    const R(bf_layer_acts) *a = &run->acts->layer[l];
    const size_t N = run->job->N, D = c->D, F = c->F;
    R(bf_linear)(b->y, F, b->normed, D, N, &p->mlp_in, p->mlp_in_b, run->pool);
    if (c->gated) {
        R(bf_linear)(b->gate, F, b->normed, D, N, &p->mlp_gate, p->mlp_gate_b, run->pool);
        R(bf_act)(b->gate, b->slope, b->gate, c->act, N * F);
    } else {
        R(bf_act)(b->y, b->slope, b->y, c->act, N * F);
    }
    for (size_t n = 0; n < N * F; n++)
        b->hidden[n] = c->gated ? b->y[n] * b->gate[n] : b->y[n];
    const R(bf_mat) back = {.w = p->mlp_out.w, .out = F, .in = D, .ld = p->mlp_out.ld,
                            .in_major = !p->mlp_out.in_major, .room = p->mlp_out.room};
    for (size_t band = 0; band < BF_BANDS; band++) {
        double *in = b->mlp_in + band * N * F, *gate = b->mlp_gate + band * N * F;
        for (size_t n = 0; n < N * D; n++)
            b->x[n] = (real)sums[band * N * D + n];
        R(bf_linear)(b->y, F, b->x, D, N, &back, NULL, run->pool);
        for (size_t n = 0; n < N * F; n++) {
            in[n] = (double)b->y[n] * (double)(c->gated ? a->gain[n] : a->slope[n]);
            if (c->gated)
                gate[n] = (double)b->y[n] * (double)a->slope[n];
        }
    }
}

static void measure_attention(const bf_record *record, const R(bf_run_state) *run, size_t l, size_t slot,
                              const R(bf_band_sums) *sums, const R(bf_block) *p, bench *b)
{
    const bf_config *c = run->config;
    const size_t N = run->job->N, D = c->D, q = c->H * c->K, kv = c->G * c->K, ld = q + 2 * kv;
    const double *dqkv = sums->qkv + l * BF_BANDS * N * ld;
    const double *dout = (c->parallel ? sums->mlp_out : sums->attn_out) + l * BF_BANDS * N * D;
    norms(run, b, run->acts->layer[l].resid_pre, p->norm1_w, p->norm1_b);
    const weight w[] = {{N, c->H, b->normed, D, D, dqkv, q, ld, N * ld, false},
                        {N, c->G, b->normed, D, D, dqkv + q, kv, ld, N * ld, false},
                        {N, c->G, b->normed, D, D, dqkv + q + kv, kv, ld, N * ld, false},
                        {N, c->H, run->acts->layer[l].z, q, q, dout, D, D, N * D, true}};
    for (size_t k = 0; k < 4; k++)
        measure(record, bf_weight_names[k], slot, &w[k], b);
}

static void measure_mlp(const bf_record *record, const R(bf_run_state) *run, size_t l, size_t slot,
                        const R(bf_band_sums) *sums, const R(bf_block) *p, bench *b)
{
    const bf_config *c = run->config;
    const size_t N = run->job->N, D = c->D, F = c->F;
    const double *dout = sums->mlp_out + l * BF_BANDS * N * D;
    norms(run, b, c->parallel ? run->acts->layer[l].resid_pre : run->acts->layer[l].resid_mid,
          p->norm2_w, p->norm2_b);
    mlp_inside(run, b, p, l, dout);
    const weight w[] = {{N, 0, b->normed, D, D, b->mlp_in, F, F, N * F, false},
                        {N, 0, b->normed, D, D, b->mlp_gate, F, F, N * F, false},
                        {N, 0, b->hidden, F, F, dout, D, D, N * D, false}};
    for (size_t k = 0; k < 3; k++)
        if (k != 1 || c->gated)
            measure(record, bf_weight_names[4 + k], slot, &w[k], b);
}

static size_t widest(const bf_config *c)
{
    const size_t a = c->D > c->F ? c->D : c->F;
    return a > c->H * c->K ? a : c->H * c->K;
}

static size_t bench_bytes(const bf_config *c, size_t N)
{
    return N * (c->D + c->F + (4 + DELTAS) * widest(c) + (1 + PRODUCTS) * N) * sizeof(real) +
           2 * BF_BANDS * N * c->F * sizeof(double) + 16 * 64;
}

static bool take_bench(bench *b, const bf_config *c, size_t N, bf_arena *arena)
{
    const size_t wide = widest(c) * sizeof(real);
    b->normed = bf_arena_take(arena, N, c->D * sizeof(real));
    b->hidden = bf_arena_take(arena, N, c->F * sizeof(real));
    b->x = bf_arena_take(arena, N, wide);
    b->y = bf_arena_take(arena, N, wide);
    b->gate = bf_arena_take(arena, N, wide);
    b->slope = bf_arena_take(arena, N, wide);
    b->mlp_in = bf_arena_take(arena, BF_BANDS * N, c->F * sizeof(double));
    b->mlp_gate = bf_arena_take(arena, BF_BANDS * N, c->F * sizeof(double));
    b->deltas = bf_arena_take(arena, DELTAS * N, wide);
    b->xx = bf_arena_take(arena, N, N * sizeof(real));
    b->dd = bf_arena_take(arena, PRODUCTS * N, N * sizeof(real));
    return b->normed && b->hidden && b->x && b->y && b->gate && b->slope && b->mlp_in &&
           b->mlp_gate && b->deltas && b->xx && b->dd;
}

size_t R(bf_weights_bytes)(const bf_config *c, size_t N)
{
    const size_t width = 2 * c->D + (c->H + 2 * c->G) * c->K;
    return c->L * BF_BANDS * N * width * sizeof(double) + 8 * 64 + bench_bytes(c, N);
}

bf_code R(bf_weights_take)(R(bf_band_sums) *sums, const bf_config *c, size_t N, bf_arena *arena,
                           bf_error *err)
{
    const size_t n = c->L * BF_BANDS * N, qkv = (c->H + 2 * c->G) * c->K;
    sums->mlp_out = bf_arena_take(arena, n, c->D * sizeof(double));
    sums->attn_out = bf_arena_take(arena, n, c->D * sizeof(double));
    sums->qkv = bf_arena_take(arena, n, qkv * sizeof(double));
    if (!sums->mlp_out || !sums->attn_out || !sums->qkv)
        return bf_fail(err, BF_ENOMEM, "cannot hold the weights' sums");
    memset(sums->mlp_out, 0, n * c->D * sizeof(double));
    memset(sums->attn_out, 0, n * c->D * sizeof(double));
    memset(sums->qkv, 0, n * qkv * sizeof(double));
    return BF_OK;
}

bf_code R(bf_weights_measure)(bf_record *record, R(bf_run_state) *run, const R(bf_band_sums) *sums,
                              bf_error *err)
{
    const size_t mark = bf_arena_mark(run->arena);
    bench b = {.pool = run->pool};
    bf_code rc = take_bench(&b, run->config, run->job->N, run->arena)
                     ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold the weights' gradients");
    for (size_t k = 0; k < run->job->layers && !rc; k++) {
        const R(bf_block) *p;
        rc = R(bf_params_layer)(&p, run->params, run->job->layer[k], err);
        if (rc)
            break;
        measure_attention(record, run, run->job->layer[k], k, sums, p, &b);
        measure_mlp(record, run, run->job->layer[k], k, sums, p, &b);
    }
    bf_arena_reset(run->arena, mark);
    return rc;
}
