/* matrix.c -- find the tensor, check its shape, put heads together. */
#include "render/matrix.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const size_t NONE = (size_t)-1;

/* A whole number from 0 to limit-1 in an index tensor. */
static bf_code read_index(size_t *out, const bf_tensor *t, size_t k, size_t limit, bf_error *err)
{
    const double v = bf_tensor_value(t, k);
    if (!(v >= 0 && v < (double)limit && v == floor(v)))
        return bf_fail(err, BF_EFORMAT,
                       "tensor %s holds %g at %zu, wanted a whole number below %zu", t->name, v, k,
                       limit);
    *out = (size_t)v;
    return BF_OK;
}

static bf_code need_vector(const bf_tensor *t, size_t n, bf_error *err)
{
    if (t->rank == 1 && t->dim[0] == n)
        return BF_OK;
    return bf_fail(err, BF_ESHAPE,
                   "tensor %s has %zu axes, the first of %zu, wanted one axis of %zu", t->name,
                   t->rank, t->rank ? t->dim[0] : 0, n);
}

bf_code bf_matrix_losses(size_t *i, const bf_record *record, size_t rows, size_t N, bf_error *err)
{
    const bf_tensor *losses = bf_record_find(record, "losses");
    if (!losses && rows != N)
        return bf_fail(err, BF_ESHAPE,
                       "the record has %zu losses for %zu positions and no tensor losses "
                       "that says which",
                       rows, N);
    bf_code rc = losses ? need_vector(losses, rows, err) : BF_OK;
    for (size_t r = 0; r < rows && !rc; r++) {
        i[r] = r;
        if (losses)
            rc = read_index(&i[r], losses, r, N, err);
    }
    return rc;
}

bf_code bf_matrix_layer(size_t *layer, const bf_record *record, size_t k, size_t count,
                        bf_error *err)
{
    const bf_tensor *layers = bf_record_find(record, "layers");
    *layer = k;
    if (!layers)
        return BF_OK;
    const bf_code rc = need_vector(layers, count, err);
    return rc ? rc : read_index(layer, layers, k, 100000, err);
}

/* "no tensor ...; the record has ..." */
static bf_code fail_missing(const bf_record *record, const char *site, const char *score,
                            bf_error *err)
{
    bf_buf list = {0};
    for (size_t k = 0; k < bf_record_count(record) && list.len < 300; k++)
        bf_buf_printf(&list, "%s%s", list.len ? ", " : "", bf_record_at(record, k)->name);
    const bf_code rc =
        bf_fail(err, BF_EARG, "the record has no tensor %.60s, nor flow.%.60s.%.60s; it has %s",
                site, site, score, list.len && !list.failed ? list.data : "none");
    bf_buf_free(&list);
    return rc;
}

/* The tensor that site and score name: its whole name, or flow.SITE.SCORE, or SITE.SCORE. */
static bf_code find_tensor(const bf_tensor **out, const bf_record *record,
                           const bf_heatmap_style *style, bf_error *err)
{
    const char *score = style->score ? style->score : "grad_norm", *site = style->site;
    char name[BF_NAME_MAX];
    if (!site)
        return bf_fail(err, BF_EARG, "no site was chosen");
    *out = bf_record_find(record, site);
    for (int k = 0; k < 2 && !*out; k++) {
        const int n = snprintf(name, sizeof name, "%s%s.%s", k ? "" : "flow.", site, score);
        if (n > 0 && (size_t)n < sizeof name)
            *out = bf_record_find(record, name);
    }
    if (!*out)
        return fail_missing(record, site, score, err);
    if (!strncmp((*out)->name, "edge.", 5))
        return bf_fail(err, BF_EARG, "%s is a list of edges, no matrix (backflow graph draws it)",
                       (*out)->name);
    if ((*out)->rank < 1 || (*out)->rank > 4)
        return bf_fail(err, BF_ESHAPE, "%s has %zu axes, wanted 1 to 4", (*out)->name,
                       (*out)->rank);
    return bf_tensor_count(*out) ? BF_OK : bf_fail(err, BF_ESHAPE, "%s is empty", (*out)->name);
}

static bool starts(const char *name, const char *with)
{
    return !strncmp(name, with, strlen(with));
}

static bool ends(const char *name, const char *with)
{
    const size_t n = strlen(name), w = strlen(with);
    return n >= w && !strcmp(name + n - w, with);
}

/* What the last two axes count, by the tensor's name (docs/record-format.md). */
static void name_axes(bf_matrix *m, const bf_tensor *t, const bf_record *record)
{
    const char *name = t->name, *mask = bf_record_meta(record, "mask");
    const bool both_ways = mask && strstr(mask, "bidirectional");
    m->shift = !bf_record_find(record, "masked");
    m->is_attn = !strcmp(name, "attn");
    m->down = m->across = BF_AXIS_NUMBER;
    if (m->is_attn || starts(name, "flow.") || starts(name, "share.") || starts(name, "param.") ||
        starts(name, "overview.")) {
        m->down = m->is_attn ? BF_AXIS_QUERY
                  : name[0] == 'o' ? BF_AXIS_BLOCK : BF_AXIS_LOSS;
        m->across = BF_AXIS_POSITION;
        m->is_causal = t->rank >= 2 && !both_ways;
    } else if (starts(name, "own") || starts(name, "future.")) {
        m->down = BF_AXIS_LEVEL;
        m->across = BF_AXIS_POSITION;
    } else if (starts(name, "weight.")) {
        m->down = BF_AXIS_LAYER;
        m->across = t->rank == 1 ? BF_AXIS_LAYER : ends(name, ".lag") ? BF_AXIS_LAG : BF_AXIS_HEAD;
    } else if (!strcmp(name, "loss") || !strcmp(name, "target") || !strcmp(name, "tokens")) {
        m->across = BF_AXIS_POSITION;
    }
}

static void name_values(bf_matrix *m, const bf_tensor *t)
{
    const char *name = t->name;
    const bool cosine = ends(name, "cosine");
    m->is_signed = ends(name, "grad_x_act") || starts(name, "share.") || cosine;
    m->together = m->is_attn || cosine ? BF_TOGETHER_MEAN
                  : strstr(name, "grad_norm") || starts(name, "weight.") ? BF_TOGETHER_NORM
                                                                         : BF_TOGETHER_SUM;
    snprintf(m->tensor, sizeof m->tensor, "%s", name);
}

/* Which of the tensor's layers is meant: *k; and its number in the model: m->layer. */
static bf_code choose_layer(size_t *k, bf_matrix *m, const bf_tensor *t, const bf_record *record,
                            long wanted, bf_error *err)
{
    *k = 0;
    m->layer = NONE;
    if (t->rank <= 2)
        return BF_OK;
    for (; *k < t->dim[0]; ++*k) {
        m->layer = *k;
        const bf_code rc = m->down == BF_AXIS_NUMBER
            ? BF_OK : bf_matrix_layer(&m->layer, record, *k, t->dim[0], err);
        if (rc || wanted < 0 || (size_t)wanted == m->layer)
            return rc;
    }
    return bf_fail(err, BF_EARG, "the record has no layer %ld of %s; it has %zu, the last is %zu",
                   wanted, t->name, t->dim[0], m->layer);
}

static bf_code choose_head(bf_matrix *m, const bf_tensor *t, long wanted, bf_error *err)
{
    m->heads = t->rank == 4 ? t->dim[1] : 0;
    m->head = wanted < 0 || !m->heads ? NONE : (size_t)wanted;
    if (m->head != NONE && m->head >= m->heads)
        return bf_fail(err, BF_EARG, "%s has heads 0 to %zu, wanted %ld", t->name, m->heads - 1,
                       wanted);
    return BF_OK;
}

/* Blocks reach as far as their last loss. */
static bf_code number_blocks(bf_matrix *m, const bf_record *record, bf_error *err)
{
    const bf_tensor *bounds = bf_record_find(record, "blocks");
    if (!bounds)
        return bf_fail(err, BF_ESHAPE, "%s needs the tensor blocks, which is not there", m->tensor);
    bf_code rc = need_vector(bounds, m->rows + 1, err);
    for (size_t r = 0; r < m->rows && !rc; r++) {
        rc = read_index(&m->i[r], bounds, r + 1, m->cols + 1, err);
        if (!rc && !m->i[r])
            rc = bf_fail(err, BF_EFORMAT, "tensor blocks holds 0 at %zu, wanted more", r + 1);
        m->i[r] -= !rc;
    }
    return rc;
}

static bf_code number_rows(bf_matrix *m, const bf_record *record, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t r = 0; r < m->rows; r++) {
        m->number[r] = r;
        m->i[r] = m->is_attn && m->is_causal ? r : m->cols - 1;
    }
    if (m->is_attn && m->rows != m->cols)
        return bf_fail(err, BF_ESHAPE, "attn has %zu queries for %zu keys", m->rows, m->cols);
    if (m->down == BF_AXIS_LOSS) {
        rc = bf_matrix_losses(m->number, record, m->rows, m->cols, err);
        if (m->is_causal)
            memcpy(m->i, m->number, m->rows * sizeof *m->i);
    } else if (m->down == BF_AXIS_BLOCK && m->is_causal) {
        rc = number_blocks(m, record, err);
    } else if (m->down == BF_AXIS_LAYER && m->rows > 1) {
        for (size_t r = 0; r < m->rows && !rc; r++)
            rc = bf_matrix_layer(&m->number[r], record, r, m->rows, err);
    }
    const char *mask = bf_record_meta(record, "mask");
    if (mask && strstr(mask, "bidirectional")) { /* no triangle: later positions are read, too */
        m->is_causal = false;
        for (size_t r = 0; r < m->rows; r++)
            m->i[r] = m->cols - 1;
    }
    return rc;
}

/* One value, heads put together. NaN passes through. */
static double read_value(const bf_matrix *m, const bf_tensor *t, size_t layer, size_t at)
{
    const size_t plane = m->rows * m->cols, heads = m->heads ? m->heads : 1;
    const size_t from = m->head != NONE ? m->head : 0, to = m->head != NONE ? m->head + 1 : heads;
    double sum = 0.0;
    for (size_t h = from; h < to; h++) {
        const double v = bf_tensor_value(t, (layer * heads + h) * plane + at);
        if (to - from == 1)
            return v;
        sum += m->together == BF_TOGETHER_NORM ? v * v : v;
    }
    return m->together == BF_TOGETHER_MEAN   ? sum / (double)heads
           : m->together == BF_TOGETHER_NORM ? sqrt(sum)
                                             : sum;
}

static bf_code read_values(bf_matrix *m, const bf_tensor *t, size_t layer, bf_error *err)
{
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j < m->cols; j++) {
            const double v = read_value(m, t, layer, r * m->cols + j);
            if (!isfinite(v))
                return bf_fail(err, BF_ENONFINITE, "%s is %g in row %zu at position %zu", t->name,
                               v, r, j);
            if (j > m->i[r] && v != 0.0)
                return bf_fail(err, BF_EFORMAT,
                               "%s is %g in row %zu (loss %zu) at the later position "
                               "%zu, wanted 0",
                               t->name, v, r, m->i[r], j);
            m->value[r * m->cols + j] = v;
            m->is_signed = m->is_signed || v < 0;
        }
    return BF_OK;
}

static void divide_rows(bf_matrix *m)
{
    for (size_t r = 0; r < m->rows; r++) {
        double sum = 0, *row = m->value + r * m->cols;
        for (size_t j = 0; j < m->cols; j++)
            sum += fabs(row[j]);
        for (size_t j = 0; j < m->cols && sum > 0; j++)
            row[j] /= sum;
    }
}

static bf_code select_one(bf_matrix *out, const bf_record *record, const bf_heatmap_style *style,
                          bf_error *err)
{
    const bf_tensor *t;
    size_t layer;
    bf_code rc = find_tensor(&t, record, style, err);
    if (rc)
        return rc;
    name_axes(out, t, record);
    name_values(out, t);
    rc = choose_layer(&layer, out, t, record, style->layer, err);
    if (!rc)
        rc = choose_head(out, t, style->head, err);
    if (rc)
        return rc;
    out->rows = t->rank > 1 ? t->dim[t->rank - 2] : 1;
    out->cols = t->dim[t->rank - 1];
    out->value = calloc(out->rows * out->cols, sizeof *out->value); /* the tensor has as many */
    out->i = calloc(out->rows, sizeof *out->i);
    out->number = calloc(out->rows, sizeof *out->number);
    if (!out->value || !out->i || !out->number)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu by %zu values", out->rows, out->cols);
    rc = number_rows(out, record, err);
    if (!rc)
        rc = read_values(out, t, layer, err);
    if (!rc && style->by_row)
        divide_rows(out);
    return rc;
}

/* ---- differences */

static bf_code same_integers(const char *name, const bf_record *a, const bf_record *b,
                             bf_error *err)
{
    const bf_tensor *x = bf_record_find(a, name), *y = bf_record_find(b, name);
    if (!x && !y)
        return BF_OK;
    if (!x || !y || bf_tensor_count(x) != bf_tensor_count(y))
        return bf_fail(err, BF_EARG,
                       "the records cannot be compared: %s has %zu values in one and %zu in the "
                       "other", name, x ? bf_tensor_count(x) : 0, y ? bf_tensor_count(y) : 0);
    for (size_t k = 0; k < bf_tensor_count(x); k++)
        if (bf_tensor_value(x, k) != bf_tensor_value(y, k))
            return bf_fail(err, BF_EARG,
                           "the records cannot be compared: %s at %zu is %.0f in one and %.0f in "
                           "the other", name, k, bf_tensor_value(x, k), bf_tensor_value(y, k));
    return BF_OK;
}

static bf_code subtract(bf_matrix *m, const bf_record *record, const bf_heatmap_style *style,
                        bf_error *err)
{
    static const char *const integers[] = {"tokens", "losses", "blocks"};
    bf_matrix other = {0};
    bf_code rc = BF_OK;
    for (size_t k = 0; k < 3 && !rc; k++)
        rc = same_integers(integers[k], record, style->minus, err);
    if (!rc)
        rc = select_one(&other, style->minus, style, err);
    if (!rc && (other.rows != m->rows || other.cols != m->cols || other.layer != m->layer ||
                other.heads != m->heads || strcmp(other.tensor, m->tensor)))
        rc = bf_fail(err, BF_EARG,
                     "the records cannot be compared: %s is %zu by %zu with %zu heads in one, %s "
                     "%zu by %zu with %zu in the other", m->tensor, m->rows, m->cols, m->heads,
                     other.tensor, other.rows, other.cols, other.heads);
    for (size_t k = 0; !rc && k < m->rows * m->cols; k++)
        m->value[k] -= other.value[k];
    m->is_signed = true;
    bf_matrix_free(&other);
    return rc;
}

bf_code bf_matrix_select(bf_matrix *out, const bf_record *record, const bf_heatmap_style *style,
                         bf_error *err)
{
    memset(out, 0, sizeof *out);
    const bf_code rc = select_one(out, record, style, err);
    return rc || !style->minus ? rc : subtract(out, record, style, err);
}

void bf_matrix_free(bf_matrix *matrix)
{
    free(matrix->value);
    free(matrix->i);
    free(matrix->number);
    matrix->value = NULL;
    matrix->i = matrix->number = NULL;
}

/* ---- small multiples */

static bf_code count(bf_matrices *out, const bf_tensor *t, const bf_heatmap_style *s, bf_error *err)
{
    out->layers = s->layers ? s->n_layers : s->all_layers && t->rank > 2 ? t->dim[0] : 1;
    out->heads = s->heads ? s->n_heads : s->all_heads && t->rank == 4 ? t->dim[1] : 1;
    const size_t plane = t->dim[t->rank - 1] * (t->rank > 1 ? t->dim[t->rank - 2] : 1);
    if ((s->layers && t->rank <= 2) || (s->heads && t->rank != 4))
        return bf_fail(err, BF_EARG, "%s has no axis of %s to draw panels of", t->name,
                       s->layers && t->rank <= 2 ? "layers" : "heads");
    if (out->layers > 1024 || out->heads > 1024 || out->layers * out->heads > 1024 ||
        plane > (1u << 26) / (out->layers * out->heads))
        return bf_fail(err, BF_EARG, "%zu by %zu panels of %zu values are too many for one figure",
                       out->layers, out->heads, plane);
    return BF_OK;
}

bf_code bf_matrices_select(bf_matrices *out, const bf_record *record, const bf_heatmap_style *style,
                           bf_error *err)
{
    const bf_tensor *t;
    bf_heatmap_style one = *style;
    *out = (bf_matrices){0};
    bf_code rc = find_tensor(&t, record, style, err);
    if (!rc)
        rc = count(out, t, style, err);
    if (rc)
        return rc;
    out->m = calloc(out->layers * out->heads, sizeof *out->m);
    if (!out->m)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu panels", out->layers * out->heads);
    for (size_t k = 0; k < out->layers * out->heads && !rc; k++) {
        const size_t l = k / out->heads, h = k % out->heads;
        size_t number = l;
        if (style->all_layers && t->rank > 2)
            rc = bf_matrix_layer(&number, record, l, t->dim[0], err);
        one.layer = style->layers ? (long)style->layers[l] : style->all_layers ? (long)number
                                                                               : style->layer;
        one.head = style->heads ? (long)style->heads[h] : style->all_heads ? (long)h : style->head;
        if (!rc)
            rc = bf_matrix_select(&out->m[k], record, &one, err);
    }
    return rc;
}

void bf_matrices_free(bf_matrices *matrices)
{
    for (size_t k = 0; matrices->m && k < matrices->layers * matrices->heads; k++)
        bf_matrix_free(&matrices->m[k]);
    free(matrices->m);
    matrices->m = NULL;
}
