/* heads.h -- one number a head as a picture: layers up, heads across. */
#ifndef BACKFLOW_HEADS_H
#define BACKFLOW_HEADS_H

#include <stddef.h>

#include "backflow/error.h"
#include "backflow/render.h"

/* Zero-initialise, then set what differs; everything is borrowed. */
typedef struct {
    size_t layers, heads; /* both from 1 to 1024 */
    const double *value;  /* [layers,heads] shades the cells; below 0 gives a diverging scale */
    const char *const
        *marks; /* [layers,heads] letters to set in a cell, or NULL; NULL: none at all */
    const char *title, *note; /* NULL: none */
    const char *quantity;     /* what value is, with its unit */
    const char *legend;       /* what the letters mean; NULL: none */
    bf_look look;             /* width and title are ignored */
} bf_heads_figure;

/* Write the picture; the format is the path's ending (png, svg, pdf).
 * BF_EARG ending, dpi or sizes; BF_ENONFINITE NaN or Inf in value; BF_EIO; BF_ENOMEM. */
bf_code bf_render_heads(const bf_heads_figure *figure, const char *path, bf_error *err);

#endif
