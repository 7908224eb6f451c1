/* Shares and edges held against reality: position j's vector moves along the loss's own gradient,
 * but only one path sees it. By k, that is one head whose queries meet j's new key and nothing else
 * of it; by v, its new value; by q, j's own new query; by an edge, one query alone. What the head
 * makes of that is computed here and put in z's place; what skips or passes the MLP is added above
 * the block. */
#include "tracer/trust.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

/* z of query r in one head with another q, key j or value j (NULL: as they are). */
static void attend(double *z, double *weights, const bf_head_f64 *head, bf_span keys, size_t r,
                   size_t j, const double *q, const double *k, const double *v)
{
    const double *query = q ? q : head->q + r * head->ldq;
    double max = -INFINITY, sum = 0.0;
    for (size_t at = bf_span_first(keys); at <= keys.hi; at = bf_span_next(keys, at)) {
        const double *key = k && at == j ? k : head->k + at * head->ldk;
        double dot = 0.0;
        for (size_t e = 0; e < head->K; e++)
            dot += query[e] * key[e];
        weights[at] = dot * head->scale;
        max = weights[at] > max ? weights[at] : max;
    }
    for (size_t at = bf_span_first(keys); at <= keys.hi; at = bf_span_next(keys, at))
        sum += weights[at] = exp(weights[at] - max);
    memset(z, 0, head->K * sizeof *z);
    for (size_t at = bf_span_first(keys); at <= keys.hi; at = bf_span_next(keys, at)) {
        const double *value = v && at == j ? v : head->v + at * head->ldv;
        for (size_t e = 0; e < head->K; e++)
            z[e] += weights[at] / sum * value[e];
    }
}

/* The block's parts with all of position j moved: its new q, k, v and MLP are in work->layer[l]. */
static bf_code move_inputs(bf_trial *t, const bf_move *move, double size, bf_error *err)
{
    const bool mid = move->path == BF_SHARE_MLP && !t->c->parallel;
    const unsigned site = mid ? BF_AT_RESID_MID : BF_AT_RESID_PRE;
    const double *a = bf_trial_vector(t, site, move->layer, 0, move->position);
    const bf_edit_f64 edit = {site, move->layer, 0, move->position, t->moved};
    for (size_t d = 0; d < t->c->D; d++)
        t->moved[d] = a[d] + size * move->direction[d];
    t->work->L = move->layer + 1; /* nothing above is wanted; its losses mean nothing */
    const bf_code rc = bf_trial_run(t, move->layer, &edit, 1, move->position + 1, err);
    t->work->L = t->c->L;
    return rc;
}

/* Heads: z of every query that sees the move through this path. */
static bf_code run_head(bf_trial *t, const bf_move *m, bf_error *err)
{
    const size_t j = m->position, K = t->c->K;
    const bf_head_f64 old = bf_acts_head_f64(t->base, t->c, m->layer, m->head),
                      new = bf_acts_head_f64(t->work, t->c, m->layer, m->head);
    const double *q = m->path == BF_SHARE_Q ? new.q + j * new.ldq : NULL,
                 *k = m->path == BF_SHARE_K ? new.k + j * new.ldk : NULL,
                 *v = m->path == BF_SHARE_V ? new.v + j * new.ldv : NULL;
    const bool one = q || m->query != SIZE_MAX;
    const size_t first = q ? j : one ? m->query : j, last = one ? first : t->N - 1;
    size_t n = 0;
    for (size_t r = first; r <= last; r++) {
        const bf_span keys = bf_mask_keys(&old.mask, r, t->N);
        if (!bf_span_has(keys, j))
            continue;
        attend(t->rows + n * K, t->weights, &old, keys, r, j, q, k, v);
        t->edits[n] = (bf_edit_f64){BF_AT_Z, m->layer, m->head, r, t->rows + n * K};
        n++;
    }
    return bf_trial_run(t, m->layer, t->edits, n, t->N, err);
}

static bf_code apply_path(bf_trial *t, const bf_move *m, double size, bf_error *err)
{
    const size_t D = t->c->D, j = m->position, above = m->layer + 1;
    const unsigned site = above == t->c->L ? BF_AT_RESID_FINAL : BF_AT_RESID_PRE;
    const bf_edit_f64 edit = {site, above, 0, j, t->moved};
    bf_code rc = m->path == BF_SHARE_SKIP ? BF_OK : move_inputs(t, m, size, err);
    if (!rc && m->path >= BF_SHARE_Q)
        return run_head(t, m, err);
    if (rc)
        return rc;
    const double *a = bf_trial_vector(t, site, above, 0, j);
    const double *old = t->base->layer[m->layer].mlp_out + j * D,
                 *new = t->work->layer[m->layer].mlp_out + j * D;
    for (size_t d = 0; d < D; d++)
        t->moved[d] = a[d] + (m->path == BF_SHARE_SKIP ? size * m->direction[d] : new[d] - old[d]);
    return bf_trial_run(t, above, &edit, 1, t->N, err);
}

/* One pair to measure by a path. */
typedef struct {
    size_t slot, layer_slot, head, query, position;
    unsigned path;
    double value; /* nats per unit along the gradient, as recorded */
} path_pair;

/* Fetch the pairs' gradients, move each along its own, add them to row. */
static bf_code measure_pairs(bf_trust_row *row, bf_trust *trust, bf_trial *t, const path_pair *pair,
                             size_t n, bf_error *err)
{
    const bf_evidence *e = t->evidence;
    const size_t D = t->c->D;
    bf_wanted *wanted = malloc((n + 1) * sizeof *wanted);
    double *g = malloc((n + 1) * D * sizeof *g);
    bf_code rc = wanted && g ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu gradients", n);
    for (size_t k = 0; k < n && !rc; k++)
        wanted[k] = (bf_wanted){pair[k].slot, e->layer[pair[k].layer_slot], pair[k].position,
                                g + k * D};
    if (!rc)
        rc = bf_wanted_fetch(wanted, n, t, err);
    bf_trial_stage(t);
    for (size_t k = 0; k < n && !rc; k++) {
        const path_pair *p = &pair[k];
        const size_t layer = wanted[k].layer, first = row->n;
        double size, length, unused;
        bf_norm_and_dot_f64(&size, &unused, wanted[k].g, wanted[k].g, D);
        const double *a = bf_trial_vector(t, BF_AT_RESID_PRE, layer, 0, p->position);
        bf_norm_and_dot_f64(&length, &unused, a, a, D);
        for (size_t d = 0; d < D; d++)
            wanted[k].g[d] *= size > 0.0 ? length / size : 0.0;
        const bf_move move = {.site = BF_AT_RESID_PRE,
                              .layer = layer,
                              .head = p->head,
                              .query = p->query,
                              .position = p->position,
                              .direction = wanted[k].g,
                              .path = p->path};
        rc = bf_row_add(row, trust->n_sizes, e->loss[p->slot], p->position, length * p->value, err);
        if (!rc)
            rc = bf_row_measure(row, trust, first, t, apply_path, &move, err);
        bf_trial_tell(t, row->what, (double)(k + 1) / (double)n);
    }
    free(wanted);
    free(g);
    return rc;
}

/* ---- shares */

static bf_code fill_shares(path_pair *pair, const bf_place *place, size_t n, unsigned path,
                           bf_trial *t, const size_t *slots, size_t n_slots, uint64_t *seed,
                           bf_error *err)
{
    const bf_evidence *e = t->evidence;
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        double share, norm;
        pair[k] = (path_pair){.slot = bf_place_loss(t, place[k], slots, n_slots, seed),
                              .layer_slot = place[k].slot, .position = place[k].position,
                              .head = path < BF_SHARE_Q ? 0 : bf_random_below(seed, t->c->H),
                              .query = SIZE_MAX, .path = path};
        rc = bf_evidence_value(&share, e, e->share[path], place[k].slot, pair[k].head, pair[k].slot,
                               place[k].position, err);
        if (!rc)
            rc = bf_evidence_value(&norm, e, e->norm[BF_AT_RESID_PRE], place[k].slot, 0,
                                   pair[k].slot, place[k].position, err);
        if (!rc)
            pair[k].value = share * norm;
    }
    return rc;
}

bf_code bf_rows_shares(bf_trust *trust, bf_trial *t, const size_t *slots, size_t n, size_t places,
                       uint64_t *seed, bf_error *err)
{
    bf_place *place = malloc(places * sizeof *place);
    path_pair *pair = malloc(places * sizeof *pair);
    size_t n_places = 0;
    bf_code rc = place && pair ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu places", places);
    if (!rc)
        rc = bf_places_draw(place, &n_places, places, t, slots, n, seed, err);
    for (unsigned path = 0; path < BF_SHARES && !rc; path++) {
        bf_trust_row *row;
        if (!t->evidence->share[path])
            continue;
        rc = fill_shares(pair, place, n_places, path, t, slots, n, seed, err);
        if (!rc)
            rc = bf_row_new(&row, trust, bf_share_names[path], "path", err);
        if (!rc)
            rc = measure_pairs(row, trust, t, pair, n_places, err);
    }
    free(place);
    free(pair);
    return rc;
}

/* ---- edges */

/* Edge k of the record; false if it is of a loss that is not wanted. chosen [N]: 1 + slot, or 0. */
static bf_code read_edge(path_pair *out, bool *wanted, const bf_trial *t, size_t k,
                         const size_t *chosen, bf_error *err)
{
    const bf_evidence *e = t->evidence;
    const int64_t N = (int64_t)t->N;
    int64_t at[6];
    size_t slot = 0;
    *wanted = false;
    for (size_t n = 0; n < 6; n++)
        at[n] = bf_evidence_integer(e->edge_index, 6 * k + n);
    if (at[0] < 0 || at[0] >= N || at[1] < 0 || at[1] >= (int64_t)t->c->L || at[2] < 0 ||
        at[2] >= (int64_t)t->c->H || at[3] < at[4] || at[3] > at[0] || at[4] < 0 || at[5] < 0 ||
        at[5] > 1)
        return bf_fail(err, BF_EFORMAT, "edge %zu of the record is none of this model's", k);
    while (slot < e->layers && e->layer[slot] != (size_t)at[1])
        slot++;
    *wanted = chosen[at[0]] && slot < e->layers;
    *out = (path_pair){.slot = chosen[at[0]] - 1, .layer_slot = slot, .head = (size_t)at[2],
                       .query = (size_t)at[3], .position = (size_t)at[4],
                       .path = at[5] ? BF_SHARE_V : BF_SHARE_K,
                       .value = bf_tensor_value(e->edge_value, k)};
    if (*wanted && !isfinite(out->value))
        return bf_fail(err, BF_ENONFINITE, "edge %zu of the record is not finite", k);
    return BF_OK;
}

/* Keep the largest in list [*n of most], largest first. */
static void keep_largest(path_pair *list, size_t *n, size_t most, const path_pair *p)
{
    size_t k = *n;
    if (k == most && !(fabs(p->value) > fabs(list[k - 1].value)))
        return;
    if (k < most)
        *n = ++k;
    for (k--; k && fabs(list[k - 1].value) < fabs(p->value); k--)
        list[k] = list[k - 1];
    list[k] = *p;
}

/* Half of the list: the largest by this path; the rest: any of them (reservoir sampling). */
static bf_code draw_edges(path_pair *list, size_t *n, size_t most, unsigned path, const bf_trial *t,
                          const size_t *chosen, uint64_t *seed, bf_error *err)
{
    const size_t half = (most + 1) / 2, rest = most - half;
    size_t n_large = 0, n_any = 0, seen = 0;
    path_pair *any = list + half;
    for (size_t k = 0; k < t->evidence->edge_index->dim[0]; k++) {
        path_pair p;
        bool wanted;
        const bf_code rc = read_edge(&p, &wanted, t, k, chosen, err);
        if (rc)
            return rc;
        if (!wanted || p.path != path)
            continue;
        keep_largest(list, &n_large, half, &p);
        const size_t at = seen < rest ? seen : bf_random_below(seed, seen + 1);
        if (at < rest)
            any[at] = p;
        n_any = ++seen < rest ? seen : rest;
    }
    memmove(list + n_large, any, n_any * sizeof *any);
    *n = n_large + n_any;
    return BF_OK;
}

bf_code bf_rows_edges(bf_trust *trust, bf_trial *t, const size_t *slots, size_t n, size_t most,
                      uint64_t *seed, bf_error *err)
{
    path_pair *list = malloc(most * sizeof *list);
    size_t *chosen = calloc(t->N, sizeof *chosen);
    bf_code rc = list && chosen ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu edges", most);
    for (size_t k = 0; k < n && !rc; k++)
        chosen[t->evidence->loss[slots[k]]] = slots[k] + 1;
    for (unsigned path = BF_SHARE_K; path <= BF_SHARE_V && !rc; path++) {
        bf_trust_row *row;
        size_t found = 0;
        rc = draw_edges(list, &found, most, path, t, chosen, seed, err);
        if (!rc)
            rc = bf_row_new(&row, trust, path == BF_SHARE_K ? "edge.k" : "edge.v", "path", err);
        if (!rc)
            rc = measure_pairs(row, trust, t, list, found, err);
    }
    free(list);
    free(chosen);
    return rc;
}
