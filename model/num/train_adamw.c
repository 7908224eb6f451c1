/* AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101), in the order of PyTorch's:
 *   p -= rate decay p;  m += (1 - b1)(g - m);  v = b2 v + (1 - b2) g^2
 *   p -= rate / (1 - b1^t) m / (sqrt(v) / sqrt(1 - b2^t) + epsilon)
 * Only matrices decay. */
#include "model/num/train.h"

#include <math.h>


typedef struct {
    R(bf_train) *t;
    real keep[2]; /* 1 - rate decay: of vectors, of matrices */
    real scale, step, root, epsilon, b1, b2;
} update;

/* Pieces of tensor k. */
static size_t pieces(const bf_train_layout *y, size_t k)
{
    return (y->tensor[k].count + BF_TRAIN_PIECE - 1) / BF_TRAIN_PIECE;
}

static size_t all_pieces(const bf_train_layout *y)
{
    size_t n = 0;
    for (size_t k = 0; k < y->n; k++)
        n += pieces(y, k);
    return n;
}

/* Values [from,to) of a piece, and the tensor that they are of. */
static const bf_train_tensor *find_piece(const bf_train_layout *y, size_t piece, size_t *from, size_t *to)
{
    const bf_train_tensor *t = y->tensor;
    for (size_t k = 0; piece >= pieces(y, k); t = &y->tensor[++k])
        piece -= pieces(y, k);
    *from = t->at + piece * BF_TRAIN_PIECE;
    *to = (piece + 1) * BF_TRAIN_PIECE < t->count ? *from + BF_TRAIN_PIECE : t->at + t->count;
    return t;
}

BF_HOT static double squares(const real *x, size_t n)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t k = 0; k < n; k++)
        sum += (double)x[k] * (double)x[k];
    return sum;
}

static void squares_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const R(bf_train) *t = ((update *)context)->t;
    size_t from, to;
    find_piece(t->layout, task, &from, &to);
    t->squares[task] = squares(t->grad + from, to - from);
}

double R(bf_train_grad_norm)(R(bf_train) *t)
{
    update u = {.t = t};
    const size_t n = all_pieces(t->layout);
    double sum = 0;
    bf_pool_run(t->pool, n, squares_task, &u);
    for (size_t k = 0; k < n; k++)
        sum += t->squares[k];
    return sqrt(sum);
}

BF_HOT static void step_values(const update *u, real keep, real *restrict p, const real *restrict g,
                               real *restrict m, real *restrict v, size_t n)
{
    const real c1 = 1 - u->b1, c2 = 1 - u->b2, b2 = u->b2, root = u->root, step = u->step;
    const real scale = u->scale, epsilon = u->epsilon;
#pragma omp simd
    for (size_t k = 0; k < n; k++) {
        const real x = scale * g[k];
        m[k] += c1 * (x - m[k]);
        v[k] = b2 * v[k] + c2 * x * x;
#if BF_BITS == 64
        const real size = sqrt(v[k]) * root + epsilon;
#else
        const real size = sqrtf(v[k]) * root + epsilon;
#endif
        p[k] = keep * p[k] - step * m[k] / size;
    }
}

static void step_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const update *u = context;
    const R(bf_train) *t = u->t;
    size_t from, to;
    const bf_train_tensor *w = find_piece(t->layout, task, &from, &to);
    step_values(u, u->keep[w->decays], t->param + from, t->grad + from, t->moment[0] + from,
                t->moment[1] + from, to - from);
    if (t->half_param)
        R(bf_train_round)((R(bf_train_operand)){t->param + from, t->half_param + from}, to - from);
}

void R(bf_train_adamw)(R(bf_train) *t, double rate, double scale, uint64_t step)
{
    const bf_train_config *c = t->config;
    const double first = 1 - pow(c->beta1, (double)step), second = 1 - pow(c->beta2, (double)step);
    update u = {.t = t, .keep = {1, (real)(1 - rate * c->decay)}, .scale = (real)scale,
                .step = (real)(rate / first), .root = (real)(1 / sqrt(second)),
                .epsilon = (real)c->epsilon, .b1 = (real)c->beta1, .b2 = (real)c->beta2};
    bf_pool_run(t->pool, all_pieces(t->layout), step_task, &u);
}
