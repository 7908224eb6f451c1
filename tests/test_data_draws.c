/* What is drawn: repeated spans and masked tokens; and sources that are no text: token files,
 * tasks. */
#include "tests/close.h"
#include "tests/data_source.h"

/* ---- repeated spans ---- */

static size_t period_of(const int32_t *id, size_t from, size_t n)
{
    for (size_t p = 1; p < n; p++) {
        size_t k = from + p;
        while (k < n && id[k] == id[k - p])
            k++;
        if (k == n)
            return p;
    }
    return n;
}

static void repeat__spans_have_the_stated_share_and_length(void **state)
{
    enum { LONG = 64, ROWS = 32 };
    scratch *s = *state;
    char text[4000];
    uint64_t seed = 4;
    for (size_t k = 0; k < sizeof text; k++)
        text[k] = (char)('a' + scratch_random(&seed) % 26);
    scratch_write(scratch_path(s, "text"), text, sizeof text);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.separator = special[0];
    c.mask_token = special[1];
    c.start_share = 0.5;
    c.repeat_first = 0.8;
    c.repeat_last = 0.2;
    c.repeat_steps = 100;
    c.repeat_least = 5;
    c.repeat_most = 20;
    c.repeat_uniform = 0.25;
    bf_data *data = open_data(&c, ROWS, LONG, 1, 1);
    const int32_t a = byte_id(data, 'a');
    size_t repeats[3] = {0}, uniform = 0, started = 0, rows = 0, all = 0;
    for (uint64_t step = 0; step < 300; step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_TRAIN, step);
        for (size_t r = 0; r < ROWS; r++) {
            const int32_t *id = b.input + r * LONG;
            const size_t from = id[0] == 0, p = period_of(id, from, LONG);
            started += from;
            rows++;
            if (p > 25)
                continue;
            assert_in_range(p, 1, 20);
            repeats[step / 100]++;
            all++;
            bool letters = true;
            for (size_t k = from; k < LONG; k++) {
                assert_true(id[k] > 1); /* neither separator nor mask token */
                letters = letters && id[k] >= a && id[k] < a + 26;
            }
            uniform += !letters;
        }
    }
    const double n = 100 * ROWS;
    assert_close((double)repeats[0] / n, 0.5, 0.05);
    assert_close((double)repeats[1] / n, 0.2, 0.05);
    assert_close((double)repeats[2] / n, 0.2, 0.05);
    assert_close((double)uniform / (double)all, 0.25, 0.05);
    assert_close((double)started / (double)rows, 0.5, 0.03);
    bf_data_free(data);
}

static void repeat__few_symbols_are_few(void **state)
{
    enum { LONG = 64 };
    scratch *s = *state;
    write_letters(s, 26, 39);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.repeat_first = c.repeat_last = 1;
    c.repeat_least = c.repeat_most = 32;
    c.repeat_uniform = 1;
    c.repeat_symbols = 4;
    bf_data *data = open_data(&c, 8, LONG, 1, 1);
    size_t most = 0;
    for (uint64_t step = 0; step < 50; step++) {
        const bf_batch b = batch_of(data, BF_SPLIT_TRAIN, step);
        for (size_t r = 0; r < 8; r++) {
            size_t different = 0;
            for (size_t k = 0; k < LONG; k++) {
                size_t p = 0;
                while (b.input[r * LONG + p] != b.input[r * LONG + k])
                    p++;
                different += p == k;
            }
            assert_in_range(different, 1, 4);
            most = different > most ? different : most;
        }
    }
    assert_int_equal(most, 4);
    bf_data_free(data);
}

/* ---- masked tokens ---- */

static void masked__rates_are_as_stated_and_targets_true(void **state)
{
    enum { ROWS = 16, LONG = 64 };
    scratch *s = *state;
    char text[3000];
    uint64_t seed = 8;
    for (size_t k = 0; k < sizeof text; k++)
        text[k] = (char)('a' + scratch_random(&seed) % 26);
    scratch_write(scratch_path(s, "text"), text, sizeof text);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.mask_token = special[1];
    c.held_out_share = 0.2;
    bf_data *plain = open_data(&c, ROWS, LONG, 1, 1);
    c.mask_rate = 0.15;
    c.mask_random = 0.1;
    c.mask_keep = 0.1;
    bf_data *data = open_data(&c, ROWS, LONG, 1, 1);
    const int32_t a = byte_id(data, 'a');
    assert_int_equal(bf_data_mask_token(data), 1);
    double chosen = 0, masked = 0, kept = 0, random = 0, count = 0;
    for (uint64_t step = 0; step < 200; step++) {
        const bf_batch b = batch_of(data, step % 2 ? BF_SPLIT_TRAIN : BF_SPLIT_HELD_OUT,
                                    step % 2 ? step : step / 2 % bf_data_held_out(data));
        for (size_t r = 0; r < ROWS; r++) {
            size_t here = 0;
            for (size_t k = r * LONG; k < (r + 1) * LONG; k++) {
                here += b.target[k] >= 0;
                if (b.target[k] < 0) {
                    assert_true(b.input[k] != 1);
                    continue;
                }
                assert_in_range(b.target[k], a, a + 25);
                masked += b.input[k] == 1;
                kept += b.input[k] == b.target[k];
                random += b.input[k] != 1 && b.input[k] != b.target[k];
            }
            if (step % 2) {
                assert_true(here > 0);
                chosen += (double)here;
                count += LONG;
            }
        }
    }
    const double all = masked + kept + random;
    assert_close(chosen / count, 0.15, 5 * sqrt(0.13 / count));
    assert_close(masked / all, 0.8, 5 * sqrt(0.16 / all));
    assert_close(kept / all, 0.1 + 0.1 / 257, 5 * sqrt(0.09 / all));
    bf_data_free(plain);
    bf_data_free(data);
}

static void masked__held_out_windows_are_full_and_the_same_every_time(void **state)
{
    scratch *s = *state;
    write_letters(s, 26, 39);
    const char *path = s->path;
    bf_data_config c = text_config(&path);
    c.document = BF_DOCUMENT_LINE;
    c.held_out_every = 4;
    c.mask_token = special[1];
    c.mask_rate = 0.3;
    bf_data *data = open_data(&c, B, T, 1, 1);
    int32_t kept[B * T];
    size_t windows = 0;
    for (size_t step = 0; step < bf_data_held_out(data); step++) {
        memcpy(kept, batch_of(data, BF_SPLIT_HELD_OUT, step).input, sizeof kept);
        const bf_batch b = batch_of(data, BF_SPLIT_HELD_OUT, step);
        assert_memory_equal(b.input, kept, sizeof kept);
        for (size_t r = 0; r < B; r++) {
            bool any = false;
            for (size_t t = 0; t < T; t++)
                any = any || b.target[r * T + t] >= 0;
            windows += any;
        }
    }
    assert_int_equal(windows, (6 * 40 + T - 1) / T);
    bf_data_free(data);
}

/* ---- token files ---- */

static void tokens__u16_and_u32_and_safetensors_read_alike(void **state)
{
    scratch *s = *state;
    unsigned char small[400], wide[800], file[2048];
    for (size_t k = 0; k < 200; k++) {
        const unsigned id = (unsigned)(k * 37 % 300);
        small[2 * k] = wide[4 * k] = (unsigned char)id;
        small[2 * k + 1] = wide[4 * k + 1] = (unsigned char)(id >> 8);
        wide[4 * k + 2] = wide[4 * k + 3] = 0;
    }
    static const char header[] =
        "{\"x\":{\"dtype\":\"U16\",\"shape\":[200],\"data_offsets\":[0,400]}}      ";
    const size_t n = (sizeof header - 1) / 8 * 8;
    memset(file, 0, 8);
    file[0] = (unsigned char)n;
    memcpy(file + 8, header, n);
    memcpy(file + 8 + n, small, 400);
    char paths[3][600];
    const char *const names[] = {"a.bin", "b.bin", "c.safetensors"};
    const void *const bytes[] = {small, wide, file};
    const size_t sizes[] = {400, 800, 8 + n + 400};
    uint64_t prints[3];
    for (size_t k = 0; k < 3; k++) {
        snprintf(paths[k], sizeof paths[k], "%s", scratch_path(s, names[k]));
        scratch_write(paths[k], bytes[k], sizes[k]);
        const char *path = paths[k];
        const bf_data_config c = {.kind = BF_DATA_TOKENS, .files = &path, .n_files = 1,
                                  .token_bytes = k == 1 ? 4 : 2, .vocabulary = 300,
                                  .held_out_share = 0.25};
        bf_data *data = open_data(&c, B, T, 1, 1);
        assert_int_equal(bf_data_tokens(data), 150);
        assert_null(bf_data_tokenizer_json(data));
        prints[k] = bf_data_fingerprint(data);
        bf_data_free(data);
    }
    assert_true(prints[0] == prints[1] && prints[0] == prints[2]);
}

static void tokens__beyond_the_vocabulary_are_refused(void **state)
{
    scratch *s = *state;
    unsigned char bytes[401] = {0};
    bytes[20] = 9;
    scratch_write(scratch_path(s, "a.bin"), bytes, 400);
    const char *path = s->path;
    bf_data_config c = {.kind = BF_DATA_TOKENS, .files = &path, .n_files = 1, .vocabulary = 9};
    assert_refused(&c, BF_EFORMAT, "token 10 is 9, the vocabulary has ids 0 to 8");
    c.vocabulary = 10;
    bf_data_free(open_data(&c, B, T, 1, 1));
    c.vocabulary = 0;
    assert_refused(&c, BF_EARG, "a vocabulary of 0");
    c.vocabulary = 10;
    c.token_bytes = 4;
    scratch_write(path, bytes, 401);
    assert_refused(&c, BF_EFORMAT, "wanted a multiple of 4");
}

/* ---- tasks ---- */

static void task__answers_only_leaves_no_other_loss(void **state)
{
    (void)state;
    bf_data_config c = {.kind = BF_DATA_TASK,
                        .task = {.kind = BF_TASK_COPY, .least = 2, .most = 5}};
    bf_data *all = open_data(&c, B, T, 2, 1);
    c.task.answers_only = true;
    bf_data *some = open_data(&c, B, T, 2, 1);
    assert_true(bf_data_held_out(all) == SIZE_MAX && bf_data_tokens(all) == 0);
    for (uint64_t step = 0; step < 50; step++) {
        const bf_batch x = batch_of(all, BF_SPLIT_TRAIN, step),
                       y = batch_of(some, BF_SPLIT_TRAIN, step);
        assert_memory_equal(x.input, y.input, B * T * sizeof *x.input);
        for (size_t k = 0; k < B * T; k++) {
            assert_int_equal(x.answer[k], y.answer[k]);
            assert_int_equal(y.target[2 * k], x.answer[k] ? x.target[2 * k] : -1);
            assert_true(x.target[2 * k] >= 0 && x.target[2 * k + 1] >= 0);
            if (k % T + 1 < T)
                assert_int_equal(y.target[2 * k + 1], x.answer[k + 1] ? x.target[2 * k + 1] : -1);
        }
    }
    assert_memory_not_equal(batch_of(all, BF_SPLIT_TRAIN, 0).input,
                            batch_of(some, BF_SPLIT_HELD_OUT, 0).input, B * T * sizeof(int32_t));
    bf_data_free(all);
    bf_data_free(some);
}

static void task__sine_is_real(void **state)
{
    (void)state;
    const bf_data_config c = {.kind = BF_DATA_TASK, .task = {.kind = BF_TASK_SINE}};
    bf_data *data = open_data(&c, B, T, 1, 1);
    const bf_batch b = batch_of(data, BF_SPLIT_TRAIN, 0);
    assert_true(b.x && b.y && !b.input && !b.target && b.channels == 2);
    assert_int_equal(bf_data_vocabulary(data), 0);
    assert_int_equal(bf_data_channels(data), 2);
    bf_data_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ON_FILES(repeat__spans_have_the_stated_share_and_length),
        ON_FILES(repeat__few_symbols_are_few),
        ON_FILES(masked__rates_are_as_stated_and_targets_true),
        ON_FILES(masked__held_out_windows_are_full_and_the_same_every_time),
        ON_FILES(tokens__u16_and_u32_and_safetensors_read_alike),
        ON_FILES(tokens__beyond_the_vocabulary_are_refused),
        cmocka_unit_test(task__answers_only_leaves_no_other_loss),
        cmocka_unit_test(task__sine_is_real),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
