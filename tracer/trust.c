/* trust.c -- what the flow predicted against what happens: the record checked, the text run, rows
 * of moves, curves, and the verdict. */
#include "tracer/trust.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/job.h"

enum { SAMPLED = 8, PAIRS = 2000, PAIRS_A_PLACE = 40 };

static const unsigned usual_sites = BF_SITE_RESID_PRE | BF_SITE_RESID_MID | BF_SITE_ATTN_OUT |
                                    BF_SITE_MLP_OUT | BF_SITE_Z;

static bf_code choose_sizes(bf_trust *to, const bf_trust_query *q, bf_error *err)
{
    static const double usual[] = {1.0 / 64, 1.0 / 16, 0.25, 0.5, 1.0};
    const double *sizes = q->sizes ? q->sizes : usual;
    to->n_sizes = q->sizes ? q->n_sizes : sizeof usual / sizeof *usual;
    if (to->n_sizes == 0 || to->n_sizes > BF_TRUST_MAX_SIZES)
        return bf_fail(err, BF_EARG, "%zu sizes, wanted 1 to %d", to->n_sizes,
                       (int)BF_TRUST_MAX_SIZES);
    for (size_t k = 0; k < to->n_sizes; k++) {
        if (!(sizes[k] > (k ? sizes[k - 1] : 0.0) && sizes[k] <= 1.0))
            return bf_fail(err, BF_EARG, "size %g, wanted ascending sizes above 0, at most 1",
                           sizes[k]);
        to->sizes[k] = sizes[k];
    }
    return BF_OK;
}

/* Names of the sites whose grad_x_act is recorded, for messages. */
static void recorded_sites(char *out, size_t room, const bf_evidence *e)
{
    size_t at = 0;
    out[0] = '\0';
    for (unsigned k = 0; k < BF_SITES; k++)
        if (e->dot[k] && at < room)
            at += (size_t)snprintf(out + at, room - at, "%s%s", at ? ", " : "",
                                   bf_site_name(1u << k));
    if (!at)
        snprintf(out, room, "none");
}

static bf_code choose_sites(unsigned *sites, const bf_evidence *e, const bf_trust_query *q,
                            bf_error *err)
{
    char names[160];
    unsigned recorded = 0;
    recorded_sites(names, sizeof names, e);
    for (unsigned k = 0; k < BF_SITES; k++)
        recorded |= e->dot[k] ? 1u << k : 0;
    for (unsigned k = 0; k < BF_SITES; k++)
        if (q->sites & ~recorded & 1u << k)
            return bf_fail(err, BF_EARG,
                           "the record has no flow.%s.grad_x_act (it has that of: %s)",
                           bf_site_name(1u << k), names);
    *sites = q->sites ? q->sites : recorded & usual_sites ? recorded & usual_sites : recorded;
    return BF_OK;
}

/* Slots of the losses on the record's axis: those asked for, or all. */
static bf_code choose_losses(size_t **slots, size_t *n, const bf_evidence *e,
                             const bf_trust_query *q, bf_error *err)
{
    *n = q->losses ? q->n_losses : e->losses;
    *slots = malloc((*n ? *n : 1) * sizeof **slots);
    if (!*slots)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", *n);
    if (!*n)
        return bf_fail(err, BF_EARG, "no losses chosen");
    for (size_t k = 0; k < *n; k++) {
        (*slots)[k] = q->losses ? bf_evidence_slot(e, q->losses[k]) : k;
        if ((*slots)[k] == SIZE_MAX)
            return bf_fail(err, BF_EARG, "loss %zu is not in the record, which has %zu of %zu",
                           q->losses[k], e->losses, e->N);
        if (k && (*slots)[k] <= (*slots)[k - 1])
            return bf_fail(err, BF_EARG, "loss %zu after %zu, an ascending list is wanted",
                           q->losses[k], q->losses[k - 1]);
    }
    return BF_OK;
}

/* Those whose gradients are walked and whose curves are measured: all that were asked for, else
 * SAMPLED from as many stretches of those that have enough positions to rank. */
static bf_code sample_losses(bf_trust *to, size_t **out, const bf_evidence *e,
                             const bf_trust_query *q, const size_t *slots, size_t n, uint64_t *seed,
                             bf_error *err)
{
    const size_t enough = e->N < 16 ? e->N / 2 : 8;
    size_t first = 0;
    while (!q->losses && first + 1 < n && e->loss[slots[first]] < enough)
        first++;
    const size_t left = n - first, many = q->losses || left < SAMPLED ? left : SAMPLED;
    *out = malloc(many * sizeof **out);
    to->losses = malloc(many * sizeof *to->losses);
    if (!*out || !to->losses)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu losses", many);
    for (size_t k = 0; k < many; k++) {
        const size_t from = k * left / many, end = (k + 1) * left / many;
        (*out)[k] = slots[first + from + (end - from > 1 ? bf_random_below(seed, end - from) : 0)];
        to->losses[k] = e->loss[(*out)[k]];
    }
    to->n_losses = many;
    return BF_OK;
}

/* Losses of the record against those just computed: other tokens or another model would show. */
static bf_code compare_losses(bf_trust *to, const bf_trial *t, bf_error *err)
{
    const bf_tensor *loss = bf_record_find(t->evidence->record, "loss");
    to->loss_holds = true;
    if (!loss)
        return BF_OK;
    if (loss->rank != 1 || loss->dim[0] != t->N || (loss->dtype != BF_F32 && loss->dtype != BF_F64))
        return bf_fail(err, BF_ESHAPE, "the record's loss does not fit its %zu tokens", t->N + 1);
    for (size_t i = 0; i < t->N; i++) {
        const double miss = fabs(bf_tensor_value(loss, i) - t->base->loss[i]);
        if (!(miss <= 1e-3 * (1.0 + t->base->loss[i])))
            to->loss_holds = false;
        to->loss_error = miss > to->loss_error || isnan(miss) ? miss : to->loss_error;
    }
    return BF_OK;
}

/* All that needs the model, after the choices. */
static bf_code measure(bf_trust *to, bf_trial *t, unsigned sites, const size_t *all, size_t n_all,
                       const size_t *some, uint64_t *seed, bf_error *err)
{
    const bf_evidence *e = t->evidence;
    const size_t pairs = t->query->pairs,
                 places = pairs / PAIRS_A_PLACE < 4 ? 4 : pairs / PAIRS_A_PLACE;
    const bool pre = (!t->query->sites || sites & BF_SITE_RESID_PRE) &&
                     (e->norm[BF_AT_RESID_PRE] || e->dot[BF_AT_RESID_PRE]);
    bf_code rc = compare_losses(to, t, err);
    if (!rc)
        rc = bf_rows_scaled(to, t, sites, all, n_all, seed, err);
    if (!rc && pre)
        rc = bf_rows_vectors(to, t, some, to->n_losses, places, seed, err);
    if (!rc && e->norm[BF_AT_RESID_PRE])
        rc = bf_rows_shares(to, t, some, to->n_losses, places, seed, err);
    if (!rc && e->edge_value)
        rc = bf_rows_edges(to, t, some, to->n_losses, places, seed, err);
    if (!rc && !to->n_rows)
        return bf_fail(err, BF_EARG, "the record holds no flow that a move could be held against");
    if (!rc && !t->query->no_curves)
        rc = bf_curves_measure(to, t, some, to->n_losses, seed, err);
    return rc ? rc : bf_trust_judge(to, e->rough, err);
}

bf_code bf_trust_measure(bf_trust **out, const bf_record *record, bf_model *model,
                         const bf_trust_query *query, bf_error *err)
{
    bf_evidence e = {0};
    bf_trial t = {0};
    bf_trust_query q = *query;
    size_t *all = NULL, *some = NULL, n_all = 0;
    unsigned sites = 0;
    uint64_t seed = query->seed;
    q.pairs = q.pairs ? q.pairs : PAIRS;
    bf_trust *to = calloc(1, sizeof *to);
    if (!to)
        return bf_fail(err, BF_ENOMEM, "cannot hold the results");
    bf_code rc = choose_sizes(to, &q, err);
    if (!rc)
        rc = bf_evidence_open(&e, record, model, err);
    if (!rc)
        rc = choose_sites(&sites, &e, &q, err);
    if (!rc)
        rc = choose_losses(&all, &n_all, &e, &q, err);
    if (!rc)
        rc = sample_losses(to, &some, &e, &q, all, n_all, &seed, err);
    if (!rc)
        rc = bf_trial_new(&t, &e, model, &q, err);
    if (!rc)
        rc = measure(to, &t, sites, all, n_all, some, &seed, err);
    bf_trial_end(&t);
    bf_evidence_end(&e);
    free(all);
    free(some);
    if (rc) {
        bf_trust_free(to);
        return rc;
    }
    *out = to;
    return BF_OK;
}

void bf_trust_free(bf_trust *trust)
{
    if (!trust)
        return;
    for (size_t k = 0; k < trust->n_rows; k++) {
        free(trust->rows[k].loss);
        free(trust->rows[k].position);
        free(trust->rows[k].predicted);
        free(trust->rows[k].real);
    }
    for (size_t m = 0; trust->curves && m < BF_TRUST_METHODS; m++) {
        free(trust->curves[m].deletion);
        free(trust->curves[m].insertion);
    }
    for (size_t side = 0; side < 2; side++) {
        free(trust->random_deletion[side]);
        free(trust->random_insertion[side]);
    }
    free(trust->rows);
    free(trust->curves);
    free(trust->losses);
    free(trust);
}
