/* Moves along other directions than the vector itself, at resid_pre. What the record has of a
 * gradient is its length and its product with one vector; the direction is walked again for the
 * losses drawn. */
#include "tracer/trust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

/* Gradients of one loss at every resid_pre: the walk's sums over no more than this loss. */
static bf_code walk_loss(bf_trial *t, size_t i, bf_error *err)
{
    const size_t n = (t->c->L + 1) * t->N * t->c->D, from = i - t->evidence->summed;
    bf_beam beam = bf_beam_make(t->c, t->N, 0, from, i, 0);
    memset(t->walk.sums.own, 0, n * sizeof(double));
    memset(t->walk.sums.future, 0, n * sizeof(double));
    return bf_walk_chunk_f64(&t->walk, &beam, 1, err);
}

static int by_slot(const void *a, const void *b)
{
    const bf_wanted *x = *(const bf_wanted *const *)a, *y = *(const bf_wanted *const *)b;
    return x->slot < y->slot ? -1 : x->slot > y->slot;
}

bf_code bf_wanted_fetch(bf_wanted *wanted, size_t n, bf_trial *t, bf_error *err)
{
    const bf_wanted **order = malloc((n ? n : 1) * sizeof *order);
    const size_t D = t->c->D;
    size_t walked = SIZE_MAX;
    if (!order)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu gradients", n);
    for (size_t k = 0; k < n; k++)
        order[k] = &wanted[k];
    qsort(order, n, sizeof *order, by_slot);
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        const size_t i = t->evidence->loss[order[k]->slot];
        if (order[k]->slot != walked)
            rc = walk_loss(t, i, err);
        walked = order[k]->slot;
        const double *from = order[k]->position == i ? t->walk.sums.own : t->walk.sums.future;
        if (!rc)
            memcpy(order[k]->g, from + (order[k]->layer * t->N + order[k]->position) * D,
                   D * sizeof *from);
    }
    free(order);
    return rc;
}

static size_t reaching(const bf_trial *t, bf_place place, const size_t *slots, size_t n_slots,
                       size_t pick)
{
    const size_t l = t->evidence->layer[place.slot];
    size_t n = 0;
    for (size_t k = 0; k < n_slots; k++)
        if (bf_trial_reaches(t, BF_AT_RESID_PRE, l, place.position, t->evidence->loss[slots[k]]) &&
            n++ == pick)
            return slots[k];
    return n;
}

size_t bf_place_loss(const bf_trial *t, bf_place place, const size_t *slots, size_t n_slots,
                     uint64_t *seed)
{
    const size_t n = reaching(t, place, slots, n_slots, SIZE_MAX);
    return reaching(t, place, slots, n_slots, bf_random_below(seed, n));
}

bf_code bf_places_draw(bf_place *out, size_t *n, size_t most, const bf_trial *t,
                       const size_t *slots, size_t n_slots, uint64_t *seed, bf_error *err)
{
    const size_t cells = t->evidence->layers * t->N;
    size_t *order = malloc(cells * sizeof *order);
    *n = 0;
    if (!order)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu places", cells);
    bf_draw_order(order, cells, seed);
    for (size_t k = 0; k < cells && *n < most; k++) {
        const bf_place place = {order[k] / t->N, order[k] % t->N};
        if (reaching(t, place, slots, n_slots, SIZE_MAX))
            out[(*n)++] = place;
    }
    free(order);
    return BF_OK;
}

/* ---- the four rows */

enum { GRADIENT, RANDOM, MEAN, SWAP, KINDS };
static const char *const kind_names[KINDS] = {"gradient", "random", "mean", "swap"};

typedef struct {
    bf_trust *trust;
    bf_trial *t;
    const size_t *slots;
    size_t n, n_places;
    bf_place *place;   /* [n_places] */
    bf_wanted *wanted; /* [n_places, n] g NULL: the loss does not reach the place */
    double *g;         /* [n_places, n, D] */
    double *direction; /* [D] */
    uint64_t *seed;
} desk;

static double dot(const double *a, const double *b, size_t n)
{
    double norm, inner;
    bf_norm_and_dot_f64(&norm, &inner, a, b, n);
    return inner;
}

static bf_code fetch(desk *d, bf_error *err)
{
    const bf_evidence *e = d->t->evidence;
    const size_t D = d->t->c->D;
    size_t n = 0;
    bf_wanted *compact = malloc((d->n_places * d->n + 1) * sizeof *compact);
    if (!compact)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu gradients", d->n_places * d->n);
    for (size_t p = 0; p < d->n_places; p++)
        for (size_t k = 0; k < d->n; k++) {
            const size_t at = p * d->n + k, l = e->layer[d->place[p].slot];
            d->wanted[at] = (bf_wanted){d->slots[k], l, d->place[p].position, d->g + at * D};
            if (bf_trial_reaches(d->t, BF_AT_RESID_PRE, l, d->place[p].position,
                                 e->loss[d->slots[k]]))
                compact[n++] = d->wanted[at];
            else
                d->wanted[at].g = NULL;
        }
    const bf_code rc = bf_wanted_fetch(compact, n, d->t, err);
    free(compact);
    return rc;
}

/* Where position j's vector a goes at t = 1, as d->direction. g: NULL, or along what. */
static void aim(desk *d, unsigned kind, const double *a, const double *g, size_t layer, size_t j)
{
    const size_t D = d->t->c->D, N = d->t->N;
    double *to = d->direction;
    memset(to, 0, D * sizeof *to);
    for (size_t k = 0; kind == MEAN && k < N; k++)
        for (size_t e = 0; e < D; e++)
            to[e] += bf_trial_vector(d->t, BF_AT_RESID_PRE, layer, 0, k)[e] / (double)N;
    if (kind == SWAP) {
        const size_t other = bf_random_below(d->seed, N - 1);
        memcpy(to, bf_trial_vector(d->t, BF_AT_RESID_PRE, layer, 0, other + (other >= j)),
               D * sizeof *to);
    }
    for (size_t e = 0; e < D && kind == RANDOM; e++)
        to[e] = bf_random_normal(d->seed);
    if (g)
        memcpy(to, g, D * sizeof *to);
    const double size = sqrt(dot(to, to, D)), by = size > 0.0 ? sqrt(dot(a, a, D)) / size : 0.0;
    for (size_t e = 0; e < D; e++)
        to[e] = kind == MEAN || kind == SWAP ? to[e] - a[e] : by * to[e];
}

/* What the record says of a move along d->direction, with the help of the gradient's direction. */
static bf_code predict(double *out, const desk *d, unsigned kind, const bf_wanted *w, size_t slot,
                       const double *a, bf_error *err)
{
    const bf_evidence *e = d->t->evidence;
    const size_t D = d->t->c->D;
    const double along = dot(w->g, d->direction, D), size = sqrt(dot(w->g, w->g, D));
    const bool by_dot = kind == MEAN || kind == SWAP;
    double value;
    const bf_code rc = bf_evidence_value(&value, e, (by_dot ? e->dot : e->norm)[BF_AT_RESID_PRE],
                                         slot, 0, w->slot, w->position, err);
    if (by_dot)
        *out = along + dot(w->g, a, D) - value;
    else
        *out = size > 0.0 ? value * (along / size) : 0.0;
    return rc;
}

static bf_code move_place(bf_trust_row *row, desk *d, unsigned kind, size_t p, bf_error *err)
{
    const bf_evidence *e = d->t->evidence;
    const size_t layer = e->layer[d->place[p].slot], j = d->place[p].position, first = row->n;
    const double *a = bf_trial_vector(d->t, BF_AT_RESID_PRE, layer, 0, j);
    const bf_move move = {
        .site = BF_AT_RESID_PRE, .layer = layer, .position = j, .direction = d->direction};
    const size_t chosen = kind == GRADIENT
                              ? bf_place_loss(d->t, d->place[p], d->slots, d->n, d->seed)
                              : 0;
    const bf_wanted *wanted = d->wanted + p * d->n;
    bf_code rc = BF_OK;
    for (size_t k = 0; k < d->n && kind == GRADIENT; k++)
        if (d->slots[k] == chosen)
            aim(d, kind, a, wanted[k].g, layer, j);
    if (kind != GRADIENT)
        aim(d, kind, a, NULL, layer, j);
    for (size_t k = 0; k < d->n && !rc; k++) {
        double predicted;
        if (!wanted[k].g || (kind == GRADIENT && d->slots[k] != chosen))
            continue;
        rc = predict(&predicted, d, kind, &wanted[k], d->place[p].slot, a, err);
        if (!rc)
            rc = bf_row_add(row, d->trust->n_sizes, e->loss[d->slots[k]], j, predicted, err);
    }
    return rc ? rc : bf_row_measure(row, d->trust, first, d->t, bf_apply_vector, &move, err);
}

static bf_code one_kind(desk *d, unsigned kind, bf_error *err)
{
    bf_trust_row *row;
    bf_trial_stage(d->t);
    bf_code rc = bf_row_new(&row, d->trust, "resid_pre", kind_names[kind], err);
    for (size_t p = 0; p < d->n_places && !rc; p++) {
        rc = move_place(row, d, kind, p, err);
        bf_trial_tell(d->t, kind_names[kind], (double)(p + 1) / (double)d->n_places);
    }
    return rc;
}

bf_code bf_rows_vectors(bf_trust *trust, bf_trial *t, const size_t *slots, size_t n, size_t places,
                        uint64_t *seed, bf_error *err)
{
    const bf_evidence *e = t->evidence;
    const size_t D = t->c->D;
    desk d = {.trust = trust, .t = t, .slots = slots, .n = n, .seed = seed};
    bf_code rc = BF_OK;
    d.place = malloc(places * sizeof *d.place);
    d.direction = malloc(D * sizeof *d.direction);
    if (!d.place || !d.direction)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu places", places);
    if (!rc)
        rc = bf_places_draw(d.place, &d.n_places, places, t, slots, n, seed, err);
    if (!rc && n > SIZE_MAX / sizeof(double) / D / (places + 1))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the gradients of %zu losses", n);
    if (!rc) {
        d.wanted = malloc((d.n_places * n + 1) * sizeof *d.wanted);
        d.g = malloc((d.n_places * n + 1) * D * sizeof *d.g);
        rc = d.wanted && d.g
                 ? fetch(&d, err)
                 : bf_fail(err, BF_ENOMEM, "cannot hold the gradients of %zu losses", n);
    }
    for (unsigned kind = 0; kind < KINDS && !rc; kind++) {
        const bool other = kind == MEAN || kind == SWAP; /* needs another position */
        if ((other ? e->dot : e->norm)[BF_AT_RESID_PRE] && (!other || t->N > 1))
            rc = one_kind(&d, kind, err);
    }
    free(d.place);
    free(d.direction);
    free(d.wanted);
    free(d.g);
    return rc;
}
