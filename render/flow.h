/* flow.h -- how the gradient of one loss, or of several, runs down to the tokens: a flow that is
 * conserved.
 *
 * Level k is the residual stream before the k-th recorded layer, the last level that before the
 * final norm. What a node got from the level above came by edges e with values v(e): the inner
 * product of what the edge brought with the direction of all that arrived (tensors edge.* and
 * share.*). They sum to the node's gradient norm; some are negative and work against the others.
 *
 *     p(e) = |v(e)| / sum of |v| over the edges into the same node
 *
 * The flow starts as a source's gradient norm, divided by the sum over all sources of the loss (the
 * lowest level's nodes), and is followed upwards: a node's flow is split over the edges into it as
 * p,
 *
 *     flow(e) = p(e) flow(node below),     flow(node above) = sum of flow(e) over its edges down,
 *
 * so that every level's nodes and every level's edges carry 1 in all, and the loss's own position
 * at the top carries 1. It reads: of what reaches the tokens, this part came by this edge, if what
 * leaves a node downwards is mixed as it arrived. A path's flow is its source's, times p of its
 * edges. For several losses, the flows are weighted by their sources' sums and added, edge by edge.
 */
#ifndef BF_RENDER_FLOW_H
#define BF_RENDER_FLOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/record.h"
#include "backflow/render.h"

/* Texts up to so many positions are shown with all columns. */
enum { BF_FLOW_SHORT = 48 };

/* From position `from` on the level above down to `to` on this level; from == to: it stays. */
typedef struct {
    double flow;         /* part of all, above 0 */
    uint32_t from, to;
    uint16_t level;
    int16_t head;        /* -1: none */
    uint8_t path;        /* bf_graph_path */
    bool against;        /* its value is negative */
} bf_flow_edge;

typedef struct {
    size_t n_losses, *loss;  /* ascending */
    bool both; /* bidirectional (tensor masked): loss i is of token i, gradient goes both
                  ways, and `positions` are all */
    size_t positions;        /* the last loss + 1 */
    size_t levels, *layer;   /* [levels] the model's numbers */
    bool gaps;               /* layers between them were not recorded: what crosses them stays */
    bool has_final;          /* the top level's norms are known */
    bf_graph_basis basis;
    double *norm;            /* [levels+1, positions] of the gradient, summed over losses */
    double *node;            /* [levels+1, positions] flow */
    double mean_loss;        /* nats; NAN if not recorded */
    bf_flow_edge *edge;      /* [n] by level */
    size_t n;
    const bf_flow_edge **kept; /* [n_kept] heaviest first */
    size_t n_kept, moves, kept_moves; /* edges between positions: all, kept */
    double carried;          /* flow of the paths that run through kept edges all the way */
} bf_flow;

/* Read the flow and keep what style says: all edges whose flow is at least a threshold,
 *   keep  the highest threshold at which whole paths of kept edges carry that part of the flow;
 *         edges on no such path are then left out
 *   top   the flow of the n-th heaviest edge between positions
 * out  filled; bf_flow_free, also after a failure
 * BF_EARG a loss that is not recorded, or no flow.resid_pre.grad_norm; BF_ESHAPE; BF_EFORMAT;
 * BF_ENONFINITE; BF_ENOMEM. */
bf_code bf_flow_read(bf_flow *out, const bf_record *record, const bf_graph_style *style,
                     bf_error *err);
void bf_flow_free(bf_flow *flow);

/* The first half: all edges, nothing kept yet (flow_read.c); and the second (flow.c). */
bf_code bf_flow_edges(bf_flow *out, const bf_record *record, const bf_graph_style *style,
                      bf_error *err);
/* The last position that loss n reaches; the token that loss i is of. */
size_t bf_flow_last(const bf_flow *flow, size_t n);
size_t bf_flow_token(const bf_flow *flow, size_t i);
/* The order of doubles, largest first, for qsort. */
int bf_flow_falling(const void *a, const void *b);

#endif
