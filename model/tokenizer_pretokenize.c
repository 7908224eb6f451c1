/* tokenizer_pretokenize.c -- the pre-tokenizer: a list of steps that cut pieces into smaller ones;
 * ByteLevel and Metaspace rewrite their text as well. */
#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

typedef enum {
    STEP_BYTES, STEP_SPLIT, STEP_DIGITS, STEP_PUNCT, STEP_WORDS, STEP_SPACES, STEP_META, STEP_BERT,
    STEP_CHAR
} step_kind;
typedef enum { CUT_REMOVED, CUT_ISOLATED, CUT_PREVIOUS, CUT_NEXT, CUT_CONTIGUOUS } cut_kind;
typedef enum { PREPEND_ALWAYS, PREPEND_FIRST, PREPEND_NEVER } prepend_kind;

typedef struct {
    step_kind kind;
    cut_kind cut;         /* STEP_SPLIT, STEP_PUNCT, STEP_DIGITS */
    bf_pattern pattern;   /* STEP_SPLIT, STEP_BYTES with its regex: owned */
    bool invert;          /* STEP_SPLIT */
    bool prefix;          /* STEP_BYTES: add_prefix_space */
    prepend_kind prepend; /* STEP_META */
    bool split;           /* STEP_META */
    int32_t mark;         /* STEP_META, STEP_CHAR: the character */
} pre_step;

struct bf_pretokenizer {
    pre_step *step;
    size_t n;
};

static const char *const gpt2_pattern =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* ---- reading ---- */

static bf_code read_cut(cut_kind *out, const bf_json *json, const char *fallback, bf_error *err)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious",
                                        "MergedWithNext", "Contiguous"};
    const char *name = NULL;
    const bf_code rc = bf_json_opt_string(&name, json, "behavior", fallback, err);
    if (rc)
        return rc;
    for (size_t k = 0; name && k < 5; k++) {
        if (!strcmp(name, names[k])) {
            *out = (cut_kind)k;
            return BF_OK;
        }
    }
    char show[60];
    return bf_fail(err, BF_EFORMAT, "field \"behavior\" is %s, wanted Removed, Isolated, "
                   "MergedWithPrevious, MergedWithNext or Contiguous",
                   name ? bf_token_show(show, sizeof show, name, strlen(name)) : "missing");
}

static bf_code read_bytes(pre_step *out, const bf_json *json, bf_error *err)
{
    bool regex = false;
    bf_code rc = bf_field_bool(&out->prefix, json, "add_prefix_space", err);
    if (!rc)
        rc = bf_json_opt_bool(&regex, json, "use_regex", true, err);
    if (!rc && regex)
        rc = bf_regex_new(&out->pattern.regex, gpt2_pattern, err);
    return rc;
}

static bf_code read_split(pre_step *out, const bf_json *json, bf_error *err)
{
    bf_code rc = bf_field_pattern(&out->pattern, json, err);
    if (!rc)
        rc = read_cut(&out->cut, json, NULL, err);
    if (!rc)
        rc = bf_field_bool(&out->invert, json, "invert", err);
    return rc;
}

/* Files older than prepend_scheme have add_prefix_space alone. */
static bf_code read_metaspace(pre_step *out, const bf_json *json, bf_error *err)
{
    static const char *const names[] = {"always", "first", "never"};
    bool prefix = true;
    const char *scheme = NULL;
    bf_code rc = bf_field_char(&out->mark, json, "replacement", err);
    if (!rc)
        rc = bf_json_opt_bool(&prefix, json, "add_prefix_space", true, err);
    if (!rc)
        rc = bf_json_opt_string(&scheme, json, "prepend_scheme", prefix ? "always" : "never", err);
    if (!rc)
        rc = bf_json_opt_bool(&out->split, json, "split", true, err);
    if (rc)
        return rc;
    for (size_t k = 0; k < 3; k++) {
        if (strcmp(scheme, names[k]))
            continue;
        out->prepend = (prepend_kind)k;
        if (!prefix && out->prepend != PREPEND_NEVER)
            return bf_fail(err, BF_EFORMAT, "field \"add_prefix_space\" is false but "
                           "\"prepend_scheme\" is \"%s\"", names[k]);
        return BF_OK;
    }
    char show[60];
    return bf_fail(err, BF_EFORMAT,
                   "field \"prepend_scheme\" is %s, wanted \"always\", \"first\" or \"never\"",
                   bf_token_show(show, sizeof show, scheme, strlen(scheme)));
}

static bf_code read_step(void *to, const bf_step *step, bf_error *err)
{
    pre_step *out = to;
    static const struct {
        const char *name;
        step_kind kind;
    } kinds[] = {{"ByteLevel", STEP_BYTES},         {"Split", STEP_SPLIT},
                 {"Digits", STEP_DIGITS},           {"Punctuation", STEP_PUNCT},
                 {"Whitespace", STEP_WORDS},        {"WhitespaceSplit", STEP_SPACES},
                 {"Metaspace", STEP_META},          {"BertPreTokenizer", STEP_BERT},
                 {"CharDelimiterSplit", STEP_CHAR}, {"Delimiter", STEP_CHAR}};
    size_t k = 0;
    while (k < sizeof kinds / sizeof kinds[0] && strcmp(kinds[k].name, step->type))
        k++;
    if (k == sizeof kinds / sizeof kinds[0])
        return bf_fail(err, BF_EUNSUPPORTED, "not supported (docs/tokenizers.md says what is)");
    out->kind = kinds[k].kind;
    out->cut = CUT_ISOLATED;
    bool each = false;
    bf_code rc = BF_OK;
    switch (out->kind) {
    case STEP_BYTES:
        return read_bytes(out, step->json, err);
    case STEP_SPLIT:
        return read_split(out, step->json, err);
    case STEP_META:
        return read_metaspace(out, step->json, err);
    case STEP_DIGITS:
        rc = bf_field_bool(&each, step->json, "individual_digits", err);
        out->cut = each ? CUT_ISOLATED : CUT_CONTIGUOUS;
        return rc;
    case STEP_PUNCT:
        return read_cut(&out->cut, step->json, "Isolated", err);
    case STEP_CHAR:
        return bf_field_char(&out->mark, step->json, "delimiter", err);
    default:
        return BF_OK;
    }
}

bf_code bf_pretokenizer_new(bf_pretokenizer **out, const bf_json *value, bf_error *err)
{
    bf_pretokenizer *pre = calloc(1, sizeof *pre);
    if (!pre)
        return bf_fail(err, BF_ENOMEM, "cannot hold a pretokenizer");
    void *steps;
    const bf_code rc = bf_steps_new(&steps, &pre->n, sizeof *pre->step, read_step, value,
                                    "pre_tokenizer", "pretokenizers", err);
    pre->step = steps;
    if (rc) {
        bf_pretokenizer_free(pre);
        return rc;
    }
    *out = pre;
    return BF_OK;
}

void bf_pretokenizer_free(bf_pretokenizer *pre)
{
    if (!pre)
        return;
    for (size_t k = 0; k < pre->n; k++)
        bf_pattern_free(&pre->step[k].pattern);
    free(pre->step);
    free(pre);
}

bool bf_pretokenizer_is_byte_level(const bf_pretokenizer *pre)
{
    for (size_t k = 0; k < pre->n; k++)
        if (pre->step[k].kind == STEP_BYTES)
            return true;
    return false;
}

int32_t bf_pretokenizer_metaspace(const bf_pretokenizer *pre)
{
    for (size_t k = 0; k < pre->n; k++)
        if (pre->step[k].kind == STEP_META)
            return pre->step[k].mark;
    return 0;
}

/* ---- cutting one piece ----
 * The stretches of a piece, in order and without gaps, match or do not; then the step's behaviour
 * says which become pieces, alone or together. */

typedef struct {
    size_t begin, end;
    bool match;
} stretch;

typedef struct {
    stretch *at;
    size_t n, cap;
    bool failed;
} stretches;

static void add_stretch(stretches *list, size_t begin, size_t end, bool match)
{
    if (list->failed)
        return;
    if (list->n == list->cap) {
        const size_t cap = list->cap ? list->cap * 2 : 64;
        stretch *at = cap > SIZE_MAX / sizeof *at ? NULL : realloc(list->at, cap * sizeof *at);
        if (!at) {
            list->failed = true;
            return;
        }
        list->at = at;
        list->cap = cap;
    }
    list->at[list->n++] = (stretch){begin, end, match};
}

static void find_chars(stretches *list, const pre_step *step, step_kind kind, const char *bytes,
                       size_t begin, size_t end)
{
    size_t done = begin;
    for (size_t at = begin; at < end;) {
        int32_t cp;
        const size_t n = bf_utf8_next(&cp, bytes, at);
        const bool match = kind == STEP_DIGITS   ? bf_char_is_number(cp)
                           : kind == STEP_PUNCT  ? bf_char_is_punct(cp)
                           : kind == STEP_SPACES ? bf_char_is_space(cp)
                                                 : cp == step->mark;
        if (match) {
            if (done < at)
                add_stretch(list, done, at, false);
            add_stretch(list, at, at + n, true);
            done = at + n;
        }
        at += n;
    }
    if (done < end)
        add_stretch(list, done, end, false);
}

/* Runs of word characters, runs of others; white space is what separates them. */
static void find_words(stretches *list, const char *bytes, size_t begin, size_t end)
{
    size_t from = begin;
    int last = 0; /* 0 space, 1 word, 2 other */
    for (size_t at = begin; at < end;) {
        int32_t cp;
        const size_t n = bf_utf8_next(&cp, bytes, at);
        const int now = bf_char_is_word(cp) ? 1 : bf_char_is_space(cp) ? 0 : 2;
        if (now != last && from < at)
            add_stretch(list, from, at, last == 0);
        if (now != last)
            from = at;
        last = now;
        at += n;
    }
    if (from < end)
        add_stretch(list, from, end, last == 0);
}

static bf_code find_pattern(stretches *list, const pre_step *step, bf_scan *scan, const char *bytes,
                            size_t begin, size_t end, bf_error *err)
{
    const size_t len = end - begin;
    size_t done = 0, from = 0, to = 0;
    if (scan)
        bf_scan_start(scan, bytes + begin, len);
    for (;;) {
        bool found;
        const bf_code rc = bf_pattern_next(&found, &from, &to, &step->pattern, scan, bytes + begin,
                                           len, done, err);
        if (rc)
            return rc;
        if (!found)
            break;
        if (done < from)
            add_stretch(list, begin + done, begin + from, step->invert);
        add_stretch(list, begin + from, begin + to, !step->invert);
        done = to;
    }
    if (done < len)
        add_stretch(list, begin + done, end, step->invert);
    return BF_OK;
}

static void cut_piece(bf_doc *doc, const stretches *list, cut_kind cut)
{
    const stretch *s = list->at;
    for (size_t k = 0; k < list->n;) {
        size_t end = k + 1; /* stretches [k,end) stay together */
        if (cut == CUT_CONTIGUOUS)
            while (end < list->n && s[end].match == s[k].match)
                end++;
        else if (cut == CUT_PREVIOUS && !s[k].match && end < list->n && s[end].match)
            end++;
        else if (cut == CUT_NEXT && s[k].match && end < list->n && !s[end].match)
            end++;
        if (cut != CUT_REMOVED || !s[k].match)
            bf_doc_piece(doc, s[k].begin, s[end - 1].end, -1);
        k = end;
    }
}

/* ---- steps over all pieces; they read doc and append to out, which begins empty ---- */

static bf_code split_pieces(const pre_step *step, step_kind kind, cut_kind cut, bf_doc *out,
                            const bf_doc *doc, bf_error *err)
{
    stretches list = {0};
    bf_scan *scan = NULL;
    bf_code rc = step->pattern.regex ? bf_scan_new(&scan, step->pattern.regex, err) : BF_OK;
    for (size_t k = 0; k < doc->n && !rc; k++) {
        const bf_piece p = doc->piece[k];
        list.n = 0;
        if (p.id >= 0) {
            bf_doc_piece(out, p.begin, p.end, p.id);
            continue;
        }
        if (kind == STEP_SPLIT)
            rc = find_pattern(&list, step, scan, doc->text.bytes, p.begin, p.end, err);
        else if (kind == STEP_WORDS)
            find_words(&list, doc->text.bytes, p.begin, p.end);
        else
            find_chars(&list, step, kind, doc->text.bytes, p.begin, p.end);
        cut_piece(out, &list, cut);
    }
    out->failed |= list.failed;
    free(list.at);
    bf_scan_free(scan);
    return rc;
}

static void prepend(bf_aligned *out, const bf_aligned *text, size_t at, const char *mark, size_t n)
{
    bf_aligned_put(out, mark, n, (bf_span){text->span[at].from, text->span[at].from});
}

/* ByteLevel before its cut: a space before each piece that has none. */
static void space_pieces(bf_doc *out, const bf_doc *doc)
{
    for (size_t k = 0; k < doc->n; k++) {
        const bf_piece p = doc->piece[k];
        const size_t begin = out->text.len;
        if (p.id < 0 && doc->text.bytes[p.begin] != ' ')
            prepend(&out->text, &doc->text, p.begin, " ", 1);
        bf_aligned_copy(&out->text, &doc->text, p.begin, p.end);
        bf_doc_piece(out, begin, out->text.len, p.id);
    }
}

/* ByteLevel after its cut: bytes become characters. */
static void spell_pieces(bf_doc *out, const bf_doc *doc)
{
    for (size_t k = 0; k < doc->n; k++) {
        const bf_piece p = doc->piece[k];
        const size_t begin = out->text.len;
        if (p.id < 0)
            bf_bytes_spell(&out->text, &doc->text, p.begin, p.end);
        else
            bf_aligned_copy(&out->text, &doc->text, p.begin, p.end);
        bf_doc_piece(out, begin, out->text.len, p.id);
    }
}

static bf_code mark_pieces(const pre_step *step, bf_doc *out, const bf_doc *doc, bf_error *err)
{
    char mark[5] = {0};
    const size_t n = bf_utf8_put(mark, step->mark);
    char blank[] = " ";
    const bf_pattern space = {blank, NULL};
    for (size_t k = 0; k < doc->n; k++) {
        const bf_piece p = doc->piece[k];
        const size_t begin = out->text.len;
        if (p.id < 0) {
            const char *at = doc->text.bytes + p.begin;
            const bool marked =
                *at == ' ' || (p.end - p.begin >= n && !memcmp(at, mark, n));
            const bool wanted =
                step->prepend == PREPEND_ALWAYS ||
                (step->prepend == PREPEND_FIRST && doc->text.span[p.begin].from == 0 &&
                 !doc->text.late);
            if (wanted && !marked)
                prepend(&out->text, &doc->text, p.begin, mark, n);
            const bf_code rc = bf_pattern_replace(&out->text, &doc->text, p.begin, p.end, &space,
                                                  NULL, mark, err);
            if (rc)
                return rc;
        } else {
            bf_aligned_copy(&out->text, &doc->text, p.begin, p.end);
        }
        bf_doc_piece(out, begin, out->text.len, p.id);
    }
    return BF_OK;
}

/* ---- running ---- */

/* out becomes doc. A step that only cuts leaves the text where it is. */
static void swap_docs(bf_doc *doc, bf_doc *out, bool rewrites)
{
    const bf_doc t = *doc;
    *doc = *out;
    *out = t;
    doc->text.late |= t.text.late;
    if (!rewrites) {
        out->text = doc->text;
        doc->text = t.text;
    }
    out->n = 0;
    out->text.len = 0;
}

static bf_code run_step(const pre_step *step, bf_doc *doc, bf_doc *spare, bf_error *err)
{
    bf_code rc = BF_OK;
    switch (step->kind) {
    case STEP_BYTES:
        if (step->prefix) {
            space_pieces(spare, doc);
            swap_docs(doc, spare, true);
        }
        if (step->pattern.regex) {
            rc = split_pieces(step, STEP_SPLIT, CUT_ISOLATED, spare, doc, err);
            if (rc)
                return rc;
            swap_docs(doc, spare, false);
        }
        spell_pieces(spare, doc);
        swap_docs(doc, spare, true);
        return BF_OK;
    case STEP_META:
        rc = mark_pieces(step, spare, doc, err);
        swap_docs(doc, spare, true);
        if (rc || !step->split)
            return rc;
        rc = split_pieces(step, STEP_CHAR, CUT_NEXT, spare, doc, err);
        break;
    case STEP_BERT:
        rc = split_pieces(step, STEP_SPACES, CUT_REMOVED, spare, doc, err);
        swap_docs(doc, spare, false);
        if (!rc)
            rc = split_pieces(step, STEP_PUNCT, CUT_ISOLATED, spare, doc, err);
        break;
    case STEP_WORDS:
    case STEP_SPACES:
    case STEP_CHAR:
        rc = split_pieces(step, step->kind, CUT_REMOVED, spare, doc, err);
        break;
    default:
        rc = split_pieces(step, step->kind, step->cut, spare, doc, err);
    }
    swap_docs(doc, spare, false);
    return rc;
}

bf_code bf_pretokenizer_run(const bf_pretokenizer *pre, bf_doc *doc, bf_doc *spare, bf_error *err)
{
    bf_code rc = BF_OK;
    spare->n = 0;
    spare->text.len = 0;
    for (size_t k = 0; k < pre->n && !rc; k++) {
        rc = run_step(&pre->step[k], doc, spare, err);
        if (!rc && (doc->failed || spare->failed || doc->text.failed || spare->text.failed))
            rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu pieces", doc->n);
    }
    return rc ? bf_error_prefix(err, rc, "pre_tokenizer") : BF_OK;
}
