/* The top layer's k and v. Below its attention a loss has rows for all keys, but one query, its own: so a row j gets
 *     sum over heads of  ds_j (q W_K) + p_j (dz W_V),
 * in 2 H vectors that its loss's rows have in common: made once a loss, and a row costs 2 H D, not 2 D GK. */
#include "tracer/num/chunk.h"

#include <string.h>

/* Losses whose vectors are made at once; rows of a product are a multiple of STEP. */
enum { GROUP = 16, STEP = 16 };

size_t R(bf_top_bytes)(const bf_config *c, size_t rows, size_t threads)
{
    return 2 * c->H * ((rows + STEP) + threads * GROUP * c->D) * sizeof(real) + (threads + 1) * 64;
}

bool R(bf_top_take)(R(bf_chunk) *s, size_t rows)
{
    bf_arena *arena = s->w->arena;
    s->top = bf_arena_take(arena, rows + STEP, 2 * s->c->H * sizeof *s->top);
    bool ok = s->top;
    for (size_t k = 0; k < bf_pool_threads(s->w->pool) && ok; k++) {
        s->desks[k].vectors = bf_arena_take(arena, GROUP * 2 * s->c->H, s->c->D * sizeof(real));
        ok = s->desks[k].vectors;
    }
    return ok;
}

void R(bf_top_scores)(void *context, const real *ds, size_t ld, size_t r, size_t n)
{
    (void)n;
    const R(bf_head_at) *at = context;
    const R(bf_chunk) *s = at->chunk;
    const size_t H = s->c->H;
    const R(bf_head) head = R(bf_acts_head)(s->w->acts, s->c, s->l, at->h);
    real *to = s->top + (s->beams[at->beam].row - s->part.row) * 2 * H + at->h;
    for (size_t j = 0; j < ld; j++, to += 2 * H) {
        to[0] = ds[j];
        to[H] = head.pattern[r * head.N + j];
    }
}

/* One head's q W_K, or dz W_V, of n beams: rows of `to` 2 H D apart. */
static void vectors(const R(bf_chunk) *s, size_t h, bool values, size_t first, size_t n, real *to, size_t worker)
{
    const bf_config *c = s->c;
    const size_t K = c->K, o = h / (c->H / c->G) * K, width = R(bf_q_width)(c);
    const R(bf_mat) *W = &s->b->qkv[values ? 2 : 1];
    const R(bf_head) head = R(bf_acts_head)(s->w->acts, c, s->l, h);
    real *in = s->desks[worker].in;
    for (size_t k = 0; k < n; k++) {
        const bf_beam *b = &s->beams[first + k];
        const real *dz = s->dz + (b->row + b->own - b->base - s->part.row) * width + h * K;
        memcpy(in + k * K, values ? dz : head.q + b->own * head.ldq, K * sizeof *in);
    }
    memset(in + n * K, 0, (GROUP - n) * K * sizeof *in); /* always as many, so that bits do not depend on the group */
    R(bf_linear_part)(to, 2 * c->H * c->D, in, GROUP, W, o, K, worker);
}

/* The rows of one beam, by its vectors. */
static void beam_rows(R(bf_chunk) *s, const bf_beam *b, const real *v, size_t worker)
{
    const size_t width = 2 * s->c->H, D = s->c->D, rows = bf_beam_rows(b);
    const R(bf_mat) m = {.w = v, .out = width, .in = D, .ld = D, .room = s->b->qkv[1].room};
    for (size_t r0 = 0; r0 < rows; r0 += BF_TILE) {
        const size_t n = rows - r0 < BF_TILE ? rows - r0 : BF_TILE, row = b->row + r0;
        for (size_t k = 0; k < n; k++)
            R(bf_qkv_above)(s, row + k);
        R(bf_linear_vjp)(s->desks[worker].normed, s->top + (row - s->part.row) * width, width,
                         (n + STEP - 1) / STEP * STEP, &m, false, worker);
        for (size_t k = 0; k < n; k++)
            R(bf_qkv_below)(s, row + k, s->desks[worker].normed + k * D);
    }
}

/* The longest beams first. */
static void group_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const size_t H = s->c->H, D = s->c->D, end = s->part.end - task * GROUP, left = end - s->part.first;
    const size_t n = left < GROUP ? left : GROUP, first = end - n;
    real *v = s->desks[worker].vectors;
    for (size_t h = 0; h < 2 * H; h++)
        vectors(s, h % H, h >= H, first, n, v + h * D, worker);
    for (size_t k = n; k-- > 0;)
        beam_rows(s, &s->beams[first + k], v + k * 2 * H * D, worker);
}

void R(bf_top_rows)(R(bf_chunk) *s)
{
    bf_pool_run(s->w->pool, (s->part.end - s->part.first + GROUP - 1) / GROUP, group_task, s);
}
