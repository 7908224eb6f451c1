/* config.h -- what a family says about a model, as data: the walk reads this and nothing else.
 *
 * A family is one file, model/family_NAME.c: a row {model_type, read} for the registry in
 * model/families.c. `read` fills the config from config.json and names every weight tensor. */
#ifndef BF_MODEL_CONFIG_H
#define BF_MODEL_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/record.h"
#include "base/json.h"
#include "model/mask.h"

typedef enum { BF_NORM_LAYER, BF_NORM_RMS } bf_norm_kind;
typedef enum { BF_POS_LEARNED, BF_POS_ROTARY } bf_pos_kind;
typedef enum { BF_ACT_GELU_TANH, BF_ACT_GELU_ERF, BF_ACT_SILU, BF_ACT_RELU, BF_ACT_QUICK_GELU,
               BF_ACT_RELU2, BF_ACT_TANH } bf_act_kind;

typedef struct {
    char family[32];
    size_t L, D, H, G, K, F, V, P; /* axes as in backflow/model.h; P positions (0: no limit) */
    bf_norm_kind norm;
    double norm_eps;
    bf_pos_kind pos;
    size_t pos_rows;      /* BF_POS_LEARNED: rows of the position table */
    size_t rotary_dim;    /* BF_POS_ROTARY: rotated part of K, even */
    double *inv_freq;     /* [rotary_dim/2] owned by the model (free); rope scaling applied */
    double rotary_scale;  /* factor on cos and sin (attention_factor of YaRN); else 1 */
    bool rotary_pairs;    /* true: rotate (2d, 2d+1); false: (d, d + rotary_dim/2) as Llama does */
    bool gated;           /* mlp = out(act(gate x) * in x); else out(act(in x)) */
    bf_act_kind act;
    bool parallel;        /* attention and MLP both read resid_pre */
    bool tied;
    double *attn_scale;   /* [L] factor on q.k, owned by the model (free) */
    bf_mask *mask;        /* [L] which keys a query reads; NULL: all, causally. owned by the model (free) */
    int64_t mask_token;   /* what stands in the place of a masked token; negative: there is none */
} bf_config;

/* Layer l's. */
static inline bf_mask bf_config_mask(const bf_config *c, size_t l)
{
    return c->mask ? c->mask[l] : (bf_mask){0};
}

/* Does some layer read later positions? */
static inline bool bf_config_bidirectional(const bf_config *c)
{
    for (size_t l = 0; l < c->L; l++)
        if (bf_config_mask(c, l).bidirectional)
            return true;
    return false;
}

/* Does some layer write a compressive memory by the delta rule? */
static inline bool bf_config_delta(const bf_config *c)
{
    for (size_t l = 0; l < c->L; l++)
        if (bf_config_mask(c, l).delta)
            return true;
    return false;
}

/* A weight matrix W [out,in] (y = W x) as it is stored: element (o,c) stands at data[o*ld + c], or at
 * data[c*ld + o] if in_major (GPT-2's Conv1D). data points into a map and may be unaligned. */
typedef struct {
    const void *data; /* NULL: absent */
    bf_dtype dtype;   /* BF_F32, BF_F16, BF_BF16 or BF_F64 */
    size_t out, in, ld;
    bool in_major;
    const char *name; /* tensor's name, borrowed from the file */
} bf_matrix;

/* A bias or norm weight; data NULL: absent. */
typedef struct {
    const void *data;
    bf_dtype dtype;
    size_t n;
    const char *name;
} bf_vector;

typedef struct {
    bf_vector norm1_w, norm1_b, norm2_w, norm2_b;
    bf_matrix q, k, v, o;            /* [H*K,D] [G*K,D] [G*K,D] [D,H*K] */
    bf_vector q_b, k_b, v_b, o_b;
    bf_matrix mlp_in, mlp_gate, mlp_out; /* [F,D] [F,D] [D,F]; gate only if gated */
    bf_vector mlp_in_b, mlp_gate_b, mlp_out_b;
    bf_vector gate;                  /* [H], only where the mask's gate is learnt */
} bf_layer;

typedef struct {
    bf_matrix embed;  /* [V,D]: row of a token. Stored as out=V, in=D */
    bf_matrix pos;    /* [pos_rows,D], BF_POS_LEARNED */
    bf_vector final_w, final_b;
    bf_matrix head;   /* [V,D]; the same data as embed if tied */
    bf_layer *layer;  /* [L] */
} bf_weights;

#endif
