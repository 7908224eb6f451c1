#include "render/chart.h"

#include <math.h>
#include <stdlib.h>

#include "render/palette.h"
#include "render/text.h"

enum { MAX_TICKS = 64, LEGEND_MOST = 14 };
static const double SMALL = 6.2, NAME = 7, TICK = 2.2; /* points */
static const uint32_t INK = 0x222222, FRAME = 0x777777, GRID = 0xe6e6e6;

uint32_t bf_line_colour(size_t k)
{
    static const uint32_t colours[] = {0x0072b2, 0xd55e00, 0x009e73, 0xcc79a7, 0x56b4e9, 0xe69f00};
    return colours[k % (sizeof colours / sizeof *colours)];
}

/* The lightest tenth of a palette is hard to see on white. */
uint32_t bf_line_family(const char *palette, size_t k, size_t n)
{
    const bf_palette *p = bf_palette_find(palette ? palette : "viridis");
    if (p->diverging)
        p = bf_palette_find("viridis");
    return bf_palette_rgb(p, n > 1 ? 0.88 * (double)k / (double)(n - 1) : 0.25);
}

/* ---- axes */

static double part(double v, double from, double to, bool is_log)
{
    return is_log ? log(v / from) / log(to / from) : (v - from) / (to - from);
}

double bf_frame_x(const bf_frame *f, double v)
{
    return f->x + f->width * part(v, f->x0, f->x1, f->log_x);
}

double bf_frame_y(const bf_frame *f, double v)
{
    return f->y + f->height * (1 - part(v, f->y0, f->y1, f->log_y));
}

static size_t linear_ticks(double ticks[MAX_TICKS], double from, double to, bool whole)
{
    const double raw = (to - from) / 5, unit = pow(10, floor(log10(raw))), of_unit = raw / unit;
    double step = unit * (of_unit <= 1 ? 1 : of_unit <= 2 ? 2 : of_unit <= 5 ? 5 : 10);
    size_t n = 0;
    step = whole ? fmax(1, step) : step;
    for (double k = ceil(from / step - 1e-9); k * step <= to + 1e-9 * step && n < MAX_TICKS; k++)
        ticks[n++] = k * step;
    return n;
}

static size_t log_ticks(double ticks[MAX_TICKS], double from, double to)
{
    static const double factor[] = {1, 2, 5};
    const bool dense = log10(to / from) < 2.2;
    size_t n = 0;
    for (int e = (int)floor(log10(from)); e <= (int)floor(log10(to) + 1e-9); e++)
        for (int k = 0; k < (dense ? 3 : 1); k++) {
            const double v = factor[k] * pow(10, e);
            if (v >= from * (1 - 1e-9) && v <= to * (1 + 1e-9) && n < MAX_TICKS)
                ticks[n++] = v;
        }
    return n;
}

static size_t find_ticks(double ticks[MAX_TICKS], double from, double to, bool is_log, bool whole)
{
    return !(to > from) ? 0 : is_log ? log_ticks(ticks, from, to)
                                     : linear_ticks(ticks, from, to, whole);
}

/* The number at a tick; it is left out if it would stand on the one before. */
static void draw_number(bf_canvas *canvas, double v, bool power, double x, double y, bool below,
                        double *end)
{
    const bf_type type = {.size = SMALL, .rgb = INK, .along = below ? 0.5 : 1,
                          .across = below ? 0 : 0.5};
    double width, height;
    bf_buf text = {0};
    if (power)
        bf_text_power(&text, v);
    else
        bf_text_number(&text, v);
    if (text.failed)
        return;
    bf_canvas_measure(canvas, text.data, &type, &width, &height);
    const double from = below ? x - width / 2 - 2 : -(y + height * 0.45);
    if (from >= *end) {
        bf_canvas_text(canvas, text.data, x, y, &type);
        *end = below ? x + width / 2 + 2 : -(y - height * 0.45);
    }
    bf_buf_free(&text);
}

/* Powers of ten look alike over many decades; otherwise plain numbers are read faster. */
static bool is_power(double from, double to, bool is_log)
{
    return is_log && (from < 1e-3 || to > 1e5);
}

void bf_frame_draw(bf_canvas *canvas, const bf_frame *f, bool numbers_x, bool numbers_y, bool grid)
{
    double ticks[MAX_TICKS], end = -INFINITY;
    const double bottom = f->y + f->height, right = f->x + f->width;
    size_t n = find_ticks(ticks, f->y0, f->y1, f->log_y, f->whole_y);
    for (size_t k = 0; k < n; k++) {
        const double y = bf_frame_y(f, ticks[k]), line[] = {f->x, y, right, y},
                     tick[] = {f->x - TICK, y, f->x, y};
        const bool zero = ticks[k] == 0 && f->y0 < 0;
        if (grid)
            bf_canvas_lines(canvas, line, 2, false, zero ? 0.6 : 0.4, zero ? FRAME : GRID);
        bf_canvas_lines(canvas, tick, 2, false, 0.5, FRAME);
        if (numbers_y)
            draw_number(canvas, ticks[k], is_power(f->y0, f->y1, f->log_y), f->x - TICK - 1.2, y,
                        false, &end);
    }
    end = -INFINITY;
    n = find_ticks(ticks, f->x0, f->x1, f->log_x, f->whole_x);
    for (size_t k = 0; k < n; k++) {
        const double x = bf_frame_x(f, ticks[k]), tick[] = {x, bottom, x, bottom + TICK};
        bf_canvas_lines(canvas, tick, 2, false, 0.5, FRAME);
        if (numbers_x)
            draw_number(canvas, ticks[k], is_power(f->x0, f->x1, f->log_x), x, bottom + TICK + 0.8,
                        true, &end);
    }
    const double edge[] = {f->x, f->y, f->x, bottom, right, bottom};
    bf_canvas_lines(canvas, edge, 3, false, 0.5, FRAME);
}

void bf_frame_names(bf_canvas *canvas, const bf_frame *f, const char *x_name, const char *y_name,
                    double left)
{
    const bf_type across = {.size = NAME, .rgb = INK, .along = 0.5},
                  up = {.size = NAME, .rgb = INK, .along = 0.5, .turned = true};
    if (x_name)
        bf_canvas_text(canvas, x_name, f->x + f->width / 2, f->y + f->height + TICK + 9.5, &across);
    if (y_name)
        bf_canvas_text(canvas, y_name, left, f->y + f->height / 2, &up);
}

/* ---- lines */

static bool has_place(const bf_frame *f, double v)
{
    return isfinite(v) && (!f->log_y || v > 0);
}

static void widen(bf_frame *f, const double *v, size_t n)
{
    for (size_t k = 0; v && k < n; k++)
        if (has_place(f, v[k])) {
            f->y0 = fmin(f->y0, v[k]);
            f->y1 = fmax(f->y1, v[k]);
        }
}

bool bf_lines_range(bf_frame *f, const bf_line *lines, size_t n_lines, size_t n)
{
    f->y0 = INFINITY;
    f->y1 = -INFINITY;
    for (size_t k = 0; k < n_lines; k++) {
        widen(f, lines[k].y, n);
        widen(f, lines[k].high, n);
        if (!f->log_y) /* an interval that ends near 0 must not stretch a logarithm */
            widen(f, lines[k].low, n);
    }
    if (!(f->y1 >= f->y0))
        return false;
    const double air = f->log_y ? pow(f->y1 / f->y0, 0.05) : 0.05 * (f->y1 - f->y0);
    if (f->log_y) {
        f->y0 /= fmax(air, 1.1);
        f->y1 *= fmax(air, 1.1);
    } else {
        const double least = fmax(air, 1e-3 * fmax(fabs(f->y0), fabs(f->y1)));
        f->y0 -= least > 0 ? least : 1;
        f->y1 += least > 0 ? least : 1;
    }
    return true;
}

/* Stretches of points that have a place, [from,to). */
static bool next_stretch(size_t *from, size_t *to, const bf_frame *f, const double *y, size_t n)
{
    *from = *to;
    while (*from < n && !has_place(f, y[*from]))
        ++*from;
    *to = *from;
    while (*to < n && has_place(f, y[*to]))
        ++*to;
    return *from < n;
}

static double clamp_y(const bf_frame *f, double v)
{
    const double inside = has_place(f, v) ? fmin(f->y1, fmax(f->y0, v)) : f->y0;
    return bf_frame_y(f, inside);
}

static void draw_interval(bf_canvas *canvas, const bf_frame *f, const bf_line *line,
                          const double *x, size_t n, double *points)
{
    for (size_t from = 0, to = 0; next_stretch(&from, &to, f, line->y, n);) {
        double *at = points;
        for (size_t k = from; k < to; k++) {
            *at++ = bf_frame_x(f, x[k]);
            *at++ = clamp_y(f, line->high[k]);
        }
        for (size_t k = to; k-- > from;) {
            *at++ = bf_frame_x(f, x[k]);
            *at++ = clamp_y(f, line->low[k]);
        }
        bf_canvas_fill(canvas, points, 2 * (to - from), line->rgb, 0.22);
    }
}

static void draw_line(bf_canvas *canvas, const bf_frame *f, const bf_line *line, const double *x,
                      size_t n, double *points)
{
    bf_canvas_dash(canvas, line->dash_on, line->dash_off);
    for (size_t from = 0, to = 0; next_stretch(&from, &to, f, line->y, n);) {
        for (size_t k = from; k < to; k++) {
            points[2 * (k - from)] = bf_frame_x(f, x[k]);
            points[2 * (k - from) + 1] = clamp_y(f, line->y[k]);
        }
        if (to - from > 1)
            bf_canvas_lines(canvas, points, to - from, false, line->width > 0 ? line->width : 1,
                            line->rgb);
        else /* alone: a dot */
            bf_canvas_box(canvas, points[0] - 0.9, points[1] - 0.9, 1.8, 1.8, line->rgb);
    }
    bf_canvas_dash(canvas, 0, 0);
}

bf_code bf_lines_over(bf_canvas *canvas, const bf_frame *f, const bf_line *lines, size_t n_lines,
                      const double *x, size_t n, bf_error *err)
{
    double *points = calloc(2 * n + 1, 2 * sizeof *points);
    if (!points)
        return bf_fail(err, BF_ENOMEM, "cannot hold a line of %zu points", n);
    for (size_t k = 0; k < n_lines; k++)
        if (lines[k].low && lines[k].high)
            draw_interval(canvas, f, &lines[k], x, n, points);
    for (size_t k = 0; k < n_lines; k++)
        draw_line(canvas, f, &lines[k], x, n, points);
    free(points);
    return BF_OK;
}

double bf_lines_legend(bf_canvas *canvas, const bf_line *lines, size_t n_lines, double x, double y,
                       bool draw)
{
    const bf_type type = {.size = SMALL, .rgb = INK, .across = 0.5};
    const size_t every = (n_lines + LEGEND_MOST - 1) / LEGEND_MOST;
    double widest = 0, width;
    for (size_t k = 0; k < n_lines; k++) {
        if (!lines[k].name || (k % every && k + 1 < n_lines))
            continue;
        bf_canvas_measure(canvas, lines[k].name, &type, &width, NULL);
        widest = fmax(widest, width + 18);
        if (!draw)
            continue;
        const double line[] = {x, y, x + 14, y};
        bf_canvas_dash(canvas, lines[k].dash_on, lines[k].dash_off);
        bf_canvas_lines(canvas, line, 2, false, lines[k].width > 0 ? lines[k].width : 1,
                        lines[k].rgb);
        bf_canvas_dash(canvas, 0, 0);
        bf_canvas_text(canvas, lines[k].name, x + 18, y, &type);
        y += 8.4;
    }
    return widest;
}
