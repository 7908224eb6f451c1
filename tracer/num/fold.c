/* The fold: all rows of one position pass the same MLP, so from some number of rows on it is cheaper to
 * form its Jacobian, W_out diag(slope_j) W_in [D,D], and to multiply by that (docs/performance.md). */
#include "tracer/num/chunk.h"

#include <string.h>

/* Rows of the list at hand, position by position (a counting sort, stable). */
static void sort_by_position(R(bf_chunk) *s)
{
    const size_t N = s->w->acts->N;
    memset(s->pos_start, 0, (N + 1) * sizeof *s->pos_start);
    for (size_t k = 0; k < s->list.n; k++)
        s->pos_start[s->list.where[k] + 1]++;
    for (size_t j = 0; j < N; j++)
        s->pos_start[j + 1] += s->pos_start[j];
    for (size_t k = 0; k < s->list.n; k++)
        s->by_pos[s->pos_start[s->list.where[k]]++] = s->list.row[k];
    memmove(s->pos_start + 1, s->pos_start, N * sizeof *s->pos_start);
    s->pos_start[0] = 0;
}

/* to = diag(by) W (+ what it holds), W [F,D] kept as it is: [D,F] if in_major. */
BF_HOT static void scale_hidden(real *to, const R(bf_mat) *W, const real *by, bool add)
{
    const size_t rows = W->in_major ? W->in : W->out, columns = W->in_major ? W->out : W->in;
    for (size_t r = 0; r < rows; r++, to += columns) {
        const real *w = W->w + r * W->ld;
        for (size_t k = 0; k < columns; k++)
            to[k] = w[k] * (W->in_major ? by[k] : by[r]) + (add ? to[k] : 0);
    }
}

/* W_out diag(slope_j) W_in; of a gated MLP W_out (diag(gain_j) W_in + diag(slope_j) W_gate). */
static void form_jacobian(const R(bf_chunk) *s, size_t j, size_t worker)
{
    const size_t D = s->c->D, F = s->c->F;
    const R(bf_mat) *out = &s->b->mlp_out, *in = &s->b->mlp_in;
    const R(bf_desk) *d = &s->desks[worker];
    const real *slope = s->a->slope + j * F;
    scale_hidden(d->scaled, in, s->c->gated ? s->a->gain + j * F : slope, false);
    if (s->c->gated)
        scale_hidden(d->scaled, &s->b->mlp_gate, slope, true);
    R(bf_product)(out, worker, out->in_major, in->in_major, D, D, F, out->w, out->ld, d->scaled,
                  in->in_major ? F : D, false, d->jacobian, D);
}

static void fold_task(void *context, size_t j, size_t worker)
{
    R(bf_chunk) *s = context;
    const R(bf_desk) *d = &s->desks[worker];
    const R(bf_mat) jacobian = {.w = d->jacobian, .out = s->c->D, .in = s->c->D, .ld = s->c->D, .room = s->b->mlp_out.room};
    const size_t D = s->c->D, end = s->pos_start[j + 1];
    if (s->pos_start[j] == end)
        return;
    form_jacobian(s, j, worker);
    for (size_t first = s->pos_start[j]; first < end; first += BF_TILE) {
        const bf_tile t = R(bf_tile_make)(s->by_pos + first, end - first < BF_TILE ? end - first : BF_TILE);
        for (size_t k = 0; k < t.n; k++)
            R(bf_mlp_above)(s, t.row[k]);
        const real *g = R(bf_tile_in)(&t, s->g, 0, D, d->in);
        R(bf_linear_vjp)(d->normed, g, D, t.padded, &jacobian, false, worker);
        for (size_t k = 0; k < t.n; k++)
            R(bf_mlp_below)(s, t.row[k], d->normed + k * D);
        R(bf_paths_mlp)(s, &t);
    }
}

void R(bf_chunk_fold)(R(bf_chunk) *s)
{
    const size_t below = s->w->fold_below;
    sort_by_position(s);
    bf_pool_run(s->w->pool, below, fold_task, s);
    s->list = (bf_list){s->by_pos + s->pos_start[below], NULL, s->list.n - s->pos_start[below]};
}
