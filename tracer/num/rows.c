#include "tracer/num/chunk.h"

#include <stdint.h>
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

static bool take_order(R(bf_chunk) *s, bf_arena *arena)
{
    s->by_pos = bf_arena_take(arena, s->rows, sizeof *s->by_pos);
    s->pos_start = bf_arena_take(arena, s->w->acts->N + 1, sizeof *s->pos_start);
    return s->by_pos && s->pos_start;
}

static bool take_fold(R(bf_chunk) *s, bf_arena *arena, size_t threads)
{
    const bf_config *c = s->c;
    bool ok = true;
    for (size_t k = 0; k < threads && ok; k++) {
        s->desks[k].jacobian = bf_arena_take(arena, c->D, c->D * sizeof(real));
        s->desks[k].scaled = bf_arena_take(arena, c->F, c->D * sizeof(real));
        ok = s->desks[k].jacobian && s->desks[k].scaled;
    }
    return ok;
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

size_t R(bf_walk_bytes)(const bf_config *c, size_t N, size_t rows, size_t part, size_t threads, bool fold,
                        bool cross, bool top, bool paths)
{
    const size_t q = R(bf_q_width)(c), kept = q + R(bf_qkv_width)(c); /* of a row of the part at hand */
    size_t width = c->D + 1;
    size_t desk_bytes = BF_TILE * (widest(c) + 2 * c->F + c->D + q) * sizeof(real) +
                        attention_room(c, N) * sizeof(real) + 10 * 64;
    if (paths)
        width += 2 * c->D + R(bf_qkv_width)(c) + (c->H == c->G ? 0 : 2 * q);
    if (fold)
        desk_bytes += (c->D + c->F) * c->D * sizeof(real);
    return rows * (width * sizeof(real) + 7 * sizeof(unsigned)) + part * kept * sizeof(real) +
           (cross ? R(bf_cross_bytes)(c, N, part) : 0) + (top ? R(bf_top_bytes)(c, part, threads) : 0) + N * (c->G * c->K * sizeof(real) + sizeof(unsigned)) + threads * (desk_bytes + sizeof(R(bf_desk))) + 24 * 64;
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
        const double size = (double)s->size[s->above.row[k]];
        largest = size > largest ? size : largest;
        sum += size;
    }
    for (size_t k = b->first; k < b->first + b->count; k++) {
        const unsigned row = s->above.row[k];
        if ((double)s->size[row] >= s->w->tolerance * largest) {
            s->above.where[*kept] = s->above.where[k];
            s->above.row[(*kept)++] = row;
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
    s->above.n = kept;
}

static bool take_list(bf_list *list, size_t rows, bf_arena *arena)
{
    list->row = bf_arena_take(arena, rows, sizeof *list->row);
    list->where = bf_arena_take(arena, rows, sizeof *list->where);
    list->n = 0;
    return list->row && list->where;
}

/* Rows of the largest part. */
static size_t part_room(R(bf_chunk) *s)
{
    size_t most = 0;
    while (R(bf_chunk_next_part)(s)) {
        size_t rows = 0;
        for (size_t b = s->part.first; b < s->part.end; b++)
            rows += bf_beam_rows(&s->beams[b]);
        most = rows > most ? rows : most;
    }
    return most;
}

bool R(bf_chunk_take)(R(bf_chunk) *s)
{
    const bf_config *c = s->c;
    bf_arena *arena = s->w->arena;
    const size_t threads = bf_pool_threads(s->w->pool), part = part_room(s);
    s->g = bf_arena_take(arena, s->rows, c->D * sizeof(real));
    s->dz = bf_arena_take(arena, part, R(bf_q_width)(c) * sizeof(real));
    s->dqkv = bf_arena_take(arena, part, R(bf_qkv_width)(c) * sizeof(real));
    s->vt = bf_arena_take(arena, c->G * c->K, s->w->acts->N * sizeof(real));
    s->pos = bf_arena_take(arena, s->rows, sizeof *s->pos);
    s->beam = bf_arena_take(arena, s->rows, sizeof *s->beam);
    s->size = bf_arena_take(arena, s->rows, sizeof *s->size);
    s->desks = bf_arena_take(arena, threads, sizeof *s->desks);
    bool ok = s->g && s->dz && s->dqkv && s->vt && s->pos && s->beam && s->size && s->desks &&
              take_list(&s->above, s->rows, arena) && take_list(&s->below, s->rows, arena);
    for (size_t k = 0; k < threads && ok; k++) {
        ok = take_desk(&s->desks[k], c, s->w->acts->N, arena);
        s->desks[k].softmax_rows = s->desks[k].key_sum = s->desks[k].key_size = 0.0;
    }
    if (ok && R(bf_paths_wanted)(s->w->sink))
        ok = R(bf_paths_take)(s);
    if (ok && (s->w->fold_below || s->w->blend))
        ok = take_order(s, arena);
    if (ok && s->w->fold_below)
        ok = take_fold(s, arena, threads);
    if (ok && s->w->cross)
        ok = R(bf_cross_take)(s, part);
    if (ok && s->w->top)
        ok = R(bf_top_take)(s, part);
    if (ok)
        number_rows(s);
    return ok;
}

bool R(bf_chunk_next_part)(R(bf_chunk) *s)
{
    if (s->part.end == s->n_beams) {
        s->part = (bf_part){0, 0, 0};
        return false;
    }
    s->part.first = s->part.end;
    s->part.row = s->beams[s->part.first].row;
    s->part.end = bf_chunk_end(s->beams, s->n_beams, s->part.first, s->w->part_rows ? s->w->part_rows : SIZE_MAX);
    return true;
}

bf_list R(bf_chunk_piece)(const R(bf_chunk) *s, bf_list list)
{
    const bf_beam *last = &s->beams[s->part.end - 1];
    const size_t first = s->beams[s->part.first].first;
    return (bf_list){list.row + first, list.where + first, last->first + last->count - first};
}

void R(bf_chunk_activate)(R(bf_chunk) *s, bf_list *list)
{
    for (size_t b = s->part.first; b < s->part.end; b++) {
        bf_beam *beam = &s->beams[b];
        beam->first = list->n;
        for (size_t j = bf_span_first(beam->at); j <= beam->at.hi; j = bf_span_next(beam->at, j)) {
            list->where[list->n] = (unsigned)j;
            list->row[list->n++] = (unsigned)(beam->row + j - beam->base);
        }
        beam->count = list->n - beam->first;
    }
    s->list = R(bf_chunk_piece)(s, *list);
}

/* Whole tiles, the same number for each thread, then what is left over in `pieces` of granules, so that no
 * thread waits for another's whole tile. A row's bits do not depend on its tile. */
typedef struct {
    size_t whole, granules, pieces;
} tiling;

static tiling tiling_of(const R(bf_chunk) *s)
{
    const size_t threads = bf_pool_threads(s->w->pool), whole = s->list.n / (BF_TILE * threads) * threads;
    const size_t granules = (s->list.n - whole * BF_TILE + BF_GRANULE - 1) / BF_GRANULE;
    return (tiling){whole, granules, granules < threads ? granules : threads};
}

/* First entry of the list that is task's or a later one's. */
static size_t tile_start(const tiling *t, size_t task)
{
    if (task <= t->whole)
        return task * BF_TILE;
    return t->whole * BF_TILE + t->granules * (task - t->whole) / t->pieces * BF_GRANULE;
}

bf_tile R(bf_tile_make)(const unsigned *row, size_t n)
{
    const size_t padded = (n + BF_GRANULE - 1) / BF_GRANULE * BF_GRANULE;
    return (bf_tile){.n = n, .padded = padded, .row = row, .together = padded == n && row[n - 1] - row[0] == n - 1};
}

bf_tile R(bf_tile_of)(const R(bf_chunk) *s, size_t task)
{
    const tiling way = tiling_of(s);
    const size_t first = tile_start(&way, task), end = tile_start(&way, task + 1);
    return R(bf_tile_make)(s->list.row + first, (end < s->list.n ? end : s->list.n) - first);
}

const real *R(bf_tile_in)(const bf_tile *t, const real *src, size_t base, size_t width, real *room)
{
    if (t->together)
        return src + (t->row[0] - base) * width;
    for (size_t k = 0; k < t->n; k++)
        memcpy(room + k * width, src + (t->row[k] - base) * width, width * sizeof *room);
    memset(room + t->n * width, 0, (t->padded - t->n) * width * sizeof *room);
    return room;
}

void R(bf_run_tiles)(R(bf_chunk) *s, bf_task *task)
{
    const tiling way = tiling_of(s);
    bf_pool_run(s->w->pool, way.whole + way.pieces, task, s);
}
