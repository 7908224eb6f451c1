/* families.h -- what a model family is written with.
 *
 * A family is one file, model/family_NAME.c, that defines `const bf_family bf_family_NAME`, and one
 * word in BF_FAMILIES below. Its `read` fills the config from the fields of config.json
 * (bf_config_*) and takes every weight by name, with the shape it must have (bf_slot_*). Failures
 * stick: after the first these do nothing, return harmless values and leave the message as it is,
 * so `read` asks r->rc only before it loops. Tensors that nobody took are refused afterwards. */
#ifndef BF_MODEL_FAMILIES_H
#define BF_MODEL_FAMILIES_H

#include "base/json.h"
#include "model/config.h"
#include "model/files.h"

/* The registry: one word a family. */
#define BF_FAMILIES(add) add(gpt2) add(llama) add(mistral) add(qwen2)

struct bf_family;

typedef struct {
    const bf_json *json; /* config.json */
    const char *path;    /* of config.json */
    const struct bf_family *family;
    bf_store *store;
    bf_config *config;
    bf_weights *weights;
    const char *absent; /* start of tensor names that this checkpoint leaves out, or NULL */
    size_t parameters, bytes; /* of the tensors taken so far */
    unsigned dtypes;          /* bit k: dtype k is among them */
    bf_error *err;
    bf_code rc; /* the first failure */
} bf_reader;

typedef struct bf_family {
    const char *model_type;
    const char *const *architectures; /* NULL-terminated */
    void (*read)(bf_reader *r);
    const char *const *buffers; /* tensors that are no weights; '#': a number. NULL-terminated */
} bf_family;

/* A family's name is declared by its word in the registry. */
#define BF_FAMILY_DECLARE(name) extern const bf_family bf_family_##name;
BF_FAMILIES(BF_FAMILY_DECLARE)

/* Find the family that config.json names.
 * r  json, path, store, config, weights, err set (the store may still be empty), the rest zero
 * BF_EUNSUPPORTED unknown families and quantized weights; BF_EFORMAT. */
bf_code bf_family_find(bf_reader *r);
/* Then read the config and take the weights from the store. What config and weights own afterwards
 * is the caller's to free, after a failure too.
 * BF_EUNSUPPORTED, BF_EFORMAT, BF_ESHAPE, BF_ENOMEM. */
bf_code bf_family_read(bf_reader *r);

/* Stop with a message; does nothing after the first. */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
void bf_reader_fail(bf_reader *r, bf_code code, const char *format, ...);

/* Fields of config.json. A missing or null field gives the fallback. */
size_t bf_config_size(bf_reader *r, const char *key, size_t fallback);  /* 1 to 2^31 - 1 */
size_t bf_config_count(bf_reader *r, const char *key, size_t fallback); /* 0 to 2^31 - 1 */
double bf_config_number(bf_reader *r, const char *key, double fallback); /* finite, > 0 */
bool bf_config_bool(bf_reader *r, const char *key, bool fallback);
bf_act_kind bf_config_act(bf_reader *r, const char *key, const char *fallback);
/* Is the field null? For one that is missing: `missing`. */
bool bf_config_null(const bf_reader *r, const char *key, bool missing);
/* Fail unless field b's value divides field a's. */
void bf_config_divides(bf_reader *r, const char *a, size_t a_value, const char *b, size_t b_value);
/* Rotary frequencies of K and "rope_parameters" or "rope_scaling" (model/rope.c): config.inv_freq,
 * rotary_dim, rotary_scale. Call after the weights were taken: only then K is known to be true. */
void bf_config_rope(bf_reader *r);
/* Make the L layers and attn_scale = 1/sqrt(K). Fails if the files cannot hold so many. */
void bf_config_layers(bf_reader *r);
/* Give layer l the sliding window. */
void bf_config_window(bf_reader *r, size_t l, size_t window);
/* Read "backflow" of config.json (model/extras.c): "mask", one for all layers or a list with one for
 * each, and "mask_token"; and take the weights that masks bring with them, BF_GATE_NAME [H]. */
#define BF_GATE_NAME "backflow.layers.#.memory_gate"
void bf_config_extras(bf_reader *r);
/* Read a mask: {"window", "sink", "segment", "memory", "detach": "memory" or "none", "compressive",
 * "gate": "fixed" or "learnt", "update": "linear" or "delta", "bidirectional"}, all optional. *out
 * untouched on failure.  BF_EFORMAT. */
bf_code bf_mask_read(bf_mask *out, const bf_json *object, bf_error *err);

/* The checkpoint may leave `start` out of all names: it does if it has `rest`, not `start rest`. */
void bf_slot_prefix(bf_reader *r, const char *start, const char *rest);
/* Take the tensor `name` ('#' stands for l). data NULL after a failure. */
bf_matrix bf_slot_matrix(bf_reader *r, const char *name, size_t l, size_t out, size_t in);
/* The same, stored [in,out]. */
bf_matrix bf_slot_conv1d(bf_reader *r, const char *name, size_t l, size_t out, size_t in);
bf_vector bf_slot_vector(bf_reader *r, const char *name, size_t l, size_t n);
/* Embedding and head of [V,D], tied if config.tied and the file holds one of them or the same
 * values twice; otherwise config.tied becomes false, as Hugging Face has it. */
void bf_slot_ends(bf_reader *r, const char *embed, const char *head);

/* Views of n outputs from the first on: fused projections in parts. Empty stays empty. */
bf_matrix bf_matrix_part(const bf_matrix *m, size_t first, size_t n);
bf_vector bf_vector_part(const bf_vector *v, size_t first, size_t n);

#endif
