/* forward.h -- one forward run, every site kept for the walk.
 *
 * Arrays are [N, ...] row-major. Sites in the names of TransformerLens; resid_pre of layer L is the
 * input of the final norm (resid_final). */
#ifndef BF_MODEL_NUM_FORWARD_H
#define BF_MODEL_NUM_FORWARD_H

#include <signal.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/threads.h"
#include "model/num/ops.h"
#include "model/num/params.h"

typedef struct {
    real *resid_pre, *resid_mid, *attn_out, *mlp_out; /* [N,D]; resid_mid NULL in parallel blocks */
    real *qkv;               /* [N,(H+2G)K] as projected, bias included */
    real *rotated;           /* [N,(H+G)K] q and k after rotation; the same rows of qkv if none */
    size_t rotated_ld;
    real *z;                 /* [N,H*K] */
    real *mean1, *rstd1, *mean2, *rstd2; /* [N] */
    real *slope;             /* [N,F] d mlp hidden / d (what act is applied to) */
    real *gain;              /* [N,F] gated: d mlp hidden / d (in projection); else NULL */
    real *norm_in1, *norm_in2, *norm_z, *norm_hidden; /* [N] Euclidean norms of what the weights read */
    real *pattern;           /* [H,N,N]; may be shared by all layers (bf_acts_pattern). Where some layer has
                              * the delta rule [H+G,N,N], the last G of them bf_head.links */
    real *u;                 /* [N,G*K] by the delta rule (bf_head.u); NULL where no layer has it */
    double *gate;            /* [H] the memory's part in each head's answer */
} R(bf_layer_acts);

/* Sites, in the order of their bits in a query. */
enum { BF_AT_RESID_PRE, BF_AT_RESID_MID, BF_AT_RESID_FINAL, BF_AT_ATTN_OUT, BF_AT_MLP_OUT, BF_AT_Q,
       BF_AT_K, BF_AT_V, BF_AT_Z };

/* A vector that takes the place of what a run computes at one site and position. */
typedef struct {
    unsigned at;
    size_t layer, head, position; /* head 0 where there are none; resid_final: layer L */
    const real *value;            /* [D], of heads [K] */
} R(bf_edit);

typedef struct R(bf_acts) {
    size_t N, L;
    const struct R(bf_acts) *kept; /* NULL, or a run whose keys and values stand where the mask passes no
                                    * gradient; for the caller to set before a run */
    const R(bf_edit) *edits; /* [n_edits], for the caller to set before a run; 0: none */
    size_t n_edits;
    R(bf_layer_acts) *layer; /* [L] */
    real *resid_final;       /* [N,D] */
    real *mean, *rstd;       /* [N] of the final norm */
    bf_target target;        /* set by the caller before the run; zero: the loss */
    const bf_tensor *reference; /* set by the caller: BF_TARGET_KL's logprobs [N,V], F32 or F64 */
    real *logprobs;          /* set by the caller: [N,V] out, or NULL */
    const int64_t *targets;  /* [N] set by the caller: true tokens; NULL: the one after each input */
    double *loss, *value;    /* [N] nats; [N] of the target (= loss by default) */
    real *dfinal;            /* [N,D] d value_i / d (output of the final norm at i) */
    real *cosines, *sines;   /* [N,rotary_dim/2] or NULL */
    bool shared;             /* one pattern for all layers */
    size_t held;             /* the layer it is of, if shared */
} R(bf_acts);

/* Head h of layer l, as attention and its VJP read it; views into acts. */
R(bf_head) R(bf_acts_head)(const R(bf_acts) *acts, const bf_config *config, size_t l, size_t h);

/* Bytes that bf_acts_new takes from the arena for N positions. */
size_t R(bf_acts_bytes)(const bf_config *config, size_t N, bool shared);
/* Lay out acts in the arena; shared: attention patterns are kept for one layer only. BF_ENOMEM. */
bf_code R(bf_acts_new)(R(bf_acts) **out, const bf_config *config, size_t N, bool shared,
                       bf_arena *arena, bf_error *err);
/* Write what layer l's compressive memory holds, from k and v, before its patterns: delta rule only. */
void R(bf_acts_store)(const R(bf_acts) *acts, const bf_config *config, size_t l, bf_pool *pool);
/* See to it that layer l's pattern is there: computed again from q and k if it is not. */
void R(bf_acts_pattern)(R(bf_acts) *acts, const bf_config *config, size_t l, bf_pool *pool);

/* Run tokens[0..N] (N inputs, N targets): embed, layers, losses and dfinal.
 * scratch: left as it was found; R(bf_forward_scratch) bytes are enough.
 * BF_ENONFINITE names layer and part; BF_ENOMEM; BF_EINTERRUPTED if *stop. */
bf_code R(bf_forward)(R(bf_acts) *acts, R(bf_params) *params, const bf_config *config,
                      const int64_t *tokens, bf_pool *pool, bf_arena *scratch,
                      const volatile sig_atomic_t *stop, bf_error *err);
/* The same from layer l on, whose resid_pre the caller has filled in (l == L: resid_final). */
bf_code R(bf_forward_from)(R(bf_acts) *acts, size_t l, R(bf_params) *params,
                           const bf_config *config, const int64_t *tokens, bf_pool *pool,
                           bf_arena *scratch, const volatile sig_atomic_t *stop, bf_error *err);
size_t R(bf_forward_scratch)(const bf_config *config, size_t N);

/* y [rows,out] = x [rows,in] W^T + b, shared out over the pool. b NULL: none. */
void R(bf_linear)(real *y, size_t ldy, const real *x, size_t ldx, size_t rows, const R(bf_mat) *W,
                  const real *b, bf_pool *pool);
/* C [M,N] (+)= A [M,K] B [K,N] as bf_gemm's (base/gemm.h), by the library that multiplies with weights like these;
 * serial. */
void R(bf_product)(const R(bf_mat) *like, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                   const real *A, size_t lda, const real *B, size_t ldb, bool add, real *C, size_t ldc);
/* dx [rows,in], rows lddx apart, = dy [rows,n] times rows first.. of W; serial. */
void R(bf_linear_part)(real *dx, size_t lddx, const real *dy, size_t rows, const R(bf_mat) *W, size_t first, size_t n,
                       size_t worker);
/* dx [rows,in] = dy [rows,out] W, shared out over the pool. */
void R(bf_linear_back)(real *dx, const real *dy, size_t rows, const R(bf_mat) *W, bf_pool *pool);
/* dx [rows,in] (+)= dy [rows,out] W: the VJP, serial, one call a tile. rows: a multiple of BF_GRANULE,
 * so that a row's bits do not depend on its tile. W not packed: its rows one after the other, if oneDNN multiplies. */
void R(bf_linear_vjp)(real *dx, const real *dy, size_t lddy, size_t rows, const R(bf_mat) *W, bool add,
                      size_t worker);

#endif
