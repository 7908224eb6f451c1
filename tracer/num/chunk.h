/* chunk.h -- the rows of some beams, as the parts of the walk share them (internal to tracer/num). */
#ifndef BF_TRACER_NUM_CHUNK_H
#define BF_TRACER_NUM_CHUNK_H

#include <stdatomic.h>

#include "base/gemm.h"
#include "tracer/num/walk.h"

/* Active rows and their positions, beam by beam; a beam's first and count are places in here. */
typedef struct {
    unsigned *row, *where;
    size_t n;
} bf_list;

/* Attention keeps more of a row than the rest does, so it takes the chunk in parts: beams first..end-1,
 * whose rows are row, row+1, ... */
typedef struct {
    size_t first, end, row;
} bf_part;

/* One worker's room. */
typedef struct {
    real *in, *hidden, *gate, *normed, *out; /* tiles: [BF_TILE,..] */
    real *attention;
    real *jacobian, *scaled; /* with folding: [D,D], [F,D] */
    real *vectors;           /* of the top layer: top.c */
    double softmax_rows, key_sum, key_size;
} R(bf_desk);

/* Where queries and keys cross: cross.c. */
typedef struct {
    size_t b, blocks;     /* positions of a block, and blocks of all N */
    real *keys, *queries; /* [blocks,H,b,D] each head's keys through W_Q, and its queries through W_K */
    real *ds;             /* cotangents of scores, in panels */
    size_t *panel;        /* [blocks, blocks + 1] where each begins */
    struct bf_packed **packed; /* [blocks,2] both of a block in bfloat16, or NULL */
    size_t *first;        /* [blocks] the part's first beam with rows there */
    size_t part, used;    /* the part's first beam; blocks that it has rows in */
} R(bf_cross);

typedef struct {
    const R(bf_walk) *w;
    const bf_config *c;
    bf_beam *beams;
    size_t n_beams, rows;
    real *g;                /* [rows, D] */
    real *dz, *dqkv;        /* of the part at hand: [its rows, HK], [its rows, (H+2G)K] */
    real *vt;               /* values of the layer at hand, transposed: [G,K,N] */
    unsigned *pos, *beam;   /* [rows] */
    real *skip, *mlp, *heads; /* with paths: g before the MLP, what the MLP added [rows,D]; what each query
                                head sent to k and v [rows,2HK], or NULL if no head shares them */
    real *pull;               /* with paths: projections of g [rows,(H+2G)K] */
    bf_list above, below;   /* active rows above the attention of the layer at hand, and below it */
    bf_list list;           /* those of the stage at hand: a piece of one of these */
    unsigned *by_pos, *pos_start; /* with folding or blending: active rows by position, [rows], [N+1] */
    R(bf_cross) cross;      /* with crossing */
    real *top;              /* of the top layer: [rows of the part,2,H] ds and weights of a loss's own query (top.c) */
    real *size;             /* [rows] |g| at the last resid_pre */
    bf_part part;
    R(bf_desk) *desks;
    size_t l;
    const R(bf_block) *b;
    const R(bf_layer_acts) *a;
    unsigned pass;          /* of q, k, v in this pass: BF_PASS_* */
    atomic_size_t bad;      /* 1 + layer where a cotangent is not finite */
} R(bf_chunk);

enum { BF_PASS_Q = 1, BF_PASS_KV = 2 };

/* The rows of one task. */
typedef struct {
    size_t n, padded; /* padded: n rounded up so that BLAS treats every row alike */
    const unsigned *row;
    bool together; /* in one piece, and nothing to pad */
} bf_tile;

/* End the rows that are too small: off the list above the next attention, their cotangent set to 0. */
void R(bf_chunk_prune)(R(bf_chunk) *chunk);

size_t R(bf_q_width)(const bf_config *c);
size_t R(bf_qkv_width)(const bf_config *c);

/* Lay out the chunk in the walk's arena and number its rows. False if the arena is too small. */
bool R(bf_chunk_take)(R(bf_chunk) *chunk);
/* The next part, of at most walk.part_rows rows: it begins where the one at hand ends. False: none left. */
bool R(bf_chunk_next_part)(R(bf_chunk) *chunk);
/* Add the part's rows of where its beams are to list, which is below, or above if nothing is active yet;
 * they become the list at hand. */
void R(bf_chunk_activate)(R(bf_chunk) *chunk, bf_list *list);
/* The part's piece of a list. */
bf_list R(bf_chunk_piece)(const R(bf_chunk) *chunk, bf_list list);

void R(bf_run_tiles)(R(bf_chunk) *chunk, bf_task *task);
bf_tile R(bf_tile_of)(const R(bf_chunk) *chunk, size_t task);
bf_tile R(bf_tile_make)(const unsigned *row, size_t n); /* n >= 1 */
/* The tile's rows of src, whose first is row `base` of the chunk, [rows,width], in one piece and padded with
 * zeros: in place, or in room. */
const real *R(bf_tile_in)(const bf_tile *tile, const real *src, size_t base, size_t width, real *room);

/* Sort the list at hand by position. Rows of folded positions pass the MLP and are off it then. */
void R(bf_chunk_fold)(R(bf_chunk) *chunk);
/* Scores of a row above the MLP. Then below: add what reached the input norm [D] to its g, and score that. */
void R(bf_mlp_above)(const R(bf_chunk) *chunk, size_t row);
void R(bf_mlp_below)(const R(bf_chunk) *chunk, size_t row, const real *normed);

/* A row's scores of q, k and v. Then below: what reached the norm before them [D] to its g, and scores of that. */
void R(bf_qkv_above)(const R(bf_chunk) *chunk, size_t row);
void R(bf_qkv_below)(R(bf_chunk) *chunk, size_t row, const real *normed);

/* Where bf_attention_vjp is when it tells of scores (bf_head_flow.context). */
typedef struct {
    const R(bf_chunk) *chunk;
    size_t beam, h;
} R(bf_head_at);

/* With crossing, for chunks with parts of at most so many rows: room for it, its bytes; once a layer; before the part's
 * attention, which tells of its scores, and after it, in the place of qkv's products. */
bool R(bf_cross_take)(R(bf_chunk) *chunk, size_t rows);
size_t R(bf_cross_bytes)(const bf_config *config, size_t N, size_t rows);
void R(bf_cross_end)(R(bf_chunk) *chunk);
bf_code R(bf_cross_layer)(R(bf_chunk) *chunk, bf_error *err); /* BF_ENOMEM, BF_EUNSUPPORTED */
void R(bf_cross_part)(R(bf_chunk) *chunk);
void R(bf_cross_scores)(void *at, const real *ds, size_t ld, size_t r, size_t n);
void R(bf_cross_rows)(R(bf_chunk) *chunk);
/* The same for the top layer's k and v. */
bool R(bf_top_take)(R(bf_chunk) *chunk, size_t rows);
size_t R(bf_top_bytes)(const bf_config *config, size_t rows, size_t threads);
void R(bf_top_scores)(void *at, const real *ds, size_t ld, size_t r, size_t n);
void R(bf_top_rows)(R(bf_chunk) *chunk);

/* With paths (shares or edges): start a layer; note what the MLP added to a row; after a row's total g is
 * known, its shares; and the edges of all beams. */
bool R(bf_paths_wanted)(const R(bf_sink) *sink);
bool R(bf_paths_take)(R(bf_chunk) *chunk);
void R(bf_paths_start)(R(bf_chunk) *chunk);
void R(bf_paths_mlp)(const R(bf_chunk) *chunk, const bf_tile *tile);
void R(bf_paths_share)(R(bf_chunk) *chunk);
/* Where heads share keys and values: point flow at head h's own rows, zeroed; then add the group's up. */
void R(bf_paths_head)(const R(bf_chunk) *chunk, const bf_beam *beam, size_t h, R(bf_head_flow) *flow);
void R(bf_paths_gather)(const R(bf_chunk) *chunk, const bf_beam *beam, size_t group, real *dqkv);
void R(bf_paths_edges)(R(bf_chunk) *chunk);

/* Add rows [rows,width] (ld apart) of active positions to band sums of the layer at hand. */
void R(bf_chunk_bands)(R(bf_chunk) *chunk, double *sums, const real *rows, size_t width);
/* Add the chunk's cotangents of layer l to the walk's sums; take the probe's derivative. */
void R(bf_chunk_sums)(R(bf_chunk) *chunk);
void R(bf_chunk_probe)(R(bf_chunk) *chunk);

#endif
