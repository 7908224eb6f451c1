/* flow.c -- which edges of a flow are worth drawing. */
#include "render/flow.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const double KEEP = 0.9, ALMOST = 1 - 1e-9; /* for rounding */
enum { MOST = 250, MOST_LONG = 80 }; /* edges between positions, unless the style says how many */

const char *bf_graph_path_name(bf_graph_path path)
{
    static const char *const names[BF_GRAPH_PATHS] = {
        [BF_GRAPH_SKIP] = "skip", [BF_GRAPH_MLP] = "mlp", [BF_GRAPH_OWN] = "own",
        [BF_GRAPH_Q] = "q",       [BF_GRAPH_K] = "k",     [BF_GRAPH_V] = "v"};
    return path < BF_GRAPH_PATHS ? names[path] : "";
}

size_t bf_flow_last(const bf_flow *flow, size_t n)
{
    return flow->both ? flow->positions - 1 : flow->loss[n];
}

size_t bf_flow_token(const bf_flow *flow, size_t i)
{
    return flow->both ? i : i + 1;
}

int bf_flow_falling(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x < y) - (x > y);
}

/* Flow of whole paths through edges of at least `least`.
 * reach  [levels+1, positions] out: what arrives from the sources at each node by such edges */
static double carried(const bf_flow *f, double least, double *reach)
{
    const size_t N = f->positions;
    double sum = 0;
    memset(reach, 0, (f->levels + 1) * N * sizeof *reach);
    memcpy(reach, f->node, N * sizeof *reach);
    for (size_t e = 0; e < f->n; e++) {
        const bf_flow_edge *x = &f->edge[e];
        const size_t below = x->level * N + x->to;
        if (x->flow >= least && reach[below] > 0)
            reach[below - x->to + N + x->from] += reach[below] * (x->flow / f->node[below]);
    }
    for (size_t j = 0; j < N; j++)
        sum += reach[f->levels * N + j];
    return sum;
}

/* The flow of the n-th heaviest edge between positions; 0 if there are fewer. */
static bf_code nth_move(double *least, const bf_flow *f, size_t n, bf_error *err)
{
    size_t moves = 0;
    double *flow = malloc((f->n ? f->n : 1) * sizeof *flow);
    if (!flow)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu edges of a graph", f->n);
    for (size_t e = 0; e < f->n; e++)
        if (f->edge[e].from != f->edge[e].to)
            flow[moves++] = f->edge[e].flow;
    qsort(flow, moves, sizeof *flow, bf_flow_falling);
    *least = n && n <= moves ? flow[n - 1] : 0;
    free(flow);
    return BF_OK;
}

/* The highest threshold that carries the part `keep`. */
static bf_code find_threshold(double *least, const bf_flow *f, double keep, double *reach,
                              bf_error *err)
{
    double *flow = malloc((f->n ? f->n : 1) * sizeof *flow);
    if (!flow)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu edges of a graph", f->n);
    for (size_t e = 0; e < f->n; e++)
        flow[e] = f->edge[e].flow;
    qsort(flow, f->n, sizeof *flow, bf_flow_falling);
    size_t low = 0, high = f->n; /* the threshold is flow[low], or 0: so many edges and one do not
                                    suffice below low, they do at high */
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (carried(f, flow[middle], reach) >= keep * ALMOST)
            high = middle;
        else
            low = middle + 1;
    }
    *least = low < f->n ? flow[low] : 0;
    free(flow);
    return BF_OK;
}

static int heaviest_first(const void *a, const void *b)
{
    const bf_flow_edge *x = *(const bf_flow_edge *const *)a, *y = *(const bf_flow_edge *const *)b;
    if (x->flow != y->flow)
        return x->flow < y->flow ? 1 : -1;
    return (x > y) - (x < y);
}

/* Edges of at least `least`; with whole, only those that lie on a path from top to bottom.
 * Returns how many; out may be NULL. */
static size_t select_edges(const bf_flow_edge **out, const bf_flow *f, double least, bool whole,
                           const double *reach, bool *down)
{
    const size_t N = f->positions;
    size_t n = 0;
    for (size_t at = 0; at < (f->levels + 1) * N; at++)
        down[at] = at >= f->levels * N;
    for (size_t e = f->n; e-- > 0;) { /* from the top */
        const bf_flow_edge *x = &f->edge[e];
        const size_t below = x->level * N + x->to, above = (x->level + 1) * N + x->from;
        if (x->flow < least || (whole && !(reach[below] > 0 && down[above])))
            continue;
        down[below] = true;
        if (out)
            out[n] = x;
        n++;
    }
    return n;
}

static bf_code take_kept(bf_flow *f, double least, bool whole, const double *reach, bf_error *err)
{
    bool *down = calloc(f->levels + 1, f->positions * sizeof *down);
    const size_t n = down ? select_edges(NULL, f, least, whole, reach, down) : 0;
    f->kept = calloc(n + 1, sizeof *f->kept);
    if (!down || !f->kept) {
        free(down);
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu edges of a graph", n);
    }
    f->n_kept = select_edges(f->kept, f, least, whole, reach, down);
    qsort(f->kept, n, sizeof *f->kept, heaviest_first);
    for (size_t e = 0; e < f->n; e++)
        f->moves += f->edge[e].from != f->edge[e].to;
    for (size_t e = 0; e < n; e++)
        f->kept_moves += f->kept[e]->from != f->kept[e]->to;
    free(down);
    return BF_OK;
}

static bf_code keep_heaviest(bf_flow *f, const bf_graph_style *style, bf_error *err)
{
    if (!(style->keep >= 0 && style->keep <= 1))
        return bf_fail(err, BF_EARG, "keep is %g, wanted a part between 0 and 1", style->keep);
    const size_t usual = f->positions <= BF_FLOW_SHORT ? MOST : MOST_LONG;
    double least = 0;
    double *reach = calloc(f->levels + 1, f->positions * sizeof *reach);
    bf_code rc = reach ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu nodes", f->positions);
    const double keep = style->keep > 0 ? style->keep : KEEP;
    if (!rc && !(style->keep > 0))
        rc = nth_move(&least, f, style->top ? style->top : usual, err);
    if (!rc && !style->top && carried(f, least, reach) >= keep * ALMOST)
        rc = find_threshold(&least, f, keep, reach, err);
    if (!rc) {
        f->carried = carried(f, least, reach);
        rc = take_kept(f, least, !style->top, reach, err);
    }
    free(reach);
    return rc;
}

bf_code bf_flow_read(bf_flow *out, const bf_record *record, const bf_graph_style *style,
                     bf_error *err)
{
    const bf_code rc = bf_flow_edges(out, record, style, err);
    return rc ? rc : keep_heaviest(out, style, err);
}

void bf_flow_free(bf_flow *flow)
{
    free(flow->loss);
    free(flow->layer);
    free(flow->norm);
    free(flow->node);
    free(flow->edge);
    free(flow->kept);
    memset(flow, 0, sizeof *flow);
}
