/* chart.h -- axes, linear or logarithmic, and lines with their intervals and names. */
#ifndef BF_RENDER_CHART_H
#define BF_RENDER_CHART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "render/canvas.h"

/* A plot's place, and the values at its edges. */
typedef struct {
    double x, y, width, height; /* points; of the inside */
    double x0, x1, y0, y1;      /* values at the left, right, lower and upper edge */
    bool log_x, log_y;
    bool whole_x, whole_y;      /* ticks at whole numbers only */
} bf_frame;

/* Where a value stands on the canvas. On a logarithmic axis v > 0. */
double bf_frame_x(const bf_frame *frame, double v);
double bf_frame_y(const bf_frame *frame, double v);
/* Ticks with their numbers, thinned out where they would touch; grid lines; the frame. Either of
 * the axes may be left without numbers. */
void bf_frame_draw(bf_canvas *canvas, const bf_frame *frame, bool numbers_x, bool numbers_y,
                   bool grid);
/* Names of the axes: below the numbers, and turned at x. */
void bf_frame_names(bf_canvas *canvas, const bf_frame *frame, const char *x_name,
                    const char *y_name, double left);

typedef struct {
    const char *name;
    const double *y;          /* [n]; NaN: a gap; so is what a logarithmic axis has no place for */
    const double *low, *high; /* [n] the ends of an interval, or NULL */
    uint32_t rgb;
    double width;             /* points; 0: 1 */
    double dash_on, dash_off; /* 0: not dashed */
} bf_line;

/* Widen y0 and y1 so that all lines fit, intervals included; for logarithms only what is above 0.
 * Returns false if there is no value at all. */
bool bf_lines_range(bf_frame *frame, const bf_line *lines, size_t n_lines, size_t n);
/* Draw the lines over x [n], intervals first. BF_ENOMEM. */
bf_code bf_lines_over(bf_canvas *canvas, const bf_frame *frame, const bf_line *lines,
                      size_t n_lines, const double *x, size_t n, bf_error *err);
/* Their names under each other from (x,y) on, at most so many; draw false: only the width. */
double bf_lines_legend(bf_canvas *canvas, const bf_line *lines, size_t n_lines, double x, double y,
                       bool draw);

/* The colour of line k of n: of an ordered family along a palette, else Okabe and Ito's. */
uint32_t bf_line_family(const char *palette, size_t k, size_t n);
uint32_t bf_line_colour(size_t k);

#endif
