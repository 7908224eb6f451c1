#include "tracer/num/chunk.h"

#include <string.h>

size_t R(bf_q_width)(const bf_config *c)
{
    return c->H * c->K;
}

size_t R(bf_qkv_width)(const bf_config *c)
{
    return (c->H + 2 * c->G) * c->K;
}

static size_t widest(const bf_config *c)
{
    return c->D > R(bf_qkv_width)(c) ? c->D : R(bf_qkv_width)(c);
}

size_t R(bf_dz_width)(const R(bf_walk) *walk)
{
    const size_t q = R(bf_q_width)(walk->c);
    return walk->fold_below && walk->c->D > q ? walk->c->D : q;
}

static bool take_fold(R(bf_chunk) *s, bf_arena *arena, size_t threads)
{
    const bf_config *c = s->c;
    bool ok = true;
    s->by_pos = bf_arena_take(arena, s->rows, sizeof *s->by_pos);
    s->pos_start = bf_arena_take(arena, s->w->acts->N + 1, sizeof *s->pos_start);
    for (size_t k = 0; k < threads && ok; k++) {
        s->desks[k].jacobian = bf_arena_take(arena, c->D, c->D * sizeof(real));
        s->desks[k].scaled = bf_arena_take(arena, c->F, c->D * sizeof(real));
        ok = s->desks[k].jacobian && s->desks[k].scaled;
    }
    return ok && s->by_pos && s->pos_start;
}

/* Values of a desk's room for attention: its VJP, and with the delta rule one query's own (edges.c). */
static size_t attention_room(const bf_config *c, size_t N)
{
    const bool delta = bf_config_delta(c);
    return bf_attention_vjp_scratch(N, c->K, delta) + (delta ? 3 * N * c->K : 0);
}

static bool take_desk(R(bf_desk) *d, const bf_config *c, size_t N, bf_arena *arena)
{
    d->in = bf_arena_take(arena, BF_TILE, widest(c) * sizeof(real));
    d->hidden = bf_arena_take(arena, BF_TILE, c->F * sizeof(real));
    d->gate = c->gated ? bf_arena_take(arena, BF_TILE, c->F * sizeof(real)) : d->hidden;
    d->normed = bf_arena_take(arena, BF_TILE, c->D * sizeof(real));
    d->out = bf_arena_take(arena, BF_TILE, R(bf_q_width)(c) * sizeof(real));
    d->attention = bf_arena_take(arena, attention_room(c, N), sizeof(real));
    return d->in && d->hidden && d->gate && d->normed && d->out && d->attention;
}

size_t R(bf_walk_bytes)(const bf_config *c, size_t N, size_t rows, size_t threads, bool fold,
                        bool paths)
{
    const size_t q = R(bf_q_width)(c), dz = fold && c->D > q ? c->D : q;
    size_t width = c->D + dz + R(bf_qkv_width)(c) + 1;
    size_t desk_bytes = BF_TILE * (widest(c) + 2 * c->F + c->D + q) * sizeof(real) +
                        attention_room(c, N) * sizeof(real) + 10 * 64;
    if (paths)
        width += 2 * c->D + R(bf_qkv_width)(c) + (c->H == c->G ? 0 : 2 * q);
    if (fold)
        desk_bytes += (c->D + c->F) * c->D * sizeof(real);
    return rows * (width * sizeof(real) + 5 * sizeof(unsigned)) + N * sizeof(unsigned) +
           threads * (desk_bytes + sizeof(R(bf_desk))) + 20 * 64;
}

static void number_rows(R(bf_chunk) *s)
{
    for (size_t b = 0, row = 0; b < s->n_beams; b++) {
        bf_beam *beam = &s->beams[b];
        beam->row = row;
        for (size_t j = beam->base; j <= beam->hi; j++, row++) {
            s->pos[row] = (unsigned)j;
            s->beam[row] = (unsigned)b;
        }
    }
}

static void prune_beam(R(bf_chunk) *s, bf_beam *b, size_t *kept)
{
    const size_t D = s->c->D, first = *kept;
    double largest = 0.0, sum = 0.0, dropped = 0.0;
    for (size_t k = b->first; k < b->first + b->count; k++) {
        const double size = (double)s->size[s->active[k]];
        largest = size > largest ? size : largest;
        sum += size;
    }
    for (size_t k = b->first; k < b->first + b->count; k++) {
        const unsigned row = s->active[k];
        if ((double)s->size[row] >= s->w->tolerance * largest) {
            s->where[*kept] = s->where[k];
            s->active[(*kept)++] = row;
        } else {
            dropped += (double)s->size[row];
            memset(s->g + row * D, 0, D * sizeof *s->g);
        }
    }
    b->first = first;
    b->count = *kept - first;
    if (sum > 0.0)
        s->w->dropped[b->out] += dropped / sum;
}

void R(bf_chunk_prune)(R(bf_chunk) *s)
{
    size_t kept = 0;
    for (size_t b = 0; b < s->n_beams; b++)
        prune_beam(s, &s->beams[b], &kept);
    s->n_active = kept;
}

bool R(bf_chunk_take)(R(bf_chunk) *s)
{
    const bf_config *c = s->c;
    bf_arena *arena = s->w->arena;
    const size_t threads = bf_pool_threads(s->w->pool);
    s->g = bf_arena_take(arena, s->rows, c->D * sizeof(real));
    s->dz = bf_arena_take(arena, s->rows, R(bf_dz_width)(s->w) * sizeof(real));
    s->dqkv = bf_arena_take(arena, s->rows, R(bf_qkv_width)(c) * sizeof(real));
    s->pos = bf_arena_take(arena, s->rows, sizeof *s->pos);
    s->beam = bf_arena_take(arena, s->rows, sizeof *s->beam);
    s->active = bf_arena_take(arena, s->rows, sizeof *s->active);
    s->where = bf_arena_take(arena, s->rows, sizeof *s->where);
    s->size = bf_arena_take(arena, s->rows, sizeof *s->size);
    s->desks = bf_arena_take(arena, threads, sizeof *s->desks);
    bool ok = s->g && s->dz && s->dqkv && s->pos && s->beam && s->active && s->where && s->size && s->desks;
    for (size_t k = 0; k < threads && ok; k++) {
        ok = take_desk(&s->desks[k], c, s->w->acts->N, arena);
        s->desks[k].softmax_rows = s->desks[k].key_sum = s->desks[k].key_size = 0.0;
    }
    if (ok && R(bf_paths_wanted)(s->w->sink))
        ok = R(bf_paths_take)(s);
    if (ok && s->w->fold_below)
        ok = take_fold(s, arena, threads);
    if (ok)
        number_rows(s);
    return ok;
}

void R(bf_chunk_activate)(R(bf_chunk) *s)
{
    s->n_active = 0;
    for (size_t b = 0; b < s->n_beams; b++) {
        bf_beam *beam = &s->beams[b];
        beam->first = s->n_active;
        for (size_t j = bf_span_first(beam->at); j <= beam->at.hi; j = bf_span_next(beam->at, j)) {
            s->where[s->n_active] = (unsigned)j;
            s->active[s->n_active++] = (unsigned)(beam->row + j - beam->base);
        }
        beam->count = s->n_active - beam->first;
    }
}

bf_tile R(bf_tile_of)(const R(bf_chunk) *s, size_t task)
{
    bf_tile t = {.first = task * BF_TILE};
    t.n = s->n_active - t.first < BF_TILE ? s->n_active - t.first : BF_TILE;
    t.padded = (t.n + BF_GRANULE - 1) / BF_GRANULE * BF_GRANULE;
    t.row = s->active + t.first;
    t.together = t.padded == t.n && t.row[t.n - 1] - t.row[0] == t.n - 1;
    return t;
}

const real *R(bf_tile_in)(const bf_tile *t, const real *src, size_t width, real *room)
{
    if (t->together)
        return src + t->row[0] * width;
    for (size_t k = 0; k < t->n; k++)
        memcpy(room + k * width, src + t->row[k] * width, width * sizeof *room);
    memset(room + t->n * width, 0, (t->padded - t->n) * width * sizeof *room);
    return room;
}

void R(bf_run_tiles)(R(bf_chunk) *s, bf_task *task)
{
    bf_pool_run(s->w->pool, (s->n_active + BF_TILE - 1) / BF_TILE, task, s);
}
