/* bpe_pairs.h -- for bpe_learn.c: how often neighbours occur and in which words, and the commonest
 * pair first. */
#ifndef BF_MODEL_BPE_PAIRS_H
#define BF_MODEL_BPE_PAIRS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Words, each once; grows. */
typedef struct {
    uint32_t *word;
    size_t n, cap;
} bf_pair_words;

/* A pair of token ids that waits to be merged in some words. */
typedef struct {
    uint64_t pair; /* left << 32 | right */
    int64_t count; /* occurrences when it was put here: not fewer than there are now */
    bf_pair_words words;
} bf_pair_entry;

typedef struct {
    uint64_t pair;
    int64_t count;
    bf_pair_words fresh; /* words with new occurrences that no entry holds yet */
    bool used;
} bf_pair_slot;

/* Zero-initialise; the first failed allocation sets failed, and later calls do nothing. */
typedef struct {
    bf_pair_slot *slot; /* [slots] open addressing; a power of two */
    size_t slots, n_used;
    uint64_t *touched;  /* pairs with fresh words */
    size_t n_touched, cap_touched;
    bf_pair_entry *heap; /* highest count first, then smallest pair */
    size_t n_heap, cap_heap;
    bool failed;
} bf_pairs;

static inline uint64_t bf_pair(uint32_t left, uint32_t right)
{
    return (uint64_t)left << 32 | right;
}

/* Change a pair's count by so much; if it grows, note the word. */
void bf_pairs_add(bf_pairs *pairs, uint64_t pair, int64_t change, uint32_t word);
/* Put an entry in the heap for every pair with fresh words and a count above 0. */
void bf_pairs_settle(bf_pairs *pairs);
/* Take the commonest pair, its count brought up to date. words: free(out->words.word).
 * False: none is left. */
bool bf_pairs_pop(bf_pair_entry *out, bf_pairs *pairs);
void bf_pairs_free(bf_pairs *pairs);

#endif
