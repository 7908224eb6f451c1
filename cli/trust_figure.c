/* trust_figure.c -- what trust found, as a figure: a panel a kind of move and size, and curves. */
#include "cli/trust.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { COLUMNS = BF_TRUST_MAX_SIZES + 1 };

typedef struct {
    const bf_trust *trust;
    bf_scatter_panel *panels;  /* [n_rows, n_sizes + 1] */
    double *y;                 /* [n_sizes + 1][pairs] of every row, one after the other */
    bool *own;                 /* [pairs] */
    char (*names)[40];         /* [n_rows] */
    const char **rows;
    char size[COLUMNS][40];
    const char *columns[COLUMNS];
    char label[2][BF_TRUST_METHODS][40];
    const char *labels[2][BF_TRUST_METHODS];
    const double *lines[2][BF_TRUST_METHODS];
    bf_scatter_chart charts[2];
} figure;

/* Changes divided by t: a linear change stays where it is from panel to panel. */
static void fill_panels(figure *f)
{
    const bf_trust *t = f->trust;
    const size_t columns = t->n_sizes + 1;
    double *y = f->y;
    bool *own = f->own;
    for (size_t r = 0; r < t->n_rows; r++) {
        const bf_trust_row *row = &t->rows[r];
        for (size_t k = 0; k < row->n; k++)
            own[k] = row->position[k] == row->loss[k];
        for (size_t s = 0; s < columns; s++, y += row->n) {
            for (size_t k = 0; k < row->n; k++)
                y[k] = row->real[k * columns + s] / (s ? t->sizes[s - 1] : 1.0);
            f->panels[r * columns + s] = (bf_scatter_panel){row->n, row->predicted, y, own,
                                                            row->all[s].pearson, row->all[s].slope};
        }
        own += row->n;
        snprintf(f->names[r], sizeof f->names[r], "%s %s", row->what, row->move);
        f->rows[r] = f->names[r];
    }
    for (size_t s = 0; s < columns; s++) {
        char number[24];
        cli_size_of_move(number, s ? t->sizes[s - 1] : 0.0, "");
        snprintf(f->size[s], sizeof f->size[s], s ? "t = %.18s" : "t → 0%.18s", number);
        f->columns[s] = f->size[s];
    }
}

static void fill_charts(figure *f)
{
    const bf_trust *t = f->trust;
    for (size_t side = 0; side < 2; side++) {
        for (size_t k = 0; k < t->n_curves; k++) {
            const bf_trust_curve *c = &t->curves[k];
            snprintf(f->label[side][k], sizeof f->label[side][k], "%.15s, mean %.2f", c->method,
                     side ? c->insertion_auc : c->deletion_auc);
            f->labels[side][k] = f->label[side][k];
            f->lines[side][k] = side ? c->insertion : c->deletion;
        }
        f->charts[side] = (bf_scatter_chart){
            .title = side ? "Insertion: lower is better" : "Deletion: higher is better",
            .x_name = side ? "part of the positions that is kept, highest first"
                           : "part of the positions that is removed, highest first",
            .y_name = "change of the loss, nats",
            .n_lines = t->n_curves,
            .n_points = t->n_steps + 1,
            .names = f->labels[side],
            .lines = f->lines[side],
            .low = side ? t->random_insertion[0] : t->random_deletion[0],
            .high = side ? t->random_insertion[1] : t->random_deletion[1]};
    }
}

static bf_code take(figure *f, const bf_trust *trust, bf_error *err)
{
    const size_t columns = trust->n_sizes + 1;
    size_t pairs = 1;
    *f = (figure){.trust = trust};
    for (size_t k = 0; k < trust->n_rows; k++)
        pairs += trust->rows[k].n;
    f->panels = calloc(trust->n_rows * columns, sizeof *f->panels);
    f->y = calloc(pairs, columns * sizeof *f->y);
    f->own = calloc(pairs, sizeof *f->own);
    f->names = calloc(trust->n_rows, sizeof *f->names);
    f->rows = calloc(trust->n_rows, sizeof *f->rows);
    return f->panels && f->y && f->own && f->names && f->rows
               ? BF_OK
               : bf_fail(err, BF_ENOMEM, "cannot hold a figure of %zu pairs", pairs);
}

static void release(figure *f)
{
    free(f->panels);
    free(f->y);
    free(f->own);
    free(f->names);
    free(f->rows);
}

bf_code cli_draw_trust(const bf_trust *trust, const bf_record *record, const bf_look *look,
                       const char *path, bf_error *err)
{
    figure f;
    bf_buf title = {0}, note = {0};
    const char *model = bf_record_meta(record, "model");
    bf_code rc = take(&f, trust, err);
    bf_buf_printf(&title, "%.100s · what the flow predicts and what happens when a vector is moved",
                  model ? model : "a model");
    bf_buf_printf(
        &note,
        "%zu positions; every point is a loss and a moved vector; changes of the %s divided "
        "by the size t of the move, nats; both axes symmetric log, nearly linear within 1/1000 of "
        "their end; the diagonal is equality; %s",
        bf_tensor_count(bf_record_find(record, "tokens")) - 1,
        bf_record_meta(record, "target") ? "target" : "loss",
        trust->holds ? "the record holds" : "THE RECORD DOES NOT HOLD");
    if (!rc && (title.failed || note.failed))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the title");
    if (!rc) {
        fill_panels(&f);
        fill_charts(&f);
        const bf_scatter what = {.title = title.data,
                                 .note = note.data,
                                 .x_name = "predicted / t",
                                 .y_name = "real / t",
                                 .names = {"a later token's loss", "the position's own loss"},
                                 .n_rows = trust->n_rows,
                                 .n_columns = trust->n_sizes + 1,
                                 .rows = f.rows,
                                 .columns = f.columns,
                                 .panels = f.panels,
                                 .n_charts = trust->n_curves ? 2 : 0,
                                 .charts = f.charts,
                                 .look = *look};
        rc = bf_render_scatter(&what, path, err);
    }
    release(&f);
    bf_buf_free(&title);
    bf_buf_free(&note);
    return rc;
}
