/* Run a claim's measures, correct its tests, and take the first verdict whose predicate is true. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/files.h"
#include "model/model.h"
#include "tracer/claim.h"
#include "tracer/stats.h"

enum { TEXTS_LIMIT = 16 << 20, LEAST_TOKENS = 8, CHUNK_TEXTS = 100000 };

/* ---- texts: token lists for one model */

typedef struct {
    int64_t *ids;
    const int64_t **text;
    size_t *length;
    size_t n, used, cap;
} texts;

static void texts_free(texts *t)
{
    free(t->ids);
    free(t->text);
    free(t->length);
}

/* Room for n texts of `tokens` tokens. */
static bf_code texts_new(texts *t, size_t n, size_t tokens, bf_error *err)
{
    *t = (texts){.cap = n};
    t->ids = calloc(n * tokens, sizeof *t->ids);
    t->text = calloc(n, sizeof *t->text);
    t->length = calloc(n, sizeof *t->length);
    if (!t->ids || !t->text || !t->length)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu texts of %zu tokens", n, tokens);
    return BF_OK;
}

static bf_code random_texts(texts *t, const bf_claim_entry *e, size_t V, uint64_t seed,
                            bf_error *err)
{
    const bf_code rc = texts_new(t, e->documents, e->tokens + 1, err);
    for (size_t k = 0; !rc && k < e->documents; k++) {
        int64_t *to = t->ids + k * (e->tokens + 1);
        for (size_t j = 0; j <= e->tokens; j++)
            to[j] = (int64_t)bf_random_below(&seed, V);
        t->text[k] = to;
        t->length[k] = e->tokens + 1;
        t->n++;
    }
    return rc;
}

/* Add what is long enough of one text: pieces of tokens + 1 tokens, or, of a short one, all. */
static bf_code add_words(texts *t, const bf_tokenizer *tokenizer, const char *text, size_t len,
                         size_t tokens, bool pieces, bf_error *err)
{
    bf_token *token = NULL;
    size_t n = 0;
    const bf_code rc = bf_tokenizer_encode(&token, &n, tokenizer, text, len, err);
    for (size_t from = 0; !rc && t->n < t->cap && from + 1 < n; from += tokens + 1) {
        const size_t left = n - from, take = left < tokens + 1 ? left : tokens + 1;
        if (take < LEAST_TOKENS && !(from == 0 && pieces))
            break;
        if (take < tokens + 1 && !(pieces && from == 0))
            break;
        for (size_t j = 0; j < take; j++)
            t->ids[t->used + j] = token[from + j].id;
        t->text[t->n] = t->ids + t->used;
        t->length[t->n++] = take;
        t->used += take;
        if (!pieces)
            break;
    }
    free(token);
    return rc;
}

/* The beginnings of the paragraphs in the claim's texts.txt, or in that of the claims that come
 * with backflow. */
static bf_code bundled_texts(texts *t, const bf_claim *claim, const bf_claim_entry *e,
                             const bf_tokenizer *tokenizer, bf_error *err)
{
    bf_buf file = {0};
    char *path = bf_path_join(claim->folder, "texts.txt"), *folder = NULL;
    bf_code rc = path ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    if (!rc && !bf_path_exists(path)) {
        free(path);
        path = NULL;
        rc = bf_claim_folder(&folder, err);
        path = rc ? NULL : bf_path_join(folder, "texts.txt");
    }
    if (!rc)
        rc = path ? bf_file_read(&file, path, TEXTS_LIMIT, err)
                  : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    for (char *at = file.data; !rc && at && *at && t->n < t->cap;) {
        char *end = strstr(at, "\n\n");
        const size_t len = end ? (size_t)(end - at) : strcspn(at, "\n");
        rc = add_words(t, tokenizer, at, len, e->tokens, false, err);
        at = end ? end + 2 : NULL;
    }
    if (!rc && t->n == 0)
        rc = bf_fail(err, BF_EARG, "%.200s: no paragraph of %zu tokens", path, e->tokens + 1);
    bf_buf_free(&file);
    free(path);
    free(folder);
    return rc;
}

static bf_code user_texts(texts *t, const bf_claim_query *q, const bf_claim_entry *e,
                          const bf_tokenizer *tokenizer, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < q->n_texts && !rc; k++)
        rc = add_words(t, tokenizer, q->texts[k], strlen(q->texts[k]), e->tokens, true, err);
    return rc || t->n ? rc
                      : bf_fail(err, BF_EARG, "the text is too short, wanted at least 2 tokens");
}

static bf_code read_texts(texts *t, const bf_claim *claim, const bf_claim_entry *e,
                          const bf_claim_query *q, bool random, bf_model *model, bf_error *err)
{
    const bf_tokenizer *tokenizer = NULL;
    bf_code rc = BF_OK;
    if (!random)
        rc = bf_model_tokenizer(&tokenizer, model, err);
    if (rc)
        return rc;
    if (!tokenizer && q->n_texts && !random)
        return bf_fail(err, BF_EARG, "%s: no tokenizer.json, which a text needs",
                       bf_model_dims(model)->name);
    if (!tokenizer)
        return random_texts(t, e, bf_model_dims(model)->V, q->seed + 77u, err);
    rc = texts_new(t, e->documents, e->tokens + 1, err);
    if (rc)
        return rc;
    return q->model && q->n_texts ? user_texts(t, q, e, tokenizer, err)
                                  : bundled_texts(t, claim, e, tokenizer, err);
}

/* ---- one measure on one model */

static bf_code reading_new(bf_reading *r, const bf_measure_info *m, bf_error *err)
{
    r->result = calloc(m->n_results + 1, sizeof *r->result);
    r->series = calloc(m->n_series + 1, sizeof *r->series);
    if (!r->result || !r->series)
        return bf_fail(err, BF_ENOMEM, "cannot hold a measure's results");
    for (size_t k = 0; k < m->n_results; k++)
        r->result[k] = bf_plain(NAN);
    return BF_OK;
}

/* What is common to all readings of a claim. */
typedef struct {
    const bf_claim *claim;
    const bf_claim_query *query;
    char *results; /* folder */
    bf_error *err;
} run;

static bf_code read_kept(const run *u, const bf_claim_entry *e, bf_reading *r)
{
    const bf_subject s = {.number = e->number,
                          .word = e->word,
                          .results = u->results,
                          .seed = u->query->seed,
                          .query = u->query};
    return bf_measure_of(e->index)->run(r, &s, u->err);
}

/* model: taken over. */
static bf_code read_model(const run *u, const bf_claim_entry *e, bf_reading *r, bool random,
                          bf_model *model)
{
    texts t = {0};
    bf_code rc = BF_OK;
    const size_t P = bf_model_dims(model)->P;
    bf_claim_entry fitted = *e;
    if (P && fitted.tokens > P)
        fitted.tokens = P;
    rc = read_texts(&t, u->claim, &fitted, u->query, random, model, u->err);
    const bf_subject s = {.model = model,
                          .text = t.text,
                          .length = t.length,
                          .n_texts = t.n,
                          .number = e->number,
                          .word = e->word,
                          .results = u->results,
                          .seed = u->query->seed,
                          .query = u->query};
    if (!rc)
        rc = bf_measure_of(e->index)->run(r, &s, u->err);
    texts_free(&t);
    bf_model_free(model);
    return rc;
}

static char *copy_text(const char *text)
{
    char *copy = malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

static bf_code read_one(const run *u, const bf_claim_entry *e, const bf_json *which, bf_reading *r)
{
    bf_model *model = NULL;
    char words[160];
    const char *name = which ? bf_json_string(which) : u->query->model;
    bf_code rc = reading_new(r, e->measure, u->err);
    if (rc)
        return rc;
    const bool random = !name && which;
    if (e->measure->kept) {
        snprintf(words, sizeof words, "kept results");
    } else if (random) {
        bf_random_spec spec;
        const bf_place place = {.path = u->claim->path};
        rc = bf_random_read(&spec, bf_json_get(which, "random"), &place, u->err);
        if (!rc)
            rc = bf_random_open(&model, &spec, u->err);
        if (!rc)
            bf_random_words(words, sizeof words, &spec);
    } else {
        rc = bf_model_open(&model, name, u->err);
        if (!rc)
            snprintf(words, sizeof words, "%s", bf_model_dims(model)->name);
    }
    if (!rc && !(r->model = copy_text(words)))
        rc = bf_fail(u->err, BF_ENOMEM, "cannot hold a name");
    if (rc) {
        bf_model_free(model);
        return rc;
    }
    return e->measure->kept ? read_kept(u, e, r) : read_model(u, e, r, random, model);
}

static bf_code read_entry(const run *u, const bf_claim_entry *e, bf_entry_found *found)
{
    const bool own = u->query->model != NULL;
    const bf_json *which = own || e->measure->kept ? NULL : bf_json_first(e->models);
    bf_code rc = BF_OK;
    found->name = e->name;
    found->measure = e->measure;
    found->absent = own ? !e->any_model : !e->measure->kept && !which;
    if (found->absent)
        return BF_OK;
    const size_t n = own || e->measure->kept ? 1 : bf_json_count(e->models);
    found->readings = calloc(n, sizeof *found->readings);
    if (!found->readings)
        return bf_fail(u->err, BF_ENOMEM, "cannot hold %zu readings", n);
    for (size_t r = 0; r < n && !rc; r++) {
        found->n_readings++;
        rc = read_one(u, e, which, &found->readings[r]);
        which = which ? bf_json_next(which) : NULL;
        if (!rc && u->query->stop && *u->query->stop)
            rc = bf_fail(u->err, BF_EINTERRUPTED, "interrupted");
    }
    return rc;
}

/* ---- many tests in one claim */

static bf_code correct_tests(bf_decided *d, bf_error *err)
{
    size_t n = 0;
    double *p = NULL;
    size_t *room = NULL;
    for (int round = 0; round < 3; round++) { /* count, gather, put back */
        size_t k = 0;
        for (size_t e = 0; e < d->n_entries; e++)
            for (size_t r = 0; r < d->entries[e].n_readings; r++)
                for (size_t m = 0; m < d->entries[e].measure->n_results; m++) {
                    double *at = &d->entries[e].readings[r].result[m].p;
                    if (isnan(*at))
                        continue;
                    if (round == 1)
                        p[k] = *at;
                    else if (round == 2)
                        *at = p[k];
                    k++;
                }
        if (round == 0) {
            n = k;
            p = calloc(n + 1, sizeof *p);
            room = calloc(n + 1, sizeof *room);
            if (!p || !room)
                break;
        } else if (round == 1) {
            bf_holm(p, n, room);
        }
    }
    const bool failed = !p || !room;
    free(p);
    free(room);
    d->n_tests = n;
    return failed ? bf_fail(err, BF_ENOMEM, "cannot hold %zu tests", n) : BF_OK;
}

/* ---- the verdict */

static const char *why_open(const bf_decided *d)
{
    for (size_t e = 0; e < d->n_entries; e++)
        for (size_t r = 0; r < d->entries[e].n_readings; r++)
            if (d->entries[e].readings[r].missing[0])
                return d->entries[e].readings[r].missing;
    return "no verdict's condition is met";
}

static bf_code take_verdict(bf_decided *d, const bf_claim *claim, bool any_model, bf_error *err)
{
    const bf_json *row = bf_json_first(claim->verdicts);
    bf_truth truth = BF_NO;
    for (; row; row = bf_json_next(row)) {
        const bf_json *test = bf_json_get(row, "if");
        truth = test ? bf_predicate_holds(test, claim, d) : BF_YES;
        if (truth == BF_YES || truth == BF_UNKNOWN)
            break;
    }
    d->verdict = BF_VERDICT_OPEN;
    if (!row || truth == BF_UNKNOWN) {
        d->condition = copy_text("");
        d->answer = copy_text(why_open(d));
        return d->condition && d->answer ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold an answer");
    }
    const bf_json *any = any_model ? bf_json_get(row, "answer_any") : NULL;
    const char *word = bf_json_string(bf_json_get(row, "verdict")),
               *condition = bf_json_string(bf_json_get(row, "condition"));
    for (unsigned v = 0; v < BF_VERDICTS; v++)
        if (strcmp(word, bf_verdict_name((bf_verdict)v)) == 0)
            d->verdict = (bf_verdict)v;
    bf_code rc = bf_claim_fill(&d->condition, d, condition ? condition : "", err);
    if (!rc)
        rc = bf_claim_fill(&d->answer, d, bf_json_string(any ? any : bf_json_get(row, "answer")),
                           err);
    return rc;
}

/* ---- all of it */

static bf_code decide(bf_decided *d, const bf_claim *claim, const bf_claim_query *query,
                      bf_error *err)
{
    run u = {.claim = claim, .query = query, .err = err};
    bf_code rc = BF_OK;
    d->entries = calloc(claim->n_entries, sizeof *d->entries);
    u.results = query->results ? copy_text(query->results) : bf_path_join(claim->folder, "results");
    if (!d->entries || !u.results)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a claim's results");
    for (size_t e = 0; e < claim->n_entries && !rc; e++) {
        d->n_entries++;
        rc = read_entry(&u, &claim->entry[e], &d->entries[e]);
        if (rc && rc != BF_EINTERRUPTED) {
            char where[400];
            snprintf(where, sizeof where, "%.200s: /measures/%zu", claim->path, e);
            bf_error_prefix(err, rc, where);
        }
        if (query->progress)
            query->progress(query->progress_context, bf_claim_id(claim),
                            (double)(e + 1) / (double)claim->n_entries, 0.0);
    }
    free(u.results);
    if (!rc)
        rc = correct_tests(d, err);
    return rc ? rc : take_verdict(d, claim, query->model != NULL, err);
}

bf_code bf_claim_decide(bf_decided **out, const bf_claim *claim, const bf_claim_query *query,
                        bf_error *err)
{
    const double start = bf_seconds();
    bf_decided *d = calloc(1, sizeof *d);
    if (!d)
        return bf_fail(err, BF_ENOMEM, "cannot hold a decision");
    const bf_code rc = decide(d, claim, query, err);
    if (rc) {
        bf_decided_free(d);
        return rc;
    }
    d->seconds = bf_seconds() - start;
    d->judged = claim->expects;
    d->expected = query->model ? claim->expected_any : claim->expected;
    d->surprising = d->judged ? d->verdict != d->expected : d->verdict == BF_VERDICT_REFUTED;
    *out = d;
    return BF_OK;
}

void bf_decided_free(bf_decided *d)
{
    if (!d)
        return;
    for (size_t e = 0; d->entries && e < d->n_entries; e++) {
        bf_entry_found *f = &d->entries[e];
        for (size_t r = 0; f->readings && r < f->n_readings; r++) {
            for (size_t k = 0; f->readings[r].series && k < f->measure->n_series; k++)
                bf_series_free(&f->readings[r].series[k]);
            free(f->readings[r].model);
            free(f->readings[r].result);
            free(f->readings[r].series);
        }
        free(f->readings);
    }
    free(d->entries);
    free(d->condition);
    free(d->answer);
    free(d);
}
