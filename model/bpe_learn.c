/* bpe_learn.c -- words and their counts, then merges; pairs are counted in bpe_pairs.c. A merge
 * touches only the words that hold its pair. */
#include "model/bpe_learn.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/bpe_pairs.h"
#include "model/tokenizer_parts.h"

/* A word of the texts: its tokens stand at symbol[at .. at + n). */
typedef struct {
    size_t at;
    uint32_t n;
    int64_t count;
} learned_word;

struct bf_bpe_learner {
    bf_pretokenizer *pretokenizer;
    bf_vocab *known;     /* words, by their spelling: index */
    learned_word *word;
    size_t n_words, cap_words;
    uint32_t *symbol;
    size_t n_symbols, cap_symbols;
    bf_vocab *tokens;    /* token texts, spelt: id */
    bf_buf text;         /* texts of all tokens, a NUL after each */
    size_t *text_at;     /* [n_tokens] */
    size_t n_tokens, cap_tokens, n_special;
    uint64_t *merge;     /* [n_merges] pairs */
    size_t n_merges, cap_merges;
    uint32_t byte_id[256];
    bf_pairs pairs;
};

static const char pretokenizer_json[] = "{\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
                                        "\"trim_offsets\": true, \"use_regex\": true}";

static bf_code no_memory(bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "no memory to learn a tokenizer");
}

static bool reserve(void **list, size_t n, size_t *cap, size_t size)
{
    if (n <= *cap)
        return true;
    const size_t wanted = n < 64 ? 64 : 2 * n;
    void *grown = n > SIZE_MAX / 2 / size ? NULL : realloc(*list, wanted * size);
    if (!grown)
        return false;
    *list = grown;
    *cap = wanted;
    return true;
}

/* ---- tokens ---- */

static bf_code add_token(bf_bpe_learner *l, const char *text, size_t len, bf_error *err)
{
    if (l->n_tokens >= INT32_MAX ||
        !reserve((void **)&l->text_at, l->n_tokens + 1, &l->cap_tokens, sizeof *l->text_at))
        return no_memory(err);
    l->text_at[l->n_tokens] = l->text.len;
    bf_buf_bytes(&l->text, text, len);
    bf_buf_bytes(&l->text, "", 1);
    if (l->text.failed)
        return no_memory(err);
    return bf_vocab_add(l->tokens, text, len, (int64_t)l->n_tokens++, err);
}

static bf_code add_special(bf_bpe_learner *l, const char *const *special, size_t n, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < n && !rc; k++) {
        const size_t len = strlen(special[k]);
        size_t at = 0, step = 1;
        while (at < len && step)
            at += step = bf_utf8_length(special[k] + at, len - at);
        if (!len || !step)
            return bf_fail(err, BF_EARG, "special token %zu is %s, wanted some UTF-8", k,
                           len ? "no UTF-8" : "empty");
        if (bf_vocab_find(l->tokens, special[k], len) >= 0)
            return bf_fail(err, BF_EARG, "special token \"%.80s\" is given twice", special[k]);
        rc = add_token(l, special[k], len, err);
    }
    l->n_special = n;
    return rc;
}

/* The byte alphabet by code points. */
static bf_code add_alphabet(bf_bpe_learner *l, bf_error *err)
{
    bf_code rc = BF_OK;
    for (int32_t cp = 0; cp < 1024 && !rc; cp++) {
        const int byte = bf_char_byte(cp);
        char text[4];
        if (byte < 0)
            continue;
        const size_t len = bf_utf8_put(text, cp);
        const int64_t known = bf_vocab_find(l->tokens, text,
                                            len); /* a special token of one letter */
        l->byte_id[byte] = (uint32_t)(known >= 0 ? known : (int64_t)l->n_tokens);
        if (known < 0)
            rc = add_token(l, text, len, err);
    }
    return rc;
}

/* ---- words ---- */

static bf_code add_word(bf_bpe_learner *l, const char *text, size_t len, bf_error *err)
{
    if (l->n_words >= INT32_MAX || len >= UINT32_MAX ||
        !reserve((void **)&l->word, l->n_words + 1, &l->cap_words, sizeof *l->word) ||
        !reserve((void **)&l->symbol, l->n_symbols + len, &l->cap_symbols, sizeof *l->symbol))
        return no_memory(err);
    learned_word *w = &l->word[l->n_words];
    *w = (learned_word){l->n_symbols, 0, 1};
    for (size_t at = 0; at < len; w->n++) {
        int32_t cp;
        at += bf_utf8_next(&cp, text, at);
        l->symbol[l->n_symbols++] = l->byte_id[bf_char_byte(cp)];
    }
    return bf_vocab_add(l->known, text, len, (int64_t)l->n_words++, err);
}

static bf_code count_words(bf_bpe_learner *l, const bf_doc *doc, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < doc->n && !rc; k++) {
        const char *text = doc->text.bytes + doc->piece[k].begin;
        const size_t len = doc->piece[k].end - doc->piece[k].begin;
        const int64_t known = bf_vocab_find(l->known, text, len);
        if (known >= 0)
            l->word[known].count++;
        else
            rc = add_word(l, text, len, err);
    }
    return rc;
}

bf_code bf_bpe_learner_feed(bf_bpe_learner *l, const char *text, size_t len, bf_error *err)
{
    bf_doc doc = {.text.limit = bf_aligned_limit(len)}, spare = {.text.limit = doc.text.limit};
    bf_aligned_decode(&doc.text, text, len);
    bf_doc_piece(&doc, 0, doc.text.len, -1);
    bf_code rc = doc.failed || doc.text.failed ? no_memory(err) : BF_OK;
    if (!rc)
        rc = bf_pretokenizer_run(l->pretokenizer, &doc, &spare, err);
    if (!rc)
        rc = count_words(l, &doc, err);
    bf_doc_free(&doc);
    bf_doc_free(&spare);
    return rc;
}

bf_code bf_bpe_learner_new(bf_bpe_learner **out, const char *const *special, size_t n_special,
                           bf_error *err)
{
    bf_bpe_learner *l = calloc(1, sizeof *l);
    bf_json *json = NULL;
    bf_code rc = l ? bf_json_parse(&json, pretokenizer_json, strlen(pretokenizer_json), err)
                   : no_memory(err);
    if (!rc)
        rc = bf_pretokenizer_new(&l->pretokenizer, json, err);
    if (!rc)
        rc = bf_vocab_new(&l->known, err);
    if (!rc)
        rc = bf_vocab_new(&l->tokens, err);
    if (!rc)
        rc = add_special(l, special, n_special, err);
    if (!rc)
        rc = add_alphabet(l, err);
    bf_json_free(json);
    if (rc)
        bf_bpe_learner_free(l);
    else
        *out = l;
    return rc;
}

void bf_bpe_learner_free(bf_bpe_learner *l)
{
    if (!l)
        return;
    bf_pretokenizer_free(l->pretokenizer);
    bf_vocab_free(l->known);
    bf_vocab_free(l->tokens);
    bf_buf_free(&l->text);
    bf_pairs_free(&l->pairs);
    free(l->word);
    free(l->symbol);
    free(l->text_at);
    free(l->merge);
    free(l);
}

/* ---- merges ---- */

static void count_pairs(bf_bpe_learner *l)
{
    for (size_t w = 0; w < l->n_words; w++) {
        const uint32_t *s = l->symbol + l->word[w].at;
        for (uint32_t k = 0; k + 1 < l->word[w].n; k++)
            bf_pairs_add(&l->pairs, bf_pair(s[k], s[k + 1]), l->word[w].count, (uint32_t)w);
    }
    bf_pairs_settle(&l->pairs);
}

/* Put id for the pair wherever it stands in a word, from left to right. The pair's own count stays:
 * as in `tokenizers`, where it matters only if another merge makes the same text. */
static void merge_word(bf_bpe_learner *l, uint32_t w, uint64_t pair, uint32_t id)
{
    learned_word *word = &l->word[w];
    uint32_t *s = l->symbol + word->at, n = 0;
    const uint32_t left = (uint32_t)(pair >> 32), right = (uint32_t)pair;
    for (uint32_t k = 0; k < word->n; k++) {
        if (s[k] != left || k + 1 == word->n || s[k + 1] != right) {
            s[n++] = s[k];
            continue;
        }
        if (n) {
            bf_pairs_add(&l->pairs, bf_pair(s[n - 1], left), -word->count, w);
            bf_pairs_add(&l->pairs, bf_pair(s[n - 1], id), word->count, w);
        }
        if (k + 2 < word->n) {
            bf_pairs_add(&l->pairs, bf_pair(right, s[k + 2]), -word->count, w);
            bf_pairs_add(&l->pairs, bf_pair(id, s[k + 2]), word->count, w);
        }
        s[n++] = id;
        k++;
    }
    word->n = n;
}

/* The id of the two texts together: a new one, unless another merge made it before. */
static bf_code joined_token(uint32_t *id, bf_bpe_learner *l, uint64_t pair, bf_error *err)
{
    bf_buf text = {0};
    bf_buf_text(&text, l->text.data + l->text_at[pair >> 32]);
    bf_buf_text(&text, l->text.data + l->text_at[(uint32_t)pair]);
    bf_code rc = text.failed ? no_memory(err) : BF_OK;
    if (!rc) {
        const int64_t known = bf_vocab_find(l->tokens, text.data, text.len);
        *id = (uint32_t)(known >= 0 ? known : (int64_t)l->n_tokens);
        rc = known >= 0 ? BF_OK : add_token(l, text.data, text.len, err);
    }
    bf_buf_free(&text);
    return rc;
}

static bf_code learn(bf_bpe_learner *l, size_t vocabulary, bf_error *err)
{
    bf_code rc = BF_OK;
    bf_pair_entry top;
    count_pairs(l);
    while (!rc && l->n_tokens < vocabulary && bf_pairs_pop(&top, &l->pairs)) {
        uint32_t id = 0;
        if (top.count < 1 ||
            !reserve((void **)&l->merge, l->n_merges + 1, &l->cap_merges, sizeof *l->merge)) {
            rc = top.count < 1 ? BF_OK : no_memory(err);
            free(top.words.word);
            break;
        }
        rc = joined_token(&id, l, top.pair, err);
        l->merge[l->n_merges++] = top.pair;
        for (size_t k = 0; k < top.words.n && !rc; k++)
            merge_word(l, top.words.word[k], top.pair, id);
        bf_pairs_settle(&l->pairs);
        free(top.words.word);
    }
    return !rc && l->pairs.failed ? no_memory(err) : rc;
}

/* ---- the file ---- */

static void put_token(bf_buf *out, const bf_bpe_learner *l, size_t id)
{
    if (!out->failed && bf_json_quote(out, l->text.data + l->text_at[id]))
        out->failed = true;
}

static void put_added(bf_buf *out, const bf_bpe_learner *l)
{
    bf_buf_text(out, "{\n  \"version\": \"1.0\",\n  \"truncation\": null,\n  \"padding\": null,\n"
                     "  \"added_tokens\": [");
    for (size_t k = 0; k < l->n_special; k++) {
        bf_buf_printf(out, "%s\n    {\"id\": %zu, \"content\": ", k ? "," : "", k);
        put_token(out, l, k);
        bf_buf_text(out, ", \"single_word\": false, \"lstrip\": false, \"rstrip\": false, "
                         "\"normalized\": false, \"special\": true}");
    }
    bf_buf_text(out, l->n_special ? "\n  ],\n" : "],\n");
}

static void put_model(bf_buf *out, const bf_bpe_learner *l)
{
    bf_buf_text(out,
                "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
                "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
                "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
                "    \"byte_fallback\": false,\n    \"ignore_merges\": false,\n    \"vocab\": {");
    for (size_t id = 0; id < l->n_tokens; id++) {
        bf_buf_text(out, id ? ",\n      " : "\n      ");
        put_token(out, l, id);
        bf_buf_printf(out, ": %zu", id);
    }
    bf_buf_text(out, "\n    },\n    \"merges\": [");
    for (size_t k = 0; k < l->n_merges; k++) {
        bf_buf_text(out, k ? ",\n      [" : "\n      [");
        put_token(out, l, (size_t)(l->merge[k] >> 32));
        bf_buf_text(out, ", ");
        put_token(out, l, (uint32_t)l->merge[k]);
        bf_buf_text(out, "]");
    }
    bf_buf_text(out, l->n_merges ? "\n    ]\n  }\n}\n" : "]\n  }\n}\n");
}

bf_code bf_bpe_learner_finish(bf_buf *out, bf_bpe_learner *l, size_t vocabulary, bf_error *err)
{
    if (vocabulary < l->n_tokens)
        return bf_fail(err, BF_EARG,
                       "a vocabulary of %zu, wanted at least %zu: 256 bytes and %zu special tokens",
                       vocabulary, l->n_tokens, l->n_special);
    const bf_code rc = learn(l, vocabulary, err);
    if (rc)
        return rc;
    put_added(out, l);
    bf_buf_text(out, "  \"normalizer\": null,\n  \"pre_tokenizer\": ");
    bf_buf_text(out, pretokenizer_json);
    bf_buf_text(out, ",\n  \"post_processor\": null,\n  \"decoder\": {\"type\": \"ByteLevel\", "
                     "\"add_prefix_space\": true, \"trim_offsets\": true, \"use_regex\": true},\n");
    put_model(out, l);
    return out->failed ? no_memory(err) : BF_OK;
}
