#include "tracer/job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A growing list of tensors to be. */
typedef struct {
    bf_tensor *spec;
    size_t n, cap;
    bool failed;
} list;

static bf_tensor *add(list *to, bf_dtype dtype, size_t rank, const size_t *dim)
{
    if (to->n == to->cap) {
        const size_t cap = to->cap ? 2 * to->cap : 32;
        bf_tensor *grown = realloc(to->spec, cap * sizeof *grown);
        if (!grown) {
            to->failed = true;
            return NULL;
        }
        to->spec = grown;
        to->cap = cap;
    }
    bf_tensor *t = &to->spec[to->n++];
    memset(t, 0, sizeof *t);
    t->dtype = dtype;
    t->rank = rank;
    for (size_t k = 0; k < rank; k++)
        t->dim[k] = dim[k];
    return t;
}

static void named(list *to, const char *name, bf_dtype dtype, size_t rank, const size_t *dim)
{
    bf_tensor *t = add(to, dtype, rank, dim);
    if (t)
        snprintf(t->name, sizeof t->name, "%s", name);
}

/* The tensor PREFIX.SITE.SCORE with I rows on the loss axis. */
static void add_flow(list *to, const bf_job *job, const char *prefix, unsigned site,
                     const char *score, size_t I, bf_dtype dtype)
{
    const size_t heads = bf_site_heads(&job->config, site), N = job->N;
    const size_t deep[] = {job->layers, heads, I, N}, flat[] = {job->layers, I, N};
    bf_tensor *t = heads ? add(to, dtype, 4, deep)
                         : add(to, dtype, site == BF_SITE_RESID_FINAL ? 2 : 3,
                               site == BF_SITE_RESID_FINAL ? flat + 1 : flat);
    if (t)
        snprintf(t->name, sizeof t->name, "%s.%s.%s", prefix, bf_site_name(site), score);
}

static void add_overview(list *to, const bf_job *job, unsigned site, bf_dtype dtype)
{
    if (!job->blocks)
        return;
    if (job->scores & BF_SCORE_GRAD_X_ACT)
        add_flow(to, job, "overview", site, "grad_x_act", job->blocks, dtype);
    if (!job->probes)
        return;
    add_flow(to, job, "overview", site, "grad_norm", job->blocks, dtype);
    add_flow(to, job, "overview", site, "grad_norm_low", job->blocks, dtype);
    add_flow(to, job, "overview", site, "grad_norm_high", job->blocks, dtype);
}

static void add_own(list *to, const bf_job *job, bf_dtype dtype)
{
    const size_t dim[] = {job->config.L + 1, job->N};
    named(to, "own.grad_norm", dtype, 2, dim);
    named(to, "future.grad_norm", dtype, 2, dim);
    named(to, "own_future.cosine", dtype, 2, dim);
}

const char *const bf_share_names[BF_SHARES] = {"share.skip", "share.mlp", "share.q", "share.k",
                                              "share.v"};
const char *const bf_param_names[BF_PARAMS] = {
    "param.q.grad_norm",      "param.k.grad_norm",        "param.v.grad_norm",      "param.o.grad_norm",
    "param.mlp_in.grad_norm", "param.mlp_gate.grad_norm", "param.mlp_out.grad_norm"};

const char *const bf_weight_names[BF_PARAMS] = {"q", "k", "v", "o", "mlp_in", "mlp_gate", "mlp_out"};

static void add_weight(list *to, const bf_job *job, size_t which, const char *part, size_t second,
                       bf_dtype dtype)
{
    const size_t dim[] = {job->layers, second};
    bf_tensor *t = add(to, dtype, second ? 2 : 1, dim);
    if (t)
        snprintf(t->name, sizeof t->name, "weight.%s.%s", bf_weight_names[which], part);
}

static void add_weights(list *to, const bf_job *job, bf_dtype dtype)
{
    const bf_config *c = &job->config;
    for (size_t w = 0; w < BF_PARAMS && job->scores & BF_SCORE_WEIGHT; w++) {
        const size_t heads = w == BF_PARAM_Q || w == BF_PARAM_O ? c->H : w <= BF_PARAM_V ? c->G : 0;
        if (w == BF_PARAM_MLP_GATE && !c->gated)
            continue;
        add_weight(to, job, w, "own", 0, dtype);
        add_weight(to, job, w, "future", 0, dtype);
        add_weight(to, job, w, "cosine", 0, dtype);
        add_weight(to, job, w, "lag", BF_BANDS, dtype);
        if (!heads)
            continue;
        add_weight(to, job, w, "head_own", heads, dtype);
        add_weight(to, job, w, "head_future", heads, dtype);
        add_weight(to, job, w, "head_cosine", heads, dtype);
    }
}

static void add_paths(list *to, const bf_job *job, bf_dtype dtype)
{
    const bf_config *c = &job->config;
    const size_t deep[] = {job->layers, c->H, job->losses, job->N},
                 flat[] = {job->layers, job->losses, job->N}, edges[] = {job->edges, 6};
    for (size_t p = 0; p < BF_SHARES && job->scores & BF_SCORE_SHARE; p++)
        named(to, bf_share_names[p], dtype, p < BF_SHARE_Q ? 3 : 4, p < BF_SHARE_Q ? flat : deep);
    for (size_t p = 0; p < BF_PARAMS && job->scores & BF_SCORE_PARAM; p++)
        if (p != BF_PARAM_MLP_GATE || c->gated)
            named(to, bf_param_names[p], dtype, 3, flat);
    if (job->scores & BF_SCORE_EDGE) {
        named(to, "edge.index", BF_I64, 2, edges);
        named(to, "edge.value", dtype, 1, edges);
    }
}

bf_code bf_job_specs(bf_tensor **specs, size_t *n, const bf_job *job, bf_error *err)
{
    const bf_config *c = &job->config;
    const bf_dtype dtype = job->query->precision == BF_PRECISION_F64 ? BF_F64 : BF_F32;
    const size_t pattern[] = {job->layers, c->H, job->N, job->N}, tokens[] = {job->query->n_tokens};
    const size_t predicted[] = {job->N, c->V};
    list to = {0};
    named(&to, "tokens", BF_I64, 1, tokens);
    named(&to, "loss", dtype, 1, &job->N);
    if (job->query->target.kind != BF_TARGET_LOSS)
        named(&to, "target", dtype, 1, &job->N);
    if (job->query->masked)
        named(&to, "masked", BF_I64, 1, &job->query->n_masked);
    if (job->query->losses || job->query->masked || job->summed)
        named(&to, "losses", BF_I64, 1, &job->losses);
    if (job->query->layers)
        named(&to, "layers", BF_I64, 1, &job->layers);
    for (unsigned k = 0; k < BF_SITES; k++) {
        const unsigned site = 1u << k;
        if (!(job->sites & site) || !bf_site_exists(c, site))
            continue;
        if (job->scores & BF_SCORE_GRAD_NORM && job->losses)
            add_flow(&to, job, "flow", site, "grad_norm", job->losses, dtype);
        if (job->scores & BF_SCORE_GRAD_X_ACT && job->losses)
            add_flow(&to, job, "flow", site, "grad_x_act", job->losses, dtype);
        add_overview(&to, job, site, dtype);
    }
    const size_t bounds = job->blocks + 1;
    if (job->blocks)
        named(&to, "blocks", BF_I64, 1, &bounds);
    if (job->scores & BF_SCORE_OWN)
        add_own(&to, job, dtype);
    if (job->losses)
        add_paths(&to, job, dtype);
    add_weights(&to, job, dtype);
    if (job->query->logprobs)
        named(&to, "logprobs", dtype, 2, predicted);
    if (!job->query->no_attn)
        named(&to, "attn", dtype, 4, pattern);
    if (to.failed) {
        free(to.spec);
        return bf_fail(err, BF_ENOMEM, "cannot hold the list of tensors");
    }
    *specs = to.spec;
    *n = to.n;
    return BF_OK;
}
