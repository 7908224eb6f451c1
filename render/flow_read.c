/* flow_read.c -- the edges of one or several losses and their flow, level by level from below. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "render/flow_source.h"

enum { LEVEL_EDGES = 1 << 20, MOST_TOTALS = 1 << 27 };

/* An edge of several losses, and its flow with signs. */
typedef struct {
    bf_flow_edge edge;
    double net;
} edge_sum;

/* ---- edges of one loss and level, their values for now in place of the flow */

/* The node (loss n, level k, position j). */
typedef struct {
    size_t n, k, j;
} place;

static bf_code need_room(bf_flow *f, bf_flow_source *s, bf_error *err)
{
    if (f->n < s->room)
        return BF_OK;
    const size_t room = s->room ? 2 * s->room : 1024;
    bf_flow_edge *more =
        room < SIZE_MAX / sizeof *more ? realloc(f->edge, room * sizeof *more) : NULL;
    if (!more)
        return bf_flow_no_memory(err, room);
    f->edge = more;
    s->room = room;
    return BF_OK;
}

static bf_code add_edge(bf_flow *f, bf_flow_source *s, place at, size_t from, long head,
                        unsigned path, double value, bf_error *err)
{
    if (!isfinite(value))
        return bf_fail(err, BF_ENONFINITE, "the flow of loss %zu is not finite in layer %zu at "
                       "query %zu, key %zu", f->loss[at.n], f->layer[at.k], from, at.j);
    if (value == 0 || s->now[at.n * f->positions + at.j] == 0)
        return BF_OK;
    const bf_code rc = need_room(f, s, err);
    if (rc)
        return rc;
    f->edge[f->n++] = (bf_flow_edge){.flow = fabs(value), .from = (uint32_t)from,
                                     .to = (uint32_t)at.j, .level = (uint16_t)at.k,
                                     .head = (int16_t)head, .path = (uint8_t)path,
                                     .against = value < 0};
    s->sum[at.j] += fabs(value);
    return BF_OK;
}

/* share.PATH of head h (or of no head) at a place. */
static bf_code read_share(double *out, const bf_flow_source *s, place at, unsigned path, size_t h,
                          bf_error *err)
{
    const size_t H = path < BF_GRAPH_Q ? 1 : s->H;
    return bf_flow_value(out, s->share[path], ((at.k * H + h) * s->R + s->row[at.n]) * s->N + at.j,
                      err);
}

/* skip, mlp and each head's q, times `unit`. */
static bf_code add_own_shares(bf_flow *f, bf_flow_source *s, place at, double unit, bf_error *err)
{
    double share = 0;
    bf_code rc = read_share(&share, s, at, BF_GRAPH_SKIP, 0, err);
    if (!rc)
        rc = add_edge(f, s, at, at.j, -1, BF_GRAPH_SKIP, unit * share, err);
    if (!rc)
        rc = read_share(&share, s, at, BF_GRAPH_MLP, 0, err);
    if (!rc)
        rc = add_edge(f, s, at, at.j, -1, BF_GRAPH_MLP, unit * share, err);
    for (size_t h = 0; h < s->H && !rc; h++) {
        rc = read_share(&share, s, at, BF_GRAPH_Q, h, err);
        if (!rc)
            rc = add_edge(f, s, at, at.j, (long)h, BF_GRAPH_Q, unit * share, err);
    }
    return rc;
}

/* One row of edge.index and edge.value; signed_sum[j] grows by its value. */
static bf_code add_row(bf_flow *f, bf_flow_source *s, size_t n, size_t k, size_t e,
                       double *signed_sum, bf_error *err)
{
    double at[6], value;
    bf_code rc = bf_flow_value(&value, s->value, e, err);
    for (size_t c = 0; c < 6 && !rc; c++)
        rc = bf_flow_value(&at[c], s->index, 6 * e + c, err);
    if (rc)
        return rc;
    if (!(at[4] >= 0 && (f->both || at[4] <= at[3]) && at[4] < (double)f->positions &&
          at[3] <= (double)bf_flow_last(f, n) && at[3] >= 0 && at[2] >= 0 && at[2] < (double)s->H &&
          (at[5] == 0 || at[5] == 1)))
        return bf_fail(err, BF_EFORMAT,
                       "edge.index row %zu leads from %g to %g by head %g and path %g, which loss "
                       "%zu cannot",
                       e, at[3], at[4], at[2], at[5], f->loss[n]);
    signed_sum[(size_t)at[4]] += value;
    return add_edge(f, s, (place){n, k, (size_t)at[4]}, (size_t)at[3], (long)at[2],
                    at[5] == 0 ? BF_GRAPH_K : BF_GRAPH_V, value, err);
}

static bf_code edges_measured(bf_flow *f, bf_flow_source *s, size_t n, size_t k, bf_error *err)
{
    const bf_flow_run r = s->runs[n * f->levels + k];
    bool shares = true;
    for (size_t p = 0; p <= BF_GRAPH_Q; p++)
        shares = shares && (s->share[p] || p == BF_GRAPH_OWN);
    double *signed_sum = calloc(f->positions, sizeof *signed_sum);
    bf_code rc = signed_sum ? BF_OK : bf_flow_no_memory(err, f->positions);
    for (size_t e = r.first; e < r.last && !rc; e++)
        rc = add_row(f, s, n, k, e, signed_sum, err);
    for (size_t j = 0; j <= bf_flow_last(f, n) && !rc; j++) {
        double norm = 0;
        rc = bf_flow_value(&norm, s->pre, (k * s->R + s->row[n]) * s->N + j, err);
        if (!rc && shares)
            rc = add_own_shares(f, s, (place){n, k, j}, norm, err);
        else if (!rc)
            rc = add_edge(f, s, (place){n, k, j}, j, -1, BF_GRAPH_OWN, norm - signed_sum[j], err);
    }
    free(signed_sum);
    return rc;
}

/* attn[k,h,r,j] * z[k,h,row,r]: the norm of what r's head sends to the value at j. */
static double weigh(const bf_flow_source *s, place at, size_t h, size_t r)
{
    const size_t head = at.k * s->H + h;
    return bf_tensor_value(s->attn, (head * s->N + r) * s->N + at.j) *
           bf_tensor_value(s->z, (head * s->R + s->row[at.n]) * s->N + r);
}

/* The shares of head h at a place, by k and by v, spread over the positions that they may come
 * from. */
static bf_code spread_shares(bf_flow *f, bf_flow_source *s, place at, size_t h, double *weight,
                             bf_error *err)
{
    double sum = 0;
    bf_code rc = BF_OK;
    for (size_t r = f->both ? 0 : at.j; r <= bf_flow_last(f, at.n); r++)
        sum += weight[r] = weigh(s, at, h, r);
    for (unsigned path = BF_GRAPH_K; path <= BF_GRAPH_V && !rc; path++) {
        double share = 0;
        rc = read_share(&share, s, at, path, h, err);
        if (!rc && sum == 0)
            rc = add_edge(f, s, at, at.j, (long)h, path, share, err);
        for (size_t r = f->both ? 0 : at.j; r <= bf_flow_last(f, at.n) && sum != 0 && !rc; r++)
            rc = add_edge(f, s, at, r, (long)h, path, share * (weight[r] / sum), err);
    }
    return rc;
}

static bf_code edges_of_shares(bf_flow *f, bf_flow_source *s, size_t n, size_t k, bf_error *err)
{
    double *weight = calloc(f->positions, sizeof *weight);
    bf_code rc = weight ? BF_OK : bf_flow_no_memory(err, f->positions);
    for (size_t j = 0; j <= bf_flow_last(f, n) && !rc; j++) {
        const place at = {n, k, j};
        rc = add_own_shares(f, s, at, 1, err);
        for (size_t h = 0; h < s->H && !rc; h++)
            rc = spread_shares(f, s, at, h, weight, err);
    }
    free(weight);
    return rc;
}

static bf_code edges_of_norms(bf_flow *f, bf_flow_source *s, size_t n, size_t k, bf_error *err)
{
    const bf_tensor *above = s->mid ? s->mid : k + 1 < f->levels ? s->pre : s->final;
    const size_t level = s->mid || !above ? k : k + 1 < f->levels ? k + 1 : 0;
    bf_code rc = BF_OK;
    for (size_t j = 0; j <= bf_flow_last(f, n) && !rc; j++) {
        const place at = {n, k, j};
        double stays = j == f->loss[n];
        if (above)
            rc = bf_flow_value(&stays, above, (level * s->R + s->row[n]) * s->N + j, err);
        if (!rc)
            rc = add_edge(f, s, at, j, -1, BF_GRAPH_OWN, stays, err);
        for (size_t r = f->both ? 0 : j + 1; r <= bf_flow_last(f, n) && s->attn && s->z && !rc;
             r++) {
            double sum = 0;
            for (size_t h = 0; h < s->H && r != j; h++)
                sum += weigh(s, at, h, r);
            rc = add_edge(f, s, at, r, -1, BF_GRAPH_V, sum, err);
        }
    }
    return rc;
}

/* ---- the flow */

/* Values into flow, and the flow to the level above. What has no edge at all stays. */
static bf_code follow(bf_flow *f, bf_flow_source *s, size_t n, size_t k, size_t first,
                      bf_error *err)
{
    bf_code rc = BF_OK;
    double *next = s->next + n * f->positions;
    const double *now = s->now + n * f->positions;
    for (size_t j = 0; j <= bf_flow_last(f, n) && !rc; j++)
        if (now[j] > 0 && s->sum[j] == 0)
            rc = add_edge(f, s, (place){n, k, j}, j, -1, BF_GRAPH_OWN, 1, err);
    for (size_t e = first; e < f->n && !rc; e++) {
        bf_flow_edge *edge = &f->edge[e];
        edge->flow = now[edge->to] * (edge->flow / s->sum[edge->to]);
        next[edge->from] += edge->flow;
    }
    return rc;
}

/* ---- several losses: edges of a level are added up in a table */

/* Places in the table: paths and heads of an edge that stays, of one that moves. */
static size_t own_slots(const bf_flow_source *s)
{
    return 3 + 3 * s->H;
}

static size_t move_slots(const bf_flow_source *s)
{
    return 2 * (s->H ? s->H : 1);
}

static size_t slot_of(const bf_flow *f, const bf_flow_source *s, const bf_flow_edge *e)
{
    const size_t head = e->head < 0 ? 0 : (size_t)e->head;
    if (e->from != e->to)
        return (e->from * f->positions + e->to) * move_slots(s) + 2 * head +
               (e->path == BF_GRAPH_V);
    return e->to * own_slots(s) +
           (e->path < BF_GRAPH_Q ? e->path : 3 + 3 * head + (e->path - BF_GRAPH_Q));
}

static void add_up(edge_sum *table, const bf_flow_edge *e, size_t slot)
{
    edge_sum *t = &table[slot];
    if (t->edge.flow == 0)
        t->edge = *e;
    else
        t->edge.flow += e->flow;
    t->net += e->against ? -e->flow : e->flow;
}

static bf_code make_tables(bf_flow_source *s, const bf_flow *f, edge_sum **own, edge_sum **moves,
                           bf_error *err)
{
    const size_t pairs = f->positions * f->positions;
    const size_t n_moves = pairs * move_slots(s), n_own = f->positions * own_slots(s);
    if (n_moves > MOST_TOTALS || n_own > MOST_TOTALS)
        return bf_fail(err, BF_ENOMEM, "%zu places for edges of several losses are too many",
                       n_moves);
    *own = calloc(n_own, sizeof **own);
    *moves = calloc(n_moves + 1, sizeof **moves);
    return *own && *moves ? BF_OK : bf_flow_no_memory(err, n_moves);
}

/* What stands in a table becomes the edges of the level. */
static bf_code take_table(bf_flow *f, bf_flow_source *s, const edge_sum *table, size_t n,
                          bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        if (!(table[k].edge.flow > 0))
            continue;
        rc = need_room(f, s, err);
        if (!rc) {
            f->edge[f->n] = table[k].edge;
            f->edge[f->n++].against = table[k].net < 0;
        }
    }
    return rc;
}

/* A level's heaviest edges, LEVEL_EDGES of them: the others are below all that a figure can show.
 */
static bf_code thin(bf_flow *f, size_t first, bf_error *err)
{
    const size_t n = f->n - first;
    if (n <= LEVEL_EDGES)
        return BF_OK;
    double *flow = malloc(n * sizeof *flow);
    if (!flow)
        return bf_flow_no_memory(err, n);
    for (size_t e = 0; e < n; e++)
        flow[e] = f->edge[first + e].flow;
    qsort(flow, n, sizeof *flow, bf_flow_falling);
    const double least = flow[LEVEL_EDGES];
    free(flow);
    f->n = first;
    for (size_t e = first; e < first + n; e++)
        if (f->edge[e].flow > least)
            f->edge[f->n++] = f->edge[e];
    return BF_OK;
}

/* The edges of loss n into the level, and its flow to the level above. */
static bf_code take_loss(bf_flow *f, bf_flow_source *s, size_t n, size_t k, bf_error *err)
{
    const size_t first = f->n;
    memset(s->sum, 0, f->positions * sizeof *s->sum);
    const bf_code rc = f->basis == BF_GRAPH_EDGES    ? edges_measured(f, s, n, k, err)
                       : f->basis == BF_GRAPH_SHARES ? edges_of_shares(f, s, n, k, err)
                                                     : edges_of_norms(f, s, n, k, err);
    return rc ? rc : follow(f, s, n, k, first, err);
}

static bf_code take_losses(bf_flow *f, bf_flow_source *s, size_t k, bf_error *err)
{
    const size_t first = f->n;
    edge_sum *own = NULL, *moves = NULL;
    bf_code rc = make_tables(s, f, &own, &moves, err);
    for (size_t n = 0; n < f->n_losses && !rc; n++) {
        rc = take_loss(f, s, n, k, err);
        for (size_t e = first; e < f->n && !rc; e++) {
            const bf_flow_edge *x = &f->edge[e];
            add_up(x->from == x->to ? own : moves, x, slot_of(f, s, x));
        }
        f->n = first;
    }
    if (!rc)
        rc = take_table(f, s, own, f->positions * own_slots(s), err);
    if (!rc)
        rc = take_table(f, s, moves, f->positions * f->positions * move_slots(s), err);
    free(own);
    free(moves);
    return rc;
}

static bf_code take_level(bf_flow *f, bf_flow_source *s, size_t k, bf_error *err)
{
    const size_t begin = f->n, all = f->n_losses * f->positions;
    memset(s->next, 0, all * sizeof *s->next);
    bf_code rc = f->n_losses == 1 ? take_loss(f, s, 0, k, err) : take_losses(f, s, k, err);
    if (!rc)
        rc = thin(f, begin, err);
    double *swap = s->now;
    s->now = s->next;
    s->next = swap;
    for (size_t at = 0; at < all; at++)
        f->node[(k + 1) * f->positions + at % f->positions] += s->now[at];
    return rc;
}

/* The sources: norms at the lowest level, as parts of their sum. */
static bf_code start(bf_flow *f, bf_flow_source *s, bf_error *err)
{
    const size_t all = f->n_losses * f->positions;
    double total = 0;
    s->now = calloc(all, sizeof *s->now);
    s->next = calloc(all, sizeof *s->next);
    s->sum = calloc(f->positions, sizeof *s->sum);
    if (!s->now || !s->next || !s->sum)
        return bf_flow_no_memory(err, all);
    for (size_t n = 0; n < f->n_losses; n++)
        for (size_t j = 0; j <= bf_flow_last(f, n); j++) {
            s->now[n * f->positions + j] = bf_tensor_value(s->pre, s->row[n] * s->N + j);
            total += s->now[n * f->positions + j];
        }
    for (size_t at = 0; at < all && total > 0; at++) {
        s->now[at] /= total;
        f->node[at % f->positions] += s->now[at];
    }
    return BF_OK;
}

bf_code bf_flow_edges(bf_flow *out, const bf_record *record, const bf_graph_style *style,
                      bf_error *err)
{
    bf_flow_source s = {0};
    memset(out, 0, sizeof *out);
    bf_code rc = bf_flow_source_open(&s, out, record, style, err);
    if (!rc)
        rc = start(out, &s, err);
    for (size_t k = 0; k < out->levels && !rc; k++)
        rc = take_level(out, &s, k, err);
    bf_flow_source_free(&s);
    return rc;
}
