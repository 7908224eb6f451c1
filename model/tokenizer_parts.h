/* tokenizer_parts.h -- what the files of the tokenizer share. A text goes one way:
 *
 *   bytes -> bf_doc -> normalizer, added tokens -> pre-tokenizer -> subwords -> frame -> bf_token[]
 *            (tokenizer_text.c)  (_normalize, _added)  (_pretokenize)  (_subwords, _bpe)  (_frame)
 *
 * A bf_doc is a text whose every byte knows the bytes of the caller's text it stands for, cut
 * into pieces. Functions that only append have no result: they set `failed` when memory runs out,
 * which is asked once at the end of a stage. Unless said otherwise, functions return BF_EFORMAT
 * for bad files, BF_EUNSUPPORTED, BF_ENOMEM, and the messages name the field; pointers to JSON
 * are borrowed and not kept; NULL or a JSON null stands for a part that is not there; _free
 * functions are NULL-safe. */
#ifndef BF_MODEL_TOKENIZER_PARTS_H
#define BF_MODEL_TOKENIZER_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"
#include "backflow/tokenizer.h"
#include "base/buf.h"
#include "base/json.h"

/* ---- tokenizer_text.c: UTF-8 and texts that know where they came from ---- */

typedef struct {
    size_t from, to;
} bf_span;

typedef struct {
    char *bytes;   /* valid UTF-8, not NUL-terminated */
    bf_span *span; /* [len] bytes of the caller's text behind each byte */
    size_t len, cap, limit; /* limit: more than these bytes count as no memory; 0: none */
    bool failed;
    bool late; /* the library takes the first byte for one behind the text's first character */
} bf_aligned;

typedef struct {
    size_t begin, end; /* bytes of the doc's text */
    int64_t id;        /* of an added token, or -1 */
} bf_piece;

typedef struct {
    bf_aligned text;
    bf_piece *piece;
    size_t n, cap;
    bool failed;
} bf_doc;

/* What a text of len bytes may grow to, whatever a file says to put into it. */
size_t bf_aligned_limit(size_t len);
/* Append n bytes that all stand for span. */
void bf_aligned_put(bf_aligned *out, const char *bytes, size_t n, bf_span span);
/* Append in[begin,end) with its spans. */
void bf_aligned_copy(bf_aligned *out, const bf_aligned *in, size_t begin, size_t end);
/* Append the caller's text: each byte its own span, what is no UTF-8 as U+FFFD, one for every
 * longest part that a character could have begun with (as Python's and Rust's decoders do). */
void bf_aligned_decode(bf_aligned *out, const char *text, size_t len);
/* The caller's bytes behind text[begin,end), begin < end. */
bf_span bf_aligned_span(const bf_aligned *text, size_t begin, size_t end);
void bf_aligned_free(bf_aligned *text); /* and back to zero, as all three below */
void bf_doc_piece(bf_doc *doc, size_t begin, size_t end, int64_t id); /* empty: dropped */
void bf_doc_free(bf_doc *doc);

/* The character at s[at] of valid UTF-8; returns its length. */
size_t bf_utf8_next(int32_t *cp, const char *s, size_t at);
size_t bf_utf8_put(char out[4], int32_t cp); /* returns the length */
/* Length of the character that len > 0 hostile bytes begin with; 0 and *bad, the length of the
 * part to replace, if they begin with none. */
size_t bf_utf8_check(size_t *bad, const char *s, size_t len);
/* The byte-level alphabet of GPT-2: a printable character for each byte. */
int32_t bf_byte_char(unsigned char byte);
int bf_char_byte(int32_t cp); /* -1: none */

/* ---- tokenizer_unicode.c: characters, by utf8proc ---- */

typedef struct {
    int32_t from, to;
} bf_char_range;
typedef struct {
    int32_t from, to;
    char category[4];
} bf_char_class;
typedef struct {
    int32_t from, to, lower;
} bf_case_range;

extern const bf_char_class bf_chars_new[]; /* tokenizer_ranges.c */
extern const bf_char_range bf_chars_han[], bf_chars_number[], bf_chars_punct[], bf_chars_mark[],
    bf_chars_accent[], bf_chars_control[], bf_chars_whole[];
extern const bf_case_range bf_chars_lower[];
extern const size_t bf_chars_new_count, bf_chars_han_count, bf_chars_number_count,
    bf_chars_punct_count, bf_chars_mark_count, bf_chars_accent_count, bf_chars_control_count,
    bf_chars_whole_count, bf_chars_lower_count;

bool bf_char_is_space(int32_t cp);
bool bf_char_is_number(int32_t cp);
bool bf_char_is_punct(int32_t cp);   /* ASCII's symbols too */
bool bf_char_is_word(int32_t cp);    /* \w of Rust's regex: letters, marks, digits, connectors */
bool bf_char_is_mark(int32_t cp);    /* what StripAccents drops */
bool bf_char_is_accent(int32_t cp);  /* what BertNormalizer drops as an accent */
bool bf_char_is_control(int32_t cp); /* what BertNormalizer drops as a control */
size_t bf_char_lower(int32_t out[2], int32_t cp);
/* Append in, normalised: NFD, NFC (compose), NFKD (compat) or NFKC (both). Characters that change
 * together stand for all the bytes they come from. */
void bf_unicode_normalize(bf_aligned *out, const bf_aligned *in, bool compat, bool compose);

/* ---- tokenizer_regex.c: regular expressions, by Oniguruma ---- */

typedef struct bf_regex bf_regex;
typedef struct bf_scan bf_scan;
bf_code bf_regex_new(bf_regex **out, const char *pattern, bf_error *err);
void bf_regex_free(bf_regex *regex);
/* One scan finds a pattern's matches in any number of texts, one text after the other; a regex may
 * have many scans (threads). regex and text are kept. */
bf_code bf_scan_new(bf_scan **out, const bf_regex *regex, bf_error *err);
void bf_scan_free(bf_scan *scan);
void bf_scan_start(bf_scan *scan, const char *text, size_t len);
/* *found and the next match, or !*found. BF_EUNSUPPORTED: the pattern backtracks without end. */
bf_code bf_scan_next(bool *found, size_t *from, size_t *to, bf_scan *scan, bf_error *err);

/* ---- tokenizer_fields.c: fields of the file with errors that name them ---- */

typedef struct {
    char *literal;   /* owned; NULL for a regular expression, which an empty literal is too */
    bf_regex *regex; /* owned */
} bf_pattern;

/* out: borrowed from object; the field must be there. */
bf_code bf_field_string(const char **out, const bf_json *object, const char *key, bf_error *err);
bf_code bf_field_bool(bool *out, const bf_json *object, const char *key, bf_error *err);
bf_code bf_field_char(int32_t *out, const bf_json *object, const char *key, bf_error *err);
bf_code bf_field_id(int64_t *out, const bf_json *value, const char *name, bf_error *err);
bf_code bf_field_pattern(bf_pattern *out, const bf_json *object, bf_error *err);
void bf_pattern_free(bf_pattern *pattern);
/* The next match in text[0..len) from done on, the end of the last one; scan: started on the text
 * if the pattern is a regex, else not used. */
bf_code bf_pattern_next(bool *found, size_t *from, size_t *to, const bf_pattern *pattern,
                        bf_scan *scan, const char *text, size_t len, size_t done, bf_error *err);
char *bf_text_copy(const char *text); /* free(); NULL if there is no memory */
/* A token for a message: in quotes, escaped, cut. Returns buf. */
const char *bf_token_show(char *buf, size_t size, const char *text, size_t len);

/* A part of the file (a normalizer, ...) is a step or a Sequence of parts under list_key:
 * flattened. out: free(); the steps are borrowed from value. */
typedef struct {
    const bf_json *json;
    const char *type;
} bf_step;
bf_code bf_field_steps(bf_step **out, size_t *n, const bf_json *value, const char *list_key,
                       bf_error *err);
/* A part that is an array of its steps, each of `size` bytes and read into zeros. steps: free();
 * after a failure NULL, or all n, the rest of them zeros. Messages name the field. */
typedef bf_code bf_step_read(void *to, const bf_step *step, bf_error *err);
bf_code bf_steps_new(void **steps, size_t *n, size_t size, bf_step_read *read,
                     const bf_json *value, const char *field, const char *list_key, bf_error *err);
/* "field[k] (type): " before the message; returns err's code. */
bf_code bf_step_fail(bf_error *err, bf_code code, const char *field, size_t k, const bf_step *step);

/* ---- tokenizer_vocab.c: strings and their ids ---- */

typedef struct bf_vocab bf_vocab;
bf_code bf_vocab_new(bf_vocab **out, bf_error *err); /* empty */
bf_code bf_vocab_read(bf_vocab **out, const bf_json *model, bf_error *err); /* its field "vocab" */
void bf_vocab_free(bf_vocab *vocab);
bf_code bf_vocab_add(bf_vocab *vocab, const char *text, size_t len, int64_t id, bf_error *err);
int64_t bf_vocab_find(const bf_vocab *vocab, const char *text, size_t len); /* -1: absent */
/* NUL follows the text; NULL if there is no such id. Only after bf_vocab_read. */
const char *bf_vocab_text(size_t *len, const bf_vocab *vocab, int64_t id);
size_t bf_vocab_count(const bf_vocab *vocab);
size_t bf_vocab_size(const bf_vocab *vocab);    /* largest id + 1 */
size_t bf_vocab_longest(const bf_vocab *vocab); /* bytes of the longest string */
uint64_t bf_bytes_hash(const char *bytes, size_t len);

/* ---- tokenizer_normalize.c ---- */

typedef struct bf_normalizer bf_normalizer;
bf_code bf_normalizer_new(bf_normalizer **out, const bf_json *value, bf_error *err);
void bf_normalizer_free(bf_normalizer *normalizer);
bool bf_normalizer_is_byte_level(const bf_normalizer *normalizer);
/* text: read and replaced; spare: any content, for use in between. */
bf_code bf_normalizer_run(const bf_normalizer *normalizer, bf_aligned *text, bf_aligned *spare,
                          bf_error *err);
/* Append text[begin,end) with each byte as its character of the byte-level alphabet. */
void bf_bytes_spell(bf_aligned *out, const bf_aligned *text, size_t begin, size_t end);
/* Append text[begin,end) with the pattern's matches replaced. scan: for pattern->regex, or NULL. */
bf_code bf_pattern_replace(bf_aligned *out, const bf_aligned *text, size_t begin, size_t end,
                           const bf_pattern *pattern, bf_scan *scan, const char *content,
                           bf_error *err);

/* ---- tokenizer_added.c ---- */

typedef struct bf_added bf_added;
/* normalizer may be used during the call; vocab is only asked for ids. */
bf_code bf_added_new(bf_added **out, const bf_json *array, const bf_vocab *vocab,
                     const bf_normalizer *normalizer, bf_error *err);
void bf_added_free(bf_added *added);
/* Cut text[begin,end) of doc into pieces at the added tokens that are matched before normalisation
 * (normalized false) or after it, and append them. */
void bf_added_cut(bf_doc *doc, const bf_added *added, bool normalized, size_t begin, size_t end);
size_t bf_added_size(const bf_added *added); /* largest id + 1 */
/* NULL: not an added token. *decoded: how it stands before the decoder (normalised). */
const char *bf_added_text(bool *special, const char **decoded, const bf_added *added, int64_t id);

/* ---- tokenizer_pretokenize.c ---- */

typedef struct bf_pretokenizer bf_pretokenizer;
bf_code bf_pretokenizer_new(bf_pretokenizer **out, const bf_json *value, bf_error *err);
void bf_pretokenizer_free(bf_pretokenizer *pretokenizer);
bool bf_pretokenizer_is_byte_level(const bf_pretokenizer *pretokenizer);
int32_t bf_pretokenizer_metaspace(const bf_pretokenizer *pretokenizer); /* its character, or 0 */
/* doc: read and replaced; spare: empty or any content, for use in between. */
bf_code bf_pretokenizer_run(const bf_pretokenizer *pretokenizer, bf_doc *doc, bf_doc *spare,
                            bf_error *err);

/* ---- tokenizer_subwords.c, tokenizer_bpe.c: the model, a piece to its ids ---- */

typedef struct bf_bpe bf_bpe;
typedef struct bf_subwords bf_subwords;

typedef struct {
    int32_t id;
    uint32_t len; /* bytes of the piece */
} bf_subword;

typedef struct bf_bpe_work bf_bpe_work;
typedef struct {
    bf_subword *part; /* all results so far */
    size_t n, cap;
    bool failed;
    bf_bpe_work *bpe; /* owned by tokenizer_bpe.c */
    void *cache;      /* owned by tokenizer_subwords.c */
    size_t cache_size;
} bf_subword_work; /* zero-initialise; one a call of encode */

void bf_subword_push(bf_subword_work *work, int64_t id, size_t len);
void bf_subword_work_free(bf_subword_work *work);

bf_code bf_subwords_new(bf_subwords **out, const bf_json *model, bf_error *err);
void bf_subwords_free(bf_subwords *subwords);
const bf_vocab *bf_subwords_vocab(const bf_subwords *subwords);
/* The ids of word[0..len), len > 0, are work->part[first .. first + n). word is kept in the cache
 * of work. pieces: about how many words will follow. BF_EFORMAT: a character without a token. */
bf_code bf_subwords_encode(size_t *first, size_t *n, const bf_subwords *subwords,
                           bf_subword_work *work, const char *word, size_t len, size_t pieces,
                           bf_error *err);

/* vocab is kept. */
bf_code bf_bpe_new(bf_bpe **out, const bf_json *model, const bf_vocab *vocab, bf_error *err);
void bf_bpe_free(bf_bpe *bpe);
void bf_bpe_work_free(bf_bpe_work *work);
bf_code bf_bpe_encode(const bf_bpe *bpe, bf_subword_work *work, const char *word, size_t len,
                      bf_error *err);

/* ---- tokenizer_frame.c: the post-processor, ids before and after the text ---- */

typedef struct {
    int64_t *before, *after;
    size_t n_before, n_after;
} bf_frame;

/* size: ids must be smaller. */
bf_code bf_frame_read(bf_frame *out, const bf_json *value, size_t size, bf_error *err);
void bf_frame_free(bf_frame *frame);

/* ---- tokenizer_decode.c ---- */

typedef struct bf_decoder bf_decoder;
bf_code bf_decoder_new(bf_decoder **out, const bf_json *value, bf_error *err);
void bf_decoder_free(bf_decoder *decoder);
/* Strings one after the other: string k is text[k ? end[k-1] : 0 .. end[k]). */
typedef struct {
    bf_buf text;
    size_t *end;
    size_t n, cap;
    bool failed;
} bf_strings;
void bf_strings_add(bf_strings *out, const char *text, size_t len); /* text and close */
void bf_strings_free(bf_strings *strings);
/* strings: read and replaced. Without a decoder they are joined by spaces. */
bf_code bf_decoder_run(const bf_decoder *decoder, bf_strings *strings, bf_error *err);

/* What a decoder tells about how pieces are coded, for bf_tokenizer_piece. */
typedef struct {
    bool byte_level, byte_fallback;
    char space[8];      /* stands for a space ("▁"), or "" */
    const char *suffix; /* ends a word ("</w>"), borrowed, or NULL */
} bf_coding;
void bf_decoder_coding(bf_coding *coding, const bf_decoder *decoder); /* adds to what is there */

/* ---- tokenizer_piece.c ---- */

/* Append the bytes that byte-level characters spell; a string with another character stays as it is
 * (!*spelt). */
void bf_bytes_unspell(bf_buf *out, bool *spelt, const char *text, size_t len);
int bf_fallback_byte(const char *text, size_t len); /* of "<0xE2>"; -1: another string */
/* text as a reader should see it: coding undone, bytes that are no UTF-8 and NUL escaped. */
void bf_piece_show(bf_buf *out, const bf_coding *coding, const char *text, size_t len);

#endif
