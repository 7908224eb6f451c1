/* data_source.h -- what the tests of data sources share: sources over files of letters. */
#ifndef BF_TESTS_DATA_SOURCE_H
#define BF_TESTS_DATA_SOURCE_H

#include "tests/scratch.h"

#include "backflow/tokenizer.h"
#include "base/buf.h"
#include "model/data.h"

enum { B = 3, T = 16 };

static const char *const special[] = {"<|end|>", "<|mask|>"};

#define ON_FILES(test) cmocka_unit_test_setup_teardown(test, scratch_open, scratch_close)

/* Text data from one file in the scratch folder: plain bytes, as 256 + 2 tokens. */
static inline bf_data_config text_config(const char *const *path)
{
    return (bf_data_config){.kind = BF_DATA_TEXT, .files = path, .n_files = 1, .vocabulary = 258,
                            .special = special, .n_special = 2};
}

static inline bf_data *open_data(const bf_data_config *config, size_t batch, size_t positions,
                                 size_t heads, uint64_t seed)
{
    bf_data *data = NULL;
    bf_error err = {0};
    if (bf_data_open(&data, config, batch, positions, heads, seed, &err))
        fail_msg("%s", err.msg);
    return data;
}

static inline bf_batch batch_of(bf_data *data, bf_split split, uint64_t step)
{
    bf_batch b;
    assert_int_equal(bf_data_batch(&b, data, split, step, NULL), BF_OK);
    return b;
}

static inline void assert_refused(const bf_data_config *config, bf_code code, const char *words)
{
    bf_data *data = NULL;
    bf_error err = {0};
    assert_int_equal(bf_data_open(&data, config, B, T, 1, 1, &err), code);
    assert_null(data);
    if (!strstr(err.msg, words))
        fail_msg("found \"%s\", wanted \"%s\"", err.msg, words);
}

/* The id of a byte in the learnt tokenizer of bytes. */
static inline int32_t byte_id(const bf_data *data, char byte)
{
    const char *json = bf_data_tokenizer_json(data);
    bf_tokenizer *t = NULL;
    bf_token *token = NULL;
    size_t n = 0;
    assert_int_equal(bf_tokenizer_parse(&t, json, strlen(json), NULL), BF_OK);
    assert_int_equal(bf_tokenizer_encode(&token, &n, t, &byte, 1, NULL), BF_OK);
    const int32_t id = (int32_t)token[0].id;
    free(token);
    bf_tokenizer_free(t);
    return id;
}

/* "aaa..", "bbb..", ...: so many letters each, a line each. */
static inline void write_letters(scratch *s, size_t lines, size_t letters)
{
    bf_buf text = {0};
    for (size_t k = 0; k < lines; k++) {
        for (size_t c = 0; c < letters; c++)
            bf_buf_printf(&text, "%c", (char)('a' + k % 26));
        bf_buf_text(&text, "\n");
    }
    scratch_write(scratch_path(s, "text"), text.data, text.len);
    bf_buf_free(&text);
}

#endif
