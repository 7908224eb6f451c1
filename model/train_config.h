/* train_config.h -- CONFIG.json as one table of fields: the reader goes by it, and
 * docs/train.schema.json says the same (tests/test_train_config.c holds them together). */
#ifndef BF_MODEL_TRAIN_CONFIG_H
#define BF_MODEL_TRAIN_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "base/json.h"

typedef enum { BF_FIELD_SIZE, BF_FIELD_NUMBER, BF_FIELD_BOOL, BF_FIELD_TEXT, BF_FIELD_TEXTS,
               BF_FIELD_CHOICE, BF_FIELD_OBJECT } bf_field_kind;

typedef struct {
    const char *section;  /* "", "model", "data", "data.task", ...: an object of the file */
    const char *name;
    bf_field_kind kind;
    size_t at;            /* of its value in bf_train_file; of an object: whether it is there */
    double least, most;   /* of numbers, both included; of a list, its length */
    double fallback;      /* of numbers, true or false; choices: which */
    const char *choices;  /* "a|b|c" */
    bool needed;
} bf_train_field;

extern const bf_train_field bf_train_fields[];
extern const size_t bf_train_field_count;

enum { BF_TEXTS_MOST = 64 };
typedef struct {
    const char *text[BF_TEXTS_MOST];
    size_t n;
} bf_texts;

/* Every field of the file, defaults filled in. Texts are borrowed from the JSON. */
typedef struct {
    const char *schema, *about;
    bool has_model, has_data, has_objective, has_mask, has_optimizer, has_held_out, has_mix,
        has_masked, has_task, has_joint, has_dropout;
    size_t context, batch, steps, seed, threads, checkpoint, measure, measure_batches, precision,
        store;
    const char *start;
    struct {
        size_t family, layers, width, heads, kv_heads, head_width, mlp, positions, activation, tied;
        double norm_epsilon, rope_theta, deviation;
        bool biases;
    } model;
    struct {
        bf_texts text, tokens, special;
        size_t documents, vocabulary, token_type;
        const char *tokenizer, *separator;
        double start;
    } data;
    struct {
        size_t every;
        double share;
    } held_out;
    struct {
        double first, last, uniform;
        size_t steps, least, most, symbols;
    } mix;
    struct {
        double rate, random, keep;
        const char *token;
        size_t id;
    } masked;
    struct {
        size_t kind, terms, symbols, least, most, queries;
        double p, factor;
        bool answers_only;
    } task;
    struct {
        size_t cut, heads;
    } objective;
    struct {
        size_t n, prefixes, samples, keep, context;
        double weight;
        bool random, alone;
    } joint;
    struct {
        double embedding, attention, residual;
    } dropout;
    struct {
        size_t window, sink, segment, memory, gate, update, detach;
        double compressive;
        bool bidirectional;
    } mask;
    struct {
        double rate, least_rate, beta1, beta2, epsilon, decay, clip;
        size_t warmup, fall, accumulate;
        bool constant;
    } optimizer;
} bf_train_file;

/* Read json, an object, by the table.  BF_EFORMAT: field, found, wanted. */
bf_code bf_train_file_read(bf_train_file *out, const bf_json *json, bf_error *err);
/* Choice k of "a|b|c", copied to buf. Returns buf. */
const char *bf_choice_text(char buf[32], const char *choices, size_t k);
/* The table's row for a member of bf_train_file. */
const bf_train_field *bf_train_field_at(size_t at);

#endif
