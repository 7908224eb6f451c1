#include "tracer/num/walk.h"

#include <math.h>
#include <stdint.h>

/* Place of (layer, head, loss, position) in a site's tensor; resid_final has no layer axis. */
static size_t place(const R(bf_sink) *s, size_t slot, size_t heads, size_t h, size_t out, size_t pos)
{
    return ((slot * heads + h) * s->losses + out) * s->N + pos;
}

double R(bf_score)(const R(bf_sink) *s, unsigned site, size_t heads, size_t layer, size_t out,
                   size_t pos, const real *g, const real *a, size_t width)
{
    const size_t slot = site == BF_SITE_RESID_FINAL ? 0 : s->layer_slot[layer];
    unsigned k = 0;
    while ((1u << k) != site)
        k++;
    double norm = 0.0, dot = 0.0;
    if (slot == SIZE_MAX || (!s->norm[k] && !s->dot[k])) {
        if (site == BF_SITE_RESID_PRE)
            R(bf_norm_and_dot)(&norm, &dot, g, a, width);
        return norm;
    }
    for (size_t h = 0; h < heads; h++) {
        R(bf_norm_and_dot)(&norm, &dot, g + h * width, a + h * width, width);
        const size_t at = place(s, slot, heads, h, out, pos);
        if (s->norm[k])
            s->norm[k][at] = s->squares ? (real)hypot((double)s->norm[k][at], norm) : (real)norm;
        if (s->dot[k])
            s->dot[k][at] = (real)dot;
    }
    return norm;
}

void R(bf_put)(const R(bf_sink) *s, real *data, size_t heads, size_t h, size_t layer, size_t out,
               size_t pos, double value)
{
    const size_t slot = s->layer_slot[layer];
    if (data && slot != SIZE_MAX)
        data[place(s, slot, heads, h, out, pos)] = (real)value;
}
