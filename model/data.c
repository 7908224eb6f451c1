/* data.c -- open a source, and its batches. */
#include "model/data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/data_parts.h"

static bf_code no_memory(const bf_data *d, bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold batches of %zu sequences of %zu positions", d->B,
                   d->T);
}

bf_code bf_ids_reserve(bf_id_list *list, size_t more, bf_error *err)
{
    if (more <= list->cap - list->n)
        return BF_OK;
    const size_t need = list->n + more;
    int32_t *grown = more > SIZE_MAX / 2 / sizeof *grown - list->n
                         ? NULL
                         : realloc(list->id, 2 * need * sizeof *grown);
    if (!grown)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", need);
    list->id = grown;
    list->cap = 2 * need;
    return BF_OK;
}

/* ---- held-out windows ---- */

static bf_code add_window(bf_data *d, bf_window window, bf_error *err)
{
    if (d->n_windows == d->cap_windows) {
        const size_t cap = d->cap_windows ? 2 * d->cap_windows : 64;
        bf_window *grown = realloc(d->window, cap * sizeof *grown);
        if (!grown)
            return bf_fail(err, BF_ENOMEM, "cannot hold %zu held-out windows", cap);
        d->window = grown;
        d->cap_windows = cap;
    }
    d->window[d->n_windows++] = window;
    return BF_OK;
}

bf_code bf_data_cut(bf_data *d, size_t from, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t at = from; at + 1 < d->held.n && !rc; at += d->T) {
        const size_t left = d->held.n - 1 - at;
        rc = add_window(d, (bf_window){at, left < d->T ? left : d->T, d->held.n}, err);
    }
    return rc;
}

/* An encoder reads what stands behind, too, so its windows are full: they pay no heed to documents,
 * and the last one reaches back. */
static bf_code cut_masked(bf_data *d, bf_error *err)
{
    bf_code rc = BF_OK;
    d->n_windows = 0;
    for (size_t at = 0; at < d->held.n && d->held.n >= d->T && !rc; at += d->T) {
        const size_t last = d->held.n - d->T;
        rc = add_window(d, (bf_window){at < last ? at : last, d->T, d->held.n}, err);
    }
    return rc;
}

/* ---- opening ---- */

static bool is_share(double v)
{
    return v >= 0.0 && v <= 1.0;
}

static bf_code check_shares(const bf_data_config *c, bf_error *err)
{
    const struct {
        const char *name;
        double value;
    } share[] = {{"start", c->start_share},      {"held_out.share", c->held_out_share},
                 {"repeat.first", c->repeat_first}, {"repeat.last", c->repeat_last},
                 {"repeat.uniform", c->repeat_uniform}, {"masked.rate", c->mask_rate},
                 {"masked.random", c->mask_random}, {"masked.keep", c->mask_keep},
                 {"masked.random + masked.keep", c->mask_random + c->mask_keep}};
    for (size_t k = 0; k < sizeof share / sizeof *share; k++)
        if (!is_share(share[k].value))
            return bf_fail(err, BF_EARG, "field \"%s\" is %g, wanted 0 to 1", share[k].name,
                           share[k].value);
    return BF_OK;
}

static bf_code check_config(const bf_data_config *c, size_t T, size_t heads, bf_error *err)
{
    const bf_code rc = check_shares(c, err);
    const bool repeats = c->repeat_first > 0.0 || c->repeat_last > 0.0;
    if (rc)
        return rc;
    if (c->kind == BF_DATA_TASK && (c->mask_rate > 0.0 || repeats))
        return bf_fail(err, BF_EARG, "a task with %s, wanted text or tokens",
                       repeats ? "repeated spans" : "masked tokens");
    if (c->mask_rate > 0.0 && heads > 1)
        return bf_fail(err, BF_EARG, "masked tokens with %zu heads, wanted 1", heads);
    if (repeats && (c->repeat_least < 1 || c->repeat_least > c->repeat_most ||
                    c->repeat_most > (T + 1) / 2))
        return bf_fail(err, BF_EARG,
                       "repeated spans of %zu to %zu tokens, wanted 1 to %zu, half a sequence",
                       c->repeat_least, c->repeat_most, (T + 1) / 2);
    return c->kind == BF_DATA_TASK ? bf_task_check(&c->task, T + heads, err) : BF_OK;
}

/* Is what was read enough? */
static bf_code check_read(const bf_data *d, bf_error *err)
{
    const bool masked = d->set.mask_rate > 0.0;
    const bool repeats = d->set.repeat_first > 0.0 || d->set.repeat_last > 0.0;
    const size_t named = (size_t)(d->separator >= 0) +
                         (size_t)(d->mask >= 0 && d->mask != d->separator);
    if (d->train.n < d->T + !masked)
        return bf_fail(
            err, BF_ESHAPE,
            "%zu tokens to train on, wanted at least %zu: one sequence and its last target",
            d->train.n, d->T + !masked);
    if (masked && d->mask < 0)
        return bf_fail(err, BF_EARG, "masked tokens, but no mask token");
    if (repeats && d->vocabulary <= named)
        return bf_fail(err, BF_EARG, "repeated spans need a token that is no separator or mask");
    return BF_OK;
}

static bf_code take_buffers(bf_data *d, bf_error *err)
{
    const size_t B = d->B, T = d->T, heads = d->heads;
    if (!B || !T || !heads)
        return bf_fail(err, BF_EARG, "batches of %zu sequences of %zu positions with %zu targets",
                       B, T, heads);
    if (T > INT32_MAX || heads > 64 || B > INT32_MAX / T)
        return no_memory(d, err);
    if (d->set.kind == BF_DATA_TASK && bf_task_channels(&d->set.task)) {
        d->x = calloc(B * T, bf_task_channels(&d->set.task) * sizeof *d->x);
        d->y = calloc(B * T, sizeof *d->y);
        return d->x && d->y ? BF_OK : no_memory(d, err);
    }
    d->row = calloc(T + heads, sizeof *d->row);
    d->told = calloc(T + heads, sizeof *d->told);
    d->input = calloc(B * T, sizeof *d->input);
    d->target = calloc(B * T, heads * sizeof *d->target);
    d->answer = calloc(B * T, sizeof *d->answer);
    return d->row && d->told && d->input && d->target && d->answer ? BF_OK : no_memory(d, err);
}

static bf_code open_task(bf_data *d, bf_error *err)
{
    d->vocabulary = bf_task_vocabulary(&d->set.task);
    if (d->vocabulary) {
        bf_task_tokenizer(&d->tokenizer, &d->set.task);
        d->separator = 0; /* <s> */
    }
    return d->tokenizer.failed ? no_memory(d, err) : BF_OK;
}

static bf_code open_source(bf_data *d, const bf_data_config *config, bf_error *err)
{
    bf_code rc = check_config(&d->set, d->T, d->heads, err);
    if (!rc)
        rc = take_buffers(d, err);
    if (rc)
        return rc;
    if (config->kind == BF_DATA_TASK)
        return open_task(d, err);
    rc = config->kind == BF_DATA_TEXT ? bf_data_read_text(d, config, err)
                                      : bf_data_read_tokens(d, config, err);
    if (!rc && d->set.mask_rate > 0.0)
        rc = cut_masked(d, err);
    return rc ? rc : check_read(d, err);
}

bf_code bf_data_open(bf_data **out, const bf_data_config *config, size_t B, size_t T, size_t heads,
                     uint64_t seed, bf_error *err)
{
    bf_data *d = calloc(1, sizeof *d);
    if (!d)
        return bf_fail(err, BF_ENOMEM, "cannot hold a data source");
    d->set = *config;
    bf_task_defaults(&d->set.task);
    d->B = B;
    d->T = T;
    d->heads = heads;
    d->seed = seed;
    d->separator = d->mask = -1;
    const bf_code rc = open_source(d, config, err);
    if (rc)
        bf_data_free(d);
    else
        *out = d;
    return rc;
}

void bf_data_free(bf_data *d)
{
    if (!d)
        return;
    bf_buf_free(&d->tokenizer);
    free(d->train.id);
    free(d->held.id);
    free(d->window);
    free(d->row);
    free(d->told);
    free(d->input);
    free(d->target);
    free(d->answer);
    free(d->x);
    free(d->y);
    free(d);
}

/* ---- what it is ---- */

size_t bf_data_held_out(const bf_data *d)
{
    if (d->set.kind == BF_DATA_TASK)
        return SIZE_MAX;
    return d->n_windows / d->B + (d->n_windows % d->B != 0);
}

size_t bf_data_tokens(const bf_data *d)
{
    return d->train.n;
}

size_t bf_data_vocabulary(const bf_data *d)
{
    return d->vocabulary;
}

const bf_task_config *bf_data_task(const bf_data *d)
{
    return d->set.kind == BF_DATA_TASK ? &d->set.task : NULL;
}

size_t bf_data_channels(const bf_data *d)
{
    return d->set.kind == BF_DATA_TASK ? bf_task_channels(&d->set.task) : 0;
}

int32_t bf_data_separator(const bf_data *d)
{
    return d->separator;
}

int32_t bf_data_mask_token(const bf_data *d)
{
    return d->mask;
}

void bf_data_seed(bf_data *d, uint64_t seed)
{
    d->seed = seed;
}

uint64_t bf_data_fingerprint(const bf_data *d)
{
    uint64_t h = 0;
    for (size_t k = 0; k < d->train.n; k++)
        h = bf_splitmix(h + BF_RANDOM_STEP + (uint64_t)d->train.id[k]);
    for (size_t k = 0; k < d->held.n; k++)
        h = bf_splitmix(h + BF_RANDOM_STEP + (uint64_t)d->held.id[k]);
    return h;
}

const char *bf_data_tokenizer_json(const bf_data *d)
{
    return d->tokenizer.len ? d->tokenizer.data : NULL;
}

/* ---- batches ---- */

bf_code bf_data_batch(bf_batch *out, bf_data *d, bf_split split, uint64_t step, bf_error *err)
{
    const bool task = d->set.kind == BF_DATA_TASK;
    if (split == BF_SPLIT_HELD_OUT && step >= bf_data_held_out(d))
        return bf_fail(err, BF_EARG, "held-out batch %llu, there are %zu", (unsigned long long)step,
                       bf_data_held_out(d));
    for (size_t r = 0; r < d->B; r++) {
        if (task)
            bf_data_row_task(d, split, step, r);
        else if (split == BF_SPLIT_TRAIN)
            bf_data_row_train(d, step, r);
        else
            bf_data_row_held(d, step, r);
    }
    *out = (bf_batch){.B = d->B,
                      .T = d->T,
                      .heads = d->heads,
                      .input = d->input,
                      .target = d->target,
                      .answer = task ? d->answer : NULL,
                      .x = d->x,
                      .channels = bf_data_channels(d),
                      .y = d->y};
    return BF_OK;
}
