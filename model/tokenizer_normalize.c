/* tokenizer_normalize.c -- the normalizer: a list of steps, each of which rewrites a text and
 * says for every new byte which of the caller's bytes it stands for. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    STEP_PREPEND, STEP_REPLACE, STEP_FORM, STEP_LOWER, STEP_STRIP, STEP_MARKS, STEP_BERT, STEP_NMT,
    STEP_BYTES
} step_kind;

typedef struct {
    step_kind kind;
    char *content;               /* STEP_PREPEND, STEP_REPLACE: owned */
    bf_pattern pattern;          /* STEP_REPLACE: owned */
    bool compat, compose;        /* STEP_FORM */
    bool left, right;            /* STEP_STRIP */
    bool clean, chinese, accents, lower; /* STEP_BERT */
} norm_step;

struct bf_normalizer {
    norm_step *step;
    size_t n;
};

/* ---- reading ---- */

static bf_code read_bert(norm_step *out, const bf_json *json, bf_error *err)
{
    bf_code rc = bf_field_bool(&out->clean, json, "clean_text", err);
    if (!rc)
        rc = bf_field_bool(&out->chinese, json, "handle_chinese_chars", err);
    if (!rc)
        rc = bf_field_bool(&out->lower, json, "lowercase", err);
    if (!rc)
        rc = bf_json_opt_bool(&out->accents, json, "strip_accents", out->lower, err);
    return rc;
}

static bf_code read_content(norm_step *out, const bf_json *json, const char *key, bf_error *err)
{
    const char *text = NULL;
    const bf_code rc = bf_field_string(&text, json, key, err);
    if (rc)
        return rc;
    out->content = bf_text_copy(text);
    return out->content ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold a string");
}

static bf_code read_step(void *to, const bf_step *step, bf_error *err)
{
    norm_step *out = to;
    static const struct {
        const char *name;
        norm_step step;
    } kinds[] = {
        {"Prepend", {.kind = STEP_PREPEND}},
        {"Replace", {.kind = STEP_REPLACE}},
        {"NFD", {.kind = STEP_FORM}},
        {"NFC", {.kind = STEP_FORM, .compose = true}},
        {"NFKD", {.kind = STEP_FORM, .compat = true}},
        {"NFKC", {.kind = STEP_FORM, .compat = true, .compose = true}},
        {"Lowercase", {.kind = STEP_LOWER}},
        {"Strip", {.kind = STEP_STRIP}},
        {"StripAccents", {.kind = STEP_MARKS}},
        {"BertNormalizer", {.kind = STEP_BERT}},
        {"Bert", {.kind = STEP_BERT}},
        {"Nmt", {.kind = STEP_NMT}},
        {"ByteLevel", {.kind = STEP_BYTES}},
    };
    size_t k = 0;
    while (k < sizeof kinds / sizeof kinds[0] && strcmp(kinds[k].name, step->type))
        k++;
    if (k == sizeof kinds / sizeof kinds[0])
        return bf_fail(err, BF_EUNSUPPORTED, "not supported (docs/tokenizers.md says what is)");
    *out = kinds[k].step;
    bf_code rc = BF_OK;
    if (out->kind == STEP_PREPEND)
        return read_content(out, step->json, "prepend", err);
    if (out->kind == STEP_BERT)
        return read_bert(out, step->json, err);
    if (out->kind == STEP_REPLACE) {
        rc = bf_field_pattern(&out->pattern, step->json, err);
        return rc ? rc : read_content(out, step->json, "content", err);
    }
    if (out->kind == STEP_STRIP) {
        rc = bf_field_bool(&out->left, step->json, "strip_left", err);
        return rc ? rc : bf_field_bool(&out->right, step->json, "strip_right", err);
    }
    return BF_OK;
}

bf_code bf_normalizer_new(bf_normalizer **out, const bf_json *value, bf_error *err)
{
    bf_normalizer *normalizer = calloc(1, sizeof *normalizer);
    if (!normalizer)
        return bf_fail(err, BF_ENOMEM, "cannot hold a normalizer");
    void *steps;
    const bf_code rc = bf_steps_new(&steps, &normalizer->n, sizeof *normalizer->step, read_step,
                                    value, "normalizer", "normalizers", err);
    normalizer->step = steps;
    if (rc) {
        bf_normalizer_free(normalizer);
        return rc;
    }
    *out = normalizer;
    return BF_OK;
}

void bf_normalizer_free(bf_normalizer *normalizer)
{
    if (!normalizer)
        return;
    for (size_t k = 0; k < normalizer->n; k++) {
        free(normalizer->step[k].content);
        bf_pattern_free(&normalizer->step[k].pattern);
    }
    free(normalizer->step);
    free(normalizer);
}

bool bf_normalizer_is_byte_level(const bf_normalizer *normalizer)
{
    for (size_t k = 0; k < normalizer->n; k++)
        if (normalizer->step[k].kind == STEP_BYTES)
            return true;
    return false;
}

/* ---- running ---- */

void bf_bytes_spell(bf_aligned *out, const bf_aligned *text, size_t begin, size_t end)
{
    for (size_t at = begin; at < end; at++) {
        char utf8[4];
        const int32_t cp = bf_byte_char((unsigned char)text->bytes[at]);
        bf_aligned_put(out, utf8, bf_utf8_put(utf8, cp), text->span[at]);
    }
}

bf_code bf_pattern_replace(bf_aligned *out, const bf_aligned *text, size_t begin, size_t end,
                           const bf_pattern *pattern, bf_scan *scan, const char *content,
                           bf_error *err)
{
    const char *bytes = text->bytes + begin;
    const size_t len = end - begin, size = strlen(content);
    size_t done = 0, from = 0, to = 0;
    if (!pattern->literal)
        bf_scan_start(scan, bytes, len);
    while (len) { /* the library finds nothing in an empty text */
        bool found;
        const bf_code rc =
            bf_pattern_next(&found, &from, &to, pattern, scan, bytes, len, done, err);
        if (rc)
            return rc;
        if (!found)
            break;
        bf_aligned_copy(out, text, begin + done, begin + from);
        int32_t cp; /* the library lets the new text stand for the last character alone */
        out->late |= from == 0 && size && bf_utf8_next(&cp, bytes, 0) < to;
        const size_t edge = from < len ? text->span[begin + from].from : text->span[end - 1].to;
        bf_aligned_put(out, content, size,
                       from < to ? bf_aligned_span(text, begin + from, begin + to)
                                 : (bf_span){edge, edge});
        done = to;
    }
    bf_aligned_copy(out, text, begin + done, end);
    return BF_OK;
}

static bf_code run_replace(const norm_step *step, bf_aligned *out, const bf_aligned *in,
                           bf_error *err)
{
    bf_scan *scan = NULL;
    bf_code rc = step->pattern.regex ? bf_scan_new(&scan, step->pattern.regex, err) : BF_OK;
    if (!rc)
        rc = bf_pattern_replace(out, in, 0, in->len, &step->pattern, scan, step->content, err);
    bf_scan_free(scan);
    return rc;
}

static bool is_chinese(int32_t cp)
{
    return (cp >= 0x4E00 && cp <= 0x9FFF) || (cp >= 0x3400 && cp <= 0x4DBF) ||
           (cp >= 0x20000 && cp <= 0x2A6DF) || (cp >= 0x2A700 && cp <= 0x2B73F) ||
           (cp >= 0x2B740 && cp <= 0x2B81F) || (cp >= 0x2B920 && cp <= 0x2CEAF) ||
           (cp >= 0xF900 && cp <= 0xFAFF) || (cp >= 0x2F800 && cp <= 0x2FA1F);
}

/* What the cleaning of each kind does to a character: the one that takes its place, or -1. */
static int32_t clean_bert(int32_t cp)
{
    if (cp == 0 || cp == 0xFFFD || bf_char_is_control(cp))
        return -1;
    return bf_char_is_space(cp) ? ' ' : cp;
}

static int32_t clean_nmt(int32_t cp)
{
    if ((cp >= 1 && cp <= 8) || cp == 0x0B || (cp >= 0x0E && cp <= 0x1F) || cp == 0x7F ||
        cp == 0x8F || cp == 0x9F)
        return -1;
    const bool space = cp == 9 || cp == 0x0A || cp == 0x0C || cp == 0x0D || cp == 0x1680 ||
                       (cp >= 0x200B && cp <= 0x200F) || cp == 0x2028 || cp == 0x2029 ||
                       cp == 0x2581 || cp == 0xFEFF || cp == 0xFFFD;
    return space ? ' ' : cp;
}

static int32_t clean_marks(int32_t cp)
{
    return bf_char_is_mark(cp) ? -1 : cp;
}

static int32_t clean_accents(int32_t cp)
{
    return bf_char_is_accent(cp) ? -1 : cp;
}

static void run_map(bf_aligned *out, const bf_aligned *in, int32_t (*map)(int32_t))
{
    for (size_t at = 0; at < in->len;) {
        int32_t cp;
        char utf8[4];
        const size_t n = bf_utf8_next(&cp, in->bytes, at);
        const int32_t new_cp = map(cp);
        if (new_cp == cp)
            bf_aligned_copy(out, in, at, at + n);
        else if (new_cp >= 0)
            bf_aligned_put(out, utf8, bf_utf8_put(utf8, new_cp), bf_aligned_span(in, at, at + n));
        at += n;
    }
}

static void run_lower(bf_aligned *out, const bf_aligned *in)
{
    for (size_t at = 0; at < in->len;) {
        int32_t cp, lower[2];
        char utf8[4];
        const size_t n = bf_utf8_next(&cp, in->bytes, at), m = bf_char_lower(lower, cp);
        if (m == 1 && lower[0] == cp)
            bf_aligned_copy(out, in, at, at + n);
        else
            for (size_t k = 0; k < m; k++)
                bf_aligned_put(out, utf8, bf_utf8_put(utf8, lower[k]),
                               bf_aligned_span(in, at, at + n));
        at += n;
    }
}

static void run_chinese(bf_aligned *out, const bf_aligned *in)
{
    for (size_t at = 0; at < in->len;) {
        int32_t cp;
        const size_t n = bf_utf8_next(&cp, in->bytes, at);
        const bf_span span = bf_aligned_span(in, at, at + n);
        const bool chinese = is_chinese(cp);
        if (chinese)
            bf_aligned_put(out, " ", 1, (bf_span){span.from, span.from});
        bf_aligned_copy(out, in, at, at + n);
        if (chinese)
            bf_aligned_put(out, " ", 1, (bf_span){span.to, span.to});
        at += n;
    }
}

static void run_strip(const norm_step *step, bf_aligned *out, const bf_aligned *in)
{
    size_t begin = 0, end = 0;
    bool seen = false;
    for (size_t at = 0; at < in->len;) {
        int32_t cp;
        const size_t n = bf_utf8_next(&cp, in->bytes, at);
        if (!bf_char_is_space(cp)) {
            begin = seen ? begin : at;
            end = at + n;
            seen = true;
        }
        at += n;
    }
    if (!seen) /* only spaces */
        begin = end = step->left ? in->len : 0;
    begin = step->left ? begin : 0;
    end = step->right ? end : in->len;
    bf_aligned_copy(out, in, begin, end);
}

/* Runs one pass; text and spare change places. */
static void swap_texts(bf_aligned *text, bf_aligned *spare)
{
    const bf_aligned t = *text;
    *text = *spare;
    *spare = t;
    text->late |= spare->late;
    spare->late = false;
    spare->len = 0;
}

static void run_bert(const norm_step *step, bf_aligned *text, bf_aligned *spare)
{
    if (step->clean) {
        run_map(spare, text, clean_bert);
        swap_texts(text, spare);
    }
    if (step->chinese) {
        run_chinese(spare, text);
        swap_texts(text, spare);
    }
    if (step->accents) {
        bf_unicode_normalize(spare, text, false, false);
        swap_texts(text, spare);
        run_map(spare, text, clean_accents);
        swap_texts(text, spare);
    }
    if (step->lower) {
        run_lower(spare, text);
        swap_texts(text, spare);
    }
}

bf_code bf_normalizer_run(const bf_normalizer *normalizer, bf_aligned *text, bf_aligned *spare,
                          bf_error *err)
{
    bf_code rc = BF_OK;
    spare->len = 0;
    text->late = spare->late = false;
    for (size_t k = 0; k < normalizer->n && text->len && !rc; k++) {
        const norm_step *step = &normalizer->step[k];
        if (step->kind == STEP_BERT) {
            run_bert(step, text, spare);
            continue;
        }
        const size_t first = text->span[0].from;
        switch (step->kind) {
        case STEP_PREPEND:
            bf_aligned_put(spare, step->content, strlen(step->content), (bf_span){first, first});
            bf_aligned_copy(spare, text, 0, text->len);
            break;
        case STEP_REPLACE:
            rc = run_replace(step, spare, text, err);
            break;
        case STEP_FORM:
            bf_unicode_normalize(spare, text, step->compat, step->compose);
            break;
        case STEP_LOWER:
            run_lower(spare, text);
            break;
        case STEP_STRIP:
            run_strip(step, spare, text);
            break;
        case STEP_MARKS:
            run_map(spare, text, clean_marks);
            break;
        case STEP_NMT:
            run_map(spare, text, clean_nmt);
            break;
        default:
            bf_bytes_spell(spare, text, 0, text->len);
        }
        swap_texts(text, spare);
    }
    if (!rc && (text->failed || spare->failed))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold a text of %zu bytes", text->len);
    return rc ? bf_error_prefix(err, rc, "normalizer") : BF_OK;
}
