/* A claim's file to a bf_claim: every field checked before anything is run. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/files.h"
#include "tracer/claim.h"

enum {
    FILE_LIMIT = 1 << 20,
    TOKENS = 32,
    DOCUMENTS = 4,
    MOST_TOKENS = 4096,
    MOST_DOCUMENTS = 10000,
    MOST_ENTRIES = 64
};

const char *bf_verdict_name(bf_verdict verdict)
{
    static const char *const names[BF_VERDICTS] = {"holds", "refuted", "depends", "measured",
                                                   "open"};
    return names[verdict];
}

static bf_code read_verdict(bf_verdict *out, const bf_json *object, const char *key,
                            const bf_place *place, bf_error *err)
{
    const char *word = bf_json_string(bf_json_get(object, key));
    const bf_place here = bf_place_in(place, key, 0);
    for (unsigned v = 0; v < BF_VERDICTS; v++)
        if (strcmp(word, bf_verdict_name((bf_verdict)v)) == 0) {
            *out = (bf_verdict)v;
            return BF_OK;
        }
    return bf_place_fail(err, &here, "\"%.40s\", wanted holds, refuted, depends, measured or open",
                         word);
}

/* ---- entries */

static bf_code find_measure(bf_claim_entry *e, const bf_json *object, const bf_place *place,
                            bf_error *err)
{
    const char *name = bf_json_string(bf_json_get(object, "measure"));
    const bf_place here = bf_place_in(place, "measure", 0);
    for (e->index = 0; (e->measure = bf_measure_at(e->index)); e->index++)
        if (strcmp(e->measure->name, name) == 0)
            return BF_OK;
    return bf_place_fail(err, &here, "no measure \"%.60s\" (backflow verify --measures lists all)",
                         name);
}

static bf_code read_param(bf_claim_entry *e, const bf_json *value, const bf_place *place,
                          bf_error *err)
{
    char found[80];
    const bf_measure_info *m = e->measure;
    size_t k = 0;
    while (k < m->n_params && strcmp(m->params[k].name, bf_json_key(value)) != 0)
        k++;
    if (k == m->n_params)
        return bf_place_fail(err, place,
                             "the measure %s has no such parameter "
                             "(backflow verify --measures)",
                             m->name);
    const bf_measure_param *p = &m->params[k];
    if (p->words) {
        e->word[k] = bf_json_string(value);
        if (!e->word[k] || !*e->word[k])
            return bf_place_fail(err, place, "%s, wanted %s",
                                 bf_json_describe(value, found, sizeof found), p->words);
    } else if (!bf_json_number(value, &e->number[k]) || e->number[k] < p->least ||
               e->number[k] > p->most) {
        return bf_place_fail(err, place, "%s, wanted a number from %g to %g",
                             bf_json_describe(value, found, sizeof found), p->least, p->most);
    }
    return BF_OK;
}

static bf_code read_params(bf_claim_entry *e, const bf_place *place, bf_error *err)
{
    const bf_measure_info *m = e->measure;
    const bf_place with = bf_place_in(place, "with", 0);
    bf_code rc = BF_OK;
    e->number = calloc(m->n_params + 1, sizeof *e->number);
    e->word = calloc(m->n_params + 1, sizeof *e->word);
    if (!e->number || !e->word)
        return bf_fail(err, BF_ENOMEM, "cannot hold a measure's parameters");
    for (size_t k = 0; k < m->n_params; k++)
        e->number[k] = m->params[k].value;
    for (const bf_json *c = e->with ? bf_json_first(e->with) : NULL; c && !rc;
         c = bf_json_next(c)) {
        const bf_place here = bf_place_in(&with, bf_json_key(c), 0);
        rc = read_param(e, c, &here, err);
    }
    for (size_t k = 0; k < m->n_params && !rc; k++)
        if (m->params[k].words && !e->word[k] && m->params[k].least > 0.0) {
            const bf_place here = bf_place_in(&with, m->params[k].name, 0);
            rc = bf_place_fail(err, &here, "missing, wanted %s", m->params[k].words);
        }
    return rc;
}

static bf_code check_models(const bf_claim_entry *e, const bf_place *place, bf_error *err)
{
    const bf_place list = bf_place_in(place, "models", 0);
    char found[80];
    size_t k = 0;
    bf_code rc = BF_OK;
    if (e->measure->kept && e->models)
        return bf_place_fail(err, &list, "the measure %s reads kept results and takes no models",
                             e->measure->name);
    if (!e->measure->kept && (!e->models || !bf_json_first(e->models)) && !e->any_model)
        return bf_place_fail(err, &list, "missing or empty, wanted models, or \"any_model\": true");
    for (const bf_json *c = e->models ? bf_json_first(e->models) : NULL; c && !rc;
         c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&list, NULL, k), random = bf_place_in(&here, "random", 0);
        bf_random_spec spec;
        if (bf_json_string(c) && *bf_json_string(c))
            continue;
        if (bf_json_kind(c) != BF_JSON_OBJECT)
            return bf_place_fail(err, &here, "%s, wanted a model's name or {\"random\": ..}",
                                 bf_json_describe(c, found, sizeof found));
        rc = bf_shape_check(c, &bf_claim_shapes[BF_SHAPE_MODEL], &here, err);
        if (!rc)
            rc = bf_random_read(&spec, bf_json_get(c, "random"), &random, err);
    }
    return rc;
}

static bf_code check_name(const bf_claim *claim, const bf_claim_entry *e, const bf_place *place,
                          bf_error *err)
{
    const bf_place here = bf_place_in(place, "name", 0);
    const size_t n = strlen(e->name);
    for (const char *c = e->name; *c; c++)
        if (!isalnum((unsigned char)*c) && *c != '_')
            return bf_place_fail(err, &here, "\"%.60s\", wanted letters, digits and _", e->name);
    if (n == 0 || n > 40)
        return bf_place_fail(err, &here, "%zu characters, wanted 1 to 40", n);
    for (const bf_claim_entry *other = claim->entry; other < e; other++)
        if (strcmp(other->name, e->name) == 0)
            return bf_place_fail(err, &here, "\"%s\" is the name of another measure, too", e->name);
    return BF_OK;
}

static bf_code read_entry(const bf_claim *claim, bf_claim_entry *e, const bf_json *object,
                          const bf_place *place, bf_error *err)
{
    bf_code rc = bf_shape_check(object, &bf_claim_shapes[BF_SHAPE_ENTRY], place, err);
    if (rc)
        return rc;
    e->name = bf_json_string(bf_json_get(object, "name"));
    e->models = bf_json_get(object, "models");
    e->with = bf_json_get(object, "with");
    e->any_model = bf_json_true(bf_json_get(object, "any_model"));
    rc = check_name(claim, e, place, err);
    if (!rc)
        rc = find_measure(e, object, place, err);
    if (!rc)
        rc = bf_size_read(&e->tokens, object, "tokens", TOKENS, 2, MOST_TOKENS, place, err);
    if (!rc)
        rc = bf_size_read(&e->documents, object, "documents", DOCUMENTS, 1, MOST_DOCUMENTS, place,
                          err);
    if (!rc)
        rc = read_params(e, place, err);
    return rc ? rc : check_models(e, place, err);
}

static bf_code read_entries(bf_claim *claim, const bf_place *top, bf_error *err)
{
    const bf_json *list = bf_json_get(claim->json, "measures");
    const bf_place here = bf_place_in(top, "measures", 0);
    const size_t n = bf_json_count(list);
    size_t k = 0;
    bf_code rc = BF_OK;
    if (n == 0 || n > MOST_ENTRIES)
        return bf_place_fail(err, &here, "%zu measures, wanted 1 to %d", n, MOST_ENTRIES);
    claim->entry = calloc(n, sizeof *claim->entry);
    if (!claim->entry)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu measures", n);
    claim->n_entries = n;
    for (const bf_json *c = bf_json_first(list); c && !rc; c = bf_json_next(c), k++) {
        const bf_place inner = bf_place_in(&here, NULL, k);
        rc = read_entry(claim, &claim->entry[k], c, &inner, err);
    }
    return rc;
}

/* ---- verdicts */

static bf_code check_verdicts(bf_claim *claim, const bf_place *top, bf_error *err)
{
    const bf_place list = bf_place_in(top, "verdicts", 0);
    bf_code rc = BF_OK;
    bf_verdict verdict;
    size_t k = 0;
    claim->verdicts = bf_json_get(claim->json, "verdicts");
    if (!bf_json_first(claim->verdicts))
        return bf_place_fail(err, &list, "empty, wanted at least one verdict");
    for (const bf_json *c = bf_json_first(claim->verdicts); c && !rc; c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&list, NULL, k), test = bf_place_in(&here, "if", 0),
                       answer = bf_place_in(&here, "answer", 0),
                       any = bf_place_in(&here, "answer_any", 0),
                       condition = bf_place_in(&here, "condition", 0);
        rc = bf_shape_check(c, &bf_claim_shapes[BF_SHAPE_VERDICT], &here, err);
        if (!rc)
            rc = read_verdict(&verdict, c, "verdict", &here, err);
        if (!rc && !bf_json_get(c, "if") && bf_json_next(c))
            rc = bf_place_fail(err, &test, "missing: only the last verdict needs no predicate");
        if (!rc && bf_json_get(c, "if"))
            rc = bf_predicate_check(bf_json_get(c, "if"), claim, &test, err);
        if (!rc)
            rc = bf_template_check(bf_json_string(bf_json_get(c, "answer")), claim, &answer, err);
        if (!rc && bf_json_get(c, "answer_any"))
            rc = bf_template_check(bf_json_string(bf_json_get(c, "answer_any")), claim, &any, err);
        if (!rc && bf_json_get(c, "condition"))
            rc = bf_template_check(bf_json_string(bf_json_get(c, "condition")), claim, &condition,
                                   err);
    }
    return rc;
}

static bf_code read_claim(bf_claim *claim, bf_error *err)
{
    const bf_place top = {.path = claim->path}, version = bf_place_in(&top, "backflow_claim", 0),
                   id = bf_place_in(&top, "id", 0);
    double number = 0.0;
    bf_code rc = bf_json_read(&claim->json, claim->path, FILE_LIMIT, err);
    if (!rc)
        rc = bf_shape_check(claim->json, &bf_claim_shapes[BF_SHAPE_CLAIM], &top, err);
    if (rc)
        return rc;
    bf_json_number(bf_json_get(claim->json, "backflow_claim"), &number);
    if (number != 1.0)
        return bf_place_fail(err, &version, "the number %g, wanted 1", number);
    const char *name = bf_claim_id(claim);
    if (!*name || strlen(name) > 40 ||
        strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") !=
            strlen(name))
        return bf_place_fail(err, &id, "\"%.60s\", wanted 1 to 40 letters, digits, - and _", name);
    claim->expects = bf_json_get(claim->json, "expected") != NULL;
    if (claim->expects)
        rc = read_verdict(&claim->expected, claim->json, "expected", &top, err);
    claim->expected_any = claim->expected;
    if (!rc && bf_json_get(claim->json, "expected_any"))
        rc = claim->expects
                 ? read_verdict(&claim->expected_any, claim->json, "expected_any", &top, err)
                 : bf_place_fail(err, &top, "\"expected_any\" without \"expected\"");
    if (!rc)
        rc = read_entries(claim, &top, err);
    if (!rc)
        rc = check_verdicts(claim, &top, err);
    if (!rc)
        rc = bf_claim_check_figures(claim, &top, err);
    return rc ? rc : bf_claim_check_tables(claim, &top, err);
}

/* ---- opening */

/* "C3", "c03" are the number of a claim that comes with backflow; 0: it is not one. */
static unsigned long number_of(const char *name)
{
    char *end;
    if ((name[0] != 'C' && name[0] != 'c') || !isdigit((unsigned char)name[1]) || strlen(name) > 3)
        return 0;
    const unsigned long n = strtoul(name + 1, &end, 10);
    return *end ? 0 : n;
}

static bf_code find_path(char **out, const char *path, bf_error *err)
{
    char name[32], *folder = NULL;
    const unsigned long number = number_of(path);
    if (!number || bf_path_exists(path)) {
        *out = malloc(strlen(path) + 1);
        if (*out)
            strcpy(*out, path);
        return *out ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    }
    const bf_code rc = bf_claim_folder(&folder, err);
    if (rc)
        return rc;
    snprintf(name, sizeof name, "C%02lu.json", number);
    *out = bf_path_join(folder, name);
    free(folder);
    if (!*out)
        return bf_fail(err, BF_ENOMEM, "cannot hold a path");
    if (bf_path_exists(*out))
        return BF_OK;
    free(*out);
    *out = NULL;
    return bf_fail(err, BF_EARG, "no claim %s comes with backflow, wanted C1 to C13 or a file",
                   path);
}

bf_code bf_claim_open(bf_claim **out, const char *path, bf_error *err)
{
    bf_claim *claim = calloc(1, sizeof *claim);
    if (!claim)
        return bf_fail(err, BF_ENOMEM, "cannot hold a claim");
    bf_code rc = find_path(&claim->path, path, err);
    if (!rc) {
        const char *slash = strrchr(claim->path, '/');
        const size_t n = slash ? (size_t)(slash - claim->path) + (slash == claim->path) : 1;
        claim->folder = malloc(n + 1);
        if (claim->folder)
            snprintf(claim->folder, n + 1, "%s", slash ? claim->path : ".");
        rc = claim->folder ? read_claim(claim, err) : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    }
    if (rc)
        bf_claim_free(claim);
    else
        *out = claim;
    return rc;
}

void bf_claim_free(bf_claim *claim)
{
    if (!claim)
        return;
    for (size_t k = 0; k < claim->n_entries; k++) {
        free(claim->entry[k].number);
        free(claim->entry[k].word);
    }
    free(claim->entry);
    bf_json_free(claim->json);
    free(claim->path);
    free(claim->folder);
    free(claim);
}

/* ---- what it says */

const char *bf_claim_word(const bf_claim *claim, const char *field)
{
    return bf_json_string(bf_json_get(claim->json, field));
}

const char *bf_claim_id(const bf_claim *claim)
{
    return bf_claim_word(claim, "id");
}

const char *bf_claim_path(const bf_claim *claim)
{
    return claim->path;
}

bool bf_claim_for_any_model(const bf_claim *claim)
{
    for (size_t k = 0; k < claim->n_entries; k++)
        if (claim->entry[k].any_model)
            return true;
    return false;
}

bool bf_claim_lookup(size_t *entry, size_t *result, bool *series, const bf_claim *claim,
                     const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot)
        return false;
    for (size_t e = 0; e < claim->n_entries; e++) {
        const bf_claim_entry *y = &claim->entry[e];
        if (strlen(y->name) != (size_t)(dot - name) || strncmp(y->name, name, strlen(y->name)) != 0)
            continue;
        for (size_t list = 0; list < (series ? 2 : 1); list++) {
            const bf_measure_result *r = list ? y->measure->series : y->measure->results;
            const size_t n = list ? y->measure->n_series : y->measure->n_results;
            for (size_t k = 0; k < n; k++)
                if (strcmp(r[k].name, dot + 1) == 0) {
                    *entry = e;
                    *result = k;
                    if (series)
                        *series = list == 1;
                    return true;
                }
        }
    }
    return false;
}
