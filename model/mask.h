/* mask.h -- which keys a query reads, and through which of them gradient passes.
 *
 * One description for every kind of attention that is full, cut short, or cut off from gradients:
 *     causal          all keys up to the query's own
 *     window w        the last w of them, its own included
 *     sink s          with a window: the first s positions, too (Xiao et al. 2023, arXiv:2309.17453)
 *     segment S       its own segment causally, and the last `memory` positions before it (Dai et al.
 *                     2019, arXiv:1901.02860)
 *     compressive g   its own segment, and with weight g what a memory kept of all before it, added up or
 *                     by the delta rule (Munkhdalai et al. 2024, arXiv:2404.07143; model/num/memory.c)
 *     bidirectional   all N positions
 * and a cut, which changes no value of the forward run. Axes: i, r the query, j the key. */
#ifndef BF_MODEL_MASK_H
#define BF_MODEL_MASK_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/model.h"

typedef struct {
    size_t window;          /* 0: no limit */
    size_t sink;            /* only with a window */
    size_t segment, memory; /* segment 0: none; not with a window */
    double compressive;     /* 0, or with a segment and no memory: the part, below 1, that a memory of all
                             * earlier segments has in the answer */
    bool learnt;            /* with compressive: each head's part is a weight, and this where it began */
    bool delta;             /* with compressive: a value is stored less what its key found there */
    bool bidirectional;     /* with none of the above */
    bf_detach detach;       /* keys and values that pass no gradient; MODEL counts as NONE */
} bf_mask;

/* A set of positions: those below sinks, and lo to hi. sinks < lo, or 0. */
typedef struct {
    size_t sinks, lo, hi;
} bf_span;

static inline bool bf_span_has(bf_span s, size_t j)
{
    return j < s.sinks || (j >= s.lo && j <= s.hi);
}

static inline size_t bf_span_size(bf_span s)
{
    return s.sinks + s.hi + 1 - s.lo;
}

/* for (j = bf_span_first(s); j <= s.hi; j = bf_span_next(s, j)) visits them in order. */
static inline size_t bf_span_first(bf_span s)
{
    return s.sinks ? 0 : s.lo;
}

static inline size_t bf_span_next(bf_span s, size_t j)
{
    return j + 1 == s.sinks ? s.lo : j + 1;
}

/* The first position whose key and value pass gradient to query i's loss. */
size_t bf_mask_cut(const bf_mask *mask, size_t i);
/* The keys that query i reads out of a compressive memory: those before its segment. 0: none. */
size_t bf_mask_stored(const bf_mask *mask, size_t i);
/* The keys that query i of N positions reads; those of them that pass gradient. */
bf_span bf_mask_keys(const bf_mask *mask, size_t i, size_t N);
bf_span bf_mask_flow(const bf_mask *mask, size_t i, size_t N);
/* The positions that gradient is at below an attention when it is at `from` above it. */
bf_span bf_mask_reach(const bf_mask *mask, bf_span from, size_t N);

/* What keeps it from being a mask, or NULL: fields that do not go together. */
const char *bf_mask_fault(const bf_mask *mask);

#endif
