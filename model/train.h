/* train.h (internal) -- what a training is made of before its numbers are float or double.
 *
 * All weights stand in one array, tensor after tensor without gaps; gradients and the optimizer's moments
 * have arrays of the same layout. Layers follow each other with equal distances, extra heads of n-token
 * models after the last. */
#ifndef BF_MODEL_TRAIN_H
#define BF_MODEL_TRAIN_H

#include <stdio.h>

#include "backflow/train.h"
#include "base/buf.h"
#include "base/json.h"
#include "model/config.h"

typedef enum { BF_FIRST_NORMAL, BF_FIRST_RESIDUAL, BF_FIRST_ZERO, BF_FIRST_ONE, BF_FIRST_GATE } bf_first;

typedef struct {
    char name[BF_NAME_MAX]; /* as Hugging Face has it */
    size_t rank, dim[2];
    size_t at, count;       /* place in the arrays */
    bf_first first;         /* how it begins; RESIDUAL: normal, over sqrt(2 L); GATE: the layout's gate */
    bool decays;            /* a matrix */
} bf_train_tensor;

typedef struct {
    bf_train_tensor *tensor; /* [n]; the last n_extra are of extra heads */
    size_t n, n_extra;
    size_t values, extra_values; /* extra ones counted in both */
    size_t layer_values;     /* of one layer */
    double deviation;        /* of normal first values */
    double gate;             /* first logit of learnt gates */
    bf_json *json;           /* the model's config.json */
} bf_train_layout;

/* Lay out the model that config->model describes.  BF_EFORMAT, BF_EUNSUPPORTED, BF_EARG, BF_ENOMEM. */
bf_code bf_train_layout_new(bf_train_layout *out, const bf_train_config *config, bf_error *err);
void bf_train_layout_free(bf_train_layout *layout); /* and back to zero */

/* Read the config by the family's own rules, and where each weight stands in `values` (the array, or NULL
 * to check only). What config and weights own is the caller's (bf_train_unbind).
 * BF_EFORMAT, BF_EUNSUPPORTED, BF_ESHAPE, BF_ENOMEM. */
bf_code bf_train_bind(bf_config *config, bf_weights *weights, const bf_train_layout *layout,
                      const void *values, bf_dtype dtype, bf_error *err);
void bf_train_unbind(bf_config *config, bf_weights *weights);

/* First values into the array of float or double: normal by seed, ones, zeros. */
void bf_train_first(void *values, bf_dtype dtype, const bf_train_layout *layout, size_t L, uint64_t seed);

/* Learning rate of the step after `step` steps. */
double bf_train_rate(const bf_train_config *config, uint64_t step);

/* What bf_train was asked. */
typedef struct {
    const char *folder;
    const bf_train_config *config; /* defaults filled in */
    const bf_train_layout *layout;
    bf_data *data;
    bool resume;
    bf_train_state *state;
    bf_train_progress *progress;
    void *context;
    const volatile sig_atomic_t *stop;
} bf_train_job;

bf_code bf_train_run_f32(const bf_train_job *job, bf_error *err);
bf_code bf_train_run_f64(const bf_train_job *job, bf_error *err);
/* Bytes of weights, optimizer and activations for batches of B sequences of T. SIZE_MAX on overflow. */
size_t bf_train_bytes_f32(const bf_train_config *config, const bf_train_layout *layout,
                          const bf_config *model, size_t B, size_t T);
size_t bf_train_bytes_f64(const bf_train_config *config, const bf_train_layout *layout,
                          const bf_config *model, size_t B, size_t T);

/* ---- files (train_files.c) ---- */

/* Where a resumed run goes on. */
typedef struct {
    uint64_t step;
    double held_out;
} bf_train_point;

/* folder/checkpoint.safetensors: weights and both moments, of type dtype, layout->values each.
 * read: *found says if it was there; BF_EARG if its identity is another's, BF_ESHAPE, BF_EFORMAT. */
bf_code bf_train_checkpoint_write(const bf_train_job *job, const bf_train_point *point,
                                  const void *const parts[3], bf_error *err);
bf_code bf_train_checkpoint_read(bool *found, bf_train_point *point, void *const parts[3],
                                 const bf_train_job *job, bf_error *err);
/* folder/model.safetensors, and heads.safetensors if there are extra heads. */
bf_code bf_train_model_write(const bf_train_job *job, const void *values, bf_error *err);
/* Fill values from the model in config->start. BF_ESHAPE: another shape. */
bf_code bf_train_start_read(void *values, const bf_train_job *job, bf_error *err);
/* Folder, config.json, tokenizer.json; what an interrupted run left is removed. */
bf_code bf_train_folder_open(const bf_train_job *job, bf_error *err);
/* log.jsonl, to append to; lines beyond `step` are dropped. */
bf_code bf_train_log_open(FILE **out, const bf_train_job *job, uint64_t step, bf_error *err);

#endif
