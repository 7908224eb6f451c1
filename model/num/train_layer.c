/* One layer of a batch, forward and back. Tiles of rows pass all that is the same for each row in one
 * task; only attention and the weights' gradients look across rows. */
#include "model/num/train.h"

#include <string.h>

typedef struct {
    R(bf_train) *t;
    const R(bf_train_block) *b;
    R(bf_train_acts) *a;
    size_t l;
    real *next;
    const real *dy; /* cotangent of next */
    real *dx;       /* of x */
    bf_cut cut;     /* of the attention's VJP at hand */
    real *dqkv;     /* where it goes */
} pass;

static size_t tile_rows(const R(bf_train) *t, size_t tile)
{
    const size_t left = t->rows - tile * BF_TRAIN_TILE;
    return left < BF_TRAIN_TILE ? left : BF_TRAIN_TILE;
}

/* Each row of y: x's (NULL: 0) and the bias (NULL: 0). False if there is neither. */
static bool begin_rows(real *y, const real *x, const real *bias, size_t n, size_t width)
{
    if (!x && !bias)
        return false;
    for (size_t r = 0; r < n; r++) {
        real *row = y + r * width;
        if (!x || !bias)
            memcpy(row, x ? x + r * width : bias, width * sizeof *row);
        else
            for (size_t d = 0; d < width; d++)
                row[d] = x[r * width + d] + bias[d];
    }
    return true;
}

static void rotate(const R(bf_train) *t, real *qkv, size_t r0, size_t n, bool inverse)
{
    const bf_config *c = t->c;
    const size_t half = c->rotary_dim / 2, width = (c->H + 2 * c->G) * c->K;
    for (size_t r = r0; r < r0 + n && c->pos == BF_POS_ROTARY; r++)
        R(bf_rotate)(qkv + r * width, t->cosines + r % t->T * half, t->sines + r % t->T * half,
                     c->H + c->G, c->K, half, c->rotary_pairs, inverse);
}

/* ---- forward ---- */

static void norm_tile(const R(bf_train) *t, size_t r0, size_t n, real *y, real *mean, real *rstd,
                      const real *x, const real *w, const real *b)
{
    const size_t D = t->c->D;
    for (size_t r = r0; r < r0 + n; r++)
        R(bf_norm)(y + r * D, mean + r, rstd + r, x + r * D, w, b, t->c->norm, t->c->norm_eps, D);
}

static void qkv_task(void *context, size_t tile, size_t worker)
{
    const pass *p = context;
    const size_t r0 = tile * BF_TRAIN_TILE, n = tile_rows(p->t, tile), D = p->t->c->D;
    real *qkv = p->a->qkv + r0 * p->b->qkv.out;
    norm_tile(p->t, r0, n, p->a->normed1, p->a->mean1, p->a->rstd1, p->a->x, p->b->norm1_w, p->b->norm1_b);
    const bool add = begin_rows(qkv, NULL, p->b->qkv_b, n, p->b->qkv.out);
    R(bf_train_multiply)(p->t, worker, qkv, R(bf_train_rows_at)(p->a->normed1, p->a->half_normed1, r0, D), n,
                         &p->b->qkv, add);
    rotate(p->t, p->a->qkv, r0, n, false);
}

/* Head h of sequence s. */
static R(bf_head) head_of(const pass *p, size_t s, size_t h)
{
    const R(bf_train) *t = p->t;
    const bf_config *c = t->c;
    const size_t K = c->K, g = h / (c->H / c->G), ld = (c->H + 2 * c->G) * K, at = s * t->T * ld;
    const real *q = p->a->qkv + at;
    const real *kept = t->kept && !t->keeping ? t->kept + p->l * t->rows * ld + at : NULL;
    R(bf_head) head = {.q = q + h * K, .k = q + (c->H + g) * K, .v = q + (c->H + c->G + g) * K,
                       .pattern = p->a->pattern + (s * c->H + h) * t->T * t->T,
                       .N = t->T, .K = K, .ldq = ld, .ldk = ld, .ldv = ld,
                       .scale = (real)c->attn_scale[p->l], .mask = bf_config_mask(c, p->l)};
    if (p->cut != BF_CUT_NONE)
        head.mask.detach = BF_DETACH_MYOPIC;
    head.kept_k = kept ? kept + (c->H + g) * K : NULL;
    head.kept_v = kept ? kept + (c->H + c->G + g) * K : NULL;
    return head;
}

/* Heads of one key/value group of one sequence. */
static void attention_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const pass *p = context;
    const bf_config *c = p->t->c;
    const size_t s = task / c->G, g = task % c->G, group = c->H / c->G, T = p->t->T;
    for (size_t h = g * group; h < (g + 1) * group; h++) {
        const R(bf_head) head = head_of(p, s, h);
        R(bf_attention_pattern)(&head, 0, T);
        R(bf_attention_mix)(&head, p->a->z + s * T * c->H * c->K + h * c->K, c->H * c->K, 0, T);
    }
}

/* hidden and slopes of n rows from what stands in slope (gated: gate | up) or, plain, in hidden. */
BF_HOT static void gate_row(real *hidden, real *slope, const real *act, const real *act_slope, size_t F)
{
    real *gate = slope, *up = slope + F;
#pragma omp simd
    for (size_t f = 0; f < F; f++) {
        hidden[f] = act[f] * up[f];
        gate[f] = act_slope[f] * up[f];
        up[f] = act[f];
    }
}

static void act_tile(const pass *p, size_t r0, size_t n, real *spare)
{
    const bf_config *c = p->t->c;
    const size_t F = c->F;
    real *hidden = p->a->hidden + r0 * F;
    if (!c->gated) {
        R(bf_act)(hidden, p->a->slope + r0 * F, hidden, c->act, n * F);
        return;
    }
    for (size_t r = 0; r < n; r++) {
        real *slope = p->a->slope + (r0 + r) * 2 * F;
        R(bf_act)(spare, spare + F, slope, c->act, F);
        gate_row(hidden + r * F, slope, spare, spare + F, F);
    }
}

static void mlp_task(void *context, size_t tile, size_t worker)
{
    const pass *p = context;
    const R(bf_train) *t = p->t;
    const R(bf_train_block) *b = p->b;
    R(bf_train_acts) *a = p->a;
    const size_t r0 = tile * BF_TRAIN_TILE, n = tile_rows(t, tile), D = t->c->D, Q = b->o.in;
    real *mid = a->mid + r0 * D, *next = p->next + r0 * D;
    real *up = (t->c->gated ? a->slope : a->hidden) + r0 * b->up.out;
    begin_rows(mid, a->x + r0 * D, b->o_b, n, D);
    R(bf_train_multiply)(t, worker, mid, R(bf_train_rows_at)(a->z, a->half_z, r0, Q), n, &b->o, true);
    norm_tile(t, r0, n, a->normed2, a->mean2, a->rstd2, a->mid, b->norm2_w, b->norm2_b);
    const bool add = begin_rows(up, NULL, b->up_b, n, b->up.out);
    R(bf_train_multiply)(t, worker, up, R(bf_train_rows_at)(a->normed2, a->half_normed2, r0, D), n, &b->up,
                         add);
    act_tile(p, r0, n, t->desk[worker].wide);
    begin_rows(next, mid, b->out_b, n, D);
    R(bf_train_multiply)(t, worker, next, R(bf_train_rows_at)(a->hidden, a->half_hidden, r0, t->c->F), n,
                         &b->out, true);
}

void R(bf_train_layer)(R(bf_train) *t, size_t l, const R(bf_train_block) *b, R(bf_train_acts) *a,
                       real *next)
{
    pass p = {.t = t, .b = b, .a = a, .l = l, .next = next,
              .cut = t->keeping ? BF_CUT_NONE : t->config->cut};
    bf_pool_run(t->pool, t->tiles, qkv_task, &p);
    bf_pool_run(t->pool, t->B * t->c->G, attention_task, &p);
    bf_pool_run(t->pool, t->tiles, mlp_task, &p);
}

/* ---- back ---- */

BF_HOT static void times(real *y, const real *x, size_t n)
{
#pragma omp simd
    for (size_t k = 0; k < n; k++)
        y[k] *= x[k];
}

BF_HOT static void gate_back(real *dup, const real *dhidden, const real *slope, size_t F)
{
#pragma omp simd
    for (size_t f = 0; f < F; f++) {
        dup[f] = dhidden[f] * slope[f];
        dup[F + f] = dhidden[f] * slope[F + f];
    }
}

/* dx = dy + VJP of the norm of dnormed; the norm's own gradients to the tile's part. */
static void norm_back(const R(bf_train) *t, size_t tile, size_t part, real *dx, const real *dy,
                      const real *dnormed, const real *x, const real *mean, const real *rstd,
                      const real *w)
{
    const size_t D = t->c->D, r0 = tile * BF_TRAIN_TILE, n = tile_rows(t, tile);
    real *sums = t->partial + (tile * 4 + 2 * part) * D;
    memset(sums, 0, 2 * D * sizeof *sums);
    R(bf_norm_grad)(sums, sums + D, dnormed, x + r0 * D, mean + r0, rstd + r0, n, D);
    for (size_t r = 0; r < n; r++) {
        real *to = dx + (r0 + r) * D;
        memcpy(to, dy + (r0 + r) * D, D * sizeof *to);
        R(bf_norm_vjp)(to, dnormed + r * D, x + (r0 + r) * D, mean[r0 + r], rstd[r0 + r], w, t->c->norm, D);
    }
}

static void mlp_back_task(void *context, size_t tile, size_t worker)
{
    const pass *p = context;
    const R(bf_train) *t = p->t;
    const R(bf_train_block) *b = p->b;
    const R(bf_train_acts) *a = p->a;
    const size_t r0 = tile * BF_TRAIN_TILE, n = tile_rows(t, tile), D = t->c->D, F = t->c->F;
    real *dup = t->dup + r0 * b->up.out, *dnormed = t->desk[worker].rows;
    real *dhidden = t->c->gated ? t->desk[worker].wide : dup;
    R(bf_train_multiply_back)(t, worker, dhidden, R(bf_train_rows_at)(p->dy, t->half_dy, r0, D), n, &b->out);
    if (!t->c->gated)
        times(dup, a->slope + r0 * F, n * F);
    for (size_t r = 0; r < n && t->c->gated; r++)
        gate_back(dup + r * 2 * F, dhidden + r * F, a->slope + (r0 + r) * 2 * F, F);
    R(bf_train_multiply_back)(t, worker, dnormed, R(bf_train_rows_at)(t->dup, t->half_dup, r0, b->up.out), n,
                              &b->up);
    norm_back(t, tile, 1, t->dmid, p->dy, dnormed, a->mid, a->mean2, a->rstd2, b->norm2_w);
    R(bf_train_multiply_back)(t, worker, t->dz + r0 * b->o.in,
                              R(bf_train_rows_at)(t->dmid, t->half_dmid, r0, D), n, &b->o);
}

static void attention_back_task(void *context, size_t task, size_t worker)
{
    const pass *p = context;
    const R(bf_train) *t = p->t;
    const bf_config *c = t->c;
    const size_t s = task / c->G, g = task % c->G, group = c->H / c->G, T = t->T, K = c->K;
    const size_t ld = (c->H + 2 * c->G) * K;
    real *dqkv = p->dqkv + s * T * ld;
    R(bf_head_flow) flow = {.dk = dqkv + (c->H + g) * K, .dv = dqkv + (c->H + c->G + g) * K,
                            .lddq = ld, .ldd = ld, .ldz = c->H * K};
    for (size_t j = 0; j < T; j++) {
        memset(flow.dk + j * ld, 0, K * sizeof *dqkv);
        memset(flow.dv + j * ld, 0, K * sizeof *dqkv);
    }
    for (size_t h = g * group; h < (g + 1) * group; h++) {
        const R(bf_head) head = head_of(p, s, h);
        flow.dq = dqkv + h * K;
        flow.dz = t->dz + s * T * c->H * K + h * K;
        if (p->cut == BF_CUT_LOCAL)
            R(bf_train_local_vjp)(&head, &flow, t->desk[worker].attention);
        else
            R(bf_attention_vjp)(&head, &flow, t->positions, T, t->desk[worker].attention, NULL);
    }
}

static void qkv_back_task(void *context, size_t tile, size_t worker)
{
    const pass *p = context;
    const R(bf_train) *t = p->t;
    const R(bf_train_acts) *a = p->a;
    const size_t r0 = tile * BF_TRAIN_TILE, n = tile_rows(t, tile);
    real *dnormed = t->desk[worker].rows;
    rotate(t, p->dqkv, r0, n, true);
    R(bf_train_multiply_back)(t, worker, dnormed,
                              R(bf_train_rows_at)(p->dqkv, t->half_dqkv, r0, p->b->qkv.out), n, &p->b->qkv);
    norm_back(t, tile, 0, p->dx, t->dmid, dnormed, a->x, a->mean1, a->rstd1, p->b->norm1_w);
}

static void unrotate_task(void *context, size_t tile, size_t worker)
{
    (void)worker;
    const pass *p = context;
    const size_t r0 = tile * BF_TRAIN_TILE, n = tile_rows(p->t, tile), width = p->b->qkv.out;
    rotate(p->t, p->dqkv, r0, n, true);
    R(bf_train_round)(R(bf_train_rows_at)(p->dqkv, p->t->half_dqkv, r0, width), n * width);
}

static R(bf_train_product) product(const R(bf_train) *t, const R(bf_mat) *W, const real *bias,
                                   R(bf_train_rows) dy, R(bf_train_rows) x)
{
    return (R(bf_train_product)){W, R(bf_train_grad)(t, W->w), bias ? R(bf_train_grad)(t, bias) : NULL,
                                 dy, x};
}

void R(bf_train_layer_back)(R(bf_train) *t, size_t l, const R(bf_train_block) *b, R(bf_train_acts) *a,
                            unsigned from)
{
    pass p = {.t = t, .b = b, .a = a, .l = l, .dy = t->dx[from], .dx = t->dx[!from],
              .cut = t->config->cut, .dqkv = t->dqkv};
    bf_pool_run(t->pool, t->tiles, mlp_back_task, &p);
    bf_pool_run(t->pool, t->B * t->c->G, attention_back_task, &p);
    bf_pool_run(t->pool, t->tiles, qkv_back_task, &p);
    if (p.cut == BF_CUT_STATES) { /* once more, uncut: what W_k and W_v learn */
        p.cut = BF_CUT_NONE;
        p.dqkv = t->dqkv_whole;
        bf_pool_run(t->pool, t->B * t->c->G, attention_back_task, &p);
        bf_pool_run(t->pool, t->tiles, unrotate_task, &p);
    }
    const R(bf_train_rows) dup = {t->dup, t->half_dup}, normed2 = {a->normed2, a->half_normed2};
    const R(bf_train_rows) dy = {p.dy, t->half_dy}, hidden = {a->hidden, a->half_hidden};
    const R(bf_train_rows) dqkv = {p.dqkv, t->half_dqkv}, normed1 = {a->normed1, a->half_normed1};
    const R(bf_train_rows) dmid = {t->dmid, t->half_dmid}, z = {a->z, a->half_z};
    const R(bf_train_product) list[] = { /* small pieces last: threads end together */
        product(t, &b->up, b->up_b, dup, normed2), product(t, &b->qkv, b->qkv_b, dqkv, normed1),
        product(t, &b->out, b->out_b, dy, hidden), product(t, &b->o, b->o_b, dmid, z)};
    R(bf_train_weights)(t, list, 4, t->rows, t->add);
    R(bf_train_norm_sum)(t, 0, b->norm1_w, b->norm1_b, t->add);
    R(bf_train_norm_sum)(t, 1, b->norm2_w, b->norm2_b, t->add);
}
