/* report_moves.c -- what trust measured: agreement at every size, and points to draw. */
#include <math.h>

#include "base/json.h"
#include "render/report_data.h"

enum { POINTS = 250 };

static void put_numbers(bf_buf *out, const char *key, const double *value, size_t n)
{
    bf_buf_printf(out, ",\"%s\":[", key);
    for (size_t k = 0; k < n; k++) {
        bf_buf_text(out, k ? "," : "");
        bf_report_number(out, value[k]);
    }
    bf_buf_text(out, "]");
}

/* At most POINTS pairs, evenly taken: loss, position, predicted, then what happened at each size. */
static void put_points(bf_buf *out, const bf_report_move *m, size_t columns)
{
    const size_t step = (m->n + POINTS - 1) / POINTS;
    bf_buf_text(out, ",\"points\":[");
    for (size_t k = 0; k < m->n; k += step) {
        bf_buf_printf(out, "%s[%zu,%zu,", k ? "," : "", m->loss[k], m->position[k]);
        bf_report_number(out, m->predicted[k]);
        for (size_t c = 0; c < columns; c++) {
            bf_buf_text(out, ",");
            bf_report_number(out, m->real[k * columns + c]);
        }
        bf_buf_text(out, "]");
    }
    bf_buf_text(out, "]");
}

static void put_move(bf_buf *out, const bf_report_move *m, size_t columns)
{
    bf_buf_text(out, "{\"what\":");
    if (bf_json_quote(out, m->what))
        out->failed = true;
    bf_buf_printf(out, ",\"move\":");
    if (bf_json_quote(out, m->move))
        out->failed = true;
    bf_buf_printf(out, ",\"n\":%zu,\"holds\":%s,\"residual\":", m->n, m->holds ? "true" : "false");
    bf_report_number(out, m->residual);
    bf_buf_text(out, ",\"range\":");
    bf_report_number(out, m->range);
    put_numbers(out, "r", m->pearson, columns);
    put_numbers(out, "slope", m->slope, columns);
    put_points(out, m, columns);
    bf_buf_text(out, "}");
}

bf_code bf_report_put_trust(bf_buf *head, const bf_report_source *s, bf_error *err)
{
    const bf_report_extras *x = s->extras;
    if (x && x->no_trust) {
        bf_buf_text(head, ",\"no_trust\":");
        if (bf_json_quote(head, x->no_trust))
            head->failed = true;
    }
    if (!x || !x->n_moves)
        return BF_OK;
    put_numbers(head, "sizes", x->sizes, x->n_sizes);
    bf_buf_text(head, ",\"moves\":[");
    for (size_t k = 0; k < x->n_moves; k++) {
        bf_buf_text(head, k ? "," : "");
        put_move(head, &x->moves[k], x->n_sizes + 1);
    }
    bf_buf_text(head, "]");
    return head->failed ? bf_fail(err, BF_ENOMEM, "cannot hold what trust measured") : BF_OK;
}
