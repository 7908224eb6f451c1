/* Gradients of weights, beside the VJPs of ops.h: sums over rows in one fixed order. */
#include "model/num/train.h"

enum { PIECE = 256, COLUMNS = 128 }; /* rows of a weight, columns of a bias, that are a task */

typedef struct {
    const R(bf_train) *t;
    const R(bf_train_product) *list;
    size_t n, rows;
    bool add;
} job;

/* Rows of the gradient as it is stored. */
static size_t stored_rows(const R(bf_mat) *W)
{
    return W->in_major ? W->in : W->out;
}

static size_t pieces(const R(bf_train_product) *p)
{
    return (stored_rows(p->W) + PIECE - 1) / PIECE;
}

static size_t sums(const R(bf_train_product) *p)
{
    return p->db ? (p->W->out + COLUMNS - 1) / COLUMNS : 0;
}

static void piece(const job *j, const R(bf_train_product) *p, size_t k, size_t worker)
{
    const size_t r0 = k * PIECE, all = stored_rows(p->W), m = all - r0 < PIECE ? all - r0 : PIECE;
    R(bf_train_multiply_rows)(j->t, worker, p, j->rows, r0, m, j->add);
}

static inline void add_rows(real total[COLUMNS], const real *y, size_t ld, size_t rows, size_t n)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < n; c++)
            total[c] += y[r * ld + c];
}

/* n <= COLUMNS, and mostly COLUMNS: sums over a loop of known length stay in registers. */
BF_HOT static void column_sums(real *sum, const real *y, size_t ld, size_t rows, size_t n, bool add)
{
    real total[COLUMNS] = {0};
    if (n == COLUMNS)
        add_rows(total, y, ld, rows, COLUMNS);
    else
        add_rows(total, y, ld, rows, n);
    for (size_t c = 0; c < n; c++)
        sum[c] = add ? sum[c] + total[c] : total[c];
}

/* Tasks: the pieces of each product, then its column sums. */
static void weights_task(void *context, size_t task, size_t worker)
{
    const job *j = context;
    const R(bf_train_product) *p = j->list;
    for (; task >= pieces(p) + sums(p); p++)
        task -= pieces(p) + sums(p);
    if (task < pieces(p)) {
        piece(j, p, task, worker);
        return;
    }
    const size_t c0 = (task - pieces(p)) * COLUMNS, left = p->W->out - c0;
    column_sums(p->db + c0, p->dy.x + c0, p->W->out, j->rows, left < COLUMNS ? left : COLUMNS, j->add);
}

void R(bf_train_weights)(const R(bf_train) *t, const R(bf_train_product) *list, size_t n, size_t rows,
                         bool add)
{
    job j = {t, list, n, rows, add};
    size_t tasks = 0;
    for (size_t k = 0; k < n; k++)
        tasks += pieces(&list[k]) + sums(&list[k]);
    bf_pool_run(t->pool, tasks, weights_task, &j);
}

BF_HOT void R(bf_norm_grad)(real *dw, real *db, const real *dy, const real *x, const real *mean,
                            const real *rstd, size_t rows, size_t D)
{
    for (size_t r = 0; r < rows; r++) {
        const real *g = dy + r * D, *v = x + r * D;
        const real m = mean[r], s = rstd[r];
#pragma omp simd
        for (size_t d = 0; d < D; d++) {
            dw[d] += g[d] * (v[d] - m) * s;
            db[d] += g[d];
        }
    }
}

void R(bf_train_norm_sum)(R(bf_train) *t, size_t part, const real *w, const real *b, bool add)
{
    const size_t D = t->c->D;
    real *to[2] = {R(bf_train_grad)(t, w), b ? R(bf_train_grad)(t, b) : NULL};
    for (size_t k = 0; k < 2 && to[k]; k++)
        for (size_t d = 0; d < D; d++) {
            double sum = add ? (double)to[k][d] : 0;
            for (size_t tile = 0; tile < t->tiles; tile++)
                sum += (double)t->partial[(tile * 4 + 2 * part + k) * D + d];
            to[k][d] = (real)sum;
        }
}
