/* central.h -- central differences in double, to hold vector-Jacobian products against. */
#ifndef BF_TESTS_CENTRAL_H
#define BF_TESTS_CENTRAL_H

#define BF_BITS 64
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static uint64_t state = 1;

static double uniform(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (double)(state >> 11) * 0x1p-52 - 1.0;
}

static void fill(double *x, size_t n)
{
    for (size_t k = 0; k < n; k++)
        x[k] = uniform();
}

/* A function of x [n] to y [m], with what else it needs in context. */
typedef void function(double *y, const double *x, void *context);

/* Largest |<dx,u> - d<dy,f(x+tu)>/dt|, relative, over some random directions u. */
static double mismatch(function *f, void *context, const double *x, size_t n, const double *dy,
                       size_t m, const double *dx)
{
    double worst = 0.0, *u = calloc(n, sizeof *u), *moved = calloc(n, sizeof *moved),
           *y = calloc(m, sizeof *y);
    static const double at[] = {-2, -1, 1, 2}, weight[] = {1, -8, 8, -1};
    const double h = 1e-3;
    assert_true(u && moved && y);
    for (int trial = 0; trial < 5; trial++) {
        double walked = 0.0, size = 0.0, slope = 0.0;
        fill(u, n);
        for (size_t k = 0; k < n; k++) {
            walked += dx[k] * u[k];
            size += fabs(dx[k] * u[k]);
        }
        for (int s = 0; s < 4; s++) {
            for (size_t k = 0; k < n; k++)
                moved[k] = x[k] + at[s] * h * u[k];
            f(y, moved, context);
            for (size_t k = 0; k < m; k++)
                slope += weight[s] * dy[k] * y[k] / (12 * h);
        }
        assert_true(size > 0.0);
        worst = fmax(worst, fabs(walked - slope) / size);
    }
    free(u);
    free(moved);
    free(y);
    return worst;
}

#endif
