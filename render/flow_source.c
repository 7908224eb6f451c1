/* flow_source.c -- the tensors that a flow is read from: found, and held against each other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "render/flow_source.h"
#include "render/matrix.h"

bf_code bf_flow_no_memory(bf_error *err, size_t n)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold %zu nodes or edges of a graph", n);
}

bf_code bf_flow_value(double *out, const bf_tensor *t, size_t at, bf_error *err)
{
    *out = bf_tensor_value(t, at);
    return isfinite(*out) ? BF_OK
                          : bf_fail(err, BF_ENONFINITE, "%s is %g at %zu", t->name, *out, at);
}

/* ---- tensors */

/* Nothing to say of a tensor that is missing. */
static bf_code need_shape(const bf_tensor *t, size_t rank, const size_t *dim, bf_error *err)
{
    for (size_t k = 0; t && k < rank; k++)
        if (t->rank != rank || t->dim[k] != dim[k])
            return bf_fail(err, BF_ESHAPE,
                           "%s has %zu axes, axis %zu of %zu, wanted %zu axes and %zu", t->name,
                           t->rank, k, k < t->rank ? t->dim[k] : 0, rank, dim[k]);
    return BF_OK;
}

static size_t heads_of(const bf_tensor *t)
{
    return t && t->rank == 4 ? t->dim[1] : 0;
}

static bf_code check_shapes(bf_flow_source *s, bf_error *err)
{
    const size_t L = s->pre->dim[0], R = s->R, N = s->N;
    const size_t E = s->value && s->value->rank == 1 ? s->value->dim[0] : 0;
    s->H = heads_of(s->attn);
    s->H = s->H ? s->H : heads_of(s->share[BF_GRAPH_Q]);
    bf_code rc = need_shape(s->mid, 3, (size_t[]){L, R, N}, err);
    if (!rc)
        rc = need_shape(s->final, 2, (size_t[]){R, N}, err);
    if (!rc)
        rc = need_shape(s->attn, 4, (size_t[]){L, s->H, N, N}, err);
    if (!rc && s->attn)
        rc = need_shape(s->z, 4, (size_t[]){L, s->H, R, N}, err);
    for (size_t p = 0; p < BF_GRAPH_PATHS && !rc; p++)
        rc = p < BF_GRAPH_Q ? need_shape(s->share[p], 3, (size_t[]){L, R, N}, err)
                            : need_shape(s->share[p], 4, (size_t[]){L, s->H, R, N}, err);
    if (!rc && s->value)
        rc = need_shape(s->index, 2, (size_t[]){E, 6}, err);
    if (!rc && (L > UINT16_MAX || N > UINT32_MAX || s->H > INT16_MAX))
        rc = bf_fail(err, BF_ESHAPE, "%zu layers, %zu heads and %zu positions are too many", L,
                     s->H, N);
    return rc;
}

static bf_code find_tensors(bf_flow_source *s, const bf_record *record, bf_error *err)
{
    s->pre = bf_record_find(record, "flow.resid_pre.grad_norm");
    s->mid = bf_record_find(record, "flow.resid_mid.grad_norm");
    s->final = bf_record_find(record, "flow.resid_final.grad_norm");
    s->z = bf_record_find(record, "flow.z.grad_norm");
    s->attn = bf_record_find(record, "attn");
    s->index = bf_record_find(record, "edge.index");
    s->value = bf_record_find(record, "edge.value");
    for (unsigned p = 0; p < BF_GRAPH_PATHS; p++) {
        char name[BF_NAME_MAX] = "share.";
        strcat(name, bf_graph_path_name(p)); /* there is no share.own */
        s->share[p] = p == BF_GRAPH_OWN ? NULL : bf_record_find(record, name);
    }
    if (!s->pre)
        return bf_fail(err, BF_EARG,
                       "the record has no tensor flow.resid_pre.grad_norm, which a graph needs");
    if (s->pre->rank != 3 || !bf_tensor_count(s->pre))
        return bf_fail(err, BF_ESHAPE,
                       "%s has %zu axes and %zu values, wanted 3 axes and some values",
                       s->pre->name, s->pre->rank, bf_tensor_count(s->pre));
    s->R = s->pre->dim[1];
    s->N = s->pre->dim[2];
    return check_shapes(s, err);
}

/* ---- losses, layers, norms */

static bf_code find_rows(bf_flow_source *s, bf_flow *f, const bf_record *record, bf_error *err)
{
    size_t *recorded = calloc(s->R, sizeof *recorded);
    s->row = calloc(f->n_losses, sizeof *s->row);
    bf_code rc = recorded && s->row ? bf_matrix_losses(recorded, record, s->R, s->N, err)
                                    : bf_flow_no_memory(err, s->R);
    for (size_t n = 0; n < f->n_losses && !rc; n++) {
        size_t *row = &s->row[n];
        while (*row < s->R && recorded[*row] != f->loss[n])
            ++*row;
        if (*row == s->R)
            rc = bf_fail(err, BF_EARG,
                         "the record does not hold loss %zu; it has %zu, from %zu to %zu",
                         f->loss[n], s->R, recorded[0], recorded[s->R - 1]);
        else if (n && f->loss[n] <= f->loss[n - 1])
            rc = bf_fail(err, BF_EARG, "loss %zu comes after %zu, wanted them ascending",
                         f->loss[n], f->loss[n - 1]);
    }
    free(recorded);
    return rc;
}

static bf_code take_losses(bf_flow_source *s, bf_flow *f, const bf_record *record,
                           const bf_graph_style *style, bf_error *err)
{
    f->n_losses = style->n_losses ? style->n_losses : 1;
    f->loss = calloc(f->n_losses, sizeof *f->loss);
    if (!f->loss)
        return bf_flow_no_memory(err, f->n_losses);
    if (style->n_losses)
        memcpy(f->loss, style->losses, f->n_losses * sizeof *f->loss);
    else
        f->loss[0] = style->loss;
    bf_code rc = find_rows(s, f, record, err);
    if (rc)
        return rc;
    f->both = bf_record_find(record, "masked") != NULL;
    f->positions = f->both ? s->N : f->loss[f->n_losses - 1] + 1;
    const bf_tensor *loss = bf_record_find(record, "loss");
    const bool known = loss && loss->rank == 1 && (loss->dim[0] == s->N || loss->dim[0] == s->R);
    f->mean_loss = known ? 0 : NAN;
    for (size_t n = 0; n < f->n_losses && known && !rc; n++) {
        double value;
        rc = bf_flow_value(&value, loss, loss->dim[0] == s->N ? f->loss[n] : s->row[n], err);
        f->mean_loss += value / (double)f->n_losses;
    }
    return rc;
}

static bf_code read_norms(bf_flow *f, const bf_flow_source *s, const bf_record *record,
                          bf_error *err)
{
    f->levels = s->pre->dim[0];
    f->has_final = s->final != NULL;
    f->layer = calloc(f->levels, sizeof *f->layer);
    f->norm = calloc(f->levels + 1, f->positions * sizeof *f->norm);
    f->node = calloc(f->levels + 1, f->positions * sizeof *f->node);
    if (!f->layer || !f->norm || !f->node)
        return bf_flow_no_memory(err, f->levels);
    bf_code rc = BF_OK;
    for (size_t k = 0; k <= f->levels && !rc; k++) {
        if (k < f->levels)
            rc = bf_matrix_layer(&f->layer[k], record, k, f->levels, err);
        f->gaps = f->gaps || (k && k < f->levels && f->layer[k] != f->layer[k - 1] + 1);
        const bf_tensor *t = k < f->levels ? s->pre : s->final;
        for (size_t n = 0; t && n < f->n_losses; n++) {
            const size_t at = (k < f->levels ? k * s->R + s->row[n] : s->row[n]) * s->N;
            for (size_t j = 0; j <= bf_flow_last(f, n) && !rc; j++) {
                double value = 0;
                rc = bf_flow_value(&value, t, at + j, err);
                f->norm[k * f->positions + j] += value;
            }
        }
    }
    return rc;
}

/* ---- which rows of edge.index belong to which loss and layer */

/* The loss and level of a row; false if they were not asked for. */
static bool row_is_mine(size_t *n, size_t *k, const bf_flow *f, double loss, double layer)
{
    for (*n = 0; *n < f->n_losses && (double)f->loss[*n] != loss;)
        ++*n;
    for (*k = 0; *k < f->levels && (double)f->layer[*k] != layer;)
        ++*k;
    return *n < f->n_losses && *k < f->levels;
}

static bf_code find_runs(bf_flow_source *s, const bf_flow *f, bf_error *err)
{
    const size_t E = s->value->dim[0], heads = s->H ? s->H : E; /* each head has an edge */
    double last[2] = {-1, -1}, highest = -1;
    bf_flow_run none, *at = &none;
    s->runs = calloc(f->n_losses, f->levels * sizeof *s->runs);
    if (!s->runs)
        return bf_flow_no_memory(err, f->n_losses);
    for (size_t e = 0; e < E; e++) {
        const double loss = bf_tensor_value(s->index, 6 * e);
        const double layer = bf_tensor_value(s->index, 6 * e + 1);
        highest = fmax(highest, bf_tensor_value(s->index, 6 * e + 2));
        if (loss != last[0] || layer != last[1]) {
            size_t n, k;
            at = row_is_mine(&n, &k, f, loss, layer) ? &s->runs[n * f->levels + k] : &none;
            if (at != &none && at->last)
                return bf_fail(err, BF_EFORMAT,
                               "edge.index returns to loss %g and layer %g in row %zu, wanted its "
                               "rows together",
                               loss, layer, e);
            at->first = e;
        }
        at->last = e + 1;
        last[0] = loss;
        last[1] = layer;
    }
    if (highest >= (double)(heads < INT16_MAX ? heads : INT16_MAX))
        return bf_fail(err, BF_EFORMAT, "edge.index has head %g, wanted heads below %zu", highest,
                       heads);
    s->H = s->H || highest < 0 ? s->H : (size_t)highest + 1;
    return BF_OK;
}

/* Edges if every loss has some. */
static bf_code choose_basis(bf_flow *f, bf_flow_source *s, bf_error *err)
{
    bool edges = s->index && s->value, shares = s->attn && s->z;
    if (edges) {
        const bf_code rc = find_runs(s, f, err);
        if (rc)
            return rc;
    }
    for (size_t n = 0; edges && n < f->n_losses; n++) {
        bool some = false;
        for (size_t k = 0; k < f->levels; k++)
            some = some || s->runs[n * f->levels + k].last > 0;
        edges = some;
    }
    for (size_t p = 0; p < BF_GRAPH_PATHS; p++)
        shares = shares && (s->share[p] || p == BF_GRAPH_OWN);
    f->basis = edges ? BF_GRAPH_EDGES : shares ? BF_GRAPH_SHARES : BF_GRAPH_NORMS;
    return BF_OK;
}

bf_code bf_flow_source_open(bf_flow_source *s, bf_flow *out, const bf_record *record,
                            const bf_graph_style *style, bf_error *err)
{
    bf_code rc = find_tensors(s, record, err);
    if (!rc)
        rc = take_losses(s, out, record, style, err);
    if (!rc)
        rc = read_norms(out, s, record, err);
    return rc ? rc : choose_basis(out, s, err);
}

void bf_flow_source_free(bf_flow_source *s)
{
    free(s->row);
    free(s->runs);
    free(s->now);
    free(s->next);
    free(s->sum);
}
