/* From model_type to a family, and the fields of config.json that families read. */
#include "model/families.h"

#include <math.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAMILY_ADDRESS(name) &bf_family_##name,
static const bf_family *const FAMILY[] = {BF_FAMILIES(FAMILY_ADDRESS)};
enum { N_FAMILIES = sizeof FAMILY / sizeof *FAMILY };

/* Two axes multiplied must fit a size. */
_Static_assert(SIZE_MAX / INT32_MAX / INT32_MAX >= 2, "sizes need 64 bits");

void bf_reader_fail(bf_reader *r, bf_code code, const char *format, ...)
{
    char msg[sizeof r->err->msg];
    va_list args;
    if (r->rc)
        return;
    va_start(args, format);
    vsnprintf(msg, sizeof msg, format, args);
    va_end(args);
    r->rc = bf_fail(r->err, code, "%.200s: %s", r->path, msg);
}

/* Keep what a base/json.h getter said. */
static void note(bf_reader *r, bf_code rc)
{
    if (rc)
        r->rc = bf_error_prefix(r->err, rc, r->path);
}

bool bf_config_null(const bf_reader *r, const char *key, bool missing)
{
    const bf_json *field = bf_json_get(r->json, key);
    return field ? bf_json_kind(field) == BF_JSON_NULL : missing;
}

static size_t whole_number(bf_reader *r, const char *key, size_t fallback, size_t least)
{
    size_t value = fallback;
    if (r->rc)
        return fallback;
    note(r, bf_json_opt_size(&value, r->json, key, fallback, r->err));
    if (!r->rc && (value < least || value > INT32_MAX))
        bf_reader_fail(r, BF_EFORMAT, "field \"%s\" is the number %zu, wanted %zu to %d", key,
                       value, least, INT32_MAX);
    return r->rc ? fallback : value;
}

size_t bf_config_size(bf_reader *r, const char *key, size_t fallback)
{
    return whole_number(r, key, fallback, 1);
}

size_t bf_config_count(bf_reader *r, const char *key, size_t fallback)
{
    return whole_number(r, key, fallback, 0);
}

double bf_config_number(bf_reader *r, const char *key, double fallback)
{
    double value = fallback;
    if (r->rc)
        return fallback;
    note(r, bf_json_opt_number(&value, r->json, key, fallback, r->err));
    if (!r->rc && !(value > 0 && isfinite(value)))
        bf_reader_fail(r, BF_EFORMAT, "field \"%s\" is the number %g, wanted one above 0", key,
                       value);
    return r->rc ? fallback : value;
}

bool bf_config_bool(bf_reader *r, const char *key, bool fallback)
{
    bool value = fallback;
    if (!r->rc)
        note(r, bf_json_opt_bool(&value, r->json, key, fallback, r->err));
    return r->rc ? fallback : value;
}

bf_act_kind bf_config_act(bf_reader *r, const char *key, const char *fallback)
{
    static const struct {
        const char *name;
        bf_act_kind kind;
    } act[] = {
        {"gelu_new", BF_ACT_GELU_TANH},         {"gelu_fast", BF_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", BF_ACT_GELU_TANH}, {"gelu_python_tanh", BF_ACT_GELU_TANH},
        {"gelu_accurate", BF_ACT_GELU_TANH},    {"gelu", BF_ACT_GELU_ERF},
        {"gelu_python", BF_ACT_GELU_ERF},       {"silu", BF_ACT_SILU},
        {"swish", BF_ACT_SILU},                 {"relu", BF_ACT_RELU},
        {"quick_gelu", BF_ACT_QUICK_GELU},      {"relu2", BF_ACT_RELU2},
        {"tanh", BF_ACT_TANH},
    };
    const char *name = fallback;
    if (!r->rc)
        note(r, bf_json_opt_string(&name, r->json, key, fallback, r->err));
    for (size_t k = 0; !r->rc && k < sizeof act / sizeof *act; k++)
        if (strcmp(name, act[k].name) == 0)
            return act[k].kind;
    bf_reader_fail(r, BF_EUNSUPPORTED,
                   "field \"%s\" is \"%.40s\", wanted gelu, gelu_new, gelu_fast, "
                   "gelu_pytorch_tanh, silu, relu, relu2, quick_gelu or tanh",
                   key, name);
    return BF_ACT_SILU;
}

void bf_config_divides(bf_reader *r, const char *a, size_t a_value, const char *b, size_t b_value)
{
    if (!r->rc && a_value % b_value != 0)
        bf_reader_fail(r, BF_EFORMAT,
                       "field \"%s\" is the number %zu, wanted a multiple of \"%s\", %zu", a,
                       a_value, b, b_value);
}

void bf_config_layers(bf_reader *r)
{
    bf_config *c = r->config;
    if (r->rc)
        return;
    if (c->L > r->store->n) {
        bf_reader_fail(r, BF_EFORMAT, "%zu layers are announced, the weight files hold %zu tensors",
                       c->L, r->store->n);
        return;
    }
    r->weights->layer = calloc(c->L, sizeof *r->weights->layer);
    c->attn_scale = calloc(c->L, sizeof *c->attn_scale);
    if (!r->weights->layer || !c->attn_scale)
        bf_reader_fail(r, BF_ENOMEM, "cannot hold %zu layers", c->L);
    for (size_t l = 0; !r->rc && l < c->L; l++)
        c->attn_scale[l] = 1 / sqrt((double)c->K);
}

void bf_config_window(bf_reader *r, size_t l, size_t window)
{
    bf_config *c = r->config;
    if (!r->rc && !c->mask && !(c->mask = calloc(c->L, sizeof *c->mask)))
        bf_reader_fail(r, BF_ENOMEM, "cannot hold %zu windows", c->L);
    if (!r->rc)
        c->mask[l].window = window;
}

/* Does name match the pattern, '#' being a number? */
static bool matches(const char *pattern, const char *name)
{
    for (; *pattern; pattern++) {
        if (*pattern == '#') {
            const size_t digits = strspn(name, "0123456789");
            if (!digits)
                return false;
            name += digits;
        } else if (*pattern != *name++) {
            return false;
        }
    }
    return !*name;
}

static bool is_buffer(const bf_reader *r, const char *name)
{
    const size_t start = r->absent ? strlen(r->absent) : 0;
    for (const char *const *b = r->family->buffers; *b; b++) {
        const bool shorter = start && strncmp(*b, r->absent, start) == 0;
        if (matches(*b + (shorter ? start : 0), name))
            return true;
    }
    return false;
}

/* Every tensor must have been taken, from where the index put it, or be known to be no weight. */
static void check_rest(bf_reader *r)
{
    for (size_t k = 0; k < r->store->n && !r->rc; k++) {
        const bf_entry *e = &r->store->entry[k];
        if (is_buffer(r, e->tensor->name))
            continue;
        if (!e->used || !e->listed)
            r->rc = bf_fail(r->err, BF_EFORMAT, "%.200s: tensor \"%.120s\" is %s",
                            r->store->path[e->file], e->tensor->name,
                            e->used ? "not in the index, wanted all there"
                                    : "unknown, wanted the weights of config.json's model only");
    }
}

static void list_families(char *buf, size_t size)
{
    size_t at = 0;
    buf[0] = '\0';
    for (size_t k = 0; k < N_FAMILIES && at < size; k++)
        at += (size_t)snprintf(buf + at, size - at, "%s%s", k ? ", " : "", FAMILY[k]->model_type);
}

static void match_model_type(bf_reader *r)
{
    char list[200], found[64];
    const bf_json *field = bf_json_get(r->json, "model_type");
    const char *type = bf_json_string(field);
    for (size_t k = 0; type && k < N_FAMILIES; k++)
        if (strcmp(type, FAMILY[k]->model_type) == 0)
            r->family = FAMILY[k];
    if (r->family)
        return;
    list_families(list, sizeof list);
    if (type)
        bf_reader_fail(r, BF_EUNSUPPORTED, "field \"model_type\" is \"%.60s\", wanted one of %s",
                       type, list);
    else
        bf_reader_fail(r, field ? BF_EFORMAT : BF_EUNSUPPORTED,
                       "field \"model_type\" is %s, wanted one of %s",
                       field ? bf_json_describe(field, found, sizeof found) : "missing", list);
}

/* A classifier of the same family is another model. */
static void check_architecture(bf_reader *r)
{
    const bf_json *list = bf_json_get(r->json, "architectures");
    const bf_json *first = list ? bf_json_first(list) : NULL;
    if (!first)
        return;
    for (const bf_json *a = first; a; a = bf_json_next(a))
        for (const char *const *known = r->family->architectures; *known; known++)
            if (bf_json_string(a) && strcmp(bf_json_string(a), *known) == 0)
                return;
    const char *found = bf_json_string(first);
    bf_reader_fail(r, BF_EUNSUPPORTED, "field \"architectures\" is \"%.60s\", wanted %s",
                   found ? found : "no string", r->family->architectures[0]);
}

bf_code bf_family_find(bf_reader *r)
{
    char found[64];
    const bf_json *quantized = bf_json_get(r->json, "quantization_config");
    if (bf_json_kind(r->json) != BF_JSON_OBJECT)
        bf_reader_fail(r, BF_EFORMAT, "found %s, wanted an object",
                       bf_json_describe(r->json, found, sizeof found));
    if (!r->rc)
        match_model_type(r);
    if (!r->rc)
        check_architecture(r);
    if (quantized && bf_json_kind(quantized) != BF_JSON_NULL)
        bf_reader_fail(r, BF_EUNSUPPORTED,
                       "found \"quantization_config\", wanted weights in F32, F16 or BF16");
    return r->rc;
}

bf_code bf_family_read(bf_reader *r)
{
    bf_config *c = r->config;
    snprintf(c->family, sizeof c->family, "%s", r->family->model_type);
    r->family->read(r);
    bf_config_extras(r);
    if (!r->rc)
        check_rest(r);
    return r->rc;
}
