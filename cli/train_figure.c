/* train_figure.c -- a training's log as curves: loss, and the gradient's norm. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/train.h"

enum { POINTS = 120 };

typedef struct {
    double *loss, *norm;   /* [n] a step */
    double *held, *held_at; /* [n_held] measurements, and their steps */
    size_t n, n_held, cap;
    double mean_loss[POINTS], mean_norm[POINTS], held_line[POINTS];
    size_t n_points;
} curves;

static void release(curves *c)
{
    free(c->loss);
    free(c->norm);
    free(c->held);
    free(c->held_at);
}

/* A line has no more than one of each. */
static bf_code take(curves *c, size_t lines, bf_error *err)
{
    c->cap = lines;
    c->loss = calloc(lines + 1, sizeof *c->loss);
    c->norm = calloc(lines + 1, sizeof *c->norm);
    c->held = calloc(lines + 1, sizeof *c->held);
    c->held_at = calloc(lines + 1, sizeof *c->held_at);
    return c->loss && c->norm && c->held && c->held_at
               ? BF_OK
               : bf_fail(err, BF_ENOMEM, "cannot hold the losses of %zu steps", lines);
}

static bf_code read_line(curves *c, const char *text, size_t len, bf_error *err)
{
    bf_json *line = NULL;
    double v;
    bf_code rc = bf_json_parse(&line, text, len, err);
    if (rc)
        return rc;
    if (!bf_json_get(line, "loss") || !bf_json_number(bf_json_get(line, "loss"), &c->loss[c->n]) ||
        !bf_json_get(line, "grad_norm") ||
        !bf_json_number(bf_json_get(line, "grad_norm"), &c->norm[c->n]))
        rc = bf_fail(err, BF_EFORMAT, "line %zu has no loss", c->n + 1);
    if (!rc && bf_json_get(line, "held_out") && bf_json_number(bf_json_get(line, "held_out"), &v)) {
        c->held[c->n_held] = v;
        c->held_at[c->n_held++] = (double)c->n;
    }
    c->n++;
    bf_json_free(line);
    return rc;
}

static bf_code read_log(curves *c, const char *path, bf_error *err)
{
    bf_buf file = {0};
    size_t lines = 0;
    bf_code rc = bf_file_read(&file, path, (size_t)1 << 32, err);
    if (rc)
        return rc;
    for (size_t k = 0; k < file.len; k++)
        lines += file.data[k] == '\n';
    rc = take(c, lines, err);
    for (size_t at = 0; at < file.len && c->n < lines && !rc;) {
        const size_t len = strcspn(file.data + at, "\n");
        rc = read_line(c, file.data + at, len, err);
        at += len + 1;
    }
    if (rc)
        bf_error_prefix(err, rc, path);
    else if (!c->n)
        rc = bf_fail(err, BF_EFORMAT, "%.300s: no line", path);
    bf_buf_free(&file);
    return rc;
}

static double mean_of(const double *v, size_t from, size_t to)
{
    double sum = 0.0;
    for (size_t k = from; k < to; k++)
        sum += v[k];
    return sum / (double)(to - from);
}

/* Between measurements a straight line; before the first and after the last, flat. */
static double held_near(const curves *c, double step)
{
    size_t k = 0;
    while (k < c->n_held && c->held_at[k] < step)
        k++;
    if (k == 0 || k == c->n_held)
        return c->held[k ? k - 1 : 0];
    const double part = (step - c->held_at[k - 1]) / (c->held_at[k] - c->held_at[k - 1]);
    return c->held[k - 1] + part * (c->held[k] - c->held[k - 1]);
}

static void thin_out(curves *c)
{
    c->n_points = c->n < POINTS ? c->n : POINTS;
    for (size_t p = 0; p < c->n_points; p++) {
        const size_t from = p * c->n / c->n_points, to = (p + 1) * c->n / c->n_points;
        c->mean_loss[p] = mean_of(c->loss, from, to);
        c->mean_norm[p] = mean_of(c->norm, from, to);
        c->held_line[p] = c->n_held ? held_near(c, 0.5 * (double)(from + to - 1)) : 0.0;
    }
}

static bf_code draw(const curves *c, const char *folder, const char *path, bf_error *err)
{
    const char *const names[] = {"training", "held out"}, *const norm_name[] = {"norm"};
    const double *const lines[] = {c->mean_loss, c->held_line}, *const norm[] = {c->mean_norm};
    char title[200], note[160], axis[64];
    snprintf(title, sizeof title, "%.150s · training", folder);
    snprintf(note, sizeof note, "%zu steps, each point the mean of about %zu", c->n,
             (c->n + c->n_points - 1) / c->n_points);
    snprintf(axis, sizeof axis, "part of the %zu steps", c->n);
    const bf_scatter_chart charts[] = {
        {.title = "Loss", .x_name = axis, .y_name = "nats", .n_lines = c->n_held ? 2 : 1,
         .n_points = c->n_points, .names = names, .lines = lines},
        {.title = "Norm of the gradient, before clipping", .x_name = axis, .y_name = "norm",
         .n_lines = 1, .n_points = c->n_points, .names = norm_name, .lines = norm}};
    const bf_scatter figure = {.title = title, .note = note, .n_charts = 2, .charts = charts};
    return bf_render_scatter(&figure, path, err);
}

bf_code cli_draw_training(const char *folder, bf_error *err)
{
    curves c = {0};
    bf_buf log = {0}, path = {0};
    bf_buf_printf(&log, "%s/log.jsonl", folder);
    bf_buf_printf(&path, "%s/loss.svg", folder);
    bf_code rc = log.failed || path.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path")
                                           : read_log(&c, log.data, err);
    if (!rc && c.n > 1) { /* one step is no curve */
        thin_out(&c);
        rc = draw(&c, folder, path.data, err);
    }
    release(&c);
    bf_buf_free(&log);
    bf_buf_free(&path);
    return rc;
}
