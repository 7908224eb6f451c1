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

void R(bf_product)(const R(bf_mat) *like, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                   const real *A, size_t lda, const real *B, size_t ldb, bool add, real *C, size_t ldc)
{
#if BF_BITS == 32
    if (like->room) {
        bf_room_gemm_f32(like->room, worker, ta, tb, M, N, K, A, lda, B, ldb, add, C, ldc);
        return;
    }
#endif
    (void)like;
    (void)worker;
    R(bf_gemm)(ta, tb, M, N, K, 1, A, lda, B, ldb, add, C, ldc);
}

/* Columns of a product n columns wide that one task takes: each task packs all of the other operand, so
 * few and wide ones, at most so wide, but two at least. */
static size_t task_columns(size_t n, size_t wide)
{
    enum { NARROW = 128, STEP = 16 };
    const size_t tasks = n > wide ? (n + wide - 1) / wide : n > NARROW ? 2 : 1;
    return ((n + tasks - 1) / tasks + STEP - 1) / STEP * STEP;
}

/* Is the product with W made as its transpose? */
static bool turns(const R(bf_mat) *W)
{
    return BF_BITS == 32 && W->room && !W->in_major;
}

enum { WIDE = 384, TURNED = 256 };

/* One tile of y: ROWS x cols, the same cut for any number of threads. */
static void linear_task(void *context, size_t task, size_t worker)
{
    const linear_job *c = context;
    const R(bf_mat) *W = c->W;
    const size_t r0 = task % c->row_tiles * ROWS, o0 = task / c->row_tiles * c->cols;
    const size_t n = c->rows - r0 < ROWS ? c->rows - r0 : ROWS;
    const size_t m = W->out - o0 < c->cols ? W->out - o0 : c->cols;
    real *y = c->y + r0 * c->ldy + o0;
    for (size_t r = 0; r < n && c->b; r++)
        for (size_t o = 0; o < m; o++)
            y[r * c->ldy + o] = c->b[o0 + o];
    const real *x = c->x + r0 * c->ldx, *w = W->w + (W->in_major ? o0 : o0 * W->ld);
#if BF_BITS == 32
    if (turns(W)) {
        bf_room_turned_f32(W->room, worker, n, m, W->in, x, c->ldx, w, W->ld, c->b != NULL, y, c->ldy);
        return;
    }
#endif
    R(bf_product)(W, worker, false, !W->in_major, n, m, W->in, x, c->ldx, w, W->ld, c->b != NULL, y, c->ldy);
}

void R(bf_linear)(real *y, size_t ldy, const real *x, size_t ldx, size_t rows, const R(bf_mat) *W,
                  const real *b, bf_pool *pool)
{
    linear_job c = {y, x, b, W, ldy, ldx, rows, (rows + ROWS - 1) / ROWS,
                    task_columns(W->out, turns(W) ? TURNED : WIDE)};
    bf_pool_run(pool, c.row_tiles * ((W->out + c.cols - 1) / c.cols), linear_task, &c);
}

void R(bf_linear_part)(real *dx, size_t lddx, const real *dy, size_t rows, const R(bf_mat) *W, size_t first, size_t n,
                       size_t worker)
{
    R(bf_product)(W, worker, false, W->in_major, rows, W->in, n, dy, n, W->w + (W->in_major ? first : first * W->ld),
                  W->ld, false, dx, lddx);
}

/* Some columns of dx, which stands in y, of dy, which stands in x. */
static void back_task(void *context, size_t task, size_t worker)
{
    const linear_job *c = context;
    const R(bf_mat) *W = c->W;
    const size_t d0 = task * c->cols, n = W->in - d0 < c->cols ? W->in - d0 : c->cols;
    R(bf_product)(W, worker, false, W->in_major, c->rows, n, W->out, c->x, W->out,
                  W->w + (W->in_major ? d0 * W->ld : d0), W->ld, false, c->y + d0, W->in);
}

void R(bf_linear_back)(real *dx, const real *dy, size_t rows, const R(bf_mat) *W, bf_pool *pool)
{
    linear_job c = {.y = dx, .x = dy, .W = W, .rows = rows, .cols = task_columns(W->in, WIDE)};
    bf_pool_run(pool, (W->in + c.cols - 1) / c.cols, back_task, &c);
}

void R(bf_linear_vjp)(real *dx, const real *dy, size_t lddy, size_t rows, const R(bf_mat) *W, bool add,
                      size_t worker)
{
#if BF_BITS == 32
    if (W->packed) {
        bf_packed_apply(W->packed, worker, rows, dy, lddy, add, dx);
        return;
    }
    if (W->room) {
        bf_room_tile_f32(W->room, worker, W->in_major, rows, W->in, W->out, dy, lddy, W->w, add, dx);
        return;
    }
#endif
    (void)worker;
    R(bf_gemm_rows)(W->in_major, rows, W->in, W->out, dy, lddy, W->w, W->ld, add, dx, W->in);
}
