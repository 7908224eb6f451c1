/* panel.h -- the cells of one matrix: colours, marks of values below 0, the edge of causality. */
#ifndef BF_RENDER_PANEL_H
#define BF_RENDER_PANEL_H

#include "render/canvas.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/range.h"

typedef struct {
    const bf_matrix *matrix;
    const bf_range *range;
    const bf_palette *palette;
    double x, y, cell_w, cell_h; /* points */
} bf_panel;

/* Few cells are boxes, many are one image. Values below 0 have a dash; where cells are too small
 * for that, stretches of them are hatched if their colour can be told from that of 0. BF_ENOMEM. */
bf_code bf_panel_draw(bf_canvas *canvas, const bf_panel *panel, bf_error *err);

/* Are values below 0 hatched in cells of this size? */
bool bf_panel_hatches(double cell_w, double cell_h);

#endif
