/* Text as a data source: what is read, what is held out, and batches that depend on seed and step
 * alone. */
#include "tests/close.h"
#include "tests/data_source.h"

/* ---- running text ---- */

static void batch__targets_are_the_next_tokens_of_the_text(void **state)
{
    scratch *s = *state;
    char text[2000];
    uint64_t seed = 4;
    for (size_t k = 0; k < sizeof text; k++)
        text[k] = (char)('a' + scratch_random(&seed) % 26);
    scratch_write(scratch_path(s, "text"), text, sizeof text);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    bf_data *data = open_data(&c, B, T, 3, 1);
    const int32_t a = byte_id(data, 'a');
    assert_int_equal(bf_data_tokens(data), sizeof text);
    assert_int_equal(bf_data_vocabulary(data), 258);
    for (uint64_t step = 0; step < 200; step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_TRAIN, step);
        assert_true(b.B == B && b.T == T && b.heads == 3 && !b.x && !b.answer);
        for (size_t r = 0; r < B; r++) {
            char window[T + 1] = {0};
            for (size_t t = 0; t < T; t++)
                window[t] = (char)('a' + b.input[r * T + t] - a);
            size_t at = 0; /* 16 letters stand in one place of 2000 */
            while (memcmp(text + at, window, T))
                assert_true(++at + T <= sizeof text);
            for (size_t t = 0; t < T; t++)
                for (size_t h = 0; h < 3; h++) {
                    const size_t to = at + t + 1 + h;
                    const int32_t wanted = to < sizeof text ? text[to] - 'a' + a : -1;
                    assert_int_equal(b.target[(r * T + t) * 3 + h], wanted);
                }
        }
    }
    bf_data_free(data);
}

static void batch__is_a_function_of_seed_and_step(void **state)
{
    scratch *s = *state;
    write_letters(s, 50, 40);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    bf_data *one = open_data(&c, B, T, 1, 1), *two = open_data(&c, B, T, 2, 1);
    int32_t kept[B * T];
    memcpy(kept, batch_of(one, BF_SPLIT_TRAIN, 5).input, sizeof kept);
    batch_of(one, BF_SPLIT_TRAIN, 6);
    assert_memory_equal(batch_of(one, BF_SPLIT_TRAIN, 5).input, kept, sizeof kept);
    assert_memory_equal(batch_of(two, BF_SPLIT_TRAIN, 5).input, kept,
                        sizeof kept); /* whatever the heads */
    bf_data_seed(one, 2);
    assert_memory_not_equal(batch_of(one, BF_SPLIT_TRAIN, 5).input, kept, sizeof kept);
    bf_data_seed(one, 1);
    assert_memory_equal(batch_of(one, BF_SPLIT_TRAIN, 5).input, kept, sizeof kept);
    assert_true(bf_data_fingerprint(one) == bf_data_fingerprint(two));
    bf_data_free(one);
    bf_data_free(two);
}

static void batch__windows_begin_evenly_over_the_text(void **state)
{
    scratch *s = *state;
    write_letters(s, 26, 39);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    bf_data *data = open_data(&c, 8, T, 1, 1);
    const int32_t a = byte_id(data, 'a');
    size_t seen[26] = {0}, total = 0;
    for (uint64_t step = 0; step < 1000; step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_TRAIN, step);
        for (size_t r = 0; r < 8; r++)
            if (b.input[r * T] >= a && b.input[r * T] < a + 25) {
                seen[b.input[r * T] - a]++;
                total++;
            }
    }
    for (size_t k = 0; k < 25; k++) /* the last line has fewer starts */
        assert_close((double)seen[k] / (double)total, 1.0 / 25, 5 * sqrt(1.0 / 25 / (double)total));
    bf_data_free(data);
}

/* ---- documents, held-out text ---- */

static void documents__every_third_line_is_held_out_and_read_once(void **state)
{
    scratch *s = *state;
    write_letters(s, 9, 20); /* c, f and i are held out */
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.document = BF_DOCUMENT_LINE;
    c.separator = special[0];
    c.held_out_every = 3;
    bf_data *data = open_data(&c, B, T, 1, 1);
    const int32_t a = byte_id(data, 'a');
    assert_int_equal(bf_data_separator(data), 0);
    assert_int_equal(bf_data_tokens(data), 6 * 22); /* separator, letters, newline */
    size_t targets[26] = {0}, others = 0, starts = 0;
    const size_t n = bf_data_held_out(data);
    assert_int_equal(n, 2); /* 3 documents of 2 windows in batches of 3 */
    for (size_t step = 0; step < n; step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_HELD_OUT, step);
        for (size_t k = 0; k < B * T; k++) {
            starts += b.target[k] >= 0 && b.input[k] == 0;
            if (b.target[k] >= a && b.target[k] < a + 26)
                targets[b.target[k] - a]++;
            else
                others += b.target[k] >= 0;
        }
    }
    for (size_t k = 0; k < 26; k++)
        assert_int_equal(targets[k], k == 2 || k == 5 || k == 8 ? 20 : 0);
    assert_int_equal(others, 3); /* newlines */
    assert_int_equal(starts, 3);
    bf_batch b;
    assert_int_equal(bf_data_batch(&b, data, BF_SPLIT_HELD_OUT, n, NULL), BF_EARG);
    for (uint64_t step = 0; step < 200; step++) {
        const bf_batch train = batch_of(data, BF_SPLIT_TRAIN, step);
        for (size_t k = 0; k < B * T; k++)
            assert_true(train.input[k] != a + 2 && train.input[k] != a + 5 &&
                        train.input[k] != a + 8);
    }
    bf_data_free(data);
}

static void documents__end_at_blank_lines_or_where_the_separator_stands(void **state)
{
    scratch *s = *state;
    static const char text[] = "aaaaaaaaaa\naaaaaaaaaa\n\n \nbbbbbbbbbb\n\ncccccccccc",
                      marked[] = "aaaaaaaaaa<|end|>\n<|end|>bb\n\nbbbbbbbbb<|end|>cccccccccc";
    scratch_write(scratch_path(s, "text"), text, sizeof text - 1);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.document = BF_DOCUMENT_BLANK;
    c.separator = special[0];
    bf_data *data = open_data(&c, B, T, 1, 1);
    assert_int_equal(bf_data_tokens(data), 3 + 22 + 11 + 10);
    bf_data_free(data);
    scratch_write(path, marked, sizeof marked - 1);
    c.document = BF_DOCUMENT_SEPARATOR;
    data = open_data(&c, B, T, 1, 1);
    assert_int_equal(bf_data_tokens(data), 3 + 10 + 13 + 10);
    bf_data_free(data);
    c.separator = NULL;
    assert_refused(&c, BF_EARG, "there is none");
}

static void held_out__a_share_is_the_end_of_the_text(void **state)
{
    scratch *s = *state;
    write_letters(s, 20, 9);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.held_out_share = 0.25;
    bf_data *data = open_data(&c, B, T, 1, 1);
    const int32_t a = byte_id(data, 'a');
    size_t held = 0;
    for (size_t step = 0; step < bf_data_held_out(data); step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_HELD_OUT, step);
        for (size_t k = 0; k < B * T; k++) {
            held += b.target[k] >= 0;
            if (b.target[k] >= a && b.target[k] < a + 26)
                assert_true(b.target[k] >= a + 15);
        }
    }
    assert_in_range(held, 39, 49);
    assert_int_equal(bf_data_tokens(data) + held + 1, 200);
    bf_data_free(data);
}

static void tokenizer__sees_no_held_out_text(void **state)
{
    scratch *s = *state;
    bf_buf text = {0};
    for (size_t k = 0; k < 40; k++)
        bf_buf_text(&text, k % 2 ? "zyzyzyzyzy\n" : "abababababab\n");
    scratch_write(scratch_path(s, "text"), text.data, text.len);
    bf_buf_free(&text);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.document = BF_DOCUMENT_LINE;
    c.held_out_every = 2;
    c.vocabulary = 300;
    bf_data *data = open_data(&c, B, T, 1, 1);
    assert_non_null(strstr(bf_data_tokenizer_json(data), "\"ab\""));
    assert_null(strstr(bf_data_tokenizer_json(data), "\"zy\""));
    bf_data_free(data);
}

static void tokenizer__of_a_file_is_used_and_kept(void **state)
{
    scratch *s = *state;
    write_letters(s, 30, 30);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.tokenizer = "tests/data/tokenizer_gpt2.json";
    c.vocabulary = 0;
    c.n_special = 0;
    bf_data *data = open_data(&c, B, T, 1, 1);
    bf_buf file = {0};
    assert_int_equal(bf_file_read(&file, c.tokenizer, 1 << 24, NULL), BF_OK);
    assert_string_equal(bf_data_tokenizer_json(data), file.data);
    bf_buf_free(&file);
    bf_data_free(data);
    c.tokenizer = "tests/data/none.json";
    assert_refused(&c, BF_EIO, "tests/data/none.json");
    c.tokenizer = "tests/data/bpe_text.txt";
    assert_refused(&c, BF_EFORMAT, "tests/data/bpe_text.txt");
    c.tokenizer = "tests/data/tokenizer_gpt2.json";
    c.separator = "<no such token>";
    assert_refused(&c, BF_EARG, "no token \"<no such token>\"");
}

static void pieces__of_a_long_text_give_the_same_tokens(void **state)
{
    scratch *s = *state;
    bf_buf text = {0};
    uint64_t seed = 3;
    while (text.len < ((size_t)9 << 20)) { /* more than two pieces */
        const uint32_t kind = scratch_random(&seed) % 8;
        bf_buf_text(&text, kind == 0 ? "\n" : kind == 1 ? "  " : kind == 2 ? "\n\n x" : " word");
        if (scratch_random(&seed) % 50 == 0) {
            char run[4000];
            memset(run, 'a' + (int)(scratch_random(&seed) % 26), sizeof run);
            bf_buf_bytes(&text, run, sizeof run);
        }
    }
    scratch_write(scratch_path(s, "text"), text.data, text.len);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.vocabulary = 262;
    bf_data *data = open_data(&c, 1, T, 1, 1);
    const char *json = bf_data_tokenizer_json(data);
    bf_tokenizer *t = NULL;
    bf_token *token = NULL;
    size_t n = 0;
    assert_int_equal(bf_tokenizer_parse(&t, json, strlen(json), NULL), BF_OK);
    assert_int_equal(bf_tokenizer_encode(&token, &n, t, text.data, text.len, NULL), BF_OK);
    assert_int_equal(bf_data_tokens(data), n);
    free(token);
    bf_tokenizer_free(t);
    bf_data_free(data);
    bf_buf_free(&text);
}

/* ---- what cannot be ---- */

static void open__what_cannot_be_is_refused(void **state)
{
    scratch *s = *state;
    write_letters(s, 1, T - 1); /* with the newline as many tokens as positions */
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    assert_refused(&c, BF_ESHAPE, "16 tokens to train on, wanted at least 17");
    write_letters(s, 3, 2 * T);
    c.held_out_share = 1.5;
    assert_refused(&c, BF_EARG, "\"held_out.share\" is 1.5");
    c.held_out_share = 0;
    c.mask_rate = 0.5;
    assert_refused(&c, BF_EARG, "no mask token");
    c.mask_random = 0.6;
    c.mask_keep = 0.5;
    assert_refused(&c, BF_EARG, "masked.random + masked.keep");
    c.mask_rate = c.mask_random = c.mask_keep = 0;
    c.repeat_last = 0.5;
    assert_refused(&c, BF_EARG, "spans of 0 to 0 tokens, wanted 1 to 8");
    c.repeat_last = 0;
    c.vocabulary = 257;
    assert_refused(&c, BF_EARG, "wanted at least 258");
    c.vocabulary = 258;
    const char *none = "nowhere/text";
    c.files = &none;
    assert_refused(&c, BF_EIO, "nowhere/text");
    c.files = &path;
    scratch_write(path, " \n\n", 3);
    c.document = BF_DOCUMENT_LINE;
    assert_refused(&c, BF_ESHAPE, "no text");
    bf_data *data = NULL;
    bf_error err;
    c = (bf_data_config){.kind = BF_DATA_TASK, .task = {.kind = BF_TASK_COPY}};
    assert_int_equal(bf_data_open(&data, &c, 0, 64, 1, 1, &err), BF_EARG);
    assert_int_equal(bf_data_open(&data, &c, SIZE_MAX / 2, 64, 1, 1, &err), BF_ENOMEM);
    assert_int_equal(bf_data_open(&data, &c, 1, 8, 1, 1, &err), BF_ESHAPE);
    c.mask_rate = 0.5;
    assert_int_equal(bf_data_open(&data, &c, 1, 64, 1, 1, &err), BF_EARG);
    assert_null(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FILES(batch__targets_are_the_next_tokens_of_the_text),
        ON_FILES(batch__is_a_function_of_seed_and_step),
        ON_FILES(batch__windows_begin_evenly_over_the_text),
        ON_FILES(documents__every_third_line_is_held_out_and_read_once),
        ON_FILES(documents__end_at_blank_lines_or_where_the_separator_stands),
        ON_FILES(held_out__a_share_is_the_end_of_the_text),
        ON_FILES(tokenizer__sees_no_held_out_text),
        ON_FILES(tokenizer__of_a_file_is_used_and_kept),
        ON_FILES(pieces__of_a_long_text_give_the_same_tokens),
        ON_FILES(open__what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
