/* graph_parts.h -- what the files that draw a flow graph share. Internal to graph*.c. */
#ifndef BF_RENDER_GRAPH_PARTS_H
#define BF_RENDER_GRAPH_PARTS_H

#include "render/canvas.h"
#include "render/dot.h"
#include "render/flow.h"

/* How a path looks: colours of Okabe and Ito, which colour-blind readers can tell apart. */
typedef struct {
    const char *rgb, *style;
} bf_graph_pen;

typedef struct {
    const bf_record *record;
    const bf_graph_style *style;
    bf_format format;
    bf_canvas *ruler;   /* measures text, draws nothing */
    bf_flow flow;
    double step;        /* points between columns */
    double rise;        /* points between levels */
    double *x;          /* [positions] of the columns; < 0: left out */
    size_t columns, left_out;
    size_t lines;       /* labels of tokens stand in so many lines, in turn */
    size_t unlabelled;  /* edges that had no room for their heads */
    bf_dot *dot;
    bf_dot_thing **node; /* [levels+1, positions]; NULL: not drawn */
} bf_graph_drawing;

enum {
    BF_GRAPH_TOKEN = 12, /* columns of a token's label */
    BF_GRAPH_FONT = 10,  /* points of it */
    BF_GRAPH_GAP = 20    /* points more between columns where others were left out */
};

/* Pen of an edge of that path which stays on its position (own), or does not. */
bf_graph_pen bf_graph_pen_of(unsigned path, bool own);
/* Points across an edge, a node, that has that part of the flow. */
double bf_graph_width(double flow);
double bf_graph_size(double flow);
/* Append the label of token k, with its position where not all are shown. */
void bf_graph_token(const bf_graph_drawing *d, bf_buf *out, size_t k, size_t columns);
/* A label without a shape; its box is width points wide, justified within ('l', 'r', 'n'). */
bf_dot_thing *bf_graph_label(bf_graph_drawing *d, const char *name, const char *text, double x,
                             double y, double width, double size, char justify);
double bf_graph_level_y(const bf_graph_drawing *d, size_t level);
/* Names of levels, tokens below, losses above; all nodes are there. Returns y below them. */
double bf_graph_labels(bf_graph_drawing *d);
/* Heads beside the kept edges, where there is room. BF_ENOMEM. */
bf_code bf_graph_label_heads(bf_graph_drawing *d, bf_error *err);
/* Append in words how much is shown and what it was made of. */
void bf_graph_describe(const bf_graph_drawing *d, bf_buf *out);
/* The lines below the picture, from y downwards. */
void bf_graph_legend(bf_graph_drawing *d, double y);

#endif
