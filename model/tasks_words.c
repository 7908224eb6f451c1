/* tasks_words.c -- the tokens of tasks as text, so that a trained model can be traced from text. */
#include <string.h>

#include "base/json.h"
#include "model/tasks_parts.h"

size_t bf_task_vocabulary(const bf_task_config *t)
{
    switch (t->kind) {
    case BF_TASK_COPY:
        return BF_COPY_FIRST + t->symbols;
    case BF_TASK_INDUCTION:
        return BF_STORY_FIRST + bf_story_words() + 2 * t->symbols;
    case BF_TASK_POLYNOMIAL:
        return BF_POLY_WORDS;
    case BF_TASK_RECALL:
        return BF_RECALL_FIRST + 2 * t->symbols;
    default:
        return 0;
    }
}

/* a, b, .., z, aa, ab, .. */
static void put_letters(bf_buf *out, size_t k)
{
    char text[16];
    size_t at = sizeof text - 1;
    text[at] = '\0';
    for (k++; k; k = (k - 1) / 26)
        text[--at] = (char)('a' + (k - 1) % 26);
    bf_buf_text(out, text + at);
}

static void put_story(bf_buf *out, const bf_task_config *t, size_t id)
{
    const size_t words = bf_story_words();
    if (id == BF_STORY_UNKNOWN) {
        bf_buf_text(out, "[UNK]");
    } else if (id - BF_STORY_FIRST < words) {
        bf_buf_text(out, bf_story_word(id - BF_STORY_FIRST));
    } else {
        const size_t k = id - BF_STORY_FIRST - words;
        bf_buf_text(out, k < t->symbols ? "" : "##");
        bf_story_syllable(out, k % t->symbols, k < t->symbols);
    }
}

void bf_task_word(bf_buf *out, const bf_task_config *t, size_t id)
{
    static const char *const signs[] = {"=", "(", ")", "-", "+", "*", "o"};
    if (id == BF_WORD_START)
        bf_buf_text(out, "<s>");
    else if (t->kind == BF_TASK_INDUCTION)
        put_story(out, t, id);
    else if (t->kind == BF_TASK_POLYNOMIAL && id >= BF_POLY_DIGIT)
        bf_buf_printf(out, "%zu", id - BF_POLY_DIGIT);
    else if (t->kind == BF_TASK_POLYNOMIAL)
        bf_buf_text(out, signs[id - BF_POLY_EQUALS]);
    else if (id == BF_COPY_BAR)
        bf_buf_text(out, t->kind == BF_TASK_COPY ? "|" : "?");
    else if (t->kind == BF_TASK_COPY)
        put_letters(out, id - BF_COPY_FIRST);
    else
        bf_buf_printf(out, "%s%zu", id < BF_RECALL_FIRST + t->symbols ? "k" : "v",
                      (id - BF_RECALL_FIRST) % t->symbols);
}

static void put_vocabulary(bf_buf *out, const bf_task_config *t)
{
    const size_t n = bf_task_vocabulary(t);
    bf_buf word = {0};
    bf_buf_text(out, "\"vocab\": {");
    for (size_t id = 0; id < n && !out->failed; id++) {
        word.len = 0;
        bf_task_word(&word, t, id);
        bf_buf_text(out, id ? ", " : "");
        out->failed = out->failed || word.failed || bf_json_quote(out, word.data);
        bf_buf_printf(out, ": %zu", id);
    }
    bf_buf_text(out, "}");
    bf_buf_free(&word);
}

/* Words between white space, or for stories WordPiece, whose "##" joins a name's syllables. */
void bf_task_tokenizer(bf_buf *out, const bf_task_config *t)
{
    const bool story = t->kind == BF_TASK_INDUCTION;
    bf_buf_text(
        out, "{\"version\": \"1.0\", \"truncation\": null, \"padding\": null,\n"
             " \"added_tokens\": [{\"id\": 0, \"content\": \"<s>\", \"single_word\": false, "
             "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, \"special\": true}],\n"
             " \"normalizer\": null,\n");
    bf_buf_printf(out, " \"pre_tokenizer\": {\"type\": \"%s\"}, \"post_processor\": null,\n",
                  story ? "Whitespace" : "WhitespaceSplit");
    bf_buf_text(out,
                story ? " \"decoder\": {\"type\": \"WordPiece\", \"prefix\": \"##\", \"cleanup\": "
                        "true},\n \"model\": {\"type\": \"WordPiece\", \"unk_token\": \"[UNK]\", "
                        "\"continuing_subword_prefix\": \"##\", \"max_input_chars_per_word\": 100, "
                      : " \"decoder\": null,\n \"model\": {\"type\": \"WordLevel\", "
                        "\"unk_token\": \"[UNK]\", ");
    put_vocabulary(out, t);
    bf_buf_text(out, "}}\n");
}
