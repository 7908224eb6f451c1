/* graph.c -- the flow of losses as a grid: positions across, layers up, drawn by Graphviz.
 *
 * Columns are positions and rows are levels, so all places are computed here. Edges are S-curves
 * that leave and arrive upright: between two rows they run through empty space, and no label stands
 * there. Those that join the same two nodes lie side by side. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "render/describe.h"
#include "render/graph_parts.h"
#include "render/text.h"

static const double LARGEST = 20, SMALLEST = 2.5; /* points across a node */
static const double THICK = 9, THIN = 0.3;     /* points across an edge */
enum { DPI = 300, MOST_PIXELS = 30000 };       /* Cairo's pictures end at 32767 a side */

bf_graph_pen bf_graph_pen_of(unsigned path, bool own)
{
    switch (path) {
    case BF_GRAPH_SKIP:
    case BF_GRAPH_OWN: return (bf_graph_pen){"#9aa1ab", "solid"};
    case BF_GRAPH_MLP: return (bf_graph_pen){"#009e73", "dotted"};
    case BF_GRAPH_Q: return (bf_graph_pen){"#aa4499", "dashed"};
    case BF_GRAPH_K: return own ? bf_graph_pen_of(BF_GRAPH_Q, true)
                                : (bf_graph_pen){"#0072b2", "dashed"};
    default: return own ? bf_graph_pen_of(BF_GRAPH_Q, true) : (bf_graph_pen){"#d55e00", "solid"};
    }
}

double bf_graph_width(double flow)
{
    return fmax(THIN, THICK * sqrt(flow));
}

double bf_graph_size(double flow)
{
    return fmax(SMALLEST, LARGEST * sqrt(flow));
}

double bf_graph_level_y(const bf_graph_drawing *d, size_t level)
{
    return (double)level * d->rise;
}

/* ---- columns */

static double widest_token(const bf_graph_drawing *d)
{
    const bf_type type = {.size = BF_GRAPH_FONT};
    double most = 0;
    for (size_t j = 0; j < d->flow.positions; j++) {
        bf_buf label = {0};
        double width = 0;
        bf_graph_token(d, &label, j, BF_GRAPH_TOKEN);
        if (!label.failed && d->x[j] >= 0)
            bf_canvas_measure(d->ruler, label.data, &type, &width, NULL);
        most = fmax(most, width);
        bf_buf_free(&label);
    }
    return most;
}

/* Columns that no kept edge leaves or enters are left out of long texts. */
static void choose_columns(bf_graph_drawing *d)
{
    const bf_flow *f = &d->flow;
    for (size_t j = 0; j < f->positions; j++)
        d->x[j] = f->positions <= BF_FLOW_SHORT ? 0 : -1;
    for (size_t e = 0; e < f->n_kept; e++)
        if (f->kept[e]->from != f->kept[e]->to)
            d->x[f->kept[e]->from] = d->x[f->kept[e]->to] = 0;
    for (size_t n = 0; n < f->n_losses; n++)
        d->x[f->loss[n]] = 0;
    for (size_t j = 0; j < f->positions; j++)
        d->columns += d->x[j] >= 0;
    d->left_out = f->positions - d->columns;
}

static bf_code lay_columns(bf_graph_drawing *d, bf_error *err)
{
    d->x = calloc(d->flow.positions, sizeof *d->x);
    if (!d->x)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu columns", d->flow.positions);
    choose_columns(d);
    d->step = d->columns <= 12 ? 44 : d->columns <= 24 ? 34 : 26;
    d->rise = d->flow.levels <= 6 ? 62 : 50;
    double x = 0;
    for (size_t j = 0, shown = 0; j < d->flow.positions; j++) {
        if (d->x[j] < 0)
            continue;
        x += shown ? d->step : 0;
        x += j && d->x[j - 1] < 0 ? BF_GRAPH_GAP : 0;
        d->x[j] = x;
        shown++;
    }
    d->lines = (size_t)fmax(1, fmin(4, ceil((widest_token(d) + 6) / d->step)));
    return BF_OK;
}

/* ---- nodes */

static bf_dot_thing *need_node(bf_graph_drawing *d, size_t level, size_t j)
{
    const bf_flow *f = &d->flow;
    bf_dot_thing **node = &d->node[level * f->positions + j];
    if (*node)
        return *node;
    const double flow = f->node[level * f->positions + j];
    const double across = bf_graph_size(flow);
    char name[48], norm[48] = "";
    snprintf(name, sizeof name, "l%zu_p%zu", level, j);
    *node = bf_dot_node(d->dot, name, d->x[j], bf_graph_level_y(d, level));
    bf_dot_set(d->dot, *node, "label", "%s", "");
    bf_dot_set(d->dot, *node, "width", "%.4f", across / 72);
    bf_dot_set(d->dot, *node, "height", "%.4f", across / 72);
    bf_dot_set(d->dot, *node, "fillcolor", across > SMALLEST ? "#39424e" : "#b9bfc7");
    if (level < f->levels || f->has_final)
        snprintf(norm, sizeof norm, "; norm %.4g", f->norm[level * f->positions + j]);
    if (level < f->levels)
        snprintf(name, sizeof name, "resid_pre %zu", f->layer[level]);
    bf_dot_set(d->dot, *node, "tooltip", "%s, position %zu: %.3g %% of the flow%s",
               level < f->levels ? name : "resid_final", j, 100 * flow, norm);
    return *node;
}

static bf_code add_nodes(bf_graph_drawing *d, bf_error *err)
{
    const bf_flow *f = &d->flow;
    d->node = calloc(f->levels + 1, f->positions * sizeof *d->node);
    if (!d->node)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu nodes", f->positions);
    for (size_t level = 0; level <= f->levels; level++)
        for (size_t j = 0; j < f->positions; j++)
            if (d->x[j] >= 0 && f->node[level * f->positions + j] > 0)
                need_node(d, level, j);
    for (size_t n = 0; n < f->n_losses; n++)
        need_node(d, f->levels, f->loss[n]); /* where nothing arrives, too */
    return BF_OK;
}

/* ---- edges */

static int by_bundle(const void *a, const void *b)
{
    const bf_flow_edge *x = *(const bf_flow_edge *const *)a, *y = *(const bf_flow_edge *const *)b;
    const long p[] = {x->level, x->from, x->to, x->path, x->head};
    const long q[] = {y->level, y->from, y->to, y->path, y->head};
    for (size_t k = 0; k < 5; k++)
        if (p[k] != q[k])
            return p[k] < q[k] ? -1 : 1;
    return 0;
}

static bool same_bundle(const bf_flow_edge *x, const bf_flow_edge *y)
{
    return x->level == y->level && x->from == y->from && x->to == y->to;
}

/* "layer 3, head 1 by v, 17 to 5: 2.1 % of the flow" */
static void set_tooltip(bf_graph_drawing *d, bf_dot_thing *line, const bf_flow_edge *e)
{
    char head[32] = "", where[80];
    if (e->head >= 0)
        snprintf(head, sizeof head, ", head %d", e->head);
    if (e->from == e->to)
        snprintf(where, sizeof where, "stays at %u", (unsigned)e->to);
    else
        snprintf(where, sizeof where, "%u to %u", (unsigned)e->from, (unsigned)e->to);
    bf_dot_set(d->dot, line, "tooltip", "layer %zu%s by %s, %s: %.3g %% of the flow%s",
               d->flow.layer[e->level], head, bf_graph_path_name((bf_graph_path)e->path), where,
               100 * e->flow, e->against ? ", against the rest" : "");
}

/* One stripe, `aside` points to the right of the line between the nodes' middles. */
static void add_stripe(bf_graph_drawing *d, const bf_flow_edge *e, double aside)
{
    const bf_graph_pen pen = bf_graph_pen_of(e->path, e->from == e->to);
    const double x0 = d->x[e->from], x1 = d->x[e->to];
    const double y0 = bf_graph_level_y(d, e->level + 1u), height = d->rise;
    const double below = e->against ? 1 + bf_graph_size(d->flow.node[e->level * d->flow.positions +
                                                                     e->to]) / 2 : 0;
    const double y1 = y0 - height + below, bend = 0.55 * height;
    const double slope = fabs(x1 - x0) / (fabs(x1 - x0) + height);
    const double p[8] = {x0 + aside, y0, x0 + aside, y0 - bend - aside * slope,
                         x1 + aside, y1 + bend - aside * slope, x1 + aside, y1};
    char key[24];
    snprintf(key, sizeof key, "%s%d", bf_graph_path_name((bf_graph_path)e->path), e->head);
    bf_dot_thing *line = bf_dot_edge(d->dot, need_node(d, e->level + 1u, e->from),
                                     need_node(d, e->level, e->to), key, p, e->against);
    const double alpha = e->from == e->to ? 255 : 130 + 125 * fmin(1, sqrt(8 * e->flow));
    bf_dot_set(d->dot, line, "penwidth", "%.2f", bf_graph_width(e->flow));
    bf_dot_set(d->dot, line, "color", "%s%02x", pen.rgb, (unsigned)alpha);
    bf_dot_set(d->dot, line, "style", "%s", pen.style);
    if (e->against)
        bf_dot_set(d->dot, line, "arrowsize", "%.2f", 0.35);
    set_tooltip(d, line, e);
}

static bool is_shown(const bf_graph_drawing *d, const bf_flow_edge *e)
{
    return d->x[e->from] >= 0 && d->x[e->to] >= 0;
}

static bf_code add_edges(bf_graph_drawing *d, bf_error *err)
{
    const bf_flow *f = &d->flow;
    const bf_flow_edge **sorted = malloc((f->n_kept + 1) * sizeof *sorted);
    if (!sorted)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu edges", f->n_kept);
    memcpy(sorted, f->kept, f->n_kept * sizeof *sorted);
    qsort(sorted, f->n_kept, sizeof *sorted, by_bundle);
    for (size_t first = 0, next; first < f->n_kept; first = next) {
        double across = 0;
        for (next = first; next < f->n_kept && same_bundle(sorted[first], sorted[next]); next++)
            across += bf_graph_width(sorted[next]->flow);
        double aside = -across / 2;
        for (size_t e = first; e < next && is_shown(d, sorted[first]); e++) {
            const double width = bf_graph_width(sorted[e]->flow);
            add_stripe(d, sorted[e], aside + width / 2);
            aside += width;
        }
    }
    free(sorted);
    return BF_OK;
}

/* ---- the whole */

static void append_title(const bf_graph_drawing *d, bf_buf *out)
{
    const char *model = bf_record_meta(d->record, "model");
    const bf_flow *f = &d->flow;
    if (d->style->look.title) {
        bf_text_token(out, d->style->look.title, 0);
        return;
    }
    if (model && *model) {
        bf_text_token(out, model, 60);
        bf_buf_text(out, " · ");
    }
    if (f->n_losses == 1)
        bf_buf_printf(out, "flow of loss %zu", f->loss[0]);
    else
        bf_buf_printf(out, "flow of %zu losses, %zu to %zu", f->n_losses, f->loss[0],
                      f->loss[f->n_losses - 1]);
}

static void set_size(bf_graph_drawing *d, double width)
{
    const bf_look *look = &d->style->look;
    bf_dot_thing *graph = bf_dot_graph(d->dot);
    const double wanted = look->width_mm / 25.4 * 72; /* as in points */
    if (wanted > 0)
        bf_dot_set(d->dot, graph, "size", "%.4f,10000!", wanted / 72);
    if (d->format == BF_FORMAT_PNG)
        bf_dot_set(d->dot, graph, "dpi", "%.0f",
                   floor(fmin(look->dpi ? look->dpi : DPI,
                              MOST_PIXELS / (wanted > 0 ? wanted : width) * 72)));
}

/* What all nodes and edges have in common. */
static void set_defaults(bf_graph_drawing *d, const char *title)
{
    bf_dot_thing *graph = bf_dot_graph(d->dot);
    const char *font = d->style->look.font ? d->style->look.font : "Noto Sans";
    bf_buf families = {0};
    bf_buf_printf(&families, "%s,sans-serif", font);
    bf_dot_show(d->dot, graph, "label", title, 'l');
    bf_dot_set(d->dot, graph, "labelloc", "t");
    bf_dot_set(d->dot, graph, "labeljust", "l");
    bf_dot_set(d->dot, graph, "fontsize", "13");
    bf_dot_set(d->dot, graph, "bgcolor", "white");
    bf_dot_set(d->dot, graph, "outputorder", "edgesfirst");
    bf_dot_set(d->dot, graph, "inputscale", "72");
    bf_dot_set(d->dot, graph, "pad", "0.12");
    if (!families.failed) {
        bf_dot_set(d->dot, graph, "fontname", "%s", families.data);
        bf_dot_set_default(d->dot, false, "fontname", families.data);
    }
    bf_buf_free(&families);
    bf_dot_set_default(d->dot, false, "shape", "circle");
    bf_dot_set_default(d->dot, false, "style", "filled");
    bf_dot_set_default(d->dot, false, "fixedsize", "true");
    bf_dot_set_default(d->dot, false, "label", "\\N"); /* Graphviz's own, or "" is not written */
    bf_dot_set_default(d->dot, false, "margin", "0");
    bf_dot_set_default(d->dot, false, "color", "#ffffff");
    bf_dot_set_default(d->dot, false, "fontcolor", "#222222");
    bf_dot_set_default(d->dot, false, "penwidth", "0.6");
    bf_dot_set_default(d->dot, true, "arrowhead", "none");
}

/* What the picture shows, for its metadata and its caption. */
static void describe(const bf_graph_drawing *d, bf_buf *out)
{
    bf_buf_text(
        out, "Positions across, layers up; the gradient flows down from the loss to the tokens; an "
             "edge's width grows with the square root of the part of the flow that it carries, a "
             "node's area with the part that passes it; ");
    bf_graph_describe(d, out);
}

static bf_code make_things(bf_graph_drawing *d, bf_error *err)
{
    bf_code rc = add_nodes(d, err);
    if (!rc)
        rc = add_edges(d, err);
    if (!rc && d->style->label_heads)
        rc = bf_graph_label_heads(d, err);
    if (rc)
        return rc;
    bf_graph_legend(d, bf_graph_labels(d));
    return BF_OK;
}

static bf_code draw(bf_graph_drawing *d, const char *title, const char *path, bf_error *err)
{
    const bf_look *look = &d->style->look;
    const double width = fmax(700, d->x[d->flow.positions - 1] + 300); /* with what stands around */
    bf_buf about = {0};
    bf_code rc = bf_dot_new(&d->dot, err);
    if (rc)
        return rc;
    set_defaults(d, look->caption && !look->title ? "" : title);
    rc = make_things(d, err);
    set_size(d, width);
    describe(d, &about);
    if (!rc && about.failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a description");
    const bf_stamp stamp = {title, about.data, look->provenance};
    if (!rc)
        rc = bf_dot_save(d->dot, d->format, path, &stamp, err);
    if (!rc && look->caption)
        rc = bf_describe_caption(path, look->width_mm > 0 ? look->width_mm / 25.4 * 72 : width,
                                 title, about.data, d->record, err);
    bf_buf_free(&about);
    return rc;
}

bf_code bf_render_graph(const bf_record *record, const bf_graph_style *style, const char *path,
                        bf_error *err)
{
    bf_graph_drawing d = {.record = record, .style = style, .format = bf_format_of(path)};
    bf_buf title = {0};
    if (d.format == BF_FORMAT_NONE)
        return bf_fail(err, BF_EARG, "%.300s: a graph's path must end in .svg, .pdf, .png or .dot",
                       path);
    bf_code rc = bf_canvas_open(&d.ruler, ".svg", &style->look, err); /* checks the look */
    if (!rc)
        rc = bf_flow_read(&d.flow, record, style, err);
    if (!rc)
        rc = lay_columns(&d, err);
    if (!rc)
        append_title(&d, &title);
    if (!rc && title.failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a title");
    if (!rc)
        rc = draw(&d, title.data ? title.data : "", path, err);
    bf_canvas_free(d.ruler);
    bf_dot_free(d.dot);
    bf_flow_free(&d.flow);
    bf_buf_free(&title);
    free(d.node);
    free(d.x);
    return rc;
}
