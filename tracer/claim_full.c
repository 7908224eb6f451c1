/* Training what verdicts rest on: a list of units, each a training and what is measured of its
 * model, each one small file when it is done.
 *
 * units.json: [{"group": "heads-2", "config": "heads-2.json", "seeds": [1, 2], "per": 0.3, "at":
 * [10, 100], "measures": [{"as": "future", "measure": "own_future", "value": "future", "tokens":
 * 64, "documents": 16}]}] "config" is a CONFIG.json of backflow train; "at" measures after so many
 * steps, too, as lists; "per" divides the held-out loss ("loss_per_p"); "value" is a result or a
 * series of the measure. Results are "loss", and as far as they are known "held_out", "right" and the
 * "probe" of bf_train_state, too. */
#include "tracer/claim_unit.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/files.h"

enum { FILE_LIMIT = 1 << 20 };

void bf_unit_tell(const bf_unit *u, const char *words, double done)
{
    char line[300];
    snprintf(line, sizeof line, "%.100s, seed %zu: %.150s", u->group, u->seed, words);
    if (u->query->tell)
        u->query->tell(u->query->tell_context, line, done);
}

/* Append line k to curve k. */
static void add_lines(bf_unit *u, const bf_buf *lines)
{
    const char *at = lines->data ? lines->data : "";
    for (size_t k = 0; k < bf_unit_wants(u); k++) {
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
static bf_code measure_end(bf_unit *u)
{
    const bf_json *c = bf_json_get(u->row, "measures");
    const bool curves = bf_unit_wants(u) && u->curves[0].len;
    bf_buf lines = {0};
    const bf_code rc = bf_unit_measure(&lines, u);
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
    bf_unit_tell(context, words, (double)s->step / (double)s->steps * 0.98);
}

static bf_code train_until(bf_unit *u, size_t step, bf_train_state *state)
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
static void halfway_path(char path[1000], const bf_unit *u, size_t step)
{
    snprintf(path, 1000, "%s.at-%zu", u->folder, step);
}

static bf_code halfway(bf_unit *u, size_t step, bf_train_state *state)
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
            rc = bf_unit_measure(&lines, u);
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

static bf_code train(bf_unit *u, bf_train_state *state)
{
    const bf_json *at = bf_json_get(u->row, "at");
    size_t step;
    bf_code rc = BF_OK;
    u->curves = calloc(bf_unit_wants(u) + 1, sizeof *u->curves);
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
static void remove_halfway(const bf_unit *u)
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

static void put_known(bf_buf *to, const char *name, double value)
{
    if (!isfinite(value))
        return;
    bf_buf_printf(to, ", \"%s\": ", name);
    bf_unit_number(to, value);
}

static bf_code write_result(bf_unit *u, const bf_train_state *state, double seconds)
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
    bf_unit_number(&to, state->loss);
    put_known(&to, "held_out", state->held_out);
    if (bf_json_number(bf_json_get(u->row, "per"), &per) && per > 0.0)
        put_known(&to, "loss_per_p", state->held_out / per);
    put_known(&to, "right", state->right);
    put_known(&to, "probe_input", state->probe[0]);
    put_known(&to, "probe", state->probe[1]);
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

static bf_code run_unit(bf_unit *u, const char *config)
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
        bf_unit_tell(u, "done", 1.0);
    }
    for (size_t k = 0; u->curves && k < bf_unit_wants(u); k++)
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
        bf_unit u = {.query = q, .row = row, .place = *place, .group = group, .err = err};
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
