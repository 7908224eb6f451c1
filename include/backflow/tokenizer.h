/* tokenizer.h -- text to token ids and back, as a Hugging Face tokenizer.json says.
 *
 * Ids equal those of the `tokenizers` library for the parts supported (docs/tokenizers.md); a part
 * that is not supported is BF_EUNSUPPORTED at load time, never a wrong id later. */
#ifndef BACKFLOW_TOKENIZER_H
#define BACKFLOW_TOKENIZER_H

#include <stddef.h>
#include <stdint.h>

#include "backflow/error.h"

typedef struct bf_tokenizer bf_tokenizer;

/* One token of an encoded text. */
typedef struct {
    int64_t id;
    size_t from, to; /* bytes [from,to) of the text that it stands for; from == to for one that was
                        added (begin of text). Tokens of a character that was split share its span's
                        part where bytes can be told apart (byte-level, byte fallback). */
} bf_token;

/* Load path (a tokenizer.json). out owned by the caller (bf_tokenizer_free); untouched on failure.
 * BF_EIO, BF_EFORMAT, BF_EUNSUPPORTED, BF_ENOMEM; messages name the file and the field. */
bf_code bf_tokenizer_open(bf_tokenizer **out, const char *path, bf_error *err);
/* The same from the text of a tokenizer.json; messages name the field. */
bf_code bf_tokenizer_parse(bf_tokenizer **out, const char *text, size_t len, bf_error *err);
void bf_tokenizer_free(bf_tokenizer *tokenizer); /* NULL-safe */

/* Encode text[0..len) (UTF-8; bytes that are not are taken as U+FFFD, as `tokenizers` callers do).
 * out     *n tokens, allocated; the caller frees with free(). Special tokens that the file's
 *         post-processor adds are included. An empty text may give 0 tokens.
 * Thread-safe: the tokenizer is only read.  BF_ENOMEM, BF_EFORMAT (a character without a token). */
bf_code bf_tokenizer_encode(bf_token **out, size_t *n, const bf_tokenizer *tokenizer,
                            const char *text, size_t len, bf_error *err);

/* Number of ids (largest id + 1, added tokens included). */
size_t bf_tokenizer_size(const bf_tokenizer *tokenizer);

/* The string a reader should see for one id: byte-level and metaspace coding undone, so " named",
 * not "Ġnamed"; bytes that are no UTF-8 on their own (half characters) come as "\xE2\x80" (escaped
 * in ASCII); special tokens as they are written ("<s>").
 * out  allocated NUL-terminated UTF-8 (a NUL byte in a token comes as "\x00"); free().
 * BF_EARG id out of range, BF_ENOMEM. */
bf_code bf_tokenizer_piece(char **out, const bf_tokenizer *tokenizer, int64_t id, bf_error *err);

/* Decode n ids to text, special tokens left out, as the file's decoder says. out: free(). */
bf_code bf_tokenizer_decode(char **out, const bf_tokenizer *tokenizer, const int64_t *ids, size_t n,
                            bf_error *err);

#endif
