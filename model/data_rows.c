/* data_rows.c -- one sequence of a batch. What is drawn does not depend on the number of heads, so
 * that trainings that differ in nothing else read the same inputs. */
#include <string.h>

#include "model/data_parts.h"

/* ---- ids to inputs and targets ---- */

/* Row r of the batch from row[0 .. T + heads). */
static void put_next(bf_data *d, size_t r)
{
    const size_t T = d->T, heads = d->heads;
    int32_t *input = d->input + r * T, *target = d->target + r * T * heads;
    for (size_t t = 0; t < T; t++) {
        input[t] = d->row[t] < 0 ? 0 : d->row[t];
        for (size_t k = 0; k < heads; k++)
            target[t * heads + k] = d->row[t] < 0 ? -1 : d->row[t + 1 + k];
    }
}

/* Any token but separator and mask. */
static int32_t any_token(const bf_data *d, bf_random *random)
{
    int32_t id;
    do
        id = (int32_t)bf_random_below(random, d->vocabulary);
    while (id == d->separator || id == d->mask);
    return id;
}

static void mask_one(bf_data *d, size_t at, bf_random *random)
{
    const double u = bf_random_unit(random);
    d->target[at] = d->input[at];
    if (u < d->set.mask_random)
        d->input[at] = any_token(d, random);
    else if (u >= d->set.mask_random + d->set.mask_keep)
        d->input[at] = d->mask;
}

/* Hide some tokens; one at least. */
static void put_masked(bf_data *d, size_t r, bf_random *random)
{
    const size_t T = d->T, forced = (size_t)bf_random_below(random, T);
    bool any = false;
    for (size_t t = 0; t < T; t++) {
        const bool chosen = bf_random_unit(random) < d->set.mask_rate;
        d->input[r * T + t] = d->row[t];
        d->target[r * T + t] = -1;
        if (chosen)
            mask_one(d, r * T + t, random);
        any = any || chosen;
    }
    if (!any)
        mask_one(d, r * T + forced, random);
}

/* ---- sequences ---- */

/* Running text; -1 behind its end. */
static void take_window(bf_data *d, bf_random *random)
{
    const size_t n = d->train.n, len = d->T + d->heads;
    const bool masked = d->set.mask_rate > 0.0;
    const size_t at = (size_t)bf_random_below(random, n - d->T + masked);
    const size_t have = n - at < len ? n - at : len;
    memcpy(d->row, d->train.id + at, have * sizeof *d->row);
    for (size_t k = have; k < len; k++)
        d->row[k] = -1;
}

/* Symbol k of the few that uniform spans may use: a function of the span's key. */
static int32_t symbol(const bf_data *d, uint64_t key, uint64_t k)
{
    bf_random of = bf_random_of(key, k, 0, 0);
    return any_token(d, &of);
}

/* A span again and again: drawn from the vocabulary, or taken from the text. */
static void take_repeat(bf_data *d, bf_random *random)
{
    const bf_data_config *c = &d->set;
    const size_t len = d->T + d->heads;
    const size_t most = c->repeat_most < d->train.n ? c->repeat_most : d->train.n;
    const size_t least = c->repeat_least < most ? c->repeat_least : most;
    const size_t n = least + (size_t)bf_random_below(random, most - least + 1);
    const bool uniform = bf_random_unit(random) < c->repeat_uniform;
    const uint64_t key = bf_random_next(random);
    const size_t at = (size_t)bf_random_below(random, d->train.n - n + 1);
    for (size_t k = 0; k < n && k < len; k++)
        d->row[k] = !uniform            ? d->train.id[at + k]
                    : c->repeat_symbols ? symbol(d, key, bf_random_below(random, c->repeat_symbols))
                                        : any_token(d, random);
    for (size_t k = n; k < len; k++)
        d->row[k] = d->row[k - n];
}

static double repeat_share(const bf_data_config *c, uint64_t step)
{
    if (step >= c->repeat_steps)
        return c->repeat_last;
    return c->repeat_first +
           (c->repeat_last - c->repeat_first) * ((double)step / (double)c->repeat_steps);
}

void bf_data_row_train(bf_data *d, uint64_t step, size_t r)
{
    bf_random random = bf_random_of(d->seed, BF_SPLIT_TRAIN, step, r);
    const double repeat = bf_random_unit(&random), start = bf_random_unit(&random);
    if (repeat < repeat_share(&d->set, step))
        take_repeat(d, &random);
    else
        take_window(d, &random);
    if (start < d->set.start_share && d->separator >= 0) {
        memmove(d->row + 1, d->row, (d->T + d->heads - 1) * sizeof *d->row);
        d->row[0] = d->separator;
    }
    if (d->set.mask_rate > 0.0)
        put_masked(d, r, &random);
    else
        put_next(d, r);
}

/* The window of that number, or nothing but -1 behind the last. */
void bf_data_row_held(bf_data *d, uint64_t step, size_t r)
{
    const size_t len = d->T + d->heads, k = (size_t)step * d->B + r;
    const bf_window w = k < d->n_windows ? d->window[k] : (bf_window){0};
    bf_random random = bf_random_of(d->seed, BF_SPLIT_HELD_OUT, step, r);
    for (size_t t = 0; t < len; t++)
        d->row[t] = w.at + t < w.end ? d->held.id[w.at + t] : -1;
    if (d->set.mask_rate == 0.0) {
        put_next(d, r);
    } else if (w.n) {
        put_masked(d, r, &random);
    } else {
        memset(d->input + r * d->T, 0, d->T * sizeof *d->input);
        for (size_t t = 0; t < d->T; t++)
            d->target[r * d->T + t] = -1;
    }
}

void bf_data_row_task(bf_data *d, bf_split split, uint64_t step, size_t r)
{
    const size_t T = d->T, heads = d->heads;
    const bf_task_config *task = &d->set.task;
    bf_random random = bf_random_of(d->seed, split, step, r);
    if (d->x) {
        bf_task_sine(d->x + r * T * bf_task_channels(task), d->y + r * T, T, task, &random);
        return;
    }
    bf_task_tokens(d->row, d->told, T + heads, task, &random);
    put_next(d, r);
    for (size_t t = 0; t < T; t++) {
        d->answer[r * T + t] = d->told[t + 1];
        for (size_t k = 0; k < heads && task->answers_only; k++)
            if (!d->told[t + 1 + k])
                d->target[(r * T + t) * heads + k] = -1;
    }
}
