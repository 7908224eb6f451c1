/* What reaches queries and keys goes on to the norm before them without q's and k's products. Through their weights
 * a row r of a loss gets
 *     sum over heads of  sum_{j <= r} ds_rj (k_j W_Q)  +  sum_{q >= r} ds_qr (q_q W_K),
 * ds the cotangent of the scores: and the vectors in brackets are the same for all losses. They are made once a layer
 * (tables), and a row costs its loss's positions times H D, not two products of D x HK (docs/math.md).
 *
 * Keys are taken less their mean over positions: a row of ds adds up to 0, so that what they have in common is the
 * rounding of ds alone (of bfloat16 much more than of float).
 *
 * Positions are taken in blocks of b. The rows of block P, of all losses of the part, are multiplied with one block of
 * a table at a time: with keys of blocks 0 to P, then with queries of blocks P on. Each of these products has its own
 * panel of ds, [slots, H*b]. A loss has b slots in it, from where its beam comes among those that reach P; what is no
 * row, or no score, is 0. */
#include "tracer/num/chunk.h"

#include <string.h>

#include "base/packed.h"

/* Slots of a product are a multiple of this: so few shapes that the library's kernels are made once. */
enum { STEP = 16, WIDEST = 16, WIDTH = 48 };

size_t R(bf_cross_block)(const bf_config *c)
{
    size_t b = 4;
    while (b < WIDEST && b * c->H < WIDTH)
        b *= 2;
    return b;
}

static size_t blocks_of(const bf_config *c, size_t N)
{
    const size_t b = R(bf_cross_block)(c);
    return (N + b - 1) / b;
}

/* Values of a table; of the panels of at most so many rows. A loss of n rows, in c = ceil(n/b) blocks, has b c (c+1)
 * slots in panels: 2 b for its only row, at most c + 4 a row where there are more. */
static size_t table_size(const bf_config *c, size_t N)
{
    return blocks_of(c, N) * R(bf_cross_block)(c) * c->H * c->D;
}

static size_t panels_size(const bf_config *c, size_t N, size_t rows)
{
    const size_t b = R(bf_cross_block)(c), blocks = blocks_of(c, N), slots = 2 * b > blocks + 4 ? 2 * b : blocks + 4;
    return (rows * slots + blocks * (blocks + 1) * 2 * STEP) * b * c->H;
}

size_t R(bf_cross_bytes)(const bf_config *c, size_t N, size_t rows)
{
    const size_t blocks = blocks_of(c, N);
    return (2 * table_size(c, N) + panels_size(c, N, rows)) * sizeof(real) +
           blocks * ((blocks + 2) * sizeof(size_t) + 2 * sizeof(bf_packed *)) + 6 * 64;
}

bool R(bf_cross_take)(R(bf_chunk) *s, size_t rows)
{
    R(bf_cross) *x = &s->cross;
    const bf_config *c = s->c;
    bf_arena *arena = s->w->arena;
    const size_t N = s->w->acts->N, table = table_size(c, N);
    x->b = R(bf_cross_block)(c);
    x->blocks = blocks_of(c, N);
    x->keys = bf_arena_take(arena, table, sizeof *x->keys);
    x->queries = bf_arena_take(arena, table, sizeof *x->queries);
    x->ds = bf_arena_take(arena, panels_size(c, N, rows), sizeof *x->ds);
    x->first = bf_arena_take(arena, x->blocks, sizeof *x->first);
    x->panel = bf_arena_take(arena, x->blocks * (x->blocks + 1), sizeof *x->panel);
    x->packed = bf_arena_take(arena, 2 * x->blocks, sizeof *x->packed);
    if (!x->keys || !x->queries || !x->ds || !x->first || !x->panel || !x->packed)
        return false;
    memset(x->packed, 0, 2 * x->blocks * sizeof *x->packed);
    const size_t block = x->b * c->H * c->D; /* behind position N there stay zeros */
    memset(x->keys + table - block, 0, block * sizeof *x->keys);
    memset(x->queries + table - block, 0, block * sizeof *x->queries);
    x->part = SIZE_MAX;
    return true;
}

void R(bf_cross_end)(R(bf_chunk) *s)
{
    for (size_t k = 0; s->cross.packed && k < 2 * s->cross.blocks; k++)
        bf_packed_free(s->cross.packed[k]);
}

/* --- tables */

/* The keys', or the queries', of a block, as a weight [H*b,D]. */
static R(bf_mat) table(const R(bf_chunk) *s, bool queries, size_t block)
{
    const R(bf_cross) *x = &s->cross;
    const size_t width = x->b * s->c->H, D = s->c->D;
    return (R(bf_mat)){.w = (queries ? x->queries : x->keys) + block * width * D, .packed = x->packed[2 * block + queries],
                       .out = width, .in = D, .ld = D, .room = s->b->qkv[0].room};
}

/* Mean of a head's keys over positions. */
static void mean_key(real *mean, const R(bf_head) *head)
{
    for (size_t e = 0; e < head->K; e++) {
        double sum = 0.0;
        for (size_t p = 0; p < head->N; p++)
            sum += (double)head->k[p * head->ldk + e];
        mean[e] = (real)(sum / (double)head->N);
    }
}

/* One head's keys through W_Q, or its queries through W_K. */
static void table_task(void *context, size_t task, size_t worker)
{
    const R(bf_chunk) *s = context;
    const bf_config *c = s->c;
    const size_t h = task / 2, b = s->cross.b, D = c->D, K = c->K;
    const bool queries = task % 2;
    const R(bf_head) head = R(bf_acts_head)(s->w->acts, c, s->l, h);
    const R(bf_mat) *W = &s->b->qkv[queries];
    const size_t o = (queries ? h / (c->H / c->G) : h) * K;
    real *to = (queries ? s->cross.queries : s->cross.keys) + h * b * D;
    real *rows = s->desks[worker].normed, *in = s->desks[worker].in, *mean = in + BF_TILE * K;
    memset(mean, 0, K * sizeof *mean);
    if (!queries)
        mean_key(mean, &head);
    for (size_t p0 = 0, n; p0 < head.N; p0 += n) {
        n = head.N - p0 < BF_TILE ? head.N - p0 : BF_TILE;
        for (size_t p = p0; p < p0 + n; p++)
            for (size_t e = 0; e < K; e++)
                in[(p - p0) * K + e] = (queries ? head.q[p * head.ldq + e] : head.k[p * head.ldk + e]) - mean[e];
        R(bf_linear_part)(rows, D, in, n, W, o, K, worker);
        for (size_t p = p0; p < p0 + n; p++)
            memcpy(to + (p / b * c->H * b + p % b) * D, rows + (p - p0) * D, D * sizeof *rows);
    }
}

/* One of both tables of a block. */
static void pack_task(void *context, size_t task, size_t worker)
{
#if BF_BITS == 32
    const R(bf_chunk) *s = context;
    const R(bf_mat) m = table(s, task % 2, task / 2);
    bf_packed_fill(s->cross.packed[task], worker, m.w, m.ld, m.in_major);
#else
    (void)context, (void)task, (void)worker;
#endif
}

bf_code R(bf_cross_layer)(R(bf_chunk) *s, bf_error *err)
{
    R(bf_cross) *x = &s->cross;
    const bool half = R(bf_params_half)(s->w->params);
    bf_pool_run(s->w->pool, 2 * s->c->H, table_task, s);
    for (size_t k = 0; half && k < 2 * x->blocks; k++) {
        const bf_code rc = x->packed[k] ? BF_OK : bf_packed_new(&x->packed[k], s->b->qkv[0].room, x->b * s->c->H, s->c->D,
                                                                true, err);
        if (rc)
            return rc;
    }
    if (half)
        bf_pool_run(s->w->pool, 2 * x->blocks, pack_task, s);
    return BF_OK;
}

/* --- panels */

/* Slots of block P from which on a product takes rows: with the k-th of its tables' blocks, P + 1 of keys and then
 * those of queries, which only losses from there on have. */
static size_t panel_start(const R(bf_cross) *x, size_t P, size_t k)
{
    return k <= P ? 0 : (x->first[k - 1] - x->first[P]) * x->b / STEP * STEP;
}

static size_t panel_end(const R(bf_chunk) *s, size_t P)
{
    return ((s->part.end - s->cross.first[P]) * s->cross.b + STEP - 1) / STEP * STEP;
}

void R(bf_cross_part)(R(bf_chunk) *s)
{
    R(bf_cross) *x = &s->cross;
    size_t size = 0;
    if (x->part == s->part.first) /* laid out the same; what is 0 in one layer is in all */
        return;
    x->part = s->part.first;
    x->used = s->beams[s->part.end - 1].own / x->b + 1;
    for (size_t P = 0, k = s->part.first; P < x->used; P++) {
        while (s->beams[k].own < P * x->b)
            k++;
        x->first[P] = k;
    }
    for (size_t P = 0; P < x->used; P++)
        for (size_t k = 0; k <= x->used; k++) {
            x->panel[P * (x->blocks + 1) + k] = size;
            size += (panel_end(s, P) - panel_start(x, P, k)) * x->b * s->c->H;
        }
    memset(x->ds, 0, size * sizeof *x->ds);
}

/* Where head h of beam k stands in panel (P,n): b rows of b values. */
static inline real *place(const R(bf_head_at) *at, size_t P, size_t n)
{
    const R(bf_cross) *x = &at->chunk->cross;
    const size_t slot = (at->beam - x->first[P]) * x->b - panel_start(x, P, n);
    return x->ds + x->panel[P * (x->blocks + 1) + n] + slot * x->b * at->chunk->c->H + at->h * x->b;
}

static inline __attribute__((always_inline)) void spread(const R(bf_head_at) *at, const real *ds, size_t ld,
                                                         size_t r0, size_t n, size_t b)
{
    const size_t width = b * at->chunk->c->H;
    real tile[WIDEST * WIDEST];
    for (size_t q = r0; q < r0 + n; q += b)
        for (size_t j = 0; j <= q; j += b) {
            const size_t rows = r0 + n - q < b ? r0 + n - q : b, cols = ld - j < b ? ld - j : b;
            const real *from = ds + (q - r0) * ld + j;
            size_t ldf = ld;
            if (rows < b || cols < b) {
                memset(tile, 0, sizeof tile);
                for (size_t u = 0; u < rows; u++)
                    memcpy(tile + u * b, from + u * ld, cols * sizeof *tile);
                from = tile;
                ldf = b;
            }
            real *of_queries = place(at, q / b, j / b), *of_keys = place(at, j / b, q / b + 1);
            for (size_t u = 0; u < b; u++)
                memcpy(of_queries + u * width, from + u * ldf, b * sizeof *tile);
            for (size_t v = 0; v < b; v++)
                for (size_t u = 0; u < b; u++)
                    of_keys[v * width + u] = from[u * ldf + v];
        }
}

BF_HOT void R(bf_cross_scores)(void *context, const real *ds, size_t ld, size_t r0, size_t n)
{
    const R(bf_head_at) *at = context;
    if (at->chunk->cross.b == 4)
        spread(at, ds, ld, r0, n, 4);
    else
        spread(at, ds, ld, r0, n, at->chunk->cross.b);
}

/* --- rows */

/* Some slots of a block. */
typedef struct {
    size_t P, from, end;
} span;

static size_t spans_of(const R(bf_chunk) *s, size_t P)
{
    return (panel_end(s, P) + BF_TILE - 1) / BF_TILE;
}

static span span_of(const R(bf_chunk) *s, size_t task)
{
    size_t P = 0;
    for (; task >= spans_of(s, P); P++)
        task -= spans_of(s, P);
    const size_t end = panel_end(s, P), n = spans_of(s, P), steps = end / STEP;
    return (span){P, steps * task / n * STEP, steps * (task + 1) / n * STEP};
}

/* The chunk's row in a slot of block P, or SIZE_MAX. */
static size_t row_at(const R(bf_chunk) *s, size_t P, size_t slot)
{
    const size_t b = s->cross.b, k = s->cross.first[P] + slot / b, r = P * b + slot % b;
    return k < s->part.end && r <= s->beams[k].own ? s->beams[k].row + r : SIZE_MAX;
}

/* Values through W_V, as they are. */
static void from_values(const R(bf_chunk) *s, span at, size_t worker)
{
    const bf_config *c = s->c;
    const size_t ld = R(bf_qkv_width)(c), v = (c->H + c->G) * c->K, width = c->G * c->K;
    R(bf_desk) *d = &s->desks[worker];
    for (size_t t = at.from; t < at.end; t++) {
        const size_t row = row_at(s, at.P, t);
        real *to = d->in + (t - at.from) * width;
        if (row == SIZE_MAX)
            memset(to, 0, width * sizeof *to);
        else
            memcpy(to, s->dqkv + (row - s->part.row) * ld + v, width * sizeof *to);
    }
    R(bf_linear_vjp)(d->normed, d->in, width, at.end - at.from, &s->b->qkv[2], false, worker);
}

static void from_scores(const R(bf_chunk) *s, span at, size_t worker)
{
    const R(bf_cross) *x = &s->cross;
    const size_t width = x->b * s->c->H;
    for (size_t k = 0; k <= x->used; k++) {
        const size_t start = panel_start(x, at.P, k), from = start > at.from ? start : at.from;
        const real *ds = x->ds + x->panel[at.P * (x->blocks + 1) + k];
        const R(bf_mat) m = k <= at.P ? table(s, false, k) : table(s, true, k - 1);
        if (from < at.end)
            R(bf_linear_vjp)(s->desks[worker].normed + (from - at.from) * s->c->D, ds + (from - start) * width, width,
                             at.end - from, &m, true, worker);
    }
}

static void span_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const span at = span_of(s, task);
    for (size_t t = at.from; t < at.end; t++)
        if (row_at(s, at.P, t) != SIZE_MAX)
            R(bf_qkv_above)(s, row_at(s, at.P, t));
    from_values(s, at, worker);
    from_scores(s, at, worker);
    for (size_t t = at.from; t < at.end; t++)
        if (row_at(s, at.P, t) != SIZE_MAX)
            R(bf_qkv_below)(s, row_at(s, at.P, t), s->desks[worker].normed + (t - at.from) * s->c->D);
}

void R(bf_cross_rows)(R(bf_chunk) *s)
{
    size_t tasks = 0;
    for (size_t P = 0; P < s->cross.used; P++)
        tasks += spans_of(s, P);
    bf_pool_run(s->w->pool, tasks, span_task, s);
}
