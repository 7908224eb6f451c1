/* The fields of a claim's parts as a table, places in a file, and the check of one against the
 * other. */
#include "tracer/claim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define TEXT BF_KIND_TEXT
#define NUMBER BF_KIND_NUMBER
#define LIST BF_KIND_LIST
#define OBJECT BF_KIND_OBJECT
#define BOOL BF_KIND_BOOL

const bf_claim_shape bf_claim_shapes[BF_SHAPES] = {
    [BF_SHAPE_CLAIM] = {"claim", (const bf_claim_field[]){{"$schema", TEXT, false},
                                                          {"backflow_claim", NUMBER, true},
                                                          {"id", TEXT, true},
                                                          {"claim", TEXT, true},
                                                          {"plain", TEXT, false},
                                                          {"refuted_if", TEXT, true},
                                                          {"expected", TEXT, false},
                                                          {"expected_any", TEXT, false},
                                                          {"measures", LIST, true},
                                                          {"verdicts", LIST, true},
                                                          {"exact", TEXT, false},
                                                          {"open", TEXT, false},
                                                          {"figures", LIST, false},
                                                          {"tables", LIST, false},
                                                          {NULL, 0, false}}},
    [BF_SHAPE_ENTRY] = {"measure", (const bf_claim_field[]){{"name", TEXT, true},
                                                            {"measure", TEXT, true},
                                                            {"models", LIST, false},
                                                            {"with", OBJECT, false},
                                                            {"tokens", NUMBER, false},
                                                            {"documents", NUMBER, false},
                                                            {"any_model", BOOL, false},
                                                            {NULL, 0, false}}},
    [BF_SHAPE_MODEL] = {"model",
                        (const bf_claim_field[]){{"random", OBJECT, true}, {NULL, 0, false}}},
    [BF_SHAPE_RANDOM] = {"random", (const bf_claim_field[]){{"family", TEXT, true},
                                                            {"layers", NUMBER, true},
                                                            {"width", NUMBER, true},
                                                            {"heads", NUMBER, true},
                                                            {"kv_heads", NUMBER, false},
                                                            {"mlp", NUMBER, false},
                                                            {"vocabulary", NUMBER, true},
                                                            {"positions", NUMBER, false},
                                                            {"window", NUMBER, false},
                                                            {"seed", NUMBER, false},
                                                            {"scale", NUMBER, false},
                                                            {"no_positions", BOOL, false},
                                                            {"mask", OBJECT, false},
                                                            {NULL, 0, false}}},
    [BF_SHAPE_VERDICT] = {"verdict", (const bf_claim_field[]){{"if", OBJECT, false},
                                                              {"verdict", TEXT, true},
                                                              {"condition", TEXT, false},
                                                              {"answer", TEXT, true},
                                                              {"answer_any", TEXT, false},
                                                              {NULL, 0, false}}},
    [BF_SHAPE_COMPARE] = {"compare", (const bf_claim_field[]){{"value", TEXT, false},
                                                              {"bound", TEXT, false},
                                                              {"is", TEXT, false},
                                                              {"than", NUMBER | TEXT, false},
                                                              {"floor", NUMBER, false},
                                                              {"of", TEXT, false},
                                                              {"significant", TEXT, false},
                                                              {"level", NUMBER, false},
                                                              {"known", TEXT, false},
                                                              {"and", LIST, false},
                                                              {"or", LIST, false},
                                                              {"not", OBJECT, false},
                                                              {NULL, 0, false}}},
    [BF_SHAPE_FIGURE] = {"figure", (const bf_claim_field[]){{"kind", TEXT, true},
                                                            {"title", TEXT, true},
                                                            {"x", TEXT, false},
                                                            {"y", LIST, true},
                                                            {"names", LIST, false},
                                                            {"x_name", TEXT, true},
                                                            {"y_name", TEXT, true},
                                                            {"x_log", BOOL, false},
                                                            {"y_log", BOOL, false},
                                                            {"caption", TEXT, true},
                                                            {NULL, 0, false}}},
    [BF_SHAPE_TABLE] = {"table", (const bf_claim_field[]){{"title", TEXT, true},
                                                          {"columns", LIST, true},
                                                          {"rows", LIST, true},
                                                          {NULL, 0, false}}},
};

bf_place bf_place_in(const bf_place *place, const char *key, size_t k)
{
    bf_place inner = {.path = place->path};
    if (key)
        snprintf(inner.pointer, sizeof inner.pointer, "%.150s/%.80s", place->pointer, key);
    else
        snprintf(inner.pointer, sizeof inner.pointer, "%.200s/%zu", place->pointer, k);
    return inner;
}

bf_code bf_place_fail(bf_error *err, const bf_place *place, const char *format, ...)
{
    char words[300];
    va_list args;
    va_start(args, format);
    vsnprintf(words, sizeof words, format, args);
    va_end(args);
    return bf_fail(err, BF_EFORMAT, "%.140s: %s: %s", place->path,
                   place->pointer[0] ? place->pointer : "/", words);
}

static unsigned kind_of(const bf_json *value)
{
    switch (bf_json_kind(value)) {
    case BF_JSON_NUMBER: return NUMBER;
    case BF_JSON_STRING: return TEXT;
    case BF_JSON_ARRAY: return LIST;
    case BF_JSON_OBJECT: return OBJECT;
    case BF_JSON_BOOL: return BOOL;
    case BF_JSON_NULL: break;
    }
    return 0;
}

/* "a number or a string", to buf. */
static const char *kind_words(char buf[80], unsigned kinds)
{
    static const char *const words[] = {"a number", "a string", "a list", "an object",
                                        "true or false"};
    buf[0] = '\0';
    for (unsigned k = 0; k < sizeof words / sizeof *words; k++)
        if (kinds & 1u << k) {
            strcat(buf, buf[0] ? " or " : "");
            strcat(buf, words[k]);
        }
    return buf;
}

static bf_code unknown_field(const bf_place *place, const bf_claim_shape *shape, bf_error *err)
{
    char names[200] = "";
    for (const bf_claim_field *f = shape->fields; f->name; f++) {
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", f->name);
    }
    return bf_place_fail(err, place, "no such field, wanted one of: %s", names);
}

bf_code bf_shape_check(const bf_json *object, const bf_claim_shape *shape, const bf_place *place,
                       bf_error *err)
{
    char found[80], wanted[80];
    if (bf_json_kind(object) != BF_JSON_OBJECT)
        return bf_place_fail(err, place, "%s, wanted an object",
                             bf_json_describe(object, found, sizeof found));
    for (const bf_json *c = bf_json_first(object); c; c = bf_json_next(c)) {
        const bf_place here = bf_place_in(place, bf_json_key(c), 0);
        const bf_claim_field *f = shape->fields;
        while (f->name && strcmp(f->name, bf_json_key(c)) != 0)
            f++;
        if (!f->name)
            return unknown_field(&here, shape, err);
        if (!(f->kinds & kind_of(c)))
            return bf_place_fail(err, &here, "%s, wanted %s",
                                 bf_json_describe(c, found, sizeof found),
                                 kind_words(wanted, f->kinds));
    }
    for (const bf_claim_field *f = shape->fields; f->name; f++)
        if (f->needed && !bf_json_get(object, f->name)) {
            const bf_place here = bf_place_in(place, f->name, 0);
            return bf_place_fail(err, &here, "missing, wanted %s", kind_words(wanted, f->kinds));
        }
    return BF_OK;
}

bf_code bf_size_read(size_t *out, const bf_json *object, const char *key, size_t fallback,
                     size_t least, size_t most, const bf_place *place, bf_error *err)
{
    char found[80];
    const bf_json *value = bf_json_get(object, key);
    const bf_place here = bf_place_in(place, key, 0);
    *out = fallback;
    if (value && (!bf_json_size(value, out) || *out < least || *out > most))
        return bf_place_fail(err, &here, "%s, wanted a whole number from %zu to %zu",
                             bf_json_describe(value, found, sizeof found), least, most);
    return BF_OK;
}
