/* ops.h -- the operations of a block, each beside its vector-Jacobian product (VJP).
 *
 * Compiled for float and for double (base/real.h). All arrays are row-major; `dx` = d loss / d x.
 * Nothing here can fail, allocates, or keeps state; no aliasing unless said.
 * Every VJP is held against central differences in tests/test_ops.c and test_attention.c. */
#ifndef BF_MODEL_NUM_OPS_H
#define BF_MODEL_NUM_OPS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/real.h"
#include "model/config.h"

/* y[d] = (x[d] - mean) * rstd * w[d] + b[d], one row; RMS norm takes mean = 0. w, b may be NULL (1, 0).
 * mean, rstd: out, kept for the VJP.  Ba et al. 2016, arXiv:1607.06450; Zhang & Sennrich 2019,
 * arXiv:1910.07467. */
void R(bf_norm)(real *y, real *mean, real *rstd, const real *x, const real *w, const real *b,
                bf_norm_kind kind, double eps, size_t D);
/* dx[d] += rstd * (w[d] dy[d] - m1 - xh[d] m2), xh = (x - mean) rstd, m2 = mean_d(w dy xh),
 * m1 = mean_d(w dy) for layer norm and 0 for RMS norm. */
void R(bf_norm_vjp)(real *dx, const real *dy, const real *x, real mean, real rstd, const real *w,
                    bf_norm_kind kind, size_t D);

/* y[d] = w[d] rstd (g[d] - mean_d(g) - xh[d] mean_d(g xh)): the transpose of the map above, so that
 * <bf_norm_vjp(dy), g> = <dy, y>. RMS norm: without the mean of g. */
void R(bf_norm_pull)(real *y, const real *g, const real *x, real mean, real rstd, const real *w,
                     bf_norm_kind kind, size_t D);

/* y = act(x), slope = act'(x), n values; y may be x.
 * NaN stays NaN.  GELU: Hendrycks & Gimpel 2016, arXiv:1606.08415. */
void R(bf_act)(real *y, real *slope, const real *x, bf_act_kind kind, size_t n);

/* Rotary positions (Su et al. 2021, arXiv:2104.09864). Tables: cos, sin [N,half] of angle j*inv_freq,
 * times the config's rotary_scale. */
void R(bf_rotary_tables)(real *cosines, real *sines, const bf_config *config, size_t N);
/* Rotate `heads` heads of width K in one row in place, by the row's table entries [half].
 * The VJP is the same with inverse = true (the transpose of the rotation). */
void R(bf_rotate)(real *x, const real *cosines, const real *sines, size_t heads, size_t K,
                  size_t half, bool pairs, bool inverse);

/* One head of one layer, as attention and its VJP read it: first values, rows ld* apart. */
typedef struct {
    const real *q, *k, *v; /* q and k rotated */
    const real *kept_k, *kept_v; /* NULL, or those of another run, laid out as k and v: they take the
                                  * place of k and v where the mask passes no gradient. Not for the VJP */
    /* What a compressive memory holds of each position, and what it held in that other run: v, or with
     * the delta rule what bf_memory_store writes, and links [N,N], which it writes too. */
    const real *u, *kept_u;
    real *links;
    const real *vt;        /* NULL, or v transposed, [K,N]: bf_transpose_values. The VJP is faster with it */
    real *pattern;         /* [N,N] row = query */
    const real *factor;    /* NULL, or [N,N]: dropout's, by which the VJP takes the pattern to have been
                            * multiplied before bf_attention_mix; not with a compressive memory */
    size_t N, K, ldq, ldk, ldv, ldu;
    real scale;
    double gate;           /* the part that a compressive memory has in the answer; without one 0 */
    bf_mask mask;          /* zero: causal, full */
} R(bf_head);

/* Attention weights of queries r0..r1-1 over the keys that the mask lets them read: pattern rows r0..
 * are written in full, zeros outside the keys. */
void R(bf_attention_pattern)(const R(bf_head) *head, size_t r0, size_t r1);
/* z rows r0..r1-1 (ldz apart) from the pattern. */
void R(bf_attention_mix)(const R(bf_head) *head, real *z, size_t ldz, size_t r0, size_t r1);

/* Where the cotangents of one head and one loss stand. Row of query k is row[k], of key j is j - base;
 * dq and dz rows count from the same base row as dk and dv. */
typedef struct {
    real *dq, *dk, *dv; /* dq written, rows lddq apart; dk and dv added to, rows ldd apart */
    const real *dz;     /* rows ldz apart */
    /* NULL, or told of the scores' cotangents ds [n,ld] of queries r, r+1, ... over keys 0 to ld-1: 64 queries at a
     * time, then what is left. Then dq and dk may be NULL: not wanted. For the zero mask alone, and positions one after the other. */
    void (*scores)(void *context, const real *ds, size_t ld, size_t r, size_t n);
    void *context;
    double *dgate;      /* NULL, or added to: d loss / d b where gate = sigmoid(b) */
    size_t lddq, ldd, ldz, base;
} R(bf_head_flow);

/* VJP of bf_attention for one loss: what reaches q, k, v of every position from dz of n rows.
 *   pos [n] their positions, ascending, pos[0] >= base; every key that passes them gradient is >= base
 *   scratch: bf_attention_vjp_scratch(N, K, mask.delta) values
 *   residual: NULL, or kept at the largest |sum_j ds[r,j]| seen, relative to the terms that cancel: 0 in
 *   exact arithmetic, since a softmax row's weights sum to 1. */
void R(bf_attention_vjp)(const R(bf_head) *head, const R(bf_head_flow) *flow, const unsigned *pos,
                         size_t n, real *scratch, double *residual);
size_t bf_attention_vjp_scratch(size_t N, size_t K, bool delta);
void R(bf_transpose_values)(real *vt, const R(bf_head) *head);
/* Its middle part: ds [n,keys] of n rows of weights p (ldp apart) from dz; the columns of both are the
 * keys of the span, sinks first, and must hold all that the rows read. Rows are queries pos[0..n); with a
 * compressive memory all of one segment, and the columns of what it stored are then d loss / d w. */
void R(bf_attention_scores_vjp)(real *ds, const R(bf_head) *head, const real *p, size_t ldp,
                                const real *dz, size_t ldz, const unsigned *pos, size_t n, bf_span keys,
                                double *residual, double *dgate);

/* Parts of attention where mask.compressive is not 0, called by it (memory.c). Queries are of one segment;
 * b = bf_mask_stored of them; dw [n, at least b] = d loss / d w.
 * pattern: rows r0..r1-1 hold softmax over their segment; fill in what is before it, and mix.
 * scores: one row of d loss / d pattern to dw, in place, from its pattern row p.
 * query, keys: dq and dk of rows 0..b-1, added to; q are the n queries.
 * meeting: <pull, d w_rj / d k_j>.
 * gate: the memory's part in head h's answer; logits [H] of the layer, or NULL: the mask's.
 * store: with mask.delta, before any pattern: u [N,K], rows head->ldu apart, and head->links.
 * store_vjp: du [N,K] of rows 0..stored-1, overwritten, to dk and dv, added to; ds: room for 64*N. */
void R(bf_memory_pattern)(const R(bf_head) *head, size_t r0, size_t r1);
void R(bf_memory_scores_vjp)(real *dp, const R(bf_head) *head, const real *p, size_t r);
void R(bf_memory_query_vjp)(real *dq, size_t lddq, const R(bf_head) *head, const real *q, size_t ldq,
                            size_t n, const real *dw, size_t ldw, size_t b);
void R(bf_memory_keys_vjp)(real *dk, size_t lddk, const R(bf_head) *head, const real *q, size_t ldq,
                           size_t n, const real *dw, size_t ldw, size_t b);
double R(bf_memory_meeting)(const R(bf_head) *head, size_t r, size_t j, const real *pull);
double R(bf_memory_gate)(const bf_mask *mask, const real *logits, size_t h);
void R(bf_memory_store)(const R(bf_head) *head, real *u);
void R(bf_memory_store_vjp)(const R(bf_head) *head, const R(bf_head_flow) *flow, real *du, size_t stored,
                            real *ds);

/* e^(x-max) of n values in place, and their sum in double; NaN stays NaN. */
double R(bf_exp_shifted)(real *x, size_t n);
/* The same; the sum is of all but x[k], without cancellation. */
double R(bf_exp_others)(real *x, size_t n, size_t k);

/* |g| and <g,a> of n values, summed in double. */
void R(bf_norm_and_dot)(double *norm, double *dot, const real *g, const real *a, size_t n);

#endif
