/* report_pack.h -- numbers as the page holds them: few bytes, as text. The one door to zlib. */
#ifndef BF_RENDER_REPORT_PACK_H
#define BF_RENDER_REPORT_PACK_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "render/matrix.h"

/* Codes of a matrix: 0 for exactly 0, 1 for a magnitude below top / 10^BF_PACK_DECADES, else
 *     2 + round(log(|v| / low) / log(BF_PACK_STEP)),     low = top / 10^BF_PACK_DECADES
 * with bit 15 set if v < 0: what comes back is within half a step, 0.5 %, of v. */
enum { BF_PACK_DECADES = 6 };
#define BF_PACK_STEP 1.01

/* Append bytes in base64. */
void bf_pack_base64(bf_buf *out, const void *bytes, size_t len);
/* Append [n] floats, the first byte of each, the second, ...; rounded to 16 bits of mantissa.
 * BF_ENOMEM. */
bf_code bf_pack_floats(bf_buf *out, const double *value, size_t n, bf_error *err);
/* Append [n] numbers below 65536: all low bytes, then all high ones. BF_ENOMEM. */
bf_code bf_pack_words(bf_buf *out, const unsigned short *word, size_t n, bf_error *err);
/* Append a matrix: the codes of each row's j <= i, or of all j if full, row after row, as words.
 * top  out: the largest magnitude.  BF_ENOMEM. */
bf_code bf_pack_matrix(bf_buf *out, double *top, const bf_matrix *matrix, bool full,
                       bf_error *err);

#endif
