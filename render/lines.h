/* lines.h -- a chart of a few lines over the axis 0 to 1, with a band and its legend. */
#ifndef BF_RENDER_LINES_H
#define BF_RENDER_LINES_H

#include "backflow/render.h"
#include "render/canvas.h"

/* Draw with the upper left corner at (x,y); the height is that of all charts.
 * BF_EARG more than 512 points; BF_ENOMEM. */
bf_code bf_lines_draw(bf_canvas *canvas, const bf_scatter_chart *chart, double x, double y,
                      double width, bf_error *err);
double bf_lines_height(const bf_scatter_chart *chart);

#endif
