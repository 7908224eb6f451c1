/* png.h -- the one door to libpng: pixels to the bytes of a PNG file. */
#ifndef BF_RENDER_PNG_H
#define BF_RENDER_PNG_H

#include <stddef.h>

#include "base/buf.h"

/* Encode an opaque picture with its resolution (pHYs).
 * out     appended to; what was appended on failure is undefined
 * pixels  height rows of stride bytes, each pixel a native-endian 0x..RRGGBB of 32 bits
 * dpi     dots per inch, at least 1
 * BF_ENOMEM, BF_EFORMAT (libpng's own words). */
bf_code bf_png_encode(bf_buf *out, const unsigned char *pixels, size_t stride, size_t width,
                      size_t height, int dpi, bf_error *err);

#endif
