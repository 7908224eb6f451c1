/* plot.h -- curves over a common kind of axis, or a table of numbers as colours: plain numbers to
 * one picture. */
#ifndef BACKFLOW_PLOT_H
#define BACKFLOW_PLOT_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/error.h"
#include "backflow/render.h"

/* One curve; NaN: a gap. */
typedef struct {
    const char *name; /* NULL: none in the legend */
    size_t n;
    const double *x, *y;      /* [n] */
    const double *low, *high; /* [n] ends of intervals, or NULL */
} bf_plot_curve;

/* Zero-initialise, then set what differs; everything is borrowed. Curves, or a table. */
typedef struct {
    const char *title, *note; /* NULL: none; note: a sentence for the file's metadata */
    const char *x_name, *y_name;
    bool x_log, y_log;
    size_t n_curves; /* at most 64 */
    const bf_plot_curve *curves;
    size_t rows, columns;         /* of the table, each at most 4096 */
    const double *table;          /* [rows,columns]; NaN stays white */
    const char *const *row_names; /* [rows] or NULL: numbers. Row 0 stands at the top */
    bf_look look;                 /* its title is ignored */
} bf_plot;

/* Write the picture; the format is the path's ending (png, svg, pdf).
 * BF_EARG ending, look, sizes, or nothing to draw; BF_EIO; BF_ENOMEM. */
bf_code bf_render_plot(const bf_plot *plot, const char *path, bf_error *err);

#endif
