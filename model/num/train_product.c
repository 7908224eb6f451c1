/* Products with weights: in double by BLAS, in float by oneDNN where that pays, and in mixed precision by
 * oneDNN of operands rounded to bfloat16, summed in float.
 *
 * There each operand is rounded once: a weight when the optimizer has moved it (t->half_param, which forward
 * and back share, since oneDNN takes either order of a matrix), rows of a batch by the first product that
 * reads them, tile by tile while they are in the cache; the weight's gradient finds both copies made. What is
 * summed in which order does not depend on the number of threads. */
#include "model/num/train.h"

#include "base/gemm.h"
#include "base/packed.h"

typedef struct {
    const real *x;
    const uint16_t *half;
    size_t ld;
} operand;

#if BF_BITS == 32
static void round_values(uint16_t *half, const real *x, size_t n)
{
    bf_bf16_round(half, x, n);
}

static void gemm(const R(bf_train) *t, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                 operand A, operand B, bool add, real *C, size_t ldc)
{
    if (A.half && B.half)
        bf_room_gemm_bf16(t->packing, worker, ta, tb, M, N, K, A.half, A.ld, B.half, B.ld, add, C, ldc);
    else if (t->packing)
        bf_room_gemm_f32(t->packing, worker, ta, tb, M, N, K, A.x, A.ld, B.x, B.ld, add, C, ldc);
    else
        bf_gemm_f32(ta, tb, M, N, K, 1, A.x, A.ld, B.x, B.ld, add, C, ldc);
}
#else /* bfloat16 is for float */
static void round_values(uint16_t *half, const real *x, size_t n)
{
    (void)half, (void)x, (void)n;
}

static void gemm(const R(bf_train) *t, size_t worker, bool ta, bool tb, size_t M, size_t N, size_t K,
                 operand A, operand B, bool add, real *C, size_t ldc)
{
    (void)t, (void)worker;
    bf_gemm_f64(ta, tb, M, N, K, 1, A.x, A.ld, B.x, B.ld, add, C, ldc);
}
#endif

void R(bf_train_round)(R(bf_train_operand) rows, size_t n)
{
    if (rows.half)
        round_values(rows.half, rows.x, n);
}

static operand rows_of(R(bf_train_operand) rows, size_t width)
{
    return (operand){rows.x, rows.half, width};
}

static operand weight_of(const R(bf_train) *t, const R(bf_mat) *W)
{
    const bool kept = t->kept_param && W->w >= t->kept_param && W->w < t->kept_param + t->layout->values;
    const uint16_t *half = kept ? t->half_kept : t->half_param;
    return (operand){W->w, half ? half + (W->w - (kept ? t->kept_param : t->param)) : NULL, W->ld};
}

void R(bf_train_multiply)(const R(bf_train) *t, size_t worker, real *y, R(bf_train_operand) x, size_t step,
                          size_t n, const R(bf_mat) *W, bool add)
{
    const size_t in = W->in, whole = step == 1 ? n : 1; /* rows that lie together */
    for (size_t r = 0; r < n * step; r += whole * step)
        R(bf_train_round)(R(bf_train_operand_at)(x.x, x.half, r, in), whole * in);
    gemm(t, worker, false, !W->in_major, n, W->out, in, rows_of(x, step * in), weight_of(t, W), add, y,
         step * W->out);
}

void R(bf_train_multiply_back)(const R(bf_train) *t, size_t worker, real *dx, R(bf_train_operand) dy, size_t n,
                               const R(bf_mat) *W)
{
    R(bf_train_round)(dy, n * W->out);
    gemm(t, worker, false, W->in_major, n, W->in, W->out, rows_of(dy, W->out), weight_of(t, W), false, dx,
         W->in);
}

static R(bf_train_operand) from(R(bf_train_operand) rows, size_t at)
{
    return (R(bf_train_operand)){rows.x + at, rows.half ? rows.half + at : NULL};
}

void R(bf_train_multiply_rows)(const R(bf_train) *t, size_t worker, const R(bf_train_product) *p, size_t rows,
                               size_t r0, size_t m, bool add)
{
    const R(bf_mat) *W = p->W;
    const operand dy = rows_of(p->dy, W->out), x = rows_of(p->x, W->in);
    const operand a = rows_of(from(W->in_major ? p->x : p->dy, r0), W->in_major ? W->in : W->out);
    gemm(t, worker, true, false, m, W->in_major ? W->out : W->in, rows, a, W->in_major ? dy : x, add,
         p->dW + r0 * W->ld, W->ld);
}

/* ---- the weights ---- */

typedef struct {
    uint16_t *half;
    const real *x;
    size_t n;
} rounding;

static void round_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const rounding *r = context;
    const size_t at = task * BF_TRAIN_PIECE, left = r->n - at;
    round_values(r->half + at, r->x + at, left < BF_TRAIN_PIECE ? left : BF_TRAIN_PIECE);
}

void R(bf_train_round_weights)(R(bf_train) *t)
{
    const size_t n = t->layout->values;
    rounding r[2] = {{t->half_param, t->param, n}, {t->half_kept, t->kept_param, n}};
    for (size_t k = 0; k < 2; k++)
        if (r[k].half)
            bf_pool_run(t->pool, (n + BF_TRAIN_PIECE - 1) / BF_TRAIN_PIECE, round_task, &r[k]);
}

bf_code R(bf_train_failed)(const R(bf_train) *t, bf_error *err)
{
    return t->packing ? bf_room_failed(t->packing, err) : BF_OK;
}
