#include "tracer/num/chunk.h"

#include <string.h>

/* Positions one task sums: always in the order of the losses. */
enum { SUM_POSITIONS = 8 };

static void sums_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const R(bf_chunk) *s = context;
    const size_t D = s->c->D, N = s->w->acts->N, end = (task + 1) * SUM_POSITIONS;
    for (size_t j = task * SUM_POSITIONS; j < (end < N ? end : N); j++) {
        double *future = s->w->sums.future + (s->l * N + j) * D;
        for (size_t b = 0; b < s->n_beams; b++) {
            const bf_beam *beam = &s->beams[b];
            if (j < beam->base || j > beam->hi)
                continue;
            const real *g = s->g + (beam->row + j - beam->base) * D;
            if (j == beam->own)
                memcpy(s->w->sums.own + (s->l * N + j) * D, g, D * sizeof *g);
            else
                for (size_t d = 0; d < D; d++)
                    future[d] += (double)g[d];
        }
    }
}

void R(bf_chunk_sums)(R(bf_chunk) *s)
{
    if (s->w->sums.future)
        bf_pool_run(s->w->pool, (s->w->acts->N + SUM_POSITIONS - 1) / SUM_POSITIONS, sums_task, s);
}

#if BF_BITS == 32
static const size_t band_from[BF_BANDS] = {0, 1, 2, 4, 8, 16, 32};

size_t bf_band_of(size_t lag)
{
    size_t band = 0;
    while (band + 1 < BF_BANDS && lag >= band_from[band + 1])
        band++;
    return band;
}
#endif

typedef struct {
    const R(bf_chunk) *chunk;
    double *sums;
    const real *rows;
    size_t width;
} band_job;

static void bands_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const band_job *job = context;
    const R(bf_chunk) *s = job->chunk;
    const size_t N = s->w->acts->N, end = (task + 1) * SUM_POSITIONS;
    for (size_t j = task * SUM_POSITIONS; j < (end < N ? end : N); j++)
        for (size_t b = 0; b < s->n_beams; b++) {
            const bf_beam *beam = &s->beams[b];
            if (!bf_span_has(beam->at, j))
                continue;
            const size_t band = bf_band_of(j > beam->own ? j - beam->own : beam->own - j);
            double *sum = job->sums + ((s->l * BF_BANDS + band) * N + j) * job->width;
            const real *row = job->rows + (beam->row + j - beam->base) * job->width;
            for (size_t d = 0; d < job->width; d++)
                sum[d] += (double)row[d];
        }
}

void R(bf_chunk_bands)(R(bf_chunk) *s, double *sums, const real *rows, size_t width)
{
    band_job job = {s, sums, rows, width};
    if (sums)
        bf_pool_run(s->w->pool, (s->w->acts->N + SUM_POSITIONS - 1) / SUM_POSITIONS, bands_task, &job);
}

static void probe_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const R(bf_chunk) *s = context;
    const bf_beam *b = &s->beams[task];
    const size_t D = s->c->D;
    const real *u = s->w->probe.direction[s->l];
    const size_t at = s->l * s->w->sink->losses + b->out;
    double sum = 0.0, squares = 0.0;
    for (size_t j = b->base; j <= b->hi; j++)
        for (size_t d = 0; d < D; d++) {
            const double g = (double)s->g[(b->row + j - b->base) * D + d];
            sum += g * (double)u[j * D + d];
            squares += g * g;
        }
    s->w->probe.derivative[at] += sum;
    s->w->probe.squares[at] += squares;
}

void R(bf_chunk_probe)(R(bf_chunk) *s)
{
    if (s->w->probe.direction && s->w->probe.direction[s->l])
        bf_pool_run(s->w->pool, s->n_beams, probe_task, s);
}
