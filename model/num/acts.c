#include "model/num/forward.h"

#include <stdint.h>

static real *rows(bf_room *to, size_t n, size_t width)
{
    return bf_room_rows(to, n, width, sizeof(real));
}

static real *lay_pattern(bf_room *to, const bf_config *c, size_t N)
{
    const size_t heads = c->H + (bf_config_delta(c) ? c->G : 0);
    return N > SIZE_MAX / sizeof(real) / N ? rows(to, SIZE_MAX, 1)
                                           : bf_room_take(to, heads, N * N * sizeof(real));
}

static void lay_layer(bf_room *to, R(bf_layer_acts) *a, const bf_config *c, size_t N, bool shared)
{
    const size_t qk = (c->H + c->G) * c->K, qkv = qk + c->G * c->K;
    a->resid_pre = rows(to, N, c->D);
    a->resid_mid = c->parallel ? NULL : rows(to, N, c->D);
    a->attn_out = rows(to, N, c->D);
    a->mlp_out = rows(to, N, c->D);
    a->qkv = rows(to, N, qkv);
    a->rotated = c->pos == BF_POS_ROTARY ? rows(to, N, qk) : a->qkv;
    a->rotated_ld = c->pos == BF_POS_ROTARY ? qk : qkv;
    a->z = rows(to, N, c->H * c->K);
    a->mean1 = rows(to, N, 1);
    a->rstd1 = rows(to, N, 1);
    a->mean2 = rows(to, N, 1);
    a->rstd2 = rows(to, N, 1);
    a->norm_in1 = rows(to, N, 1);
    a->norm_in2 = rows(to, N, 1);
    a->norm_z = rows(to, N, 1);
    a->norm_hidden = rows(to, N, 1);
    a->slope = rows(to, N, c->F);
    a->gain = c->gated ? rows(to, N, c->F) : NULL;
    a->pattern = shared ? NULL : lay_pattern(to, c, N);
    a->u = bf_config_delta(c) ? rows(to, N, c->G * c->K) : NULL;
    a->gate = bf_room_take(to, c->H, sizeof *a->gate);
}

static R(bf_acts) *lay(bf_room *to, const bf_config *c, size_t N, bool shared)
{
    R(bf_acts) spare = {0}, *acts = bf_room_take(to, 1, sizeof *acts);
    R(bf_layer_acts) none, *layers = bf_room_take(to, c->L, sizeof *layers);
    R(bf_acts) *a = acts ? acts : &spare;
    const size_t half = c->rotary_dim / 2;
    a->target = (bf_target){.a = -1, .b = -1};
    a->reference = NULL;
    a->logprobs = NULL;
    a->targets = NULL;
    a->kept = NULL;
    a->N = N;
    a->L = c->L;
    a->edits = NULL;
    a->n_edits = 0;
    a->layer = layers;
    for (size_t l = 0; l < c->L; l++)
        lay_layer(to, layers ? &layers[l] : &none, c, N, shared);
    real *pattern = shared ? lay_pattern(to, c, N) : NULL;
    for (size_t l = 0; l < c->L && layers && shared; l++)
        layers[l].pattern = pattern;
    a->shared = shared;
    a->held = c->L;
    a->resid_final = rows(to, N, c->D);
    a->mean = rows(to, N, 1);
    a->rstd = rows(to, N, 1);
    a->loss = bf_room_take(to, N, sizeof(double));
    a->value = bf_room_take(to, N, sizeof(double));
    a->dfinal = rows(to, N, c->D);
    a->cosines = c->pos == BF_POS_ROTARY ? rows(to, N, half) : NULL;
    a->sines = c->pos == BF_POS_ROTARY ? rows(to, N, half) : NULL;
    return acts;
}

size_t R(bf_acts_bytes)(const bf_config *config, size_t N, bool shared)
{
    bf_room count = {0};
    lay(&count, config, N, shared);
    return count.failed ? SIZE_MAX : count.bytes;
}

bf_code R(bf_acts_new)(R(bf_acts) **out, const bf_config *config, size_t N, bool shared,
                       bf_arena *arena, bf_error *err)
{
    const size_t bytes = R(bf_acts_bytes)(config, N, shared);
    bf_room to = {.arena = arena};
    if (bytes == SIZE_MAX)
        return bf_fail(err, BF_ENOMEM, "activations of %zu positions overflow", N);
    R(bf_acts) *acts = lay(&to, config, N, shared);
    if (to.failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold the activations of %zu positions, %zu bytes", N,
                       bytes);
    *out = acts;
    return BF_OK;
}

R(bf_head) R(bf_acts_head)(const R(bf_acts) *acts, const bf_config *c, size_t l, size_t h)
{
    const R(bf_layer_acts) *a = &acts->layer[l], *kept = acts->kept ? &acts->kept->layer[l] : NULL;
    const size_t g = h / (c->H / c->G), each = acts->N * acts->N;
    R(bf_head) head = {.q = a->rotated + h * c->K,
                       .k = a->rotated + (c->H + g) * c->K,
                       .v = a->qkv + (c->H + c->G + g) * c->K,
                       .kept_k = kept ? kept->rotated + (c->H + g) * c->K : NULL,
                       .kept_v = kept ? kept->qkv + (c->H + c->G + g) * c->K : NULL,
                       .pattern = a->pattern + h * each,
                       .N = acts->N,
                       .K = c->K,
                       .ldq = a->rotated_ld,
                       .ldk = a->rotated_ld,
                       .ldv = (c->H + 2 * c->G) * c->K,
                       .gate = a->gate[h],
                       .mask = bf_config_mask(c, l),
                       .scale = (real)c->attn_scale[l]};
    head.links = head.mask.delta ? a->pattern + (c->H + g) * each : NULL;
    head.u = head.mask.delta ? a->u + g * c->K : head.v;
    head.kept_u = head.mask.delta && kept ? kept->u + g * c->K : head.kept_v;
    head.ldu = head.mask.delta ? c->G * c->K : head.ldv;
    return head;
}

enum { QUERY_ROWS = 64 };

typedef struct {
    const R(bf_acts) *acts;
    const bf_config *c;
    size_t l;
} pattern_job;

static void store_task(void *context, size_t g, size_t worker)
{
    (void)worker;
    const pattern_job *job = context;
    const bf_config *c = job->c;
    const R(bf_head) head = R(bf_acts_head)(job->acts, c, job->l, g * (c->H / c->G));
    R(bf_memory_store)(&head, job->acts->layer[job->l].u + g * c->K);
}

void R(bf_acts_store)(const R(bf_acts) *acts, const bf_config *c, size_t l, bf_pool *pool)
{
    pattern_job job = {acts, c, l};
    if (bf_config_mask(c, l).delta)
        bf_pool_run(pool, c->G, store_task, &job);
}

static void pattern_task(void *context, size_t task, size_t worker)
{
    (void)worker;
    const pattern_job *job = context;
    const size_t N = job->acts->N, r0 = task / job->c->H * QUERY_ROWS;
    const R(bf_head) head = R(bf_acts_head)(job->acts, job->c, job->l, task % job->c->H);
    R(bf_attention_pattern)(&head, r0, r0 + QUERY_ROWS < N ? r0 + QUERY_ROWS : N);
}

void R(bf_acts_pattern)(R(bf_acts) *acts, const bf_config *c, size_t l, bf_pool *pool)
{
    pattern_job job = {acts, c, l};
    if (!acts->shared || acts->held == l)
        return;
    R(bf_acts_store)(acts, c, l, pool);
    bf_pool_run(pool, c->H * ((acts->N + QUERY_ROWS - 1) / QUERY_ROWS), pattern_task, &job);
    acts->held = l;
}
