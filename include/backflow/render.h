/* render.h -- records to pictures: heatmaps, curves, tinted sentences and flow graphs.
 *
 * Every function reads a record, or plain numbers, and nothing of the model, and writes one file
 * through a temporary name; the format is the path's ending (png, svg, pdf; graphs also dot). */
#ifndef BACKFLOW_RENDER_H
#define BACKFLOW_RENDER_H

#include <stdbool.h>

#include "backflow/record.h"

/* The look that all figures share, and what they say about themselves. Zero-initialise, then set
 * what differs; everything is borrowed. */
typedef struct {
    double width_mm;        /* of the figure, 20 to 5000; 0: as the content asks for, 89 to 183 */
    int dpi;                /* PNG: 20 to 2400; 0: 300 */
    const char *font;       /* a family that is installed; NULL: Noto Sans */
    const char *palette;    /* "viridis", "cividis", "magma" or "vik"; NULL: cividis for norms, vik
                               (blue-brown, 0 neutral) for values of both signs */
    const char *title;      /* NULL: made from what is drawn; "": neither title nor note */
    const char *provenance; /* a JSON object in ASCII that goes into the file; NULL: none */
    bool caption;           /* write a LaTeX figure block, too, to the path with the ending .tex */
} bf_look;

/* The JSON object that a figure (PNG, SVG or PDF) was given as its provenance.
 * out  free()
 * BF_EIO; BF_EFORMAT there is none, or the file is broken there; BF_ENOMEM. */
bf_code bf_figure_provenance(char **out, const char *path, bf_error *err);

typedef enum { BF_SCALE_LINEAR, BF_SCALE_LOG, BF_SCALE_RANK } bf_scale;

/* Zero-initialise, then set what differs (layer and head: 0 is the first, so mind -1). */
typedef struct {
    const char *site;    /* "resid_pre", "z", ..., "attn" (score ignored), or a tensor's name:
                            "share.mlp", "param.q.grad_norm", "overview.v", ...; borrowed */
    const char *score;   /* "grad_norm" (NULL: this) or "grad_x_act"; borrowed */
    long layer;          /* the model's number; -1: the record's first. Ignored without that axis */
    long head;           /* number; -1: all as one: root of the sum of squares of norms, mean of
                            attention and cosines, sum of all else */
    const size_t *layers, *heads; /* [n_layers], [n_heads] small multiples over these instead */
    size_t n_layers, n_heads;
    bool all_layers, all_heads;   /* small multiples over all that the tensor has */
    const bf_record *minus;       /* draw the difference to this record, which must have the same
                                     tokens and shapes; NULL: none. Borrowed */
    bool by_row;         /* divide each row by the sum of its magnitudes */
    bf_scale scale;      /* of both signs: BF_SCALE_LOG is symmetric (the bar says how) */
    bf_look look;
} bf_heatmap_style;

/* A tensor of a record as a matrix, or as many on one shared scale. Flow, shares, parameters:
 * loss i (rows, named by the target token i + 1) against position j (columns, by the input token); for
 * attn query against key, for overviews blocks of losses; own, future and weights by layer; other
 * tensors by their last two axes. What is 0 by causality (j > i) stays empty; zeros elsewhere, and
 * values below a log scale's six decades, have greys of their own; values below 0 are marked by a
 * dash or hatched. Tokens are thinned out where they would overlap; without token strings the
 * labels are ids ("#123").
 * record  borrowed; tensors `tokens`, `losses`, `layers`, `blocks` and the metadata "model" and
 *         token strings are used where they exist
 * path    what stood there is replaced, or left alone on failure
 * BF_EARG no such tensor, layer, head, palette, font or ending, a size that cannot be, or records
 * that cannot be compared; BF_ESHAPE; BF_EFORMAT a value at j > i; BF_ENONFINITE NaN or Inf in what
 * is drawn; BF_EIO; BF_ENOMEM. */
bf_code bf_render_heatmap(const bf_record *record, const bf_heatmap_style *style, const char *path,
                          bf_error *err);

typedef enum {
    BF_PROFILE_LAG = 1,       /* mean flow against distance i - j, a line a layer */
    BF_PROFILE_REACH = 2,     /* layer against distance; exact zeros are left empty */
    BF_PROFILE_POSITION = 4,  /* own, future and their cosine by position */
    BF_PROFILE_LAYER = 8,     /* the same by layer */
    BF_PROFILE_ALL = 15
} bf_profile_part;

/* Zero-initialise, then set what differs. */
typedef struct {
    unsigned parts;      /* bf_profile_part bits; 0: all that the records have tensors for */
    const char *site;    /* of lag and reach; NULL: "resid_pre" */
    const char *score;   /* NULL: "grad_norm"; of grad_x_act the magnitudes */
    long layer;          /* of own and future by position; -1: the mean over all layers */
    size_t resamples;    /* of the bootstrap over records; 0: 1000 */
    bf_look look;
} bf_profile_style;

/* Curves of one record, or of several (documents): means over them with 95 % bootstrap intervals.
 * Distances from 16 on are put together in bins of an eighth of an octave. Power laws are fitted to
 * these means at distances from 1 on, by least squares of the logarithm on that of the distance,
 * each point weighted by its length on the logarithmic axis, so that every octave counts alike.
 * records  borrowed, [n], n >= 1, of one model: layers and sites must agree, lengths need not
 * BF_EARG a tensor that is missing, records that do not agree, and as above; BF_ESHAPE;
 * BF_ENONFINITE; BF_EIO; BF_ENOMEM. */
bf_code bf_render_profile(const bf_record *const *records, size_t n, const bf_profile_style *style,
                          const char *path, bf_error *err);

/* Zero-initialise, then set what differs (loss, source, layer and head: mind -1). */
typedef struct {
    const char *site, *score; /* NULL: "resid_pre", "grad_norm" */
    long layer, head;         /* as in bf_heatmap_style */
    long loss;                /* tint what each token received from this loss */
    long source;              /* or what this position gives back to each later token's loss */
                              /* both -1: what each token received from all later losses */
    bf_scale scale;
    bool numbers;             /* write the value below each token */
    bf_look look;
} bf_strip_style;

/* The sentence itself, each token tinted; it wraps over lines, and breaks where the text does.
 * Tokens that nothing can reach are left without a tint and stand in grey; values below 0 have a
 * dashed underline. look.palette: NULL is vik, of norms its upper half. Codes as of
 * bf_render_heatmap. */
bf_code bf_render_strip(const bf_record *record, const bf_strip_style *style, const char *path,
                        bf_error *err);

/* ---- a terminal */

typedef enum { BF_TERMINAL_PLAIN, BF_TERMINAL_256, BF_TERMINAL_TRUE } bf_terminal_colours;

typedef struct {
    size_t columns;              /* of the terminal, 24 to 400; 0: 80 */
    bf_terminal_colours colours; /* plain: shades, and no escape sequence at all */
} bf_terminal_style;

/* A small heatmap (the first layer of resid_pre, or of what there is) and the sentence, each token
 * tinted by what it received from all later losses.
 * out  UTF-8 text of whole lines; controls in it are newlines and the escapes of colours only, whatever
 *      the tokens hold; free()
 * BF_EARG nothing to show; else codes as of bf_render_heatmap. */
bf_code bf_render_terminal(char **out, const bf_record *record, const bf_terminal_style *style,
                           bf_error *err);

/* ---- flow graphs: docs/graphs.md defines the flow, its edges and paths */

/* How gradient comes down one layer: past everything on the stream, by the MLP, by a head's query,
 * key or value; OWN is all that stays on its position where the record does not tell it apart. */
typedef enum {
    BF_GRAPH_SKIP, BF_GRAPH_MLP, BF_GRAPH_OWN, BF_GRAPH_Q, BF_GRAPH_K, BF_GRAPH_V, BF_GRAPH_PATHS
} bf_graph_path;

/* What the edges come from: edge.value (with share.*, if recorded) of each loss asked for; share.*,
 * where a head's share is spread over positions as attn * flow.z; or attn * flow.z.grad_norm beside
 * flow.resid_mid.grad_norm, heads added up: a rough guide whose two units differ. */
typedef enum { BF_GRAPH_EDGES, BF_GRAPH_SHARES, BF_GRAPH_NORMS } bf_graph_basis;

/* Zero-initialise, then set what differs. */
typedef struct {
    size_t loss;          /* i, a loss that the record holds */
    const size_t *losses; /* or several, ascending: their flows are added; borrowed */
    size_t n_losses;      /* 0: `loss` alone */
    size_t top;           /* keep the n heaviest edges between positions, and others as heavy */
    double keep;          /* keep the heaviest edges, as few as carry this part of the flow from the
                             loss to the tokens, 0 to 1; neither: 0.9, but at most 250 edges between
                             positions (80 if there are over 48) */
    bool label_heads;     /* write heads beside the edges, where there is room */
    bf_look look;         /* palette is not looked at; width 0: as it comes */
} bf_graph_style;

/* Positions across, layers up, tokens below, losses above; the width of an edge tells its flow,
 * colour and dash the path. flow.resid_pre.grad_norm is needed, for the rest see bf_graph_basis;
 * the legend says what was used and how much is shown. In texts of more than 48 positions, those
 * that no drawn edge joins to another are left out. Threads wait for each other here: Graphviz has
 * global state.
 * BF_EARG no such loss, tensor or ending; BF_ESHAPE; BF_EFORMAT; BF_ENONFINITE; BF_EIO; BF_ENOMEM;
 * BF_EUNSUPPORTED Graphviz's plugins are not installed. */
bf_code bf_render_graph(const bf_record *record, const bf_graph_style *style, const char *path,
                        bf_error *err);

/* The same graph as JSON for Neuronpedia's and circuit-tracer's viewers: what was kept, heads and
 * MLPs as nodes of their own. Same codes. */
bf_code bf_export_neuronpedia(const bf_record *record, const bf_graph_style *style,
                              const char *path, bf_error *err);

/* The matrices of bf_render_heatmap as a specification of Vega-Lite 5 with its data within; the path
 * must end in .json (F.vl.json). Of the look, palette and title count. Codes as there. */
bf_code bf_export_vega_heatmap(const bf_record *record, const bf_heatmap_style *style,
                               const char *path, bf_error *err);
/* The same for the curves of bf_render_profile; reach as curves, too. */
bf_code bf_export_vega_profile(const bf_record *const *records, size_t n,
                               const bf_profile_style *style, const char *path, bf_error *err);

/* One step between positions, downwards, in the model's layer, by BF_GRAPH_K or BF_GRAPH_V of a head
 * (SIZE_MAX: heads were added up, see BF_GRAPH_NORMS). */
typedef struct {
    size_t layer, head, from, to;
    bf_graph_path path;
    bool against; /* works against the rest of what arrives at `to` */
} bf_graph_step;

typedef struct {
    double part;       /* of the flow */
    size_t loss;       /* the position at the top */
    size_t source;     /* the token at the bottom */
    size_t n_steps;
    const bf_graph_step *step; /* from the top down; between steps it stays on its position */
} bf_graph_way;

/* The heaviest paths from loss to token, alike where they stay on a position (stream, MLP, query,
 * own key and value are added up there). */
typedef struct {
    bf_graph_basis basis;
    size_t n;
    bf_graph_way *way; /* [n] heaviest first */
    double sum;        /* of their parts */
    size_t edges, kept;    /* of the graph that style asks for: all, kept */
    double carried;        /* by the paths of kept edges */
    bf_graph_step *steps;  /* owned, way[k].step points into it */
} bf_graph_ways;

/* out  bf_graph_ways_free, also after a failure.   n  how many are wanted, at most 1000
 * Codes as bf_render_graph. */
bf_code bf_graph_find_ways(bf_graph_ways *out, const bf_record *record,
                           const bf_graph_style *style, size_t n, bf_error *err);
void bf_graph_ways_free(bf_graph_ways *ways);

/* "skip", "mlp", "own", "q", "k", "v". */
const char *bf_graph_path_name(bf_graph_path path);

/* A figure of small multiples: in each panel what was predicted (across) and what happened (up). */
typedef struct {
    size_t n;
    const double *x, *y;     /* [n] */
    const bool *marked;      /* [n] drawn in the other colour; NULL: none */
    double r, slope;         /* said in the panel's corner; NaN: not */
} bf_scatter_panel;

/* Lines over the same axis, 0 to 1. */
typedef struct {
    const char *title, *x_name, *y_name; /* borrowed, like all that follows */
    size_t n_lines, n_points;
    const char *const *names;            /* [n_lines] */
    const double *const *lines;          /* [n_lines][n_points] */
    const double *low, *high;            /* [n_points] a grey band, or NULL */
} bf_scatter_chart;

typedef struct {
    const char *title, *note;
    const char *x_name, *y_name;         /* of all panels */
    const char *names[2];                /* of points that are not marked, that are */
    size_t n_rows, n_columns;
    const char *const *rows, *const *columns; /* names */
    const bf_scatter_panel *panels;      /* [n_rows, n_columns]; a row shares its axes */
    size_t n_charts;
    const bf_scatter_chart *charts;      /* below the panels, two a line */
    bf_look look;                        /* its title is ignored */
} bf_scatter;

/* Both axes of a panel are the same symmetric logarithm, so that equality is the diagonal. At most
 * 500 points a panel are drawn, evenly taken.
 * BF_EARG ending, dpi or a figure too large; BF_ENONFINITE NaN or Inf in what is drawn; BF_EIO;
 * BF_ENOMEM. */
bf_code bf_render_scatter(const bf_scatter *figure, const char *path, bf_error *err);

#endif
