/* train.h (numeric) -- one batch forward and back through all layers, with every weight's gradient.
 *
 * R = B*T rows, sequence after sequence. Work that is the same for each row is cut into tiles of
 * BF_TRAIN_TILE rows, attention into (sequence, key/value head), weight gradients into pieces of the
 * weight: never by the number of threads, so bits do not depend on it. */
#ifndef BF_MODEL_NUM_TRAIN_H
#define BF_MODEL_NUM_TRAIN_H

#include "base/arena.h"
#include "base/threads.h"
#include "model/data.h"
#include "model/num/forward.h"
#include "model/num/ops.h"
#include "model/train.h"

enum { BF_TRAIN_TILE = 256, BF_TRAIN_PIECE = 1 << 16 }; /* rows; values of the optimizer's arrays */

/* Rows of a batch as products with weights read them. half: NULL, or (mixed precision) their copy in
 * bfloat16, which the product that first reads them makes. */
typedef struct {
    const real *x;
    uint16_t *half;
} R(bf_train_operand);

/* One layer's weights, in the one array of all; NULL: there is none. q, k, v are one matrix, and so are
 * gate and up. */
typedef struct {
    real *norm1_w, *norm1_b, *norm2_w, *norm2_b, *qkv_b, *o_b, *up_b, *out_b, *gate;
    R(bf_mat) qkv, o, up, out;
} R(bf_train_block);

/* What the backward pass reads of a layer's forward pass. */
typedef struct {
    real *x, *mid;             /* [R,D] resid_pre, resid_mid */
    real *normed1, *normed2;   /* [R,D] */
    real *mean1, *rstd1, *mean2, *rstd2; /* [R] */
    real *qkv;                 /* [R,(H+2G)K]; q and k rotated */
    real *pattern;             /* [B,H,T,T] */
    real *u, *links;           /* [R,GK] [B,G,T,T] as bf_head's; NULL without the delta rule */
    real *z;                   /* [R,HK] */
    real *slope;               /* [R,F]: act'; gated [R,2F]: d hidden / d gate | d hidden / d up */
    real *hidden;              /* [R,F] */
    uint16_t *half_normed1, *half_normed2, *half_z, *half_hidden; /* mixed precision: rounded */
} R(bf_train_acts);

/* One worker's room. */
typedef struct {
    real *wide, *rows, *attention; /* [tile,F] [tile,D] bf_attention_vjp_scratch */
    real *factor;                  /* [T,T] one head's dropout; NULL: attention has none */
} R(bf_train_desk);

typedef struct {
    const bf_config *c;
    const bf_train_config *config;
    const bf_train_layout *layout;
    bf_pool *pool;
    bf_arena *arena;
    size_t B, T, rows, tiles;
    bool single;                    /* a pass of one position of each sequence alone: `position` */
    size_t position;
    real *param, *grad, *moment[2]; /* [layout->values] */
    R(bf_train_block) *block;       /* [L + extra] */
    R(bf_mat) embed, pos, head;
    real *final_w, *final_b;
    R(bf_train_acts) *acts;         /* [L] */
    real *cosines, *sines;          /* [T,rotary_dim/2] */
    real *last;                     /* [R,D] input of the final norm */
    real *normed, *mean, *rstd;     /* [R,D] [R] [R] of the final norm */
    real *logits;                   /* [chunk,V] */
    size_t chunk;                   /* rows whose logits are held at once, a multiple of the tile */
    real *dx[2], *dmid, *dqkv, *dz, *dup; /* [R,..] cotangents of one layer */
    real *dqkv_whole;               /* BF_CUT_STATES: [R,(H+2G)K] before the cut */
    real *dtrunk;                   /* [R,D] n-token heads: of the trunk's end */
    real *dattn_out, *dmlp_out;     /* [R,D] what dropout lets through to both outputs; NULL: all of it */
    real *partial;                  /* [tiles,4,D] each tile's part of the norms' gradients */
    double *dgate;                  /* [B,H] each sequence's part of the gates' gradients */
    double *row_loss;               /* [R] */
    uint8_t *row_right;             /* [R] the target of head 0 was the likeliest token */
    double *squares;                /* one a piece of the arrays, for the norm of the whole gradient */
    unsigned *positions;            /* [T] 0, 1, ... */
    R(bf_train_desk) *desk;         /* [threads] */
    struct bf_packing *packing;     /* NULL, or rooms of oneDNN's products */
    uint16_t *half_param, *half_kept; /* mixed precision, NULL without: [layout->values] weights rounded, */
    uint16_t *half_dy, *half_dmid, *half_dqkv, *half_dup; /* cotangents of one layer, */
    uint16_t *half_normed, *half_logits; /* [R,D] [chunk,V] */
    uint64_t number;                /* the batch's, of the training; for the caller to set: draws go by it */
    size_t sequence;                /* of the batch, that the pass's rows begin with; completions follow it */
    bool dropping;                  /* a pass to learn from: dropout is at work */
    bool add, head_add;             /* gradients are added to what is there: all, those of the head */
    bool keeping;                   /* the model that stays is at work */
    real *kept;                     /* BF_CUT_LOCAL: q, k, v [L,R,(H+2G)K] of the model that stays */
    real *kept_param;
    R(bf_train_block) *kept_block;
} R(bf_train);

/* Rows of a tile: n from r0 on, `step` apart; step is 1 but in a pass of single positions. */
typedef struct {
    size_t r0, n, step;
} bf_train_rows;

static inline bf_train_rows R(bf_train_tile)(const R(bf_train) *t, size_t tile)
{
    const size_t at = tile * BF_TRAIN_TILE, left = (t->single ? t->B : t->rows) - at;
    const size_t n = left < BF_TRAIN_TILE ? left : BF_TRAIN_TILE;
    return t->single ? (bf_train_rows){at * t->T + t->position, n, t->T} : (bf_train_rows){at, n, 1};
}

/* All buffers for batches of B sequences of T; values are not set.
 * out: bf_train_free. config, layout, model, weights are borrowed.  BF_ENOMEM, BF_EARG. */
bf_code R(bf_train_new)(R(bf_train) **out, const bf_train_config *config, const bf_train_layout *layout,
                        bf_pool *pool, size_t B, size_t T, bf_error *err);
void R(bf_train_free)(R(bf_train) *t); /* NULL-safe */

/* Passes from here on are of B sequences of T: no longer than bf_train_new's, and no more rows. */
void R(bf_train_shape)(R(bf_train) *t, size_t B, size_t T);
/* Forward passes from here on are of one position of each sequence, which reads keys and values of earlier
 * ones as passes before this one left them; until the next bf_train_shape. Not with BF_CUT_LOCAL, whose
 * other model would want keys and values of its own, nor both ways. */
void R(bf_train_single)(R(bf_train) *t, size_t position);

/* loss: mean over the batch's targets (n-token heads: summed over heads). learn: the whole gradient comes
 * to stand in t->grad, times `share`, or is added to it if t->add. */
void R(bf_train_batch)(double *loss, R(bf_train) *t, const bf_batch *batch, bool learn, double share);

/* BF_OBJECTIVE_JOINT: draw completions of prefixes of the batch, t->number of the training, and learn from
 * them, as bf_train_batch does.  loss: joint.weight times their mean -log p a token. BF_ENOMEM. */
bf_code R(bf_train_joint)(double *loss, R(bf_train) *t, const bf_batch *batch, double share, bf_error *err);

/* All that the objective asks of a batch: bf_train_batch, or bf_train_joint, or both. BF_ENOMEM. */
bf_code R(bf_train_learn)(double *loss, R(bf_train) *t, const bf_batch *batch, double share, bf_error *err);

/* bf_train_state.probe, of the sine task (train_probe.c).  BF_ENOMEM. */
bf_code R(bf_train_probe)(double r2[2], R(bf_train) *t, bf_data *data, bf_error *err);

/* ---- parts, for bf_train_batch ---- */

/* Embeddings and the first n layers, the last of all to t->last; learn: with dropout. */
void R(bf_train_forward)(R(bf_train) *t, const bf_batch *batch, size_t n, bool learn);
/* Through all layers, one head, and back if learn: the sum of row losses, each times scale. */
double R(bf_train_pass)(R(bf_train) *t, const bf_batch *batch, bool learn, double scale);

/* acts->x to next [R,D]; then the cotangent of next, in dx[from], to that of acts->x, in dx[!from]. */
void R(bf_train_layer)(R(bf_train) *t, size_t l, const R(bf_train_block) *b, R(bf_train_acts) *a,
                       real *next);
void R(bf_train_layer_back)(R(bf_train) *t, size_t l, const R(bf_train_block) *b, R(bf_train_acts) *a,
                            unsigned from);
/* x [R,D] of the batch's inputs; the cotangent dx to the embeddings' gradients. */
void R(bf_train_embed)(R(bf_train) *t, const bf_batch *batch, real *x);
void R(bf_train_embed_back)(R(bf_train) *t, const bf_batch *batch, real *dx); /* dx is used up */
/* The sum of row losses of t->last against the batch's targets of head k, each times `scale`; learn: the
 * cotangent of t->last goes to dx, the head's gradients are made. */
double R(bf_train_head)(R(bf_train) *t, const bf_batch *batch, size_t k, bool learn, double scale,
                        real *dx);

/* Where the gradient of the weight at p stands. */
static inline real *R(bf_train_grad)(const R(bf_train) *t, const real *p)
{
    return t->grad + (p - t->param);
}

/* BF_CUT_LOCAL (train_local.c): let the model that stays run, for t->kept; the VJP of attention that reads
 * head->kept_k and kept_v at earlier positions. scratch [N]. */
void R(bf_train_keep)(R(bf_train) *t, const bf_batch *batch);
void R(bf_train_local_vjp)(const R(bf_head) *head, const R(bf_head_flow) *flow, real *scratch);

/* ---- dropout (train_drop.c) ---- */

typedef enum { BF_DROP_EMBEDDING, BF_DROP_WEIGHTS, BF_DROP_ATTN_OUT, BF_DROP_MLP_OUT } bf_drop;

/* Is anything dropped there in the pass at hand? */
bool R(bf_train_drops)(const R(bf_train) *t, bf_drop place);
/* y = x times their factors, n rows of [R,D] from r0 on; y may be x. block: as in t->block; embedding: 0. */
void R(bf_train_drop)(const R(bf_train) *t, bf_drop place, size_t block, real *y, const real *x, size_t r0,
                      size_t n);
/* The factors of head h of sequence s, [T,T]; 0 at keys that a query does not read. */
void R(bf_train_factors)(const R(bf_train) *t, size_t block, size_t s, size_t h, const bf_mask *mask,
                         real *factor);

/* ---- weight gradients (train_grad.c) ---- */

/* dW (+)= dy^T x, in pieces of the weight; b: (+)= column sums of dy, or NULL. dy [rows,out], x [rows,in],
 * rounded before in mixed precision. */
typedef struct {
    const R(bf_mat) *W;
    real *dW, *db;
    R(bf_train_operand) dy, x;
} R(bf_train_product);
void R(bf_train_weights)(const R(bf_train) *t, const R(bf_train_product) *list, size_t n, size_t rows,
                         bool add);
/* dw += sum over rows of dy * (x - mean) * rstd, db += that of dy, into dw [D], db [D]. */
void R(bf_norm_grad)(real *dw, real *db, const real *dy, const real *x, const real *mean,
                     const real *rstd, size_t rows, size_t D);
/* (+)= the tiles' parts, in their order: the gradients at which w and b stand (NULL: none) */
void R(bf_train_norm_sum)(R(bf_train) *t, size_t part, const real *w, const real *b, bool add);

/* ---- products with weights (train_product.c) ---- */

/* y [n,out] (+)= x [n,in] W^T, rows of both `step` apart. */
void R(bf_train_multiply)(const R(bf_train) *t, size_t worker, real *y, R(bf_train_operand) x, size_t step,
                          size_t n, const R(bf_mat) *W, bool add);
/* dx [n,in] = dy [n,out] W. */
void R(bf_train_multiply_back)(const R(bf_train) *t, size_t worker, real *dx, R(bf_train_operand) dy, size_t n,
                               const R(bf_mat) *W);
/* Rows r0..r0+m-1 of a weight's gradient, as it is stored. */
void R(bf_train_multiply_rows)(const R(bf_train) *t, size_t worker, const R(bf_train_product) *product,
                               size_t rows, size_t r0, size_t m, bool add);
/* n values, for products that find them rounded. */
void R(bf_train_round)(R(bf_train_operand) rows, size_t n);
/* All weights: after they were set; the optimizer rounds those that it moves. */
void R(bf_train_round_weights)(R(bf_train) *t);
/* BF_OK; BF_ENOMEM, BF_EUNSUPPORTED: a product could not be taken, gradients are not to be used. */
bf_code R(bf_train_failed)(const R(bf_train) *t, bf_error *err);

/* Rows r0.. of x [R,width] and of its rounded copy. */
static inline R(bf_train_operand) R(bf_train_operand_at)(const real *x, uint16_t *half, size_t r0, size_t width)
{
    return (R(bf_train_operand)){x + r0 * width, half ? half + r0 * width : NULL};
}

/* ---- the optimizer (train_adamw.c) ---- */

/* Norm of the whole gradient. */
double R(bf_train_grad_norm)(R(bf_train) *t);
/* One step, the gradient times `scale` first; step counts from 1. */
void R(bf_train_adamw)(R(bf_train) *t, double rate, double scale, uint64_t step);

#endif
