/* tokenizer_decode.c -- the decoder: a list of steps from tokens' strings to a text; and how one
 * token's string looks to a reader. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    STEP_BYTES, STEP_FALLBACK, STEP_FUSE, STEP_STRIP, STEP_REPLACE, STEP_META, STEP_WORDPIECE,
    STEP_BPE
} step_kind;

typedef struct {
    step_kind kind;
    bf_pattern pattern;  /* STEP_REPLACE: owned */
    char *text;          /* STEP_REPLACE content, STEP_WORDPIECE prefix, STEP_BPE suffix: owned */
    int32_t mark;        /* STEP_STRIP, STEP_META */
    size_t start, stop;  /* STEP_STRIP */
    bool drop_first;     /* STEP_META: the mark that was put before the text */
    bool cleanup;        /* STEP_WORDPIECE */
} dec_step;

struct bf_decoder {
    dec_step *step;
    size_t n;
};

/* ---- reading ---- */

static bf_code read_text(dec_step *out, const bf_json *json, const char *key, bf_error *err)
{
    const char *text = NULL;
    const bf_code rc = bf_field_string(&text, json, key, err);
    if (rc)
        return rc;
    out->text = bf_text_copy(text);
    return out->text ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a string");
}

static bf_code read_metaspace(dec_step *out, const bf_json *json, bf_error *err)
{
    bool prefix = true;
    const char *scheme = NULL;
    bf_code rc = bf_field_char(&out->mark, json, "replacement", err);
    if (!rc)
        rc = bf_json_opt_bool(&prefix, json, "add_prefix_space", true, err);
    if (!rc)
        rc = bf_json_opt_string(&scheme, json, "prepend_scheme", prefix ? "always" : "never", err);
    if (!rc)
        out->drop_first = strcmp(scheme, "never") != 0;
    return rc;
}

static bf_code read_fields(dec_step *out, const bf_json *json, bf_error *err)
{
    bf_code rc = BF_OK;
    switch (out->kind) {
    case STEP_STRIP:
        rc = bf_field_char(&out->mark, json, "content", err);
        if (!rc)
            rc = bf_json_need_size(&out->start, json, "start", err);
        return rc ? rc : bf_json_need_size(&out->stop, json, "stop", err);
    case STEP_REPLACE:
        rc = bf_field_pattern(&out->pattern, json, err);
        return rc ? rc : read_text(out, json, "content", err);
    case STEP_META:
        return read_metaspace(out, json, err);
    case STEP_WORDPIECE:
        rc = read_text(out, json, "prefix", err);
        return rc ? rc : bf_field_bool(&out->cleanup, json, "cleanup", err);
    case STEP_BPE:
        return read_text(out, json, "suffix", err);
    default:
        return BF_OK;
    }
}

static bf_code read_step(void *to, const bf_step *step, bf_error *err)
{
    dec_step *out = to;
    static const struct {
        const char *name;
        step_kind kind;
    } kinds[] = {{"ByteLevel", STEP_BYTES},     {"ByteFallback", STEP_FALLBACK},
                 {"Fuse", STEP_FUSE},           {"Strip", STEP_STRIP},
                 {"Replace", STEP_REPLACE},     {"Metaspace", STEP_META},
                 {"WordPiece", STEP_WORDPIECE}, {"BPEDecoder", STEP_BPE}};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        if (!strcmp(kinds[k].name, step->type)) {
            out->kind = kinds[k].kind;
            return read_fields(out, step->json, err);
        }
    }
    return bf_fail(err, BF_EUNSUPPORTED, "not supported (docs/tokenizers.md says what is)");
}

bf_code bf_decoder_new(bf_decoder **out, const bf_json *value, bf_error *err)
{
    bf_decoder *decoder = calloc(1, sizeof *decoder);
    if (!decoder)
        return bf_fail(err, BF_ENOMEM, "cannot hold a decoder");
    void *steps;
    const bf_code rc = bf_steps_new(&steps, &decoder->n, sizeof *decoder->step, read_step, value,
                                    "decoder", "decoders", err);
    decoder->step = steps;
    if (rc) {
        bf_decoder_free(decoder);
        return rc;
    }
    *out = decoder;
    return BF_OK;
}

void bf_decoder_free(bf_decoder *decoder)
{
    if (!decoder)
        return;
    for (size_t k = 0; k < decoder->n; k++) {
        bf_pattern_free(&decoder->step[k].pattern);
        free(decoder->step[k].text);
    }
    free(decoder->step);
    free(decoder);
}

/* ---- lists of strings ---- */

static void close_string(bf_strings *out)
{
    if (out->failed)
        return;
    if (out->n == out->cap) {
        const size_t cap = out->cap ? out->cap * 2 : 64;
        size_t *end = cap > SIZE_MAX / sizeof *end ? NULL : realloc(out->end, cap * sizeof *end);
        if (!end) {
            out->failed = true;
            return;
        }
        out->end = end;
        out->cap = cap;
    }
    out->end[out->n++] = out->text.len;
}

void bf_strings_add(bf_strings *out, const char *text, size_t len)
{
    bf_buf_bytes(&out->text, text, len);
    close_string(out);
}

void bf_strings_free(bf_strings *strings)
{
    bf_buf_free(&strings->text);
    free(strings->end);
    *strings = (bf_strings){0};
}

/* ---- steps ---- */

/* Bytes to valid UTF-8: what is none becomes U+FFFD. */
static void put_lossy(bf_buf *out, const char *bytes, size_t len)
{
    for (size_t at = 0; at < len;) {
        size_t bad = 0;
        const size_t n = bf_utf8_check(&bad, bytes + at, len - at);
        if (n)
            bf_buf_bytes(out, bytes + at, n);
        else
            bf_buf_text(out, "\xEF\xBF\xBD");
        at += n + bad;
    }
}

/* A run of byte tokens: the characters they spell, or one U+FFFD for each if they spell none. */
static void flush_bytes(bf_strings *out, bf_buf *bytes)
{
    bool valid = true;
    for (size_t at = 0; at < bytes->len && valid;) {
        size_t bad = 0;
        const size_t n = bf_utf8_check(&bad, bytes->data + at, bytes->len - at);
        valid = n > 0;
        at += n;
    }
    if (bytes->len && valid)
        bf_strings_add(out, bytes->data, bytes->len);
    for (size_t k = 0; !valid && k < bytes->len; k++)
        bf_strings_add(out, "\xEF\xBF\xBD", 3);
    bytes->len = 0;
}

static void strip_string(const dec_step *step, bf_strings *out, const char *text, size_t len)
{
    char mark[4];
    const size_t n = bf_utf8_put(mark, step->mark);
    size_t at = 0;
    for (size_t k = 0; k < step->start && len - at >= n && !memcmp(text + at, mark, n); k++)
        at += n;
    for (size_t k = 0; k < step->stop && len - at >= n && !memcmp(text + len - n, mark, n); k++)
        len -= n;
    bf_strings_add(out, text + at, len - at);
}

static void put_replaced(bf_buf *out, const char *text, size_t len, const char *old,
                         const char *new_text)
{
    const bf_pattern pattern = {(char *)(uintptr_t)old, NULL};
    size_t done = 0, from, to;
    bool found = *old != '\0';
    while (found) {
        (void)bf_pattern_next(&found, &from, &to, &pattern, NULL, text, len, done, NULL);
        if (found) {
            bf_buf_bytes(out, text + done, from - done);
            bf_buf_text(out, new_text);
            done = to;
        }
    }
    bf_buf_bytes(out, text + done, len - done);
}

/* The library's undoing of spaces that WordPiece put before punctuation and endings. */
static void put_cleaned(bf_buf *out, const char *text, size_t len)
{
    static const char *const rules[][2] = {
        {" .", "."},     {" ?", "?"},     {" !", "!"},           {" ,", ","},
        {" ' ", "'"},    {" n't", "n't"}, {" 'm", "'m"},         {" do not", " don't"},
        {" 's", "'s"},   {" 've", "'ve"}, {" 're", "'re"}};
    bf_buf now = {0}, next = {0};
    bf_buf_bytes(&now, text, len);
    for (size_t k = 0; k < sizeof rules / sizeof rules[0] && now.len; k++) {
        next.len = 0;
        put_replaced(&next, now.data, now.len, rules[k][0], rules[k][1]);
        const bf_buf t = now;
        now = next;
        next = t;
    }
    bf_buf_bytes(out, now.data, now.len);
    out->failed |= now.failed || next.failed;
    bf_buf_free(&now);
    bf_buf_free(&next);
}

static void wordpiece_string(const dec_step *step, bf_strings *out, size_t k, const char *text,
                             size_t len)
{
    const size_t n = strlen(step->text);
    bf_buf word = {0};
    if (k && len >= n && !memcmp(text, step->text, n)) {
        bf_buf_bytes(&word, text + n, len - n);
    } else {
        bf_buf_text(&word, k ? " " : "");
        bf_buf_bytes(&word, text, len);
    }
    if (step->cleanup)
        put_cleaned(&out->text, word.data, word.len);
    else
        bf_buf_bytes(&out->text, word.data, word.len);
    close_string(out);
    out->failed |= word.failed;
    bf_buf_free(&word);
}

static void metaspace_string(const dec_step *step, bf_strings *out, size_t k, const char *text,
                             size_t len)
{
    char mark[5] = {0};
    bf_utf8_put(mark, step->mark);
    put_replaced(&out->text, text, len, mark, k == 0 && step->drop_first ? "" : " ");
    close_string(out);
}

/* The steps that turn each string into one of its own. */
static bf_code map_string(const dec_step *step, bf_scan *scan, bf_strings *out, size_t k, size_t n,
                          const char *text, size_t len, bf_error *err)
{
    bf_aligned in = {0}, changed = {.limit = bf_aligned_limit(len)};
    bf_code rc = BF_OK;
    switch (step->kind) {
    case STEP_STRIP:
        strip_string(step, out, text, len);
        break;
    case STEP_META:
        metaspace_string(step, out, k, text, len);
        break;
    case STEP_WORDPIECE:
        wordpiece_string(step, out, k, text, len);
        break;
    case STEP_BPE:
        put_replaced(&out->text, text, len, step->text, k + 1 == n ? "" : " ");
        close_string(out);
        break;
    default: /* STEP_REPLACE */
        bf_aligned_put(&in, text, len, (bf_span){0, 0});
        if (!in.failed)
            rc = bf_pattern_replace(&changed, &in, 0, in.len, &step->pattern, scan, step->text,
                                    err);
        bf_strings_add(out, changed.len ? changed.bytes : "", changed.len);
        out->failed |= in.failed || changed.failed;
        bf_aligned_free(&in);
        bf_aligned_free(&changed);
    }
    return rc;
}

static bf_code run_step(const dec_step *step, bf_strings *out, const bf_strings *in, bf_error *err)
{
    bf_buf bytes = {0};
    bool spelt;
    bf_scan *scan = NULL;
    bf_code rc = step->pattern.regex ? bf_scan_new(&scan, step->pattern.regex, err) : BF_OK;
    const size_t limit = bf_aligned_limit(in->text.len);
    for (size_t k = 0; k < in->n && !rc && !out->failed; k++) {
        const size_t at = k ? in->end[k - 1] : 0, len = in->end[k] - at;
        const char *text = in->text.data ? in->text.data + at : "";
        const int byte = step->kind == STEP_FALLBACK ? bf_fallback_byte(text, len) : -1;
        if (step->kind == STEP_FUSE) {
            bf_buf_bytes(&bytes, text, len);
        } else if (step->kind == STEP_BYTES) {
            bf_bytes_unspell(&bytes, &spelt, text, len);
        } else if (byte >= 0) {
            bf_buf_bytes(&bytes, &(char){(char)byte}, 1);
        } else if (step->kind == STEP_FALLBACK) {
            flush_bytes(out, &bytes);
            bf_strings_add(out, text, len);
        } else {
            rc = map_string(step, scan, out, k, in->n, text, len, err);
            out->failed |= out->text.len > limit;
        }
    }
    if (step->kind == STEP_FALLBACK)
        flush_bytes(out, &bytes);
    if (step->kind == STEP_FUSE)
        bf_strings_add(out, bytes.data ? bytes.data : "", bytes.len);
    if (step->kind == STEP_BYTES) {
        put_lossy(&out->text, bytes.data, bytes.len);
        close_string(out);
    }
    out->failed |= bytes.failed;
    bf_buf_free(&bytes);
    bf_scan_free(scan);
    return rc;
}

bf_code bf_decoder_run(const bf_decoder *decoder, bf_strings *strings, bf_error *err)
{
    bf_code rc = BF_OK;
    bf_strings next = {0};
    for (size_t k = 0; k < decoder->n && !rc; k++) {
        next.n = next.text.len = 0;
        rc = run_step(&decoder->step[k], &next, strings, err);
        const bf_strings t = *strings;
        *strings = next;
        next = t;
    }
    if (!decoder->n) { /* the library's way without a decoder */
        for (size_t k = 0; k < strings->n; k++) {
            const size_t at = k ? strings->end[k - 1] : 0;
            bf_buf_text(&next.text, k ? " " : "");
            bf_buf_bytes(&next.text, strings->text.data + at, strings->end[k] - at);
        }
        close_string(&next);
        const bf_strings t = *strings;
        *strings = next;
        next = t;
    }
    if (!rc && (strings->failed || strings->text.failed || next.failed || next.text.failed))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the text of %zu tokens", strings->n);
    bf_strings_free(&next);
    return rc ? bf_error_prefix(err, rc, "decoder") : BF_OK;
}

void bf_decoder_coding(bf_coding *coding, const bf_decoder *decoder)
{
    for (size_t k = 0; k < decoder->n; k++) {
        const dec_step *step = &decoder->step[k];
        coding->byte_level |= step->kind == STEP_BYTES;
        coding->byte_fallback |= step->kind == STEP_FALLBACK;
        if (step->kind == STEP_META)
            coding->space[bf_utf8_put(coding->space, step->mark)] = '\0';
        if (step->kind == STEP_REPLACE && step->pattern.literal && !strcmp(step->text, " ") &&
            strlen(step->pattern.literal) < sizeof coding->space)
            strcpy(coding->space, step->pattern.literal);
        if (step->kind == STEP_BPE && *step->text)
            coding->suffix = step->text;
    }
}
