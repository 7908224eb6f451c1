#include "model/num/forward.h"

#include "base/gemm.h"
#include "base/packed.h"

enum { ROWS = 256 };

typedef struct {
    real *y;
    const real *x, *b;
    const R(bf_mat) *W;
    size_t ldy, ldx, rows, row_tiles, cols;
} linear_job;

/* One tile of y: ROWS x cols, the same cut for any number of threads. */
static void linear_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const linear_job *c = context;
    const R(bf_mat) *W = c->W;
    const size_t r0 = task % c->row_tiles * ROWS, o0 = task / c->row_tiles * c->cols;
    const size_t n = c->rows - r0 < ROWS ? c->rows - r0 : ROWS;
    const size_t m = W->out - o0 < c->cols ? W->out - o0 : c->cols;
    real *y = c->y + r0 * c->ldy + o0;
    for (size_t r = 0; r < n && c->b; r++)
        for (size_t o = 0; o < m; o++)
            y[r * c->ldy + o] = c->b[o0 + o];
    R(bf_gemm)(false, !W->in_major, n, m, W->in, 1, c->x + r0 * c->ldx, c->ldx,
               W->w + (W->in_major ? o0 : o0 * W->ld), W->ld, c->b != NULL, y, c->ldy);
}

void R(bf_linear)(real *y, size_t ldy, const real *x, size_t ldx, size_t rows, const R(bf_mat) *W,
                  const real *b, bf_pool *pool)
{
    linear_job c = {y, x, b, W, ldy, ldx, rows, (rows + ROWS - 1) / ROWS, bf_task_columns(W->out)};
    bf_pool_run(pool, c.row_tiles * ((W->out + c.cols - 1) / c.cols), linear_task, &c);
}

void R(bf_linear_vjp)(real *dx, size_t lddx, const real *dy, size_t lddy, size_t rows,
                      const R(bf_mat) *W, bool add, size_t worker)
{
#if BF_BITS == 32
    if (W->packed && rows && bf_packed_apply(W->packed, worker, rows, dy, lddy, add, dx))
        return;
#endif
    (void)worker;
    R(bf_gemm_rows)(W->in_major, rows, W->in, W->out, dy, lddy, W->w, W->ld, add, dx, lddx);
}
