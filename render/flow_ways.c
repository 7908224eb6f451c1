/* flow_ways.c -- the heaviest paths from a loss down to a token.
 *
 * Each node keeps its n heaviest ways up from the sources, level by level: those of the nodes
 * below, times p of the edge between. All edges that stay on a position count as one. */
#include <stdlib.h>
#include <string.h>

#include "render/flow.h"

enum { MOST = 1000 };

/* How a way reached its node: from way `rank` of the node below. */
typedef struct {
    double part;
    const bf_flow_edge *edge; /* NULL: it stayed, or begins here */
    size_t rank;
} arrival;

typedef struct {
    const bf_flow *flow;
    size_t n;
    arrival *at;   /* [levels+1, positions, n] heaviest first */
    size_t *count; /* [levels+1, positions] */
    double *stay;  /* [positions] part of a node that stays below it */
} search;

static void offer(search *s, size_t node, arrival a)
{
    arrival *list = s->at + node * s->n;
    size_t k = s->count[node];
    if (k == s->n && a.part <= list[k - 1].part)
        return;
    if (k < s->n)
        s->count[node]++;
    else
        k--;
    for (; k > 0 && list[k - 1].part < a.part; k--)
        list[k] = list[k - 1];
    list[k] = a;
}

/* All ways of the node below, by an edge (or staying) that takes the part p. */
static void climb(search *s, size_t above, size_t below, double p, const bf_flow_edge *edge)
{
    for (size_t k = 0; k < s->count[below]; k++) {
        const double part = p * s->at[below * s->n + k].part;
        if (part <= 0 || (s->count[above] == s->n && part <= s->at[(above + 1) * s->n - 1].part))
            return;
        offer(s, above, (arrival){part, edge, k});
    }
}

static void take_all(search *s)
{
    const bf_flow *f = s->flow;
    const size_t N = f->positions;
    size_t e = 0;
    for (size_t j = 0; j < N; j++)
        if (f->node[j] > 0)
            offer(s, j, (arrival){f->node[j], NULL, 0});
    for (size_t k = 0; k < f->levels; k++) {
        memset(s->stay, 0, N * sizeof *s->stay);
        for (; e < f->n && f->edge[e].level == k; e++) {
            const bf_flow_edge *x = &f->edge[e];
            const double p = x->flow / f->node[k * N + x->to];
            if (x->from == x->to)
                s->stay[x->to] += p;
            else
                climb(s, (k + 1) * N + x->from, k * N + x->to, p, x);
        }
        for (size_t j = 0; j < N; j++)
            climb(s, (k + 1) * N + j, k * N + j, s->stay[j], NULL);
    }
}

/* Follow one way from the top down. */
static void trace_back(bf_graph_ways *out, bf_graph_way *way, const search *s, size_t j,
                       size_t rank)
{
    const bf_flow *f = s->flow;
    bf_graph_step *step = out->steps + (size_t)(way - out->way) * f->levels;
    way->step = step;
    way->loss = j;
    for (size_t k = f->levels; k > 0; k--) {
        const arrival a = s->at[(k * f->positions + j) * s->n + rank];
        rank = a.rank;
        if (!a.edge)
            continue;
        step[way->n_steps++] = (bf_graph_step){
            f->layer[k - 1], a.edge->head < 0 ? SIZE_MAX : (size_t)a.edge->head, j, a.edge->to,
            (bf_graph_path)a.edge->path, a.edge->against};
        j = a.edge->to;
    }
    way->source = j;
}

/* The heaviest of all nodes at the top. */
static void gather(bf_graph_ways *out, search *s, size_t *taken)
{
    const bf_flow *f = s->flow;
    const size_t top = f->levels * f->positions;
    while (out->n < s->n) {
        size_t best = f->positions;
        double most = 0;
        for (size_t j = 0; j < f->positions; j++) {
            const double part = taken[j] < s->count[top + j]
                                    ? s->at[(top + j) * s->n + taken[j]].part : 0;
            if (part > most) {
                most = part;
                best = j;
            }
        }
        if (best == f->positions)
            return;
        out->way[out->n].part = most;
        trace_back(out, &out->way[out->n++], s, best, taken[best]++);
        out->sum += most;
    }
}

static bf_code find(bf_graph_ways *out, const bf_flow *f, size_t n, bf_error *err)
{
    const size_t nodes = (f->levels + 1) * f->positions;
    search s = {.flow = f, .n = n};
    s.at = nodes < SIZE_MAX / n / sizeof *s.at ? malloc(nodes * n * sizeof *s.at) : NULL;
    s.count = calloc(nodes, sizeof *s.count);
    s.stay = calloc(f->positions, sizeof *s.stay);
    size_t *taken = calloc(f->positions, sizeof *taken);
    out->way = calloc(n, sizeof *out->way);
    out->steps = calloc(n, f->levels * sizeof *out->steps);
    const bool room = s.at && s.count && s.stay && taken && out->way && out->steps;
    if (room) {
        take_all(&s);
        gather(out, &s, taken);
    }
    free(s.at);
    free(s.count);
    free(s.stay);
    free(taken);
    return room ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu paths to %zu nodes", n, nodes);
}

bf_code bf_graph_find_ways(bf_graph_ways *out, const bf_record *record,
                           const bf_graph_style *style, size_t n, bf_error *err)
{
    bf_flow flow = {0};
    memset(out, 0, sizeof *out);
    if (n > MOST)
        return bf_fail(err, BF_EARG, "%zu paths, wanted at most %d", n, (int)MOST);
    bf_code rc = bf_flow_read(&flow, record, style, err);
    if (!rc) {
        out->basis = flow.basis;
        out->edges = flow.n;
        out->kept = flow.n_kept;
        out->carried = flow.carried;
    }
    if (!rc && n)
        rc = find(out, &flow, n, err);
    bf_flow_free(&flow);
    return rc;
}

void bf_graph_ways_free(bf_graph_ways *ways)
{
    free(ways->way);
    free(ways->steps);
    memset(ways, 0, sizeof *ways);
}
