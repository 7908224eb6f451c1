/* By which path did it come? Shares of the paths into resid_pre, and the edges of attention.
 *
 * No path's vector is formed: <J W^T d, g> = <d, W J^T g>, where J is the linear map of the norm before
 * the projections. So one more projection of g a layer gives all heads' inner products (docs/math.md). */
#include "tracer/num/chunk.h"

#include <string.h>

bool R(bf_paths_wanted)(const R(bf_sink) *sink)
{
    bool any = sink->edge != NULL;
    for (size_t p = 0; p < BF_SHARES; p++)
        any = any || sink->share[p];
    return any;
}

bool R(bf_paths_take)(R(bf_chunk) *s)
{
    const bf_config *c = s->c;
    bf_arena *arena = s->w->arena;
    s->skip = bf_arena_take(arena, s->rows, c->D * sizeof(real));
    s->mlp = bf_arena_take(arena, s->rows, c->D * sizeof(real));
    s->pull = bf_arena_take(arena, s->rows, R(bf_qkv_width)(c) * sizeof(real));
    s->heads = c->H == c->G ? NULL : bf_arena_take(arena, s->rows, 2 * c->H * c->K * sizeof(real));
    return s->skip && s->mlp && s->pull && (s->heads || c->H == c->G);
}

void R(bf_paths_start)(R(bf_chunk) *s)
{
    if (!s->skip)
        return;
    memcpy(s->skip, s->g, s->rows * s->c->D * sizeof *s->g);
    memset(s->mlp, 0, s->rows * s->c->D * sizeof *s->mlp);
}

void R(bf_paths_mlp)(const R(bf_chunk) *s, const bf_tile *t)
{
    const size_t D = s->c->D;
    for (size_t k = 0; k < t->n && s->skip; k++)
        for (size_t d = t->row[k] * D; d < (t->row[k] + 1) * D; d++)
            s->mlp[d] = s->g[d] - s->skip[d];
}

void R(bf_paths_head)(const R(bf_chunk) *s, const bf_beam *b, size_t h, R(bf_head_flow) *flow)
{
    const size_t K = s->c->K, ld = 2 * s->c->H * K;
    real *rows = s->heads + b->row * ld;
    flow->dk = rows + h * K;
    flow->dv = rows + (s->c->H + h) * K;
    flow->ldd = ld;
    for (size_t j = 0; j < bf_beam_rows(b); j++) {
        memset(flow->dk + j * ld, 0, K * sizeof *rows);
        memset(flow->dv + j * ld, 0, K * sizeof *rows);
    }
}

void R(bf_paths_gather)(const R(bf_chunk) *s, const bf_beam *b, size_t group, real *dqkv)
{
    const size_t H = s->c->H, G = s->c->G, K = s->c->K, per = H / G;
    for (size_t j = 0; j < bf_beam_rows(b); j++) {
        const real *from = s->heads + (b->row + j) * 2 * H * K;
        real *dk = dqkv + j * R(bf_qkv_width)(s->c) + (H + group) * K, *dv = dk + G * K;
        for (size_t h = group * per; h < (group + 1) * per; h++)
            for (size_t e = 0; e < K; e++) {
                dk[e] += from[h * K + e];
                dv[e] += from[(H + h) * K + e];
            }
    }
}

static double dot(const real *a, const real *b, size_t n)
{
    double norm, inner;
    R(bf_norm_and_dot)(&norm, &inner, a, b, n);
    return inner;
}

static void share_row(const R(bf_chunk) *s, size_t row)
{
    const bf_config *c = s->c;
    const R(bf_sink) *to = s->w->sink;
    const size_t D = c->D, K = c->K, q = c->H * K, j = s->pos[row], out = s->beams[s->beam[row]].out;
    const real *g = s->g + row * D, *pull = s->pull + row * R(bf_qkv_width)(c);
    const real *d = s->dqkv + row * R(bf_qkv_width)(c);
    const double square = dot(g, g, D), by = square > 0.0 ? 1.0 / square : 0.0;
    R(bf_put)(to, to->share[BF_SHARE_SKIP], 1, 0, s->l, out, j, by * dot(s->skip + row * D, g, D));
    R(bf_put)(to, to->share[BF_SHARE_MLP], 1, 0, s->l, out, j, by * dot(s->mlp + row * D, g, D));
    for (size_t h = 0; h < c->H; h++) {
        const size_t group = h / (c->H / c->G);
        const real *dk = s->heads ? s->heads + (row * 2 * c->H + h) * K : d + q + h * K;
        const real *dv = s->heads ? dk + c->H * K : d + q + (c->G + h) * K;
        R(bf_put)(to, to->share[BF_SHARE_Q], c->H, h, s->l, out, j,
                  by * dot(d + h * K, pull + h * K, K));
        R(bf_put)(to, to->share[BF_SHARE_K], c->H, h, s->l, out, j,
                  by * dot(dk, pull + q + group * K, K));
        R(bf_put)(to, to->share[BF_SHARE_V], c->H, h, s->l, out, j,
                  by * dot(dv, pull + q + (c->G + group) * K, K));
    }
}

/* Project g back up through the norm and the projections: pull = W J^T g. */
static void share_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const bf_config *c = s->c;
    const bf_tile t = R(bf_tile_of)(s, task);
    const size_t D = c->D, ld = R(bf_qkv_width)(c);
    R(bf_desk) *d = &s->desks[worker];
    for (size_t k = 0; k < t.n; k++) {
        const size_t row = t.row[k], j = s->pos[row];
        R(bf_norm_pull)(d->normed + k * D, s->g + row * D, s->a->resid_pre + j * D, s->a->mean1[j],
                        s->a->rstd1[j], s->b->norm1_w, c->norm, D);
    }
    memset(d->normed + t.n * D, 0, (t.padded - t.n) * D * sizeof *d->normed);
    for (size_t p = 0, at = 0; p < 3; at += s->b->qkv[p].out, p++) {
        const R(bf_mat) *W = &s->b->qkv[p];
        R(bf_gemm_rows)(!W->in_major, t.padded, W->out, D, d->normed, D, W->w, W->ld, false,
                        d->in + at, ld);
    }
    for (size_t k = 0; k < t.n; k++) {
        memcpy(s->pull + t.row[k] * ld, d->in + k * ld, ld * sizeof *d->in);
        share_row(s, t.row[k]);
        if (c->pos == BF_POS_ROTARY) /* for the edges, which meet keys as attention does */
            R(bf_rotate)(s->pull + t.row[k] * ld + c->H * c->K,
                         s->w->acts->cosines + s->pos[t.row[k]] * (c->rotary_dim / 2),
                         s->w->acts->sines + s->pos[t.row[k]] * (c->rotary_dim / 2), c->G, c->K,
                         c->rotary_dim / 2, c->rotary_pairs, false);
    }
}

void R(bf_paths_share)(R(bf_chunk) *s)
{
    if (s->skip)
        R(bf_run_tiles)(s, share_task);
}
