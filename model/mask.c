#include "model/mask.h"

/* Positions below sinks and from lo on, which may meet. */
static bf_span joined(size_t sinks, size_t lo, size_t hi)
{
    return sinks >= lo ? (bf_span){0, 0, hi} : (bf_span){sinks, lo, hi};
}

size_t bf_mask_cut(const bf_mask *m, size_t i)
{
    if (m->detach == BF_DETACH_MYOPIC)
        return i;
    return m->detach == BF_DETACH_MEMORY && m->segment ? i / m->segment * m->segment : 0;
}

size_t bf_mask_stored(const bf_mask *m, size_t i)
{
    return m->compressive > 0.0 ? i / m->segment * m->segment : 0;
}

bf_span bf_mask_keys(const bf_mask *m, size_t i, size_t N)
{
    if (m->bidirectional)
        return (bf_span){0, 0, N - 1};
    if (m->compressive > 0.0)
        return (bf_span){0, 0, i};
    if (m->segment) {
        const size_t start = i / m->segment * m->segment;
        return (bf_span){0, start > m->memory ? start - m->memory : 0, i};
    }
    return joined(m->sink, m->window && i + 1 > m->window ? i + 1 - m->window : 0, i);
}

bf_span bf_mask_flow(const bf_mask *m, size_t i, size_t N)
{
    const bf_span keys = bf_mask_keys(m, i, N);
    const size_t cut = bf_mask_cut(m, i);
    return cut > keys.lo ? (bf_span){0, cut, keys.hi} : keys;
}

/* The first key never falls as i grows, and each query passes its own: no gap between lo and hi. */
bf_span bf_mask_reach(const bf_mask *m, bf_span from, size_t N)
{
    const bf_span low = bf_mask_flow(m, from.lo, N), high = bf_mask_flow(m, from.hi, N);
    return joined(from.sinks > high.sinks ? from.sinks : high.sinks, low.lo, high.hi);
}

const char *bf_mask_fault(const bf_mask *m)
{
    if (m->sink && !m->window)
        return "\"sink\" without \"window\": every key is read as it is";
    if (m->memory && !m->segment)
        return "\"memory\" without \"segment\"";
    if (m->segment && m->window)
        return "\"window\" and \"segment\" together";
    if (m->bidirectional && (m->window || m->segment))
        return "\"bidirectional\" together with \"window\" or \"segment\"";
    if (m->compressive > 0.0 && (!m->segment || m->memory))
        return "\"compressive\" without \"segment\", or with \"memory\"";
    if ((m->learnt || m->delta) && !(m->compressive > 0.0))
        return "\"gate\" or \"update\" without \"compressive\"";
    if (m->detach == BF_DETACH_MEMORY && !m->memory && !(m->compressive > 0.0))
        return "\"detach\" is \"memory\" without \"memory\" or \"compressive\"";
    if (m->bidirectional && m->detach == BF_DETACH_MYOPIC)
        return "\"detach\" is \"myopic\", which says nothing of a bidirectional model";
    return NULL;
}
