/* curves.h -- means over positions, layers and documents, with bootstrap intervals. */
#ifndef BF_RENDER_CURVES_H
#define BF_RENDER_CURVES_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/record.h"
#include "backflow/render.h"

/* K curves of P points. NaN where no document has the point. */
typedef struct {
    size_t K, P;
    double *x;           /* [P] distance, position, level; of a bin its middle */
    double *weight;      /* [P] of a point in the power law; 0: none */
    double *mean;        /* [K,P] over documents */
    double *low, *high;  /* [K,P] 95 % by percentile bootstrap over documents; NULL: one document */
    double *slope;       /* [K] of the power law; NaN: under three points, or no distances */
    double *scale;       /* [K] its value at 1 */
    double *slope_low, *slope_high; /* [K] NULL: one document */
    size_t *number;      /* [K] the layer; a level of own and future */
} bf_curves;

/* Mean magnitude over the pairs at each distance i - j, a curve a layer. With bins distances from
 * 16 on are put together, eight bins an octave. score grad_norm, or grad_x_act.
 * out  bf_curves_free, also after a failure
 * BF_EARG no such tensor, or records that do not agree; BF_ESHAPE; BF_EFORMAT; BF_ENONFINITE;
 * BF_ENOMEM. */
bf_code bf_curves_lag(bf_curves *out, const bf_record *const *records, size_t n, const char *site,
                      const char *score, bool bins, size_t resamples, bf_error *err);

/* Have all records what the next two are made of? */
bool bf_curves_have_own(const bf_record *const *records, size_t n);
/* own.grad_norm, future.grad_norm and own_future.cosine (K = 3, in this order) by position, of one
 * layer or (layer -1) as the mean over all; or by layer, as the mean over positions. The last
 * position, which has no future, counts for own only. More than 160 positions are put together in
 * about 100 bins. */
bf_code bf_curves_position(bf_curves *out, const bf_record *const *records, size_t n, long layer,
                           size_t resamples, bf_error *err);
bf_code bf_curves_layer(bf_curves *out, const bf_record *const *records, size_t n,
                        size_t resamples, bf_error *err);

void bf_curves_free(bf_curves *curves);

/* The power law scale * x^slope through n points: least squares of log y on log x, weighted. False
 * (and NaN) with fewer than three points that have a weight and a value above 0. */
bool bf_power_law(double *slope, double *scale, const double *x, const double *weight,
                  const double *y, size_t n);

#endif
