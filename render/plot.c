/* plot.c -- curves or a table on one pair of axes. */
#include "backflow/plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "render/canvas.h"
#include "render/chart.h"
#include "render/palette.h"
#include "render/range.h"
#include "render/text.h"

enum { MOST_CURVES = 64, MOST_CELLS = 4096, STOPS = 64, COLOURS = 6 }; /* later lines are dashed */
static const double WIDTH = 252, HEIGHT = 150, MARGIN = 7, LEFT = 48, FOOT = 30,
                    GAP = 5; /* points */
static const double BAR = 8, SMALL = 6.2, TITLE = 8.5, MM = 72 / 25.4;
static const uint32_t INK = 0x222222, FRAME = 0x555555;

typedef struct {
    const bf_plot *plot;
    bf_canvas *canvas;
    bf_frame frame;
    bf_line line[MOST_CURVES];
    bf_range range;
    const bf_palette *palette;
    double width, height, top, legend; /* points */
} sheet;

static bf_code check(const bf_plot *p, bf_error *err)
{
    if (p->n_curves > MOST_CURVES || p->rows > MOST_CELLS || p->columns > MOST_CELLS)
        return bf_fail(err, BF_EARG, "%zu curves, a table of %zu x %zu: wanted at most %d, %d x %d",
                       p->n_curves, p->rows, p->columns, MOST_CURVES, MOST_CELLS, MOST_CELLS);
    if (p->n_curves == 0 && (p->rows == 0 || p->columns == 0))
        return bf_fail(err, BF_EARG, "nothing to draw, wanted curves or a table");
    return BF_OK;
}

/* ---- curves */

static bool has_place(double v, bool is_log)
{
    return isfinite(v) && (!is_log || v > 0.0);
}

/* Axes that hold all curves; false if there is no value. */
static bool find_range(sheet *s)
{
    const bf_plot *p = s->plot;
    bf_frame *f = &s->frame;
    bool any = false;
    f->log_x = p->x_log;
    f->log_y = p->y_log;
    double y0 = INFINITY, y1 = -INFINITY;
    f->x0 = INFINITY;
    f->x1 = -INFINITY;
    for (size_t c = 0; c < p->n_curves; c++) {
        const bf_plot_curve *y = &p->curves[c];
        s->line[c] = (bf_line){.name = y->name,
                               .y = y->y,
                               .low = y->low,
                               .high = y->high,
                               .rgb = bf_line_colour(c),
                               .width = 1.1,
                               .dash_on = c >= COLOURS ? 3 : 0,
                               .dash_off = c >= COLOURS ? 2 : 0};
        if (bf_lines_range(f, &s->line[c], 1, y->n)) { /* of each its own length */
            any = true;
            y0 = fmin(y0, f->y0);
            y1 = fmax(y1, f->y1);
        }
        for (size_t k = 0; k < y->n; k++)
            if (has_place(y->x[k], p->x_log)) {
                f->x0 = fmin(f->x0, y->x[k]);
                f->x1 = fmax(f->x1, y->x[k]);
            }
    }
    f->y0 = y0;
    f->y1 = y1;
    if (!any || !(f->x0 <= f->x1))
        return false;
    if (f->x0 == f->x1) {
        f->x0 -= p->x_log ? 0.5 * f->x0 : 1.0;
        f->x1 += 1.0;
    }
    return true;
}

static bf_code draw_curves(sheet *s, bf_error *err)
{
    const bf_plot *p = s->plot;
    bf_code rc = BF_OK;
    bf_frame_draw(s->canvas, &s->frame, true, true, true);
    for (size_t c = 0; c < p->n_curves && !rc; c++)
        rc = bf_lines_over(s->canvas, &s->frame, &s->line[c], 1, p->curves[c].x, p->curves[c].n,
                           err);
    bf_lines_legend(s->canvas, s->line, p->n_curves, s->frame.x + s->frame.width + 2 * GAP,
                    s->frame.y, true);
    return rc;
}

/* ---- the table */

static void find_colours(sheet *s)
{
    const bf_plot *p = s->plot;
    for (size_t k = 0; k < p->rows * p->columns; k++)
        if (isfinite(p->table[k])) {
            s->range.top = fmax(s->range.top, fabs(p->table[k]));
            s->range.is_signed |= p->table[k] < 0.0;
        }
    const char *usual = s->range.is_signed ? "vik" : "cividis";
    s->palette = bf_palette_find(p->look.palette ? p->look.palette : usual);
    s->frame.x0 = s->frame.y0 = -0.5;
    s->frame.x1 = (double)p->columns - 0.5;
    s->frame.y1 = (double)p->rows - 0.5;
    s->frame.whole_x = s->frame.whole_y = true;
}

static uint32_t colour_of(const sheet *s, double v)
{
    if (!isfinite(v))
        return 0xffffff;
    return bf_palette_rgb(s->palette, s->range.top > 0.0 ? bf_range_place(&s->range, v) : 0.0);
}

static void draw_bar(const sheet *s)
{
    const double x = s->frame.x + s->frame.width + 2 * GAP, h = s->frame.height;
    const bf_type type = {.size = SMALL, .rgb = INK, .across = 0.5};
    double ticks[BF_MAX_TICKS];
    for (size_t k = 0; k < STOPS; k++)
        bf_canvas_box(s->canvas, x, s->frame.y + h * (double)(STOPS - 1 - k) / STOPS, BAR,
                      h / STOPS + 0.3, bf_palette_rgb(s->palette, (double)k / (STOPS - 1)));
    const double box[] = {x,       s->frame.y,     x + BAR, s->frame.y,
                          x + BAR, s->frame.y + h, x,       s->frame.y + h};
    bf_canvas_lines(s->canvas, box, 4, true, 0.4, FRAME);
    const size_t n = bf_range_ticks(ticks, &s->range, 5);
    for (size_t k = 0; k < n; k++) {
        bf_buf number = {0};
        bf_text_number(&number, ticks[k]);
        if (!number.failed)
            bf_canvas_text(s->canvas, number.data, x + BAR + 3,
                           s->frame.y + h * (1.0 - bf_range_place(&s->range, ticks[k])), &type);
        bf_buf_free(&number);
    }
}

/* As many as have room, from the top. */
static void name_rows(const sheet *s)
{
    const size_t rows = s->plot->rows, step = rows / 12 ? (rows / 12 + 4) / 5 * 5 : 1;
    const bf_type type = {.size = SMALL, .rgb = INK, .along = 1, .across = 0.5};
    for (size_t r = 0; r < rows; r += s->plot->row_names ? 1 : step) {
        char number[24];
        snprintf(number, sizeof number, "%zu", r);
        bf_canvas_text(s->canvas, s->plot->row_names ? s->plot->row_names[r] : number,
                       s->frame.x - 3,
                       s->frame.y + s->frame.height * ((double)r + 0.5) / (double)rows, &type);
    }
}

static bf_code draw_table(sheet *s, bf_error *err)
{
    const bf_plot *p = s->plot;
    uint32_t *rgb = malloc(p->rows * p->columns * sizeof *rgb);
    if (!rgb)
        return bf_fail(err, BF_ENOMEM, "cannot hold a table of %zu x %zu", p->rows, p->columns);
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->columns; c++)
            rgb[r * p->columns + c] = colour_of(s, p->table[r * p->columns + c]);
    bf_canvas_image(s->canvas, s->frame.x, s->frame.y, s->frame.width, s->frame.height, rgb,
                    p->rows, p->columns);
    free(rgb);
    bf_frame_draw(s->canvas, &s->frame, true, false, false);
    name_rows(s);
    if (s->range.top > 0.0)
        draw_bar(s);
    return BF_OK;
}

/* ---- the sheet */

static void lay(sheet *s)
{
    const bf_plot *p = s->plot;
    const bf_type title = {.size = TITLE, .bold = true};
    double height = 0.0, wide = 0.0;
    s->legend = p->table ? BAR + 30 : bf_lines_legend(s->canvas, s->line, p->n_curves, 0, 0, false);
    const double extra = s->legend > 0.0 ? s->legend + 2 * GAP : 0.0;
    s->width = p->look.width_mm > 0.0 ? p->look.width_mm * MM : WIDTH + extra;
    if (p->title) {
        bf_canvas_measure(s->canvas, p->title, &title, &wide, &height);
        s->width = p->look.width_mm > 0.0 ? s->width : fmax(s->width, wide + 2 * MARGIN);
    }
    s->top = MARGIN + height + GAP;
    s->height = s->top + HEIGHT + FOOT;
    s->frame.x = LEFT;
    s->frame.y = s->top;
    s->frame.width = fmax(40.0, s->width - LEFT - extra - 2 * MARGIN);
    s->frame.height = HEIGHT;
}

static bf_code draw(sheet *s, bf_error *err)
{
    const bf_plot *p = s->plot;
    const bf_type title = {.size = TITLE, .rgb = INK, .bold = true};
    bf_code rc = bf_canvas_start(s->canvas, s->width, s->height, err);
    if (rc)
        return rc;
    if (p->title)
        bf_canvas_text(s->canvas, p->title, MARGIN, MARGIN, &title);
    rc = p->table ? draw_table(s, err) : draw_curves(s, err);
    bf_frame_names(s->canvas, &s->frame, p->x_name ? p->x_name : "", p->y_name ? p->y_name : "",
                   MARGIN);
    return rc;
}

bf_code bf_render_plot(const bf_plot *plot, const char *path, bf_error *err)
{
    sheet s = {.plot = plot};
    const bf_stamp stamp = {plot->title ? plot->title : "plot", plot->note, plot->look.provenance};
    bf_code rc = check(plot, err);
    if (!rc && plot->table)
        find_colours(&s);
    if (!rc && !plot->table && !find_range(&s))
        rc = bf_fail(err, BF_EARG, "the curves have no value that the axes have a place for");
    if (!rc)
        rc = bf_canvas_open(&s.canvas, path, &plot->look, err);
    if (!rc && plot->table && !s.palette)
        rc = bf_fail(err, BF_EARG, "no such palette, wanted one of %s", bf_palette_names());
    if (!rc) {
        lay(&s);
        rc = draw(&s, err);
    }
    if (!rc)
        rc = bf_canvas_save(s.canvas, path, &stamp, err);
    bf_canvas_free(s.canvas);
    return rc;
}
