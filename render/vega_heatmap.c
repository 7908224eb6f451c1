/* vega_heatmap.c -- a matrix of a record, or many, as a Vega-Lite specification. */
#include <math.h>
#include <string.h>

#include "backflow/render.h"
#include "render/describe.h"
#include "render/labels.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/range.h"
#include "render/text.h"
#include "render/vega.h"

static const size_t NONE = (size_t)-1;

/* The names of an axis's cells: the token that a loss predicts, or at a position, and the number.
 */
static void put_names(bf_buf *out, const bf_record *record, bf_axis axis, const size_t *number,
                      size_t n, size_t shift)
{
    const bf_cells cells = {record, axis, number, n, shift, true};
    bf_buf_text(out, "[");
    for (size_t k = 0; k < n; k++) {
        bf_buf name = {0};
        bf_labels_name(&name, &cells, k, true);
        bf_buf_text(out, k ? ", " : "");
        bf_vega_text(out, name.data ? name.data : "");
        out->failed = out->failed || name.failed;
        bf_buf_free(&name);
    }
    bf_buf_text(out, "]");
}

static const char *name_of(bf_axis axis)
{
    static const char *const names[] = {
        [BF_AXIS_LOSS] = "loss",         [BF_AXIS_QUERY] = "query", [BF_AXIS_BLOCK] = "block",
        [BF_AXIS_LAYER] = "layer",       [BF_AXIS_LEVEL] = "level", [BF_AXIS_HEAD] = "head",
        [BF_AXIS_POSITION] = "position", [BF_AXIS_LAG] = "lag",     [BF_AXIS_NUMBER] = "index"};
    return names[axis];
}

static void put_values(bf_buf *out, const bf_matrices *all, bool above_0)
{
    bool first = true;
    bf_buf_text(out, "\"data\": {\"values\": [");
    for (size_t k = 0; k < all->layers * all->heads; k++) {
        const bf_matrix *m = &all->m[k];
        for (size_t at = 0; at < m->rows * m->cols; at++) {
            const size_t row = at / m->cols, col = at % m->cols;
            if ((m->is_causal && col > m->i[row]) || (above_0 && m->value[at] <= 0))
                continue;
            bf_buf_printf(out, "%s{\"down\": %zu, \"across\": %zu", first ? "\n" : ",\n", row, col);
            if (all->layers > 1)
                bf_buf_printf(out, ", \"layer\": %zu", m->layer);
            if (all->heads > 1)
                bf_buf_printf(out, ", \"head\": %zu", m->head);
            bf_buf_text(out, ", \"value\": ");
            bf_vega_number(out, m->value[at]);
            bf_buf_text(out, "}");
            first = false;
        }
    }
    bf_buf_text(out, "]},\n");
}

static void put_axis(bf_buf *out, const char *channel, const char *field, bf_axis axis)
{
    bf_buf_printf(out,
                  "\"%s\": {\"field\": \"%s\", \"type\": \"ordinal\", \"title\": \"%s\", \"axis\": "
                  "{\"labelExpr\": \"%s_names[datum.value]\", \"labelOverlap\": true}}",
                  channel, field, name_of(axis), field);
}

/* Both signs: 0 in the middle of blue and orange. */
static void put_colour(bf_buf *out, const bf_matrix *m, const bf_heatmap_style *style,
                       const bf_range *range, const char *quantity)
{
    const char *named = style->look.palette && strcmp(style->look.palette, "vik") != 0
                            ? style->look.palette : "cividis";
    bf_buf_text(out, "\"color\": {\"field\": \"value\", \"type\": \"quantitative\", \"title\": ");
    bf_vega_text(out, quantity);
    bf_buf_printf(out, ", \"scale\": {\"scheme\": \"%s\"", m->is_signed ? "blueorange" : named);
    if (style->scale == BF_SCALE_RANK)
        bf_buf_text(out, ", \"type\": \"quantile\"");
    else if (m->is_signed)
        bf_buf_text(out, ", \"domainMid\": 0");
    if (style->scale == BF_SCALE_LOG && m->is_signed && range->low > 0) {
        bf_buf_text(out, ", \"type\": \"symlog\", \"constant\": ");
        bf_vega_number(out, range->low);
    } else if (style->scale == BF_SCALE_LOG && !m->is_signed) {
        bf_buf_text(out, ", \"type\": \"log\"");
    }
    bf_buf_text(out, "}}");
}

static void put_title(bf_buf *title, const bf_record *record, const bf_matrices *all)
{
    bf_matrix common = *all->m;
    bf_describe_model(title, record);
    bf_text_token(title, common.tensor, 70);
    if (all->layers > 1)
        common.layer = NONE;
    if (all->heads > 1)
        common.head = NONE, common.heads = 0;
    bf_describe_place(title, &common);
}

static void put_all(bf_buf *out, const bf_record *record, const bf_heatmap_style *style,
                    const bf_matrices *all, const bf_range *range)
{
    const bf_matrix *m = all->m;
    bf_buf title = {0}, quantity = {0};
    bf_describe_values(&quantity, NULL, m, record, style);
    put_title(&title, record, all);
    const bool own = style->look.title != NULL;
    bf_vega_begin(out, own ? style->look.title : title.data);
    bf_buf_text(out, "\"params\": [{\"name\": \"down_names\", \"value\": ");
    put_names(out, record, m->down, m->number, m->rows, m->shift);
    bf_buf_text(out, "},\n{\"name\": \"across_names\", \"value\": ");
    put_names(out, record, m->across, NULL, m->cols, 0);
    bf_buf_text(out, "}],\n");
    put_values(out, all, style->scale == BF_SCALE_LOG && !m->is_signed);
    bf_buf_text(out, "\"mark\": {\"type\": \"rect\", \"tooltip\": true},\n\"encoding\": {");
    put_axis(out, "x", "across", m->across);
    bf_buf_text(out, ",\n");
    put_axis(out, "y", "down", m->down);
    bf_buf_text(out, ",\n");
    put_colour(out, m, style, range, quantity.data ? quantity.data : "value");
    if (all->layers > 1)
        bf_buf_text(out, ",\n\"row\": {\"field\": \"layer\", \"type\": \"ordinal\"}");
    if (all->heads > 1)
        bf_buf_text(out, ",\n\"column\": {\"field\": \"head\", \"type\": \"ordinal\"}");
    bf_buf_text(out, "}");
    out->failed = out->failed || title.failed || quantity.failed;
    bf_buf_free(&title);
    bf_buf_free(&quantity);
}

bf_code bf_export_vega_heatmap(const bf_record *record, const bf_heatmap_style *style,
                               const char *path, bf_error *err)
{
    bf_matrices all = {0};
    bf_range range = {0};
    bf_buf out = {0};
    if (!bf_vega_path(path))
        return bf_fail(err, BF_EARG, "%.300s: a Vega-Lite path must end in .json", path);
    if (style->look.palette && !bf_palette_find(style->look.palette))
        return bf_fail(err, BF_EARG, "there is no palette \"%.60s\", wanted one of %s",
                       style->look.palette, bf_palette_names());
    bf_code rc = bf_matrices_select(&all, record, style, err);
    if (!rc)
        rc = bf_range_find(&range, all.m, all.layers * all.heads, style->scale, err);
    if (!rc) {
        put_all(&out, record, style, &all, &range);
        rc = bf_vega_finish(&out, path, err);
    }
    bf_buf_free(&out);
    bf_range_free(&range);
    bf_matrices_free(&all);
    return rc;
}
