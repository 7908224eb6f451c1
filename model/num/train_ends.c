/* Both ends of the model: what comes in, what is lost, and the gradients of embeddings and head. */
#include "model/num/train.h"

#include <math.h>
#include <string.h>

enum { COLUMNS = 32 };

typedef struct {
    R(bf_train) *t;
    const bf_batch *batch;
    real *x;
    const real *dx;
} ends;

/* ---- what comes in ---- */

static void embed_row(const ends *e, size_t r)
{
    const R(bf_train) *t = e->t;
    const bf_batch *batch = e->batch;
    const size_t D = t->c->D, C = batch->channels;
    real *x = e->x + r * D;
    if (batch->x) {
        memcpy(x, t->embed.w + C * D, D * sizeof *x);
        for (size_t c = 0; c < C; c++)
            for (size_t d = 0; d < D; d++)
                x[d] += (real)batch->x[r * C + c] * t->embed.w[c * D + d];
    } else {
        memcpy(x, t->embed.w + (size_t)batch->input[r] * D, D * sizeof *x);
    }
    for (size_t d = 0; d < D && t->pos.w; d++)
        x[d] += t->pos.w[r % t->T * D + d];
}

static void embed_task(void *context, size_t tile, size_t worker)
{
    (void)worker;
    const ends *e = context;
    const bf_train_rows rows = R(bf_train_tile)(e->t, tile);
    for (size_t k = 0; k < rows.n; k++)
        embed_row(e, rows.r0 + k * rows.step);
    if (R(bf_train_drops)(e->t, BF_DROP_EMBEDDING))
        R(bf_train_drop)(e->t, BF_DROP_EMBEDDING, 0, e->x, e->x, rows.r0, rows.n);
}

void R(bf_train_embed)(R(bf_train) *t, const bf_batch *batch, real *x)
{
    ends e = {.t = t, .batch = batch, .x = x};
    bf_pool_run(t->pool, t->tiles, embed_task, &e);
}

static void add_row(real *to, const real *x, real by, size_t n)
{
    for (size_t d = 0; d < n; d++)
        to[d] += by * x[d];
}

/* Some columns of the gradients of both tables, all rows in their order. A tied table holds the head's
 * part already. */
static void embed_back_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const ends *e = context;
    const R(bf_train) *t = e->t;
    const bf_batch *batch = e->batch;
    const size_t D = t->c->D, C = batch->channels, d0 = task * COLUMNS;
    const size_t n = D - d0 < COLUMNS ? D - d0 : COLUMNS;
    real *dE = R(bf_train_grad)(t, t->embed.w) + d0;
    real *dP = t->pos.w ? R(bf_train_grad)(t, t->pos.w) + d0 : NULL;
    for (size_t v = 0; v < t->embed.out && !t->add && t->embed.w != t->head.w; v++)
        memset(dE + v * D, 0, n * sizeof *dE);
    for (size_t j = 0; dP && j < t->pos.out && !t->add; j++)
        memset(dP + j * D, 0, n * sizeof *dP);
    for (size_t r = 0; r < t->rows; r++) {
        const real *dx = e->dx + r * D + d0;
        for (size_t c = 0; c < C; c++)
            add_row(dE + c * D, dx, (real)batch->x[r * C + c], n);
        add_row(dE + (batch->x ? C : (size_t)batch->input[r]) * D, dx, 1, n);
        if (dP)
            add_row(dP + r % t->T * D, dx, 1, n);
    }
}

static void drop_task(void *context, size_t tile, size_t worker)
{
    (void)worker;
    const ends *e = context;
    const bf_train_rows rows = R(bf_train_tile)(e->t, tile);
    R(bf_train_drop)(e->t, BF_DROP_EMBEDDING, 0, e->x, e->x, rows.r0, rows.n);
}

void R(bf_train_embed_back)(R(bf_train) *t, const bf_batch *batch, real *dx)
{
    ends e = {.t = t, .batch = batch, .x = dx, .dx = dx};
    if (R(bf_train_drops)(t, BF_DROP_EMBEDDING))
        bf_pool_run(t->pool, t->tiles, drop_task, &e);
    bf_pool_run(t->pool, (t->c->D + COLUMNS - 1) / COLUMNS, embed_back_task, &e);
}

/* ---- what is lost ---- */

typedef struct {
    R(bf_train) *t;
    const bf_batch *batch;
    size_t k, first; /* head; first tile of the chunk */
    bool learn;
    double scale;
    real *dx;
} loss_job;

/* The loss -log softmax(x)[target]; x becomes scale times its cotangent softmax - onehot, whose target's
 * entry is minus the sum of all others, so that it stays exact where the model is sure.
 * right: is none likelier? */
BF_HOT static double token_loss(bool *right, real *x, size_t V, size_t target, double scale)
{
    real max = x[0];
#pragma omp simd reduction(max : max)
    for (size_t v = 1; v < V; v++)
        max = x[v] > max ? x[v] : max;
    const double shifted = (double)x[target] - (double)max;
    *right = shifted >= 0.0;
    const double others = R(bf_exp_others)(x, V, target);
    const double sum = others + exp(shifted);
    const real factor = (real)(scale / sum);
#pragma omp simd
    for (size_t v = 0; v < V; v++)
        x[v] *= factor;
    x[target] = (real)(-scale * others / sum);
    return shifted > -30.0 ? log1p(others * exp(-shifted)) : log(sum) - shifted;
}

/* Huber's loss of y against the target (Huber 1964, delta 1), and its slope. */
static double real_loss(double y, double target, double *slope)
{
    const double e = y - target;
    *slope = e > 1 ? 1 : e < -1 ? -1 : e;
    return fabs(e) <= 1 ? 0.5 * e * e : fabs(e) - 0.5;
}

static void token_rows(const loss_job *j, real *logits, size_t r0, size_t n, size_t worker)
{
    const R(bf_train) *t = j->t;
    const size_t V = t->c->V;
    R(bf_train_multiply)(t, worker, logits, R(bf_train_operand_at)(t->normed, t->half_normed, r0, t->c->D), 1,
                         n, &t->head, false);
    for (size_t r = 0; r < n; r++) {
        const int32_t target = j->batch->target[(r0 + r) * j->batch->heads + j->k];
        real *x = logits + r * V;
        bool right = false;
        t->row_loss[r0 + r] = target < 0 ? 0 : token_loss(&right, x, V, (size_t)target, j->scale);
        if (j->k == 0)
            t->row_right[r0 + r] = right;
        if (target < 0)
            memset(x, 0, V * sizeof *x);
    }
}

static void real_rows(const loss_job *j, real *logits, size_t r0, size_t n, size_t worker)
{
    const R(bf_train) *t = j->t;
    const size_t V = t->c->V, D = t->c->D;
    (void)worker;
    R(bf_train_round)(R(bf_train_operand_at)(t->normed, t->half_normed, r0, D), n * D);
    memset(logits, 0, n * V * sizeof *logits);
    for (size_t r = 0; r < n; r++) {
        const double target = j->batch->y[r0 + r];
        double y, norm, slope;
        t->row_loss[r0 + r] = 0;
        if (isnan(target))
            continue;
        R(bf_norm_and_dot)(&norm, &y, t->normed + (r0 + r) * D, t->head.w, D);
        t->row_loss[r0 + r] = real_loss(y, target, &slope);
        logits[r * V] = (real)(j->scale * slope);
    }
}

static void head_task(void *context, size_t task, size_t worker)
{
    const loss_job *j = context;
    R(bf_train) *t = j->t;
    const size_t tile = j->first + task, r0 = tile * BF_TRAIN_TILE, D = t->c->D, V = t->c->V;
    const size_t n = t->rows - r0 < BF_TRAIN_TILE ? t->rows - r0 : BF_TRAIN_TILE;
    const size_t at = task * BF_TRAIN_TILE;
    real *logits = t->logits + at * V, *dnormed = t->desk[worker].rows;
    real *sums = t->partial + tile * 4 * D;
    for (size_t r = r0; r < r0 + n; r++)
        R(bf_norm)(t->normed + r * D, t->mean + r, t->rstd + r, t->last + r * D, t->final_w, t->final_b,
                   t->c->norm, t->c->norm_eps, D);
    (j->batch->x ? real_rows : token_rows)(j, logits, r0, n, worker);
    if (!j->learn)
        return;
    R(bf_train_multiply_back)(t, worker, dnormed, R(bf_train_operand_at)(t->logits, t->half_logits, at, V), n,
                              &t->head);
    memset(sums, 0, 2 * D * sizeof *sums);
    R(bf_norm_grad)(sums, sums + D, dnormed, t->last + r0 * D, t->mean + r0, t->rstd + r0, n, D);
    memset(j->dx + r0 * D, 0, n * D * sizeof *j->dx);
    for (size_t r = 0; r < n; r++)
        R(bf_norm_vjp)(j->dx + (r0 + r) * D, dnormed + r * D, t->last + (r0 + r) * D, t->mean[r0 + r],
                       t->rstd[r0 + r], t->final_w, t->c->norm, D);
}

double R(bf_train_head)(R(bf_train) *t, const bf_batch *batch, size_t k, bool learn, double scale,
                        real *dx)
{
    loss_job j = {.t = t, .batch = batch, .k = k, .learn = learn, .scale = scale, .dx = dx};
    const size_t most = t->chunk / BF_TRAIN_TILE, D = t->c->D;
    double loss = 0;
    for (j.first = 0; j.first < t->tiles; j.first += most) {
        const size_t tiles = t->tiles - j.first < most ? t->tiles - j.first : most;
        const size_t r0 = j.first * BF_TRAIN_TILE, left = t->rows - r0, n = left < t->chunk ? left : t->chunk;
        bf_pool_run(t->pool, tiles, head_task, &j);
        if (!learn)
            continue;
        const R(bf_train_product) p = {&t->head, R(bf_train_grad)(t, t->head.w), NULL,
                                       {t->logits, t->half_logits},
                                       R(bf_train_operand_at)(t->normed, t->half_normed, r0, D)};
        R(bf_train_weights)(t, &p, 1, n, t->head_add || j.first > 0);
    }
    if (learn)
        R(bf_train_norm_sum)(t, 0, t->final_w, t->final_b, t->head_add);
    t->head_add = t->head_add || learn;
    for (size_t r = 0; r < t->rows; r++)
        loss += t->row_loss[r];
    return loss * scale;
}
