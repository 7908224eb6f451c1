/* scatter.c -- small multiples of predicted against real, and lines below them.
 *
 * A row of panels shares one symmetric logarithm for both axes, so that equality is the diagonal in
 * every panel and a slope of two stands a fixed distance beside it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "backflow/render.h"
#include "render/canvas.h"
#include "render/lines.h"
#include "render/range.h"
#include "render/text.h"

enum { MOST_POINTS = 500 };
static const double PAGE = 183 * 72 / 25.4, MARGIN = 7, GAP = 5, OVER = 8.5; /* points */
static const double NAMES = 48, NUMBERS = 27, SMALL = 6.2, DOT = 1.5;
static const uint32_t INK = 0x222222, FAINT = 0x666666, FRAME = 0x8a8a8a, GRID = 0xdddddd;
static const uint32_t PLAIN = 0x0072b2, MARKED = 0xd55e00;

typedef struct {
    const bf_scatter *what;
    bf_canvas *canvas;
    double cell;            /* side of a panel */
    double x, y;            /* of the first panel */
    double note_y, legend_y, height;
} sheet;

static bf_code check(const bf_scatter *what, bf_error *err)
{
    if (what->n_rows > 64 || what->n_columns > 16)
        return bf_fail(err, BF_EARG, "%zu rows of %zu panels, at most 64 of 16 can be drawn",
                       what->n_rows, what->n_columns);
    for (size_t k = 0; k < what->n_rows * what->n_columns; k++)
        for (size_t p = 0; p < what->panels[k].n; p++)
            if (!isfinite(what->panels[k].x[p]) || !isfinite(what->panels[k].y[p]))
                return bf_fail(err, BF_ENONFINITE,
                               "a point of the panel \"%.60s\", %.60s is not finite",
                               what->rows[k / what->n_columns], what->columns[k % what->n_columns]);
    for (size_t k = 0; k < what->n_charts; k++)
        for (size_t l = 0; l < what->charts[k].n_lines; l++)
            for (size_t p = 0; p < what->charts[k].n_points; p++)
                if (!isfinite(what->charts[k].lines[l][p]))
                    return bf_fail(err, BF_ENONFINITE, "the line \"%.60s\" is not finite",
                                   what->charts[k].names[l]);
    return BF_OK;
}

static bf_range row_range(const bf_scatter *what, size_t row)
{
    bf_range range = {.is_log = true, .is_signed = true};
    for (size_t c = 0; c < what->n_columns; c++) {
        const bf_scatter_panel *p = &what->panels[row * what->n_columns + c];
        for (size_t k = 0; k < p->n; k++)
            range.top = fmax(range.top, fmax(fabs(p->x[k]), fabs(p->y[k])));
    }
    range.low = 1e-3 * range.top;
    return range;
}

/* From the lower left corner of a panel, 0 to 1. */
static double place(const bf_range *range, double v)
{
    return v == 0.0 || range->top == 0.0 ? 0.5 : bf_range_place(range, v);
}

static void lay_out(sheet *s)
{
    const bf_scatter *w = s->what;
    const bf_type title = {.size = 8.5, .bold = true, .wrap = PAGE - 2 * MARGIN},
                  note = {.size = 6.8, .wrap = PAGE - 2 * MARGIN};
    double height, charts = 0;
    bf_canvas_measure(s->canvas, w->title, &title, NULL, &height);
    s->note_y = MARGIN + height;
    bf_canvas_measure(s->canvas, w->note, &note, NULL, &height);
    s->legend_y = s->note_y + height + 4;
    s->x = MARGIN + NAMES + NUMBERS;
    s->y = s->legend_y + 24 + OVER;
    if (w->n_columns)
        s->cell = fmin(90, (PAGE - MARGIN - s->x) / (double)w->n_columns - GAP);
    for (size_t k = 0; k < w->n_charts; k += 2)
        charts += bf_lines_height(&w->charts[k]) + 2 * GAP;
    s->height = s->y + (double)w->n_rows * (s->cell + GAP + OVER) + GAP + charts + MARGIN;
}

/* Every so many points of a panel, those that are marked last, so that none hides them. */
static void draw_points(const sheet *s, const bf_scatter_panel *p, const bf_range *range, double x,
                        double y)
{
    const size_t every = (p->n + MOST_POINTS - 1) / MOST_POINTS;
    for (int marked = 0; marked < 2; marked++)
        for (size_t k = 0; k < p->n; k += every) {
            if ((p->marked && p->marked[k]) != (marked == 1))
                continue;
            bf_canvas_box(s->canvas, x + place(range, p->x[k]) * s->cell - DOT / 2,
                          y + (1 - place(range, p->y[k])) * s->cell - DOT / 2, DOT, DOT,
                          marked ? MARKED : PLAIN);
        }
}

/* "r 0.98, slope 1.02" above a panel. */
static void draw_words(const sheet *s, const bf_scatter_panel *p, double x, double y)
{
    const bf_type type = {.size = 5.4, .rgb = FAINT, .across = 1};
    bf_buf words = {0};
    if (isfinite(p->r))
        bf_buf_printf(&words, "r %s%.2f", p->r < -0.005 ? "−" : "", fabs(p->r));
    if (isfinite(p->slope))
        bf_buf_printf(&words, "%sslope %s%.2f", words.len ? ", " : "", p->slope < -0.005 ? "−" : "",
                      fabs(p->slope));
    if (words.len && !words.failed)
        bf_canvas_text(s->canvas, words.data, x, y - 0.8, &type);
    bf_buf_free(&words);
}

static void draw_panel(const sheet *s, const bf_scatter_panel *p, const bf_range *range, double x,
                       double y)
{
    const double side = s->cell, half = side / 2;
    const double across[] = {x, y + half, x + side, y + half},
                 up[] = {x + half, y, x + half, y + side}, equal[] = {x, y + side, x + side, y},
                 frame[] = {x, y, x + side, y, x + side, y + side, x, y + side};
    bf_canvas_lines(s->canvas, across, 2, false, 0.4, GRID);
    bf_canvas_lines(s->canvas, up, 2, false, 0.4, GRID);
    bf_canvas_lines(s->canvas, equal, 2, false, 0.5, FRAME);
    if (p->n)
        draw_points(s, p, range, x, y);
    bf_canvas_lines(s->canvas, frame, 4, true, 0.4, FRAME);
    draw_words(s, p, x, y);
}

/* Numbers up a row's left side: 0, and the powers of ten that keep clear of each other. */
static void draw_numbers(const sheet *s, const bf_range *range, double y)
{
    const bf_type type = {.size = SMALL, .rgb = INK, .along = 1, .across = 0.5};
    double ticks[BF_MAX_TICKS], last = -1;
    const size_t n = bf_range_ticks(ticks, range, 5);
    for (size_t k = 0; k < n; k++) {
        const double at = place(range, ticks[k]);
        bf_buf number = {0};
        if ((last >= 0 && (at - last) * s->cell < 6.5) ||
            (ticks[k] != 0 && fabs(at - 0.5) * s->cell < 6.5))
            continue;
        last = at;
        bf_text_power(&number, ticks[k]);
        const double line[] = {s->x - 2, y + (1 - at) * s->cell, s->x, y + (1 - at) * s->cell};
        bf_canvas_lines(s->canvas, line, 2, false, 0.4, FRAME);
        if (!number.failed)
            bf_canvas_text(s->canvas, number.data, s->x - 3, y + (1 - at) * s->cell, &type);
        bf_buf_free(&number);
    }
}

static void draw_rows(const sheet *s)
{
    const bf_scatter *w = s->what;
    const bf_type row = {.size = 7, .rgb = INK, .across = 0.5, .wrap = NAMES - 2},
                  column = {.size = 7, .rgb = INK, .along = 0.5, .across = 1};
    for (size_t c = 0; c < w->n_columns; c++)
        bf_canvas_text(s->canvas, w->columns[c],
                       s->x + ((double)c + 0.5) * s->cell + (double)c * GAP, s->y - OVER, &column);
    for (size_t r = 0; r < w->n_rows; r++) {
        const bf_range range = row_range(w, r);
        const double y = s->y + (double)r * (s->cell + GAP + OVER);
        bf_canvas_text(s->canvas, w->rows[r], MARGIN, y + s->cell / 2, &row);
        draw_numbers(s, &range, y);
        for (size_t c = 0; c < w->n_columns; c++)
            draw_panel(s, &w->panels[r * w->n_columns + c], &range,
                       s->x + (double)c * (s->cell + GAP), y);
    }
}

/* What the axes and the colours are. */
static void draw_legend(const sheet *s)
{
    const bf_scatter *w = s->what;
    const bf_type type = {.size = 6.8, .rgb = INK};
    double x = MARGIN, width;
    char words[256];
    if (!w->n_rows)
        return;
    snprintf(words, sizeof words, "across: %.100s   up: %.100s", w->x_name, w->y_name);
    bf_canvas_text(s->canvas, words, x, s->legend_y, &type);
    bf_canvas_measure(s->canvas, words, &type, &width, NULL);
    x += width + 14;
    for (size_t k = 0; k < 2; k++) {
        bf_canvas_box(s->canvas, x, s->legend_y + 2.5, 4.5, 4.5, k ? MARKED : PLAIN);
        bf_canvas_text(s->canvas, w->names[k], x + 7, s->legend_y, &type);
        bf_canvas_measure(s->canvas, w->names[k], &type, &width, NULL);
        x += width + 18;
    }
}

static bf_code draw(const sheet *s, bf_error *err)
{
    bf_code rc = BF_OK;
    const bf_scatter *w = s->what;
    const bf_type title = {.size = 8.5, .rgb = INK, .bold = true, .wrap = PAGE - 2 * MARGIN},
                  note = {.size = 6.8, .rgb = FAINT, .wrap = PAGE - 2 * MARGIN};
    const double half = (PAGE - 2 * MARGIN - 2 * GAP) / 2;
    double y = s->y + (double)w->n_rows * (s->cell + GAP + OVER) + GAP;
    bf_canvas_text(s->canvas, w->title, MARGIN, MARGIN, &title);
    bf_canvas_text(s->canvas, w->note, MARGIN, s->note_y, &note);
    draw_legend(s);
    draw_rows(s);
    for (size_t k = 0; k < w->n_charts && !rc; k++) {
        rc = bf_lines_draw(s->canvas, &w->charts[k], MARGIN + (double)(k % 2) * (half + 2 * GAP), y,
                           half, err);
        if (k % 2)
            y += bf_lines_height(&w->charts[k]) + 2 * GAP;
    }
    return rc;
}

bf_code bf_render_scatter(const bf_scatter *figure, const char *path, bf_error *err)
{
    sheet s = {.what = figure};
    const bf_stamp stamp = {figure->title, figure->note, figure->look.provenance};
    bf_code rc = check(figure, err);
    if (!rc)
        rc = bf_canvas_open(&s.canvas, path, &figure->look, err);
    if (!rc) {
        lay_out(&s);
        rc = bf_canvas_start(s.canvas, PAGE, s.height, err);
    }
    if (!rc)
        rc = draw(&s, err);
    if (!rc)
        rc = bf_canvas_save(s.canvas, path, &stamp, err);
    bf_canvas_free(s.canvas);
    return rc;
}
