/* vega.h -- the pieces of a Vega-Lite specification. Internal to vega*.c and who draws curves. */
#ifndef BF_RENDER_VEGA_H
#define BF_RENDER_VEGA_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/error.h"
#include "base/buf.h"

/* Lines over one x axis. All borrowed. */
typedef struct {
    const char *name;
    const double *y;          /* [n]; NaN: a gap */
    const double *low, *high; /* [n] the ends of an interval, or NULL */
} bf_vega_line;

typedef struct {
    const char *title, *x_name, *y_name;
    bool log_x, log_y;        /* what such an axis has no place for is left out */
    const double *x;          /* [n] */
    size_t n, n_lines;
    const bf_vega_line *lines;
} bf_vega_chart;

/* Write charts, under each other, as one specification of Vega-Lite 5 with its data within.
 * BF_EARG a path that does not end in .json; BF_EIO; BF_ENOMEM. */
bf_code bf_vega_write_charts(const bf_vega_chart *charts, size_t n, const char *title,
                             const char *path, bf_error *err);

/* Does the path end in .json, in any case? */
bool bf_vega_path(const char *path);
/* Begin with schema and title; end, and write. BF_EIO, BF_ENOMEM. */
void bf_vega_begin(bf_buf *out, const char *title);
bf_code bf_vega_finish(bf_buf *out, const char *path, bf_error *err);
/* A string, a number (null if not finite), as JSON; trouble stays in the buffer. */
void bf_vega_text(bf_buf *out, const char *text);
void bf_vega_number(bf_buf *out, double value);

#endif
