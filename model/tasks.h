/* tasks.h -- synthetic tasks to train on: sequences whose truth is known.
 *
 * A sequence is a pure function of the task and its generator's state. Token tasks are filled with
 * episodes one after the other; `answer` marks the tokens that what stands before them tells. */
#ifndef BF_MODEL_TASKS_H
#define BF_MODEL_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "base/buf.h"
#include "model/data_random.h"

typedef enum {
    BF_TASK_SINE,       /* Wu, Morris & Levine 2024, arXiv:2404.00859 */
    BF_TASK_COPY,       /* <s> a span | the same span */
    BF_TASK_INDUCTION,  /* children's stories whose names are two tokens: Gloeckle et al. 2024,
                           arXiv:2404.19737, section 4.1 */
    BF_TASK_POLYNOMIAL, /* expressions over F7[X]/(X^5) and their value: the same, section 4.2 */
    BF_TASK_RECALL      /* <s> key value key value ... ? key value ? key value ... */
} bf_task_kind;

enum { BF_TASKS = BF_TASK_RECALL + 1 };

/* Zero-initialise; bf_task_defaults puts the values named below where there is a zero. */
typedef struct {
    bf_task_kind kind;
    /* sine: y[n] = z[n] sum_{k=1..terms} sin(factor x[n-k]) + (1 - z[n]) x[n], z ~ Bernoulli(p) for
     * every n; terms before the sequence count 0 */
    double p, factor;      /* 0.3; 10 */
    size_t terms;          /* 10 */
    size_t symbols;        /* copy: 26; recall: keys and values each, 32; induction: syllables that
                              begin names and that end them, each, 48 */
    size_t least, most;    /* copy: tokens of a span, 4 to 24; recall: pairs, 4 to 16; polynomial:
                              operations, 1 to 5 */
    size_t queries;        /* recall: questions an episode, 8 */
    bool answers_only;     /* other tokens have no loss */
} bf_task_config;

/* The task of that name, or -1. */
int bf_task_find(const char *name);
const char *bf_task_name(bf_task_kind kind);
void bf_task_defaults(bf_task_config *task);
/* Can sequences of n tokens hold an episode?  BF_EARG names what cannot be. */
bf_code bf_task_check(const bf_task_config *task, size_t n, bf_error *err);
/* Number of token ids; 0 for sine. */
size_t bf_task_vocabulary(const bf_task_config *task);
/* Channels of a real-valued input; 0 for token tasks. */
size_t bf_task_channels(const bf_task_config *task);
/* Append the text of a token. */
void bf_task_word(bf_buf *out, const bf_task_config *task, size_t id);
/* Append a tokenizer.json whose ids are the task's. Not for sine. */
void bf_task_tokenizer(bf_buf *out, const bf_task_config *task);
/* One sequence of token tasks: ids [n], answer [n] (1: a token that can be known). The last episode
 * is cut off at the end. */
void bf_task_tokens(int32_t *ids, uint8_t *answer, size_t n, const bf_task_config *task,
                    bf_random *random);
/* One sequence of the sine task: x [n,2] holds x and z, y [n]. */
void bf_task_sine(double *x, double *y, size_t n, const bf_task_config *task, bf_random *random);

/* Polynomials of degree < 5 over F7, coefficient k of X^k; the product and the composition f(g)
 * drop X^5 and higher. */
typedef struct {
    uint8_t c[5];
} bf_poly;
bf_poly bf_poly_negate(bf_poly a);
bf_poly bf_poly_add(bf_poly a, bf_poly b);
bf_poly bf_poly_times(bf_poly a, bf_poly b);
bf_poly bf_poly_compose(bf_poly f, bf_poly g);

#endif
