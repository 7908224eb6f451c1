/* Compressive memory (Munkhdalai et al. 2024, arXiv:2404.07143): a query in a segment that starts at b
 * reads what earlier segments left in M = sum_{j<b} s(k_j)' u_j, as s(q) M / (s(q) sum_j s(k_j)),
 * s = ELU + 1. That is attention with the weights
 *     m_rj = w_rj / W_r,   w_rj = <s(q_r), s(k_j)>,   W_r = sum_{j<b} w_rj
 * and here it is computed so: each weight is needed once, and the record shows it.
 *
 * What is stored of a value, u_j, is v_j, or by the delta rule v_j less what the memory of the segments
 * before j's answers to k_j: u_j = v_j - sum_{j'<b_j} t_jj' u_j', with t the weights m where keys are the
 * queries (head->links). So the recursion over segments is such attention once more, of keys to keys, and
 * its VJP is that of the reading, from the last segment to the first. */
#include "model/num/ops.h"

#include <math.h>
#include <string.h>

#include "base/gemm.h"

/* Queries, keys and values of a head that are handled at once. */
enum { SIDE = 64 };

static real soft(real x)
{
    return x > 0 ? x + 1 : (real)exp((double)x);
}

static real slope(real x)
{
    return x > 0 ? 1 : (real)exp((double)x);
}

/* s(x) of n rows, columns e0..e0+width-1, to [n,SIDE]. */
static void soft_rows(real *to, const real *x, size_t ld, size_t n, size_t e0, size_t width)
{
    for (size_t r = 0; r < n; r++)
        for (size_t e = 0; e < width; e++)
            to[r * SIDE + e] = soft(x[r * ld + e0 + e]);
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

static const real *keys_of(const R(bf_head) *h, size_t r)
{
    return h->kept_k && bf_mask_cut(&h->mask, r) ? h->kept_k : h->k;
}

double R(bf_memory_gate)(const bf_mask *m, const real *logits, size_t h)
{
    return logits ? 1.0 / (1.0 + exp(-(double)logits[h])) : m->compressive;
}

/* Pattern rows r0..r1-1, of one segment, before it: gate m_rj. */
static void read_stored(const R(bf_head) *h, size_t r0, size_t r1)
{
    const size_t b = bf_mask_stored(&h->mask, r0);
    const real *k = keys_of(h, r0);
    real q_soft[SIDE * SIDE], k_soft[SIDE * SIDE];
    for (size_t r = r0; r < r1; r += SIDE)
        for (size_t j = 0; j < b; j += SIDE)
            for (size_t e = 0; e < h->K; e += SIDE) {
                const size_t rows = smaller(SIDE, r1 - r), keys = smaller(SIDE, b - j),
                             width = smaller(SIDE, h->K - e);
                soft_rows(q_soft, h->q + r * h->ldq, h->ldq, rows, e, width);
                soft_rows(k_soft, k + j * h->ldk, h->ldk, keys, e, width);
                R(bf_gemm)(false, true, rows, keys, width, 1, q_soft, SIDE, k_soft, SIDE, e > 0,
                           h->pattern + r * h->N + j, h->N);
            }
    for (size_t r = r0; r < r1; r++) {
        real *row = h->pattern + r * h->N;
        double sum = 0.0;
        for (size_t j = 0; j < b; j++)
            sum += (double)row[j];
        for (size_t j = 0; j < b; j++)
            row[j] = (real)((double)row[j] * h->gate / sum);
    }
}

void R(bf_memory_pattern)(const R(bf_head) *h, size_t r0, size_t r1)
{
    read_stored(h, r0, r1);
    for (size_t r = r0; r < r1; r++)
        for (size_t j = bf_mask_stored(&h->mask, r0); j <= r; j++)
            h->pattern[r * h->N + j] *= (real)(1.0 - h->gate);
}

/* Keys as the queries of the memory that they are about to be written to. */
static R(bf_head) writer_of(const R(bf_head) *h)
{
    R(bf_head) w = *h;
    w.q = h->k;
    w.ldq = h->ldk;
    w.kept_k = NULL;
    w.pattern = h->links;
    w.gate = 1.0;
    return w;
}

/* Nobody reads what the last segment would store. */
void R(bf_memory_store)(const R(bf_head) *h, real *u)
{
    const size_t S = h->mask.segment, N = h->N;
    const R(bf_head) w = writer_of(h);
    for (size_t b = 0; b + S < N; b += S) {
        for (size_t r = b; r < b + S; r++)
            memcpy(u + r * h->ldu, h->v + r * h->ldv, h->K * sizeof *u);
        if (!b)
            continue;
        read_stored(&w, b, b + S);
        R(bf_gemm)(false, false, S, h->K, b, -1, h->links + b * N, N, u, h->ldu, true, u + b * h->ldu,
                   h->ldu);
    }
}

/* d z / d w is what a quotient's is: dw_j = g (dp_j - sum_i m_i dp_i) / W. W from the largest weight. */
void R(bf_memory_scores_vjp)(real *dp, const R(bf_head) *h, const real *p, size_t r)
{
    const size_t b = bf_mask_stored(&h->mask, r);
    size_t top = 0;
    double mean = 0.0, w = 0.0;
    for (size_t j = 0; j < b && h->gate > 0.0; j++) { /* a gate that was learnt may have come to 0 */
        mean += (double)p[j] * (double)dp[j] / h->gate;
        top = p[j] > p[top] ? j : top;
    }
    for (size_t e = 0; e < h->K && b; e++)
        w += (double)soft(h->q[r * h->ldq + e]) * (double)soft(h->k[top * h->ldk + e]);
    for (size_t j = 0; j < b; j++)
        dp[j] = (real)((double)p[top] / w * ((double)dp[j] - mean));
}

void R(bf_memory_query_vjp)(real *dq, size_t lddq, const R(bf_head) *h, const real *q, size_t ldq, size_t n,
                            const real *dw, size_t ldw, size_t b)
{
    real k_soft[SIDE * SIDE], d[SIDE * SIDE];
    for (size_t e = 0; e < h->K && b; e += SIDE) {
        const size_t width = smaller(SIDE, h->K - e);
        for (size_t j = 0; j < b; j += SIDE) {
            const size_t keys = smaller(SIDE, b - j);
            soft_rows(k_soft, h->k + j * h->ldk, h->ldk, keys, e, width);
            R(bf_gemm)(false, false, n, width, keys, 1, dw + j, ldw, k_soft, SIDE, j > 0, d, SIDE);
        }
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < width; c++)
                dq[r * lddq + e + c] += d[r * SIDE + c] * slope(q[r * ldq + e + c]);
    }
}

void R(bf_memory_keys_vjp)(real *dk, size_t lddk, const R(bf_head) *h, const real *q, size_t ldq, size_t n,
                           const real *dw, size_t ldw, size_t b)
{
    real q_soft[SIDE * SIDE], d[SIDE * SIDE];
    for (size_t e = 0; e < h->K && b; e += SIDE) {
        const size_t width = smaller(SIDE, h->K - e);
        soft_rows(q_soft, q, ldq, n, e, width);
        for (size_t j = 0; j < b; j += SIDE) {
            const size_t keys = smaller(SIDE, b - j);
            R(bf_gemm)(true, false, keys, width, n, 1, dw + j, ldw, q_soft, SIDE, false, d, SIDE);
            for (size_t r = 0; r < keys; r++)
                for (size_t c = 0; c < width; c++)
                    dk[(j + r) * lddk + e + c] += d[r * SIDE + c] * slope(h->k[(j + r) * h->ldk + e + c]);
        }
    }
}

double R(bf_memory_meeting)(const R(bf_head) *h, size_t r, size_t j, const real *pull)
{
    double sum = 0.0;
    for (size_t e = 0; e < h->K; e++)
        sum += (double)soft(h->q[r * h->ldq + e]) * (double)slope(h->k[j * h->ldk + e]) * (double)pull[e];
    return sum;
}

/* From du_j: dv_j += du_j, du_j' -= t_jj' du_j, and by t_jj' (whose cotangent is -<du_j, u_j'>) to k_j, which
 * read, and k_j', which was written. */
void R(bf_memory_store_vjp)(const R(bf_head) *h, const R(bf_head_flow) *to, real *du, size_t stored, real *ds)
{
    const size_t S = h->mask.segment, N = h->N, K = h->K;
    const R(bf_head) w = writer_of(h);
    for (size_t end = stored, a; end > S; end = a) {
        const size_t b = bf_mask_stored(&h->mask, end - 1), n = smaller(SIDE, end - b);
        a = end - n;
        const real *k = h->k + a * h->ldk, *t = h->links + a * N;
        R(bf_gemm)(false, true, n, b, K, -1, du + a * K, K, h->u, h->ldu, false, ds, b);
        for (size_t r = 0; r < n; r++)
            R(bf_memory_scores_vjp)(ds + r * b, &w, t + r * N, a + r);
        R(bf_memory_query_vjp)(to->dk + a * to->ldd, to->ldd, &w, k, h->ldk, n, ds, b, b);
        R(bf_memory_keys_vjp)(to->dk, to->ldd, &w, k, h->ldk, n, ds, b, b);
        R(bf_gemm)(true, false, b, K, n, -1, t, N, du + a * K, K, true, du, K);
    }
    for (size_t j = 0; j < stored; j++)
        for (size_t e = 0; e < K; e++)
            to->dv[j * to->ldd + e] += du[j * K + e];
}
