/* Random models by a claim's words: a folder is written, opened and removed, so that a family's own
 * reader decides what its config means. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/safetensors.h"
#include "model/files.h"
#include "model/model.h"
#include "tracer/claim.h"
#include "tracer/stats.h"

/* ---- reading */

enum { MOST_LAYERS = 64, MOST_WIDTH = 1024, MOST_VOCABULARY = 65536, MOST_POSITIONS = 4096 };

static bf_code check_family(const bf_random_spec *spec, const bf_place *place, bf_error *err)
{
    static const char *const families[] = {"gpt2", "llama", "mistral", "qwen2"};
    const bf_place family = bf_place_in(place, "family", 0), heads = bf_place_in(place, "heads", 0),
                   window = bf_place_in(place, "window", 0), mask = bf_place_in(place, "mask", 0);
    const char *gate = bf_json_string(bf_json_get(spec->mask, "gate"));
    size_t k = 0;
    while (k < 4 && strcmp(families[k], spec->family) != 0)
        k++;
    if (k == 4)
        return bf_place_fail(err, &family, "\"%.40s\", wanted gpt2, llama, mistral or qwen2",
                             spec->family);
    if (spec->width % spec->heads || spec->heads % spec->kv_heads || spec->width / spec->heads % 2)
        return bf_place_fail(err, &heads,
                             "%zu of a width of %zu, %zu key/value heads: wanted heads of "
                             "one even width, a whole number for each key/value head",
                             spec->heads, spec->width, spec->kv_heads);
    if (k == 0 && spec->kv_heads != spec->heads)
        return bf_place_fail(err, &heads,
                             "gpt2 has as many key/value heads as heads, found %zu and %zu",
                             spec->kv_heads, spec->heads);
    if (spec->no_positions && k != 0)
        return bf_place_fail(err, place, "no_positions is for gpt2, whose positions are a table");
    if (spec->window && k != 2)
        return bf_place_fail(err, &window, "is for mistral; other families take a mask");
    if (gate && strcmp(gate, "learnt") == 0)
        return bf_place_fail(err, &mask, "\"gate\" is \"learnt\", wanted \"fixed\": nothing is learnt in a "
                             "random model");
    return BF_OK;
}

bf_code bf_random_read(bf_random_spec *spec, const bf_json *object, const bf_place *place,
                       bf_error *err)
{
    bf_code rc = bf_shape_check(object, &bf_claim_shapes[BF_SHAPE_RANDOM], place, err);
    if (rc)
        return rc;
    *spec = (bf_random_spec){.family = bf_json_string(bf_json_get(object, "family")),
                             .scale = 1.0,
                             .no_positions = bf_json_true(bf_json_get(object, "no_positions")),
                             .mask = bf_json_get(object, "mask")};
    bf_json_number(bf_json_get(object, "scale"), &spec->scale);
    if (!(spec->scale > 0.0 && spec->scale <= 100.0))
        return bf_place_fail(err, place, "scale is %g, wanted above 0, at most 100", spec->scale);
    struct {
        size_t *to;
        const char *key;
        size_t fallback, least, most;
    } const sizes[] = {{&spec->layers, "layers", 1, 1, MOST_LAYERS},
                       {&spec->width, "width", 16, 2, MOST_WIDTH},
                       {&spec->heads, "heads", 1, 1, MOST_WIDTH},
                       {&spec->kv_heads, "kv_heads", 0, 1, MOST_WIDTH},
                       {&spec->mlp, "mlp", 0, 1, 4 * MOST_WIDTH},
                       {&spec->vocabulary, "vocabulary", 32, 2, MOST_VOCABULARY},
                       {&spec->positions, "positions", 256, 1, MOST_POSITIONS},
                       {&spec->window, "window", 0, 1, MOST_POSITIONS},
                       {&spec->seed, "seed", 1, 0, INT32_MAX}};
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes && !rc; k++)
        rc = bf_size_read(sizes[k].to, object, sizes[k].key, sizes[k].fallback, sizes[k].least,
                          sizes[k].most, place, err);
    if (rc)
        return rc;
    spec->kv_heads = spec->kv_heads ? spec->kv_heads : spec->heads;
    spec->mlp = spec->mlp ? spec->mlp : 2 * spec->width;
    return check_family(spec, place, err);
}

void bf_random_words(char *buf, size_t size, const bf_random_spec *s)
{
    char window[40] = "";
    if (s->window)
        snprintf(window, sizeof window, ", window %zu", s->window);
    snprintf(buf, size, "random %s, %zu layer%s%s%s%s, seed %zu", s->family, s->layers,
             s->layers == 1 ? "" : "s", window, s->no_positions ? ", no positions" : "",
             s->mask ? ", mask" : "", s->seed);
}

/* ---- weights */

typedef struct {
    const char *name;  /* '#': once in every layer */
    size_t rows, cols; /* cols 0: a vector; rows 0: not there */
} part;

typedef struct {
    const bf_random_spec *spec;
    bf_tensor *tensor;
    size_t *offset;
    size_t n, cap, bytes;
} layout;

static bool add_part(layout *y, const part *p)
{
    const bool many = p->name[0] == '#';
    for (size_t l = 0; p->rows && l < (many ? y->spec->layers : 1); l++) {
        if (y->n == y->cap)
            return false;
        bf_tensor *t = &y->tensor[y->n];
        *t = (bf_tensor){.dtype = BF_F32, .rank = p->cols ? 2 : 1, .dim = {p->rows, p->cols}};
        if (many)
            snprintf(t->name, sizeof t->name, "%s.%zu.%s",
                     strcmp(y->spec->family, "gpt2") == 0 ? "transformer.h" : "model.layers", l,
                     p->name + 1);
        else
            snprintf(t->name, sizeof t->name, "%s", p->name);
        y->offset[y->n++] = y->bytes;
        y->bytes += bf_tensor_count(t) * sizeof(float);
    }
    return true;
}

static bool lay_out(layout *y)
{
    const bf_random_spec *s = y->spec;
    const size_t D = s->width, F = s->mlp, V = s->vocabulary, U = s->kv_heads * (D / s->heads);
    const size_t b = strcmp(s->family, "qwen2") == 0;
    const part gpt2[] = {{"transformer.wte.weight", V, D},
                         {"transformer.wpe.weight", s->positions, D},
                         {"#ln_1.weight", D, 0},
                         {"#ln_1.bias", D, 0},
                         {"#ln_2.weight", D, 0},
                         {"#ln_2.bias", D, 0},
                         {"#attn.c_attn.weight", D, 3 * D},
                         {"#attn.c_attn.bias", 3 * D, 0},
                         {"#attn.c_proj.weight", D, D},
                         {"#attn.c_proj.bias", D, 0},
                         {"#mlp.c_fc.weight", D, F},
                         {"#mlp.c_fc.bias", F, 0},
                         {"#mlp.c_proj.weight", F, D},
                         {"#mlp.c_proj.bias", D, 0},
                         {"transformer.ln_f.weight", D, 0},
                         {"transformer.ln_f.bias", D, 0},
                         {"lm_head.weight", V, D},
                         {NULL, 0, 0}};
    const part llama[] = {{"model.embed_tokens.weight", V, D},
                          {"model.norm.weight", D, 0},
                          {"#input_layernorm.weight", D, 0},
                          {"#post_attention_layernorm.weight", D, 0},
                          {"#self_attn.q_proj.weight", D, D},
                          {"#self_attn.k_proj.weight", U, D},
                          {"#self_attn.v_proj.weight", U, D},
                          {"#self_attn.o_proj.weight", D, D},
                          {"#self_attn.q_proj.bias", b * D, 0},
                          {"#self_attn.k_proj.bias", b * U, 0},
                          {"#self_attn.v_proj.bias", b * U, 0},
                          {"#mlp.gate_proj.weight", F, D},
                          {"#mlp.up_proj.weight", F, D},
                          {"#mlp.down_proj.weight", D, F},
                          {"lm_head.weight", V, D},
                          {NULL, 0, 0}};
    for (const part *p = strcmp(s->family, "gpt2") == 0 ? gpt2 : llama; p->name; p++)
        if (!add_part(y, p))
            return false;
    return true;
}

/* Even numbers: norms near 1, their biases and all else around 0. */
static void fill(float *to, const bf_tensor *t, size_t k, const bf_random_spec *s)
{
    const bool norm = strstr(t->name, "norm.weight") || strstr(t->name, "ln_");
    const double middle = norm && !strstr(t->name, "bias") ? 1.0 : 0.0;
    const double scale = norm ? 0.2 : s->scale * 1.7 / sqrt((double)s->width);
    const bool none = s->no_positions && strstr(t->name, "wpe");
    uint64_t state = (uint64_t)s->seed * 1000003u + k;
    for (size_t v = 0; v < bf_tensor_count(t); v++) {
        const double even = (double)(int64_t)bf_random_next(&state) * 0x1p-63;
        to[v] = none ? 0.0f : (float)(middle + scale * even);
    }
}

static bf_code write_weights(const char *path, const bf_random_spec *s, bf_error *err)
{
    bf_buf file = {0};
    layout y = {.spec = s, .cap = 20 * s->layers + 8};
    y.tensor = calloc(y.cap, sizeof *y.tensor);
    y.offset = calloc(y.cap, sizeof *y.offset);
    bf_code rc = y.tensor && y.offset && lay_out(&y)
                     ? BF_OK
                     : bf_fail(err, BF_ENOMEM, "cannot hold the tensors of a random model");
    float *values = rc ? NULL : malloc(y.bytes);
    if (!rc && !values)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu bytes of random weights", y.bytes);
    if (!rc) {
        bf_buf head = {0};
        bf_safetensors_header(&head, y.tensor, y.offset, y.n, NULL, 0);
        while (!head.failed && head.len % 8)
            bf_buf_text(&head, " ");
        unsigned char size[8];
        for (size_t k = 0; k < 8; k++)
            size[k] = (unsigned char)(head.len >> 8 * k & 0xff);
        bf_buf_bytes(&file, size, sizeof size);
        bf_buf_bytes(&file, head.data, head.len);
        for (size_t k = 0; k < y.n; k++)
            fill(values + y.offset[k] / sizeof *values, &y.tensor[k], k, s);
        bf_buf_bytes(&file, values, y.bytes);
        rc = head.failed || file.failed
                 ? bf_fail(err, BF_ENOMEM, "cannot hold a random model's file")
                 : bf_file_write(path, file.data, file.len, err);
        bf_buf_free(&head);
    }
    free(values);
    free(y.tensor);
    free(y.offset);
    bf_buf_free(&file);
    return rc;
}

/* ---- config */

/* The mask's fields as they were written: numbers, words, true or false. */
static void write_mask(bf_buf *to, const bf_json *mask, size_t vocabulary)
{
    double number;
    bf_buf_text(to, ", \"backflow\": {\"mask\": {");
    for (const bf_json *c = bf_json_first(mask); c; c = bf_json_next(c)) {
        bf_json_quote(to, bf_json_key(c));
        bf_buf_text(to, ": ");
        if (bf_json_number(c, &number))
            bf_buf_printf(to, "%.17g", number);
        else if (bf_json_string(c))
            bf_json_quote(to, bf_json_string(c));
        else
            bf_buf_text(to, bf_json_true(c) ? "true" : "false");
        bf_buf_text(to, bf_json_next(c) ? ", " : "");
    }
    bf_buf_text(to, "}");
    if (bf_json_true(bf_json_get(mask, "bidirectional")))
        bf_buf_printf(to, ", \"mask_token\": %zu", vocabulary - 1);
    bf_buf_text(to, "}");
}

static bf_code write_config(const char *path, const bf_random_spec *s, bf_error *err)
{
    bf_buf to = {0};
    bf_buf_printf(&to,
                  "{\"model_type\": \"%s\", \"vocab_size\": %zu, \"tie_word_embeddings\": false",
                  s->family, s->vocabulary);
    if (strcmp(s->family, "gpt2") == 0)
        bf_buf_printf(&to,
                      ", \"n_layer\": %zu, \"n_embd\": %zu, \"n_head\": %zu, \"n_inner\": %zu, "
                      "\"n_positions\": %zu",
                      s->layers, s->width, s->heads, s->mlp, s->positions);
    else
        bf_buf_printf(&to,
                      ", \"num_hidden_layers\": %zu, \"hidden_size\": %zu, "
                      "\"num_attention_heads\": %zu, \"num_key_value_heads\": %zu, "
                      "\"intermediate_size\": %zu, \"max_position_embeddings\": %zu",
                      s->layers, s->width, s->heads, s->kv_heads, s->mlp, s->positions);
    if (strcmp(s->family, "mistral") == 0 && s->window)
        bf_buf_printf(&to, ", \"sliding_window\": %zu", s->window);
    else if (strcmp(s->family, "mistral") == 0)
        bf_buf_text(&to, ", \"sliding_window\": null");
    if (s->mask)
        write_mask(&to, s->mask, s->vocabulary);
    bf_buf_text(&to, "}\n");
    const bf_code rc = to.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a random model's config")
                                 : bf_file_write(path, to.data, to.len, err);
    bf_buf_free(&to);
    return rc;
}

bf_code bf_random_open(bf_model **out, const bf_random_spec *spec, bf_error *err)
{
    char folder[512];
    const char *tmp = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.400s/backflow-claim-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(folder))
        return bf_fail(err, BF_EIO, "%s: cannot make a folder for a random model", folder);
    char *config = bf_path_join(folder, "config.json"),
         *weights = bf_path_join(folder, "model.safetensors");
    bf_code rc = config && weights ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    if (!rc)
        rc = write_config(config, spec, err);
    if (!rc)
        rc = write_weights(weights, spec, err);
    if (!rc)
        rc = bf_model_open(out, folder, err);
    if (!rc)
        snprintf((*out)->dims.name, sizeof(*out)->dims.name, "random %s", spec->family);
    if (config)
        unlink(config);
    if (weights)
        unlink(weights); /* what is mapped stays */
    rmdir(folder);
    free(config);
    free(weights);
    return rc;
}
