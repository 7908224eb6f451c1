/* svg.h -- the canvas's own SVG: text stays text, and the bytes depend on nothing but the drawing.
 *
 * (Cairo 1.16 would turn every letter into an outline.) Texts carry the width that Pango measured,
 * so that a reader with another font sees them in their place. No function fails: trouble with
 * memory stays in the buffer. */
#ifndef BF_RENDER_SVG_H
#define BF_RENDER_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

typedef struct {
    bf_buf *out;
    size_t gradients;         /* so far, for their names */
    double dash_on, dash_off; /* of lines to come; 0: none */
    bf_buf image;             /* a PNG that bf_svg_image takes in and frees */
} bf_svg;

/* Begin on out (borrowed to the end); size in points; font: families, with commas between. */
void bf_svg_start(bf_svg *svg, bf_buf *out, double width, double height, const char *font);
/* One line of text: left end and baseline at (x,y), len bytes that fill `across` points. */
void bf_svg_text(bf_svg *svg, const char *text, size_t len, double x, double y, double across,
                 double size, uint32_t rgb, bool bold, bool turned);
/* The rest as in canvas.h. */
void bf_svg_box(bf_svg *svg, double x, double y, double width, double height, uint32_t rgb);
void bf_svg_lines(bf_svg *svg, const double *points, size_t n, bool closed, double width,
                  uint32_t rgb);
void bf_svg_fill(bf_svg *svg, const double *points, size_t n, uint32_t rgb, double alpha);
void bf_svg_strokes(bf_svg *svg, const double *pieces, size_t n, double width, uint32_t rgb);
void bf_svg_gradient(bf_svg *svg, double x, double y, double width, double height,
                     const uint32_t *rgb, size_t n);
void bf_svg_image(bf_svg *svg, double x, double y, double width, double height);
void bf_svg_finish(bf_svg *svg);

#endif
