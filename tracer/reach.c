/* Where can a loss arrive? Sets of positions, layer by layer, from the masks alone. */
#include "tracer/num/walk.h"

bf_span bf_walk_span(const bf_config *c, size_t N, bf_span from, size_t lowest)
{
    for (size_t l = c->L; l-- > lowest;) {
        const bf_mask mask = bf_config_mask(c, l);
        from = bf_mask_reach(&mask, from, N);
    }
    return from;
}

bf_beam bf_beam_make(const bf_config *c, size_t N, size_t out, size_t lo, size_t own, size_t lowest)
{
    const bf_span all = bf_walk_span(c, N, (bf_span){0, lo, own}, lowest);
    return (bf_beam){.out = out, .lo = lo, .own = own, .base = all.sinks ? 0 : all.lo, .hi = all.hi};
}

size_t bf_beam_rows(const bf_beam *beam)
{
    return beam->hi + 1 - beam->base;
}

/* Pairs (r,j) that these queries make in layer l. */
static size_t pairs_of(const bf_config *c, size_t N, bf_span queries, size_t l)
{
    const bf_mask mask = bf_config_mask(c, l);
    size_t n = 0;
    for (size_t r = bf_span_first(queries); r <= queries.hi; r = bf_span_next(queries, r))
        n += bf_span_size(bf_mask_flow(&mask, r, N));
    return n;
}

size_t bf_edge_count(const bf_config *c, size_t N, size_t i, size_t l)
{
    return 2 * c->H * pairs_of(c, N, bf_walk_span(c, N, (bf_span){0, i, i}, l + 1), l);
}

size_t bf_chunk_end(const bf_beam *beams, size_t n, size_t first, size_t most)
{
    size_t rows = 0, end = first;
    while (end < n) {
        rows += bf_beam_rows(&beams[end]);
        if (rows > most && end > first)
            break;
        end++;
    }
    return end;
}
