/* trust_subject.h -- a model, a trace of it, and what trust says of it; copies of records to spoil.
 *
 * Whatever goes wrong on the way fails the test. Run from the checkout. */
#ifndef BF_TESTS_TRUST_SUBJECT_H
#define BF_TESTS_TRUST_SUBJECT_H

#include "tracer/trust.h"
#include "tests/close.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "backflow/backflow.h"

static const char bundled[] = "examples/models/kjv-1m";
/* A model, a trace of it, and a place for what trust says. */
typedef struct {
    bf_model *model;
    bf_record *reference, *record;
    int64_t tokens[64];
    size_t n_tokens;
    bf_error err;
} subject;

static inline void open_subject(subject *s, const char *folder)
{
    char path[1024];
    *s = (subject){0};
    if (bf_model_open(&s->model, folder, &s->err))
        fail_msg("%s", s->err.msg);
    snprintf(path, sizeof path, "%s/ref.safetensors", folder);
    if (access(path, R_OK) == 0) {
        assert_int_equal(bf_record_open(&s->reference, path, &s->err), BF_OK);
        const bf_tensor *tokens = bf_record_find(s->reference, "tokens");
        s->n_tokens = tokens->dim[0] < 24 ? tokens->dim[0] : 24;
        memcpy(s->tokens, tokens->data, s->n_tokens * sizeof *s->tokens);
        return;
    }
    static const char text[] =
        "In the beginning God created the heaven and the earth. And the earth was "
        "without form, and void;";
    const bf_tokenizer *tokenizer = NULL;
    bf_token *token = NULL;
    assert_int_equal(bf_model_tokenizer(&tokenizer, s->model, &s->err), BF_OK);
    assert_int_equal(
        bf_tokenizer_encode(&token, &s->n_tokens, tokenizer, text, sizeof text - 1, &s->err),
        BF_OK);
    s->n_tokens = s->n_tokens < 24 ? s->n_tokens : 24;
    for (size_t k = 0; k < s->n_tokens; k++)
        s->tokens[k] = token[k].id;
    free(token);
}

static inline void close_subject(subject *s)
{
    bf_record_free(s->record);
    bf_record_free(s->reference);
    bf_model_free(s->model);
}

static inline void trace(subject *s, bf_query query)
{
    query.tokens = s->tokens;
    query.n_tokens = s->n_tokens;
    query.threads = 2;
    bf_record_free(s->record);
    s->record = NULL;
    if (bf_trace(&s->record, s->model, &query, NULL, NULL, NULL, &s->err))
        fail_msg("%s", s->err.msg);
}

/* Everything that trust can measure, of three losses. */
static inline void trace_all(subject *s)
{
    const size_t N = s->n_tokens - 1, all[3] = {N / 3, N / 2, N - 1},
                 *losses = N > 3 ? all : all + 2;
    trace(s, (bf_query){.precision = BF_PRECISION_F64, .detach = BF_DETACH_NONE, .losses = losses, .n_losses = N > 3 ? 3 : 1,
                        .scores = BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_SHARE |
                                  BF_SCORE_EDGE});
}

static inline bf_trust *judge(subject *s, const bf_record *record, bf_trust_query query)
{
    bf_trust *trust = NULL;
    query.threads = query.threads ? query.threads : 2;
    if (bf_trust_measure(&trust, record, s->model, &query, &s->err))
        fail_msg("%s", s->err.msg);
    assert_non_null(trust);
    return trust;
}

static inline void refused(subject *s, const bf_record *record, bf_trust_query query, bf_code code,
                    const char *word)
{
    bf_trust *trust = NULL;
    bf_error err = {0};
    const bf_code rc = bf_trust_measure(&trust, record, s->model, &query, &err);
    if (rc != code || trust || !strstr(err.msg, word))
        fail_msg("code %d, wanted %d; \"%s\", wanted \"%s\"", rc, code, err.msg, word);
    assert_int_equal(bf_trust_measure(&trust, record, s->model, &query, NULL), code);
}

/* A copy in memory, whose tensors may be changed; without the tensor `without` (NULL: all). */
static inline bf_record *copy_of(const bf_record *record, const char *without)
{
    const size_t n = bf_record_count(record);
    bf_tensor *specs = calloc(n, sizeof *specs);
    bf_record *copy = NULL;
    size_t kept = 0;
    assert_non_null(specs);
    for (size_t k = 0; k < n; k++)
        if (!without || !strstr(bf_record_at(record, k)->name, without))
            specs[kept++] = *bf_record_at(record, k);
    assert_int_equal(bf_record_new(&copy, specs, kept, NULL), BF_OK);
    for (size_t k = 0; k < kept; k++)
        memcpy(bf_record_find(copy, specs[k].name)->data, specs[k].data,
               bf_tensor_count(&specs[k]) * bf_dtype_size(specs[k].dtype));
    for (size_t k = 0; k < bf_record_meta_count(record); k++) {
        const char *key = bf_record_meta_key(record, k);
        assert_int_equal(bf_record_set_meta(copy, key, bf_record_meta(record, key), NULL), BF_OK);
    }
    free(specs);
    return copy;
}

static inline double *values(const bf_record *record, const char *name)
{
    const bf_tensor *t = bf_record_find(record, name);
    assert_non_null(t);
    assert_int_equal(t->dtype, BF_F64);
    return t->data;
}

static inline const bf_trust_row *find_row(const bf_trust *trust, const char *what, const char *move)
{
    for (size_t k = 0; k < trust->n_rows; k++)
        if (strcmp(trust->rows[k].what, what) == 0 && strcmp(trust->rows[k].move, move) == 0)
            return &trust->rows[k];
    fail_msg("there is no row %s, %s", what, move);
    return NULL;
}

#endif
