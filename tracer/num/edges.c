/* Edges: what position r's attention sent back to position j, by head and by k or v, per unit of the
 * node's gradient: <e, g_ij> / |g_ij|. By k, e is ds[r,j] times r's query brought down through W_k and
 * the norm, so <e, g> = ds[r,j] <q_r, pull_k>; by v, <e, g> = p[r,j] <dz_r, pull_v>. */
#include "tracer/num/chunk.h"

#include <stdint.h>
#include <string.h>

enum { BLOCK = 64 };

/* First edge of the beam's loss in the layer at hand. */
static size_t first_edge(const R(bf_chunk) *s, const bf_beam *b)
{
    size_t at = s->w->sink->edge_start[b->out];
    for (size_t l = s->w->lowest; l < s->l; l++)
        if (s->w->sink->layer_slot[l] != SIZE_MAX)
            at += bf_edge_count(s->c, s->w->acts->N, b->own, l);
    return at;
}

/* Where a head's edges are written next. */
typedef struct {
    const R(bf_chunk) *s;
    const bf_beam *b;
    bf_mask mask;
    R(bf_head) head;
    size_t h;
    real *to, *ds, *by_k, *by_v; /* the last three: room for [BLOCK,N] */
    real *alone;                 /* delta rule: room for [3,N,K] behind the VJP's own, which begins at ds */
} edge_pen;

static const real *pulled_key(const edge_pen *p, size_t j)
{
    const bf_config *c = p->s->c;
    return p->s->pull + (p->b->row + j - p->b->base) * R(bf_qkv_width)(c) +
           (c->H + p->h / (c->H / c->G)) * c->K;
}

/* Values of queries r0..r0+n-1 from their products: ds [n, from key k0 on], by_k and by_v [n, from key j0
 * on], rows as long as there are keys up to hi. */
static void write_block(edge_pen *p, size_t r0, size_t n, size_t k0, size_t j0, size_t hi)
{
    const bf_beam *b = p->b;
    const size_t N = p->head.N;
    for (size_t r = r0; r < r0 + n; r++) {
        const bf_span keys = bf_mask_flow(&p->mask, r, N);
        for (size_t j = bf_span_first(keys); j <= keys.hi; j = bf_span_next(keys, j)) {
            const size_t at = (r - r0) * (hi + 1 - j0) + j - j0;
            const real ds = p->ds[(r - r0) * (hi + 1 - k0) + j - k0];
            const double size = (double)p->s->size[b->row + j - b->base];
            const double by = size > 0.0 ? 1.0 / size : 0.0;
            const double met = j < bf_mask_stored(&p->mask, r)
                                   ? R(bf_memory_meeting)(&p->head, r, j, pulled_key(p, j))
                                   : (double)p->by_k[at];
            *p->to++ = (real)(by * (double)ds * met);
            *p->to++ = (real)(by * (double)p->head.pattern[r * N + j] * (double)p->by_v[at]);
        }
    }
}

/* By the delta rule r's query reads j's key and value in what later segments stored, too: the edge is all
 * that r's own VJP sends there. */
static void write_alone(edge_pen *p, size_t r)
{
    const bf_beam *b = p->b;
    const size_t N = p->head.N, K = p->head.K, rows = N * K;
    const unsigned pos = (unsigned)r;
    const R(bf_head_flow) flow = {.dk = p->alone, .dv = p->alone + rows, .dq = p->alone + 2 * rows,
                                  .dz = p->s->dz + b->row * R(bf_q_width)(p->s->c) + p->h * K,
                                  .ldz = R(bf_q_width)(p->s->c), .ldd = K, .lddq = K, .base = b->base};
    memset(p->alone, 0, 2 * rows * sizeof *p->alone);
    R(bf_attention_vjp)(&p->head, &flow, &pos, 1, p->ds, NULL);
    for (size_t j = 0; j <= r; j++) {
        const double size = (double)p->s->size[b->row + j], by = size > 0.0 ? 1.0 / size : 0.0;
        const real *pull = pulled_key(p, j);
        double norm, dot[2];
        R(bf_norm_and_dot)(&norm, &dot[0], flow.dk + j * K, pull, K);
        R(bf_norm_and_dot)(&norm, &dot[1], flow.dv + j * K, pull + p->s->c->G * K, K);
        *p->to++ = (real)(by * dot[0]);
        *p->to++ = (real)(by * dot[1]);
    }
}

/* Queries from..end-1, one after the other. */
static void write_queries(edge_pen *p, size_t from, size_t end)
{
    const R(bf_chunk) *s = p->s;
    const bf_config *c = s->c;
    const bf_beam *b = p->b;
    const size_t g = p->h / (c->H / c->G), K = c->K, ld = R(bf_qkv_width)(c), ldz = R(bf_q_width)(s->c);
    const size_t N = p->head.N;
    const bool alone = p->mask.delta && !bf_mask_cut(&p->mask, N - 1);
    for (size_t r = from; r < end && alone; r++)
        write_alone(p, r);
    for (size_t r0 = from, n; r0 < end && !alone; r0 += n) {
        unsigned pos[BLOCK];
        for (n = 0; n < BLOCK && r0 + n < end &&
                    bf_mask_stored(&p->mask, r0 + n) == bf_mask_stored(&p->mask, r0); n++)
            pos[n] = (unsigned)(r0 + n);
        const bf_span reads = bf_mask_keys(&p->mask, r0, N), last = bf_mask_keys(&p->mask, r0 + n - 1, N);
        const size_t k0 = last.sinks ? 0 : reads.lo, hi = last.hi;
        const size_t j0 = last.sinks ? 0 : bf_mask_flow(&p->mask, r0, N).lo, keys = hi + 1 - j0;
        const real *dz = s->dz + (b->row + r0 - b->base) * ldz + p->h * K;
        const real *pull = s->pull + (b->row + j0 - b->base) * ld; /* of key j0 */
        R(bf_attention_scores_vjp)(p->ds, &p->head, p->head.pattern + r0 * N + k0, N, dz, ldz, pos, n,
                                   (bf_span){0, k0, hi}, NULL, NULL);
        R(bf_gemm)(false, true, n, keys, K, 1, p->head.q + r0 * p->head.ldq, p->head.ldq,
                   pull + (c->H + g) * K, ld, false, p->by_k, keys);
        R(bf_gemm)(false, true, n, keys, K, 1, dz, ldz, pull + (c->H + c->G + g) * K, ld, false, p->by_v,
                   keys);
        write_block(p, r0, n, k0, j0, hi);
    }
}

static void edges_task(void *context, size_t task, size_t worker)
{
    R(bf_chunk) *s = context;
    const bf_config *c = s->c;
    const bf_beam *b = &s->beams[task / c->H];
    const size_t h = task % c->H, N = s->w->acts->N;
    const size_t each = bf_edge_count(c, N, b->own, s->l) / c->H;
    edge_pen p = {.s = s, .b = b, .h = h, .mask = bf_config_mask(c, s->l),
                  .head = R(bf_acts_head)(s->w->acts, c, s->l, h),
                  .to = s->w->sink->edge + first_edge(s, b) + h * each,
                  .ds = s->desks[worker].attention};
    p.by_k = p.ds + BLOCK * N;
    p.by_v = p.by_k + BLOCK * N;
    p.alone = p.ds + bf_attention_vjp_scratch(N, c->K, true);
    write_queries(&p, 0, b->above.sinks);
    write_queries(&p, b->above.lo, b->above.hi + 1);
}

void R(bf_paths_edges)(R(bf_chunk) *s)
{
    if (s->skip && s->w->sink->edge && s->w->sink->layer_slot[s->l] != SIZE_MAX)
        bf_pool_run(s->w->pool, s->n_beams * s->c->H, edges_task, s);
}
