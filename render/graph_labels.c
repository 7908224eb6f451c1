/* graph_labels.c -- the words around a flow graph and, if asked for, the heads within it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "render/graph_parts.h"
#include "render/text.h"

static const double LINE = 13;               /* points from one line of tokens to the next */
static const double ABOVE = 24, BELOW = 24;  /* points from the grid to the labels */

/* Where Graphviz draws the label now and not a reader's browser later, without characters that no
 * font here has. */
void bf_graph_token(const bf_graph_drawing *d, bf_buf *out, size_t k, size_t columns)
{
    bf_buf label = {0};
    bf_text_isolated(&label, d->record, k, columns);
    if (label.failed)
        out->failed = true;
    else if (d->format == BF_FORMAT_PNG || d->format == BF_FORMAT_PDF)
        bf_canvas_spell(d->ruler, out, label.data);
    else
        bf_buf_text(out, label.data);
    if (d->left_out && k < d->flow.positions)
        bf_buf_printf(out, " %zu", k);
    bf_buf_free(&label);
}

bf_dot_thing *bf_graph_label(bf_graph_drawing *d, const char *name, const char *text, double x,
                             double y, double width, double size, char justify)
{
    bf_dot_thing *node = bf_dot_node(d->dot, name, x, y);
    bf_dot_set(d->dot, node, "shape", "plaintext");
    bf_dot_set(d->dot, node, "width", "%.4f", width / 72);
    bf_dot_set(d->dot, node, "height", "%.4f", size * 1.3 / 72);
    bf_dot_set(d->dot, node, "fontsize", "%.1f", size);
    bf_dot_set(d->dot, node, "style", "solid");
    bf_dot_show(d->dot, node, "label", text, justify);
    return node;
}

/* ---- around the grid */

static void add_row_names(bf_graph_drawing *d)
{
    const bf_flow *f = &d->flow;
    for (size_t level = 0; level <= f->levels; level++) {
        char name[32], text[48];
        snprintf(name, sizeof name, "level%zu", level);
        if (level < f->levels)
            snprintf(text, sizeof text, "resid_pre %zu\n", f->layer[level]);
        else
            snprintf(text, sizeof text, "resid_final\n");
        bf_graph_label(d, name, text, -62, bf_graph_level_y(d, level), 80, 9, 'r');
    }
}

/* Tokens stand below their columns in d->lines lines, in turn; a gap shows as "⋯". */
static double add_tokens(bf_graph_drawing *d)
{
    size_t shown = 0;
    for (size_t j = 0; j < d->flow.positions; j++) {
        if (d->x[j] < 0)
            continue;
        bf_buf label = {0};
        char name[32];
        snprintf(name, sizeof name, "token%zu", j);
        bf_graph_token(d, &label, j, BF_GRAPH_TOKEN);
        const double y = -BELOW - LINE * (double)(shown % d->lines);
        if (!label.failed)
            bf_graph_label(d, name, label.data, d->x[j], y, d->step * (double)d->lines,
                           BF_GRAPH_FONT, 'n');
        bf_buf_free(&label);
        if (j && d->x[j - 1] < 0) {
            snprintf(name, sizeof name, "gap%zu", j);
            bf_graph_label(d, name, "⋯", d->x[j] - (d->step + BF_GRAPH_GAP) / 2, -BELOW / 2, 12,
                           BF_GRAPH_FONT, 'n');
        }
        shown++;
    }
    return -BELOW - LINE * (double)d->lines;
}

/* What the record walked back: "loss", or its target, "logit 17". */
static void append_target(const bf_graph_drawing *d, bf_buf *out)
{
    const char *target = bf_record_meta(d->record, "target");
    if (target && *target)
        bf_text_token(out, target, 40);
    else
        bf_buf_text(out, "loss");
}

/* 'loss of “there”, 2.31 nats' above its column; all flow starts at the top of it. */
static void add_one_loss(bf_graph_drawing *d)
{
    const bf_flow *f = &d->flow;
    const size_t i = f->loss[0];
    bf_buf label = {0};
    const double x = d->x[i], top = bf_graph_level_y(d, f->levels), y = top + ABOVE + 22;
    append_target(d, &label);
    bf_buf_text(&label, " of “");
    bf_graph_token(d, &label, bf_flow_token(f, i), 24);
    bf_buf_text(&label, "”");
    if (!isnan(f->mean_loss) && !bf_record_find(d->record, "target")) {
        bf_buf_text(&label, "\n");
        bf_text_number(&label, f->mean_loss);
        bf_buf_text(&label, " nats\n");
    }
    bf_dot_thing *loss = bf_dot_node(d->dot, "loss", x, y);
    bf_dot_set(d->dot, loss, "shape", "box");
    bf_dot_set(d->dot, loss, "style", "rounded,filled");
    bf_dot_set(d->dot, loss, "fixedsize", "false");
    bf_dot_set(d->dot, loss, "fillcolor", "#f3f1ea");
    bf_dot_set(d->dot, loss, "fontsize", "%d", BF_GRAPH_FONT);
    bf_dot_set(d->dot, loss, "margin", "0.08,0.04");
    if (!label.failed)
        bf_dot_show(d->dot, loss, "label", label.data, 'n');
    bf_buf_free(&label);
    const double p[8] = {x, y, x, y - 10, x, top + 10, x, top};
    bf_dot_thing *line =
        bf_dot_edge(d->dot, loss, d->node[f->levels * f->positions + i], "loss", p, false);
    bf_dot_set(d->dot, line, "penwidth", "1.5");
    bf_dot_set(d->dot, line, "color", "#444444");
}

/* Of several losses, the tokens that they predict above their columns. */
static void add_losses(bf_graph_drawing *d)
{
    const bf_flow *f = &d->flow;
    const double top = bf_graph_level_y(d, f->levels) + ABOVE;
    for (size_t n = 0; n < f->n_losses; n++) {
        bf_buf label = {0};
        char name[32];
        snprintf(name, sizeof name, "loss%zu", f->loss[n]);
        bf_graph_token(d, &label, bf_flow_token(f, f->loss[n]), BF_GRAPH_TOKEN);
        size_t shown = 0;
        for (size_t j = 0; j < f->loss[n]; j++)
            shown += d->x[j] >= 0;
        const double y = top + LINE * (double)(shown % d->lines);
        if (!label.failed)
            bf_graph_label(d, name, label.data, d->x[f->loss[n]], y,
                           d->step * (double)d->lines, BF_GRAPH_FONT, 'n');
        bf_buf_free(&label);
    }
    bf_buf what = {0};
    append_target(d, &what);
    bf_buf_text(&what, " of\n");
    if (!what.failed)
        bf_graph_label(d, "losses", what.data, -62, top, 80, 9, 'r');
    bf_buf_free(&what);
    bf_graph_label(d, "top", "", 0, top + LINE * (double)d->lines, 1, 1,
                   'n'); /* room for the title */
}

double bf_graph_labels(bf_graph_drawing *d)
{
    add_row_names(d);
    if (d->flow.n_losses == 1)
        add_one_loss(d);
    else
        add_losses(d);
    return add_tokens(d);
}

/* ---- heads */

typedef struct {
    double x, y, half; /* middle and half the width of a label */
} spot;

enum { MOST_SPOTS = 400 };

static bool is_free(const spot *taken, size_t n, const spot *s, const double height)
{
    for (size_t k = 0; k < n; k++)
        if (fabs(taken[k].x - s->x) < taken[k].half + s->half + 2 &&
            fabs(taken[k].y - s->y) < height)
            return false;
    return true;
}

/* "3v" on the edge: tried at several places along it. */
static bool place_label(bf_graph_drawing *d, const bf_flow_edge *e, spot *taken, size_t *n)
{
    static const double along[] = {0.5, 0.4, 0.6, 0.3, 0.7};
    const double x0 = d->x[e->from], x1 = d->x[e->to];
    const double y1 = bf_graph_level_y(d, e->level), y0 = y1 + d->rise;
    for (size_t k = 0; k < sizeof along / sizeof *along; k++) {
        const double t = along[k], s = 3 * t * t - 2 * t * t * t; /* an upright S */
        const spot here = {x0 + (x1 - x0) * s,
                           y0 + (y1 - y0) * (t * (1.65 - 1.95 * t + 1.3 * t * t)),
                           e->head > 9 ? 10 : 8};
        if (!is_free(taken, *n, &here, 10))
            continue;
        char name[32], text[32];
        snprintf(name, sizeof name, "head%zu", *n);
        snprintf(text, sizeof text, "%d%s", e->head, bf_graph_path_name((bf_graph_path)e->path));
        bf_dot_thing *label = bf_graph_label(d, name, text, here.x, here.y, 2 * here.half, 7, 'n');
        bf_dot_set(d->dot, label, "style", "filled");
        bf_dot_set(d->dot, label, "fillcolor", "#ffffffcc");
        bf_dot_set(d->dot, label, "fontcolor", "%s", bf_graph_pen_of(e->path, false).rgb);
        taken[(*n)++] = here;
        return true;
    }
    return false;
}

/* Heaviest edges first; the levels' nodes are kept free. */
bf_code bf_graph_label_heads(bf_graph_drawing *d, bf_error *err)
{
    spot *taken = calloc(MOST_SPOTS, sizeof *taken);
    size_t n = 0;
    if (!taken)
        return bf_fail(err, BF_ENOMEM, "cannot hold labels");
    for (size_t k = 0; k < d->flow.n_kept; k++) {
        const bf_flow_edge *e = d->flow.kept[k];
        if (e->from == e->to || e->head < 0 || d->x[e->from] < 0 || d->x[e->to] < 0)
            continue;
        if (n == MOST_SPOTS || !place_label(d, e, taken, &n))
            d->unlabelled++;
    }
    free(taken);
    return BF_OK;
}
