/* data.h -- batches to train on: text, token files and synthetic tasks behind one call.
 *
 * A batch is a pure function of the source, the seed and the step, so that a run that resumes needs
 * no state of its data. Axes: B sequences, T positions. */
#ifndef BF_MODEL_DATA_H
#define BF_MODEL_DATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "model/tasks.h"

typedef struct bf_data bf_data;

/* One batch; views into the source, valid until its next call. */
typedef struct {
    size_t B, T;            /* sequences, positions */
    size_t heads;           /* targets a position: 1, or n of n-token heads */
    const int32_t *input;   /* [B,T] token ids; NULL for real-valued tasks */
    const int32_t *target;  /* [B,T,heads] head k at t wants token t+1+k (masked tokens: token t);
                               -1: no loss there */
    const uint8_t *answer;  /* [B,T] 1: what stands before tells the target t+1; NULL: not a task */
    const double *x;        /* [B,T,channels] real-valued input, or NULL. The sine task has two
                               channels, x and z: z is known to the model, as in Wu et al.'s code */
    size_t channels;        /* 0 without x */
    const double *y; /* [B,T] real-valued target of the Huber loss, or NULL; NaN: no loss there */
} bf_batch;

typedef enum { BF_SPLIT_TRAIN, BF_SPLIT_HELD_OUT } bf_split;

typedef enum { BF_DATA_TEXT, BF_DATA_TOKENS, BF_DATA_TASK } bf_data_kind;
typedef enum {
    BF_DOCUMENT_FILE,
    BF_DOCUMENT_LINE,
    BF_DOCUMENT_BLANK,
    BF_DOCUMENT_SEPARATOR
} bf_document;
enum { BF_DOCUMENTS = BF_DOCUMENT_SEPARATOR + 1 };

/* Where batches come from. Zero-initialise, then set what differs. Everything is borrowed during
 * bf_data_open, nothing is kept. */
typedef struct {
    bf_data_kind kind;
    /* text and token files */
    const char *const *files; /* [n_files] paths; token files: .bin (little-endian) or .safetensors
                                 with one tensor of whole numbers */
    size_t n_files;
    bf_document document; /* where a text ends: with the file, its line, a blank line, or where the
                             separator is written in it */
    size_t token_bytes;       /* of a number in a .bin: 2 or 4 */
    size_t vocabulary;        /* to learn (text), or of token files without tokenizer */
    const char *tokenizer; /* path of a tokenizer.json; NULL: text learns one, tokens have none */
    const char *const *special; /* [n_special] tokens of a tokenizer learnt here, ids from 0 on */
    size_t n_special;
    const char *separator;    /* text of the token put before every document; NULL: none */
    double start_share;       /* part of the sequences that begin with the separator */
    size_t held_out_every;    /* the last of every so many documents is held out; 0: by share */
    double held_out_share;    /* the last part of the text's bytes, or of the tokens */
    /* a share of the training sequences is a span said again and again */
    double repeat_first, repeat_last; /* share at step 0, and from repeat_steps on */
    size_t repeat_steps;
    size_t repeat_least, repeat_most; /* tokens of a span */
    double repeat_uniform; /* part of the spans that is drawn from the vocabulary; else from text */
    size_t repeat_symbols;    /* uniform spans use so many tokens, drawn anew for each; 0: all */
    /* masked tokens, for encoders; rate 0: the next token is the target */
    double mask_rate;
    double mask_random, mask_keep; /* of the chosen: part replaced at random, part kept */
    const char *mask_token;   /* its text; NULL: the id */
    size_t mask_id;
    /* synthetic tasks */
    bf_task_config task;
} bf_data_config;

/* Read, tokenize or set up a source.
 * out      owned by the caller (bf_data_free); untouched on failure
 * heads    targets a position, at least 1
 * BF_EARG a setting out of range, BF_EFORMAT (id beyond the vocabulary, text that cannot be
 * encoded), BF_ESHAPE too short for one sequence, BF_EIO, BF_ENOMEM; messages name the file. */
bf_code bf_data_open(bf_data **out, const bf_data_config *config, size_t B, size_t T, size_t heads,
                     uint64_t seed, bf_error *err);
/* Batch number `step` of a split; the same bits every time.  BF_ENOMEM, BF_EIO. */
bf_code bf_data_batch(bf_batch *out, bf_data *data, bf_split split, uint64_t step, bf_error *err);
/* Batches 0 to n-1 of the held-out split have each of its tokens as a target once (the last one is
 * filled up with targets -1). Tasks have no end of them: SIZE_MAX. 0: nothing is held out. */
size_t bf_data_held_out(const bf_data *data);
/* Tokens to train on; 0 for tasks. */
size_t bf_data_tokens(const bf_data *data);
/* Token ids are below this; 0 for real-valued tasks. */
size_t bf_data_vocabulary(const bf_data *data);
/* The task, with its defaults filled in; NULL for text and token files. Borrowed. */
const bf_task_config *bf_data_task(const bf_data *data);
/* Channels of x; 0 for tokens. */
size_t bf_data_channels(const bf_data *data);
/* Id of the separator, of the mask token; -1: none. */
int32_t bf_data_separator(const bf_data *data);
int32_t bf_data_mask_token(const bf_data *data);
/* Draw with another seed from now on. */
void bf_data_seed(bf_data *data, uint64_t seed);
/* A number that changes with the tokens of the source; of tasks, 0. */
uint64_t bf_data_fingerprint(const bf_data *data);
/* tokenizer.json of the source, to be saved beside the model; NULL if it has none. Borrowed. */
const char *bf_data_tokenizer_json(const bf_data *data);
void bf_data_free(bf_data *data); /* NULL-safe */

#endif
