/* heads.c -- the grid of all heads, with a bar that says what the shades mean. */
#include "backflow/heads.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "render/canvas.h"
#include "render/palette.h"
#include "render/range.h"
#include "render/text.h"

static const double MARGIN = 7, GAP = 4, LINE = 0.4;        /* points */
static const double WIDEST = 28, NARROWEST = 9, GRID = 470; /* of a cell; of the whole */
static const double NUMBERS_FROM = 18;                      /* cells so wide show their value */
static const double LEAST_WIDTH = 252, BAR_WIDTH = 150, BAR_HEIGHT = 8;
static const double NAME_SIZE = 7.2, SMALL = 6.2;
enum { MOST = 1024, STOPS = 64 };
static const uint32_t INK = 0x222222, FAINT = 0x666666, FRAME = 0x555555;

/* What is drawn and where; lengths in points. */
typedef struct {
    const bf_heads_figure *figure;
    bf_canvas *canvas;
    bf_range range;
    const bf_palette *palette;
    double cell, x, y; /* of the grid */
    double width, height;
    double note_y, bar_y, legend_y;
} sheet;

static double right_of(const sheet *s)
{
    return s->width - 2 * MARGIN;
}

/* Height of text broken at the figure's width; 0 if there is none. */
static double height_of(const sheet *s, const char *text, double size, bool bold)
{
    const bf_type type = {.size = size, .bold = bold, .wrap = right_of(s)};
    double height = 0;
    if (text && *text)
        bf_canvas_measure(s->canvas, text, &type, NULL, &height);
    return height;
}

static void lay(sheet *s)
{
    const bf_heads_figure *f = s->figure;
    const bf_type name = {.size = NAME_SIZE}, small = {.size = SMALL};
    double digits, line, tick;
    bf_canvas_measure(s->canvas, "0000", &small, &digits, NULL);
    bf_canvas_measure(s->canvas, "layer", &name, NULL, &line);
    bf_canvas_measure(s->canvas, "0", &small, NULL, &tick);
    s->cell =
        fmin(WIDEST, fmax(NARROWEST, GRID / (double)(f->heads > f->layers ? f->heads : f->layers)));
    s->x = MARGIN + line + GAP + digits;
    s->width = fmax(LEAST_WIDTH, s->x + s->cell * (double)f->heads + MARGIN);
    s->note_y = MARGIN + height_of(s, f->title, 8.5, true);
    s->y = s->note_y + height_of(s, f->note, SMALL + 0.6, false) + 2 * GAP;
    s->bar_y = s->y + s->cell * (double)f->layers + tick + line + 3 * GAP;
    s->legend_y =
        s->bar_y + height_of(s, f->quantity, NAME_SIZE, false) + BAR_HEIGHT + tick + 2 * GAP;
    s->height = s->legend_y + height_of(s, f->legend, SMALL + 0.6, false) + MARGIN;
}

static void draw_cell(const sheet *s, size_t layer, size_t head)
{
    const bf_heads_figure *f = s->figure;
    const size_t k = layer * f->heads + head;
    const double x = s->x + s->cell * (double)head;
    const double y = s->y + s->cell * (double)(f->layers - 1 - layer);
    const uint32_t rgb = bf_palette_rgb(s->palette, bf_range_place(&s->range, f->value[k]));
    const char *marks = f->marks && f->marks[k] ? f->marks[k] : "";
    const bool numbers = s->cell >= NUMBERS_FROM;
    bf_type type = {.size = s->cell * 0.36,
                    .rgb = bf_palette_ink(rgb),
                    .bold = true,
                    .along = 0.5,
                    .across = 0.5};
    double wide;
    bf_canvas_box(s->canvas, x, y, s->cell, s->cell, rgb);
    if (*marks) {
        bf_canvas_measure(s->canvas, marks, &type, &wide, NULL);
        type.size *= fmin(1.0, 0.92 * s->cell / wide);
        bf_canvas_text(s->canvas, marks, x + s->cell / 2, y + s->cell * (numbers ? 0.34 : 0.5),
                       &type);
    }
    if (!numbers)
        return;
    char number[32];
    snprintf(number, sizeof number, fabs(f->value[k]) < 9.95 ? "%.1f" : "%.0f", f->value[k]);
    type.size = s->cell * 0.25;
    type.bold = false;
    bf_canvas_measure(s->canvas, number, &type, &wide, NULL);
    type.size *= fmin(1.0, 0.92 * s->cell / wide);
    bf_canvas_text(s->canvas, number, x + s->cell / 2, y + s->cell * (*marks ? 0.76 : 0.5), &type);
}

/* Lines between cells and around them. */
static void draw_lines(const sheet *s)
{
    const double right = s->x + s->cell * (double)s->figure->heads;
    const double bottom = s->y + s->cell * (double)s->figure->layers;
    for (size_t k = 0; k <= s->figure->heads; k++) {
        const double x = s->x + s->cell * (double)k, line[] = {x, s->y, x, bottom};
        bf_canvas_lines(s->canvas, line, 2, false, LINE, 0xffffff);
    }
    for (size_t k = 0; k <= s->figure->layers; k++) {
        const double y = s->y + s->cell * (double)k, line[] = {s->x, y, right, y};
        bf_canvas_lines(s->canvas, line, 2, false, LINE, 0xffffff);
    }
    const double frame[] = {s->x, s->y, right, s->y, right, bottom, s->x, bottom};
    bf_canvas_lines(s->canvas, frame, 4, true, LINE, FRAME);
}

/* Numbers of layers and heads; where cells are narrow, not of all. */
static void draw_axes(const sheet *s)
{
    const bf_heads_figure *f = s->figure;
    const size_t step = s->cell < 11 ? 4 : s->cell < 14 ? 2 : 1;
    const double bottom = s->y + s->cell * (double)f->layers;
    bf_type small = {.size = SMALL, .rgb = INK, .along = 0.5};
    bf_type name = {.size = NAME_SIZE, .rgb = INK, .along = 0.5};
    char number[24];
    double tick;
    bf_canvas_measure(s->canvas, "0", &small, NULL, &tick);
    for (size_t k = 0; k < f->heads; k += step) {
        snprintf(number, sizeof number, "%zu", k);
        bf_canvas_text(s->canvas, number, s->x + s->cell * ((double)k + 0.5), bottom + 1, &small);
    }
    small.along = 1;
    small.across = 0.5;
    for (size_t k = 0; k < f->layers; k += step) {
        snprintf(number, sizeof number, "%zu", k);
        bf_canvas_text(s->canvas, number, s->x - 3, bottom - s->cell * ((double)k + 0.5), &small);
    }
    bf_canvas_text(s->canvas, "head", s->x + s->cell * (double)f->heads / 2, bottom + tick + 2,
                   &name);
    name.turned = true;
    bf_canvas_text(s->canvas, "layer", MARGIN, s->y + s->cell * (double)f->layers / 2, &name);
}

static void draw_bar(const sheet *s)
{
    const bf_type name = {.size = NAME_SIZE, .rgb = INK, .wrap = right_of(s)};
    const bf_type small = {.size = SMALL, .rgb = INK, .along = 0.5};
    const double y = s->bar_y + height_of(s, s->figure->quantity, NAME_SIZE, false) + 1;
    double ticks[BF_MAX_TICKS];
    uint32_t rgb[STOPS];
    if (s->figure->quantity)
        bf_canvas_text(s->canvas, s->figure->quantity, MARGIN, s->bar_y, &name);
    for (size_t k = 0; k < STOPS; k++)
        rgb[k] = bf_palette_rgb(s->palette, (double)k / (STOPS - 1));
    bf_canvas_gradient(s->canvas, MARGIN, y, BAR_WIDTH, BAR_HEIGHT, rgb, STOPS);
    const double frame[] = {MARGIN,         y,      MARGIN + BAR_WIDTH, y, MARGIN + BAR_WIDTH,
                            y + BAR_HEIGHT, MARGIN, y + BAR_HEIGHT};
    bf_canvas_lines(s->canvas, frame, 4, true, LINE, FRAME);
    const size_t n = bf_range_ticks(ticks, &s->range, 4);
    for (size_t k = 0; k < n; k++) {
        const double x = MARGIN + BAR_WIDTH * bf_range_place(&s->range, ticks[k]);
        const double line[] = {x, y + BAR_HEIGHT, x, y + BAR_HEIGHT + 2};
        bf_buf number = {0};
        bf_text_number(&number, ticks[k]);
        bf_canvas_lines(s->canvas, line, 2, false, LINE, FRAME);
        if (!number.failed)
            bf_canvas_text(s->canvas, number.data, x, y + BAR_HEIGHT + 2, &small);
        bf_buf_free(&number);
    }
}

static bf_code draw(const sheet *s, bf_error *err)
{
    const bf_heads_figure *f = s->figure;
    const bf_type title = {.size = 8.5, .rgb = INK, .bold = true, .wrap = right_of(s)};
    const bf_type note = {.size = SMALL + 0.6, .rgb = FAINT, .wrap = title.wrap};
    const bf_code rc = bf_canvas_start(s->canvas, s->width, s->height, err);
    if (rc)
        return rc;
    if (f->title)
        bf_canvas_text(s->canvas, f->title, MARGIN, MARGIN, &title);
    if (f->note)
        bf_canvas_text(s->canvas, f->note, MARGIN, s->note_y, &note);
    for (size_t l = 0; l < f->layers; l++)
        for (size_t h = 0; h < f->heads; h++)
            draw_cell(s, l, h);
    draw_lines(s);
    draw_axes(s);
    draw_bar(s);
    if (f->legend)
        bf_canvas_text(s->canvas, f->legend, MARGIN, s->legend_y, &note);
    return BF_OK;
}

static bf_code check(const bf_heads_figure *f, bf_error *err)
{
    if (!f->layers || !f->heads || f->layers > MOST || f->heads > MOST)
        return bf_fail(err, BF_EARG, "%zu layers of %zu heads, wanted 1 to %d of both", f->layers,
                       f->heads, (int)MOST);
    for (size_t k = 0; k < f->layers * f->heads; k++)
        if (!isfinite(f->value[k]))
            return bf_fail(err, BF_ENONFINITE, "the value of layer %zu head %zu is %g",
                           k / f->heads, k % f->heads, f->value[k]);
    return BF_OK;
}

bf_code bf_render_heads(const bf_heads_figure *figure, const char *path, bf_error *err)
{
    sheet s = {.figure = figure};
    const bf_stamp stamp = {figure->title ? figure->title : "heads", figure->note,
                            figure->look.provenance};
    bf_code rc = check(figure, err);
    if (!rc)
        rc = bf_canvas_open(&s.canvas, path, &figure->look, err);
    if (rc)
        return rc;
    for (size_t k = 0; k < figure->layers * figure->heads; k++) {
        s.range.top = fmax(s.range.top, fabs(figure->value[k]));
        s.range.is_signed = s.range.is_signed || figure->value[k] < 0;
    }
    const char *usual = s.range.is_signed ? "vik" : "cividis";
    s.palette = bf_palette_find(figure->look.palette ? figure->look.palette : usual);
    lay(&s);
    rc = draw(&s, err);
    if (!rc)
        rc = bf_canvas_save(s.canvas, path, &stamp, err);
    bf_canvas_free(s.canvas);
    return rc;
}
