/* bar.h -- the colour bar of a heatmap with its ticks, and the legend of what is no colour. */
#ifndef BF_RENDER_BAR_H
#define BF_RENDER_BAR_H

#include <stdbool.h>
#include <stdint.h>

#include "render/canvas.h"
#include "render/palette.h"
#include "render/range.h"

/* Of cells that hold 0, and that hold less than a log scale shows: greys that no palette has. */
enum { BF_RGB_ZERO = 0xd6d6d6, BF_RGB_BELOW = 0x9fadbf };

typedef struct {
    const bf_range *range;
    const bf_palette *palette;
    const char *quantity; /* "grad_norm (nats per unit)" */
    const char *empty;    /* what the white triangle means; NULL: there is none */
    const char *below;    /* what a dash in a cell means; NULL: there is none */
    bool hatched;         /* it is hatching instead */
    bool beside;          /* the legend stands on the right of the colours, not below */
    const char *zero;     /* of exact zeros, where there are any; NULL: "exactly 0" */
    double width;         /* points */
} bf_bar;

/* Colour of the value v, 0 included. */
uint32_t bf_bar_rgb(const bf_range *range, const bf_palette *palette, double v);

/* Draw with the upper left corner at (x,y), or with draw == false only measure: the height. */
double bf_bar_draw(bf_canvas *canvas, const bf_bar *bar, double x, double y, bool draw);

/* Append "log scale", what the symmetric logarithm is linear within, or that colours are ranks;
 * nothing for linear scales. */
void bf_bar_scale(bf_buf *out, const bf_range *range);

#endif
