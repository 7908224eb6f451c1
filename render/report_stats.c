#include "render/report_stats.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "render/matrix.h"

static bf_code no_memory(size_t n, bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold the numbers of %zu positions", n);
}

/* ---- pairs */

static bf_code make_room(bf_report_stats *s, bf_error *err)
{
    s->i = calloc(s->losses, sizeof *s->i);
    s->given = calloc(s->losses, sizeof *s->given);
    s->received = calloc(s->N, sizeof *s->received);
    s->own = calloc(s->N, sizeof *s->own);
    s->lag = calloc(s->N, sizeof *s->lag);
    s->pairs = calloc(s->N, sizeof *s->pairs);
    s->order = calloc(s->N, sizeof *s->order);
    s->senders = calloc(s->losses, sizeof *s->senders);
    return s->i && s->given && s->received && s->own && s->lag && s->pairs && s->order && s->senders
               ? BF_OK
               : no_memory(s->N, err);
}

/* Cancel nothing: each pair's norm counts once, in each sum it belongs to. */
static void add_pairs(bf_report_stats *s, const bf_matrix *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        const size_t i = s->i[r] = m->number[r];
        for (size_t j = 0; j <= m->i[r]; j++) {
            const double g = m->value[r * m->cols + j];
            const size_t d = i > j ? i - j : j - i;
            s->all += g;
            s->lag[d] += g;
            s->pairs[d]++;
            if (i == j) {
                s->own[j] = g;
            } else {
                s->later += g;
                s->received[j] += g;
                s->given[r] += g;
            }
        }
    }
}

static void find_half(bf_report_stats *s)
{
    double sum = 0.0;
    for (size_t d = 1; d < s->N && s->later > 0.0 && !s->half; d++) {
        sum += s->lag[d];
        if (sum >= 0.5 * s->later)
            s->half = d;
    }
}

/* Merge sort of `order`, larger values first, lower indices first among equals; part: [n/2]. */
static void sort_order(size_t *order, size_t *part, const double *value, size_t n)
{
    if (n < 2)
        return;
    const size_t half = n / 2;
    sort_order(order, part, value, half);
    sort_order(order + half, part, value, n - half);
    memcpy(part, order, half * sizeof *part);
    for (size_t a = 0, b = half, k = 0; a < half; k++)
        order[k] = b < n && value[order[b]] > value[part[a]] ? order[b++] : part[a++];
}

static bf_code rank(size_t *order, const double *value, size_t n, bf_error *err)
{
    size_t *part = calloc(n, sizeof *part);
    if (!part)
        return no_memory(n, err);
    for (size_t k = 0; k < n; k++)
        order[k] = k;
    sort_order(order, part, value, n);
    free(part);
    return BF_OK;
}

/* ---- other tensors */

static bf_code average_losses(bf_report_stats *s, const bf_record *record, bf_error *err)
{
    const bf_tensor *loss = bf_record_find(record, "loss");
    double sum = 0.0;
    if (!loss || loss->rank != 1 || loss->dim[0] != s->N)
        return bf_fail(err, BF_ESHAPE, "%s, wanted one loss for each of %zu positions",
                       loss ? "tensor \"loss\" has another shape" : "no tensor \"loss\"", s->N);
    for (size_t k = 0; k < s->losses; k++)
        sum += bf_tensor_value(loss, s->i[k]);
    s->mean_loss = sum / (double)s->losses;
    return isfinite(s->mean_loss)
               ? BF_OK
               : bf_fail(err, BF_ENONFINITE, "the mean of tensor \"loss\" is not finite");
}

/* How much is left when the later losses' gradients are added as vectors. */
static void compare_vectors(bf_report_stats *s, const bf_record *record)
{
    const bf_tensor *future = bf_record_find(record, "future.grad_norm");
    double sum = 0.0;
    s->cancelled = -1.0;
    if (!future || future->rank != 2 || future->dim[0] < 1 || future->dim[1] != s->N ||
        s->later <= 0.0)
        return;
    for (size_t j = 0; j < s->N; j++)
        sum += bf_tensor_value(future, j);
    if (isfinite(sum) && sum >= 0.0)
        s->cancelled = sum / s->later;
}

static size_t count_query_heads(const bf_record *record)
{
    const bf_tensor *t = bf_record_find(record, "attn");
    if (!t)
        t = bf_record_find(record, "flow.z.grad_norm");
    return t && t->rank == 4 ? t->dim[1] : 0;
}

static bf_code add_head(bf_report_stats *s, const bf_record *record, size_t k, size_t h,
                        bf_error *err)
{
    const bf_heatmap_style style = {.site = "v",
                                    .score = "grad_norm",
                                    .layer = (long)s->layer[k],
                                    .head = (long)h};
    bf_matrix m = {0};
    const bf_code rc = bf_matrix_select(&m, record, &style, err);
    double sum = 0.0;
    for (size_t r = 0; r < m.rows && !rc; r++)
        for (size_t j = 0; j <= m.i[r]; j++)
            sum += j == m.number[r] ? 0.0 : m.value[r * m.cols + j];
    bf_matrix_free(&m);
    const size_t at = k * s->heads + h;
    s->head[at] = sum;
    s->head_total += sum;
    if (sum > s->head[s->best])
        s->best = at;
    return rc;
}

static bf_code add_heads(bf_report_stats *s, const bf_record *record, bf_error *err)
{
    const bf_tensor *v = bf_record_find(record, "flow.v.grad_norm");
    bf_code rc = BF_OK;
    if (!v || v->rank != 4 || !v->dim[0] || !v->dim[1])
        return BF_OK;
    s->layers = v->dim[0];
    s->heads = v->dim[1];
    s->query_heads = count_query_heads(record);
    s->layer = calloc(s->layers, sizeof *s->layer);
    s->head =
        s->heads <= SIZE_MAX / s->layers ? calloc(s->layers * s->heads, sizeof *s->head) : NULL;
    if (!s->layer || !s->head)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu layers of %zu heads", s->layers, s->heads);
    for (size_t k = 0; k < s->layers && !rc; k++) {
        rc = bf_matrix_layer(&s->layer[k], record, k, s->layers, err);
        for (size_t h = 0; h < s->heads && !rc; h++)
            rc = add_head(s, record, k, h, err);
    }
    return rc;
}

bf_code bf_report_stats_make(bf_report_stats *s, const bf_record *record, bf_error *err)
{
    const bf_heatmap_style style = {.site = "resid_pre",
                                    .score = "grad_norm",
                                    .layer = 0,
                                    .head = -1};
    bf_matrix m = {0};
    *s = (bf_report_stats){0};
    bf_code rc = bf_matrix_select(&m, record, &style, err);
    if (!rc && (!m.rows || !m.cols))
        rc = bf_fail(err, BF_ESHAPE, "the record holds no loss");
    s->N = m.cols;
    s->losses = m.rows;
    if (!rc)
        rc = make_room(s, err);
    if (!rc) {
        add_pairs(s, &m);
        find_half(s);
        rc = rank(s->order, s->received, s->N, err);
    }
    bf_matrix_free(&m);
    if (!rc)
        rc = rank(s->senders, s->given, s->losses, err);
    if (!rc)
        rc = average_losses(s, record, err);
    if (!rc) {
        compare_vectors(s, record);
        rc = add_heads(s, record, err);
    }
    return rc;
}

void bf_report_stats_free(bf_report_stats *s)
{
    free(s->i);
    free(s->given);
    free(s->received);
    free(s->own);
    free(s->lag);
    free(s->pairs);
    free(s->order);
    free(s->senders);
    free(s->layer);
    free(s->head);
    *s = (bf_report_stats){0};
}
