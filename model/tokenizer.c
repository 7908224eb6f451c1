/* tokenizer.c -- a tokenizer.json from end to end: load, encode, decode. The parts are in
 * tokenizer_*.c; model/tokenizer_parts.h shows the way a text goes through them. */
#include "backflow/tokenizer.h"

#include "model/tokenizer_parts.h"

#include <stdlib.h>
#include <string.h>

struct bf_tokenizer {
    bf_normalizer *normalizer;
    bf_added *added;
    bf_pretokenizer *pretokenizer;
    bf_subwords *subwords;
    bf_frame frame;
    bf_decoder *decoder;
    size_t size;
};

static const size_t largest_file = (size_t)1 << 28;

/* ---- loading ---- */

static bf_code read_tokenizer(bf_tokenizer *t, const bf_json *file, bf_error *err)
{
    const char *version = NULL;
    if (bf_json_kind(file) != BF_JSON_OBJECT)
        return bf_fail(err, BF_EFORMAT, "holds no object");
    bf_code rc = bf_json_opt_string(&version, file, "version", "1.0", err);
    if (!rc && strcmp(version, "1.0"))
        rc = bf_fail(err, BF_EUNSUPPORTED, "field \"version\" is \"%.20s\", wanted \"1.0\"",
                     version);
    if (!rc)
        rc = bf_subwords_new(&t->subwords, bf_json_get(file, "model"), err);
    if (!rc)
        rc = bf_normalizer_new(&t->normalizer, bf_json_get(file, "normalizer"), err);
    if (!rc)
        rc = bf_pretokenizer_new(&t->pretokenizer, bf_json_get(file, "pre_tokenizer"), err);
    if (!rc)
        rc = bf_decoder_new(&t->decoder, bf_json_get(file, "decoder"), err);
    if (!rc)
        rc = bf_added_new(&t->added, bf_json_get(file, "added_tokens"),
                          bf_subwords_vocab(t->subwords), t->normalizer, err);
    if (rc)
        return rc;
    const size_t model = bf_vocab_size(bf_subwords_vocab(t->subwords));
    const size_t added = bf_added_size(t->added);
    t->size = model > added ? model : added;
    return bf_frame_read(&t->frame, bf_json_get(file, "post_processor"), t->size, err);
}

static bf_code make_tokenizer(bf_tokenizer **out, const bf_json *file, bf_error *err)
{
    bf_tokenizer *t = calloc(1, sizeof *t);
    const bf_code rc =
        t ? read_tokenizer(t, file, err) : bf_fail(err, BF_ENOMEM, "cannot hold a tokenizer");
    if (rc)
        bf_tokenizer_free(t);
    else
        *out = t;
    return rc;
}

bf_code bf_tokenizer_parse(bf_tokenizer **out, const char *text, size_t len, bf_error *err)
{
    bf_json *file = NULL;
    bf_code rc = bf_json_parse(&file, text, len, err);
    if (!rc)
        rc = make_tokenizer(out, file, err);
    bf_json_free(file);
    return rc;
}

bf_code bf_tokenizer_open(bf_tokenizer **out, const char *path, bf_error *err)
{
    bf_json *file = NULL;
    bf_code rc = bf_json_read(&file, path, largest_file, err);
    if (rc)
        return rc;
    rc = make_tokenizer(out, file, err);
    bf_json_free(file);
    return rc ? bf_error_prefix(err, rc, path) : BF_OK;
}

void bf_tokenizer_free(bf_tokenizer *t)
{
    if (!t)
        return;
    bf_normalizer_free(t->normalizer);
    bf_added_free(t->added);
    bf_pretokenizer_free(t->pretokenizer);
    bf_subwords_free(t->subwords);
    bf_frame_free(&t->frame);
    bf_decoder_free(t->decoder);
    free(t);
}

size_t bf_tokenizer_size(const bf_tokenizer *t)
{
    return t->size;
}

/* ---- encoding ---- */

static bf_code doc_check(const bf_doc *doc, bf_error *err)
{
    if (doc->failed || doc->text.failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold a text of %zu bytes", doc->text.len);
    return BF_OK;
}

/* Between the added tokens that are taken out first, each stretch is normalised on its own, and
 * then those are taken out that are matched in normalised text. */
static bf_code normalize_doc(const bf_tokenizer *t, bf_doc *doc, bf_doc *spare, bf_error *err)
{
    bf_aligned part = {.limit = doc->text.limit}, other = {.limit = doc->text.limit};
    bf_code rc = BF_OK;
    for (size_t k = 0; k < doc->n && !rc; k++) {
        const bf_piece p = doc->piece[k];
        const size_t begin = spare->text.len;
        if (p.id >= 0) {
            bf_aligned_copy(&spare->text, &doc->text, p.begin, p.end);
            bf_doc_piece(spare, begin, spare->text.len, p.id);
            continue;
        }
        part.len = 0;
        bf_aligned_copy(&part, &doc->text, p.begin, p.end);
        rc = bf_normalizer_run(t->normalizer, &part, &other, err);
        spare->text.late |= begin == 0 && part.late;
        bf_aligned_copy(&spare->text, &part, 0, part.len);
        if (!rc)
            rc = doc_check(spare, err);
        if (!rc)
            bf_added_cut(spare, t->added, true, begin, spare->text.len);
    }
    bf_aligned_free(&part);
    bf_aligned_free(&other);
    const bf_doc swap = *doc;
    *doc = *spare;
    *spare = swap;
    return rc;
}

typedef struct {
    bf_token *token;
    size_t n, cap;
} token_list;

static bool list_push(token_list *list, int64_t id, bf_span span)
{
    if (list->n == list->cap) {
        const size_t cap = list->cap ? list->cap * 2 : 64;
        bf_token *grown =
            cap > SIZE_MAX / sizeof *grown ? NULL : realloc(list->token, cap * sizeof *grown);
        if (!grown)
            return false;
        list->token = grown;
        list->cap = cap;
    }
    list->token[list->n++] = (bf_token){id, span.from, span.to};
    return true;
}

/* One piece's tokens. Their lengths add up to the piece's, except where an end-of-word suffix was
 * spelt in bytes: then the last ones stand for nothing. */
static bf_code push_piece(token_list *out, const bf_doc *doc, const bf_piece *piece,
                          const bf_subword *part, size_t n, bf_error *err)
{
    bool ok = true;
    size_t at = piece->begin;
    if (piece->id >= 0)
        ok = list_push(out, piece->id, bf_aligned_span(&doc->text, at, piece->end));
    for (size_t k = 0; k < n && ok; k++) {
        const size_t left = piece->end - at, len = part[k].len < left ? part[k].len : left;
        const size_t last = doc->text.span[piece->end - 1].to;
        ok = list_push(out, part[k].id,
                       len ? bf_aligned_span(&doc->text, at, at + len) : (bf_span){last, last});
        at += len;
    }
    return ok ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", out->n);
}

static bf_code encode_doc(token_list *out, const bf_tokenizer *t, const bf_doc *doc, bf_error *err)
{
    bf_subword_work work = {0};
    bf_code rc = BF_OK;
    for (size_t k = 0; k < doc->n && !rc; k++) {
        const bf_piece *p = &doc->piece[k];
        size_t first = 0, n = 0;
        if (p->id < 0)
            rc = bf_subwords_encode(&first, &n, t->subwords, &work, doc->text.bytes + p->begin,
                                    p->end - p->begin, doc->n, err);
        if (!rc)
            rc = push_piece(out, doc, p, work.part + first, n, err);
    }
    bf_subword_work_free(&work);
    return rc;
}

static bf_code encode_text(token_list *out, const bf_tokenizer *t, bf_doc *doc, bf_doc *spare,
                           const char *text, size_t len, bf_error *err)
{
    bf_aligned_decode(&doc->text, text, len);
    bf_code rc = doc_check(doc, err);
    if (rc)
        return rc;
    bf_added_cut(doc, t->added, false, 0, doc->text.len);
    rc = doc_check(doc, err);
    if (!rc)
        rc = normalize_doc(t, doc, spare, err);
    if (!rc)
        rc = doc_check(doc, err);
    if (!rc)
        rc = bf_pretokenizer_run(t->pretokenizer, doc, spare, err);
    if (rc)
        return rc;
    bool ok = true;
    for (size_t k = 0; k < t->frame.n_before && ok; k++)
        ok = list_push(out, t->frame.before[k], (bf_span){0, 0});
    if (ok)
        rc = encode_doc(out, t, doc, err);
    for (size_t k = 0; k < t->frame.n_after && ok && !rc; k++)
        ok = list_push(out, t->frame.after[k], (bf_span){len, len});
    return ok ? rc : bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", out->n);
}

bf_code bf_tokenizer_encode(bf_token **out, size_t *n, const bf_tokenizer *t, const char *text,
                            size_t len, bf_error *err)
{
    bf_doc doc = {.text.limit = bf_aligned_limit(len)}, spare = {.text.limit = doc.text.limit};
    token_list list = {malloc(64 * sizeof *list.token), 0, 64};
    const bf_code rc = list.token ? encode_text(&list, t, &doc, &spare, text, len, err)
                                  : bf_fail(err, BF_ENOMEM, "cannot hold 64 tokens");
    bf_doc_free(&doc);
    bf_doc_free(&spare);
    if (rc) {
        free(list.token);
        return rc;
    }
    *out = list.token;
    *n = list.n;
    return BF_OK;
}

/* ---- decoding ---- */

/* The string of an id; NULL if it has none. */
static const char *token_text(size_t *len, bool *special, bool *is_added, const bf_tokenizer *t,
                              int64_t id, bool as_decoded)
{
    const char *decoded;
    *special = false;
    const char *text = bf_added_text(special, &decoded, t->added, id);
    *is_added = text != NULL;
    if (text) {
        text = as_decoded ? decoded : text;
        *len = strlen(text);
        return text;
    }
    return bf_vocab_text(len, bf_subwords_vocab(t->subwords), id);
}

bf_code bf_tokenizer_piece(char **out, const bf_tokenizer *t, int64_t id, bf_error *err)
{
    size_t len = 0;
    bool special, added;
    const char *text = token_text(&len, &special, &added, t, id, false);
    if (!text)
        return bf_fail(err, BF_EARG, "no token has id %lld (0 to %zu)", (long long)id,
                       t->size ? t->size - 1 : 0);
    bf_coding coding = {.byte_level = bf_pretokenizer_is_byte_level(t->pretokenizer) ||
                                      bf_normalizer_is_byte_level(t->normalizer)};
    const int32_t space = bf_pretokenizer_metaspace(t->pretokenizer);
    if (space)
        coding.space[bf_utf8_put(coding.space, space)] = '\0';
    bf_decoder_coding(&coding, t->decoder);
    if (added)
        coding = (bf_coding){0};
    bf_buf shown = {0};
    bf_piece_show(&shown, &coding, text, len);
    bf_buf_bytes(&shown, "", 1);
    if (shown.failed) {
        bf_buf_free(&shown);
        return bf_fail(err, BF_ENOMEM, "cannot hold a string of %zu bytes", len);
    }
    *out = shown.data;
    return BF_OK;
}

bf_code bf_tokenizer_decode(char **out, const bf_tokenizer *t, const int64_t *ids, size_t n,
                            bf_error *err)
{
    bf_strings strings = {0};
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        size_t len = 0;
        bool special, added;
        const char *text = token_text(&len, &special, &added, t, ids[k], true);
        if (!text)
            rc = bf_fail(err, BF_EARG, "no token has id %lld (0 to %zu)", (long long)ids[k],
                         t->size ? t->size - 1 : 0);
        else if (!special)
            bf_strings_add(&strings, text, len);
    }
    if (!rc)
        rc = bf_decoder_run(t->decoder, &strings, err);
    bf_buf text = {0};
    for (size_t k = 0; k < strings.text.len && !rc; k++) {
        if (strings.text.data[k]) /* the result ends at a NUL, so one inside is replaced */
            bf_buf_bytes(&text, strings.text.data + k, 1);
        else
            bf_buf_text(&text, "\xEF\xBF\xBD");
    }
    bf_buf_bytes(&text, "", 1);
    bf_strings_free(&strings);
    if (!rc && text.failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the text of %zu tokens", n);
    if (rc) {
        bf_buf_free(&text);
        return rc;
    }
    *out = text.data;
    return BF_OK;
}
