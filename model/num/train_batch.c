#include "model/num/train.h"

#include <math.h>

/* Targets of head k. */
static size_t count_targets(const R(bf_train) *t, const bf_batch *batch, size_t k)
{
    size_t n = 0;
    for (size_t r = 0; r < t->rows; r++)
        if (batch->y ? !isnan(batch->y[r]) : batch->target[r * batch->heads + k] >= 0)
            n++;
    return n;
}

static double head(R(bf_train) *t, const bf_batch *batch, size_t k, bool learn, double share, real *dx)
{
    const size_t n = count_targets(t, batch, k);
    return R(bf_train_head)(t, batch, k, learn, n ? share / (double)n : 0, dx) / share;
}

typedef struct {
    real *sum;
    const real *x;
    size_t n;
} addition;

enum { SPAN = 1 << 16 };

static void add_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const addition *a = context;
    for (size_t k = task * SPAN; k < (task + 1) * SPAN && k < a->n; k++)
        a->sum[k] += a->x[k];
}

static void add_to(R(bf_train) *t, real *sum, const real *x, size_t n)
{
    addition a = {sum, x, n};
    bf_pool_run(t->pool, (n + SPAN - 1) / SPAN, add_task, &a);
}

/* n-token heads, one after the other, so that one head's activations and logits are held at a time:
 * each is a layer of its own on the trunk's end, acts->x of the last layer. */
static double heads(R(bf_train) *t, const bf_batch *batch, bool learn, double share)
{
    const size_t top = t->c->L - 1, n = t->rows * t->c->D;
    R(bf_train_acts) *a = &t->acts[top];
    double loss = 0;
    for (size_t k = 0; k < t->config->heads; k++) {
        R(bf_train_layer)(t, top, &t->block[top + k], a, t->last);
        loss += head(t, batch, k, learn, share, t->dx[0]);
        if (!learn)
            continue;
        R(bf_train_layer_back)(t, top, &t->block[top + k], a, 0);
        if (k == 0) {
            real *const dx = t->dtrunk;
            t->dtrunk = t->dx[1];
            t->dx[1] = dx;
        } else {
            add_to(t, t->dtrunk, t->dx[1], n);
        }
    }
    real *const dx = t->dx[0];
    t->dx[0] = t->dtrunk; /* what the trunk's end gets back, where one head's stood */
    t->dtrunk = dx;
    return loss;
}

static void layers_back(R(bf_train) *t, const bf_batch *batch, size_t n)
{
    unsigned from = 0;
    for (size_t l = n; l-- > 0; from = !from)
        R(bf_train_layer_back)(t, l, &t->block[l], &t->acts[l], from);
    R(bf_train_embed_back)(t, batch, t->dx[from]);
}

void R(bf_train_forward)(R(bf_train) *t, const bf_batch *batch, size_t n, bool learn)
{
    const size_t L = t->c->L;
    t->head_add = t->add;
    t->dropping = false;
    if (t->kept)
        R(bf_train_keep)(t, batch); /* the model that stays drops nothing */
    t->dropping = learn;
    R(bf_train_embed)(t, batch, t->acts[0].x);
    for (size_t l = 0; l < n; l++)
        R(bf_train_layer)(t, l, &t->block[l], &t->acts[l], l + 1 < L ? t->acts[l + 1].x : t->last);
}

double R(bf_train_pass)(R(bf_train) *t, const bf_batch *batch, bool learn, double scale)
{
    R(bf_train_forward)(t, batch, t->c->L, learn);
    const double loss = R(bf_train_head)(t, batch, 0, learn, scale, t->dx[0]);
    if (learn)
        layers_back(t, batch, t->c->L);
    return loss;
}

void R(bf_train_batch)(double *loss, R(bf_train) *t, const bf_batch *batch, bool learn, double share)
{
    if (t->config->objective == BF_OBJECTIVE_HEADS) {
        R(bf_train_forward)(t, batch, t->c->L - 1, learn);
        *loss = heads(t, batch, learn, share);
        if (learn)
            layers_back(t, batch, t->c->L - 1);
        return;
    }
    const size_t n = count_targets(t, batch, 0);
    *loss = R(bf_train_pass)(t, batch, learn, n ? share / (double)n : 0) / share;
}

bf_code R(bf_train_learn)(double *loss, R(bf_train) *t, const bf_batch *batch, double share, bf_error *err)
{
    const bool joint = t->config->objective == BF_OBJECTIVE_JOINT;
    double more = 0;
    *loss = 0;
    if (!joint || !t->config->joint.alone) {
        R(bf_train_batch)(loss, t, batch, true, share);
        t->add = true;
    }
    const bf_code rc = joint ? R(bf_train_joint)(&more, t, batch, share, err) : BF_OK;
    *loss += more;
    return rc;
}
