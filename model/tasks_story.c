/* tasks_story.c -- children's stories about two friends whose names are two tokens: a syllable that
 * begins names and one that ends them ("Mi", "##ka"). The pair is new in every story, so only the
 * earlier mention tells the second syllable of a later one. */
#include "model/tasks_parts.h"

#include <string.h>

/* A, B: the friends. N: a thing, the same throughout a sentence. */
static const char *const openings[] = {
    "Once upon a time there was a child named A . A had a friend . The friend was B .",
    "A and B were good friends . They lived in a little house .",
    "One day A went to the garden with B . The sun was warm .",
    "There was a big N in the garden . A and B wanted to see it .",
};
static const char *const sentences[] = {
    "A saw a N .",
    "B had a N .",
    "A gave the N to B .",
    "B said to A , look at the N !",
    "A was very happy .",
    "But B was sad .",
    "The N was big and red .",
    "A and B played with the N all day .",
    "Then A ran home .",
    "A asked B for the N .",
    "B did not want the N .",
    "They looked for the N but they did not see it .",
    "A was not sad because B had the N .",
    "B and A went home to sleep .",
    "The little N said hello to A .",
    "A smiled and B smiled too .",
};
static const char *const things[] = {"ball", "cat", "dog", "tree", "flower", "bird",
                                     "boat", "cake", "hat",  "box"};
/* Every word of the above, each once (tests/test_tasks.c checks it). */
static const char *const words[] = {
    "Once",   "upon",   "a",      "time",   "there", "was",    "child",   "named", ".",
    "had",    "friend", "The",    "and",    "were",  "good",   "friends", "They",  "lived",
    "in",     "little", "house",  "One",    "day",   "went",   "to",      "the",   "garden",
    "with",   "sun",    "warm",   "There",  "big",   "wanted", "see",     "it",    "saw",
    "gave",   "said",   ",",      "look",   "at",    "!",      "very",    "happy", "But",
    "sad",    "red",    "played", "all",    "Then",  "ran",    "home",    "asked", "for",
    "did",    "not",    "want",   "looked", "but",   "they",   "because", "sleep", "hello",
    "smiled", "too",    "ball",   "cat",    "dog",   "tree",   "flower",  "bird",  "boat",
    "cake",   "hat",    "box"};

enum {
    OPENINGS = sizeof openings / sizeof *openings,
    SENTENCES = sizeof sentences / sizeof *sentences,
    THINGS = sizeof things / sizeof *things,
    WORDS = sizeof words / sizeof *words
};

typedef struct {
    size_t begin, end; /* syllables */
    bool told;         /* the story has said it */
} story_name;

size_t bf_story_words(void)
{
    return WORDS;
}

const char *bf_story_word(size_t k)
{
    return words[k];
}

void bf_story_syllable(bf_buf *out, size_t k, bool begins)
{
    static const char consonants[] = "bdfklmnprstv", vowels[] = "aeiou";
    const char c = consonants[k / 5 % 12];
    bf_buf_printf(out, "%c%c", begins ? c - 'a' + 'A' : c, vowels[k % 5]);
}

static size_t word_id(const char *text, size_t len)
{
    for (size_t k = 0; k < WORDS; k++)
        if (strlen(words[k]) == len && !memcmp(words[k], text, len))
            return BF_STORY_FIRST + k;
    return BF_STORY_UNKNOWN;
}

static void put_name(bf_tape *tape, story_name *name, const bf_task_config *t)
{
    bf_tape_put(tape, BF_STORY_FIRST + WORDS + name->begin, false);
    bf_tape_put(tape, BF_STORY_FIRST + WORDS + t->symbols + name->end, name->told);
    name->told = true;
}

static void put_sentence(bf_tape *tape, const char *text, story_name friend[2],
                         const bf_task_config *t, bf_random *random)
{
    const char *thing = things[bf_random_below(random, THINGS)];
    for (size_t len; *text; text += len + (text[len] == ' ')) {
        len = strcspn(text, " ");
        if (len == 1 && (*text == 'A' || *text == 'B'))
            put_name(tape, &friend[*text - 'A'], t);
        else if (len == 1 && *text == 'N')
            bf_tape_put(tape, word_id(thing, strlen(thing)), false);
        else
            bf_tape_put(tape, word_id(text, len), false);
    }
}

void bf_story_put(bf_tape *tape, const bf_task_config *t, bf_random *random)
{
    const size_t a = (size_t)bf_random_below(random, t->symbols);
    const size_t b = (a + 1 + (size_t)bf_random_below(random, t->symbols - 1)) % t->symbols;
    story_name friend[2] = {{a, (size_t)bf_random_below(random, t->symbols), false},
                            {b, (size_t)bf_random_below(random, t->symbols), false}};
    bf_tape_put(tape, BF_WORD_START, false);
    put_sentence(tape, openings[bf_random_below(random, OPENINGS)], friend, t, random);
    for (size_t n = 5 + (size_t)bf_random_below(random, 6); n; n--)
        put_sentence(tape, sentences[bf_random_below(random, SENTENCES)], friend, t, random);
}
