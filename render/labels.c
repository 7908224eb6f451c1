#include "render/labels.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "render/text.h"

enum { COLUMNS = 14 };                              /* longer tokens are cut */
static const double SMALLEST = 4.8, LARGEST = 7.5;  /* points */
static const double LINE = 1.12;                    /* room for a label, in sizes */
static const double TICK = 2.0, GAP = 1.2;          /* points */
static const uint32_t INK = 0x222222, FAINT = 0x777777;

/* The least of 1, 2, 5, 10, 20, ... that gives each label its room. */
static size_t choose_step(double cell, double size)
{
    size_t step = 1;
    for (int k = 0; (double)step * cell < size * LINE && k < 30; k++)
        step = k % 3 == 1 ? step / 2 * 5 : step * 2; /* 1 2 5 10 20 50 */
    return step;
}

static bf_type label_type(const bf_labels *labels)
{
    return (bf_type){.size = labels->size, .rgb = INK, .along = 1, .across = 0.5};
}

/* The bound of a block, clear of what the file may hold. */
static size_t bound(const bf_record *record, size_t k)
{
    const bf_tensor *t = bf_record_find(record, "blocks");
    const double v = t && t->rank == 1 && k < t->dim[0] ? bf_tensor_value(t, k) : 0;
    return v > 0 && v < 1e9 ? (size_t)v : 0;
}

void bf_labels_name(bf_buf *out, const bf_cells *cells, size_t k, bool with_number)
{
    static const char *const lags[] = {"0", "1", "2–3", "4–7", "8–15", "16–31", "32+"};
    const size_t number = cells->number ? cells->number[k] : k;
    const bool loss = cells->axis == BF_AXIS_LOSS;
    if (loss || cells->axis == BF_AXIS_QUERY || cells->axis == BF_AXIS_POSITION) {
        bf_text_isolated(out, cells->record, number + (loss ? cells->shift : 0), COLUMNS);
        if (with_number)
            bf_buf_printf(out, " %zu", number);
    } else if (cells->axis == BF_AXIS_BLOCK) {
        const size_t from = bound(cells->record, number), to = bound(cells->record, number + 1);
        bf_buf_printf(out, to > from + 1 ? "%zu–%zu" : "%zu", from, to ? to - 1 : 0);
    } else if (cells->axis == BF_AXIS_LAG && number < 7) {
        bf_buf_text(out, lags[number]);
    } else if (cells->axis == BF_AXIS_LEVEL && k + 1 == cells->n) {
        bf_buf_text(out, "final");
    } else {
        bf_buf_printf(out, "%zu", number);
    }
}

bf_code bf_labels_make(bf_labels *out, bf_canvas *canvas, const bf_cells *cells, double cell,
                       bf_error *err)
{
    const size_t n = cells->n;
    memset(out, 0, sizeof *out);
    out->n = n;
    out->size = fmax(SMALLEST, fmin(LARGEST, cell / LINE));
    out->step = choose_step(cell, out->size);
    out->from = calloc(n, sizeof *out->from);
    for (size_t k = 0; out->from && k < n; k += out->step) {
        out->from[k] = out->text.len;
        bf_labels_name(&out->text, cells, k, cells->numbered || out->step > 1);
        bf_buf_bytes(&out->text, "", 1);
    }
    if (!out->from || out->text.failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu labels", n);
    const bf_type type = label_type(out);
    for (size_t k = 0; k < n; k += out->step) {
        double width;
        bf_canvas_measure(canvas, out->text.data + out->from[k], &type, &width, NULL);
        out->longest = fmax(out->longest, width + TICK + GAP);
    }
    return BF_OK;
}

void bf_labels_free(bf_labels *labels)
{
    bf_buf_free(&labels->text);
    free(labels->from);
    labels->from = NULL;
}

void bf_labels_rows(bf_canvas *canvas, const bf_labels *labels, double x, double y, double cell)
{
    const bf_type type = label_type(labels);
    for (size_t k = 0; k < labels->n; k += labels->step) {
        const double middle = y + ((double)k + 0.5) * cell;
        const double tick[] = {x - TICK, middle, x, middle};
        bf_canvas_lines(canvas, tick, 2, false, 0.35, FAINT);
        bf_canvas_text(canvas, labels->text.data + labels->from[k], x - TICK - GAP, middle, &type);
    }
}

void bf_labels_columns(bf_canvas *canvas, const bf_labels *labels, double x, double y, double cell)
{
    bf_type type = label_type(labels);
    type.turned = true;
    for (size_t k = 0; k < labels->n; k += labels->step) {
        const double middle = x + ((double)k + 0.5) * cell;
        const double tick[] = {middle, y, middle, y + TICK};
        bf_canvas_lines(canvas, tick, 2, false, 0.35, FAINT);
        bf_canvas_text(canvas, labels->text.data + labels->from[k], middle, y + TICK + GAP, &type);
    }
}
