/* train_config.c -- the fields of CONFIG.json, and their reading. What they come to is in
 * train_setup.c. */
#include "model/train_config.h"

#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(bf_train_file, member)
#define OBJECT(in, name, member, needed) \
    {in, name, BF_FIELD_OBJECT, AT(member), 0, 0, 0, NULL, needed}
#define SIZE(in, name, member, least, most, fallback) \
    {in, name, BF_FIELD_SIZE, AT(member), least, most, fallback, NULL, false}
#define NEED(in, name, member, least, most) \
    {in, name, BF_FIELD_SIZE, AT(member), least, most, 0, NULL, true}
#define NUMBER(in, name, member, least, most, fallback) \
    {in, name, BF_FIELD_NUMBER, AT(member), least, most, fallback, NULL, false}
#define BOOL(in, name, member, fallback) \
    {in, name, BF_FIELD_BOOL, AT(member), 0, 1, fallback, NULL, false}
#define TEXT(in, name, member) \
    {in, name, BF_FIELD_TEXT, AT(member), 0, 0, 0, NULL, false}
#define TEXTS(in, name, member) \
    {in, name, BF_FIELD_TEXTS, AT(member), 1, BF_TEXTS_MOST, 0, NULL, false}
#define CHOICE(in, name, member, choices, needed) \
    {in, name, BF_FIELD_CHOICE, AT(member), 0, 0, 0, choices, needed}

enum { WIDE = 1 << 20, LONG = 1 << 30 };

/* Objects come before what is in them. */
const bf_train_field bf_train_fields[] = {
    TEXT("", "$schema", schema),
    TEXT("", "about", about),
    OBJECT("", "model", has_model, true),
    CHOICE("model", "family", model.family, "gpt2|llama|mistral|qwen2", true),
    NEED("model", "layers", model.layers, 1, 1024),
    NEED("model", "width", model.width, 1, WIDE),
    NEED("model", "heads", model.heads, 1, 4096),
    SIZE("model", "kv_heads", model.kv_heads, 0, 4096, 0),
    SIZE("model", "head_width", model.head_width, 0, WIDE, 0),
    SIZE("model", "mlp", model.mlp, 0, WIDE, 0),
    SIZE("model", "positions", model.positions, 0, WIDE, 0),
    CHOICE("model", "activation", model.activation,
           "default|gelu_new|gelu|relu|silu|quick_gelu|relu2|tanh", false),
    CHOICE("model", "tied", model.tied, "default|yes|no", false),
    BOOL("model", "biases", model.biases, 0),
    NUMBER("model", "norm_epsilon", model.norm_epsilon, 1e-12, 1, 1e-5),
    NUMBER("model", "rope_theta", model.rope_theta, 1, 1e12, 10000),
    NUMBER("model", "deviation", model.deviation, 1e-6, 10, 0.02),
    OBJECT("", "data", has_data, true),
    TEXTS("data", "text", data.text),
    TEXTS("data", "tokens", data.tokens),
    CHOICE("data", "documents", data.documents, "file|line|blank|separator", false),
    TEXT("data", "tokenizer", data.tokenizer),
    SIZE("data", "vocabulary", data.vocabulary, 0, WIDE, 0),
    TEXTS("data", "special", data.special),
    TEXT("data", "separator", data.separator),
    NUMBER("data", "start", data.start, 0, 1, 0),
    CHOICE("data", "token_type", data.token_type, "u16|u32", false),
    OBJECT("data", "held_out", has_held_out, false),
    SIZE("data.held_out", "every", held_out.every, 0, LONG, 0),
    NUMBER("data.held_out", "share", held_out.share, 0, 1, 0),
    OBJECT("data", "mix", has_mix, false),
    NUMBER("data.mix", "first", mix.first, 0, 1, 0),
    NUMBER("data.mix", "last", mix.last, 0, 1, 0),
    SIZE("data.mix", "steps", mix.steps, 0, LONG, 0),
    SIZE("data.mix", "least", mix.least, 1, WIDE, 16),
    SIZE("data.mix", "most", mix.most, 1, WIDE, 64),
    NUMBER("data.mix", "uniform", mix.uniform, 0, 1, 0.5),
    SIZE("data.mix", "symbols", mix.symbols, 0, WIDE, 0),
    OBJECT("data", "masked", has_masked, false),
    NUMBER("data.masked", "rate", masked.rate, 0.001, 1, 0.15),
    NUMBER("data.masked", "random", masked.random, 0, 1, 0.1),
    NUMBER("data.masked", "keep", masked.keep, 0, 1, 0.1),
    TEXT("data.masked", "token", masked.token),
    SIZE("data.masked", "id", masked.id, 0, LONG, 0),
    OBJECT("data", "task", has_task, false),
    CHOICE("data.task", "kind", task.kind, "sine|copy|induction|polynomial|recall", true),
    NUMBER("data.task", "p", task.p, 1e-6, 1, 0.3),
    NUMBER("data.task", "factor", task.factor, 1e-6, 1e6, 10),
    SIZE("data.task", "terms", task.terms, 1, 1000, 10),
    SIZE("data.task", "symbols", task.symbols, 0, WIDE, 0),
    SIZE("data.task", "least", task.least, 0, WIDE, 0),
    SIZE("data.task", "most", task.most, 0, WIDE, 0),
    SIZE("data.task", "queries", task.queries, 1, WIDE, 8),
    BOOL("data.task", "answers_only", task.answers_only, 0),
    OBJECT("", "mask", has_mask, false),
    SIZE("mask", "window", mask.window, 0, LONG, 0),
    SIZE("mask", "sink", mask.sink, 0, LONG, 0),
    SIZE("mask", "segment", mask.segment, 0, LONG, 0),
    SIZE("mask", "memory", mask.memory, 0, LONG, 0),
    NUMBER("mask", "compressive", mask.compressive, 0, 0.999999, 0),
    CHOICE("mask", "gate", mask.gate, "fixed|learnt", false),
    CHOICE("mask", "update", mask.update, "linear|delta", false),
    CHOICE("mask", "detach", mask.detach, "none|memory", false),
    BOOL("mask", "bidirectional", mask.bidirectional, 0),
    OBJECT("", "objective", has_objective, false),
    CHOICE("objective", "cut", objective.cut, "none|myopic|states|local", false),
    SIZE("objective", "heads", objective.heads, 1, 16, 1),
    OBJECT("objective", "joint", has_joint, false),
    SIZE("objective.joint", "n", joint.n, 1, 1024, 2),
    SIZE("objective.joint", "prefixes", joint.prefixes, 1, WIDE, 4),
    SIZE("objective.joint", "samples", joint.samples, 1, WIDE, 8),
    SIZE("objective.joint", "keep", joint.keep, 1, WIDE, 1),
    BOOL("objective.joint", "random", joint.random, 0),
    NUMBER("objective.joint", "weight", joint.weight, 1e-6, 1e6, 1),
    SIZE("objective.joint", "context", joint.context, 1, WIDE, 16),
    BOOL("objective.joint", "alone", joint.alone, 0),
    OBJECT("", "dropout", has_dropout, false),
    NUMBER("dropout", "embedding", dropout.embedding, 0, 0.999999, 0),
    NUMBER("dropout", "attention", dropout.attention, 0, 0.999999, 0),
    NUMBER("dropout", "residual", dropout.residual, 0, 0.999999, 0),
    OBJECT("", "optimizer", has_optimizer, false),
    NUMBER("optimizer", "rate", optimizer.rate, 1e-12, 10, 1e-3),
    NUMBER("optimizer", "least_rate", optimizer.least_rate, 0, 10, 0),
    BOOL("optimizer", "constant", optimizer.constant, 0),
    SIZE("optimizer", "fall", optimizer.fall, 0, LONG, 0),
    SIZE("optimizer", "warmup", optimizer.warmup, 0, LONG, 0),
    NUMBER("optimizer", "beta1", optimizer.beta1, 1e-6, 0.999999, 0.9),
    NUMBER("optimizer", "beta2", optimizer.beta2, 1e-6, 0.999999, 0.95),
    NUMBER("optimizer", "epsilon", optimizer.epsilon, 1e-20, 1, 1e-8),
    NUMBER("optimizer", "decay", optimizer.decay, 0, 10, 0),
    NUMBER("optimizer", "clip", optimizer.clip, 0, 1e6, 1),
    SIZE("optimizer", "accumulate", optimizer.accumulate, 1, 65536, 1),
    NEED("", "context", context, 1, WIDE),
    NEED("", "batch", batch, 1, WIDE),
    NEED("", "steps", steps, 1, LONG),
    SIZE("", "seed", seed, 0, 9007199254740992.0, 1),
    SIZE("", "threads", threads, 0, 256, 0),
    SIZE("", "checkpoint", checkpoint, 1, LONG, 100),
    SIZE("", "measure", measure, 0, LONG, 100),
    SIZE("", "measure_batches", measure_batches, 0, LONG, 8),
    CHOICE("", "precision", precision, "f32|f64|bf16", false),
    CHOICE("", "store", store, "f32|bf16|f64", false),
    TEXT("", "start", start),
};
const size_t bf_train_field_count = sizeof bf_train_fields / sizeof *bf_train_fields;

const bf_train_field *bf_train_field_at(size_t at)
{
    for (size_t k = 0; k < bf_train_field_count; k++)
        if (bf_train_fields[k].at == at)
            return &bf_train_fields[k];
    return NULL;
}

/* ---- choices ---- */

const char *bf_choice_text(char buf[32], const char *choices, size_t k)
{
    for (; k; k--)
        choices += strcspn(choices, "|") + 1;
    snprintf(buf, 32, "%.*s", (int)strcspn(choices, "|"), choices);
    return buf;
}

static bool find_choice(size_t *out, const char *choices, const char *text)
{
    const size_t n = strlen(text);
    for (size_t k = 0;; k++) {
        const size_t len = strcspn(choices, "|");
        if (len == n && !memcmp(choices, text, n)) {
            *out = k;
            return true;
        }
        if (!choices[len])
            return false;
        choices += len + 1;
    }
}

/* ---- fields ---- */

static void want(char *buf, size_t size, const bf_train_field *f)
{
    switch (f->kind) {
    case BF_FIELD_SIZE:
        snprintf(buf, size, "a whole number from %.0f to %.0f", f->least, f->most);
        break;
    case BF_FIELD_NUMBER:
        snprintf(buf, size, "a number from %g to %g", f->least, f->most);
        break;
    case BF_FIELD_BOOL:
        snprintf(buf, size, "true or false");
        break;
    case BF_FIELD_TEXT:
        snprintf(buf, size, "a string");
        break;
    case BF_FIELD_TEXTS:
        snprintf(buf, size, "a list of 1 to %d strings", BF_TEXTS_MOST);
        break;
    case BF_FIELD_CHOICE:
        snprintf(buf, size, "one of %s", f->choices);
        break;
    case BF_FIELD_OBJECT:
        snprintf(buf, size, "an object");
        break;
    }
}

static bf_code wrong(const bf_train_field *f, const bf_json *found, bf_error *err)
{
    char show[64], wanted[160];
    want(wanted, sizeof wanted, f);
    return bf_fail(err, BF_EFORMAT, "field \"%s%s%s\" is %s, wanted %s", f->section,
                   *f->section ? "." : "", f->name, bf_json_describe(found, show, sizeof show),
                   wanted);
}

static bool read_texts(bf_texts *out, const bf_json *value)
{
    out->n = 0;
    if (bf_json_kind(value) != BF_JSON_ARRAY)
        return false;
    for (const bf_json *c = bf_json_first(value); c; c = bf_json_next(c)) {
        const char *text = bf_json_string(c);
        if (!text || !*text || out->n == BF_TEXTS_MOST)
            return false;
        out->text[out->n++] = text;
    }
    return out->n > 0;
}

/* False: not what the field wants. */
static bool read_value(bf_train_file *out, const bf_train_field *f, const bf_json *value)
{
    void *to = (char *)out + f->at;
    double v = 0.0;
    switch (f->kind) {
    case BF_FIELD_SIZE:
        return bf_json_size(value, to) && (double)*(size_t *)to >= f->least &&
               (double)*(size_t *)to <= f->most;
    case BF_FIELD_NUMBER:
        if (!bf_json_number(value, &v) || !(v >= f->least && v <= f->most))
            return false;
        *(double *)to = v;
        return true;
    case BF_FIELD_BOOL:
        *(bool *)to = bf_json_true(value);
        return bf_json_kind(value) == BF_JSON_BOOL;
    case BF_FIELD_TEXT:
        *(const char **)to = bf_json_string(value);
        return *(const char **)to && **(const char **)to;
    case BF_FIELD_TEXTS:
        return read_texts(to, value);
    case BF_FIELD_CHOICE:
        return bf_json_string(value) && find_choice(to, f->choices, bf_json_string(value));
    default:
        *(bool *)to = true;
        return bf_json_kind(value) == BF_JSON_OBJECT;
    }
}

static void put_fallback(bf_train_file *out, const bf_train_field *f)
{
    void *to = (char *)out + f->at;
    if (f->kind == BF_FIELD_SIZE || f->kind == BF_FIELD_CHOICE)
        *(size_t *)to = (size_t)f->fallback;
    else if (f->kind == BF_FIELD_NUMBER)
        *(double *)to = f->fallback;
    else if (f->kind == BF_FIELD_BOOL)
        *(bool *)to = f->fallback != 0.0;
}

/* The object that a section names: at most two steps down. NULL: not there. */
static const bf_json *find_section(const bf_json *json, const char *section)
{
    char name[32];
    for (; json && *section; section += strlen(name) + (section[strlen(name)] == '.')) {
        snprintf(name, sizeof name, "%.*s", (int)strcspn(section, "."), section);
        json = bf_json_get(json, name);
    }
    return json;
}

static bf_code read_field(bf_train_file *out, const bf_train_field *f, const bf_json *json,
                          bf_error *err)
{
    const bf_json *in = find_section(json, f->section);
    const bf_json *value = in ? bf_json_get(in, f->name) : NULL;
    put_fallback(out, f);
    if (!value)
        return in && f->needed ? wrong(f, NULL, err) : BF_OK;
    return read_value(out, f, value) ? BF_OK : wrong(f, value, err);
}

/* ---- fields that are not there ---- */

static bool is_field(const char *section, const char *name)
{
    for (size_t k = 0; k < bf_train_field_count; k++)
        if (!strcmp(bf_train_fields[k].section, section) && !strcmp(bf_train_fields[k].name, name))
            return true;
    return false;
}

static bf_code unknown(const char *section, const char *name, bf_error *err)
{
    char list[320] = "";
    for (size_t k = 0, n = 0; k < bf_train_field_count; k++)
        if (!strcmp(bf_train_fields[k].section, section) && n < sizeof list)
            n += (size_t)snprintf(list + n, sizeof list - n, "%s%s", n ? ", " : "",
                                  bf_train_fields[k].name);
    return bf_fail(err, BF_EFORMAT, "field \"%s%s%.60s\" is unknown, wanted one of %s", section,
                   *section ? "." : "", name, list);
}

static bf_code check_names(const bf_json *json, const char *section, bf_error *err)
{
    const bf_json *in = find_section(json, section);
    for (const bf_json *c = in ? bf_json_first(in) : NULL; c; c = bf_json_next(c))
        if (!is_field(section, bf_json_key(c)))
            return unknown(section, bf_json_key(c), err);
    return BF_OK;
}

bf_code bf_train_file_read(bf_train_file *out, const bf_json *json, bf_error *err)
{
    *out = (bf_train_file){0};
    if (bf_json_kind(json) != BF_JSON_OBJECT)
        return bf_fail(err, BF_EFORMAT, "holds no object");
    bf_code rc = check_names(json, "", err);
    for (size_t k = 0; k < bf_train_field_count && !rc; k++) {
        const bf_train_field *f = &bf_train_fields[k];
        char section[64];
        rc = read_field(out, f, json, err);
        if (rc || f->kind != BF_FIELD_OBJECT)
            continue;
        snprintf(section, sizeof section, "%s%s%s", f->section, *f->section ? "." : "", f->name);
        rc = check_names(json, section, err);
    }
    return rc;
}
