#include "tracer/num/chunk.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "base/blend.h"
#include "base/clock.h"
#include "base/random.h"

static void score(const R(bf_chunk) *s, unsigned site, size_t heads, size_t row, const real *g,
                  const real *a, size_t width)
{
    R(bf_score)(s->w->sink, site, heads, s->l, s->beams[s->beam[row]].out, s->pos[row], g, a, width);
}

/* The gradient of W [out,in] through one position is an outer product: its norm is |delta| |input|. */
static void param(const R(bf_chunk) *s, unsigned which, size_t row, const real *delta, size_t n,
                  const real *input_norm)
{
    real *to = s->w->sink->param[which];
    double norm, dot;
    if (!to)
        return;
    R(bf_norm_and_dot)(&norm, &dot, delta, delta, n);
    R(bf_put)(s->w->sink, to, 1, 0, s->l, s->beams[s->beam[row]].out, s->pos[row],
              norm * (double)input_norm[s->pos[row]]);
}

static void param_mlp(const R(bf_chunk) *s, size_t row, const real *in, const real *gate)
{
    param(s, BF_PARAM_MLP_IN, row, in, s->c->F, s->a->norm_in2);
    if (gate)
        param(s, BF_PARAM_MLP_GATE, row, gate, s->c->F, s->a->norm_in2);
}

/* From desk.hidden to desk.normed through both of a gated MLP's weights as one, which rows of one position, one
 * after the other, have in common. */
static void blended_vjp(const R(bf_chunk) *s, const bf_tile *t, size_t worker)
{
#if BF_BITS == 32
    const size_t F = s->c->F;
    const R(bf_desk) *d = &s->desks[worker];
    bf_run runs[BF_TILE];
    size_t n = 0;
    for (size_t k = 0; k < t->n; k++) {
        const size_t j = s->pos[t->row[k]];
        if (!k || j != s->pos[t->row[k - 1]])
            runs[n++] = (bf_run){0, s->a->gain + j * F, s->a->slope + j * F};
        runs[n - 1].rows++;
    }
    bf_blend_apply(s->b->blend, worker, runs, n, d->hidden, F, d->normed);
#else
    (void)s, (void)t, (void)worker;
#endif
}

/* What reaches the MLP's input norm from its output, for a tile: to desk.normed. */
static void mlp_vjp(const R(bf_chunk) *s, const bf_tile *t, size_t worker)
{
    const bf_config *c = s->c;
    R(bf_desk) *d = &s->desks[worker];
    const size_t F = c->F, D = c->D;
    const real *g = R(bf_tile_in)(t, s->g, 0, D, d->in);
    R(bf_linear_vjp)(d->hidden, g, D, t->padded, &s->b->mlp_out, false, worker);
    if (s->b->blend) {
        blended_vjp(s, t, worker);
        return;
    }
    for (size_t k = 0; k < t->n; k++) {
        const size_t j = s->pos[t->row[k]];
        const real *slope = s->a->slope + j * F, *gain = c->gated ? s->a->gain + j * F : NULL;
        real *h = d->hidden + k * F, *gate = d->gate + k * F;
        for (size_t f = 0; f < F; f++) {
            const real dh = h[f];
            gate[f] = dh * slope[f];
            if (gain)
                h[f] = dh * gain[f];
        }
        param_mlp(s, t->row[k], gain ? h : gate, gain ? gate : NULL);
    }
    R(bf_linear_vjp)(d->normed, d->hidden, F, t->padded, &s->b->mlp_in, false, worker);
    if (c->gated)
        R(bf_linear_vjp)(d->normed, d->gate, F, t->padded, &s->b->mlp_gate, true, worker);
}

void R(bf_mlp_above)(const R(bf_chunk) *s, size_t row)
{
    const size_t D = s->c->D;
    const real *g = s->g + row * D;
    score(s, BF_SITE_MLP_OUT, 1, row, g, s->a->mlp_out + s->pos[row] * D, D);
    param(s, BF_PARAM_MLP_OUT, row, g, D, s->a->norm_hidden);
}

void R(bf_mlp_below)(const R(bf_chunk) *s, size_t row, const real *normed)
{
    const bf_config *c = s->c;
    const size_t D = c->D, j = s->pos[row];
    const real *x = (c->parallel ? s->a->resid_pre : s->a->resid_mid) + j * D;
    real *g = s->g + row * D;
    R(bf_norm_vjp)(g, normed, x, s->a->mean2[j], s->a->rstd2[j], s->b->norm2_w, c->norm, D);
    if (!c->parallel)
        score(s, BF_SITE_RESID_MID, 1, row, g, x, D);
}

static void mlp_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const bf_tile t = R(bf_tile_of)(s, task);
    for (size_t k = 0; k < t.n; k++)
        R(bf_mlp_above)(s, t.row[k]);
    mlp_vjp(s, &t, worker);
    for (size_t k = 0; k < t.n; k++)
        R(bf_mlp_below)(s, t.row[k], s->desks[worker].normed + k * s->c->D);
    R(bf_paths_mlp)(s, &t);
}

/* From attn_out to z. */
static void out_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const bf_config *c = s->c;
    const bf_tile t = R(bf_tile_of)(s, task);
    const size_t D = c->D, width = R(bf_q_width)(c);
    const real *g = R(bf_tile_in)(&t, s->g, 0, D, s->desks[worker].in);
    real *dz = t.together ? s->dz + (t.row[0] - s->part.row) * width : s->desks[worker].out;
    R(bf_linear_vjp)(dz, g, D, t.padded, &s->b->o, false, worker);
    for (size_t k = 0; k < t.n; k++) {
        const size_t row = t.row[k], j = s->pos[row];
        if (!t.together)
            memcpy(s->dz + (row - s->part.row) * width, dz + k * width, width * sizeof *dz);
        param(s, BF_PARAM_O, row, s->g + row * D, D, s->a->norm_z);
        score(s, BF_SITE_ATTN_OUT, 1, row, s->g + row * D, s->a->attn_out + j * D, D);
        score(s, BF_SITE_Z, c->H, row, dz + k * width, s->a->z + j * width, c->K);
    }
}

/* Sum over j of dk: 0 in exact arithmetic where keys are not rotated. */
static void watch_keys(const R(bf_chunk) *s, const R(bf_head_flow) *flow, size_t n, R(bf_desk) *d)
{
    const size_t K = s->c->K;
    for (size_t e = 0; e < K; e++) {
        double size = 0.0;
        double sum = 0.0;
        for (size_t j = 0; j < n; j++) {
            sum += (double)flow->dk[j * flow->ldd + e];
            size += fabs((double)flow->dk[j * flow->ldd + e]);
        }
        d->key_sum = fabs(sum) > d->key_sum ? fabs(sum) : d->key_sum;
        d->key_size = size > d->key_size ? size : d->key_size;
    }
}

static bool at_top(const R(bf_chunk) *s)
{
    return s->l + 1 == s->c->L;
}

/* Do queries and keys cross in this layer? */
static bool crossing(const R(bf_chunk) *s)
{
    return s->w->cross && !at_top(s);
}

/* Are their own cotangents wanted? */
static bool wants_qk(const R(bf_chunk) *s)
{
    const R(bf_sink) *sink = s->w->sink;
    return !crossing(s) || s->w->residuals || sink->norm[BF_AT_Q] || sink->dot[BF_AT_Q] || sink->norm[BF_AT_K] ||
           sink->dot[BF_AT_K];
}

/* One beam, one key/value head. */
static void attend_head(R(bf_chunk) *s, size_t at, size_t g, size_t worker)
{
    const bf_config *c = s->c;
    const size_t G = c->G, K = c->K, per = c->H / G, ld = R(bf_qkv_width)(c);
    const bf_beam *b = &s->beams[at];
    const size_t n = bf_beam_rows(b), row = b->row - s->part.row;
    R(bf_desk) *d = &s->desks[worker];
    const bool watch = s->w->residuals != NULL, qk = wants_qk(s);
    real *rows = s->dqkv + row * ld, *dk = rows + (c->H + g) * K;
    R(bf_head_at) told = {.chunk = s, .beam = at};
    R(bf_head_flow) flow = {.dk = qk ? dk : NULL, .dv = dk + G * K, .ldd = ld, .lddq = ld, .ldz = R(bf_q_width)(c),
                            .context = &told, .base = b->base};
    if (crossing(s))
        flow.scores = R(bf_cross_scores);
    if (s->w->top && at_top(s))
        flow.scores = R(bf_top_scores);
    for (size_t j = 0; j < n; j++) {
        memset(flow.dv + j * ld, 0, K * sizeof *rows);
        if (!qk)
            continue;
        memset(rows + j * ld + g * per * K, 0, per * K * sizeof *rows);
        memset(dk + j * ld, 0, K * sizeof *rows);
    }
    for (size_t h = g * per; h < (g + 1) * per; h++) {
        if (s->heads)
            R(bf_paths_head)(s, b, h, &flow);
        R(bf_head) head = R(bf_acts_head)(s->w->acts, c, s->l, h);
        head.vt = s->vt + g * K * head.N;
        told.h = h;
        flow.dq = qk ? rows + h * K : NULL;
        flow.dz = s->dz + row * flow.ldz + h * K;
        R(bf_attention_vjp)(&head, &flow, s->above.where + b->first, b->count, d->attention,
                            watch ? &d->softmax_rows : NULL);
    }
    if (s->heads)
        R(bf_paths_gather)(s, b, g, rows);
    const bf_mask mask = bf_config_mask(c, s->l);
    if (watch && c->pos != BF_POS_ROTARY && !s->heads && mask.compressive == 0.0 &&
        !bf_mask_cut(&mask, s->w->acts->N - 1))
        watch_keys(s, &flow, n, d);
}

/* The longest beams first. Where queries and keys cross, all heads of one, for they stand side by side (cross.c). */
static void attention_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const size_t G = s->c->G, heads = crossing(s) ? G : 1, first = task * heads;
    for (size_t k = first; k < first + heads; k++)
        attend_head(s, s->part.end - 1 - k / G, k % G, worker);
}

/* Undo the rotation of what reached q and k, so that they belong to the projections' outputs. */
static void unrotate(const R(bf_chunk) *s, size_t row, real *x, size_t heads)
{
    const bf_config *c = s->c;
    const size_t half = c->rotary_dim / 2, j = s->pos[row];
    if (c->pos == BF_POS_ROTARY)
        R(bf_rotate)(x, s->w->acts->cosines + j * half, s->w->acts->sines + j * half, heads, c->K,
                     half, c->rotary_pairs, true);
}

void R(bf_qkv_above)(const R(bf_chunk) *s, size_t row)
{
    const bf_config *c = s->c;
    const size_t k = R(bf_q_width)(c), v = k + c->G * c->K;
    real *dqkv = s->dqkv + (row - s->part.row) * R(bf_qkv_width)(c);
    const real *a = s->a->qkv + s->pos[row] * R(bf_qkv_width)(c);
    if (s->pass & BF_PASS_Q) {
        unrotate(s, row, dqkv, c->H);
        score(s, BF_SITE_Q, c->H, row, dqkv, a, c->K);
        param(s, BF_PARAM_Q, row, dqkv, k, s->a->norm_in1);
    }
    if (s->pass & BF_PASS_KV) {
        unrotate(s, row, dqkv + k, c->G);
        if (s->heads)
            unrotate(s, row, s->heads + row * 2 * c->H * c->K, c->H);
        score(s, BF_SITE_K, c->G, row, dqkv + k, a + k, c->K);
        score(s, BF_SITE_V, c->G, row, dqkv + v, a + v, c->K);
        param(s, BF_PARAM_K, row, dqkv + k, c->G * c->K, s->a->norm_in1);
        param(s, BF_PARAM_V, row, dqkv + v, c->G * c->K, s->a->norm_in1);
    }
}

void R(bf_qkv_below)(R(bf_chunk) *s, size_t row, const real *normed)
{
    const size_t D = s->c->D, j = s->pos[row];
    R(bf_norm_vjp)(s->g + row * D, normed, s->a->resid_pre + j * D, s->a->mean1[j], s->a->rstd1[j], s->b->norm1_w,
                   s->c->norm, D);
    if (!(s->pass & BF_PASS_KV))
        return;
    const double norm = R(bf_score)(s->w->sink, BF_SITE_RESID_PRE, 1, s->l,
                                    s->beams[s->beam[row]].out, j, s->g + row * D,
                                    s->a->resid_pre + j * D, D);
    s->size[row] = (real)norm;
    if (!isfinite(norm))
        atomic_store(&s->bad, s->l + 1);
}

/* Through the projections and the norm before them, to resid_pre. */
static void qkv_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const bf_tile t = R(bf_tile_of)(s, task);
    const size_t D = s->c->D, ld = R(bf_qkv_width)(s->c);
    R(bf_desk) *d = &s->desks[worker];
    for (size_t k = 0; k < t.n; k++)
        R(bf_qkv_above)(s, t.row[k]);
    const real *dqkv = R(bf_tile_in)(&t, s->dqkv, s->part.row, ld, d->in);
    bool add = false;
    for (size_t p = 0, at = 0; p < 3; at += s->b->qkv[p].out, p++) {
        if (!(s->pass & (p ? BF_PASS_KV : BF_PASS_Q)))
            continue;
        R(bf_linear_vjp)(d->normed, dqkv + at, ld, t.padded, &s->b->qkv[p], add, worker);
        add = true;
    }
    for (size_t k = 0; k < t.n; k++)
        R(bf_qkv_below)(s, t.row[k], d->normed + k * D);
}

/* +1 or -1 for loss i in round k of random signs. */
static real sign_of(unsigned k, size_t i)
{
    uint64_t state = ((uint64_t)k << 40) + i;
    return bf_random_next(&state) & 1 ? (real)1 : (real)-1;
}

/* Each seeded position starts with its own loss's cotangent at resid_final. */
static void seed(R(bf_chunk) *s)
{
    const R(bf_acts) *acts = s->w->acts;
    const size_t D = s->c->D;
    const real *w = R(bf_params_final_w)(s->w->params);
    memset(s->g, 0, s->rows * D * sizeof *s->g);
    while (R(bf_chunk_next_part)(s))
        R(bf_chunk_activate)(s, &s->above);
    for (size_t k = 0; k < s->above.n; k++) {
        const size_t row = s->above.row[k], j = s->above.where[k];
        real *g = s->g + row * D;
        R(bf_norm_vjp)(g, acts->dfinal + j * D, acts->resid_final + j * D, acts->mean[j],
                       acts->rstd[j], w, s->c->norm, D);
        const real sign = s->w->signs ? sign_of(s->w->signs, j) : (real)1;
        for (size_t d = 0; d < D; d++)
            g[d] *= sign;
        score(s, BF_SITE_RESID_FINAL, 1, row, g, acts->resid_final + j * D, D);
    }
    s->l = s->c->L;
    R(bf_chunk_sums)(s);
}

static void transpose_task(void *context, size_t g, size_t worker)
{
    (void)worker;
    const R(bf_chunk) *s = context;
    const R(bf_head) head = R(bf_acts_head)(s->w->acts, s->c, s->l, g * (s->c->H / s->c->G));
    R(bf_transpose_values)(s->vt + g * head.K * head.N, &head);
}

static void attend(R(bf_chunk) *s)
{
    const double start = bf_seconds();
    R(bf_acts_pattern)(s->w->acts, s->c, s->l, s->w->pool);
    bf_pool_run(s->w->pool, s->c->G, transpose_task, s);
    bf_pool_run(s->w->pool, (s->part.end - s->part.first) * (crossing(s) ? 1 : s->c->G), attention_task, s);
    if (s->w->seconds_attention)
        *s->w->seconds_attention += bf_seconds() - start;
}

/* Above the top layer's attention a position has a row or two. */
static bool by_position(const R(bf_chunk) *s)
{
    return (s->w->fold_below || s->w->blend) && !at_top(s);
}

static void walk_mlp(R(bf_chunk) *s)
{
    s->list = s->above;
    if (by_position(s))
        R(bf_chunk_fold)(s);
    R(bf_run_tiles)(s, mlp_task);
}

/* In the top layer only a beam's own rows have a query: q is done for those, k and v for all. */
static void walk_attention(R(bf_chunk) *s)
{
    const bool top = at_top(s);
    const bf_mask mask = bf_config_mask(s->c, s->l);
    if (crossing(s))
        R(bf_cross_part)(s);
    attend(s);
    s->list = R(bf_chunk_piece)(s, s->above);
    s->pass = BF_PASS_Q;
    if (top)
        R(bf_run_tiles)(s, qkv_task);
    for (size_t b = s->part.first; b < s->part.end; b++) {
        s->beams[b].above = s->beams[b].at;
        s->beams[b].at = bf_mask_reach(&mask, s->beams[b].at, s->w->acts->N);
    }
    R(bf_chunk_activate)(s, &s->below);
    s->pass = top ? BF_PASS_KV : BF_PASS_Q | BF_PASS_KV;
    if (crossing(s))
        R(bf_cross_rows)(s);
    else if (top && s->w->top)
        R(bf_top_rows)(s);
    else
        R(bf_run_tiles)(s, qkv_task);
}

static void walk_layer(R(bf_chunk) *s)
{
    R(bf_chunk_bands)(s, s->w->bands.mlp_out, s->g, s->c->D);
    R(bf_paths_start)(s);
    if (!s->c->parallel) { /* else attention's output meets the same cotangent as the MLP's */
        walk_mlp(s);
        R(bf_chunk_bands)(s, s->w->bands.attn_out, s->g, s->c->D);
    }
    while (R(bf_chunk_next_part)(s)) {
        s->list = R(bf_chunk_piece)(s, s->above);
        R(bf_run_tiles)(s, out_task);
        if (s->c->parallel)
            walk_mlp(s);
        walk_attention(s);
    }
    R(bf_chunk_bands)(s, s->w->bands.qkv, s->dqkv, R(bf_qkv_width)(s->c));
    R(bf_paths_share)(s);
    R(bf_paths_edges)(s);
    R(bf_chunk_sums)(s);
    R(bf_chunk_probe)(s);
    const bf_list used = s->above;
    s->above = s->below;
    s->below = (bf_list){used.row, used.where, 0};
    if (s->w->tolerance > 0.0 && s->l > s->w->lowest)
        R(bf_chunk_prune)(s);
}

static void keep_residuals(const R(bf_chunk) *s)
{
    bf_residuals *r = s->w->residuals;
    for (size_t k = 0; r && k < bf_pool_threads(s->w->pool); k++) {
        const R(bf_desk) *d = &s->desks[k];
        r->softmax_rows = d->softmax_rows > r->softmax_rows ? d->softmax_rows : r->softmax_rows;
        r->key_sum = d->key_sum > r->key_sum ? d->key_sum : r->key_sum;
        r->key_size = d->key_size > r->key_size ? d->key_size : r->key_size;
    }
}

static bf_code walk_layers(R(bf_chunk) *s, bf_error *err)
{
    const R(bf_walk) *w = s->w;
    for (size_t l = s->c->L; l-- > w->lowest;) {
        s->l = l;
        s->a = &w->acts->layer[l];
        bf_code rc = R(bf_params_vjp_layer)(&s->b, w->params, l, s->rows, w->blend && by_position(s),
                                            crossing(s), err);
        if (!rc && crossing(s))
            rc = R(bf_cross_layer)(s, err);
        if (rc)
            return rc;
        walk_layer(s);
        if (atomic_load(&s->bad))
            return bf_fail(err, BF_ENONFINITE, "layer %zu: the gradient at resid_pre is not finite", l);
        if (w->stop && *w->stop)
            return bf_fail(err, BF_EINTERRUPTED, "interrupted");
        if (w->tick)
            w->tick(w->tick_context, (double)(s->c->L - l) / (double)(s->c->L - w->lowest));
    }
    return R(bf_params_failed)(w->params, err);
}

bf_code R(bf_walk_chunk)(const R(bf_walk) *walk, bf_beam *beams, size_t n, bf_error *err)
{
    const size_t mark = bf_arena_mark(walk->arena);
    R(bf_chunk) s = {.w = walk, .c = walk->c, .beams = beams, .n_beams = n};
    for (size_t b = 0; b < n; b++) {
        s.rows += bf_beam_rows(&beams[b]);
        beams[b].at = (bf_span){0, beams[b].lo, beams[b].own};
    }
    atomic_init(&s.bad, 0);
    bf_code rc;
    if (!R(bf_chunk_take)(&s)) {
        rc = bf_fail(err, BF_ENOMEM, "cannot hold gradients for %zu rows", s.rows);
    } else {
        seed(&s);
        rc = walk_layers(&s, err);
        keep_residuals(&s);
        R(bf_cross_end)(&s);
    }
    bf_arena_reset(walk->arena, mark);
    return rc;
}
