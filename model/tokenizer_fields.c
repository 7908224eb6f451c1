/* tokenizer_fields.c -- fields of a tokenizer.json, with errors that name them. */
#include "model/tokenizer_parts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool is_null(const bf_json *value)
{
    return !value || bf_json_kind(value) == BF_JSON_NULL;
}

static bf_code wrong_field(const bf_json *object, const char *key, const char *wanted,
                           bf_error *err)
{
    char found[64];
    const bf_json *value = bf_json_get(object, key);
    if (!value)
        return bf_fail(err, BF_EFORMAT, "field \"%s\" is missing, wanted %s", key, wanted);
    return bf_fail(err, BF_EFORMAT, "field \"%s\" is %s, wanted %s", key,
                   bf_json_describe(value, found, sizeof found), wanted);
}

bf_code bf_field_string(const char **out, const bf_json *object, const char *key, bf_error *err)
{
    const char *text = bf_json_string(bf_json_get(object, key));
    if (!text)
        return wrong_field(object, key, "a string", err);
    *out = text;
    return BF_OK;
}

bf_code bf_field_bool(bool *out, const bf_json *object, const char *key, bf_error *err)
{
    const bf_json *value = bf_json_get(object, key);
    if (!value || bf_json_kind(value) != BF_JSON_BOOL)
        return wrong_field(object, key, "true or false", err);
    *out = bf_json_true(value);
    return BF_OK;
}

bf_code bf_field_char(int32_t *out, const bf_json *object, const char *key, bf_error *err)
{
    const char *text = bf_json_string(bf_json_get(object, key));
    if (!text || !*text || text[bf_utf8_next(out, text, 0)])
        return wrong_field(object, key, "a string of one character", err);
    return BF_OK;
}

bf_code bf_field_id(int64_t *out, const bf_json *value, const char *name, bf_error *err)
{
    size_t id;
    char found[64];
    if (!value || !bf_json_size(value, &id) || id > INT32_MAX)
        return bf_fail(err, BF_EFORMAT, "%s is %s, wanted an id (0 to 2147483647)", name,
                       value ? bf_json_describe(value, found, sizeof found) : "missing");
    *out = (int64_t)id;
    return BF_OK;
}

char *bf_text_copy(const char *text)
{
    const size_t n = strlen(text) + 1;
    char *copy = malloc(n);
    return copy ? memcpy(copy, text, n) : NULL;
}

bf_code bf_field_pattern(bf_pattern *out, const bf_json *object, bf_error *err)
{
    const bf_json *value = bf_json_get(object, "pattern");
    const char *literal = bf_json_string(bf_json_get(value, "String"));
    const char *pattern = bf_json_string(bf_json_get(value, "Regex"));
    if (!literal == !pattern)
        return wrong_field(object, "pattern", "{\"String\": ..} or {\"Regex\": ..}", err);
    if (!literal || !*literal)
        return bf_regex_new(&out->regex, literal ? "" : pattern, err);
    out->literal = bf_text_copy(literal);
    return out->literal ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a pattern");
}

void bf_pattern_free(bf_pattern *pattern)
{
    free(pattern->literal);
    bf_regex_free(pattern->regex);
    *pattern = (bf_pattern){0};
}

bf_code bf_pattern_next(bool *found, size_t *from, size_t *to, const bf_pattern *pattern,
                        bf_scan *scan, const char *text, size_t len, size_t done, bf_error *err)
{
    if (!pattern->literal)
        return bf_scan_next(found, from, to, scan, err);
    const size_t n = strlen(pattern->literal);
    *found = false;
    while (done + n <= len && !*found) {
        const char *first = memchr(text + done, pattern->literal[0], len - done);
        if (!first)
            return BF_OK;
        done = (size_t)(first - text);
        *found = done + n <= len && !memcmp(first, pattern->literal, n);
        *from = done;
        *to = done + n;
        done++;
    }
    return BF_OK;
}

const char *bf_token_show(char *buf, size_t size, const char *text, size_t len)
{
    size_t n = 0;
    buf[n++] = '"';
    for (size_t k = 0; k < len; k++) {
        const unsigned char c = (unsigned char)text[k];
        const bool plain = c >= 32 && c != 127;
        if (n + 9 > size && (c < 0x80 || c >= 0xC0)) { /* room for a character, "..." and a quote */
            memcpy(buf + n, "...", 3);
            n += 3;
            break;
        }
        n += (size_t)snprintf(buf + n, size - n, plain ? "%c" : "\\x%02X", c);
    }
    snprintf(buf + n, size - n, "\"");
    return buf;
}

static bf_code add_steps(bf_step **list, size_t *n, size_t *cap, const bf_json *value,
                         const char *list_key, bf_error *err)
{
    char found[64];
    if (!value || bf_json_kind(value) != BF_JSON_OBJECT)
        return bf_fail(err, BF_EFORMAT, "is %s, wanted an object",
                       value ? bf_json_describe(value, found, sizeof found) : "missing");
    const char *type = NULL;
    bf_code rc = bf_field_string(&type, value, "type", err);
    if (rc)
        return rc;
    if (!strcmp(type, "Sequence")) {
        const bf_json *steps = bf_json_get(value, list_key);
        if (!steps || bf_json_kind(steps) != BF_JSON_ARRAY)
            return wrong_field(value, list_key, "an array", err);
        for (const bf_json *s = bf_json_first(steps); s && !rc; s = bf_json_next(s))
            rc = add_steps(list, n, cap, s, list_key, err);
        return rc;
    }
    if (*n == *cap) {
        const size_t grown = *cap ? *cap * 2 : 8;
        bf_step *steps = realloc(*list, grown * sizeof *steps);
        if (!steps)
            return bf_fail(err, BF_ENOMEM, "cannot hold %zu steps", grown);
        *list = steps;
        *cap = grown;
    }
    (*list)[(*n)++] = (bf_step){value, type};
    return BF_OK;
}

bf_code bf_field_steps(bf_step **out, size_t *n, const bf_json *value, const char *list_key,
                       bf_error *err)
{
    bf_step *list = NULL;
    size_t cap = 0;
    *out = NULL;
    *n = 0;
    if (is_null(value))
        return BF_OK;
    const bf_code rc = add_steps(&list, n, &cap, value, list_key, err);
    if (rc) {
        free(list);
        *n = 0;
        return rc;
    }
    *out = list;
    return BF_OK;
}

bf_code bf_step_fail(bf_error *err, bf_code code, const char *field, size_t k, const bf_step *step)
{
    char where[120], type[50];
    snprintf(where, sizeof where, "%s step %zu of type %s", field, k + 1,
             bf_token_show(type, sizeof type, step->type, strlen(step->type)));
    return bf_error_prefix(err, code, where);
}

bf_code bf_steps_new(void **steps, size_t *n, size_t size, bf_step_read *read,
                     const bf_json *value, const char *field, const char *list_key, bf_error *err)
{
    bf_step *list = NULL;
    *steps = NULL;
    bf_code rc = bf_field_steps(&list, n, value, list_key, err);
    if (rc)
        return bf_error_prefix(err, rc, field);
    char *room = calloc(*n + 1, size);
    if (!room) {
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu steps", *n);
        *n = 0;
    }
    for (size_t k = 0; k < *n && !rc; k++) {
        rc = read(room + k * size, &list[k], err);
        if (rc)
            bf_step_fail(err, rc, field, k, &list[k]);
    }
    free(list);
    *steps = room;
    return rc;
}
