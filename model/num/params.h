/* params.h -- the weights as the numeric parts want them: in `real`, checked to be finite.
 *
 * Where the file already holds the right type in a usable layout the views point into the map; else a
 * layer is converted when it is asked for. If the converted model fits in `keep` bytes every layer is
 * kept, otherwise one slot is filled again and again (layers are visited in order). */
#ifndef BF_MODEL_NUM_PARAMS_H
#define BF_MODEL_NUM_PARAMS_H

#include "base/real.h"
#include "base/threads.h"
#include "model/model.h"

/* W [out,in]: element (o,c) at w[o*ld + c], or at w[c*ld + o] if in_major. */
typedef struct {
    const real *w;
    const struct bf_packed *packed; /* NULL, or W as VJPs multiply with it (bf_params_vjp_layer) */
    size_t out, in, ld;
    bool in_major;
    struct bf_packing *room; /* NULL, or where oneDNN multiplies with w as it stands (float only) */
} R(bf_mat);

typedef struct {
    real *norm1_w, *norm1_b, *norm2_w, *norm2_b;             /* b may be NULL */
    R(bf_mat) qkv[3], o, mlp_in, mlp_gate, mlp_out;
    const struct bf_blend *blend; /* NULL, or mlp_in and mlp_gate as one (bf_params_vjp_layer) */
    real *qkv_b, *o_b, *mlp_in_b, *mlp_gate_b, *mlp_out_b;   /* NULL: none; qkv_b [(H+2G)K] */
    real *gate;                                              /* [H], or NULL: the mask's */
} R(bf_block);

typedef struct R(bf_params) R(bf_params);

bool R(bf_all_finite)(const real *x, size_t n);
/* Can this model's MLPs be walked with two weights as one? Gated ones wide enough, in float, where oneDNN multiplies. */
bool R(bf_mlp_blends)(const bf_config *config);
/* Can its queries and keys cross (tracer/num/cross.c)? Those that are not rotated, wide enough, in float, where oneDNN
 * multiplies. */
bool R(bf_attention_crosses)(const bf_config *config);

/* Everything but the layers is made here: embedding rows come by bf_params_embed, head and norms at
 * once. pool: borrowed for as long as the params live.  BF_ENOMEM, BF_ENONFINITE (names the tensor). */
bf_code R(bf_params_new)(R(bf_params) **out, const bf_model *model, size_t keep, bf_pool *pool,
                         bf_error *err);
void R(bf_params_free)(R(bf_params) *params);
/* BF_OK, or what a product in these matrices' room met: BF_ENOMEM, BF_EUNSUPPORTED. */
bf_code R(bf_params_failed)(const R(bf_params) *params, bf_error *err);
/* Layer l, valid until another layer is asked for. */
bf_code R(bf_params_layer)(const R(bf_block) **out, R(bf_params) *params, size_t l, bf_error *err);
/* The same for VJPs of so many rows: its weights packed where that pays, which takes room for one layer; or, after
 * bf_params_bf16, rounded to bfloat16. blend: those that read a gated MLP's input as one (base/blend.h); only
 * if bf_mlp_blends. cross: q's and k's as they stand. BF_ENOMEM, BF_EUNSUPPORTED. */
bf_code R(bf_params_vjp_layer)(const R(bf_block) **out, R(bf_params) *params, size_t l, size_t rows, bool blend,
                               bool cross, bf_error *err);
/* From now on VJPs multiply in bfloat16, or in float again. BF_EUNSUPPORTED. */
bf_code R(bf_params_bf16)(R(bf_params) *params, bool on, bf_error *err);
bool R(bf_params_half)(const R(bf_params) *params);
/* x [D] = embedding of the token (+ position j where positions are learned). Not for two threads at
 * once. */
void R(bf_params_embed)(real *x, const R(bf_params) *params, size_t token, size_t j);
const R(bf_mat) *R(bf_params_head)(const R(bf_params) *params);
const real *R(bf_params_final_w)(const R(bf_params) *params);
const real *R(bf_params_final_b)(const R(bf_params) *params); /* may be NULL */

#endif
