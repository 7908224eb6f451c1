/* Attention where keys and values of earlier positions are those of another run (BF_CUT_LOCAL). */
#include "model/num/train.h"

#include <string.h>

/* dp of one query to ds, in place. */
BF_HOT static void softmax_vjp(real *dp, const real *p, size_t n, real scale)
{
    double mean = 0;
    for (size_t j = 0; j < n; j++)
        mean += (double)p[j] * (double)dp[j];
    for (size_t j = 0; j < n; j++)
        dp[j] = scale * p[j] * (dp[j] - (real)mean);
}

BF_HOT static real dot(const real *a, const real *b, size_t n)
{
    real sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t d = 0; d < n; d++)
        sum += a[d] * b[d];
    return sum;
}

static void add(real *to, const real *x, real by, size_t n)
{
    for (size_t d = 0; d < n; d++)
        to[d] += by * x[d];
}

/* Dropout's, of one weight. */
static real factor(const R(bf_head) *h, size_t i, size_t j)
{
    return h->factor ? h->factor[i * h->N + j] : 1;
}

/* Query i reads its own key and value, and kept ones of all others. */
static void row_vjp(const R(bf_head) *h, const R(bf_head_flow) *to, size_t i, real *ds)
{
    const size_t K = h->K;
    const real *p = h->pattern + i * h->N, *dz = to->dz + i * to->ldz;
    real *dq = to->dq + i * to->lddq;
    for (size_t j = 0; j <= i; j++)
        ds[j] = factor(h, i, j) * dot(dz, (j == i ? h->v : h->kept_v) + j * h->ldv, K);
    softmax_vjp(ds, p, i + 1, h->scale);
    for (size_t d = 0; d < K; d++)
        dq[d] = 0;
    for (size_t j = 0; j <= i; j++)
        add(dq, (j == i ? h->k : h->kept_k) + j * h->ldk, ds[j], K);
    add(to->dk + i * to->ldd, h->q + i * h->ldq, ds[i], K);
    add(to->dv + i * to->ldd, dz, factor(h, i, i) * p[i], K);
}

void R(bf_train_local_vjp)(const R(bf_head) *head, const R(bf_head_flow) *flow, real *scratch)
{
    for (size_t i = 0; i < head->N; i++)
        row_vjp(head, flow, i, scratch);
}

/* What the model that stays computes for this batch: its q, k, v of all layers. */
void R(bf_train_keep)(R(bf_train) *t, const bf_batch *batch)
{
    const size_t values = t->rows * (t->c->H + 2 * t->c->G) * t->c->K;
    const size_t by = (size_t)(t->kept_param - t->param);
    const R(bf_mat) embed = t->embed, pos = t->pos;
    t->embed.w += by;
    if (pos.w)
        t->pos.w += by;
    t->keeping = true;
    R(bf_train_embed)(t, batch, t->acts[0].x);
    for (size_t l = 0; l < t->c->L; l++) {
        R(bf_train_layer)(t, l, &t->kept_block[l], &t->acts[l], l + 1 < t->c->L ? t->acts[l + 1].x : t->last);
        memcpy(t->kept + l * values, t->acts[l].qkv, values * sizeof *t->kept);
    }
    t->keeping = false;
    t->embed = embed;
    t->pos = pos;
}
