/* What is measured of a unit's model, on held-out sequences of its own data. */
#include "tracer/claim_unit.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/data.h"
#include "model/model.h"

enum { MOST_VALUES = 4096 };

/* ---- texts: held-out sequences of the training's own data */

typedef struct {
    int64_t *ids;
    const int64_t **text;
    size_t *length;
    size_t n;
} sequences;

static void sequences_free(sequences *q)
{
    free(q->ids);
    free(q->text);
    free(q->length);
}

/* The true tokens of row b: what was masked is in the targets. Returns how many. */
static size_t true_tokens(int64_t *to, const bf_batch *batch, size_t b, bool masked, size_t most)
{
    size_t n = 0;
    for (size_t t = 0; t < batch->T && n < most; t++) {
        const int32_t target = batch->target[(b * batch->T + t) * batch->heads];
        to[n++] = masked && target >= 0 ? target : batch->input[b * batch->T + t];
        if (!masked && t + 1 == batch->T && target >= 0 && n < most)
            to[n++] = target;
    }
    return n;
}

static bf_code read_sequences(sequences *q, const bf_unit *u, bool masked, size_t tokens,
                              size_t documents)
{
    bf_data *data = bf_training_data(u->training);
    const size_t held = bf_data_held_out(data), split = held ? BF_SPLIT_HELD_OUT : BF_SPLIT_TRAIN;
    bf_code rc = BF_OK;
    *q = (sequences){.ids = calloc(documents * (tokens + 1), sizeof *q->ids),
                     .text = calloc(documents, sizeof *q->text),
                     .length = calloc(documents, sizeof *q->length)};
    if (!q->ids || !q->text || !q->length)
        return bf_fail(u->err, BF_ENOMEM, "cannot hold %zu texts", documents);
    for (size_t k = 0; q->n < documents && !rc && (k < held || !held); k++) {
        bf_batch batch;
        rc = bf_data_batch(&batch, data, (bf_split)split, k, u->err);
        for (size_t b = 0; !rc && b < batch.B && q->n < documents; b++) {
            int64_t *to = q->ids + q->n * (tokens + 1);
            const size_t n = batch.input ? true_tokens(to, &batch, b, masked, tokens + 1) : 0;
            if (n < tokens + 1 && (n < batch.T || n < 3))
                continue;
            q->text[q->n] = to;
            q->length[q->n++] = n;
        }
    }
    return rc || q->n
               ? rc
               : bf_fail(u->err, BF_EARG, "%s: no held-out sequences to measure on", u->group);
}

/* ---- measuring */

/* A row of "measures". */
typedef struct {
    const char *as, *value;
    size_t measure, result, tokens, documents;
    bool series;
} wanted;

static bf_code read_wanted(wanted *w, const bf_json *row, const bf_place *place, bf_error *err)
{
    const char *measure = bf_json_string(bf_json_get(row, "measure"));
    const bf_measure_info *m = NULL;
    *w = (wanted){.as = bf_json_string(bf_json_get(row, "as")),
                  .value = bf_json_string(bf_json_get(row, "value"))};
    if (!w->as || !w->value || !measure)
        return bf_place_fail(err, place, "wanted the strings \"as\", \"measure\" and \"value\"");
    while ((m = bf_measure_at(w->measure)) && strcmp(m->name, measure) != 0)
        w->measure++;
    if (!m || m->kept)
        return bf_place_fail(err, place, "no measure of models \"%.60s\"", measure);
    for (int list = 0; list < 2; list++) {
        const bf_measure_result *r = list ? m->series : m->results;
        for (size_t k = 0; k < (list ? m->n_series : m->n_results); k++)
            if (strcmp(r[k].name, w->value) == 0) {
                w->result = k;
                w->series = list == 1;
                bf_code rc = bf_json_opt_size(&w->tokens, row, "tokens", 64, err);
                if (!rc)
                    rc = bf_json_opt_size(&w->documents, row, "documents", 16, err);
                return rc || (w->tokens >= 2 && w->documents >= 1 && w->tokens <= 4096 &&
                              w->documents <= 4096)
                           ? rc
                           : bf_place_fail(err, place,
                                           "tokens %zu, documents %zu: wanted 2 to 4096, 1 to 4096",
                                           w->tokens, w->documents);
            }
    }
    return bf_place_fail(err, place, "%s has no result or series \"%.60s\"", m->name, w->value);
}

void bf_unit_number(bf_buf *to, double value)
{
    if (isfinite(value))
        bf_buf_printf(to, "%.12g", value);
    else
        bf_buf_text(to, "null");
}

/* Is it of the same run of a measure? */
static bool same_run(const wanted *a, const wanted *b)
{
    return a->measure == b->measure && a->tokens == b->tokens && a->documents == b->documents;
}

static void put_result(bf_buf *to, const bf_reading *reading, const wanted *w)
{
    if (!w->series) {
        bf_unit_number(to, reading->result[w->result].value);
        return;
    }
    const bf_series *y = &reading->series[w->result];
    bf_buf_text(to, "[");
    for (size_t k = 0; k < y->columns && k < MOST_VALUES; k++) {
        bf_buf_text(to, k ? ", " : "");
        bf_unit_number(to, y->value[k]);
    }
    bf_buf_text(to, "]");
}

/* Run the measure of w[0] on the model, and put every value of list [n] that it gives. */
static bf_code take_values(bf_buf *value, const bf_unit *u, bf_model *model, const wanted *list,
                           size_t n, const wanted *w)
{
    const bf_measure *m = bf_measure_of(w->measure);
    const bf_config *c = &model->config;
    sequences q = {0};
    double number[16] = {0};
    const char *word[16] = {NULL};
    const bf_claim_query query = {
        .memory = u->query->memory, .threads = u->query->threads, .stop = u->query->stop};
    bf_reading reading = {.result = calloc(m->info.n_results + 1, sizeof *reading.result),
                          .series = calloc(m->info.n_series + 1, sizeof *reading.series)};
    const size_t most = c->P && w->tokens > c->P ? c->P : w->tokens;
    bf_code rc = reading.result && reading.series
                     ? read_sequences(&q, u, bf_config_mask(c, 0).bidirectional, most, w->documents)
                     : bf_fail(u->err, BF_ENOMEM, "cannot hold a measure's results");
    for (size_t k = 0; k < m->info.n_params && k < 16; k++)
        number[k] = m->info.params[k].value;
    const bf_subject s = {.model = model,
                          .text = q.text,
                          .length = q.length,
                          .n_texts = q.n,
                          .number = number,
                          .word = word,
                          .seed = u->seed,
                          .query = &query};
    if (!rc)
        rc = m->run(&reading, &s, u->err);
    for (size_t k = 0; k < n && !rc; k++)
        if (same_run(&list[k], w))
            put_result(&value[k], &reading, &list[k]);
    for (size_t k = 0; reading.series && k < m->info.n_series; k++)
        bf_series_free(&reading.series[k]);
    free(reading.result);
    free(reading.series);
    sequences_free(&q);
    return rc;
}

size_t bf_unit_wants(const bf_unit *u)
{
    const bf_json *list = bf_json_get(u->row, "measures");
    return list ? bf_json_count(list) : 0;
}

static bf_code read_list(wanted *list, const bf_unit *u)
{
    const bf_json *c = bf_json_first(bf_json_get(u->row, "measures"));
    bf_code rc = BF_OK;
    for (size_t k = 0; c && !rc; c = bf_json_next(c), k++) {
        const bf_place rows = bf_place_in(&u->place, "measures", 0),
                       here = bf_place_in(&rows, NULL, k);
        rc = read_wanted(&list[k], c, &here, u->err);
    }
    return rc;
}

bf_code bf_unit_measure(bf_buf *lines, const bf_unit *u)
{
    const size_t n = bf_unit_wants(u);
    if (!n)
        return BF_OK;
    bf_model *model = NULL;
    wanted *list = calloc(n, sizeof *list);
    bf_buf *value = calloc(n, sizeof *value);
    bf_code rc = list && value ? read_list(list, u)
                               : bf_fail(u->err, BF_ENOMEM, "cannot hold %zu values", n);
    if (!rc)
        rc = bf_model_open(&model, u->folder, u->err);
    for (size_t k = 0; k < n && !rc; k++) {
        if (value[k].len)
            continue;
        bf_unit_tell(u, list[k].as, 0.99);
        rc = take_values(value, u, model, list, n, &list[k]);
    }
    for (size_t k = 0; k < n && value; k++) {
        if (!rc && value[k].data) {
            bf_buf_text(lines, value[k].data);
            bf_buf_text(lines, "\n");
        }
        bf_buf_free(&value[k]);
    }
    bf_model_free(model);
    free(value);
    free(list);
    return rc;
}
