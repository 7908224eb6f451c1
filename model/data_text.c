/* data_text.c -- text files to documents, a tokenizer that is read or learnt from those to train
 * on, and ids. */
#include <stdlib.h>
#include <string.h>

#include "backflow/tokenizer.h"
#include "model/bpe_learn.h"
#include "model/data_parts.h"

static const size_t largest_text = (size_t)1 << 31;
/* The learnt tokenizer reads long texts piece by piece, cut where its words end anyway. */
static const size_t piece_size = (size_t)1 << 22;

typedef struct {
    const char *text;
    size_t len;
    bool held;
} document;

typedef struct {
    bf_buf *file; /* [n_files] */
    size_t n_files;
    document *doc;
    size_t n, cap, bytes;
} library;

static void close_library(library *l)
{
    for (size_t k = 0; k < l->n_files; k++)
        bf_buf_free(&l->file[k]);
    free(l->file);
    free(l->doc);
}

/* ---- documents ---- */

static bf_code add_document(library *l, const char *text, size_t len, bf_error *err)
{
    if (!len)
        return BF_OK;
    if (l->n == l->cap) {
        const size_t cap = l->cap ? 2 * l->cap : 64;
        document *grown = cap > SIZE_MAX / sizeof *grown ? NULL
                                                         : realloc(l->doc, cap * sizeof *grown);
        if (!grown)
            return bf_fail(err, BF_ENOMEM, "cannot hold %zu documents", cap);
        l->doc = grown;
        l->cap = cap;
    }
    l->doc[l->n++] = (document){text, len, false};
    l->bytes += len;
    return BF_OK;
}

/* The first place at or behind `from` where the mark stands, or len. */
static size_t find_mark(const char *text, size_t from, size_t len, const char *mark)
{
    const size_t n = strlen(mark);
    for (size_t at = from; at + n <= len; at++) {
        const char *first = memchr(text + at, mark[0], len - n + 1 - at);
        if (!first)
            return len;
        at = (size_t)(first - text);
        if (!memcmp(first, mark, n))
            return at;
    }
    return len;
}

static bool is_line_end(char c)
{
    return c == '\n' || c == '\r';
}

static bool is_blank_line(const char *text, size_t len)
{
    for (size_t k = 0; k < len; k++)
        if (text[k] != ' ' && text[k] != '\t' && !is_line_end(text[k]))
            return false;
    return true;
}

/* Documents of lines, or of lines up to a blank one; a blank line is none. */
static bf_code cut_lines(library *l, const char *text, size_t len, bool each, bf_error *err)
{
    bf_code rc = BF_OK;
    size_t begin = 0;
    for (size_t at = 0, end; at < len && !rc; at = end) {
        const char *newline = memchr(text + at, '\n', len - at);
        end = newline ? (size_t)(newline - text) + 1 : len;
        const bool blank = is_blank_line(text + at, end - at);
        if (blank) {
            rc = add_document(l, text + begin, at - begin, err);
            begin = end;
        } else if (each || end == len) {
            rc = add_document(l, text + begin, end - begin, err);
            begin = end;
        }
    }
    return rc;
}

static bf_code cut_at_mark(library *l, const char *text, size_t len, const char *mark,
                           bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t at = 0; at < len && !rc;) {
        const size_t end = find_mark(text, at, len, mark);
        if (!is_blank_line(text + at, end - at))
            rc = add_document(l, text + at, end - at, err);
        at = end < len ? end + strlen(mark) : len;
    }
    return rc;
}

static bf_code cut_file(library *l, const bf_buf *file, const bf_data_config *c, bf_error *err)
{
    switch (c->document) {
    case BF_DOCUMENT_LINE:
        return cut_lines(l, file->data, file->len, true, err);
    case BF_DOCUMENT_BLANK:
        return cut_lines(l, file->data, file->len, false, err);
    case BF_DOCUMENT_SEPARATOR:
        return cut_at_mark(l, file->data, file->len, c->separator, err);
    default:
        return add_document(l, file->data, file->len, err);
    }
}

static bf_code read_library(library *l, const bf_data_config *c, bf_error *err)
{
    bf_code rc = BF_OK;
    if (c->document == BF_DOCUMENT_SEPARATOR && !(c->separator && *c->separator))
        return bf_fail(err, BF_EARG, "documents end at the separator, but there is none");
    l->file = calloc(c->n_files + 1, sizeof *l->file);
    if (!l->file)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu files", c->n_files);
    for (size_t k = 0; k < c->n_files && !rc; k++) {
        rc = bf_file_read(&l->file[k], c->files[k], largest_text, err);
        if (rc)
            break;
        l->n_files = k + 1;
        rc = cut_file(l, &l->file[k], c, err);
    }
    if (!rc && !l->n)
        rc = bf_fail(err, BF_ESHAPE, "%.300s: no text", c->n_files ? c->files[0] : "no file");
    return rc;
}

/* ---- what is held out ---- */

/* Where to cut a document near byte `at`: behind the next line end, or before the next character.
 */
static size_t cut_near(const char *text, size_t at, size_t len)
{
    const char *newline = memchr(text + at, '\n', len - at);
    if (newline && (size_t)(newline - text) + 1 < len)
        return (size_t)(newline - text) + 1;
    while (at < len && ((unsigned char)text[at] & 0xC0) == 0x80)
        at++;
    return at;
}

static bf_code hold_share(library *l, double share, bf_error *err)
{
    const size_t total = l->bytes, keep = total - (size_t)((double)total * share);
    size_t before = 0, k = 0;
    while (k < l->n && before + l->doc[k].len <= keep)
        before += l->doc[k++].len;
    if (k == l->n)
        return BF_OK;
    const document whole = l->doc[k];
    const size_t at = keep > before ? cut_near(whole.text, keep - before, whole.len) : 0;
    bf_code rc = BF_OK;
    if (at > 0 && at < whole.len) {
        rc = add_document(l, whole.text, 1, err); /* room for one more */
        if (rc)
            return rc;
        memmove(l->doc + k + 1, l->doc + k, (l->n - 1 - k) * sizeof *l->doc);
        l->doc[k].len = at;
        l->doc[k + 1] = (document){whole.text + at, whole.len - at, false};
    }
    for (size_t d = at > 0 ? k + 1 : k; d < l->n; d++)
        l->doc[d].held = true;
    return rc;
}

static bf_code hold_out(library *l, const bf_data_config *c, bf_error *err)
{
    for (size_t k = 0; c->held_out_every && k < l->n; k++)
        l->doc[k].held = k % c->held_out_every == c->held_out_every - 1;
    return !c->held_out_every && c->held_out_share > 0.0 ? hold_share(l, c->held_out_share, err)
                                                         : BF_OK;
}

/* ---- tokens ---- */

/* Bytes of the next piece: cut behind a line end between two other characters, where GPT-2's words
 * end whatever comes. */
static size_t next_piece(const char *text, size_t len)
{
    for (size_t at = piece_size; at + 1 < len; at++)
        if (text[at] == '\n' && (unsigned char)text[at - 1] > ' ' &&
            (unsigned char)text[at + 1] > ' ' && (unsigned char)text[at - 1] < 0x80 &&
            (unsigned char)text[at + 1] < 0x80)
            return at + 1;
    return len;
}

static bf_code learn_tokenizer(bf_data *d, const library *l, const bf_data_config *c, bf_error *err)
{
    bf_bpe_learner *learner = NULL;
    bf_code rc = bf_bpe_learner_new(&learner, c->special, c->n_special, err);
    for (size_t k = 0; k < l->n && !rc; k++) {
        const document *doc = &l->doc[k];
        for (size_t at = 0, n; at < doc->len && !doc->held && !rc; at += n) {
            n = next_piece(doc->text + at, doc->len - at);
            rc = bf_bpe_learner_feed(learner, doc->text + at, n, err);
        }
    }
    if (!rc)
        rc = bf_bpe_learner_finish(&d->tokenizer, learner, c->vocabulary, err);
    bf_bpe_learner_free(learner);
    return rc;
}

static bf_code open_tokenizer(bf_tokenizer **out, bf_data *d, const library *l,
                              const bf_data_config *c, bf_error *err)
{
    bf_code rc = c->tokenizer ? bf_file_read(&d->tokenizer, c->tokenizer, (size_t)1 << 28, err)
                              : learn_tokenizer(d, l, c, err);
    if (!rc)
        rc = bf_tokenizer_parse(out, d->tokenizer.data, d->tokenizer.len, err);
    if (rc && c->tokenizer && *out == NULL && d->tokenizer.len)
        return bf_error_prefix(err, rc, c->tokenizer);
    if (!rc && bf_tokenizer_size(*out) > INT32_MAX)
        rc = bf_fail(err, BF_EUNSUPPORTED, "a tokenizer of %zu ids", bf_tokenizer_size(*out));
    return rc;
}

/* The token that is written so.  BF_EARG: there is none. */
static bf_code find_token(int32_t *out, const bf_tokenizer *t, const char *text, bf_error *err)
{
    const size_t n = bf_tokenizer_size(t);
    for (size_t id = 0; id < n; id++) {
        char *piece = NULL;
        const bf_code rc = bf_tokenizer_piece(&piece, t, (int64_t)id, err);
        if (rc == BF_ENOMEM)
            return rc;
        const bool same = !rc && !strcmp(piece, text);
        free(piece);
        if (same) {
            *out = (int32_t)id;
            return BF_OK;
        }
    }
    return bf_fail(err, BF_EARG, "the tokenizer has no token \"%.80s\"", text);
}

static bf_code put_text(bf_id_list *to, const bf_tokenizer *t, const char *text, size_t len,
                        bf_error *err)
{
    bf_token *token = NULL;
    size_t n = 0;
    bf_code rc = bf_tokenizer_encode(&token, &n, t, text, len, err);
    if (!rc)
        rc = bf_ids_reserve(to, n, err);
    for (size_t k = 0; k < n && !rc; k++)
        to->id[to->n++] = (int32_t)token[k].id;
    free(token);
    return rc;
}

static bf_code put_document(bf_data *d, const document *doc, const bf_tokenizer *t, bool pieces,
                            bf_error *err)
{
    bf_id_list *to = doc->held ? &d->held : &d->train;
    const size_t from = to->n;
    bf_code rc = bf_ids_reserve(to, 1, err);
    if (!rc && d->separator >= 0)
        to->id[to->n++] = d->separator;
    for (size_t at = 0, n; at < doc->len && !rc; at += n) {
        n = pieces ? next_piece(doc->text + at, doc->len - at) : doc->len - at;
        rc = put_text(to, t, doc->text + at, n, err);
    }
    return !rc && doc->held ? bf_data_cut(d, from, err) : rc;
}

static bf_code tokenize(bf_data *d, const library *l, const bf_data_config *c, bf_error *err)
{
    bf_tokenizer *t = NULL;
    bf_code rc = open_tokenizer(&t, d, l, c, err);
    if (!rc && c->separator)
        rc = find_token(&d->separator, t, c->separator, err);
    if (!rc && c->mask_token)
        rc = find_token(&d->mask, t, c->mask_token, err);
    for (size_t k = 0; k < l->n && !rc; k++)
        rc = put_document(d, &l->doc[k], t, !c->tokenizer, err);
    if (!rc)
        d->vocabulary = bf_tokenizer_size(t);
    bf_tokenizer_free(t);
    return rc;
}

bf_code bf_data_read_text(bf_data *d, const bf_data_config *c, bf_error *err)
{
    library l = {0};
    bf_code rc = read_library(&l, c, err);
    if (!rc)
        rc = hold_out(&l, c, err);
    if (!rc)
        rc = tokenize(d, &l, c, err);
    close_library(&l);
    return rc;
}
