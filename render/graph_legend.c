/* graph_legend.c -- the lines below a flow graph: what its marks mean and how much is shown. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "render/graph_parts.h"
#include "render/text.h"

static const double SIZE = 9, LINE = 14; /* points */
static const double LEFT = -102, RIGHT = -72, TEXT = -64;

/* ---- the legend */

/* An invisible node that a sample of an edge begins or ends at. */
static bf_dot_thing *add_end(bf_graph_drawing *d, const char *name, double x, double y)
{
    bf_dot_thing *node = bf_dot_node(d->dot, name, x, y);
    bf_dot_set(d->dot, node, "label", "%s", "");
    bf_dot_set(d->dot, node, "style", "invis");
    bf_dot_set(d->dot, node, "width", "0.01");
    bf_dot_set(d->dot, node, "height", "0.01");
    return node;
}

static void add_sample(bf_graph_drawing *d, const char *name, bf_graph_pen pen, double width,
                       double left, double right, double y)
{
    char end[2][48];
    snprintf(end[0], sizeof end[0], "%s_a", name);
    snprintf(end[1], sizeof end[1], "%s_b", name);
    const double p[8] = {left,  y, left + (right - left) / 3, y, right - (right - left) / 3, y,
                         right, y};
    bf_dot_thing *a = add_end(d, end[0], left, y), *b = add_end(d, end[1], right, y);
    bf_dot_thing *line = bf_dot_edge(d->dot, a, b, "sample", p, false);
    bf_dot_set(d->dot, line, "penwidth", "%.2f", width);
    bf_dot_set(d->dot, line, "color", "%s", pen.rgb);
    bf_dot_set(d->dot, line, "style", "%s", pen.style);
}

static void add_line(bf_graph_drawing *d, const char *name, bf_buf *text, double x, double y)
{
    const bf_type type = {.size = SIZE};
    double across = 0;
    if (!text->failed && text->data) {
        bf_canvas_measure(d->ruler, text->data, &type, &across, NULL);
        across = 1.1 * across + 4; /* another font may be wider */
        bf_graph_label(d, name, text->data, x + across / 2, y, across, SIZE, 'l');
    }
    bf_buf_free(text);
}

/* Which paths were drawn: of own ones bit path, of others bit path + 8. */
static unsigned paths_drawn(const bf_flow *f)
{
    unsigned bits = 0;
    for (size_t e = 0; e < f->n_kept; e++)
        bits |= 1u << (f->kept[e]->path + (f->kept[e]->from == f->kept[e]->to ? 0 : 8));
    return bits;
}

static double legend_paths(bf_graph_drawing *d, double y)
{
    const unsigned own = 1u << BF_GRAPH_Q | 1u << BF_GRAPH_K | 1u << BF_GRAPH_V;
    const struct {
        unsigned bits, path;
        bool stays;
        const char *text;
    } lines[] = {
        {1u << BF_GRAPH_SKIP, BF_GRAPH_SKIP, true,
         "stays on its position: past the layer, unchanged"},
        {1u << BF_GRAPH_OWN, BF_GRAPH_OWN, true, "stays on its position, in any way"},
        {1u << BF_GRAPH_MLP, BF_GRAPH_MLP, true, "stays on its position: through the MLP"},
        {own, BF_GRAPH_Q, true,
         "stays on its position: through the attention there (queries; its own key and "
         "value)"},
        {1u << (BF_GRAPH_V + 8), BF_GRAPH_V, false,
         d->flow.basis == BF_GRAPH_NORMS
             ? "to another position, through attention's values"
             : "to another position, through a head's value (one stripe a head)"},
        {1u << (BF_GRAPH_K + 8), BF_GRAPH_K, false,
         "to another position, through a head's key (one stripe a head)"},
    };
    const unsigned drawn = paths_drawn(&d->flow);
    for (size_t k = 0; k < sizeof lines / sizeof *lines; k++) {
        if (!(drawn & lines[k].bits))
            continue;
        char name[32];
        bf_buf text = {0};
        snprintf(name, sizeof name, "legend_path%zu", k);
        add_sample(d, name, bf_graph_pen_of(lines[k].path, lines[k].stays), 2.5, LEFT, RIGHT, y);
        bf_buf_printf(&text, "%s\n", lines[k].text);
        snprintf(name, sizeof name, "legend_words%zu", k);
        add_line(d, name, &text, TEXT, y);
        y -= LINE;
    }
    return y;
}

/* Samples of widths and of nodes. */
static double legend_sizes(bf_graph_drawing *d, double y)
{
    static const double part[] = {0.001, 0.01, 0.1, 1};
    double x = TEXT;
    bf_buf text = {0};
    bf_buf_text(&text, "part of the flow:\n");
    add_line(d, "legend_sizes", &text, LEFT, y);
    x += 52;
    for (size_t k = 0; k < 4; k++) {
        char name[32];
        snprintf(name, sizeof name, "legend_width%zu", k);
        add_sample(d, name, bf_graph_pen_of(BF_GRAPH_V, false), bf_graph_width(part[k]), x, x + 22,
                   y);
        snprintf(name, sizeof name, "legend_node%zu", k);
        bf_dot_thing *node = bf_dot_node(d->dot, name, x + 38, y);
        bf_dot_set(d->dot, node, "label", "%s", "");
        bf_dot_set(d->dot, node, "width", "%.4f", bf_graph_size(part[k]) / 72);
        bf_dot_set(d->dot, node, "height", "%.4f", bf_graph_size(part[k]) / 72);
        bf_dot_set(d->dot, node, "fillcolor", "#39424e");
        snprintf(name, sizeof name, "legend_part%zu", k);
        bf_buf_printf(&text, "%g %%\n", 100 * part[k]);
        add_line(d, name, &text, x + 52, y);
        x += 106;
    }
    return y - LINE - 6;
}

static void describe_basis(bf_buf *out, const bf_flow *f)
{
    if (f->basis == BF_GRAPH_EDGES)
        bf_buf_text(out, "Measured: edge.value of this record.");
    else if (f->basis == BF_GRAPH_SHARES)
        bf_buf_text(
            out, "Shares of paths measured; which position a head's share came from is estimated "
                 "(attention × flow at z): trace with --scores edge to measure it.");
    else
        bf_buf_text(
            out,
            "A rough guide, from norms (attention × flow at z beside flow at resid_mid): trace "
            "with --scores share,edge to measure it.");
    bf_buf_text(out, "\n");
}

static void describe_kept(bf_buf *out, const bf_graph_drawing *d)
{
    const bf_flow *f = &d->flow;
    bf_buf_printf(
        out,
        "%zu of %zu edges (%zu of %zu between positions); whole paths of them carry %.3g %% "
        "of the flow down to the tokens.",
        f->n_kept, f->n, f->kept_moves, f->moves, 100 * f->carried);
    if (d->left_out)
        bf_buf_printf(out, " %zu positions left out (⋯).", d->left_out);
    if (f->gaps)
        bf_buf_text(out, " Only recorded layers are shown.");
    if (d->unlabelled)
        bf_buf_printf(out, " %zu edges had no room for their heads.", d->unlabelled);
    bf_buf_text(out, "\n");
}

void bf_graph_describe(const bf_graph_drawing *d, bf_buf *out)
{
    bf_buf text = {0};
    describe_kept(&text, d);
    describe_basis(&text, &d->flow);
    while (text.len && strchr(".\n", text.data[text.len - 1]))
        text.len--;
    for (size_t k = 0; k < text.len; k++)
        text.data[k] = text.data[k] == '\n' ? ' ' : text.data[k];
    bf_buf_bytes(out, text.data, text.len);
    out->failed = out->failed || text.failed;
    bf_buf_free(&text);
}

void bf_graph_legend(bf_graph_drawing *d, double y)
{
    bf_buf text = {0};
    bool against = false;
    for (size_t e = 0; e < d->flow.n_kept; e++)
        against = against || d->flow.kept[e]->against;
    y = legend_sizes(d, y - 16);
    y = legend_paths(d, y);
    if (against) {
        bf_buf_text(
            &text,
            "A bar across an edge's lower end: it works against the rest of what arrives there.\n");
        add_line(d, "legend_against", &text, LEFT, y);
        y -= LINE;
    }
    describe_kept(&text, d);
    add_line(d, "legend_kept", &text, LEFT, y);
    describe_basis(&text, &d->flow);
    add_line(d, "legend_basis", &text, LEFT, y - LINE);
}
