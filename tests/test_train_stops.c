/* test_train_stops.c -- what a training refuses, and what stops one without harm. */
#include "tests/train_run.h"

#include <signal.h>
#include <sys/resource.h>

#include "base/safetensors.h"

static void train__refuses(void **state)
{
    static const struct {
        const char *model, *message;
    } cases[] = {
        {"{\"model_type\": \"gpt2\"}", "n_layer"},
        {"{\"model_type\": \"bert\", \"n_layer\": 2}", "model_type"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"vocab_size\": 18, "
         "\"n_positions\": 256}", "vocab_size"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 5, \"vocab_size\": 17, "
         "\"n_positions\": 256}", "n_head"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"vocab_size\": 17, "
         "\"n_positions\": 39}", "positions"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"vocab_size\": 17, "
         "\"n_positions\": 64, \"attn_pdrop\": 0.1}", "attn_pdrop"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"vocab_size\": 17, "
         "\"n_positions\": 64, \"backflow\": {\"mask\": [{\"segment\": 4, \"compressive\": 0.5, \"gate\": "
         "\"learnt\"}, {}]}}", "wanted one mask for all layers"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, \"vocab_size\": 17, "
         "\"n_positions\": 64, \"backflow\": {\"mask\": {\"segment\": 4, \"update\": \"delta\"}}}",
         "\"gate\" or \"update\" without \"compressive\""},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 9000, \"n_embd\": 200000, \"n_head\": 1, "
         "\"vocab_size\": 17, \"n_positions\": 64}", "ytes"},
        {"{\"model_type\": \"gpt2\", \"n_layer\": 2,", "model"},
    };
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        bf_train_config c = plain();
        bf_error err = {0};
        c.model = cases[k].model;
        assert_true(fails(folder(s, "refused"), &c, data, false, &err) != BF_OK);
        if (!strstr(err.msg, cases[k].message))
            fail_msg("\"%s\" does not name %s", err.msg, cases[k].message);
        assert_int_equal(access(folder(s, "refused"), F_OK), -1);
    }
    bf_data_free(data);
}

static void train__refuses_numbers(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c[8];
    for (size_t k = 0; k < 8; k++)
        c[k] = plain();
    c[0].steps = 0;
    c[1].rate = INFINITY;
    c[2].beta1 = 1;
    c[3].decay = -1;
    c[4].objective = BF_OBJECTIVE_HEADS, c[4].heads = 2;
    c[5].cut = BF_CUT_LOCAL;
    c[6].objective = BF_OBJECTIVE_REAL;
    c[7].objective = BF_OBJECTIVE_JOINT, c[7].joint = (bf_joint){2, 1, 4, 5, false, 1, 8, false};
    for (size_t k = 0; k < 8; k++) {
        bf_error err = {0};
        assert_int_equal(fails(folder(s, "refused"), &c[k], data, false, &err), BF_EARG);
        assert_int_equal(access(folder(s, "refused"), F_OK), -1);
    }
    bf_data_free(data);
}

static void train__refuses_other_folders(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err = {0};
    run(folder(s, "first"), &c, data, false);
    assert_int_equal(fails(folder(s, "first"), &c, data, false, &err), BF_EARG);
    c.identity = "another";
    assert_int_equal(fails(folder(s, "first"), &c, data, true, &err), BF_EARG);
    assert_non_null(strstr(err.msg, "another config"));
    c.identity = "one";
    c.f64 = true;
    assert_int_equal(fails(folder(s, "first"), &c, data, true, &err), BF_ESHAPE);
    bf_data_free(data);
}

/* The weights of a model's file, from the first of a tensor on, become x. */
static void spoil(const char *path, const char *tensor, float x)
{
    char full[800];
    bf_safetensors *file = NULL;
    size_t len = 0;
    snprintf(full, sizeof full, "%s/model.safetensors", path);
    assert_int_equal(bf_safetensors_open(&file, full, NULL), BF_OK);
    const bf_st_tensor *t = bf_safetensors_find(file, tensor);
    assert_non_null(t);
    const char *map = bf_safetensors_bytes(file, &len);
    const long at = (long)((const char *)t->data - map);
    const size_t count = t->count;
    bf_safetensors_free(file);
    FILE *f = fopen(full, "r+b");
    assert_non_null(f);
    fseek(f, at, SEEK_SET);
    for (size_t k = 0; k < count; k++)
        assert_int_equal(fwrite(&x, sizeof x, 1, f), 1);
    fclose(f);
}

static void train__nan_names_step_and_tensor(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err = {0};
    run(folder(s, "start"), &c, data, false);
    spoil(folder(s, "start"), "transformer.h.0.mlp.c_fc.weight", 3e38f);
    c.start = folder(s, "start");
    assert_int_equal(fails(folder(s, "nan"), &c, data, false, &err), BF_ENONFINITE);
    assert_non_null(strstr(err.msg, "step 1"));
    assert_non_null(strstr(err.msg, "layer 1"));
    bf_buf kept = read_part(folder(s, "nan"), "checkpoint.safetensors"); /* of step 0 */
    assert_true(kept.len > 0);
    bf_buf_free(&kept);
    bf_data_free(data);
}

/* A limit on the size of files stands for a full disk: the last checkpoint stays, and is resumed from. */
static void train__full_disk_keeps_the_checkpoint(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err = {0};
    struct rlimit old, low;
    run(folder(s, "whole"), &c, data, false);
    c.until = 5;
    assert_int_equal(fails(folder(s, "full"), &c, data, false, &err), BF_EINTERRUPTED);
    bf_buf before = read_part(folder(s, "full"), "checkpoint.safetensors");
    c.until = 0;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    low = old;
    low.rlim_cur = before.len - 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &low), 0);
    assert_int_equal(fails(folder(s, "full"), &c, data, true, &err), BF_EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(err.msg, "checkpoint.safetensors"));
    bf_buf after = read_part(folder(s, "full"), "checkpoint.safetensors");
    assert_int_equal(before.len, after.len);
    assert_memory_equal(before.data, after.data, before.len);
    bf_buf_free(&before);
    bf_buf_free(&after);
    run(folder(s, "full"), &c, data, true);
    assert_same(folder(s, "whole"), folder(s, "full"));
    bf_data_free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(train__refuses),
        TEST(train__refuses_numbers),
        TEST(train__refuses_other_folders),
        TEST(train__nan_names_step_and_tensor),
        TEST(train__full_disk_keeps_the_checkpoint),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
