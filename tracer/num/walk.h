/* walk.h -- many losses back through one forward run, at once.
 *
 * A *beam* is what is walked back: one loss, or a sum of neighbouring ones. It holds a row of width D
 * for every position it can reach; the rows of a *chunk* of beams stand one after the other, so that
 * each weight is applied to all of them in one product. Above a layer's attention only the rows that
 * the beam has already reached are *active*. */
#ifndef BF_TRACER_NUM_WALK_H
#define BF_TRACER_NUM_WALK_H

#include <stdbool.h>

#include "backflow/tracer.h"
#include "base/real.h"
#include "model/num/forward.h"

enum { BF_SITES = 9, BF_TILE = 240 };
/* Paths into resid_pre; weights whose gradient norms are recorded. Names in tracer/specs.c. */
enum { BF_SHARE_SKIP, BF_SHARE_MLP, BF_SHARE_Q, BF_SHARE_K, BF_SHARE_V, BF_SHARES };
enum { BF_PARAM_Q, BF_PARAM_K, BF_PARAM_V, BF_PARAM_O, BF_PARAM_MLP_IN, BF_PARAM_MLP_GATE,
       BF_PARAM_MLP_OUT, BF_PARAMS };

/* Where scores go: for each site a base pointer or NULL, laid out as in docs/record-format.md. */
typedef struct {
    real *norm[BF_SITES], *dot[BF_SITES];
    real *share[BF_SHARES], *param[BF_PARAMS]; /* or NULL */
    real *edge;                                 /* edge.value, or NULL */
    const size_t *edge_start;                   /* [losses] first edge of each loss */
    const size_t *layer_slot; /* [L] place on the record's layer axis, SIZE_MAX: not recorded */
    size_t losses, N;
    bool squares; /* norm holds the root of a sum of squares: add to it, instead of writing */
} R(bf_sink);

typedef struct {
    size_t out;    /* place on the record's loss axis */
    size_t lo, own;  /* positions whose losses are summed, inclusive */
    size_t base, hi; /* lowest and highest position it can reach: it has a row for each between */
    bf_span at;      /* where it is: the positions that are active */
    bf_span above;   /* the same above the attention of the layer at hand */
    size_t row;      /* row of position base in the chunk */
    size_t first, count; /* its part of the active list */
} bf_beam;

/* Bands of lag i - j: 0 (own), 1, 2-3, 4-7, 8-15, 16-31, 32 and more. */
enum { BF_BANDS = 7 };
size_t bf_band_of(size_t lag);

/* Cotangents summed over losses, by band of lag: [L][BF_BANDS][N][width]; NULL: not wanted. What enters
 * the MLP's output, what enters attention's, and what leaves the projections (docs/math.md). */
typedef struct {
    double *mlp_out, *attn_out, *qkv;
} R(bf_band_sums);

/* Sums over losses, for own and future; any pointer may be NULL. [L+1,N,D], row L is resid_final. */
typedef struct {
    double *future;
    real *own;
} R(bf_sums);

/* Directions whose derivative is taken along the way (for --check): [L][N*D] or NULL each. */
typedef struct {
    const real *const *direction; /* [L] at resid_pre[l]; NULL: none */
    double *derivative;           /* [L, losses] out: sum_j <g_ij, u_j>, added to */
    double *squares;              /* [L, losses] out: sum_j |g_ij|^2, added to */
} R(bf_probe);

/* Residuals of identities, measured on the way if asked for; each kept at its largest. */
typedef struct {
    double softmax_rows, key_sum, key_size; /* key: |sum over j|, sum over j of | | */
} bf_residuals;

typedef struct {
    const bf_config *c;
    R(bf_params) *params;
    R(bf_acts) *acts; /* read, but for a shared pattern */
    bf_pool *pool;
    bf_arena *arena;    /* holds R(bf_walk_bytes) for the largest chunk */
    const R(bf_sink) *sink;
    R(bf_sums) sums;
    R(bf_band_sums) bands;
    R(bf_probe) probe;
    bf_residuals *residuals; /* NULL: not measured */
    size_t lowest;           /* layer at which the walk may end */
    size_t part_rows;        /* attention takes a chunk in parts of at most so many rows (0: at once); a chunk with paths or
                              * band sums, or of parallel blocks, must be one part */
    size_t fold_below;       /* positions under this pass their MLP as one D x D Jacobian */
    bool blend;              /* the others pass a gated MLP's two input weights as one (base/blend.h) */
    bool cross, top;         /* q's and k's products below the top layer as sums over keys and queries (cross.c); the
                              * top layer's k and v as sums over heads (top.c) */
    unsigned signs;          /* 0: losses are summed as they are; k: with the k-th random signs */
    double tolerance;        /* > 0: after each layer, rows under tolerance times their beam's largest end */
    double *dropped;         /* [losses] added to: what ended, relative to the layer's sum of norms */
    double *seconds_attention; /* added to: time in attention's part; NULL: not measured */
    const volatile sig_atomic_t *stop;
    void (*tick)(void *context, double part); /* called after every layer; may be NULL */
    void *tick_context;
} R(bf_walk);

/* Where a beam from those positions of N is below the attention of layer lowest (L: above all). */
bf_span bf_walk_span(const bf_config *config, size_t N, bf_span from, size_t lowest);
/* The beam of losses lo..own, walked down to layer lowest, and its number of rows. */
bf_beam bf_beam_make(const bf_config *config, size_t N, size_t out, size_t lo, size_t own,
                     size_t lowest);
size_t bf_beam_rows(const bf_beam *beam);
/* Beams first..end-1 of n make the next chunk, or part of one, of at most so many rows; at least one beam. */
size_t bf_chunk_end(const bf_beam *beams, size_t n, size_t first, size_t rows);
/* Bytes of arena for a chunk of so many rows in parts of so many; with folding, crossing, the top layer's sums, with
 * shares or edges. */
size_t bf_walk_bytes_f32(const bf_config *config, size_t N, size_t rows, size_t part, size_t threads, bool fold,
                         bool cross, bool top, bool paths);
size_t bf_walk_bytes_f64(const bf_config *config, size_t N, size_t rows, size_t part, size_t threads, bool fold,
                         bool cross, bool top, bool paths);
/* Positions of a block where queries and keys cross. */
size_t R(bf_cross_block)(const bf_config *config);
/* Walk beams[0..n) back and write their scores. Fills at, above, row, first, count.
 * BF_ENOMEM, BF_ENONFINITE (names the layer), BF_EINTERRUPTED. */
bf_code R(bf_walk_chunk)(const R(bf_walk) *walk, bf_beam *beams, size_t n, bf_error *err);

/* Edges of loss i in layer l; where each stands: edges.c. */
size_t bf_edge_count(const bf_config *config, size_t N, size_t i, size_t l);

/* Write one value of a tensor [layers,(heads,)losses,N]; nothing if data is NULL or the layer is not
 * recorded. */
void R(bf_put)(const R(bf_sink) *sink, real *data, size_t heads, size_t h, size_t layer, size_t out,
               size_t pos, double value);

/* Record |g| and <g,a> of one vector of `heads` parts. */
double R(bf_score)(const R(bf_sink) *sink, unsigned site, size_t heads, size_t layer, size_t out,
                   size_t pos, const real *g, const real *a, size_t width);

#endif
