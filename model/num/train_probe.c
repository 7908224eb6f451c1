/* A linear probe: can sin(factor x[n]), which later tokens of the sine task need, be read off the
 * residual stream at n by a linear map? (Wu, Morris & Levine 2024, arXiv:2404.00859, section 4.)
 * Least squares with an intercept on some held-out batches, R^2 on others. */
#include "model/num/train.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SITES = 2, BATCHES = 16 }; /* resid_pre[0], resid_pre[1]; to fit on, and as many to judge by */

/* Sums over rows of [x 1 y] [x 1 y]^T of one site; n = D + 1. */
typedef struct {
    double *A, *b; /* [n,n] lower half, [n]: the map comes to stand in b */
    double *row;   /* [n] */
    size_t n;
    double y, yy, error, count; /* sums over the rows to judge by */
} probe;

static const real *site(const R(bf_train) *t, size_t s)
{
    return s < t->c->L ? t->acts[s].x : t->last;
}

static void read_row(probe *p, const real *x)
{
    for (size_t d = 0; d + 1 < p->n; d++)
        p->row[d] = (double)x[d];
    p->row[p->n - 1] = 1.0;
}

static void add_row(probe *p, const real *x, double y)
{
    read_row(p, x);
    for (size_t a = 0; a < p->n; a++) {
        for (size_t b = 0; b <= a; b++)
            p->A[a * p->n + b] += p->row[a] * p->row[b];
        p->b[a] += p->row[a] * y;
    }
}

static void judge_row(probe *p, const real *x, double y)
{
    double found = 0.0;
    read_row(p, x);
    for (size_t a = 0; a < p->n; a++)
        found += p->b[a] * p->row[a];
    p->error += (found - y) * (found - y);
    p->y += y;
    p->yy += y * y;
    p->count += 1.0;
}

/* A b' = b by Cholesky. 1e-9 of the mean square is added to the diagonal: a stream of D values need not
 * have rank D. */
static void solve(probe *p)
{
    const size_t n = p->n;
    double *A = p->A, *b = p->b, mean = 0.0;
    for (size_t a = 0; a < n; a++)
        mean += A[a * n + a] / (double)n;
    for (size_t a = 0; a < n; a++) {
        A[a * n + a] += 1e-9 * mean;
        for (size_t c = 0; c <= a; c++) {
            double sum = A[a * n + c];
            for (size_t k = 0; k < c; k++)
                sum -= A[a * n + k] * A[c * n + k];
            A[a * n + c] = c < a ? sum / A[c * n + c] : sqrt(sum);
        }
        for (size_t k = 0; k < a; k++)
            b[a] -= A[a * n + k] * b[k];
        b[a] /= A[a * n + a];
    }
    for (size_t a = n; a-- > 0;) {
        for (size_t k = a + 1; k < n; k++)
            b[a] -= A[k * n + a] * b[k];
        b[a] /= A[a * n + a];
    }
}

static bf_code read_batches(probe p[SITES], R(bf_train) *t, bf_data *data, size_t from, bool judge,
                            bf_error *err)
{
    const double factor = bf_data_task(data)->factor;
    for (size_t k = from; k < from + BATCHES; k++) {
        bf_batch batch;
        double loss;
        const bf_code rc = bf_data_batch(&batch, data, BF_SPLIT_HELD_OUT, k, err);
        if (rc)
            return rc;
        R(bf_train_batch)(&loss, t, &batch, false, 1);
        for (size_t s = 0; s < SITES; s++)
            for (size_t r = 0; r < t->rows; r++)
                (judge ? judge_row : add_row)(&p[s], site(t, s) + r * t->c->D,
                                              sin(factor * batch.x[r * batch.channels]));
    }
    return BF_OK;
}

bf_code R(bf_train_probe)(double r2[SITES], R(bf_train) *t, bf_data *data, bf_error *err)
{
    const size_t n = t->c->D + 1, each = n * n + 2 * n;
    double *room = calloc(SITES * each, sizeof *room);
    probe p[SITES];
    bf_code rc = room ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a probe of %zu values", n);
    for (size_t s = 0; s < SITES && room; s++)
        p[s] = (probe){.A = room + s * each, .b = room + s * each + n * n,
                       .row = room + s * each + n * n + n, .n = n};
    if (!rc)
        rc = read_batches(p, t, data, 0, false, err);
    for (size_t s = 0; s < SITES && !rc; s++)
        solve(&p[s]);
    if (!rc)
        rc = read_batches(p, t, data, BATCHES, true, err);
    for (size_t s = 0; s < SITES && !rc; s++)
        r2[s] = 1.0 - p[s].error / (p[s].yy - p[s].y * p[s].y / p[s].count);
    free(room);
    return rc;
}
