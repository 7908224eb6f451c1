#include "render/bar.h"

#include <math.h>

#include "render/text.h"

enum { STOPS = 64 }; /* of the gradient, which the format interpolates */
static const double THICK = 8.0, TICK = 2.0, SMALL = 6.2, SWATCH = 6.5; /* points */
static const uint32_t INK = 0x222222, FRAME = 0x555555;

/* Diverging scales keep their neutral middle at 0, also for values that have one sign only. */
static double palette_place(const bf_range *range, const bf_palette *palette, double place)
{
    return palette->diverging && !range->is_signed ? 0.5 + 0.5 * place : place;
}

uint32_t bf_bar_rgb(const bf_range *range, const bf_palette *palette, double v)
{
    if (v == 0)
        return BF_RGB_ZERO;
    if (range->is_log && !range->is_signed && v < range->low)
        return BF_RGB_BELOW;
    return bf_palette_rgb(palette, palette_place(range, palette, bf_range_place(range, v)));
}

static double draw_line(bf_canvas *canvas, const char *text, double x, double y,
                        const bf_type *type, bool draw)
{
    double height;
    bf_canvas_measure(canvas, text, type, NULL, &height);
    if (draw)
        bf_canvas_text(canvas, text, x, y, type);
    return height;
}

/* A dash, or a line of hatching. */
static void draw_mark(bf_canvas *canvas, bool hatched, double x, double y, double half,
                      uint32_t rgb)
{
    const double up = hatched ? half : 0, line[] = {x - half, y + up, x + half, y - up};
    bf_canvas_lines(canvas, line, 2, false, hatched ? 0.4 : 0.6, rgb);
}

static void draw_colours(bf_canvas *canvas, const bf_bar *bar, double x, double y)
{
    uint32_t rgb[STOPS];
    for (size_t k = 0; k < STOPS; k++) {
        const double place = (double)k / (STOPS - 1);
        rgb[k] = bf_palette_rgb(bar->palette, palette_place(bar->range, bar->palette, place));
    }
    bf_canvas_gradient(canvas, x, y, bar->width, THICK, rgb, STOPS);
    for (int k = 0; k < 5 && bar->range->is_signed; k++) { /* as in the cells */
        const double at = x + bar->width * (0.05 + 0.09 * k);
        draw_mark(canvas, bar->hatched, at, y + THICK / 2, 1.5,
                  bf_palette_ink(bf_palette_rgb(bar->palette, (at - x) / bar->width)));
    }
    const double frame[] = {x, y, x + bar->width, y, x + bar->width, y + THICK, x, y + THICK};
    bf_canvas_lines(canvas, frame, 4, true, 0.4, FRAME);
}

/* Where tick labels stand already. */
typedef struct {
    size_t n;
    double from[BF_MAX_TICKS], to[BF_MAX_TICKS];
} taken;

static bool take(taken *t, double from, double to)
{
    for (size_t k = 0; k < t->n; k++)
        if (from < t->to[k] && to > t->from[k])
            return false;
    t->from[t->n] = from;
    t->to[t->n++] = to;
    return true;
}

/* A tick, and its number if that fits between those that stand already. */
static void draw_tick(bf_canvas *canvas, const bf_bar *bar, double v, double x, double y, taken *t)
{
    const bf_type type = {.size = SMALL, .rgb = INK, .along = 0.5};
    const double place = v == 0 && bar->range->is_signed ? 0.5 : bf_range_place(bar->range, v);
    const double at = x + place * bar->width;
    const double line[] = {at, y, at, y + TICK};
    double width;
    bf_buf number = {0};
    if (bar->range->is_log && (bar->range->low < 0.01 || bar->range->top >= 1e4))
        bf_text_power(&number, v);
    else
        bf_text_number(&number, v);
    bf_canvas_lines(canvas, line, 2, false, 0.4, FRAME);
    if (!number.failed) {
        bf_canvas_measure(canvas, number.data, &type, &width, NULL);
        if (take(t, at - width / 2 - 1.5, at + width / 2 + 1.5))
            bf_canvas_text(canvas, number.data, at, y + TICK, &type);
    }
    bf_buf_free(&number);
}

/* The ends and 0 first: they must not lose their numbers to others. */
static void draw_ticks(bf_canvas *canvas, const bf_bar *bar, double x, double y)
{
    double ticks[BF_MAX_TICKS];
    taken t = {0};
    const size_t n = bf_range_ticks(ticks, bar->range, 5);
    for (size_t k = 0; k < n; k++)
        if (ticks[k] == 0)
            draw_tick(canvas, bar, ticks[k], x, y, &t);
    if (n && ticks[n - 1] != 0)
        draw_tick(canvas, bar, ticks[n - 1], x, y, &t);
    for (size_t k = 0; k + 1 < n; k++)
        if (ticks[k] != 0)
            draw_tick(canvas, bar, ticks[k], x, y, &t);
}

void bf_bar_scale(bf_buf *out, const bf_range *range)
{
    if (range->is_rank)
        bf_buf_text(out, range->is_signed ? "coloured by the magnitude's rank, numbers are quantiles"
                                          : "coloured by rank, numbers are quartiles");
    if (!range->is_log)
        return;
    bf_buf_text(out, range->is_signed ? "symmetric log, nearly linear within ±" : "log scale");
    if (range->is_signed)
        bf_text_number(out, range->low);
}

static void draw_swatch(bf_canvas *canvas, const char *text, double x, double y, uint32_t rgb)
{
    const bf_type type = {.size = SMALL, .rgb = INK};
    double height;
    bf_canvas_measure(canvas, text, &type, NULL, &height);
    const double top = y + (height - SWATCH) / 2, right = x + SWATCH, bottom = top + SWATCH;
    const double frame[] = {x, top, right, top, right, bottom, x, bottom};
    bf_canvas_box(canvas, x, top, SWATCH, SWATCH, rgb);
    bf_canvas_lines(canvas, frame, 4, true, 0.35, FRAME);
    bf_canvas_text(canvas, text, x + SWATCH + 3, y, &type);
}

/* Returns the height. */
static double draw_legend(bf_canvas *canvas, const bf_bar *bar, double x, double y, bool draw)
{
    const bf_type type = {.size = SMALL};
    bf_buf small = {0};
    double line;
    size_t n = 0;
    bf_canvas_measure(canvas, "0", &type, NULL, &line);
    line += 1;
    bf_buf_text(&small, "above 0, below ");
    bf_text_number(&small, bar->range->low);
    const char *const text[] = {bar->range->zeros ? bar->zero ? bar->zero : "exactly 0" : NULL,
                                bar->range->below && !small.failed ? small.data : NULL, bar->empty,
                                bar->below};
    static const uint32_t rgb[] = {BF_RGB_ZERO, BF_RGB_BELOW, 0xffffff, 0xffffff};
    for (size_t k = 0; k < 4; k++) {
        if (text[k] && draw) {
            const double at = y + line * (double)n;
            draw_swatch(canvas, text[k], x, at, rgb[k]);
            if (k == 3)
                draw_mark(canvas, bar->hatched, x + SWATCH / 2, at + (line - 1) / 2, 1.9, INK);
        }
        n += text[k] != NULL;
    }
    bf_buf_free(&small);
    return line * (double)n;
}

double bf_bar_draw(bf_canvas *canvas, const bf_bar *bar, double x, double y, bool draw)
{
    const bf_type title = {.size = 7, .rgb = INK, .wrap = bar->width};
    const bf_type small = {.size = SMALL, .rgb = FRAME, .wrap = bar->width};
    const double top = y;
    double height;
    bf_buf scale = {0};
    y += draw_line(canvas, bar->quantity, x, y, &title, draw);
    bf_bar_scale(&scale, bar->range);
    if (scale.len && !scale.failed && bar->range->top > 0)
        y += draw_line(canvas, scale.data, x, y, &small, draw);
    bf_buf_free(&scale);
    y += 2;
    if (bar->range->top > 0) {
        bf_canvas_measure(canvas, "0", &small, NULL, &height);
        if (draw) {
            draw_colours(canvas, bar, x, y);
            draw_ticks(canvas, bar, x, y + THICK);
        }
        y += THICK + TICK + height + 3;
    }
    if (bar->beside)
        return fmax(y - top, draw_legend(canvas, bar, x + bar->width + 16, top, draw));
    return y + draw_legend(canvas, bar, x, y, draw) - top;
}
