/* report_carry.c -- by which heads and paths the flow to earlier positions comes, for each loss and
 * for each source: sums over pairs of share * |g_ij| at resid_pre of each layer. */
#include <stdlib.h>

#include "render/report_data.h"
#include "render/report_pack.h"

typedef struct {
    const bf_tensor *norm, *path[3], *mlp, *skip; /* path: q, k, v */
    size_t heads, columns;                        /* 3 heads + mlp, skip, all */
} shares;

static bool find_shares(shares *f, const bf_report_source *s)
{
    static const char *const names[] = {"share.q", "share.k", "share.v"};
    f->norm = bf_record_find(s->record, "flow.resid_pre.grad_norm");
    f->mlp = bf_record_find(s->record, "share.mlp");
    f->skip = bf_record_find(s->record, "share.skip");
    for (size_t p = 0; p < 3; p++) {
        f->path[p] = bf_record_find(s->record, names[p]);
        if (!f->path[p] || f->path[p]->rank != 4 || f->path[p]->dim[1] != f->path[0]->dim[1] ||
            f->path[p]->dim[0] != s->layers || f->path[p]->dim[2] != s->rows ||
            f->path[p]->dim[3] != s->N)
            return false;
    }
    const size_t n = s->layers * s->rows * s->N;
    f->heads = f->path[0]->dim[1];
    f->columns = 3 * f->heads + 3;
    return f->mlp && f->skip && bf_tensor_count(f->mlp) == n && bf_tensor_count(f->skip) == n &&
           bf_tensor_count(f->norm) == n;
}

/* Add what comes by one path at all pairs of one layer: to loss [rows] and source [N]. */
static void add(double *loss, double *source, const bf_report_source *s, const shares *f,
                size_t layer, const bf_tensor *share, size_t plane)
{
    for (size_t r = 0; r < s->rows; r++) {
        const size_t end = s->full ? s->N : s->i[r];
        for (size_t j = 0; j < end; j++) {
            const size_t at = r * s->N + j;
            double flow = bf_tensor_value(f->norm, layer * s->rows * s->N + at);
            if (j == s->i[r] || flow == 0.0)
                continue;
            if (share)
                flow *= bf_tensor_value(share, plane * s->rows * s->N + at);
            loss[r] += flow;
            source[j] += flow;
        }
    }
}

static void add_layer(double *loss, double *source, const bf_report_source *s, const shares *f,
                      size_t l)
{
    const size_t H = f->heads, first = l * f->columns;
    for (size_t c = 0; c < f->columns; c++) {
        const bf_tensor *share = c < 3 * H ? f->path[c / H] : c == 3 * H ? f->mlp
                                 : c == 3 * H + 1                        ? f->skip
                                                                         : NULL;
        add(loss + (first + c) * s->rows, source + (first + c) * s->N, s, f, l, share,
            c < 3 * H ? l * H + c % H : l);
    }
}

bf_code bf_report_put_carry(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err)
{
    shares f = {0};
    if (!find_shares(&f, s))
        return BF_OK;
    const size_t n = s->layers * f.columns; /* tensors of [n / 3, rows, N] exist: no overflow */
    double *loss = calloc(n * s->rows, sizeof *loss), *source = calloc(n * s->N, sizeof *source);
    bf_code rc = loss && source ? BF_OK
                                : bf_fail(err, BF_ENOMEM, "cannot hold the parts of %zu heads",
                                          s->layers * f.heads);
    for (size_t l = 0; l < s->layers && !rc; l++)
        add_layer(loss, source, s, &f, l);
    if (!rc) {
        bf_report_open(out, "carry_loss", (size_t)-1);
        rc = bf_pack_floats(out, loss, n * s->rows, err);
        bf_report_close(out);
    }
    if (!rc) {
        bf_report_open(out, "carry_source", (size_t)-1);
        rc = bf_pack_floats(out, source, n * s->N, err);
        bf_report_close(out);
        bf_buf_printf(head, ",\"heads\":%zu", f.heads);
    }
    free(loss);
    free(source);
    return rc;
}
