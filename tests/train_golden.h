/* train_golden.h -- the files of tests/goldens_train (made by tests/make_train_goldens.py) as trainings.
 *
 * Numbers are double: this header chooses BF_BITS. Anything that does not fit ends the test. */
#ifndef BF_TESTS_TRAIN_GOLDEN_H
#define BF_TESTS_TRAIN_GOLDEN_H

#define BF_BITS 64

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/gemm.h"
#include "base/safetensors.h"
#include "model/num/train.h"

typedef struct {
    bf_safetensors *file;
    bf_train_config config;
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f64 *t;
    size_t B, T, batches, heads;
    uint64_t number; /* of the batch, for what is drawn */
} golden;

static inline const bf_st_tensor *golden_tensor(const golden *g, const char *start, const char *name)
{
    char full[2 * BF_NAME_MAX];
    snprintf(full, sizeof full, "%s%s", start, name);
    const bf_st_tensor *t = bf_safetensors_find(g->file, full);
    if (!t)
        fail_msg("the golden has no %s", full);
    return t;
}

static inline double golden_value(const bf_st_tensor *t, size_t k)
{
    double x;
    memcpy(&x, (const char *)t->data + k * sizeof x, sizeof x);
    return x;
}

/* "weight." or "kept." to an array. */
static inline void golden_weights(const golden *g, const char *start, double *values)
{
    for (size_t k = 0; k < g->layout.n; k++) {
        const bf_train_tensor *w = &g->layout.tensor[k];
        const bf_st_tensor *t = golden_tensor(g, start, w->name);
        assert_int_equal(t->count, w->count);
        memcpy(values + w->at, t->data, t->bytes);
    }
}

static inline bf_cut golden_cut(const char *name)
{
    static const char *const names[] = {"none", "myopic", "states", "local"};
    for (unsigned k = 0; k < 4; k++)
        if (strcmp(name, names[k]) == 0)
            return (bf_cut)k;
    fail_msg("unknown cut %s", name);
    return BF_CUT_NONE;
}

/* A number of an object of a golden's metadata. */
static inline double golden_number(const bf_json *json, const char *key)
{
    double value = 0;
    if (!bf_json_number(bf_json_get(json, key), &value))
        fail_msg("no %s", key);
    return value;
}

/* What the metadata has under this name, or NULL; the caller's to free. */
static inline bf_json *golden_json(const golden *g, const char *name)
{
    const char *text = bf_safetensors_meta(g->file, name);
    bf_json *json = NULL;
    if (text)
        assert_int_equal(bf_json_parse(&json, text, strlen(text), NULL), BF_OK);
    return json;
}

static inline void golden_dropout(golden *g)
{
    bf_json *json = golden_json(g, "dropout");
    if (json) {
        g->config.dropout = (bf_dropout){golden_number(json, "embedding"), golden_number(json, "attention"),
                                         golden_number(json, "residual")};
        g->config.seed = (uint64_t)golden_number(json, "seed");
        g->number = (uint64_t)golden_number(json, "number");
    }
    bf_json_free(json);
}

static inline void golden_joint(golden *g)
{
    bf_json *json = golden_json(g, "joint");
    if (json) {
        g->config.joint = (bf_joint){.n = (size_t)golden_number(json, "n"),
                                     .prefixes = (size_t)golden_number(json, "prefixes"),
                                     .samples = (size_t)golden_number(json, "samples"),
                                     .keep = (size_t)golden_number(json, "keep"),
                                     .random = bf_json_true(bf_json_get(json, "random")),
                                     .weight = golden_number(json, "weight"),
                                     .context = (size_t)golden_number(json, "context"),
                                     .alone = bf_json_true(bf_json_get(json, "alone"))};
        g->config.objective = BF_OBJECTIVE_JOINT;
        g->config.seed = (uint64_t)golden_number(json, "seed");
        g->number = (uint64_t)golden_number(json, "number");
    }
    bf_json_free(json);
}

static inline void golden_open(golden *g, const char *name, size_t threads)
{
    char path[256];
    bf_error err = {0};
    *g = (golden){0};
    snprintf(path, sizeof path, "tests/goldens_train/%s.safetensors", name);
    if (bf_safetensors_open(&g->file, path, &err))
        fail_msg("%s (run this from the checkout)", err.msg);
    const bf_st_tensor *input = golden_tensor(g, "", "input");
    g->heads = (size_t)atoi(bf_safetensors_meta(g->file, "heads"));
    g->batches = input->dim[0];
    g->B = input->dim[1];
    g->T = input->dim[2];
    g->config = (bf_train_config){.model = bf_safetensors_meta(g->file, "config"),
                                  .f64 = true,
                                  .start = "kept",
                                  .cut = golden_cut(bf_safetensors_meta(g->file, "cut")), .heads = g->heads,
                                  .objective = input->dtype == BF_F64 ? BF_OBJECTIVE_REAL
                                               : g->heads > 1         ? BF_OBJECTIVE_HEADS
                                                                      : BF_OBJECTIVE_TOKENS};
    golden_dropout(g);
    golden_joint(g);
    bf_gemm_init();
    if (bf_train_layout_new(&g->layout, &g->config, &err) || bf_pool_new(&g->pool, threads, &err) ||
        bf_train_new_f64(&g->t, &g->config, &g->layout, g->pool, g->B, g->T, &err))
        fail_msg("%s: %s", name, err.msg);
    g->t->number = g->number;
    golden_weights(g, "weight.", g->t->param);
    if (g->t->kept_param)
        golden_weights(g, "kept.", g->t->kept_param);
}

static inline void golden_close(golden *g)
{
    bf_train_free_f64(g->t);
    bf_pool_free(g->pool);
    bf_train_layout_free(&g->layout);
    bf_safetensors_free(g->file);
}

static inline bf_batch golden_batch(const golden *g, size_t k)
{
    const bf_st_tensor *input = golden_tensor(g, "", "input"), *target = golden_tensor(g, "", "target");
    const size_t size = g->B * g->T;
    bf_batch b = {.B = g->B, .T = g->T, .heads = g->heads};
    if (input->dtype == BF_F64) {
        b.channels = input->dim[3];
        b.x = (const double *)input->data + k * size * b.channels;
        b.y = (const double *)target->data + k * size;
    } else {
        b.input = (const int32_t *)input->data + k * size;
        b.target = (const int32_t *)target->data + k * size * g->heads;
    }
    return b;
}

#endif
