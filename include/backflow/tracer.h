/* tracer.h -- where does each token's loss send its gradient?
 *
 * Runs a model over tokens t[0..N], walks all losses loss_i = -log p(t[i+1] | t[0..i]) (nats) back
 * through it at once, and records for every loss i, site and position j <= i the scores of the
 * cotangent g = d loss_i / d a_j:
 *     grad_norm   |g|, nats per unit of a        grad_x_act   sum_d g[d] * a[d], nats
 * Invariants: in a causal model g is exactly zero for j > i; a record is bitwise the same for any number
 * of threads and any memory budget. */
#ifndef BACKFLOW_TRACER_H
#define BACKFLOW_TRACER_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/model.h"
#include "backflow/record.h"

/* Bits of bf_query.sites, in the order of the walk's names. */
enum {
    BF_SITE_RESID_PRE = 1 << 0,
    BF_SITE_RESID_MID = 1 << 1,
    BF_SITE_RESID_FINAL = 1 << 2,
    BF_SITE_ATTN_OUT = 1 << 3,
    BF_SITE_MLP_OUT = 1 << 4,
    BF_SITE_Q = 1 << 5,
    BF_SITE_K = 1 << 6,
    BF_SITE_V = 1 << 7,
    BF_SITE_Z = 1 << 8,
    BF_SITE_ALL = (1 << 9) - 1
};

enum {
    BF_SCORE_GRAD_NORM = 1 << 0,
    BF_SCORE_GRAD_X_ACT = 1 << 1,
    BF_SCORE_OWN = 1 << 2,   /* own, future and their cosine */
    BF_SCORE_SHARE = 1 << 3, /* <g_p, g> / <g, g> of each path p into resid_pre: skip, mlp, heads' q, k, v */
    BF_SCORE_PARAM = 1 << 4, /* norm of each weight's gradient through one position from one loss */
    BF_SCORE_EDGE = 1 << 5,  /* what position r's attention sent to j by k and v; needs losses chosen */
    BF_SCORE_WEIGHT = 1 << 6, /* each weight matrix's whole gradient: own, future, cosine, by lag */
    BF_SCORE_ALL = ((1 << 5) - 1) | BF_SCORE_WEIGHT /* all that need no choice of losses */
};

/* BF_PRECISION_BF16: the walk's weight products in bfloat16 with float sums, all else in float. Needs a
 * processor with avx512_bf16 (BF_EUNSUPPORTED else). */
typedef enum { BF_PRECISION_F32, BF_PRECISION_F64, BF_PRECISION_BF16 } bf_precision;

/* Tell how far the walk is; called from the thread that called bf_trace. */
typedef void bf_progress(void *context, const char *stage, double done, double seconds_left);

/* Zero-initialise, then set what differs. */
typedef struct {
    const int64_t *tokens; /* [n_tokens], t[0..N]; borrowed */
    size_t n_tokens;       /* N + 1, at least 2; with masked N */
    const size_t *masked;  /* [n_masked] ascending, or NULL. Bidirectional models only: the model reads its
                            * mask token at these positions, N is n_tokens, and loss_i = -log p(t[i] | what
                            * it reads), i among these */
    size_t n_masked;
    bf_detach detach;      /* zero: as the model says. Stops gradient; the losses stay what they are */
    const size_t *losses;  /* [n_losses] ascending, each < N; NULL: all (with masked: those) */
    size_t n_losses;
    const size_t *layers;  /* [n_layers] ascending, each < L; NULL: all */
    size_t n_layers;
    bf_target target;      /* zero: the loss. Whatever it is, it takes the loss's place in all that follows */
    bool sum;              /* walk the chosen losses, neighbours, as their sum: one row, losses = the last */
    unsigned sites;        /* 0: all */
    unsigned scores;       /* 0: grad_norm and grad_x_act */
    bool no_attn;          /* leave the attention patterns out of the record */
    bool logprobs;         /* record what is predicted at every position: logprobs [N,V] */
    bf_precision precision;
    size_t memory;         /* bytes for activations and gradients; 0: 4 GiB. Not counted: weights, record */
    size_t threads;        /* 0: as many as the machine has */
    size_t blocks;         /* 0: none; else an overview of so many blocks of losses. With losses NULL only that */
    size_t probes;         /* random-sign walks that estimate a block's grad_norm; 0: 8 */
    double tolerance;      /* 0: exact; else rows under tolerance times their loss's largest are dropped */
    bool no_fold;          /* no short cuts: neither an MLP's whole Jacobian at a position, nor, where it is gated, two
                            * weights as one, nor sums in the place of q's, k's and v's (docs/performance.md) */
    bool check;            /* measure the identities, too (bf_trace_checks) */
    bf_progress *progress; /* may be NULL */
    void *progress_context;
    const volatile sig_atomic_t *stop; /* may be NULL; nonzero ends the walk with BF_EINTERRUPTED */
} bf_query;

/* What a trace will take. */
typedef struct {
    size_t N, losses, rows; /* rows: pairs (i,j), and of each walk of the blocks (block,j) */
    size_t chunks;          /* the losses are walked in so many parts */
    size_t chunk_rows;      /* rows of the largest */
    size_t bytes;           /* activations, gradients and scratch; weights and record not counted */
    size_t record_bytes;
    size_t folded;          /* positions that pass their MLP as one Jacobian (docs/performance.md) */
    bool blended;           /* others pass a gated MLP's two input weights as one */
    bool crossed;           /* q's, k's or v's weights are passed as sums over heads, keys and queries */
    double flops;           /* multiply-adds of the walk's matrix products, times two, as if none did */
    double seconds;         /* an estimate from flops and a measured rate; 0: not known */
} bf_plan;

/* Check the query against the model and say what it would take.
 * BF_EARG: tokens out of the vocabulary, too many, losses or layers out of range.
 * BF_ENOMEM: the budget does not hold one loss; the message says how much would. */
bf_code bf_trace_plan(bf_plan *plan, const bf_model *model, const bf_query *query, bf_error *err);

/* One measured identity. */
typedef struct {
    char name[32];        /* "rows_sum", "zeros", "softmax_rows", "central_difference" */
    double residual, tolerance; /* holds if residual <= tolerance; both relative unless name is zeros */
    char what[120];       /* in words */
} bf_check;

/* Can a run over these tokens be compared with the target's reference (BF_TARGET_KL)? It must hold
 * logprobs, F32 or F64 [N,V], whose rows are distributions, and, unless other_text, the same tokens.
 * logprobs  the tensor, borrowed from the reference; V: of the run's model, N: its positions
 * BF_EARG there is none, or it is of other tokens; BF_ESHAPE; BF_EFORMAT not a distribution. */
bf_code bf_target_reference(const bf_tensor **logprobs, const bf_target *target, const int64_t *tokens,
                            size_t n_tokens, size_t N, size_t V, bf_error *err);

/* Trace.
 * out     new record, owned by the caller; with path != NULL backed by a file beside path and not yet
 *         committed (bf_record_commit), else in memory. Untouched on failure.
 * model   borrowed, unchanged to the eye (may cache converted weights)
 * checks  NULL unless query->check: up to 8 identities, *n_checks of them
 * BF_EARG, BF_ENOMEM, BF_EIO, BF_ENONFINITE (message names layer and part), BF_EINTERRUPTED. */
bf_code bf_trace(bf_record **out, bf_model *model, const bf_query *query, const char *path,
                 bf_check checks[8], size_t *n_checks, bf_error *err);

/* Names for bits: site k (0..8) and back (0 if unknown). */
const char *bf_site_name(unsigned bit);
unsigned bf_site_bit(const char *name);

#endif
