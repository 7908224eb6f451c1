#include "base/blend.h"

#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "base/real.h"

/* One worker's sum, of a whole panel and of the last one. */
typedef struct {
    bf_packed *whole, *last;
} sum;

struct bf_blend {
    size_t K, N, deep, panels, workers; /* deep: rows of a panel, but of the last */
    bool half;
    bf_packed **of[2]; /* [panels] */
    sum *sums;         /* [workers] */
};

static size_t panel_rows(const bf_blend *m, size_t p)
{
    return p + 1 < m->panels ? m->deep : m->K - p * m->deep;
}

/* Both weights' panels and their sum are about as large as the nearest cache but one, of 1 MB. C is read and written
 * for each, so fewer rows cost more. */
static size_t rows_of_panels(size_t K, size_t N, bool half)
{
    enum { VALUES = 3 << 15, STEP = 32 };
    const size_t fit = VALUES / N * (half ? 2 : 1) / STEP * STEP, least = fit ? fit : STEP;
    return least < K ? least : K;
}

static bf_code take_sum(sum *s, bf_packing *room, const bf_blend *m, bf_error *err)
{
    bf_grid grid;
    bf_code rc = bf_packed_new(&s->whole, room, m->deep, m->N, m->half, err);
    if (!rc)
        rc = bf_packed_new(&s->last, room, panel_rows(m, m->panels - 1), m->N, m->half, err);
    if (!rc && !(bf_packed_grid(&grid, s->whole) && bf_packed_grid(&grid, s->last)))
        rc = bf_fail(err, BF_EUNSUPPORTED, "oneDNN packs a weight of %zu x %zu in an unknown layout", m->deep, m->N);
    return rc;
}

bf_code bf_blend_new(bf_blend **out, bf_packing *room, size_t K, size_t N, bool half, bf_error *err)
{
    bf_blend *m = calloc(1, sizeof *m);
    if (!m)
        return bf_fail(err, BF_ENOMEM, "cannot hold two weights of %zu x %zu", K, N);
    *m = (bf_blend){.K = K, .N = N, .deep = rows_of_panels(K, N, half), .workers = bf_packing_workers(room),
                    .half = half};
    m->panels = (K + m->deep - 1) / m->deep;
    m->sums = calloc(m->workers, sizeof *m->sums);
    m->of[0] = calloc(m->panels, sizeof *m->of[0]);
    m->of[1] = calloc(m->panels, sizeof *m->of[1]);
    bf_code rc = m->sums && m->of[0] && m->of[1] ? BF_OK
                                                : bf_fail(err, BF_ENOMEM, "cannot hold two weights of %zu x %zu", K, N);
    for (size_t k = 0; k < m->workers && !rc; k++)
        rc = take_sum(&m->sums[k], room, m, err);
    for (size_t k = 0; k < 2 * m->panels && !rc; k++)
        rc = bf_packed_new(&m->of[k % 2][k / 2], room, panel_rows(m, k / 2), N, half, err);
    if (rc) {
        bf_blend_free(m);
        return rc;
    }
    *out = m;
    return BF_OK;
}

void bf_blend_free(bf_blend *m)
{
    if (!m)
        return;
    for (size_t k = 0; m->sums && k < m->workers; k++) {
        bf_packed_free(m->sums[k].whole);
        bf_packed_free(m->sums[k].last);
    }
    for (size_t k = 0; m->of[0] && m->of[1] && k < 2 * m->panels; k++)
        bf_packed_free(m->of[k % 2][k / 2]);
    free(m->sums);
    free(m->of[0]);
    free(m->of[1]);
    free(m);
}

bool bf_blend_fits(const bf_blend *m, size_t K, size_t N, bool half)
{
    return m && m->K == K && m->N == N && m->half == half;
}

size_t bf_blend_panels(const bf_blend *m)
{
    return m->panels;
}

void bf_blend_fill(bf_blend *m, size_t worker, unsigned which, size_t p, const float *B, size_t ldb, bool tb)
{
    bf_packed_fill(m->of[which][p], worker, B + p * m->deep * (tb ? 1 : ldb), ldb, tb);
}

/* ---- sums, in the library's layout; rows from K on are zeros in all three ---- */

BF_HOT static void blend_f32(const bf_grid *out, const bf_grid *x, const bf_grid *y, const float *a, const float *b,
                             size_t K)
{
    float *restrict to = out->values;
    const float *restrict u = x->values, *restrict v = y->values;
    const size_t wide = out->wide;
    for (size_t block = 0; block < out->blocks; block++)
        for (size_t k = 0; k < out->rows; k++, to += wide, u += wide, v += wide) {
            const float p = k < K ? a[k] : 0, q = k < K ? b[k] : 0;
            for (size_t n = 0; n < wide; n++)
                to[n] = p * u[n] + q * v[n];
        }
}

static float value_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Two rows at a time: a word holds both their values of one column. */
BF_HOT static void blend_bf16(const bf_grid *out, const bf_grid *x, const bf_grid *y, const float *a, const float *b,
                              size_t K)
{
    uint32_t *restrict to = out->values;
    const uint32_t *restrict u = x->values, *restrict v = y->values;
    const size_t wide = out->wide;
    for (size_t block = 0; block < out->blocks; block++)
        for (size_t k = 0; k < out->rows; k += 2, to += wide, u += wide, v += wide) {
            const float p0 = k < K ? a[k] : 0, q0 = k < K ? b[k] : 0;
            const float p1 = k + 1 < K ? a[k + 1] : 0, q1 = k + 1 < K ? b[k + 1] : 0;
            for (size_t n = 0; n < wide; n++) {
                const float low = p0 * value_of(u[n] << 16) + q0 * value_of(v[n] << 16);
                const float high = p1 * value_of(u[n] & 0xffff0000) + q1 * value_of(v[n] & 0xffff0000);
                to[n] = bf_bfloat_of_number(low) | bf_bfloat_of_number(high) << 16;
            }
        }
}

static void form(const bf_packed *out, const bf_packed *x, const bf_packed *y, const float *a, const float *b,
                 size_t K, bool half)
{
    bf_grid to, u, v;
    bf_packed_grid(&to, out);
    bf_packed_grid(&u, x);
    bf_packed_grid(&v, y);
    (half ? blend_bf16 : blend_f32)(&to, &u, &v, a, b, K);
}

/* The library makes a kernel for every number of rows: here for multiples of 16, and 8, 4, 2, 1. */
static size_t rows_at_once(size_t left)
{
    enum { MANY = 16 };
    size_t n = MANY / 2;
    if (left >= MANY)
        return left / MANY * MANY;
    while (n > left)
        n /= 2;
    return n;
}

void bf_blend_apply(const bf_blend *m, size_t worker, const bf_run *runs, size_t n, const float *A, size_t lda,
                    float *C)
{
    for (size_t p = 0; p < m->panels; p++) {
        const size_t first = p * m->deep, K = panel_rows(m, p);
        const bf_packed *at = p + 1 < m->panels ? m->sums[worker].whole : m->sums[worker].last;
        const float *from = A + first;
        float *to = C;
        for (const bf_run *run = runs; run < runs + n; run++) {
            form(at, m->of[0][p], m->of[1][p], run->a + first, run->b + first, K, m->half);
            for (size_t left = run->rows, rows; left; left -= rows, from += rows * lda, to += rows * m->N) {
                rows = rows_at_once(left);
                bf_packed_apply(at, worker, rows, from, lda, p > 0, to);
            }
        }
    }
}
