/* plot.c -- the benchmarks' figures, drawn by backflow itself.
 *
 * usage: plot TIMES.json FOLDER
 *
 * Reads what bench/modes.py writes:
 *     {"time": {series: {"seconds": {N: seconds}, "exponent": e}},
 *      "prune": {model: [{"tolerance": t, "speed": s, "error": e}]}}
 * and writes time_vs_n and prune, each .svg and .png, into FOLDER. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/plot.h"
#include "base/buf.h"
#include "base/json.h"

enum { SERIES = 8, POINTS = 32 };

typedef struct {
    size_t n;
    bf_plot_curve curve[SERIES];
    double x[SERIES][POINTS], y[SERIES][POINTS];
    char name[SERIES][96];
} curves;

/* Read one series to x and y, and what belongs to its name. */
typedef bf_code reader(curves *c, const bf_json *series, bf_error *err);

static bf_code put_point(curves *c, const bf_json *x, double x_value, const bf_json *y, bf_error *err)
{
    bf_plot_curve *curve = &c->curve[c->n];
    double *to_x = &c->x[c->n][curve->n], *to_y = &c->y[c->n][curve->n];
    if (curve->n == POINTS)
        return bf_fail(err, BF_EFORMAT, "%s: more than %d points", c->name[c->n], (int)POINTS);
    *to_x = x_value;
    if ((x && !bf_json_number(x, to_x)) || !bf_json_number(y, to_y) || !(*to_x > 0.0))
        return bf_fail(err, BF_EFORMAT, "%s: point %zu is no pair of numbers", c->name[c->n], curve->n);
    curve->n++;
    return BF_OK;
}

static bf_code read_time(curves *c, const bf_json *series, bf_error *err)
{
    double exponent = 0.0;
    bf_code rc = bf_json_opt_number(&exponent, series, "exponent", 0.0, err);
    const bf_json *t = bf_json_first(bf_json_get(series, "seconds"));
    for (; t && !rc; t = bf_json_next(t))
        rc = put_point(c, NULL, bf_json_key(t) ? strtod(bf_json_key(t), NULL) : 0.0, t, err);
    const size_t len = strlen(c->name[c->n]);
    snprintf(c->name[c->n] + len, sizeof c->name[0] - len, ": N^%.2f", exponent);
    return rc;
}

static bf_code read_prune(curves *c, const bf_json *series, bf_error *err)
{
    bf_code rc = BF_OK;
    for (const bf_json *p = bf_json_first(series); p && !rc; p = bf_json_next(p))
        rc = put_point(c, bf_json_get(p, "error"), 0.0, bf_json_get(p, "speed"), err);
    return rc;
}

static bf_code read_curves(curves *c, const bf_json *all, reader *read, bf_error *err)
{
    bf_code rc = BF_OK;
    for (const bf_json *s = bf_json_first(all); s && !rc; s = bf_json_next(s)) {
        if (c->n == SERIES)
            return bf_fail(err, BF_EFORMAT, "more than %d series", (int)SERIES);
        c->curve[c->n] = (bf_plot_curve){.name = c->name[c->n], .x = c->x[c->n], .y = c->y[c->n]};
        snprintf(c->name[c->n], sizeof c->name[0], "%.60s", bf_json_key(s) ? bf_json_key(s) : "");
        rc = read(c, s, err);
        c->n++;
    }
    return rc;
}

static bf_code draw(bf_plot plot, const char *file, const bf_json *all, reader *read, const char *folder,
                    bf_error *err)
{
    curves c = {0};
    bf_code rc = read_curves(&c, all, read, err);
    plot.n_curves = c.n;
    plot.curves = c.curve;
    for (int png = 0; png < 2 && c.n && !rc; png++) {
        bf_buf path = {0};
        bf_buf_printf(&path, "%s/%s.%s", folder, file, png ? "png" : "svg");
        rc = path.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path") : bf_render_plot(&plot, path.data, err);
        bf_buf_free(&path);
    }
    return rc;
}

int main(int argc, char **argv)
{
    static const bf_plot time = {.title = "All losses of a text: time against its length", .x_name = "N, tokens",
                                 .y_name = "seconds", .x_log = true, .y_log = true,
                                 .note = "The walk's seconds, grad_norm at resid_pre, f32, medians; with the "
                                         "exponent of a power law fitted to the logarithms."},
                         prune = {.title = "Dropping small rows: speed against the error it makes",
                                  .x_name = "largest error of a row, sum |a − b| / sum b",
                                  .y_name = "times the exact walk's speed", .x_log = true,
                                  .note = "resid_pre's grad_norm, largest over all layers and losses; a point "
                                          "a tolerance."};
    bf_json *all = NULL;
    bf_error err = {0};
    if (argc != 3) {
        fprintf(stderr, "usage: plot TIMES.json FOLDER\n");
        return 2;
    }
    bf_code rc = bf_json_read(&all, argv[1], (size_t)1 << 20, &err);
    if (!rc)
        rc = draw(time, "time_vs_n", bf_json_get(all, "time"), read_time, argv[2], &err);
    if (!rc)
        rc = draw(prune, "prune", bf_json_get(all, "prune"), read_prune, argv[2], &err);
    if (rc)
        fprintf(stderr, "plot: %s\n", err.msg);
    bf_json_free(all);
    return rc ? 2 : 0;
}
