/* flow_source.h -- what a flow is read from: the record's tensors, checked. Internal to flow_*.c.
 */
#ifndef BF_RENDER_FLOW_SOURCE_H
#define BF_RENDER_FLOW_SOURCE_H

#include "render/flow.h"

/* Rows first to last - 1 of edge.index. */
typedef struct {
    size_t first, last;
} bf_flow_run;

/* The tensors that matter; all but pre may be missing. R rows (losses), N positions, H heads. */
typedef struct {
    const bf_tensor *pre, *mid, *final, *z, *attn, *index, *value, *share[BF_GRAPH_PATHS];
    size_t R, N, H;
    size_t *row;  /* [losses] of the flow */
    bf_flow_run *runs;    /* [losses,levels] */
    double *now;  /* [losses,positions] flow at the level at hand */
    double *next; /* the same at the level above */
    double *sum;  /* [positions] */
    size_t room;  /* of the flow's edges */
} bf_flow_source;

/* Find and check the tensors, the losses of style and their norms, the rows of edge.index, and what
 * the edges will come from. Fills out's losses, layers, norms and basis.
 * s  zeroed before; bf_flow_source_free, also after a failure.  Codes of bf_flow_read. */
bf_code bf_flow_source_open(bf_flow_source *s, bf_flow *out, const bf_record *record,
                            const bf_graph_style *style, bf_error *err);
void bf_flow_source_free(bf_flow_source *s);

/* Value `at` of a tensor. BF_ENONFINITE. */
bf_code bf_flow_value(double *out, const bf_tensor *t, size_t at, bf_error *err);
bf_code bf_flow_no_memory(bf_error *err, size_t n); /* BF_ENOMEM */

#endif
