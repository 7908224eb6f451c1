/* What a record says, checked before it is believed: shapes against the model, axes against each
 * other. */
#include "tracer/trust.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

static bf_code check_model(const bf_record *record, bf_model *model, bf_error *err)
{
    const char *named = bf_record_meta(record, "model_sha256"),
               *name = bf_record_meta(record, "model");
    const char *sha;
    if (!bf_record_meta(record, "backflow_record"))
        return bf_fail(err, BF_EARG, "the file is no record of backflow's");
    if (!named)
        return bf_fail(err, BF_EARG,
                       "the record does not say by SHA-256 which model it was made with");
    const bf_code rc = bf_model_sha256(&sha, model, err);
    if (rc || strcmp(sha, named) == 0)
        return rc;
    return bf_fail(
        err, BF_EARG,
        "the record was made with other weights: %.60s, SHA-256 %.16s..., but %.60s has %.16s...",
        name ? name : "a model", named, model->dims.name, sha);
}

/* " 5", " 5,7" or nothing, as the kind wants it. */
static bool read_ids(bf_target *to, const char *text)
{
    char *end = NULL;
    if (to->kind == BF_TARGET_LOSS || to->kind == BF_TARGET_ENTROPY)
        return *text == '\0';
    to->a = strtoll(text, &end, 10);
    if (end == text || to->kind != BF_TARGET_LOGIT_DIFF)
        return end != text && *end == '\0';
    text = end + 1;
    if (*end != ',')
        return false;
    to->b = strtoll(text, &end, 10);
    return end != text && *end == '\0';
}

static bf_code read_target(bf_target *out, const bf_record *record, bf_error *err)
{
    static const char *const names[] = {"loss", "logit", "logprob", "logit-diff", "entropy"};
    const char *text = bf_record_meta(record, "target");
    *out = (bf_target){.a = -1, .b = -1};
    if (!text)
        return BF_OK;
    const size_t len = strcspn(text, " ");
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strlen(names[k]) == len && strncmp(text, names[k], len) == 0) {
            out->kind = (bf_target_kind)k;
            if (read_ids(out, text + len))
                return BF_OK;
        }
    return bf_fail(err, BF_EARG, "the record's target \"%.60s\" cannot be measured", text);
}

static bf_code check_target(const bf_evidence *e, const bf_model *model, bf_error *err)
{
    const int64_t V = (int64_t)model->config.V;
    if (e->target.a >= V || e->target.b >= V)
        return bf_fail(err, BF_EFORMAT,
                       "the record's target is token %" PRId64 ", the model has %" PRId64,
                       e->target.a >= V ? e->target.a : e->target.b, V);
    return BF_OK;
}

int64_t bf_evidence_integer(const bf_tensor *tensor, size_t k)
{
    int64_t value;
    memcpy(&value, (const char *)tensor->data + k * sizeof value, sizeof value);
    return value;
}

/* An axis of the record: the i64 tensor `name`, ascending and below limit, or all of 0..limit-1. */
static bf_code read_axis(size_t **out, size_t *n, const bf_record *record, const char *name,
                         size_t limit, bf_error *err)
{
    const bf_tensor *t = bf_record_find(record, name);
    if (t && (t->dtype != BF_I64 || t->rank != 1 || t->dim[0] == 0 || t->dim[0] > limit))
        return bf_fail(err, BF_ESHAPE, "the record's %s is no list of 1 to %zu numbers", name,
                       limit);
    *n = t ? t->dim[0] : limit;
    *out = malloc(*n * sizeof **out);
    if (!*out)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu %s", *n, name);
    for (size_t k = 0; k < *n; k++) {
        const int64_t value = t ? bf_evidence_integer(t, k) : (int64_t)k;
        if (value < 0 || (uint64_t)value >= limit || (k && (size_t)value <= (*out)[k - 1]))
            return bf_fail(err, BF_EFORMAT, "entry %zu of the record's %s is %" PRId64
                           ", wanted an ascending list below %zu", k, name, value, limit);
        (*out)[k] = (size_t)value;
    }
    return BF_OK;
}

/* The tensor `name`, if it is there: floating, [layers,(heads,)losses,N], flat: without layers. */
static bf_code find(const bf_tensor **out, const bf_evidence *e, const char *name, size_t heads,
                    bool flat, bf_error *err)
{
    const size_t deep[] = {e->layers, heads, e->losses, e->N},
                 plain[] = {e->layers, e->losses, e->N};
    const size_t *dim = heads ? deep : flat ? plain + 1 : plain, rank = heads ? 4 : flat ? 2 : 3;
    const bf_tensor *t = bf_record_find(e->record, name);
    *out = NULL;
    if (!t)
        return BF_OK;
    bool same = t->rank == rank && (t->dtype == BF_F32 || t->dtype == BF_F64);
    for (size_t k = 0; k < rank && same; k++)
        same = t->dim[k] == dim[k];
    if (!same)
        return bf_fail(err, BF_ESHAPE, "the record's %s does not fit its losses, layers and tokens",
                       name);
    *out = t;
    return BF_OK;
}

static bf_code find_edges(bf_evidence *e, bf_error *err)
{
    e->edge_index = bf_record_find(e->record, "edge.index");
    e->edge_value = bf_record_find(e->record, "edge.value");
    const bf_tensor *i = e->edge_index, *v = e->edge_value;
    if (!i && !v)
        return BF_OK;
    if (!i || !v || i->dtype != BF_I64 || i->rank != 2 || i->dim[1] != 6 || v->rank != 1 ||
        (v->dtype != BF_F32 && v->dtype != BF_F64) || v->dim[0] != i->dim[0])
        return bf_fail(err, BF_ESHAPE,
                       "the record's edge.index and edge.value do not fit each other");
    return BF_OK;
}

static bf_code find_tensors(bf_evidence *e, bf_error *err)
{
    char name[BF_NAME_MAX];
    bool any = false;
    bf_code rc = BF_OK;
    for (unsigned k = 0; k < BF_SITES && !rc; k++) {
        const unsigned site = 1u << k;
        const bool flat = site == BF_SITE_RESID_FINAL;
        snprintf(name, sizeof name, "flow.%s.grad_x_act", bf_site_name(site));
        rc = find(&e->dot[k], e, name, bf_site_heads(e->c, site), flat, err);
        snprintf(name, sizeof name, "flow.%s.grad_norm", bf_site_name(site));
        if (!rc)
            rc = find(&e->norm[k], e, name, bf_site_heads(e->c, site), flat, err);
        any = any || e->dot[k] || e->norm[k];
    }
    for (unsigned p = 0; p < BF_SHARES && !rc; p++)
        rc = find(&e->share[p], e, bf_share_names[p], p < BF_SHARE_Q ? 0 : e->c->H, false, err);
    if (!rc && !any)
        return bf_fail(err, BF_EARG,
                       "the record holds no flow: no tensor is called flow.SITE.grad_x_act "
                       "or flow.SITE.grad_norm");
    return rc ? rc : find_edges(e, err);
}

static bf_code read_summed(bf_evidence *e, bf_error *err)
{
    const char *text = bf_record_meta(e->record, "summed");
    char *end = NULL;
    if (!text)
        return BF_OK;
    e->summed = strtoul(text, &end, 10);
    if (end == text || *end || e->losses != 1 || e->summed > e->loss[0])
        return bf_fail(err, BF_EFORMAT,
                       "the record's \"summed\" is \"%.40s\", wanted how many losses "
                       "before the one recorded were added to it",
                       text);
    return BF_OK;
}

/* The record's walk passed all keys and values, so trials must, whatever the model's config.json says. */
static bf_code pass_all(bf_evidence *e, bf_error *err)
{
    const size_t L = e->config.L;
    if (!e->config.mask)
        return BF_OK;
    if (!(e->mask = malloc(L * sizeof *e->mask)))
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu masks", L);
    for (size_t l = 0; l < L; l++) {
        e->mask[l] = e->config.mask[l];
        e->mask[l].detach = BF_DETACH_NONE;
    }
    e->config.mask = e->mask;
    return BF_OK;
}

bf_code bf_evidence_open(bf_evidence *e, const bf_record *record, bf_model *model, bf_error *err)
{
    *e = (bf_evidence){.record = record, .config = model->config, .c = &e->config};
    const char *precision = bf_record_meta(record, "precision");
    const bf_tensor *tokens = bf_record_find(record, "tokens");
    bf_code rc = check_model(record, model, err);
    if (rc)
        return rc;
    const char *mask = bf_record_meta(record, "mask"), *detach = bf_record_meta(record, "detach");
    if (detach)
        return bf_fail(err, BF_EUNSUPPORTED, "the record's detach is \"%.60s\": moving a vector shows what "
                       "the cut gradient leaves out, too", detach);
    if (mask && (strstr(mask, "bidirectional") || strstr(mask, "compressive")))
        return bf_fail(err, BF_EUNSUPPORTED, "the record's mask is \"%.60s\", wanted one of earlier tokens and "
                       "softmax alone", mask);
    if (!tokens || tokens->dtype != BF_I64 || tokens->rank != 1 || tokens->dim[0] < 2)
        return bf_fail(err, BF_ESHAPE, "the record's tokens are no list of 2 or more");
    e->N = tokens->dim[0] - 1;
    e->tokens = malloc(tokens->dim[0] * sizeof *e->tokens);
    if (!e->tokens)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", tokens->dim[0]);
    for (size_t k = 0; k <= e->N; k++)
        e->tokens[k] = bf_evidence_integer(tokens, k);
    e->rough = bf_record_meta(record, "pruned") || (precision && strcmp(precision, "bf16") == 0);
    rc = pass_all(e, err);
    if (!rc)
        rc = read_target(&e->target, record, err);
    if (!rc)
        rc = check_target(e, model, err);
    if (!rc)
        rc = read_axis(&e->loss, &e->losses, record, "losses", e->N, err);
    if (!rc)
        rc = read_axis(&e->layer, &e->layers, record, "layers", e->c->L, err);
    if (!rc)
        rc = read_summed(e, err);
    return rc ? rc : find_tensors(e, err);
}

void bf_evidence_end(bf_evidence *e)
{
    free(e->mask);
    free(e->tokens);
    free(e->loss);
    free(e->layer);
}

size_t bf_evidence_slot(const bf_evidence *e, size_t i)
{
    for (size_t k = 0; k < e->losses; k++)
        if (e->loss[k] == i)
            return k;
    return SIZE_MAX;
}

bf_code bf_evidence_value(double *out, const bf_evidence *e, const bf_tensor *t, size_t slot,
                          size_t h, size_t loss_slot, size_t j, bf_error *err)
{
    const size_t heads = t->rank == 4 ? t->dim[1] : 1;
    *out = bf_tensor_value(t, ((slot * heads + h) * e->losses + loss_slot) * e->N + j);
    if (!isfinite(*out))
        return bf_fail(err, BF_ENONFINITE, "%s of loss %zu at layer %zu, position %zu is %s",
                       t->name, e->loss[loss_slot], e->layer[slot], j, isnan(*out) ? "NaN" : "Inf");
    return BF_OK;
}
