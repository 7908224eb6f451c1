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
    return R(bf_train_tile)(t, tile).n;
}

/* Each of n rows of y, `step` apart: x's (NULL: 0) and the bias (NULL: 0). False if there is neither. */
static bool begin_rows(real *y, const real *x, const real *bias, size_t step, size_t n, size_t width)
{
    if (!x && !bias)
        return false;
    for (size_t r = 0; r < n * step; r += step) {
        real *row = y + r * width;
        if (!x || !bias)
            memcpy(row, x ? x + r * width : bias, width * sizeof *row);
        else
            for (size_t d = 0; d < width; d++)
                row[d] = x[r * width + d] + bias[d];
    }
    return true;
}

static void rotate(const R(bf_train) *t, real *qkv, bf_train_rows rows, bool inverse)
{
    const size_t end = rows.r0 + rows.n * rows.step;
    const bf_config *c = t->c;
    const size_t half = c->rotary_dim / 2, width = (c->H + 2 * c->G) * c->K;
    for (size_t r = rows.r0; r < end && c->pos == BF_POS_ROTARY; r += rows.step)
        R(bf_rotate)(qkv + r * width, t->cosines + r % t->T * half, t->sines + r % t->T * half,
                     c->H + c->G, c->K, half, c->rotary_pairs, inverse);
}

/* Which of t->block the pass is of. */
static size_t block_of(const pass *p)
{
    return (size_t)(p->b - p->t->block);
}

/* y = x + dropout of y, n rows from r0 on, if anything is dropped there; else y holds x already. */
static void drop_and_add(const pass *p, bf_drop place, real *y, const real *x, size_t r0, size_t n)
{
    const size_t D = p->t->c->D;
    if (!R(bf_train_drops)(p->t, place))
        return;
    R(bf_train_drop)(p->t, place, block_of(p), y, y, r0, n);
    for (size_t k = r0 * D; k < (r0 + n) * D; k++)
        y[k] += x[k];
}

/* The part of dy that dropout lets through, in room; dy itself where nothing is dropped. */
static const real *let_through(const pass *p, bf_drop place, real *room, const real *dy, size_t r0, size_t n)
{
    if (!R(bf_train_drops)(p->t, place))
        return dy;
    R(bf_train_drop)(p->t, place, block_of(p), room, dy, r0, n);
    return room;
}

/* ---- forward ---- */

static void norm_tile(const R(bf_train) *t, bf_train_rows rows, real *y, real *mean, real *rstd,
                      const real *x, const real *w, const real *b)
{
    const size_t D = t->c->D, end = rows.r0 + rows.n * rows.step;
    for (size_t r = rows.r0; r < end; r += rows.step)
        R(bf_norm)(y + r * D, mean + r, rstd + r, x + r * D, w, b, t->c->norm, t->c->norm_eps, D);
}

static void qkv_task(void *context, size_t tile, size_t worker)
{
    const pass *p = context;
    const bf_train_rows rows = R(bf_train_tile)(p->t, tile);
    const R(bf_train_operand) normed = R(bf_train_operand_at)(p->a->normed1, p->a->half_normed1, rows.r0,
                                                              p->t->c->D);
    real *qkv = p->a->qkv + rows.r0 * p->b->qkv.out;
    norm_tile(p->t, rows, p->a->normed1, p->a->mean1, p->a->rstd1, p->a->x, p->b->norm1_w, p->b->norm1_b);
    const bool add = begin_rows(qkv, NULL, p->b->qkv_b, rows.step, rows.n, p->b->qkv.out);
    R(bf_train_multiply)(p->t, worker, qkv, normed, rows.step, rows.n, &p->b->qkv, add);
    rotate(p->t, p->a->qkv, rows, false);
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
    head.gate = R(bf_memory_gate)(&head.mask, p->b->gate, h);
    head.u = head.mask.delta ? p->a->u + s * t->T * c->G * K + g * K : head.v;
    head.ldu = head.mask.delta ? c->G * K : ld;
    head.links = head.mask.delta ? p->a->links + (s * c->G + g) * t->T * t->T : NULL;
    head.kept_k = kept ? kept + (c->H + g) * K : NULL;
    head.kept_v = kept ? kept + (c->H + c->G + g) * K : NULL;
    return head;
}

/* The factors of a head's weights, in the worker's room. */
static const real *draw_factors(const pass *p, const R(bf_head) *head, size_t s, size_t h, size_t worker)
{
    real *factor = p->t->desk[worker].factor;
    R(bf_train_factors)(p->t, block_of(p), s, h, &head->mask, factor);
    return factor;
}

/* Values are mixed by the pattern times the factors, which stay beside it: the VJP wants both. */
static void drop_pattern(const pass *p, R(bf_head) *head, size_t s, size_t h, size_t worker)
{
    const size_t n = head->N * head->N;
    real *dropped = p->t->desk[worker].factor;
    draw_factors(p, head, s, h, worker);
    for (size_t k = 0; k < n; k++)
        dropped[k] *= head->pattern[k];
    head->pattern = dropped;
}

/* Heads of one key/value group of one sequence. */
static void attention_task(void *context, size_t task, size_t worker)
{
    const pass *p = context;
    const bf_config *c = p->t->c;
    const size_t s = task / c->G, g = task % c->G, group = c->H / c->G, T = p->t->T;
    const size_t from = p->t->single ? p->t->position : 0, to = p->t->single ? from + 1 : T;
    const R(bf_head) first = head_of(p, s, g * group);
    if (first.mask.delta)
        R(bf_memory_store)(&first, p->a->u + s * T * c->G * c->K + g * c->K);
    for (size_t h = g * group; h < (g + 1) * group; h++) {
        R(bf_head) head = head_of(p, s, h);
        R(bf_attention_pattern)(&head, from, to);
        if (R(bf_train_drops)(p->t, BF_DROP_WEIGHTS))
            drop_pattern(p, &head, s, h, worker);
        R(bf_attention_mix)(&head, p->a->z + s * T * c->H * c->K + h * c->K, c->H * c->K, from, to);
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

static void act_tile(const pass *p, bf_train_rows rows, real *spare)
{
    const bf_config *c = p->t->c;
    const size_t F = c->F, end = rows.r0 + rows.n * rows.step;
    real *hidden = p->a->hidden;
    if (!c->gated && rows.step == 1) {
        R(bf_act)(hidden + rows.r0 * F, p->a->slope + rows.r0 * F, hidden + rows.r0 * F, c->act, rows.n * F);
        return;
    }
    for (size_t r = rows.r0; r < end; r += rows.step) {
        real *slope = p->a->slope + r * (c->gated ? 2 : 1) * F;
        if (!c->gated) {
            R(bf_act)(hidden + r * F, slope, hidden + r * F, c->act, F);
            continue;
        }
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
    const bf_train_rows rows = R(bf_train_tile)(t, tile);
    const size_t r0 = rows.r0, n = rows.n, step = rows.step, D = t->c->D;
    real *mid = a->mid + r0 * D, *next = p->next + r0 * D;
    real *up = (t->c->gated ? a->slope : a->hidden) + r0 * b->up.out;
    const R(bf_train_operand) z = R(bf_train_operand_at)(a->z, a->half_z, r0, b->o.in);
    const R(bf_train_operand) normed = R(bf_train_operand_at)(a->normed2, a->half_normed2, r0, D);
    const R(bf_train_operand) hidden = R(bf_train_operand_at)(a->hidden, a->half_hidden, r0, t->c->F);
    const bool begun = begin_rows(mid, R(bf_train_drops)(t, BF_DROP_ATTN_OUT) ? NULL : a->x + r0 * D, b->o_b,
                                  step, n, D);
    R(bf_train_multiply)(t, worker, mid, z, step, n, &b->o, begun);
    drop_and_add(p, BF_DROP_ATTN_OUT, a->mid, a->x, r0, n);
    norm_tile(t, rows, a->normed2, a->mean2, a->rstd2, a->mid, b->norm2_w, b->norm2_b);
    const bool add = begin_rows(up, NULL, b->up_b, step, n, b->up.out);
    R(bf_train_multiply)(t, worker, up, normed, step, n, &b->up, add);
    act_tile(p, rows, t->desk[worker].wide);
    const bool on = begin_rows(next, R(bf_train_drops)(t, BF_DROP_MLP_OUT) ? NULL : mid, b->out_b, step, n,
                               D);
    R(bf_train_multiply)(t, worker, next, hidden, step, n, &b->out, on);
    drop_and_add(p, BF_DROP_MLP_OUT, p->next, a->mid, r0, n);
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
    const real *dout = let_through(p, BF_DROP_MLP_OUT, t->dmlp_out, p->dy, r0, n);
    R(bf_train_multiply_back)(t, worker, dhidden, R(bf_train_operand_at)(dout, t->half_dy, r0, D), n, &b->out);
    if (!t->c->gated)
        times(dup, a->slope + r0 * F, n * F);
    for (size_t r = 0; r < n && t->c->gated; r++)
        gate_back(dup + r * 2 * F, dhidden + r * F, a->slope + (r0 + r) * 2 * F, F);
    R(bf_train_multiply_back)(t, worker, dnormed, R(bf_train_operand_at)(t->dup, t->half_dup, r0, b->up.out), n,
                              &b->up);
    norm_back(t, tile, 1, t->dmid, p->dy, dnormed, a->mid, a->mean2, a->rstd2, b->norm2_w);
    const real *dattn = let_through(p, BF_DROP_ATTN_OUT, t->dattn_out, t->dmid, r0, n);
    R(bf_train_multiply_back)(t, worker, t->dz + r0 * b->o.in,
                              R(bf_train_operand_at)(dattn, t->half_dmid, r0, D), n, &b->o);
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
        R(bf_head) head = head_of(p, s, h);
        if (R(bf_train_drops)(t, BF_DROP_WEIGHTS))
            head.factor = draw_factors(p, &head, s, h, worker);
        flow.dq = dqkv + h * K;
        flow.dz = t->dz + s * T * c->H * K + h * K;
        flow.dgate = p->b->gate ? &t->dgate[s * c->H + h] : NULL;
        t->dgate[s * c->H + h] = 0;
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
    const bf_train_rows rows = R(bf_train_tile)(t, tile);
    real *dnormed = t->desk[worker].rows;
    rotate(t, p->dqkv, rows, true);
    R(bf_train_multiply_back)(t, worker, dnormed,
                              R(bf_train_operand_at)(p->dqkv, t->half_dqkv, rows.r0, p->b->qkv.out), rows.n,
                              &p->b->qkv);
    norm_back(t, tile, 0, p->dx, t->dmid, dnormed, a->x, a->mean1, a->rstd1, p->b->norm1_w);
}

static void unrotate_task(void *context, size_t tile, size_t worker)
{
    (void)worker;
    const pass *p = context;
    const bf_train_rows rows = R(bf_train_tile)(p->t, tile);
    const size_t width = p->b->qkv.out;
    rotate(p->t, p->dqkv, rows, true);
    R(bf_train_round)(R(bf_train_operand_at)(p->dqkv, p->t->half_dqkv, rows.r0, width), rows.n * width);
}

static R(bf_train_product) product(const R(bf_train) *t, const R(bf_mat) *W, const real *bias,
                                   R(bf_train_operand) dy, R(bf_train_operand) x)
{
    return (R(bf_train_product)){W, R(bf_train_grad)(t, W->w), bias ? R(bf_train_grad)(t, bias) : NULL,
                                 dy, x};
}

/* (+)= the sequences' parts, in their order. */
static void sum_gates(const R(bf_train) *t, const real *gate)
{
    real *to = R(bf_train_grad)(t, gate);
    for (size_t h = 0; h < t->c->H; h++) {
        double sum = t->add ? (double)to[h] : 0;
        for (size_t s = 0; s < t->B; s++)
            sum += t->dgate[s * t->c->H + h];
        to[h] = (real)sum;
    }
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
    const R(bf_train_operand) dup = {t->dup, t->half_dup}, normed2 = {a->normed2, a->half_normed2};
    const R(bf_train_operand) dout = {R(bf_train_drops)(t, BF_DROP_MLP_OUT) ? t->dmlp_out : p.dy, t->half_dy};
    const R(bf_train_operand) dqkv = {p.dqkv, t->half_dqkv}, normed1 = {a->normed1, a->half_normed1};
    const R(bf_train_operand) dattn = {R(bf_train_drops)(t, BF_DROP_ATTN_OUT) ? t->dattn_out : t->dmid,
                                       t->half_dmid};
    const R(bf_train_operand) hidden = {a->hidden, a->half_hidden}, z = {a->z, a->half_z};
    const R(bf_train_product) list[] = { /* small pieces last: threads end together */
        product(t, &b->up, b->up_b, dup, normed2), product(t, &b->qkv, b->qkv_b, dqkv, normed1),
        product(t, &b->out, b->out_b, dout, hidden), product(t, &b->o, b->o_b, dattn, z)};
    R(bf_train_weights)(t, list, 4, t->rows, t->add);
    R(bf_train_norm_sum)(t, 0, b->norm1_w, b->norm1_b, t->add);
    R(bf_train_norm_sum)(t, 1, b->norm2_w, b->norm2_b, t->add);
    if (b->gate)
        sum_gates(t, b->gate);
}
