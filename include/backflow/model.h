/* model.h -- a transformer language model and one forward run of it, with every site kept.
 *
 * A model is a Hugging Face folder (config.json, *.safetensors, tokenizer.json). Its family is a row
 * of a table (model/families.c); weights stay memory-mapped and are converted on the way.
 * Axes: N positions, L layers, D width, H heads, G key/value heads, K head width, F MLP width,
 * V vocabulary, P positions the model knows. */
#ifndef BACKFLOW_MODEL_H
#define BACKFLOW_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/record.h"
#include "backflow/tokenizer.h"

typedef struct bf_model bf_model;

typedef struct {
    char name[128];     /* last part of the folder's path */
    char family[32];    /* config.json's model_type */
    size_t L, D, H, G, K, F, V, P;
    bool tied;          /* the output head is the embedding */
    size_t parameters;  /* values in all weight tensors that the forward pass uses */
    size_t weight_bytes; /* their bytes as stored */
    char dtypes[32];    /* of the stored weights: "F32", "BF16", "F16+F32" */
} bf_dims;

/* What is walked back from position i: a function of the logits x there, p = softmax(x).
 * a, b: token ids; a < 0: the token that follows i in the text. */
typedef enum {
    BF_TARGET_LOSS,       /* -log p[t[i+1]], nats */
    BF_TARGET_LOGIT,      /* x[a] */
    BF_TARGET_LOGPROB,    /* log p[a], nats */
    BF_TARGET_LOGIT_DIFF, /* x[a] - x[b]: why a and not b */
    BF_TARGET_ENTROPY,    /* -sum p log p, nats */
    BF_TARGET_KL          /* sum r (log r - log p), nats; r: what another run predicted there */
} bf_target_kind;

typedef struct {
    bf_target_kind kind;
    int64_t a, b;
    const bf_record *reference; /* of KL: a record with logprobs; borrowed, while the target is used */
    bool other_text;            /* of KL: the reference's tokens may be others, as many */
} bf_target;

/* Keys and values that pass no gradient. None of it changes a value of the forward run. */
typedef enum {
    BF_DETACH_MODEL,  /* those that the model's config.json says */
    BF_DETACH_NONE,   /* all pass it */
    BF_DETACH_MEMORY, /* segment recurrence: not those before the query's own segment */
    BF_DETACH_MYOPIC  /* only the query's own position passes it (Wu et al. 2024, arXiv:2404.00859) */
} bf_detach;

/* Open a model: a folder, or the name of a bundled one. Nothing of the weights is read but headers.
 * out  owned by the caller (bf_model_free); untouched on failure.
 * BF_EIO, BF_EFORMAT, BF_ESHAPE, BF_EUNSUPPORTED, BF_ENOMEM; messages name file, field, found, wanted. */
bf_code bf_model_open(bf_model **out, const char *path, bf_error *err);
void bf_model_free(bf_model *model); /* NULL-safe */
const bf_dims *bf_model_dims(const bf_model *model);
/* NULL if the folder has no tokenizer.json; loaded at the first call. Borrowed. A broken file: *out
 * untouched and an error. */
bf_code bf_model_tokenizer(const bf_tokenizer **out, bf_model *model, bf_error *err);
/* SHA-256, in hexadecimal, of the weight files' bytes, one after the other in name order (for one
 * file what sha256sum prints). Computed at the first call. Borrowed. */
bf_code bf_model_sha256(const char **out, bf_model *model, bf_error *err);

/* SHA-256 of any file's bytes, in hexadecimal. BF_EIO; BF_ENOMEM. Messages start with the path. */
bf_code bf_file_sha256(char out[65], const char *path, bf_error *err);

#endif
