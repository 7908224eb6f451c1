/* labels.h -- the labels along an axis of a heatmap, thinned out where they would overlap. */
#ifndef BF_RENDER_LABELS_H
#define BF_RENDER_LABELS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "render/canvas.h"
#include "render/matrix.h"

typedef struct {
    size_t n, step;     /* every step-th of n cells is labelled, from the first */
    double size;        /* of the type, points */
    double longest;     /* points along the line of the longest label */
    bf_buf text;        /* the labels, each NUL-terminated */
    size_t *from;       /* [n] where each starts in text; of those not labelled undefined */
} bf_labels;

/* What the cells of an axis are called. */
typedef struct {
    const bf_record *record;
    bf_axis axis;
    const size_t *number; /* [n] NULL: 0 to n-1 */
    size_t n;
    size_t shift;         /* of losses: as in bf_matrix */
    bool numbered;        /* put the number behind every token */
} bf_cells;

/* Append the name of cell k: a token (that a loss predicts, or at a position), "5–9" for a block of
 * losses, "final", or the number; with_number: tokens with their number. */
void bf_labels_name(bf_buf *out, const bf_cells *cells, size_t k, bool with_number);

/* Choose size and step for cells of `cell` points and set the labels. Where only some cells are
 * labelled, tokens have their number.
 * out  filled; bf_labels_free, also after a failure.  BF_ENOMEM. */
bf_code bf_labels_make(bf_labels *out, bf_canvas *canvas, const bf_cells *cells, double cell,
                       bf_error *err);
void bf_labels_free(bf_labels *labels);

/* Beside rows: ending at x, the first cell's top at y. Below columns: turned, ending at y, the
 * first cell's left side at x. */
void bf_labels_rows(bf_canvas *canvas, const bf_labels *labels, double x, double y, double cell);
void bf_labels_columns(bf_canvas *canvas, const bf_labels *labels, double x, double y, double cell);

#endif
