/* canvas.h -- the one door to Cairo and Pango: lines, boxes and text, in points, into one file.
 *
 * The same calls draw a PNG, an SVG or a PDF. Text is set in Noto Sans or a font asked for, other
 * scripts in whatever font has them; colour and bitmap fonts are left out, so that a PDF holds
 * outlines only (no Type 3 fonts). An SVG holds its text as text. Nothing fails on the way:
 * bf_canvas_save reports the first trouble. */
#ifndef BF_RENDER_CANVAS_H
#define BF_RENDER_CANVAS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/render.h"
#include "base/buf.h"
#include "render/stamp.h"

typedef struct bf_canvas bf_canvas;

/* How a piece of text looks and which of its points stands at (x,y). */
typedef struct {
    double size;    /* points */
    uint32_t rgb;
    bool bold, turned; /* turned: read from below upwards */
    double along;   /* 0: (x,y) is the beginning, 0.5: the middle, 1: the end of the line */
    double across;  /* 0: the line's top, 0.5: halfway to its bottom, 1: its bottom */
    double wrap;    /* break lines at this width; 0: one line */
} bf_type;

/* A canvas without a size yet: it can measure text only.
 * out  owned by the caller (bf_canvas_free); untouched on failure
 * dpi  of a PNG
 * BF_ENOMEM. */
bf_code bf_canvas_new(bf_canvas **out, bf_format format, int dpi, bf_error *err);
void bf_canvas_free(bf_canvas *canvas); /* NULL-safe */

/* The same for a figure: format by the path's ending, resolution and font as the look says, and the
 * look itself checked.
 * BF_EARG an ending that is no figure's, dpi, width, palette, no such font, or a name that LaTeX
 * cannot take in where a caption is wanted; BF_ENOMEM. */
bf_code bf_canvas_open(bf_canvas **out, const char *path, const bf_look *look, bf_error *err);

/* Size of a text in points, before it is turned. Either of width and height may be NULL. */
void bf_canvas_measure(bf_canvas *canvas, const char *text, const bf_type *type, double *width,
                       double *height);

/* Append text as this canvas would draw it: characters that no font here has as "⟨4F60⟩". */
void bf_canvas_spell(bf_canvas *canvas, bf_buf *out, const char *text);

/* Give it its size in points and a white ground; once, before anything is drawn.
 * BF_EARG more pixels than a PNG here may have; BF_ENOMEM. */
bf_code bf_canvas_start(bf_canvas *canvas, double width, double height, bf_error *err);

void bf_canvas_text(bf_canvas *canvas, const char *text, double x, double y, const bf_type *type);
void bf_canvas_box(bf_canvas *canvas, double x, double y, double width, double height,
                   uint32_t rgb);
/* The outline of n points (x and y in turn), closed or not. */
void bf_canvas_lines(bf_canvas *canvas, const double *points, size_t n, bool closed, double width,
                     uint32_t rgb);
/* From now on, lines are dashed: on and off for so many points; 0: no longer. */
void bf_canvas_dash(bf_canvas *canvas, double on, double off);
/* The inside of n points; alpha from 0 (nothing) to 1. */
void bf_canvas_fill(bf_canvas *canvas, const double *points, size_t n, uint32_t rgb, double alpha);
/* n pieces of line, each from (p[0],p[1]) to (p[2],p[3]) of its four numbers. */
void bf_canvas_strokes(bf_canvas *canvas, const double *pieces, size_t n, double width,
                       uint32_t rgb);
/* n colours from left to right, one flowing into the next. */
void bf_canvas_gradient(bf_canvas *canvas, double x, double y, double width, double height,
                        const uint32_t *rgb, size_t n);
/* rows*columns pixels of 0xRRGGBB, drawn as that many boxes without smoothing; in a PNG that has
 * fewer pixels there, as their means. */
void bf_canvas_image(bf_canvas *canvas, double x, double y, double width, double height,
                     const uint32_t *rgb, size_t rows, size_t columns);

/* Finish and write the file, with the stamp in its metadata. BF_EIO, BF_ENOMEM. */
bf_code bf_canvas_save(bf_canvas *canvas, const char *path, const bf_stamp *stamp, bf_error *err);

#endif
