#include "model/num/ops.h"

#include <string.h>

#include "base/gemm.h"
#include "base/vmath.h"

/* Rows of queries handled at once: small enough for the cache, large enough for BLAS. */
enum { BLOCK = 64 };

/* OpenBLAS multiplies small matrices as they stand, up to 10^6 terms in all, and copies larger ones first: products of
 * a block's rows take so many keys at a time (docs/performance.md). */
static size_t run_of_keys(size_t K)
{
    enum { SMALL = 1000 * 1000, STEP = 16 };
    const size_t n = SMALL / BLOCK / K / STEP * STEP;
    return n ? n : STEP;
}

/* ds [n,keys] = dz vt, vt [K,keys]. */
static void gemm_scores(real *ds, size_t ldds, const real *dz, size_t ldz, const real *vt, size_t ldv, size_t n,
                        size_t keys, size_t K)
{
    const size_t run = run_of_keys(K);
    for (size_t a = 0; a < keys; a += run)
        R(bf_gemm)(false, false, n, keys - a < run ? keys - a : run, K, 1, dz, ldz, vt + a, ldv, false, ds + a, ldds);
}

/* z [n,K] = p v, p [n,keys]. */
static void gemm_mix(real *z, size_t ldz, const real *p, size_t ldp, const real *v, size_t ldv, size_t n,
                     size_t keys, size_t K)
{
    const size_t run = run_of_keys(K);
    for (size_t a = 0; a == 0 || a < keys; a += run)
        R(bf_gemm)(false, false, n, K, keys - a < run ? keys - a : run, 1, p + a, ldp, v + a * ldv, ldv, a > 0, z, ldz);
}

/* dv [keys,K] += p^T dz, p [n,keys]. */
static void gemm_keys(real *dv, size_t lddv, const real *p, size_t ldp, const real *dz, size_t ldz, size_t n,
                      size_t keys, size_t K)
{
    const size_t run = run_of_keys(K);
    for (size_t a = 0; a < keys; a += run)
        R(bf_gemm)(true, false, keys - a < run ? keys - a : run, K, n, 1, p + a, ldp, dz, ldz, true, dv + a * lddv,
                   lddv);
}

/* Keys that any of the rows first..last reads, and maybe some more. */
static bf_span block_keys(const R(bf_head) *h, size_t first, size_t last)
{
    const bf_span low = bf_mask_keys(&h->mask, first, h->N), high = bf_mask_keys(&h->mask, last, h->N);
    return high.sinks < low.lo ? (bf_span){high.sinks, low.lo, high.hi} : (bf_span){0, 0, high.hi};
}

static double inner(const real *a, const real *b, size_t n)
{
    double sum = 0.0;
    for (size_t e = 0; e < n; e++)
        sum += (double)a[e] * (double)b[e];
    return sum;
}

/* Rows a.. of a block end here: all of one segment where there is a compressive memory. */
static size_t block_end(const bf_mask *m, size_t a, size_t end)
{
    const size_t next = m->compressive > 0.0 ? (a / m->segment + 1) * m->segment : end;
    end = end < next ? end : next;
    return a + BLOCK < end ? a + BLOCK : end;
}

BF_HOT double R(bf_exp_shifted)(real *x, size_t n)
{
    real max = x[0];
    double sum = 0.0;
#pragma omp simd reduction(max : max)
    for (size_t j = 1; j < n; j++)
        max = x[j] > max ? x[j] : max;
#pragma omp simd reduction(+ : sum)
    for (size_t j = 0; j < n; j++) {
#if BF_BITS == 64
        x[j] = exp(x[j] - max);
#else
        x[j] = expf(x[j] - max);
#endif
        sum += (double)x[j];
    }
    return sum;
}

double R(bf_exp_others)(real *x, size_t n, size_t k)
{
    const double all = R(bf_exp_shifted)(x, n);
    double others = all - (double)x[k];
    if (others < 0.5 * all) { /* cancellation: add up what is left */
        others = 0.0;
        for (size_t v = 0; v < n; v++)
            others += v == k ? 0.0 : (double)x[v];
    }
    return others;
}

/* Scores [0..n) to weights. */
BF_HOT static void softmax_row(real *s, size_t n)
{
    const real inverse = (real)(1.0 / R(bf_exp_shifted)(s, n));
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        s[j] *= inverse;
}

/* Scores of one row to weights. What it reads of the sinks is put beside the other keys meanwhile. */
static void pattern_row(const R(bf_head) *h, size_t r)
{
    bf_span keys = bf_mask_keys(&h->mask, r, h->N);
    keys.lo += bf_mask_stored(&h->mask, r);
    real *row = h->pattern + r * h->N, *from = row + keys.lo - keys.sinks;
    const size_t cut = h->kept_k ? bf_mask_cut(&h->mask, r) : 0;
    for (size_t j = bf_span_first(keys); j < cut; j = bf_span_next(keys, j))
        row[j] = (real)((double)h->scale * inner(h->q + r * h->ldq, h->kept_k + j * h->ldk, h->K));
    memmove(from, row, keys.sinks * sizeof *row);
    softmax_row(from, bf_span_size(keys));
    memmove(row, from, keys.sinks * sizeof *row);
    memset(row + keys.sinks, 0, (keys.lo - keys.sinks) * sizeof *row);
    memset(row + keys.hi + 1, 0, (h->N - keys.hi - 1) * sizeof *row);
}

void R(bf_attention_pattern)(const R(bf_head) *h, size_t r0, size_t r1)
{
    const size_t N = h->N;
    for (size_t a = r0, b; a < r1; a = b) {
        b = block_end(&h->mask, a, r1);
        const bf_span keys = block_keys(h, a, b - 1);
        R(bf_gemm)(false, true, b - a, keys.hi + 1 - keys.lo, h->K, h->scale, h->q + a * h->ldq, h->ldq,
                   h->k + keys.lo * h->ldk, h->ldk, false, h->pattern + a * N + keys.lo, N);
        if (keys.sinks)
            R(bf_gemm)(false, true, b - a, keys.sinks, h->K, h->scale, h->q + a * h->ldq, h->ldq, h->k,
                       h->ldk, false, h->pattern + a * N, N);
        for (size_t r = a; r < b; r++)
            pattern_row(h, r);
        if (h->mask.compressive > 0.0)
            R(bf_memory_pattern)(h, a, b);
    }
}

/* Put kept values in the place of those that pass no gradient to z of query r. */
static void mix_kept(const R(bf_head) *h, real *z, size_t r)
{
    const bf_span keys = bf_mask_keys(&h->mask, r, h->N);
    const size_t cut = bf_mask_cut(&h->mask, r), stored = bf_mask_stored(&h->mask, r);
    for (size_t j = bf_span_first(keys); j < cut; j = bf_span_next(keys, j)) {
        const real *v = j < stored ? h->u + j * h->ldu : h->v + j * h->ldv;
        const real *kept = j < stored ? h->kept_u + j * h->ldu : h->kept_v + j * h->ldv;
        for (size_t e = 0; e < h->K; e++)
            z[e] += h->pattern[r * h->N + j] * (kept[e] - v[e]);
    }
}

void R(bf_attention_mix)(const R(bf_head) *h, real *z, size_t ldz, size_t r0, size_t r1)
{
    for (size_t a = r0, b; a < r1; a = b) {
        b = block_end(&h->mask, a, r1);
        const bf_span keys = block_keys(h, a, b - 1);
        const size_t stored = bf_mask_stored(&h->mask, a), lo = keys.lo + stored;
        gemm_mix(z + a * ldz, ldz, h->pattern + a * h->N + lo, h->N, h->v + lo * h->ldv, h->ldv, b - a,
                 keys.hi + 1 - lo, h->K);
        if (stored)
            R(bf_gemm)(false, false, b - a, h->K, stored, 1, h->pattern + a * h->N, h->N, h->u, h->ldu, true,
                       z + a * ldz, ldz);
        if (keys.sinks)
            R(bf_gemm)(false, false, b - a, h->K, keys.sinks, 1, h->pattern + a * h->N, h->N, h->v,
                       h->ldv, true, z + a * ldz, ldz);
        for (size_t r = a; r < b && h->kept_v; r++)
            mix_kept(h, z + r * ldz, r);
    }
}

#if BF_BITS == 32
size_t bf_attention_vjp_scratch(size_t N, size_t K, bool delta)
{
    return BLOCK * (3 * N + 3 * K) + (delta ? N * K : 0);
}
#endif

/* What a softmax row's score gradients p (dp - mean) miss 0 by, relative to the terms that cancel. */
static void watch_row(const real *dp, const real *p, real mean, size_t n, double *residual)
{
    double sum = 0.0, size = 0.0;
    for (size_t j = 0; j < n; j++) {
        sum += (double)p[j] * (double)(dp[j] - mean);
        size += (double)p[j] * (fabs((double)dp[j]) + fabs((double)mean));
    }
    if (size > 0.0 && fabs(sum) / size > *residual)
        *residual = fabs(sum) / size;
}

/* ds = scale * p * (dp - sum_j p dp / sum), in place of dp; sum is that of the p. */
BF_HOT static void softmax_row_vjp(real *dp, const real *p, size_t n, real scale, double sum,
                                   double *residual)
{
    double dot = 0.0;
#pragma omp simd reduction(+ : dot)
    for (size_t j = 0; j < n; j++)
        dot += (double)p[j] * (double)dp[j];
    if (sum != 1.0 && sum > 0.0) { /* so that a lone key's weight is 1 to the bit, and its ds 0 */
        dot = 0.0;
        for (size_t j = 0; j < n; j++)
            dot += (double)p[j] / sum * (double)dp[j];
    }
    const real mean = (real)dot;
    if (residual)
        watch_row(dp, p, mean, n, residual);
#pragma omp simd
    for (size_t j = 0; j < n; j++)
        dp[j] = scale * p[j] * (dp[j] - mean);
}

/* Rows of m values at src + (pos[k] - base)*ld, n of them: where they stand if that is one after the
 * other, else copied to dst. *ld_out is their distance. */
static const real *gather(real *dst, const real *src, size_t ld, const unsigned *pos, size_t base,
                          size_t n, size_t m, size_t *ld_out)
{
    *ld_out = ld;
    if (pos[n - 1] - pos[0] == n - 1)
        return src + (pos[0] - base) * ld;
    for (size_t k = 0; k < n; k++)
        memcpy(dst + k * m, src + (pos[k] - base) * ld, m * sizeof *dst);
    *ld_out = m;
    return dst;
}

/* d loss / d b of one row, gate = g = sigmoid(b): p is g m and (1 - g) softmax, and g' = g (1 - g). */
static double gate_slope(const real *dp, const real *p, size_t stored, size_t n, double g)
{
    double past = 0.0, here = 0.0;
    for (size_t j = 0; j < stored; j++)
        past += (double)p[j] * (double)dp[j];
    for (size_t j = stored; j < n; j++)
        here += (double)p[j] * (double)dp[j];
    return (1.0 - g) * past - g * here;
}

/* Columns of keys, sinks first, of query r's row x times their factors. */
static void drop_row(const R(bf_head) *h, real *x, size_t r, bf_span keys)
{
    const real *sinks = h->factor + r * h->N, *rest = sinks + keys.lo - keys.sinks;
    const size_t n = bf_span_size(keys);
    for (size_t j = 0; j < n; j++)
        x[j] *= (j < keys.sinks ? sinks : rest)[j];
}

void R(bf_attention_scores_vjp)(real *ds, const R(bf_head) *h, const real *p, size_t ldp,
                                const real *dz, size_t ldz, const unsigned *pos, size_t n, bf_span keys,
                                double *residual, double *dgate)
{
    const size_t stored = bf_mask_stored(&h->mask, pos[0]), skip = keys.sinks + stored;
    const size_t ld = bf_span_size(keys), lo = keys.lo + stored;
    if (h->vt)
        gemm_scores(ds + skip, ld, dz, ldz, h->vt + lo, h->N, n, ld - skip, h->K);
    else
        R(bf_gemm)(false, true, n, ld - skip, h->K, 1, dz, ldz, h->v + lo * h->ldv, h->ldv, false, ds + skip, ld);
    if (stored)
        R(bf_gemm)(false, true, n, stored, h->K, 1, dz, ldz, h->u, h->ldu, false, ds, ld);
    if (keys.sinks)
        R(bf_gemm)(false, true, n, keys.sinks, h->K, 1, dz, ldz, h->v, h->ldv, false, ds, ld);
    for (size_t r = 0; r < n; r++) {
        if (dgate)
            *dgate += gate_slope(ds + r * ld, p + r * ldp, stored, ld, h->gate);
        if (h->factor)
            drop_row(h, ds + r * ld, pos[r], keys);
        softmax_row_vjp(ds + r * ld + stored, p + r * ldp + stored, ld - stored, h->scale,
                        (double)(real)(1.0 - h->gate), residual);
        if (stored)
            R(bf_memory_scores_vjp)(ds + r * ld, h, p + r * ldp, pos[r]);
    }
}

/* A block of at most BLOCK rows of one loss, and what it reads, rows ld* apart. */
typedef struct {
    const unsigned *pos;
    size_t n, ldp, ldq, ldz, lddu;
    bf_span keys;
    const real *p, *q, *dz; /* p [n, keys] */
    real *ds, *du;          /* du: what reaches a compressive memory, from position 0 on */
} block;

/* Weights of the block's keys: where they stand if that is in one piece and nobody writes there, else
 * copied to room. */
static const real *gather_weights(real *room, const R(bf_head) *h, const block *b, size_t *ld)
{
    const size_t sinks = b->keys.sinks, n = bf_span_size(b->keys);
    if (!sinks && !h->factor && !bf_mask_cut(&h->mask, b->pos[b->n - 1]))
        return gather(room, h->pattern + b->keys.lo, h->N, b->pos, 0, b->n, n, ld);
    for (size_t r = 0; r < b->n; r++) {
        const real *row = h->pattern + b->pos[r] * h->N;
        memcpy(room + r * n, row, sinks * sizeof *room);
        memcpy(room + r * n + sinks, row + b->keys.lo, (n - sinks) * sizeof *room);
    }
    *ld = n;
    return room;
}

/* ds and p of keys that pass no gradient to 0. p was copied, as there is a cut. */
static void cut_rows(const R(bf_head) *h, const block *b, real *p)
{
    const size_t sinks = b->keys.sinks, n = bf_span_size(b->keys);
    for (size_t r = 0; r < b->n; r++) {
        const size_t cut = bf_mask_cut(&h->mask, b->pos[r]);
        const size_t none = cut > b->keys.lo ? sinks + cut - b->keys.lo : cut ? sinks : 0;
        memset(b->ds + r * n, 0, none * sizeof *p);
        memset(p + r * n, 0, none * sizeof *p);
    }
}

/* dk += ds^T q and dv += p^T dz for the keys of the block that pass gradient. */
static void block_keys_vjp(const R(bf_head) *h, const R(bf_head_flow) *to, const block *b)
{
    const size_t cut = bf_mask_cut(&h->mask, b->pos[0]), n = bf_span_size(b->keys), K = h->K;
    const size_t lo = cut > b->keys.lo ? cut : b->keys.lo, keys = b->keys.hi + 1 - lo;
    const size_t at = (lo - to->base) * to->ldd, skip = n - keys;
    const size_t stored = bf_mask_stored(&h->mask, b->pos[0]), past = stored > lo ? stored - lo : 0;
    if (to->dk)
        gemm_keys(to->dk + at + past * to->ldd, to->ldd, b->ds + skip + past, n, b->q, b->ldq, b->n, keys - past, K);
    gemm_keys(to->dv + at + past * to->ldd, to->ldd, b->p + skip + past, b->ldp, b->dz, b->ldz, b->n, keys - past, K);
    if (past) { /* a cut leaves nothing before the segment: base is 0 here */
        R(bf_memory_keys_vjp)(to->dk, to->ldd, h, b->q, b->ldq, b->n, b->ds, n, stored);
        R(bf_gemm)(true, false, past, K, b->n, 1, b->p + skip, b->ldp, b->dz, b->ldz, true, b->du, b->lddu);
    }
    if (!b->keys.sinks || cut)
        return;
    R(bf_gemm)(true, false, b->keys.sinks, K, b->n, 1, b->ds, n, b->q, b->ldq, true, to->dk, to->ldd);
    R(bf_gemm)(true, false, b->keys.sinks, K, b->n, 1, b->p, b->ldp, b->dz, b->ldz, true, to->dv, to->ldd);
}

/* dq = ds k of the block's rows; spare: room for them, if they are not one after the other. */
static void block_queries_vjp(const R(bf_head) *h, const R(bf_head_flow) *to, const block *b, real *spare)
{
    const bool dense = b->pos[b->n - 1] - b->pos[0] == b->n - 1;
    const size_t ld = bf_span_size(b->keys), sinks = b->keys.sinks, K = h->K, lddq = dense ? to->lddq : K;
    const size_t stored = bf_mask_stored(&h->mask, b->pos[0]), skip = sinks + stored;
    real *dq = dense ? to->dq + (b->pos[0] - to->base) * to->lddq : spare;
    gemm_mix(dq, lddq, b->ds + skip, ld, h->k + (b->keys.lo + stored) * h->ldk, h->ldk, b->n, ld - skip, K);
    if (stored)
        R(bf_memory_query_vjp)(dq, lddq, h, b->q, b->ldq, b->n, b->ds, ld, stored);
    if (sinks)
        R(bf_gemm)(false, false, b->n, K, sinks, 1, b->ds, ld, h->k, h->ldk, true, dq, lddq);
    for (size_t r = 0; r < b->n && !dense; r++)
        memcpy(to->dq + (b->pos[r] - to->base) * to->lddq, spare + r * K, K * sizeof *spare);
}

/* du: NULL, or [N,K] where what reaches the memory is not yet what reaches v. */
static void block_vjp(const R(bf_head) *h, const R(bf_head_flow) *to, const unsigned *pos, size_t n,
                      real *scratch, real *du, double *residual)
{
    const size_t K = h->K;
    real *rest = scratch + BLOCK * h->N, *spare = rest + BLOCK * (h->N + 2 * K);
    block b = {.pos = pos, .n = n, .keys = block_keys(h, pos[0], pos[n - 1]), .ds = scratch,
               .du = du ? du : to->dv, .lddu = du ? K : to->ldd};
    b.p = gather_weights(rest, h, &b, &b.ldp);
    b.q = gather(rest + BLOCK * h->N, h->q, h->ldq, pos, 0, n, K, &b.ldq);
    b.dz = gather(rest + BLOCK * (h->N + K), to->dz, to->ldz, pos, to->base, n, K, &b.ldz);
    R(bf_attention_scores_vjp)(b.ds, h, b.p, b.ldp, b.dz, b.ldz, pos, n, b.keys, residual,
                                to->dgate);
    if (to->scores)
        to->scores(to->context, b.ds, bf_span_size(b.keys), pos[0], n);
    if (to->dq)
        block_queries_vjp(h, to, &b, spare);
    for (size_t r = 0; r < n && h->factor; r++) /* from here on p is what the values were mixed with */
        drop_row(h, rest + r * b.ldp, pos[r], b.keys);
    if (bf_mask_cut(&h->mask, pos[n - 1]))
        cut_rows(h, &b, rest);
    block_keys_vjp(h, to, &b);
}

BF_HOT void R(bf_transpose_values)(real *vt, const R(bf_head) *h)
{
    enum { STEP = 16 }; /* a line of the cache */
    for (size_t j0 = 0; j0 < h->N; j0 += STEP) {
        const size_t n = h->N - j0 < STEP ? h->N - j0 : STEP;
        for (size_t e = 0; e < h->K; e++)
            for (size_t j = j0; j < j0 + n; j++)
                vt[e * h->N + j] = h->v[j * h->ldv + e];
    }
}

void R(bf_attention_vjp)(const R(bf_head) *head, const R(bf_head_flow) *flow, const unsigned *pos,
                         size_t n, real *scratch, double *residual)
{
    const bf_mask *m = &head->mask;
    const size_t stored = m->delta && !bf_mask_cut(m, pos[n - 1]) ? bf_mask_stored(m, pos[n - 1]) : 0;
    real *du = stored ? scratch + bf_attention_vjp_scratch(head->N, head->K, false) : NULL;
    if (du)
        memset(du, 0, stored * head->K * sizeof *du);
    for (size_t a = 0, b; a < n; a = b) {
        b = a + BLOCK < n ? a + BLOCK : n;
        while (bf_mask_stored(m, pos[a]) != bf_mask_stored(m, pos[b - 1]))
            b--;
        block_vjp(head, flow, pos + a, b - a, scratch, du, residual);
    }
    if (du)
        R(bf_memory_store_vjp)(head, flow, du, stored, scratch);
}
