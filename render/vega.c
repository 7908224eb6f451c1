/* vega.c -- curves and the common parts of Vega-Lite specifications.
 *
 * Schema: vega.github.io/schema/vega-lite/v5.json. Data stand in the specification itself. */
#include "render/vega.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"

bool bf_vega_path(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot && strcasecmp(dot, ".json") == 0;
}

void bf_vega_text(bf_buf *out, const char *text)
{
    if (bf_json_quote(out, text))
        out->failed = true;
}

void bf_vega_number(bf_buf *out, double value)
{
    if (isfinite(value))
        bf_buf_printf(out, "%.9g", value);
    else
        bf_buf_text(out, "null");
}

void bf_vega_begin(bf_buf *out, const char *title)
{
    bf_buf_text(out, "{\n\"$schema\": \"https://vega.github.io/schema/vega-lite/v5.json\",\n");
    if (title && *title) {
        bf_buf_text(out, "\"title\": ");
        bf_vega_text(out, title);
        bf_buf_text(out, ",\n");
    }
}

bf_code bf_vega_finish(bf_buf *out, const char *path, bf_error *err)
{
    bf_buf_text(out, "\n}\n");
    return out->failed ? bf_fail(err, BF_ENOMEM, "cannot hold a Vega-Lite specification")
                       : bf_file_write(path, out->data, out->len, err);
}

/* ---- curves */

static bool is_shown(const bf_vega_chart *c, const bf_vega_line *line, size_t k)
{
    return isfinite(c->x[k]) && isfinite(line->y[k]) && (!c->log_x || c->x[k] > 0) &&
           (!c->log_y || line->y[k] > 0);
}

static void put_points(bf_buf *out, const bf_vega_chart *c)
{
    bool first = true;
    bf_buf_text(out, "{\"values\": [");
    for (size_t l = 0; l < c->n_lines; l++) {
        const bf_vega_line *line = &c->lines[l];
        for (size_t k = 0; k < c->n; k++) {
            if (!is_shown(c, line, k))
                continue;
            bf_buf_text(out, first ? "\n{\"line\": " : ",\n{\"line\": ");
            bf_vega_text(out, line->name);
            bf_buf_text(out, ", \"x\": ");
            bf_vega_number(out, c->x[k]);
            bf_buf_text(out, ", \"y\": ");
            bf_vega_number(out, line->y[k]);
            if (line->low && line->high) {
                bf_buf_text(out, ", \"low\": ");
                bf_vega_number(out,
                               c->log_y ? fmax(line->low[k], line->y[k] * 1e-3) : line->low[k]);
                bf_buf_text(out, ", \"high\": ");
                bf_vega_number(out, line->high[k]);
            }
            bf_buf_text(out, "}");
            first = false;
        }
    }
    bf_buf_text(out, "]}");
}

static void put_axis(bf_buf *out, const char *channel, const char *field, const char *name,
                     bool log)
{
    bf_buf_printf(
        out, "\"%s\": {\"field\": \"%s\", \"type\": \"quantitative\", \"title\": ", channel, field);
    bf_vega_text(out, name);
    bf_buf_printf(out, ", \"scale\": {%s}}", log ? "\"type\": \"log\"" : "\"zero\": false");
}

static void put_chart(bf_buf *out, const bf_vega_chart *c)
{
    static const char colour[] =
        "\"color\": {\"field\": \"line\", \"type\": \"nominal\", \"sort\": null, "
        "\"title\": null}";
    bool bands = false;
    for (size_t l = 0; l < c->n_lines; l++)
        bands = bands || (c->lines[l].low && c->lines[l].high);
    bf_buf_text(out, "{\"title\": ");
    bf_vega_text(out, c->title ? c->title : "");
    bf_buf_text(out, ", \"width\": 420, \"height\": 240,\n\"data\": ");
    put_points(out, c);
    bf_buf_text(out, ",\n\"encoding\": {");
    put_axis(out, "x", "x", c->x_name, c->log_x);
    bf_buf_printf(out, ", %s},\n\"layer\": [", colour);
    if (bands) {
        bf_buf_text(out, "{\"mark\": {\"type\": \"area\", \"opacity\": 0.2}, \"encoding\": {");
        put_axis(out, "y", "low", c->y_name, c->log_y);
        bf_buf_text(out, ", \"y2\": {\"field\": \"high\"}}},\n");
    }
    bf_buf_text(
        out,
        "{\"mark\": {\"type\": \"line\", \"point\": true, \"tooltip\": true}, \"encoding\": {");
    put_axis(out, "y", "y", c->y_name, c->log_y);
    bf_buf_text(out, "}}]}");
}

bf_code bf_vega_write_charts(const bf_vega_chart *charts, size_t n, const char *title,
                             const char *path, bf_error *err)
{
    bf_buf out = {0};
    if (!bf_vega_path(path))
        return bf_fail(err, BF_EARG, "%.300s: a Vega-Lite path must end in .json", path);
    bf_vega_begin(&out, title);
    bf_buf_text(&out, "\"resolve\": {\"scale\": {\"color\": \"independent\"}},\n\"vconcat\": [");
    for (size_t k = 0; k < n; k++) {
        bf_buf_text(&out, k ? ",\n" : "\n");
        put_chart(&out, &charts[k]);
    }
    bf_buf_text(&out, "]");
    const bf_code rc = bf_vega_finish(&out, path, err);
    bf_buf_free(&out);
    return rc;
}
