/* Training what verdicts rest on: a list of units, each a training and what is measured of its
 * model, each one small file when it is done.
 *
 * units.json: [{"group": "heads-2", "config": "heads-2.json", "seeds": [1, 2], "per": 0.3, "at":
 * [10, 100], "measures": [{"as": "future", "measure": "own_future", "value": "future", "tokens":
 * 64, "documents": 16}]}] "config" is a CONFIG.json of backflow train; "at" measures after so many
 * steps, too, as lists; "per" divides the held-out loss ("loss_per_p"); "value" is a result or a
 * series of the measure. */
#include "tracer/claim.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "backflow/train.h"
#include "base/clock.h"
#include "model/data.h"
#include "model/files.h"
#include "model/model.h"

enum { FILE_LIMIT = 1 << 20, MOST_VALUES = 4096 };

typedef struct {
    const bf_full_query *query;
    const bf_json *row; /* of units.json */
    bf_place place;
    const char *group;
    size_t seed;
    char folder[900], result[900]; /* work; the file that says it is done */
    bf_training *training;
    bf_buf values;  /* "name": number or list, with commas */
    bf_buf *curves; /* [measures] numbers at steps so far */
    bf_error *err;
} unit;

static void tell(const unit *u, const char *words, double done)
{
    char line[300];
    snprintf(line, sizeof line, "%.100s, seed %zu: %.150s", u->group, u->seed, words);
    if (u->query->tell)
        u->query->tell(u->query->tell_context, line, done);
}

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

static bf_code read_sequences(sequences *q, const unit *u, bool masked, size_t tokens,
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

static void put_number(bf_buf *to, double value)
{
    if (isfinite(value))
        bf_buf_printf(to, "%.12g", value);
    else
        bf_buf_text(to, "null");
}

/* The number, or the series' first row, of the model as it is now. */
static bf_code take_value(bf_buf *to, const unit *u, bf_model *model, const wanted *w)
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
    if (!rc && !w->series) {
        put_number(to, reading.result[w->result].value);
    } else if (!rc) {
        const bf_series *y = &reading.series[w->result];
        bf_buf_text(to, "[");
        for (size_t k = 0; k < y->columns && k < MOST_VALUES; k++) {
            bf_buf_text(to, k ? ", " : "");
            put_number(to, y->value[k]);
        }
        bf_buf_text(to, "]");
    }
    for (size_t k = 0; reading.series && k < m->info.n_series; k++)
        bf_series_free(&reading.series[k]);
    free(reading.result);
    free(reading.series);
    sequences_free(&q);
    return rc;
}

static size_t wanted_count(const unit *u)
{
    const bf_json *list = bf_json_get(u->row, "measures");
    return list ? bf_json_count(list) : 0;
}

/* All wanted values of the model in the unit's folder, each on a line of its own. */
static bf_code measure(bf_buf *lines, const unit *u)
{
    const bf_json *list = bf_json_get(u->row, "measures");
    bf_model *model = NULL;
    size_t k = 0;
    bf_code rc = wanted_count(u) ? bf_model_open(&model, u->folder, u->err) : BF_OK;
    for (const bf_json *c = model ? bf_json_first(list) : NULL; c && !rc;
         c = bf_json_next(c), k++) {
        const bf_place rows = bf_place_in(&u->place, "measures", 0),
                       here = bf_place_in(&rows, NULL, k);
        wanted w;
        rc = read_wanted(&w, c, &here, u->err);
        if (rc)
            break;
        tell(u, w.as, 0.99);
        rc = take_value(lines, u, model, &w);
        bf_buf_text(lines, "\n");
    }
    bf_model_free(model);
    return rc;
}

/* Append line k to curve k. */
static void add_lines(unit *u, const bf_buf *lines)
{
    const char *at = lines->data ? lines->data : "";
    for (size_t k = 0; k < wanted_count(u); k++) {
        const size_t n = strcspn(at, "\n");
        bf_buf_text(&u->curves[k], u->curves[k].len ? ", " : "");
        if (n)
            bf_buf_bytes(&u->curves[k], at, n);
        else
            bf_buf_text(&u->curves[k], "null");
        at += n + (at[n] == '\n');
    }
}

/* The last values, and, if there were some on the way, the curves that end with them. */
static bf_code measure_end(unit *u)
{
    const bf_json *c = bf_json_get(u->row, "measures");
    const bool curves = wanted_count(u) && u->curves[0].len;
    bf_buf lines = {0};
    const bf_code rc = measure(&lines, u);
    const char *at = lines.data ? lines.data : "";
    if (!rc)
        add_lines(u, &lines);
    c = c ? bf_json_first(c) : NULL;
    for (size_t k = 0; c && !rc; c = bf_json_next(c), k++) {
        const char *as = bf_json_string(bf_json_get(c, "as"));
        const size_t n = strcspn(at, "\n");
        bf_buf_text(&u->values, ", ");
        bf_json_quote(&u->values, as);
        bf_buf_text(&u->values, ": ");
        bf_buf_bytes(&u->values, at, n);
        if (curves)
            bf_buf_printf(&u->values, ", \"%.60s_curve\": [%s]", as, u->curves[k].data);
        at += n + (at[n] == '\n');
    }
    bf_buf_free(&lines);
    return rc;
}

/* ---- training */

static void say_step(void *context, const bf_train_state *s)
{
    char words[120];
    snprintf(words, sizeof words, "step %zu of %zu, loss %.4f, %.0f tokens/s", s->step, s->steps,
             s->loss, s->tokens_per_second);
    tell(context, words, (double)s->step / (double)s->steps * 0.98);
}

static bf_code train_until(unit *u, size_t step, bf_train_state *state)
{
    bf_train_config *config = bf_training_config(u->training);
    config->threads = u->query->threads;
    config->until = step;
    bf_code rc = bf_train(u->folder, config, bf_training_data(u->training), true, state, say_step,
                          u, u->query->stop, u->err);
    if (rc == BF_EINTERRUPTED && step && state->step >= step &&
        !(u->query->stop && *u->query->stop))
        rc = BF_OK;
    return rc;
}

/* Where the values after so many steps are kept while the unit is at work: a run that resumes is
 * past them. */
static void halfway_path(char path[1000], const unit *u, size_t step)
{
    snprintf(path, 1000, "%s.at-%zu", u->folder, step);
}

static bf_code halfway(unit *u, size_t step, bf_train_state *state)
{
    char path[1000];
    bf_buf lines = {0};
    bf_code rc = BF_OK;
    halfway_path(path, u, step);
    if (bf_path_exists(path)) {
        rc = bf_file_read(&lines, path, FILE_LIMIT, u->err);
    } else {
        rc = train_until(u, step, state);
        if (!rc && state->step == step) { /* beyond it there is nothing to measure: null */
            rc = measure(&lines, u);
            if (!rc)
                rc = lines.failed ? bf_fail(u->err, BF_ENOMEM, "cannot hold curves")
                                  : bf_file_write(path, lines.data, lines.len, u->err);
        }
    }
    if (!rc)
        add_lines(u, &lines);
    bf_buf_free(&lines);
    return rc;
}

static bf_code train(unit *u, bf_train_state *state)
{
    const bf_json *at = bf_json_get(u->row, "at");
    size_t step;
    bf_code rc = BF_OK;
    u->curves = calloc(wanted_count(u) + 1, sizeof *u->curves);
    if (!u->curves)
        return bf_fail(u->err, BF_ENOMEM, "cannot hold curves");
    for (const bf_json *c = at ? bf_json_first(at) : NULL; c && !rc; c = bf_json_next(c)) {
        const bf_place here = bf_place_in(&u->place, "at", 0);
        if (!bf_json_size(c, &step) || step == 0)
            return bf_place_fail(u->err, &here, "wanted whole numbers above 0");
        rc = halfway(u, step, state);
    }
    return rc ? rc : train_until(u, 0, state);
}

/* The unit is done: what was kept for it on the way goes. */
static void remove_halfway(const unit *u)
{
    const bf_json *at = bf_json_get(u->row, "at");
    size_t step;
    char path[1000];
    for (const bf_json *c = at ? bf_json_first(at) : NULL; c; c = bf_json_next(c))
        if (bf_json_size(c, &step)) {
            halfway_path(path, u, step);
            unlink(path);
        }
}

/* ---- results */

static bf_code write_result(unit *u, const bf_train_state *state, double seconds)
{
    char machine[200], date[40] = "";
    double per = 0.0;
    const time_t now = time(NULL);
    struct tm day;
    bf_buf to = {0};
    bf_machine_words(machine);
    if (gmtime_r(&now, &day))
        strftime(date, sizeof date, "%Y-%m-%d", &day);
    bf_buf_text(&to, "{\"group\": ");
    bf_json_quote(&to, u->group);
    bf_buf_printf(&to, ", \"seed\": %zu,\n \"results\": {\"loss\": ", u->seed);
    put_number(&to, state->loss);
    bf_buf_text(&to, ", \"held_out\": ");
    put_number(&to, state->held_out);
    if (bf_json_number(bf_json_get(u->row, "per"), &per) && per > 0.0) {
        bf_buf_text(&to, ", \"loss_per_p\": ");
        put_number(&to, state->held_out / per);
    }
    bf_buf_bytes(&to, u->values.data ? u->values.data : "", u->values.len);
    bf_buf_printf(&to, "},\n \"steps\": %zu, \"config\": ", state->steps);
    bf_json_quote(&to, bf_json_string(bf_json_get(u->row, "config")));
    bf_buf_text(&to, ", \"command\": ");
    bf_json_quote(&to, u->query->command ? u->query->command : "");
    bf_buf_text(&to, ",\n \"machine\": ");
    bf_json_quote(&to, machine);
    bf_buf_printf(&to, ", \"date\": \"%s\", \"seconds\": %.1f}\n", date, seconds);
    const bf_code rc = to.failed || u->values.failed
                           ? bf_fail(u->err, BF_ENOMEM, "cannot hold a result")
                           : bf_file_write(u->result, to.data, to.len, u->err);
    bf_buf_free(&to);
    return rc;
}

/* The files that a training leaves; what else stands there stays, and the folder with it. */
static void remove_training(const char *folder)
{
    static const char *const names[] = {
        "config.json", "model.safetensors",     "tokenizer.json",   "checkpoint.safetensors",
        "log.jsonl",   "tokenizer_config.json", "heads.safetensors"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char *path = bf_path_join(folder, names[k]);
        if (path)
            unlink(path);
        free(path);
    }
    rmdir(folder);
}

static bf_code make_folder(const char *path, bf_error *err)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return BF_OK;
    return bf_fail(err, BF_EIO, "%.300s: cannot make the folder: %s", path, strerror(errno));
}

static bf_code run_unit(unit *u, const char *config)
{
    const double start = bf_seconds();
    bf_train_state state = {0};
    bf_code rc = bf_training_open(&u->training, config, u->err);
    if (!rc)
        rc = bf_training_seed(u->training, u->seed, u->err);
    if (!rc)
        rc = train(u, &state);
    if (!rc)
        rc = measure_end(u);
    if (!rc)
        rc = write_result(u, &state, bf_seconds() - start);
    if (!rc) {
        remove_training(u->folder);
        remove_halfway(u);
        tell(u, "done", 1.0);
    }
    for (size_t k = 0; u->curves && k < wanted_count(u); k++)
        bf_buf_free(&u->curves[k]);
    free(u->curves);
    bf_buf_free(&u->values);
    bf_training_free(u->training);
    return rc;
}

static bf_code run_group(const bf_full_query *q, const bf_json *row, const bf_place *place,
                         bf_error *err)
{
    const char *group = bf_json_string(bf_json_get(row, "group")),
               *config = bf_json_string(bf_json_get(row, "config"));
    const bf_json *seeds = bf_json_get(row, "seeds");
    size_t n = 0;
    bf_code rc = BF_OK;
    if (!group || !config || !seeds || strchr(group, '/') || strlen(group) > 60)
        return bf_place_fail(
            err, place, "wanted \"group\" (a name), \"config\" (a file) and \"seeds\" (a list)");
    if (q->only && strncmp(group, q->only, strlen(q->only)) != 0)
        return BF_OK;
    char *path = bf_path_join(q->folder, config);
    if (!path)
        return bf_fail(err, BF_ENOMEM, "cannot hold a path");
    for (const bf_json *c = bf_json_first(seeds); c && !rc; c = bf_json_next(c)) {
        unit u = {.query = q, .row = row, .place = *place, .group = group, .err = err};
        if (!bf_json_size(c, &u.seed)) {
            rc = bf_place_fail(err, place, "\"seeds\" wants whole numbers");
            break;
        }
        if (q->seeds && n++ >= q->seeds)
            break;
        snprintf(u.folder, sizeof u.folder, "%.700s/%s-%zu", q->work, group, u.seed);
        snprintf(u.result, sizeof u.result, "%.700s/%s-%zu.json", q->results, group, u.seed);
        if (!bf_path_exists(u.result))
            rc = run_unit(&u, path);
    }
    free(path);
    return rc;
}

bf_code bf_claims_train(const bf_full_query *query, bf_error *err)
{
    bf_json *list = NULL;
    size_t k = 0;
    char *path = bf_path_join(query->folder, "units.json");
    bf_code rc = path ? bf_json_read(&list, path, FILE_LIMIT, err)
                      : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    const bf_place top = {.path = path};
    if (!rc && bf_json_kind(list) != BF_JSON_ARRAY)
        rc = bf_place_fail(err, &top, "wanted a list of units");
    if (!rc)
        rc = make_folder(query->results, err);
    if (!rc)
        rc = make_folder(query->work, err);
    for (const bf_json *c = rc ? NULL : bf_json_first(list); c && !rc; c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&top, NULL, k);
        rc = run_group(query, c, &here, err);
    }
    if (!rc)
        rmdir(query->work); /* if it is empty */
    bf_json_free(list);
    free(path);
    return rc;
}
