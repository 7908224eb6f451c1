/* Vectors moved by hand: pairs drawn at random, each site's scaled towards nothing. */
#include "tracer/trust.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

/* Of the central difference that is compared with what was recorded: small, so that few units of a
 * ReLU switch on the way, and well above rounding. */
static const double step = 0x1p-16;

void bf_draw_order(size_t *out, size_t n, uint64_t *seed)
{
    for (size_t k = 0; k < n; k++)
        out[k] = k;
    for (size_t k = n; k > 1; k--) {
        const size_t other = bf_random_below(seed, k), held = out[k - 1];
        out[k - 1] = out[other];
        out[other] = held;
    }
}

bf_code bf_row_new(bf_trust_row **out, bf_trust *trust, const char *what, const char *move,
                   bf_error *err)
{
    bf_trust_row *grown = realloc(trust->rows, (trust->n_rows + 1) * sizeof *grown);
    if (!grown)
        return bf_fail(err, BF_ENOMEM, "cannot hold another row");
    trust->rows = grown;
    *out = &grown[trust->n_rows++];
    memset(*out, 0, sizeof **out);
    snprintf((*out)->what, sizeof (*out)->what, "%s", what);
    snprintf((*out)->move, sizeof (*out)->move, "%s", move);
    return BF_OK;
}

/* Grow *p from `from` to `to` values; what is new is zero. */
static bool grow(void *p, size_t from, size_t to, size_t size)
{
    void **at = p, *grown = to > SIZE_MAX / size ? NULL : realloc(*at, to * size);
    if (!grown)
        return false;
    memset((char *)grown + from * size, 0, (to - from) * size);
    *at = grown;
    return true;
}

bf_code bf_row_add(bf_trust_row *row, size_t n_sizes, size_t loss, size_t position,
                   double predicted, bf_error *err)
{
    enum { LEAST = 64 }; /* lists have room for LEAST pairs, 2*LEAST, 4*LEAST, ... */
    const size_t n = row->n, more = n ? 2 * n : LEAST;
    const bool full = n == 0 || (n >= LEAST && (n & (n - 1)) == 0);
    if (full && !(grow(&row->loss, n, more, sizeof *row->loss) &&
                  grow(&row->position, n, more, sizeof *row->position) &&
                  grow(&row->predicted, n, more, sizeof *row->predicted) &&
                  grow(&row->real, n * (n_sizes + 1), more * (n_sizes + 1), sizeof *row->real)))
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu pairs", more);
    row->loss[n] = loss;
    row->position[n] = position;
    row->predicted[n] = predicted;
    row->n++;
    return BF_OK;
}

bf_code bf_apply_vector(bf_trial *t, const bf_move *move, double size, bf_error *err)
{
    const double *a = bf_trial_vector(t, move->site, move->layer, move->head, move->position);
    const size_t width = bf_trial_width(t, move->site);
    const bf_edit_f64 edit = {move->site, move->layer, move->head, move->position, t->moved};
    for (size_t d = 0; d < width; d++)
        t->moved[d] = a[d] + size * move->direction[d];
    return bf_trial_run(t, move->layer, &edit, 1, t->N, err);
}

bf_code bf_row_measure(bf_trust_row *row, const bf_trust *trust, size_t first, bf_trial *t,
                       bf_apply *apply, const bf_move *move, bf_error *err)
{
    const size_t columns = trust->n_sizes + 1;
    for (size_t s = 0; s <= columns; s++) { /* both sides of t = 0, then every size */
        const double size = s == 0 ? -step : s == 1 ? step : trust->sizes[s - 2];
        const bf_code rc = apply(t, move, size, err);
        if (rc)
            return rc;
        for (size_t k = first; k < row->n; k++) {
            double *actual = row->real + k * columns;
            const double change = bf_trial_change(t, row->loss[k]);
            if (s < 2)
                actual[0] += (s ? change : -change) / (2.0 * step);
            else
                actual[s - 1] = change;
        }
    }
    row->moves++;
    return BF_OK;
}

/* ---- one site, scaled */

/* Cells (layer slot, head, position) of a site in random order. */
typedef struct {
    unsigned site;
    size_t slots, heads, cells;
    size_t *order;
} cell_list;

static bf_code cells_new(cell_list *list, const bf_trial *t, unsigned k, uint64_t *seed,
                         bf_error *err)
{
    const size_t heads = bf_site_heads(t->c, 1u << k);
    *list = (cell_list){.site = k, .slots = k == BF_AT_RESID_FINAL ? 1 : t->evidence->layers,
                        .heads = heads ? heads : 1};
    list->cells = list->slots * list->heads * t->N; /* no more than the record's tensor holds */
    list->order = malloc(list->cells * sizeof *list->order);
    if (!list->order)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu places", list->cells);
    bf_draw_order(list->order, list->cells, seed);
    return BF_OK;
}

/* Add the pairs of one cell: all wanted losses that it reaches. */
static bf_code add_cell(bf_trust_row *row, const bf_trust *trust, const bf_trial *t,
                        const bf_move *move, size_t slot, const size_t *slots, size_t n,
                        bf_error *err)
{
    const bf_evidence *e = t->evidence;
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        const size_t i = e->loss[slots[k]];
        double value;
        if (i < move->position)
            continue;
        rc = bf_evidence_value(&value, e, e->dot[move->site], slot, move->head, slots[k],
                               move->position, err);
        if (!rc &&
            (value != 0.0 || bf_trial_reaches(t, move->site, move->layer, move->position, i)))
            rc = bf_row_add(row, trust->n_sizes, i, move->position, -value, err);
    }
    return rc;
}

static bf_code scale_site(bf_trust *trust, bf_trial *t, const cell_list *list, double *direction,
                          const size_t *slots, size_t n, bf_error *err)
{
    const bf_evidence *e = t->evidence;
    const size_t wanted = t->query->pairs, width = bf_trial_width(t, list->site);
    bf_trust_row *row;
    bf_code rc = bf_row_new(&row, trust, bf_site_name(1u << list->site), "scaled", err);
    const size_t most = wanted < 8 ? 1
                                   : wanted / 8; /* vectors: few losses must not make it endless */
    for (size_t k = 0; k < list->cells && !rc && row->n < wanted && row->moves < most; k++) {
        const size_t cell = list->order[k], first = row->n, slot = cell / t->N / list->heads;
        const bf_move move = {.site = list->site, .head = cell / t->N % list->heads,
                              .layer = list->site == BF_AT_RESID_FINAL ? t->c->L : e->layer[slot],
                              .position = cell % t->N, .direction = direction};
        rc = add_cell(row, trust, t, &move, slot, slots, n, err);
        if (rc || row->n == first)
            continue;
        const double *a = bf_trial_vector(t, move.site, move.layer, move.head, move.position);
        for (size_t d = 0; d < width; d++)
            direction[d] = -a[d];
        rc = bf_row_measure(row, trust, first, t, bf_apply_vector, &move, err);
        const double pairs = (double)row->n / (double)wanted,
                     vectors = (double)row->moves / (double)most;
        bf_trial_tell(t, row->what, pairs > vectors ? pairs : vectors);
    }
    return rc;
}

bf_code bf_rows_scaled(bf_trust *trust, bf_trial *t, unsigned sites, const size_t *slots, size_t n,
                       uint64_t *seed, bf_error *err)
{
    const size_t width = t->c->D > t->c->K ? t->c->D : t->c->K;
    double *direction = malloc(width * sizeof *direction);
    bf_code rc = direction ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a vector");
    for (unsigned k = 0; k < BF_SITES && !rc; k++) {
        cell_list list;
        if (!(sites & 1u << k))
            continue;
        bf_trial_stage(t);
        rc = cells_new(&list, t, k, seed, err);
        if (!rc)
            rc = scale_site(trust, t, &list, direction, slots, n, err);
        free(list.order);
    }
    free(direction);
    return rc;
}
