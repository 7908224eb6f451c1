/* tasks_parts.h -- what the files of the synthetic tasks share. */
#ifndef BF_MODEL_TASKS_PARTS_H
#define BF_MODEL_TASKS_PARTS_H

#include "model/tasks.h"

enum {
    BF_WORD_START,           /* <s>: token 0 of every task, begins an episode */
    BF_COPY_BAR = 1,         /* | */
    BF_COPY_FIRST,           /* symbols from here on */
    BF_RECALL_QUESTION = 1,  /* ? */
    BF_RECALL_FIRST,         /* keys, then values */
    BF_POLY_EQUALS = 1,
    BF_POLY_OPEN,
    BF_POLY_CLOSE,
    BF_POLY_NEGATE,          /* the four operations, in this order */
    BF_POLY_PLUS,
    BF_POLY_TIMES,
    BF_POLY_COMPOSE,
    BF_POLY_DIGIT,           /* 0 to 6 from here on */
    BF_POLY_WORDS = BF_POLY_DIGIT + 7,
    BF_STORY_UNKNOWN = 1,    /* [UNK], which WordPiece needs and no story has */
    BF_STORY_FIRST           /* words, then syllables that begin names, then those that end them */
};

enum { BF_RECALL_MOST = 1024, BF_POLY_MOST = 32, BF_STORY_SYLLABLES = 60, BF_STORY_LEAST = 24 };

/* A sequence being written; what goes beyond its end is dropped. */
typedef struct {
    int32_t *ids;
    uint8_t *answer;
    size_t n, at;
} bf_tape;

void bf_tape_put(bf_tape *tape, size_t id, bool answer);
/* One episode each. */
void bf_story_put(bf_tape *tape, const bf_task_config *task, bf_random *random);
void bf_poly_put(bf_tape *tape, const bf_task_config *task, bf_random *random);

/* Words of stories: number, and the k-th. */
size_t bf_story_words(void);
const char *bf_story_word(size_t k);
/* Append syllable k < BF_STORY_SYLLABLES: "Ba", or "ba" as the end of a name. */
void bf_story_syllable(bf_buf *out, size_t k, bool begins);

#endif
