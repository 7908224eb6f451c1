/* tasks.c -- the table of tasks, and those that are made token by token. Stories are in
 * tasks_story.c, polynomials in tasks_poly.c, the tokens' texts in tasks_words.c. */
#include "model/tasks.h"

#include <string.h>

#include "model/tasks_parts.h"

/* ---- settings ---- */

static const char *const names[BF_TASKS] = {"sine", "copy", "induction", "polynomial", "recall"};

int bf_task_find(const char *name)
{
    for (int k = 0; k < BF_TASKS; k++)
        if (!strcmp(names[k], name))
            return k;
    return -1;
}

const char *bf_task_name(bf_task_kind kind)
{
    return names[kind];
}

static void put_size(size_t *field, size_t value)
{
    *field = *field ? *field : value;
}

void bf_task_defaults(bf_task_config *t)
{
    static const size_t symbols[BF_TASKS] = {1, 26, 48, 1, 32}, least[BF_TASKS] = {1, 4, 1, 1, 4},
                        most[BF_TASKS] = {1, 24, 1, 5, 16};
    t->p = t->p != 0.0 ? t->p : 0.3;
    t->factor = t->factor != 0.0 ? t->factor : 10.0;
    put_size(&t->terms, 10);
    put_size(&t->symbols, symbols[t->kind]);
    put_size(&t->least, least[t->kind]);
    put_size(&t->most, most[t->kind] > t->least ? most[t->kind] : t->least);
    put_size(&t->queries, 8);
}

/* Tokens of the longest episode. */
static size_t longest(const bf_task_config *t)
{
    switch (t->kind) {
    case BF_TASK_COPY:
        return 2 * t->most + 2;
    case BF_TASK_INDUCTION:
        return 2 * BF_STORY_LEAST; /* enough for a name that comes again */
    case BF_TASK_POLYNOMIAL:
        return 5 * (t->most + 1) + 3 * t->most + 7;
    case BF_TASK_RECALL:
        return 1 + 2 * t->most + 3 * t->queries;
    default:
        return t->terms + 1;
    }
}

static bf_code check_ranges(const bf_task_config *t, bf_error *err)
{
    if (!(t->p >= 0.0 && t->p <= 1.0))
        return bf_fail(err, BF_EARG, "field \"p\" is %g, wanted 0 to 1", t->p);
    if (t->least > t->most)
        return bf_fail(err, BF_EARG, "field \"least\" is %zu, wanted at most \"most\", %zu",
                       t->least, t->most);
    if (t->kind == BF_TASK_POLYNOMIAL && t->most > BF_POLY_MOST)
        return bf_fail(err, BF_EARG, "field \"most\" is %zu, wanted at most %d operations", t->most,
                       BF_POLY_MOST);
    if (t->kind == BF_TASK_INDUCTION && (t->symbols < 2 || t->symbols > BF_STORY_SYLLABLES))
        return bf_fail(err, BF_EARG, "field \"symbols\" is %zu, wanted 2 to %d syllables",
                       t->symbols, BF_STORY_SYLLABLES);
    if (t->kind == BF_TASK_RECALL && (t->symbols < t->most || t->symbols > BF_RECALL_MOST))
        return bf_fail(
            err, BF_EARG,
            "field \"symbols\" is %zu, wanted as many keys as there are pairs, %zu, to %d",
            t->symbols, t->most, BF_RECALL_MOST);
    if (t->symbols > 1000000 || t->most > 1000000 || t->queries > 1000000 || t->terms > 1000000)
        return bf_fail(err, BF_EARG, "a size of the task is above a million");
    return BF_OK;
}

bf_code bf_task_check(const bf_task_config *t, size_t n, bf_error *err)
{
    const bf_code rc = check_ranges(t, err);
    if (!rc && longest(t) > n)
        return bf_fail(err, BF_ESHAPE,
                       "sequences of %zu cannot hold the longest episode of %s, %zu", n,
                       names[t->kind], longest(t));
    return rc;
}

size_t bf_task_channels(const bf_task_config *t)
{
    return t->kind == BF_TASK_SINE ? 2 : 0;
}

/* ---- sequences ---- */

void bf_tape_put(bf_tape *tape, size_t id, bool answer)
{
    if (tape->at == tape->n)
        return;
    tape->ids[tape->at] = (int32_t)id;
    tape->answer[tape->at++] = answer;
}

static size_t between(bf_random *random, size_t least, size_t most)
{
    return least + (size_t)bf_random_below(random, most - least + 1);
}

/* <s> w .. w | w .. w; the second span is drawn again from a copy of the generator. */
static void put_copy(bf_tape *tape, const bf_task_config *t, bf_random *random)
{
    const size_t n = between(random, t->least, t->most);
    bf_random again = *random;
    bf_tape_put(tape, BF_WORD_START, false);
    for (size_t k = 0; k < n; k++)
        bf_tape_put(tape, BF_COPY_FIRST + bf_random_below(random, t->symbols), false);
    bf_tape_put(tape, BF_COPY_BAR, false);
    for (size_t k = 0; k < n; k++)
        bf_tape_put(tape, BF_COPY_FIRST + bf_random_below(&again, t->symbols), true);
}

/* Keys of an episode differ: the first n of a shuffle. */
static void put_recall(bf_tape *tape, const bf_task_config *t, bf_random *random)
{
    uint16_t key[BF_RECALL_MOST], value[BF_RECALL_MOST];
    const size_t n = between(random, t->least, t->most);
    for (size_t k = 0; k < t->symbols; k++)
        key[k] = (uint16_t)k;
    bf_tape_put(tape, BF_WORD_START, false);
    for (size_t k = 0; k < n; k++) {
        const size_t other = k + (size_t)bf_random_below(random, t->symbols - k);
        const uint16_t swap = key[k];
        key[k] = key[other];
        key[other] = swap;
        value[k] = (uint16_t)bf_random_below(random, t->symbols);
        bf_tape_put(tape, BF_RECALL_FIRST + key[k], false);
        bf_tape_put(tape, BF_RECALL_FIRST + t->symbols + value[k], false);
    }
    for (size_t q = 0; q < t->queries; q++) {
        const size_t k = (size_t)bf_random_below(random, n);
        bf_tape_put(tape, BF_RECALL_QUESTION, false);
        bf_tape_put(tape, BF_RECALL_FIRST + key[k], false);
        bf_tape_put(tape, BF_RECALL_FIRST + t->symbols + value[k], true);
    }
}

void bf_task_tokens(int32_t *ids, uint8_t *answer, size_t n, const bf_task_config *t,
                    bf_random *random)
{
    bf_tape tape = {ids, answer, n, 0};
    while (tape.at < n) {
        switch (t->kind) {
        case BF_TASK_COPY:
            put_copy(&tape, t, random);
            break;
        case BF_TASK_INDUCTION:
            bf_story_put(&tape, t, random);
            break;
        case BF_TASK_POLYNOMIAL:
            bf_poly_put(&tape, t, random);
            break;
        default:
            put_recall(&tape, t, random);
        }
    }
}

void bf_task_sine(double *x, double *y, size_t n, const bf_task_config *t, bf_random *random)
{
    for (size_t k = 0; k < n; k++) {
        x[2 * k] = bf_random_normal(random);
        x[2 * k + 1] = bf_random_unit(random) < t->p ? 1.0 : 0.0;
        double sum = 0.0;
        for (size_t back = 1; back <= t->terms && back <= k; back++)
            sum += sin(t->factor * x[2 * (k - back)]);
        y[k] = x[2 * k + 1] != 0.0 ? sum : x[2 * k];
    }
}
