#include "model/num/forward.h"

#include <math.h>
#include <string.h>

#include "base/gemm.h"

/* Rows of a task where rows are independent. */
enum { ROWS = 32, HEAD_ROWS = 256 };

typedef struct {
    R(bf_acts) *acts;
    R(bf_params) *params;
    const bf_config *c;
    const int64_t *targets;
    bf_pool *pool;
    bf_arena *scratch;
    /* the layer at hand */
    size_t l;
    const R(bf_block) *b;
    R(bf_layer_acts) *a;
    real *next; /* resid_pre of the layer above */
    real *normed, *hidden, *gate;
    /* the norm at hand */
    const real *norm_x, *norm_w, *norm_b;
    real *mean, *rstd, *size;
    /* the head at hand */
    real *logits;
    size_t i0, rows;
} run;

static size_t rows_end(const run *f, size_t r0)
{
    return r0 + ROWS < f->acts->N ? r0 + ROWS : f->acts->N;
}

static size_t row_tasks(const run *f)
{
    return (f->acts->N + ROWS - 1) / ROWS;
}

static real length(const real *x, size_t n)
{
    double norm, dot;
    R(bf_norm_and_dot)(&norm, &dot, x, x, n);
    return (real)norm;
}

static void norm_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const run *f = context;
    const size_t D = f->c->D;
    for (size_t j = task * ROWS; j < rows_end(f, task * ROWS); j++) {
        R(bf_norm)(f->normed + j * D, f->mean + j, f->rstd + j, f->norm_x + j * D, f->norm_w,
                   f->norm_b, f->c->norm, f->c->norm_eps, D);
        if (f->size)
            f->size[j] = length(f->normed + j * D, D);
    }
}

/* size: NULL, or where the norms of the results go. */
static void norm_rows(run *f, const real *x, const real *w, const real *b, real *mean, real *rstd,
                      real *size)
{
    f->norm_x = x;
    f->norm_w = w;
    f->norm_b = b;
    f->mean = mean;
    f->rstd = rstd;
    f->size = size;
    bf_pool_run(f->pool, row_tasks(f), norm_task, f);
}

static void rotate_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const run *f = context;
    const bf_config *c = f->c;
    const size_t width = (c->H + c->G) * c->K, half = c->rotary_dim / 2;
    for (size_t j = task * ROWS; j < rows_end(f, task * ROWS); j++) {
        real *x = f->a->rotated + j * f->a->rotated_ld;
        memcpy(x, f->a->qkv + j * (width + c->G * c->K), width * sizeof *x);
        R(bf_rotate)(x, f->acts->cosines + j * half, f->acts->sines + j * half, c->H + c->G, c->K,
                     half, c->rotary_pairs, false);
    }
}

enum { QUERY_ROWS = 64 };

static void attention_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const run *f = context;
    const size_t N = f->acts->N, K = f->c->K, h = task % f->c->H, r0 = task / f->c->H * QUERY_ROWS;
    const R(bf_head) head = R(bf_acts_head)(f->acts, f->c, f->l, h);
    const size_t r1 = r0 + QUERY_ROWS < N ? r0 + QUERY_ROWS : N;
    R(bf_attention_pattern)(&head, r0, r1);
    R(bf_attention_mix)(&head, f->a->z + h * K, f->c->H * K, r0, r1);
}

static void add_rows(real *sum, const real *x, const real *y, size_t n)
{
    for (size_t k = 0; k < n; k++)
        sum[k] = x[k] + y[k];
}

/* Vectors of `width` at this site of the layer at hand that the caller wants to be others; rows ld apart. */
static void edit(const run *f, unsigned at, real *x, size_t ld, size_t width)
{
    for (size_t k = 0; k < f->acts->n_edits; k++) {
        const R(bf_edit) *e = &f->acts->edits[k];
        if (e->at == at && e->layer == f->l)
            memcpy(x + e->position * ld + e->head * width, e->value, width * sizeof *x);
    }
}

static bf_code finite(const run *f, const real *x, size_t width, const char *part, bf_error *err)
{
    for (size_t j = 0; j < f->acts->N; j++)
        for (size_t d = 0; d < width; d++)
            if (!isfinite(x[j * width + d]))
                return bf_fail(err, BF_ENONFINITE, "layer %zu, %s, position %zu: %s", f->l, part, j,
                               isnan(x[j * width + d]) ? "NaN" : "Inf");
    return BF_OK;
}

static bf_code attention_part(run *f, bf_error *err)
{
    const bf_config *c = f->c;
    const size_t D = c->D, widths[3] = {c->H * c->K, c->G * c->K, c->G * c->K};
    const size_t ld = (c->H + 2 * c->G) * c->K;
    norm_rows(f, f->a->resid_pre, f->b->norm1_w, f->b->norm1_b, f->a->mean1, f->a->rstd1,
              f->a->norm_in1);
    for (size_t p = 0, at = 0; p < 3; at += widths[p], p++)
        R(bf_linear)(f->a->qkv + at, ld, f->normed, D, f->acts->N, &f->b->qkv[p],
                     f->b->qkv_b ? f->b->qkv_b + at : NULL, f->pool);
    for (size_t p = 0, at = 0; p < 3; at += widths[p], p++)
        edit(f, BF_AT_Q + (unsigned)p, f->a->qkv + at, ld, c->K);
    bf_code rc = finite(f, f->a->qkv, ld, "q, k, v", err);
    if (rc)
        return rc;
    if (f->a->rotated != f->a->qkv)
        bf_pool_run(f->pool, row_tasks(f), rotate_task, f);
    const bf_mask mask = bf_config_mask(c, f->l);
    for (size_t h = 0; h < c->H; h++)
        f->a->gate[h] = R(bf_memory_gate)(&mask, f->b->gate, h);
    R(bf_acts_store)(f->acts, c, f->l, f->pool);
    bf_pool_run(f->pool, c->H * ((f->acts->N + QUERY_ROWS - 1) / QUERY_ROWS), attention_task, f);
    f->acts->held = f->l;
    edit(f, BF_AT_Z, f->a->z, c->H * c->K, c->K);
    R(bf_linear)(f->a->attn_out, D, f->a->z, c->H * c->K, f->acts->N, &f->b->o, f->b->o_b, f->pool);
    edit(f, BF_AT_ATTN_OUT, f->a->attn_out, D, D);
    return finite(f, f->a->attn_out, D, "attn_out", err);
}

static void act_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const run *f = context;
    const size_t from = task * ROWS * f->c->F, n = rows_end(f, task * ROWS) * f->c->F - from;
    real *y = f->hidden + from, *slope = f->a->slope + from;
    if (!f->c->gated) {
        R(bf_act)(y, slope, y, f->c->act, n);
        return;
    }
    real *gain = f->a->gain + from;
    R(bf_act)(gain, slope, f->gate + from, f->c->act, n);
    for (size_t k = 0; k < n; k++) {
        slope[k] *= y[k];
        y[k] *= gain[k];
    }
}

static bf_code mlp_part(run *f, bf_error *err)
{
    const bf_config *c = f->c;
    const size_t N = f->acts->N, D = c->D, F = c->F;
    norm_rows(f, c->parallel ? f->a->resid_pre : f->a->resid_mid, f->b->norm2_w, f->b->norm2_b,
              f->a->mean2, f->a->rstd2, f->a->norm_in2);
    R(bf_linear)(f->hidden, F, f->normed, D, N, &f->b->mlp_in, f->b->mlp_in_b, f->pool);
    if (c->gated)
        R(bf_linear)(f->gate, F, f->normed, D, N, &f->b->mlp_gate, f->b->mlp_gate_b, f->pool);
    bf_pool_run(f->pool, row_tasks(f), act_task, f);
    for (size_t j = 0; j < N; j++) {
        f->a->norm_hidden[j] = length(f->hidden + j * F, F);
        f->a->norm_z[j] = length(f->a->z + j * c->H * c->K, c->H * c->K);
    }
    R(bf_linear)(f->a->mlp_out, D, f->hidden, F, N, &f->b->mlp_out, f->b->mlp_out_b, f->pool);
    edit(f, BF_AT_MLP_OUT, f->a->mlp_out, D, D);
    return finite(f, f->a->mlp_out, D, "mlp_out", err);
}

static bf_code layer(run *f, bf_error *err)
{
    const size_t n = f->acts->N * f->c->D;
    f->a = &f->acts->layer[f->l];
    f->next = f->l + 1 < f->acts->L ? f->acts->layer[f->l + 1].resid_pre : f->acts->resid_final;
    edit(f, BF_AT_RESID_PRE, f->a->resid_pre, f->c->D, f->c->D);
    bf_code rc = R(bf_params_layer)(&f->b, f->params, f->l, err);
    if (!rc)
        rc = attention_part(f, err);
    if (rc)
        return rc;
    if (!f->c->parallel) {
        add_rows(f->a->resid_mid, f->a->resid_pre, f->a->attn_out, n);
        edit(f, BF_AT_RESID_MID, f->a->resid_mid, f->c->D, f->c->D);
    }
    rc = mlp_part(f, err);
    if (rc)
        return rc;
    if (f->c->parallel) {
        add_rows(f->next, f->a->resid_pre, f->a->attn_out, n);
        add_rows(f->next, f->next, f->a->mlp_out, n);
    } else {
        add_rows(f->next, f->a->resid_mid, f->a->mlp_out, n);
    }
    return BF_OK;
}

static double logprob_at(const bf_tensor *t, size_t k)
{
    if (t->dtype == BF_F32) {
        float single;
        memcpy(&single, (const char *)t->data + k * sizeof single, sizeof single);
        return (double)single;
    }
    double value;
    memcpy(&value, (const char *)t->data + k * sizeof value, sizeof value);
    return value;
}

/* Logits x of row i to d KL(r || p) / d x = p - r, in place, and the divergence. lse: log sum e^x.
 * The reference's rounding is taken out of r. As r (log r - log p) - r + p no term is below 0, so
 * that small divergences do not drown in what cancels. */
static double kl_row(real *x, size_t V, const bf_tensor *reference, size_t i, double lse)
{
    double all = 0.0, value = 0.0;
    for (size_t v = 0; v < V; v++)
        all += exp(logprob_at(reference, i * V + v));
    const double shift = log(all);
    for (size_t v = 0; v < V; v++) {
        const double log_r = logprob_at(reference, i * V + v) - shift, log_p = (double)x[v] - lse;
        const double r = exp(log_r), p = exp(log_p), d = log_r - log_p;
        value += r > 0.0 ? fabs(d) < 1.0 ? r * (expm1(-d) + d) : r * d - r + p : p;
        x[v] = (real)(p - r);
    }
    return value < 0.0 ? 0.0 : value;
}

/* Sum of e^(x-max) but for the target's. */
static double others_of(const real *x, size_t V, size_t target, double max)
{
    double sum = 0.0;
    for (size_t v = 0; v < V; v++)
        sum += v == target ? 0.0 : exp((double)x[v] - max);
    return sum;
}

/* Probabilities p of one row to d value / d logits, in place, and the value. at_a, at_b: log p there. */
static double target_row(real *p, size_t V, const bf_target *t, size_t a, size_t b, double at_a,
                         double at_b, double lse)
{
    double entropy = 0.0;
    switch (t->kind) {
    case BF_TARGET_LOGPROB:
        for (size_t v = 0; v < V; v++)
            p[v] = -p[v];
        p[a] += 1;
        return at_a;
    case BF_TARGET_ENTROPY:
        for (size_t v = 0; v < V; v++)
            entropy -= p[v] > 0 ? (double)p[v] * log((double)p[v]) : 0.0;
        for (size_t v = 0; v < V; v++)
            p[v] = p[v] > 0 ? (real)(-(double)p[v] * (log((double)p[v]) + entropy)) : 0;
        return entropy;
    case BF_TARGET_LOGIT:
    case BF_TARGET_LOGIT_DIFF:
    case BF_TARGET_LOSS:
    case BF_TARGET_KL:
        break;
    }
    memset(p, 0, V * sizeof *p);
    p[a] = 1;
    if (t->kind == BF_TARGET_LOGIT)
        return at_a + lse;
    p[b] -= 1;
    return at_a - at_b;
}

/* Logits of one row to d loss / d logits = softmax - onehot, in place; the loss is kept. The target's
 * entry is minus the sum of all others, so that it stays exact where the model is sure. */
static void loss_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const run *f = context;
    const size_t V = f->c->V, i = f->i0 + task, target = (size_t)f->targets[i];
    real *x = f->logits + task * V;
    real max = x[0];
#pragma omp simd reduction(max : max)
    for (size_t v = 1; v < V; v++)
        max = x[v] > max ? x[v] : max;
    const bf_target *t = &f->acts->target;
    const size_t a = t->a < 0 ? target : (size_t)t->a, b = t->b < 0 ? target : (size_t)t->b;
    const double shifted = (double)x[target] - (double)max, at_a = (double)x[a] - (double)max,
                 at_b = (double)x[b] - (double)max;
    real *logprobs = f->acts->logprobs ? f->acts->logprobs + i * V : NULL;
    if (logprobs)
        memcpy(logprobs, x, V * sizeof *x);
    const double others = t->kind == BF_TARGET_KL ? others_of(x, V, target, (double)max)
                                                  : R(bf_exp_others)(x, V, target);
    const double sum = others + exp(shifted);
    f->acts->loss[i] = shifted > -30.0 ? log1p(others * exp(-shifted)) : log(sum) - shifted;
    const double lse = (double)max + log(sum);
    for (size_t v = 0; v < V && logprobs; v++)
        logprobs[v] = (real)((double)logprobs[v] - lse);
    if (t->kind == BF_TARGET_KL) {
        f->acts->value[i] = kl_row(x, V, f->acts->reference, i, lse);
        return;
    }
    const real inverse = (real)(1.0 / sum);
    for (size_t v = 0; v < V; v++)
        x[v] *= inverse;
    f->acts->value[i] = f->acts->loss[i];
    if (t->kind == BF_TARGET_LOSS)
        x[target] = (real)(-others / sum);
    else
        f->acts->value[i] = target_row(x, V, t, a, b, at_a - log(sum), at_b - log(sum), lse);
}

static bf_code head_part(run *f, const volatile sig_atomic_t *stop, bf_error *err)
{
    const size_t N = f->acts->N, D = f->c->D;
    edit(f, BF_AT_RESID_FINAL, f->acts->resid_final, D, D);
    norm_rows(f, f->acts->resid_final, R(bf_params_final_w)(f->params),
              R(bf_params_final_b)(f->params), f->acts->mean, f->acts->rstd, NULL);
    for (f->i0 = 0; f->i0 < N; f->i0 += HEAD_ROWS) {
        if (stop && *stop)
            return bf_fail(err, BF_EINTERRUPTED, "interrupted");
        f->rows = N - f->i0 < HEAD_ROWS ? N - f->i0 : HEAD_ROWS;
        R(bf_linear)(f->logits, f->c->V, f->normed + f->i0 * D, D, f->rows,
                     R(bf_params_head)(f->params), NULL, f->pool);
        bf_pool_run(f->pool, f->rows, loss_task, f);
        R(bf_linear_back)(f->acts->dfinal + f->i0 * D, f->logits, f->rows, R(bf_params_head)(f->params),
                          f->pool);
    }
    for (size_t i = 0; i < N; i++)
        if (!isfinite(f->acts->loss[i]))
            return bf_fail(err, BF_ENONFINITE, "the loss of token %zu is not finite", i + 1);
    for (size_t i = 0; i < N; i++)
        if (!isfinite(f->acts->value[i]))
            return bf_fail(err, BF_ENONFINITE, "the target of position %zu is not finite", i);
    return R(bf_params_failed)(f->params, err);
}

size_t R(bf_forward_scratch)(const bf_config *c, size_t N)
{
    const size_t rows = N < HEAD_ROWS ? N : HEAD_ROWS;
    return bf_arena_need(N, c->D * sizeof(real)) +
           (c->gated ? 2 : 1) * bf_arena_need(N, c->F * sizeof(real)) +
           bf_arena_need(rows, c->V * sizeof(real));
}

bf_code R(bf_forward_from)(R(bf_acts) *acts, size_t l, R(bf_params) *params, const bf_config *c,
                           const int64_t *tokens, bf_pool *pool, bf_arena *scratch,
                           const volatile sig_atomic_t *stop, bf_error *err)
{
    const size_t mark = bf_arena_mark(scratch), N = acts->N;
    const size_t head_rows = N < HEAD_ROWS ? N : HEAD_ROWS;
    run f = {.acts = acts, .params = params, .c = c, .pool = pool};
    f.targets = acts->targets ? acts->targets : tokens + 1;
    f.normed = bf_arena_take(scratch, N, c->D * sizeof(real));
    f.hidden = bf_arena_take(scratch, N, c->F * sizeof(real));
    f.gate = c->gated ? bf_arena_take(scratch, N, c->F * sizeof(real)) : f.hidden;
    f.logits = bf_arena_take(scratch, head_rows, c->V * sizeof(real));
    bf_code rc = BF_OK;
    if (!f.normed || !f.hidden || !f.gate || !f.logits)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the activations of %zu positions", N);
    for (f.l = l; f.l < acts->L && !rc; f.l++) {
        rc = layer(&f, err);
        if (!rc && stop && *stop)
            rc = bf_fail(err, BF_EINTERRUPTED, "interrupted");
    }
    if (!rc)
        rc = head_part(&f, stop, err);
    bf_arena_reset(scratch, mark);
    return rc;
}

bf_code R(bf_forward)(R(bf_acts) *acts, R(bf_params) *params, const bf_config *c,
                      const int64_t *tokens, bf_pool *pool, bf_arena *scratch,
                      const volatile sig_atomic_t *stop, bf_error *err)
{
    real *x = acts->L ? acts->layer[0].resid_pre : acts->resid_final;
    for (size_t j = 0; j < acts->N; j++)
        R(bf_params_embed)(x + j * c->D, params, (size_t)tokens[j], j);
    if (acts->cosines)
        R(bf_rotary_tables)(acts->cosines, acts->sines, c, acts->N);
    return R(bf_forward_from)(acts, 0, params, c, tokens, pool, scratch, stop, err);
}
