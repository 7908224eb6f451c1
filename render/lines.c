#include "render/lines.h"

#include <math.h>

#include "render/chart.h"

enum { MOST_LINES = 16, MOST_POINTS = 512 };
static const uint32_t INK = 0x222222, FAINT = 0x666666, GREY = 0x777777;
static const double SMALL = 6.2, TEXT = 7, PLOT = 104, HEAD = 12, FOOT = 22, LEFT = 34; /* points */
static const double LEGEND = 88, ENTRY = 8.4;

double bf_lines_height(const bf_scatter_chart *chart)
{
    const double entries = ENTRY * (double)(chart->n_lines + (chart->low != NULL));
    return HEAD + fmax(PLOT, entries) + FOOT;
}

/* The last of the lines is a baseline if there is a band around it. */
static size_t make_lines(bf_line lines[MOST_LINES], const bf_scatter_chart *c)
{
    const size_t n = c->n_lines < MOST_LINES ? c->n_lines : MOST_LINES;
    for (size_t k = 0; k < n; k++) {
        const bool baseline = c->low && k + 1 == n;
        lines[k] = (bf_line){.name = c->names[k], .y = c->lines[k], .width = 1.1,
                             .rgb = baseline ? GREY : bf_line_colour(k),
                             .low = baseline ? c->low : NULL, .high = baseline ? c->high : NULL};
        if (k % 2 && !baseline) {
            lines[k].dash_on = 4;
            lines[k].dash_off = 1.4;
        }
    }
    return n;
}

bf_code bf_lines_draw(bf_canvas *canvas, const bf_scatter_chart *chart, double x, double y,
                      double width, bf_error *err)
{
    const bf_type title = {.size = TEXT, .rgb = INK, .bold = true},
                  small = {.size = SMALL, .rgb = FAINT, .across = 0.5};
    double at[MOST_POINTS];
    bf_line lines[MOST_LINES];
    const size_t n = make_lines(lines, chart), last = chart->n_points - 1;
    bf_frame f = {.x = x + LEFT, .y = y + HEAD, .width = width - LEFT - LEGEND - 6, .height = PLOT,
                  .x1 = 1};
    if (last >= MOST_POINTS)
        return bf_fail(err, BF_EARG, "%zu points a line, at most %d can be drawn", chart->n_points,
                       (int)MOST_POINTS);
    for (size_t k = 0; k <= last; k++)
        at[k] = last ? (double)k / (double)last : 0;
    bf_canvas_text(canvas, chart->title, f.x, y, &title);
    bf_lines_range(&f, lines, n, chart->n_points);
    bf_frame_draw(canvas, &f, true, true, true);
    const bf_code rc = bf_lines_over(canvas, &f, lines, n, at, chart->n_points, err);
    const double right = f.x + f.width + 6;
    bf_lines_legend(canvas, lines, n, right, f.y + 4, true);
    if (chart->low)
        bf_canvas_text(canvas, "band: 18 of 20 random orders", right, f.y + 4 + ENTRY * (double)n,
                       &small);
    bf_frame_names(canvas, &f, chart->x_name, chart->y_name, x);
    return rc;
}
