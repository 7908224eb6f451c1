/* The tensors of a model to be made, in Hugging Face's names, and where each stands in one array. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/data_random.h"
#include "model/families.h"
#include "model/train.h"

enum { MOST = 1 << 20 }; /* of any size in a config; products of two fit a size many times over */

typedef struct {
    size_t L, D, H, G, K, F, V, P, gates;
    bool tied, qkv_b, o_b, mlp_b;
} sizes;

/* A tensor of the model; cols 0: a vector; rows 0: not there. */
typedef struct {
    const char *name;
    size_t rows, cols;
    bf_first first;
} part;

static bf_code need(size_t *out, const bf_json *json, const char *key, bf_error *err)
{
    bf_code rc = bf_json_need_size(out, json, key, err);
    if (!rc && (*out < 1 || *out > MOST))
        rc = bf_fail(err, BF_EFORMAT, "field \"%s\" is the number %zu, wanted 1 to %d", key, *out, MOST);
    return rc ? bf_error_prefix(err, rc, "model") : BF_OK;
}

static bf_code option(size_t *out, const bf_json *json, const char *key, size_t fallback, bf_error *err)
{
    bf_code rc = bf_json_opt_size(out, json, key, fallback, err);
    if (!rc && (*out < 1 || *out > MOST))
        rc = bf_fail(err, BF_EFORMAT, "field \"%s\" is the number %zu, wanted 1 to %d", key, *out, MOST);
    return rc ? bf_error_prefix(err, rc, "model") : BF_OK;
}

static bf_code need_all(size_t *const out[], const char *const key[], size_t n, const bf_json *json,
                        bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++)
        rc = need(out[k], json, key[k], err);
    return rc;
}

static bf_code read_gpt2(sizes *s, const bf_json *json, bf_error *err)
{
    static const char *const key[] = {"n_layer", "n_embd", "n_head", "vocab_size", "n_positions"};
    size_t *const out[] = {&s->L, &s->D, &s->H, &s->V, &s->P};
    bf_code rc = need_all(out, key, 5, json, err);
    if (!rc)
        rc = option(&s->F, json, "n_inner", 4 * s->D, err);
    if (!rc)
        rc = bf_json_opt_bool(&s->tied, json, "tie_word_embeddings", true, err);
    s->G = s->H;
    return rc;
}

static bf_code read_llama(sizes *s, const bf_json *json, const char *type, bf_error *err)
{
    static const char *const key[] = {"num_hidden_layers", "hidden_size", "num_attention_heads",
                                      "intermediate_size", "vocab_size", "max_position_embeddings"};
    size_t *const out[] = {&s->L, &s->D, &s->H, &s->F, &s->V, &s->P};
    bf_code rc = need_all(out, key, 6, json, err);
    if (!rc)
        rc = need(&s->G, json, "num_key_value_heads", err);
    if (!rc)
        rc = option(&s->K, json, "head_dim", s->D / s->H ? s->D / s->H : 1, err);
    if (!rc)
        rc = bf_json_opt_bool(&s->tied, json, "tie_word_embeddings", false, err);
    if (!rc && strcmp(type, "llama") == 0) {
        rc = bf_json_opt_bool(&s->qkv_b, json, "attention_bias", false, err);
        s->o_b = s->qkv_b;
        if (!rc)
            rc = bf_json_opt_bool(&s->mlp_b, json, "mlp_bias", false, err);
    }
    s->qkv_b = s->qkv_b || strcmp(type, "qwen2") == 0;
    return rc;
}

/* Append one tensor; '#' in its name stands for l. */
static void add(bf_train_layout *y, const part *p, size_t l)
{
    if (!p->rows)
        return;
    bf_train_tensor *t = &y->tensor[y->n++];
    const char *hash = strchr(p->name, '#');
    if (hash)
        snprintf(t->name, sizeof t->name, "%.*s%zu%s", (int)(hash - p->name), p->name, l, hash + 1);
    else
        snprintf(t->name, sizeof t->name, "%s", p->name);
    t->rank = p->cols ? 2 : 1;
    t->dim[0] = p->rows;
    t->dim[1] = p->cols;
    t->count = p->rows * (p->cols ? p->cols : 1);
    t->at = y->values;
    t->first = p->first;
    t->decays = p->cols > 0;
    y->values += t->count;
}

static bf_code add_all(bf_train_layout *y, const part *ends, size_t n_ends, const part *layer,
                       size_t n_layer, const sizes *s, size_t extra, bf_error *err)
{
    const part gate = {BF_GATE_NAME, s->gates, 0, BF_FIRST_GATE};
    const size_t L = s->L;
    y->tensor = calloc(n_ends + (L + extra) * (n_layer + 1), sizeof *y->tensor);
    if (!y->tensor)
        return bf_fail(err, BF_ENOMEM, "cannot hold the names of %zu layers", L + extra);
    for (size_t k = 0; k < n_ends; k++)
        add(y, &ends[k], 0);
    for (size_t l = 0; l < L + extra; l++) {
        const size_t values = y->values, n = y->n;
        for (size_t k = 0; k < n_layer; k++)
            add(y, &layer[k], l);
        add(y, &gate, l);
        y->layer_values = y->values - values;
        if (l >= L)
            y->n_extra += y->n - n;
    }
    y->extra_values = extra * y->layer_values;
    return y->values > SIZE_MAX / 64 ? bf_fail(err, BF_ENOMEM, "the model has %zu values", y->values)
                                     : BF_OK;
}

static bf_code add_gpt2(bf_train_layout *y, const sizes *s, size_t extra, bf_error *err)
{
    const size_t D = s->D, F = s->F;
    const part ends[] = {{"transformer.wte.weight", s->V, D, BF_FIRST_NORMAL},
                         {"transformer.wpe.weight", s->P, D, BF_FIRST_NORMAL},
                         {"transformer.ln_f.weight", D, 0, BF_FIRST_ONE},
                         {"transformer.ln_f.bias", D, 0, BF_FIRST_ZERO},
                         {"lm_head.weight", s->tied ? 0 : s->V, D, BF_FIRST_NORMAL}};
    const part layer[] = {{"transformer.h.#.ln_1.weight", D, 0, BF_FIRST_ONE},
                          {"transformer.h.#.ln_1.bias", D, 0, BF_FIRST_ZERO},
                          {"transformer.h.#.attn.c_attn.weight", D, 3 * D, BF_FIRST_NORMAL},
                          {"transformer.h.#.attn.c_attn.bias", 3 * D, 0, BF_FIRST_ZERO},
                          {"transformer.h.#.attn.c_proj.weight", D, D, BF_FIRST_RESIDUAL},
                          {"transformer.h.#.attn.c_proj.bias", D, 0, BF_FIRST_ZERO},
                          {"transformer.h.#.ln_2.weight", D, 0, BF_FIRST_ONE},
                          {"transformer.h.#.ln_2.bias", D, 0, BF_FIRST_ZERO},
                          {"transformer.h.#.mlp.c_fc.weight", D, F, BF_FIRST_NORMAL},
                          {"transformer.h.#.mlp.c_fc.bias", F, 0, BF_FIRST_ZERO},
                          {"transformer.h.#.mlp.c_proj.weight", F, D, BF_FIRST_RESIDUAL},
                          {"transformer.h.#.mlp.c_proj.bias", D, 0, BF_FIRST_ZERO}};
    return add_all(y, ends, sizeof ends / sizeof *ends, layer, sizeof layer / sizeof *layer, s, extra,
                   err);
}

static bf_code add_llama(bf_train_layout *y, const sizes *s, size_t extra, bf_error *err)
{
    const size_t D = s->D, F = s->F, Q = s->H * s->K, U = s->G * s->K;
    const part ends[] = {{"model.embed_tokens.weight", s->V, D, BF_FIRST_NORMAL},
                         {"model.norm.weight", D, 0, BF_FIRST_ONE},
                         {"lm_head.weight", s->tied ? 0 : s->V, D, BF_FIRST_NORMAL}};
    const part layer[] = {
        {"model.layers.#.input_layernorm.weight", D, 0, BF_FIRST_ONE},
        {"model.layers.#.self_attn.q_proj.weight", Q, D, BF_FIRST_NORMAL},
        {"model.layers.#.self_attn.k_proj.weight", U, D, BF_FIRST_NORMAL},
        {"model.layers.#.self_attn.v_proj.weight", U, D, BF_FIRST_NORMAL},
        {"model.layers.#.self_attn.q_proj.bias", s->qkv_b ? Q : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.self_attn.k_proj.bias", s->qkv_b ? U : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.self_attn.v_proj.bias", s->qkv_b ? U : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.self_attn.o_proj.weight", D, Q, BF_FIRST_NORMAL},
        {"model.layers.#.self_attn.o_proj.bias", s->o_b ? D : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.post_attention_layernorm.weight", D, 0, BF_FIRST_ONE},
        {"model.layers.#.mlp.gate_proj.weight", F, D, BF_FIRST_NORMAL},
        {"model.layers.#.mlp.up_proj.weight", F, D, BF_FIRST_NORMAL},
        {"model.layers.#.mlp.gate_proj.bias", s->mlp_b ? F : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.mlp.up_proj.bias", s->mlp_b ? F : 0, 0, BF_FIRST_ZERO},
        {"model.layers.#.mlp.down_proj.weight", D, F, BF_FIRST_NORMAL},
        {"model.layers.#.mlp.down_proj.bias", s->mlp_b ? D : 0, 0, BF_FIRST_ZERO}};
    return add_all(y, ends, sizeof ends / sizeof *ends, layer, sizeof layer / sizeof *layer, s, extra,
                   err);
}

/* Gates of compressive memories that are learnt: layers have the same weights, so all of them or none. */
static bf_code read_gates(sizes *s, bf_train_layout *y, bf_error *err)
{
    const bf_json *mask = bf_json_get(bf_json_get(y->json, "backflow"), "mask");
    const bool list = mask && bf_json_kind(mask) == BF_JSON_ARRAY;
    bf_mask m = {0};
    bf_code rc = BF_OK;
    const bf_json *one = list ? bf_json_first(mask) : mask;
    for (; one && !rc; one = list ? bf_json_next(one) : NULL) {
        rc = bf_mask_read(&m, one, err);
        if (!rc && m.learnt && list)
            rc = bf_fail(err, BF_EUNSUPPORTED, "field \"gate\" is \"learnt\" in a list of masks, wanted one "
                         "mask for all layers");
    }
    if (rc)
        return bf_error_prefix(err, rc, "model: field \"backflow.mask\"");
    s->gates = m.learnt ? s->H : 0;
    y->gate = m.learnt ? log(m.compressive / (1 - m.compressive)) : 0;
    return BF_OK;
}

static bf_code lay(bf_train_layout *y, const bf_train_config *config, bf_error *err)
{
    sizes s = {0};
    const size_t extra = config->objective == BF_OBJECTIVE_HEADS ? config->heads - 1 : 0;
    const char *type = bf_json_string(bf_json_get(y->json, "model_type"));
    const bool gpt2 = type && strcmp(type, "gpt2") == 0;
    if (!type || !(gpt2 || !strcmp(type, "llama") || !strcmp(type, "mistral") || !strcmp(type, "qwen2")))
        return bf_fail(err, BF_EUNSUPPORTED, "model: field \"model_type\" is \"%.40s\", wanted gpt2, "
                       "llama, mistral or qwen2", type ? type : "missing");
    bf_code rc = gpt2 ? read_gpt2(&s, y->json, err) : read_llama(&s, y->json, type, err);
    if (!rc)
        rc = read_gates(&s, y, err);
    if (!rc && extra > 64)
        rc = bf_fail(err, BF_EARG, "%zu heads, wanted 2 to 65", extra + 1);
    if (!rc)
        rc = bf_json_opt_number(&y->deviation, y->json, "initializer_range", 0.02, err);
    if (!rc && config->deviation > 0)
        y->deviation = config->deviation;
    if (!rc && !(y->deviation > 0 && y->deviation < 1e3))
        rc = bf_fail(err, BF_EFORMAT, "model: field \"initializer_range\" is the number %g, wanted one "
                     "above 0", y->deviation);
    if (!rc)
        rc = (gpt2 ? add_gpt2 : add_llama)(y, &s, extra, err);
    return rc;
}

bf_code bf_train_layout_new(bf_train_layout *out, const bf_train_config *config, bf_error *err)
{
    bf_train_layout y = {0};
    if (!config->model)
        return bf_fail(err, BF_EARG, "field \"model\" is missing, wanted a config.json");
    bf_code rc = bf_json_parse(&y.json, config->model, strlen(config->model), err);
    if (rc)
        return bf_error_prefix(err, rc, "model");
    rc = lay(&y, config, err);
    if (rc)
        bf_train_layout_free(&y);
    else
        *out = y;
    return rc;
}

void bf_train_layout_free(bf_train_layout *y)
{
    bf_json_free(y->json);
    free(y->tensor);
    *y = (bf_train_layout){0};
}

/* ---- the family's own reading ---- */

static int entry_by_name(const void *a, const void *b)
{
    return strcmp(((const bf_entry *)a)->tensor->name, ((const bf_entry *)b)->tensor->name);
}

bf_code bf_train_bind(bf_config *config, bf_weights *weights, const bf_train_layout *y,
                      const void *values, bf_dtype dtype, bf_error *err)
{
    const size_t n = y->n - y->n_extra, size = bf_dtype_size(dtype);
    char *path[1] = {(char[]){"model"}};
    bf_st_tensor *tensor = calloc(n, sizeof *tensor);
    bf_entry *entry = calloc(n, sizeof *entry);
    bf_store store = {.path = path, .n_files = 1, .entry = entry, .n = n};
    bf_error spare;
    bf_reader r = {.json = y->json, .path = "model", .store = &store, .config = config,
                   .weights = weights, .err = err ? err : &spare};
    bf_code rc = tensor && entry ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu names", n);
    for (size_t k = 0; k < n && !rc; k++) {
        const bf_train_tensor *t = &y->tensor[k];
        tensor[k] = (bf_st_tensor){.name = t->name, .usable = true, .dtype = dtype, .dtype_name = "",
                                   .rank = t->rank, .dim = {t->dim[0], t->dim[1]}, .count = t->count,
                                   .bytes = t->count * size,
                                   .data = values ? (const char *)values + t->at * size : t->name};
        entry[k] = (bf_entry){.tensor = &tensor[k], .listed = true};
    }
    if (!rc) {
        qsort(entry, n, sizeof *entry, entry_by_name);
        rc = bf_family_find(&r);
    }
    if (!rc)
        rc = bf_family_read(&r);
    if (!rc && config->parallel)
        rc = bf_fail(err, BF_EUNSUPPORTED, "model: blocks are parallel, wanted one part after the other");
    free(entry);
    free(tensor);
    return rc;
}

void bf_train_unbind(bf_config *config, bf_weights *weights)
{
    free(weights->layer);
    free(config->inv_freq);
    free(config->attn_scale);
    free(config->mask);
    *config = (bf_config){0};
    *weights = (bf_weights){0};
}

/* ---- first values ---- */

/* Of tensor k, in double; each value has its own draw, so that float and double runs begin alike. */
static double first_value(const bf_train_tensor *t, bf_random *random, const bf_train_layout *y,
                          double residual)
{
    switch (t->first) {
    case BF_FIRST_NORMAL:
        return y->deviation * bf_random_normal(random);
    case BF_FIRST_RESIDUAL:
        return y->deviation * residual * bf_random_normal(random);
    case BF_FIRST_ONE:
        return 1;
    case BF_FIRST_GATE:
        return y->gate;
    case BF_FIRST_ZERO:
        break;
    }
    return 0;
}

enum { STREAM = 0x1417 }; /* of first values, beside those of the data's splits */

void bf_train_first(void *values, bf_dtype dtype, const bf_train_layout *y, size_t L, uint64_t seed)
{
    const double residual = 1 / sqrt(2 * (double)L);
    for (size_t k = 0; k < y->n; k++) {
        const bf_train_tensor *t = &y->tensor[k];
        bf_random random = bf_random_of(seed, STREAM, k, 0);
        for (size_t v = t->at; v < t->at + t->count; v++) {
            const double x = first_value(t, &random, y, residual);
            if (dtype == BF_F64)
                ((double *)values)[v] = x;
            else
                ((float *)values)[v] = (float)x;
        }
    }
}
