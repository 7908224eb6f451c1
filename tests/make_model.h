/* make_model.h -- model folders with random weights, for tests: config.json and safetensors files.
 *
 * Fill a made_model, call make_model(folder, &m). To make a folder that is wrong, take the list of
 * tensors (list_tensors), change it, and write it (write_config, write_weights).
 * The same seed gives the same values. Anything that the system refuses ends the program. */
#ifndef BF_TESTS_MAKE_MODEL_H
#define BF_TESTS_MAKE_MODEL_H

#include <dirent.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backflow/record.h"

typedef struct {
    const char *family; /* "gpt2", "llama", "mistral" or "qwen2" */
    size_t L, D, H, G, K, F, V, P; /* G 0: H; K 0: D/H (gpt2: always) */
    bf_dtype dtype;     /* of every tensor: F32, F64, F16 or BF16 */
    size_t shards;      /* 0: model.safetensors; else so many, with an index */
    bool tied;
    bool biases;        /* llama: attention_bias and mlp_bias */
    bool bare;          /* tensor names without "transformer." or "model." */
    bool odd;           /* weights at odd addresses */
    double scale;       /* of the weights, times 1/sqrt(D); 0: 1 */
    uint64_t seed;
    size_t gates;       /* layers 0..gates-1 have compressive memory with learnt gates */
    const char *extra;  /* more fields for config.json: "\"rope_theta\": 1e5, ", or NULL */
} made_model;

typedef struct {
    char name[128];
    bf_dtype dtype;
    size_t rank, dim[2];
} made_tensor;

enum { MADE_MAX = 400 };

static inline void made_fail(const char *what)
{
    perror(what);
    abort();
}

/* A new folder for tests, in path. */
static inline void make_folder(char path[256])
{
    const char *tmp = getenv("TMPDIR");
    snprintf(path, 256, "%s/backflow-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(path))
        made_fail(path);
}

static inline void join(char out[512], const char *folder, const char *name)
{
    snprintf(out, 512, "%s/%s", folder, name);
}

/* Remove a folder and the files in it. */
static inline void remove_folder(const char *folder)
{
    char path[512];
    DIR *dir = opendir(folder);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0) {
            join(path, folder, d->d_name);
            unlink(path);
        }
    if (dir)
        closedir(dir);
    rmdir(folder);
}

static inline void write_file(const char *folder, const char *name, const void *bytes, size_t len)
{
    char path[512];
    join(path, folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(bytes, 1, len, f) != len || fclose(f) != 0)
        made_fail(path);
}

/* A part of the model: rows x cols, or a vector if cols is 0; not there if rows is 0. A name that
 * starts with a # stands once in every layer. */
typedef struct {
    const char *name;
    size_t rows, cols;
} made_part;

static inline void add_part(made_tensor *t, size_t *n, const made_model *m, const char *start,
                            const char *layers, const made_part *part)
{
    const bool many = part->name[0] == '#';
    for (size_t l = 0; part->rows && l < (many ? m->L : 1); l++) {
        made_tensor *new = &t[(*n)++];
        if (*n > MADE_MAX)
            made_fail("too many tensors");
        *new = (made_tensor){.dtype = m->dtype, .rank = part->cols ? 2 : 1,
                             .dim = {part->rows, part->cols}};
        if (many)
            snprintf(new->name, sizeof new->name, "%s%s.%zu.%s", start, layers, l, part->name + 1);
        else
            snprintf(new->name, sizeof new->name, "%s%s", start, part->name);
    }
}

static inline void list_gpt2(made_tensor *t, size_t *n, const made_model *m)
{
    const size_t D = m->D, F = m->F;
    const made_part part[] = {
        {"wte.weight", m->V, D}, {"wpe.weight", m->P, D},
        {"#ln_1.weight", D, 0}, {"#ln_1.bias", D, 0}, {"#ln_2.weight", D, 0}, {"#ln_2.bias", D, 0},
        {"#attn.c_attn.weight", D, 3 * D}, {"#attn.c_attn.bias", 3 * D, 0},
        {"#attn.c_proj.weight", D, D}, {"#attn.c_proj.bias", D, 0}, {"#mlp.c_fc.weight", D, F},
        {"#mlp.c_fc.bias", F, 0}, {"#mlp.c_proj.weight", F, D}, {"#mlp.c_proj.bias", D, 0},
        {"ln_f.weight", D, 0}, {"ln_f.bias", D, 0}};
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        add_part(t, n, m, m->bare ? "" : "transformer.", "h", &part[k]);
}

static inline void list_llama(made_tensor *t, size_t *n, const made_model *m)
{
    const size_t D = m->D, F = m->F, K = m->K ? m->K : D / m->H;
    const size_t Q = m->H * K, U = (m->G ? m->G : m->H) * K;
    const size_t b = m->biases, qkv_b = b || strcmp(m->family, "qwen2") == 0;
    const made_part part[] = {
        {"embed_tokens.weight", m->V, D}, {"norm.weight", D, 0}, {"#input_layernorm.weight", D, 0},
        {"#post_attention_layernorm.weight", D, 0}, {"#self_attn.q_proj.weight", Q, D},
        {"#self_attn.k_proj.weight", U, D}, {"#self_attn.v_proj.weight", U, D},
        {"#self_attn.o_proj.weight", D, Q}, {"#mlp.gate_proj.weight", F, D},
        {"#mlp.up_proj.weight", F, D}, {"#mlp.down_proj.weight", D, F},
        {"#self_attn.q_proj.bias", qkv_b * Q, 0}, {"#self_attn.k_proj.bias", qkv_b * U, 0},
        {"#self_attn.v_proj.bias", qkv_b * U, 0}, {"#self_attn.o_proj.bias", b * D, 0},
        {"#mlp.gate_proj.bias", b * F, 0}, {"#mlp.up_proj.bias", b * F, 0},
        {"#mlp.down_proj.bias", b * D, 0}};
    for (size_t k = 0; k < sizeof part / sizeof *part; k++)
        add_part(t, n, m, m->bare ? "" : "model.", "layers", &part[k]);
}

/* The tensors that such a model has; returns how many. */
static inline size_t list_tensors(made_tensor t[MADE_MAX], const made_model *m)
{
    size_t n = 0;
    (strcmp(m->family, "gpt2") == 0 ? list_gpt2 : list_llama)(t, &n, m);
    if (!m->tied)
        add_part(t, &n, m, "", "", &(made_part){"lm_head.weight", m->V, m->D});
    const made_model gated = {.L = m->gates, .dtype = m->dtype};
    add_part(t, &n, &gated, "backflow.", "layers", &(made_part){"#memory_gate", m->H, 0});
    return n;
}

static inline void write_config(const char *folder, const made_model *m)
{
    static const char *const gpt2[] = {"n_layer", "n_embd", "n_head", "n_inner", "n_positions"};
    static const char *const llama[] = {"num_hidden_layers", "hidden_size", "num_attention_heads",
                                        "intermediate_size", "max_position_embeddings"};
    const bool is_gpt2 = strcmp(m->family, "gpt2") == 0;
    const char *const *key = is_gpt2 ? gpt2 : llama;
    const size_t value[] = {m->L, m->D, m->H, m->F, m->P};
    char text[2048];
    int n = snprintf(text, sizeof text, "{%s\"model_type\": \"%s\", \"vocab_size\": %zu",
                     m->extra ? m->extra : "", m->family, m->V);
    for (size_t k = 0; k < 5; k++)
        n += sprintf(text + n, ", \"%s\": %zu", key[k], value[k]);
    if (!is_gpt2)
        n += sprintf(text + n, ", \"num_key_value_heads\": %zu, \"head_dim\": %zu",
                     m->G ? m->G : m->H, m->K ? m->K : m->D / m->H);
    if (m->biases)
        n += sprintf(text + n, ", \"attention_bias\": true, \"mlp_bias\": true");
    n += sprintf(text + n, ", \"tie_word_embeddings\": %s}\n", m->tied ? "true" : "false");
    write_file(folder, "config.json", text, (size_t)n);
}

/* Even numbers in (-1,1), splitmix64. */
static inline double made_random(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double)(int64_t)(z ^ z >> 31) * 0x1p-63;
}

/* One value as stored, nearest-even; returns its bytes. */
static inline size_t made_encode(unsigned char *dst, double x, bf_dtype dtype)
{
    const float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    if (dtype == BF_F64)
        return memcpy(dst, &x, 8), 8;
    if (dtype == BF_F16) { /* |x| < 65504 */
        const uint32_t sign = bits >> 16 & 0x8000, size = bits & 0x7fffffff;
        bits = fabs(x) < 0x1p-14 ? (uint32_t)nearbyint(fabs((double)f) * 0x1p24)
                                 : (size - (112u << 23) + 0xfff + (size >> 13 & 1)) >> 13;
        bits = (bits | sign) << 16;
    } else if (dtype == BF_BF16) {
        bits += 0x7fff + (bits >> 16 & 1);
    } else if (dtype != BF_F32) {
        return memset(dst, 1, bf_dtype_size(dtype)), bf_dtype_size(dtype);
    }
    const size_t n = bf_dtype_size(dtype);
    return memcpy(dst, (const char *)&bits + 4 - n, n), n;
}

static inline size_t made_count(const made_tensor *t)
{
    return t->dim[0] * (t->rank > 1 ? t->dim[1] : 1);
}

/* Values of tensor k: norms near 1, their biases and all else around 0. Returns the bytes. */
static inline size_t made_fill(unsigned char *dst, const made_tensor *t, size_t k,
                               const made_model *m)
{
    const bool norm = strstr(t->name, "norm.weight") || strstr(t->name, "ln_");
    const double middle = norm && !strstr(t->name, "bias") ? 1 : 0;
    const double scale = norm ? 0.2 : (m->scale > 0 ? m->scale : 1) * 1.7 / sqrt((double)m->D);
    uint64_t state = m->seed * 1000003 + k;
    size_t at = 0;
    for (size_t v = 0; v < made_count(t); v++)
        at += made_encode(dst + at, middle + scale * made_random(&state), t->dtype);
    return at;
}

/* Tensors from, from + step, ... as one safetensors file. */
static inline void write_shard(const char *folder, const char *file, const made_tensor *t, size_t n,
                               size_t from, size_t step, const made_model *m)
{
    size_t cap = 200, at = 0, len = 8;
    for (size_t k = from; k < n; k += step)
        cap += 300 + 8 * made_count(&t[k]);
    char *bytes = calloc(1, cap);
    if (!bytes)
        made_fail(file);
    len += (size_t)sprintf(bytes + len, "{\"__metadata__\": {\"format\": \"pt\"}");
    for (size_t k = from; k < n; k += step) {
        const size_t end = at + made_count(&t[k]) * bf_dtype_size(t[k].dtype);
        len += (size_t)sprintf(bytes + len, ", \"%s\": {\"dtype\": \"%s\", \"shape\": [%zu",
                               t[k].name, bf_dtype_name(t[k].dtype), t[k].dim[0]);
        if (t[k].rank > 1)
            len += (size_t)sprintf(bytes + len, ", %zu", t[k].dim[1]);
        len += (size_t)sprintf(bytes + len, "], \"data_offsets\": [%zu, %zu]}", at, end);
        at = end;
    }
    bytes[len++] = '}';
    while (len % 8 != (m->odd ? 7 : 0))
        bytes[len++] = ' ';
    for (size_t k = 0; k < 8; k++)
        bytes[k] = (char)((len - 8) >> 8 * k & 0xff);
    for (size_t k = from; k < n; k += step)
        len += made_fill((unsigned char *)bytes + len, &t[k], k, m);
    write_file(folder, file, bytes, len);
    free(bytes);
}

static inline void write_weights(const char *folder, const made_tensor *t, size_t n,
                                 const made_model *m)
{
    static char index[MADE_MAX * 200];
    char file[64];
    if (!m->shards) {
        write_shard(folder, "model.safetensors", t, n, 0, 1, m);
        return;
    }
    size_t len = (size_t)sprintf(index, "{\"metadata\": {}, \"weight_map\": {");
    for (size_t k = 0; k < n; k++)
        len += (size_t)sprintf(index + len, "%s\"%s\": \"model-%05zu-of-%05zu.safetensors\"",
                               k ? ", " : "", t[k].name, k % m->shards + 1, m->shards);
    len += (size_t)sprintf(index + len, "}}");
    for (size_t s = 0; s < m->shards; s++) {
        snprintf(file, sizeof file, "model-%05zu-of-%05zu.safetensors", s + 1, m->shards);
        write_shard(folder, file, t, n, s, m->shards, m);
    }
    write_file(folder, "model.safetensors.index.json", index, len);
}

/* The whole folder, which must exist. */
static inline void make_model(const char *folder, const made_model *m)
{
    made_tensor *t = malloc(MADE_MAX * sizeof *t);
    if (!t)
        made_fail("make_model");
    const size_t n = list_tensors(t, m);
    write_config(folder, m);
    write_weights(folder, t, n, m);
    free(t);
}

#endif
