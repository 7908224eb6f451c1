/* bpe_learn.h -- learn a byte-level BPE tokenizer, as GPT-2 has, from texts.
 *
 * Words are cut by GPT-2's pattern and spelt in its byte alphabet; then the commonest pair of
 * neighbours is merged, again and again. Merges, their order and all ids equal those of the
 * BpeTrainer of the `tokenizers` library (0.23; ties go to the pair of smaller ids) with the same
 * special tokens, vocab_size and ByteLevel alphabet. The same texts give the same bytes. */
#ifndef BF_MODEL_BPE_LEARN_H
#define BF_MODEL_BPE_LEARN_H

#include <stddef.h>

#include "backflow/error.h"
#include "base/buf.h"

typedef struct bf_bpe_learner bf_bpe_learner;

/* Special tokens take the ids from 0 on. special, and its texts: borrowed during the call.
 * BF_EARG a special token that is empty or no UTF-8, or given twice, BF_ENOMEM. */
bf_code bf_bpe_learner_new(bf_bpe_learner **out, const char *const *special, size_t n_special,
                           bf_error *err);
void bf_bpe_learner_free(bf_bpe_learner *learner); /* NULL-safe */
/* Count the words of a text (words do not cross texts). What is no UTF-8 counts as U+FFFD, as it is
 * encoded later.  BF_ENOMEM. */
bf_code bf_bpe_learner_feed(bf_bpe_learner *learner, const char *text, size_t len, bf_error *err);
/* Merge until there are `vocabulary` tokens, or nothing is left to merge, and append the
 * tokenizer.json to out. Once.
 * BF_EARG vocabulary below 256 + special tokens, BF_ENOMEM. */
bf_code bf_bpe_learner_finish(bf_buf *out, bf_bpe_learner *learner, size_t vocabulary,
                              bf_error *err);

#endif
