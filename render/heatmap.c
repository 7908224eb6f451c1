/* heatmap.c -- one matrix with its axes, or a grid of them on one scale, laid out in points.
 *
 * Cells are whole pixels wide at the chosen resolution where they can be, so that none is wider
 * than another. The triangle above the diagonal is 0 by causality and left empty; of a single matrix the
 * colour bar uses that room. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "render/bar.h"
#include "render/canvas.h"
#include "render/describe.h"
#include "render/labels.h"
#include "render/panel.h"
#include "render/text.h"

static const double MARGIN = 7, NAME = 11, GAP = 3, BETWEEN = 8, HEAD = 10; /* points */
static const double MM = 72 / 25.4;
static const double COLUMN = 89, PAGE = 183, HIGHEST = 215;   /* mm: one column, two; panels */
static const double WIDEST_CELL = 22, TALLEST_STRIP = 12;     /* points */
static const double BAR_LEAST = 112, BAR_MOST = 205;          /* points */
static const double LABELS_FROM = 42;                         /* of a panel that has token labels */
static const size_t NONE = (size_t)-1;
static const uint32_t INK = 0x222222, FAINT = 0x666666;

/* What is drawn and where; all lengths in points. */
typedef struct {
    const bf_record *record;
    const bf_heatmap_style *style;
    bf_matrices all;
    const bf_matrix *m;           /* the first of them */
    size_t n, columns;            /* panels; of them side by side */
    bool quiet;                   /* neither title nor note */
    bf_range range;
    const bf_palette *palette;
    bf_canvas *canvas;
    double pixel;
    bf_labels down, across;
    bf_buf title, note, quantity, caption;
    bf_bar bar;
    double width, height;         /* of the figure */
    double x, y, cell_w, cell_h;  /* of the first panel's cells */
    double step_x, step_y;        /* from panel to panel */
    double note_y, bar_x, bar_y;
} figure;

static double cells_width(const figure *f)
{
    return f->cell_w * (double)f->m->cols;
}

static double cells_height(const figure *f)
{
    return f->cell_h * (double)f->m->rows;
}

/* The length in whole pixels. */
static double snap(const figure *f, double points, double (*rounding)(double))
{
    return fmax(1.0, rounding(points / f->pixel)) * f->pixel;
}

/* ---- words */

/* "kjv-1m · resid_pre · grad_norm · layer 3", or of many panels what they have in common. */
static void make_title(figure *f)
{
    bf_matrix common = *f->m;
    bf_describe_model(&f->title, f->record);
    bf_describe_tensor(&f->title, f->m);
    if (f->all.layers > 1)
        common.layer = NONE;
    if (f->all.heads > 1)
        common.head = NONE, common.heads = 0;
    bf_describe_place(&f->title, &common);
    if (f->style->minus)
        bf_buf_text(&f->title, " · difference");
}

static bf_code describe(figure *f, bf_error *err)
{
    const char *title = f->style->look.title;
    bf_describe_values(&f->quantity, &f->note, f->m, f->record, f->style);
    bf_buf_printf(&f->caption, "%s; %zu×%zu values%s", f->note.data ? f->note.data : "", f->m->rows,
                  f->m->cols, f->n > 1 ? " a panel, all panels on one scale" : "");
    bf_buf_printf(&f->note, "; %zu×%zu%s", f->m->rows, f->m->cols,
                  f->n > 1 ? ", one scale for all panels" : "");
    if (title && *title)
        bf_text_token(&f->title, title, 400);
    else
        make_title(f);
    bf_buf_text(&f->caption, "; colours: ");
    bf_buf_text(&f->caption, f->palette->name);
    const size_t before = f->caption.len;
    bf_buf_text(&f->caption, ", ");
    bf_bar_scale(&f->caption, &f->range);
    if (f->caption.len == before + 2)
        bf_buf_text(&f->caption, "linear scale");
    if (f->range.is_signed)
        bf_buf_text(&f->caption, "; values below 0 have a dash, or are hatched where cells are small");
    if (f->m->is_causal)
        bf_buf_text(&f->caption, "; what no gradient can reach is left empty");
    if (f->title.failed || f->note.failed || f->quantity.failed || f->caption.failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold the title");
    return BF_OK;
}

static const char *down_name(const figure *f)
{
    static const char *const names[] = {
        [BF_AXIS_LOSS] = "loss of token (i → i+1)", [BF_AXIS_QUERY] = "query position i",
        [BF_AXIS_BLOCK] = "block of losses", [BF_AXIS_LAYER] = "layer", [BF_AXIS_LEVEL] = "layer",
        [BF_AXIS_NUMBER] = ""};
    if (f->m->down == BF_AXIS_LOSS && !f->m->shift)
        return "loss of token i";
    return f->m->rows > 1 || f->m->is_causal ? names[f->m->down] : "";
}

static const char *across_name(const figure *f)
{
    static const char *const names[] = {
        [BF_AXIS_POSITION] = "position j", [BF_AXIS_LAYER] = "layer", [BF_AXIS_HEAD] = "head",
        [BF_AXIS_LAG] = "distance i − j", [BF_AXIS_NUMBER] = ""};
    return names[f->m->across];
}

/* ---- layout */

static bool has_labels(const figure *f)
{
    return f->n == 1 || fmin(cells_width(f), cells_height(f)) >= LABELS_FROM;
}

static bf_code make_labels(figure *f, double cell_w, double cell_h, bf_error *err)
{
    const bf_matrix *m = f->m;
    const bool chosen = m->down == BF_AXIS_LOSS && m->rows != m->cols; /* not one after the other */
    const bf_cells down = {f->record, m->down, m->number, m->rows, m->shift, chosen},
                   across = {f->record, m->across, NULL, m->cols, 0, false};
    bf_labels_free(&f->down);
    bf_labels_free(&f->across);
    bf_code rc = bf_labels_make(&f->down, f->canvas, &down, cell_h, err);
    return rc ? rc : bf_labels_make(&f->across, f->canvas, &across, cell_w, err);
}

/* The height of a row: as high as wide, or more where there are few rows. */
static double row_height(const figure *f, double cell_w)
{
    const bf_matrix *m = f->m;
    if (m->rows >= m->cols)
        return cell_w;
    const double strip = 0.5 * cell_w * (double)m->cols / (double)m->rows;
    return fmax(cell_w, snap(f, fmin(TALLEST_STRIP, strip), floor));
}

/* Panels side by side: all heads of a layer, or so many that the whole is somewhat wider than
 * high. */
static size_t choose_columns(const figure *f)
{
    if (f->all.layers > 1 && f->all.heads > 1)
        return f->all.heads;
    const double aspect = (double)f->m->rows / (double)f->m->cols;
    const double n = (double)f->n, best = ceil(sqrt(n * 1.2 * fmin(1, fmax(aspect, 0.2))));
    return (size_t)ceil(n / ceil(n / fmin(n, fmax(1, best)))); /* the last line as full as can be */
}

/* Widths of a single matrix: labels on the left, then as many points a cell as there is room. */
static bf_code lay_one(figure *f, double wanted, bf_error *err)
{
    const double cols = (double)f->m->cols;
    const double natural = fmin(PAGE * MM, fmax(COLUMN * MM, 80 + 9 * cols));
    const double guess =
        fmin(WIDEST_CELL, fmax(0.2, ((wanted > 0 ? wanted : natural) - 75) / cols));
    const bf_code rc = make_labels(f, guess, row_height(f, guess), err);
    if (rc)
        return rc;
    f->x = snap(f, MARGIN + (*down_name(f) ? NAME : 0) + f->down.longest + 1, ceil);
    const double room = (wanted > 0 ? wanted : natural) - f->x - MARGIN;
    f->cell_w = fmin(room / cols, WIDEST_CELL);
    if (room < 20)
        return bf_fail(err, BF_EARG, "a width of %g mm leaves %.1f mm for %zu cells",
                       f->style->look.width_mm, fmax(0, room / MM), f->m->cols);
    if (f->cell_w >= f->pixel)
        f->cell_w = snap(f, f->cell_w, wanted > 0 ? floor : round);
    f->cell_h = row_height(f, f->cell_w);
    f->width = wanted > 0 ? wanted : fmax(COLUMN * MM, f->x + cells_width(f) + MARGIN);
    return make_labels(f, f->cell_w, f->cell_h, err);
}

/* Widths of a grid. Labels stand at its left and lower edge, if panels are large enough. */
static bf_code lay_grid(figure *f, double wanted, bf_error *err)
{
    const double columns = (double)f->columns, cols = (double)f->m->cols;
    const double lines = ceil((double)f->n / columns),
                 most = (HIGHEST * MM / lines - HEAD - GAP) / (double)f->m->rows;
    f->width = wanted > 0 ? wanted : PAGE * MM;
    f->x = MARGIN + NAME;
    for (int round = 0; round < 4; round++) { /* smaller cells have longer labels: with numbers */
        const double room = f->width - f->x - MARGIN - BETWEEN * (columns - 1);
        f->cell_w = fmin(fmin(room / columns / cols, WIDEST_CELL),
                         f->m->rows >= f->m->cols ? fmax(most, f->pixel) : INFINITY);
        if (room / columns < 8)
            return bf_fail(err, BF_EARG, "a width of %.0f mm leaves %.1f mm for each of %zu panels",
                           f->width / MM, fmax(0, room / columns / MM), f->columns);
        if (f->cell_w >= f->pixel)
            f->cell_w = snap(f, f->cell_w, floor);
        f->cell_h = row_height(f, f->cell_w);
        const bf_code rc = make_labels(f, f->cell_w, f->cell_h, err);
        if (rc)
            return rc;
        if (round < 3 && has_labels(f))
            f->x = snap(f, MARGIN + NAME + f->down.longest + 1, ceil);
    }
    f->step_x = snap(f, cells_width(f) + BETWEEN, ceil);
    f->step_y = snap(f, cells_height(f) + HEAD + GAP, ceil);
    if (wanted <= 0)
        f->width = fmax(COLUMN * MM, f->x + f->step_x * (columns - 1) + cells_width(f) + MARGIN);
    return BF_OK;
}

/* Is the empty corner above the diagonal large enough for the bar? */
static bool corner_is_free(const figure *f, double bar_height)
{
    const double left = f->x + cells_width(f) - f->bar.width - 8;
    if (f->n > 1 || cells_height(f) < bar_height + 8)
        return false;
    for (size_t r = 0; r < f->m->rows && (double)r * f->cell_h < bar_height + 8; r++)
        if (f->x + (double)(f->m->i[r] + 1) * f->cell_w > left)
            return false;
    return true;
}

static double labels_below(const figure *f)
{
    return has_labels(f) ? f->across.longest : 0;
}

static void make_bar(figure *f)
{
    const bool causal = f->m->is_causal, hatched = bf_panel_hatches(f->cell_w, f->cell_h);
    f->bar = (bf_bar){.range = &f->range,
                      .palette = f->palette,
                      .quantity = f->quantity.data,
                      .empty = !causal ? NULL : f->m->is_attn ? "j > i: not seen by i"
                                                              : "j > i: no way back",
                      .below = !f->range.is_signed ? NULL : hatched ? "visibly below 0" : "below 0",
                      .hatched = hatched,
                      .beside = f->n > 1,
                      .width = fmin(BAR_MOST, fmax(BAR_LEAST, 0.42 * cells_width(f)))};
}

/* Heights: title, note, the bar if it has no room in the corner, cells, labels. */
static void lay_rows(figure *f)
{
    const bf_type title = {.size = 8.5, .bold = true, .wrap = f->width - 2 * MARGIN};
    const bf_type note = {.size = 6.8, .wrap = title.wrap}, name = {.size = 7.2};
    double height, along, head = f->n > 1 ? HEAD : 0;
    f->note_y = f->y = MARGIN;
    if (!f->quiet) {
        bf_canvas_measure(f->canvas, f->title.data, &title, NULL, &height);
        f->note_y += height;
        bf_canvas_measure(f->canvas, f->note.data, &note, NULL, &height);
        f->y = f->note_y + height + 2 * GAP;
    }
    make_bar(f);
    const double bar = bf_bar_draw(f->canvas, &f->bar, 0, 0, false);
    f->bar_x = f->x + cells_width(f) - f->bar.width;
    f->bar_y = f->y;
    if (!corner_is_free(f, bar)) {
        f->bar_x = f->x;
        f->bar.width = fmin(f->bar.width, f->width - f->x - MARGIN);
        f->y += bf_bar_draw(f->canvas, &f->bar, 0, 0, false) + 2 * GAP;
    }
    f->y = snap(f, f->y + head, ceil);
    bf_canvas_measure(f->canvas, down_name(f), &name, &along, NULL);
    const size_t lines = (f->n + f->columns - 1) / f->columns;
    const double under = (double)(lines - 1) * f->step_y + cells_height(f) + labels_below(f) +
                         (*across_name(f) ? GAP + NAME : 0);
    f->height = f->y + fmax(under, along) + MARGIN;
}

/* ---- drawing */

static double panel_x(const figure *f, size_t k)
{
    return f->x + (double)(k % f->columns) * f->step_x;
}

static double panel_y(const figure *f, size_t k)
{
    return f->y + (double)(k / f->columns) * f->step_y;
}

/* Names of the axes: in the middle of the cells, or from their corner where they are longer. */
static void draw_names(const figure *f)
{
    const size_t last = f->n - 1, line = last / f->columns * f->columns;
    const size_t right = f->n < f->columns ? last : f->columns - 1;
    const double wide = panel_x(f, right) + cells_width(f) - f->x,
                 high = panel_y(f, line) + cells_height(f) - f->y;
    bf_type name = {.size = 7.2, .rgb = INK};
    double along;
    bf_canvas_measure(f->canvas, across_name(f), &name, &along, NULL);
    name.along = along < wide ? 0.5 : 0;
    bf_canvas_text(f->canvas, across_name(f), f->x + name.along * wide,
                   f->y + high + labels_below(f) + GAP, &name);
    bf_canvas_measure(f->canvas, down_name(f), &name, &along, NULL);
    name.turned = true;
    name.along = along < high ? 0.5 : 1;
    bf_canvas_text(f->canvas, down_name(f), MARGIN, f->y + (1 - name.along) * high, &name);
}

/* "layer 3 · head 1" over a panel, or "3.1" where that is too long. */
static void draw_head(const figure *f, size_t k)
{
    const bf_matrix *m = &f->all.m[k];
    const bf_type type = {.size = 7, .rgb = INK, .bold = true, .across = 1};
    const bool layers = f->all.layers > 1, heads = f->all.heads > 1;
    char text[2][64] = {"", ""};
    double width;
    if (layers && heads) {
        snprintf(text[0], sizeof text[0], "layer %zu · head %zu", m->layer, m->head);
        snprintf(text[1], sizeof text[1], "%zu.%zu", m->layer, m->head);
    } else {
        snprintf(text[0], sizeof text[0], "%s %zu", layers ? "layer" : "head",
                 layers ? m->layer : m->head);
        snprintf(text[1], sizeof text[1], "%zu", layers ? m->layer : m->head);
    }
    bf_canvas_measure(f->canvas, text[0], &type, &width, NULL);
    bf_canvas_text(f->canvas, text[width > cells_width(f) + BETWEEN - 2], panel_x(f, k),
                   panel_y(f, k) - 1, &type);
}

static bf_code draw_panel(const figure *f, size_t k, bf_error *err)
{
    const bf_panel panel = {&f->all.m[k], &f->range, f->palette, panel_x(f, k), panel_y(f, k),
                            f->cell_w, f->cell_h};
    const bf_code rc = bf_panel_draw(f->canvas, &panel, err);
    if (f->n > 1)
        draw_head(f, k);
    if (has_labels(f) && k % f->columns == 0)
        bf_labels_rows(f->canvas, &f->down, panel.x, panel.y, f->cell_h);
    if (has_labels(f) && k + f->columns >= f->n)
        bf_labels_columns(f->canvas, &f->across, panel.x, panel.y + cells_height(f), f->cell_w);
    return rc;
}

static bf_code draw(figure *f, bf_error *err)
{
    const bf_type title = {.size = 8.5, .rgb = INK, .bold = true, .wrap = f->width - 2 * MARGIN};
    const bf_type note = {.size = 6.8, .rgb = FAINT, .wrap = title.wrap};
    bf_code rc = bf_canvas_start(f->canvas, f->width, f->height, err);
    if (rc)
        return rc;
    if (!f->quiet) {
        bf_canvas_text(f->canvas, f->title.data, MARGIN, MARGIN, &title);
        bf_canvas_text(f->canvas, f->note.data, MARGIN, f->note_y, &note);
    }
    for (size_t k = 0; k < f->n && !rc; k++)
        rc = draw_panel(f, k, err);
    bf_bar_draw(f->canvas, &f->bar, f->bar_x, f->bar_y, true); /* over the image's empty corner */
    draw_names(f);
    return rc;
}

static bf_code save(figure *f, const char *path, bf_error *err)
{
    const bf_look *look = &f->style->look;
    const bf_stamp stamp = {f->title.data, f->caption.data, look->provenance};
    const bf_code rc = bf_canvas_save(f->canvas, path, &stamp, err);
    return rc || !look->caption ? rc : bf_describe_caption(path, f->width, f->title.data,
                                                           f->caption.data, f->record, err);
}

static bf_code make(figure *f, const char *path, bf_error *err)
{
    const bf_look *look = &f->style->look;
    bf_code rc = bf_canvas_open(&f->canvas, path, look, err);
    if (!rc)
        rc = bf_matrices_select(&f->all, f->record, f->style, err);
    if (rc)
        return rc;
    f->m = f->all.m;
    f->n = f->all.layers * f->all.heads;
    f->columns = choose_columns(f);
    f->pixel = 72.0 / (look->dpi ? look->dpi : 300);
    f->quiet = look->title && !*look->title;
    rc = bf_range_find(&f->range, f->m, f->n, f->style->scale, err);
    f->palette = bf_palette_find(look->palette ? look->palette
                                 : f->range.is_signed ? "vik" : "cividis");
    if (!rc)
        rc = describe(f, err);
    if (!rc)
        rc = (f->n > 1 ? lay_grid : lay_one)(f, look->width_mm * MM, err);
    if (rc)
        return rc;
    lay_rows(f);
    rc = draw(f, err);
    return rc ? rc : save(f, path, err);
}

bf_code bf_render_heatmap(const bf_record *record, const bf_heatmap_style *style, const char *path,
                          bf_error *err)
{
    figure f = {.record = record, .style = style};
    const bf_code rc = make(&f, path, err);
    bf_range_free(&f.range);
    bf_labels_free(&f.down);
    bf_labels_free(&f.across);
    bf_canvas_free(f.canvas);
    bf_matrices_free(&f.all);
    bf_buf_free(&f.title);
    bf_buf_free(&f.note);
    bf_buf_free(&f.quantity);
    bf_buf_free(&f.caption);
    return rc;
}
