/* train.h -- train a transformer from scratch on the CPU, with the operations that traces use.
 *
 * A training is a folder: config.json, model.safetensors and tokenizer.json (a model that
 * bf_model_open opens at any time), checkpoint.safetensors (weights, optimizer and step: what resumes),
 * log.jsonl (a line a step). Every file appears whole, so a run that was killed at any moment resumes
 * from its last checkpoint, and ends with the same bits as one that was not, for any number of threads.
 * Mathematics, layout of files and limits: docs/training.md. */
#ifndef BACKFLOW_TRAIN_H
#define BACKFLOW_TRAIN_H

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/record.h"

/* Where batches come from (model/data.h). */
typedef struct bf_data bf_data;

/* Through what the loss sends no gradient while the model learns; the forward run is not changed, but by
 * BF_CUT_LOCAL. The last three are of Wu, Morris & Levine 2024, arXiv:2404.00859: no token learns to help
 * later ones. */
typedef enum {
    BF_CUT_NONE,
    BF_CUT_MYOPIC, /* through keys and values of earlier positions */
    BF_CUT_STATES, /* through earlier positions' residual stream only: the matrices that make keys and
                      values learn from what later positions read (as the authors' code has it) */
    BF_CUT_LOCAL   /* myopic, and keys and values of earlier positions are those of the model in `start`,
                      which stays as it is: what its present could gain if it owed the future nothing */
} bf_cut;

typedef enum {
    BF_OBJECTIVE_TOKENS, /* mean -log p(target) of the batch's targets: next tokens, masked tokens */
    BF_OBJECTIVE_HEADS,  /* n-token heads (Gloeckle et al. 2024, arXiv:2404.19737): sum over heads of the
                            same; trunk of L-1 layers, every head a layer of its own */
    BF_OBJECTIVE_JOINT,  /* joint loss of n-token completions: see `joint` */
    BF_OBJECTIVE_REAL    /* real numbers in and out, mean Huber loss (delta 1). With c input channels the
                            model's vocab_size is c + 1 and its head is not tied: x enters as
                            sum_c x[c] embedding[c] + embedding[last], y is <final norm's output, head[0]> */
} bf_objective;

/* BF_OBJECTIVE_JOINT: `prefixes` times a step, `samples` completions of n tokens are drawn from the model
 * itself after `context` tokens from somewhere in the batch, and the `keep` with the highest joint
 * probability (random: any `keep`) are trained on: mean -log p(completion | prefix) / n. Times `weight` it is
 * added to BF_OBJECTIVE_TOKENS, or takes its place (alone). */
typedef struct {
    size_t n, prefixes, samples, keep;
    bool random;
    double weight;
    size_t context; /* 0: 16 */
    bool alone;
} bf_joint;

/* Inverted dropout while the model learns: so often, from 0 to below 1, a value becomes 0; the others grow by
 * 1 / (1 - p). Never where a loss is only measured or a completion drawn. */
typedef struct {
    double embedding; /* of the sum of embeddings: Hugging Face's embd_pdrop */
    double attention; /* of attention's weights: attn_pdrop, attention_dropout; no compressive memory has it */
    double residual;  /* of what attention and MLP add to the residual stream: resid_pdrop */
} bf_dropout;

/* Zero-initialise, then set what differs; 0 of a field means its default. */
typedef struct {
    const char *model;     /* text of the config.json to make: a supported family with its sizes written
                              out, "backflow" with mask and all; vocab_size must be the data's, fields of
                              dropout, where there are some, those of `dropout` */
    const char *start;     /* NULL, or a folder of that shape whose weights are the first ones */
    const char *identity;  /* text kept in checkpoints: a training resumes only if it is the same */
    uint64_t seed;         /* of the first weights and of draws */
    bf_objective objective;
    bf_cut cut;
    size_t heads;          /* BF_OBJECTIVE_HEADS: 2 or more; the batches have as many */
    bf_joint joint;
    bf_dropout dropout;
    size_t steps;          /* of the optimizer, in all; at least 1 */
    size_t accumulate;     /* batches a step: 1. Step s takes batches s*accumulate ... */
    size_t warmup;         /* steps of linear warm-up; 0: none */
    double rate;           /* largest learning rate: 1e-3 */
    double least_rate;     /* the cosine ends there: 0 */
    bool constant_rate;    /* no cosine */
    size_t fall;           /* over so many last steps the rate falls evenly to 0; 0: none */
    double beta1, beta2, epsilon; /* AdamW (arXiv:1711.05101): 0.9, 0.95, 1e-8 */
    double decay;          /* of matrices, not of biases and norms: 0 */
    double clip;           /* largest norm of the whole gradient; 0: not clipped */
    double deviation;      /* of first weights: the config's initializer_range, or 0.02 */
    size_t held_out;       /* held-out batches a measurement; 0: none */
    size_t measure;        /* steps between measurements; 0: only at the end */
    size_t checkpoint;     /* steps between checkpoints: 100 */
    bool f64;              /* in double, not in float */
    bool bf16;             /* products with weights of operands rounded to bfloat16, with float sums; all else
                              in float. Needs a processor with avx512_bf16 (BF_EUNSUPPORTED); not with f64 */
    bf_dtype store;        /* of model.safetensors: BF_F32, BF_BF16 or BF_F64; BF_F32 is 0 */
    size_t threads;        /* 0: as many as the machine has */
    size_t until;          /* stop after so many steps with a checkpoint, as if interrupted; 0: do not */
} bf_train_config;

typedef struct {
    size_t step, steps;        /* done, wanted */
    double loss;               /* of the last step, nats (real numbers: Huber) */
    double held_out;           /* last measurement; NaN: none yet */
    double right;              /* the same: part of the targets (of a task, of those that can be known)
                                  that were the likeliest token; NaN: none yet, or real numbers */
    double probe[2];           /* of the sine task, when all steps are done: R^2, on held-out sequences, of
                                  a linear map from resid_pre[0] and resid_pre[1] to sin(factor x) at the
                                  same position; else NaN */
    double rate, grad_norm;    /* of the last step, before clipping */
    double tokens_per_second;  /* of late */
    double seconds_left;
} bf_train_state;

/* Called after every step from the thread that called bf_train. */
typedef void bf_train_progress(void *context, const bf_train_state *state);

/* What a training will take. */
typedef struct {
    size_t parameters;       /* values in the model's tensors, tied ones once, extra heads not counted */
    size_t extra_parameters; /* of extra heads */
    size_t bytes;            /* weights, optimizer, activations */
    double flops;            /* of matrix products a step */
    size_t tokens;           /* a step */
} bf_train_plan;

/* Check config and data against each other and say what the training takes. Writes nothing.
 * BF_EARG, BF_EFORMAT, BF_EUNSUPPORTED, BF_ESHAPE: message names the field, found, wanted. BF_ENOMEM. */
bf_code bf_train_check(bf_train_plan *plan, const bf_train_config *config, bf_data *data, bf_error *err);

/* Train, into folder (made if it is not there).
 * resume    false: the folder must be empty or new; true: goes on from checkpoint.safetensors if there
 *           is one (BF_EARG if its identity differs), else begins
 * data      borrowed
 * state     NULL, or out: the last step's, also after an interrupt
 * progress  may be NULL;  stop: may be NULL; nonzero saves a checkpoint and returns BF_EINTERRUPTED
 * BF_EARG, BF_ENOMEM, BF_EIO (disk full: the last good checkpoint stays), BF_ENONFINITE: names step and
 * tensor, last good checkpoint stays; what bf_train_check returns. */
bf_code bf_train(const char *folder, const bf_train_config *config, bf_data *data, bool resume,
                 bf_train_state *state, bf_train_progress *progress, void *progress_context,
                 const volatile sig_atomic_t *stop, bf_error *err);

/* ---- CONFIG.json (model/train_config.c) ---- */

/* A CONFIG.json that was read: what bf_train takes, and its data. */
typedef struct bf_training bf_training;

/* Read and check a CONFIG.json against docs/train.schema.json, and open its data. Paths in it count from
 * its folder.
 * out  owned by the caller (bf_training_free); untouched on failure
 * BF_EIO, BF_EFORMAT, BF_EARG, BF_EUNSUPPORTED, BF_ENOMEM: file, field, found, wanted. */
bf_code bf_training_open(bf_training **out, const char *path, bf_error *err);
void bf_training_free(bf_training *training); /* NULL-safe */
/* Other steps, or another seed of weights and data, than the file's; before bf_train. BF_ENOMEM. */
bf_code bf_training_steps(bf_training *training, size_t steps, bf_error *err);
bf_code bf_training_seed(bf_training *training, uint64_t seed, bf_error *err);
/* Borrowed; may be changed before bf_train (threads, checkpoint, measure). */
bf_train_config *bf_training_config(bf_training *training);
bf_data *bf_training_data(const bf_training *training);
const char *bf_training_identity(const bf_training *training); /* of what it learns; borrowed */
/* What the data are. */
typedef struct {
    size_t batch, context, vocabulary;
    size_t tokens;           /* to train on; 0: a task, without end */
    size_t held_out;         /* batches; SIZE_MAX: without end */
} bf_training_data_facts;
bf_training_data_facts bf_training_facts(const bf_training *training);
/* May bf_train resume in folder: is it new or empty, or does it hold a checkpoint of this training?
 * BF_EARG if not, BF_EIO, BF_EFORMAT. */
bf_code bf_training_may_resume(const bf_training *training, const char *folder, bf_error *err);
/* Write tokenizer_config.json into folder, for Hugging Face's AutoTokenizer; nothing if the data have no
 * tokenizer.  BF_EIO, BF_ENOMEM. */
bf_code bf_training_describe(const bf_training *training, const char *folder, bf_error *err);

#endif
