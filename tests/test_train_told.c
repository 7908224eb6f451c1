/* What a training tells of its held-out data: how much is right, and the probe of the sine task. */
#define BF_BITS 64

#include "tests/train_run.h"

#include "base/gemm.h"
#include "model/num/train.h"
#include "tests/close.h"

typedef struct {
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f64 *t;
    bf_data *data;
} bench;

static bench bench_of(bf_train_config *c, const bf_data_config *data, size_t b, size_t t)
{
    bench y = {.data = NULL};
    bf_error err = {0};
    bf_gemm_init();
    c->f64 = true;
    if (bf_data_open(&y.data, data, b, t, 1, 1, &err) || bf_train_layout_new(&y.layout, c, &err) ||
        bf_pool_new(&y.pool, 1, &err) || bf_train_new_f64(&y.t, c, &y.layout, y.pool, b, t, &err))
        fail_msg("%s", err.msg);
    bf_train_first(y.t->param, BF_F64, &y.layout, 2, c->seed);
    return y;
}

static void bench_end(bench *y)
{
    bf_train_free_f64(y->t);
    bf_pool_free(y->pool);
    bf_train_layout_free(&y->layout);
    bf_data_free(y->data);
}

/* Is no token likelier than the target of row r? From the final norm's output. */
static bool knows(const bf_train_f64 *t, size_t r, size_t target, size_t vocabulary)
{
    double best = -INFINITY, its = 0;
    for (size_t v = 0; v < vocabulary; v++) {
        double x = 0;
        for (size_t d = 0; d < t->c->D; d++)
            x += t->normed[r * t->c->D + d] * t->head.w[v * t->head.ld + d];
        best = fmax(best, x);
        its = v == target ? x : its;
    }
    return its >= best - 1e-12;
}

/* The copy task, and a model of its vocabulary. */
static bench copying(bf_train_config *c)
{
    static char model[300];
    bf_data_config data = {
        .kind = BF_DATA_TASK, .task = {.kind = BF_TASK_COPY, .symbols = 5, .least = 2, .most = 4}};
    bf_task_defaults(&data.task);
    snprintf(model, sizeof model, "{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, "
             "\"vocab_size\": %zu, \"n_positions\": 64}", bf_task_vocabulary(&data.task));
    c->model = model;
    return bench_of(c, &data, B, T);
}

static void right__counts_the_targets_that_are_likeliest(void **state)
{
    (void)state;
    bf_train_config c = plain();
    bench y = copying(&c);
    bf_batch batch;
    double loss;
    size_t known = 0;
    assert_int_equal(bf_data_batch(&batch, y.data, BF_SPLIT_HELD_OUT, 0, NULL), BF_OK);
    bf_train_batch_f64(&loss, y.t, &batch, false, 1);
    for (size_t r = 0; r < B * T; r++) {
        const int32_t target = batch.target[r];
        if (target < 0)
            continue;
        const bool is = knows(y.t, r, (size_t)target, y.t->c->V);
        assert_int_equal(y.t->row_right[r], is);
        known += is;
    }
    assert_true(known > 0 && known < B * T);
    bench_end(&y);
}

/* bf_train tells the part of the answers, not of all targets; and again when nothing is left to do. */
static void right__is_told_of_the_answers(void **state)
{
    scratch *s = *state;
    bf_train_config c = plain();
    c.held_out = 1;
    bench y = copying(&c);
    bf_train_state told, again;
    bf_error err = {0};
    bf_batch batch;
    double loss, right = 0, of = 0;
    assert_int_equal(bf_train(folder(s, "a"), &c, y.data, false, &told, NULL, NULL, NULL, &err), BF_OK);
    assert_int_equal(bf_train(folder(s, "a"), &c, y.data, true, &again, NULL, NULL, NULL, &err), BF_OK);
    const bf_train_job job = {.folder = folder(s, "a"), .config = &c, .layout = &y.layout};
    void *const parts[] = {y.t->param, y.t->moment[0], y.t->moment[1]};
    bf_train_point point;
    bool found;
    assert_int_equal(bf_train_checkpoint_read(&found, &point, parts, &job, &err), BF_OK);
    assert_true(found);
    assert_int_equal(bf_data_batch(&batch, y.data, BF_SPLIT_HELD_OUT, 0, NULL), BF_OK);
    bf_train_batch_f64(&loss, y.t, &batch, false, 1);
    for (size_t r = 0; r < B * T; r++)
        if (batch.answer[r]) {
            right += knows(y.t, r, (size_t)batch.target[r], y.t->c->V);
            of++;
        }
    assert_true(of > 0 && of < B * T);
    assert_close(told.right, right / of, 1e-12);
    assert_close(again.right, told.right, 0);
    assert_true(isnan(told.probe[0]));
    bench_end(&y);
}

/* sin(factor x) is next to linear in x for a small factor, and x is a direction of the input. */
static void probe__reads_what_is_linear_and_nothing_else(void **state)
{
    (void)state;
    bf_train_config c = plain();
    c.objective = BF_OBJECTIVE_REAL;
    c.model = "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 12, "
              "\"num_attention_heads\": 3, \"num_key_value_heads\": 3, \"intermediate_size\": 20, "
              "\"vocab_size\": 3, \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
              "\"tie_word_embeddings\": false}"; /* no table of positions */
    for (int wild = 0; wild < 2; wild++) {
        const bf_data_config task = {
            .kind = BF_DATA_TASK, .task = {.kind = BF_TASK_SINE, .p = 0.5, .factor = wild ? 9 : 0.1}};
        bench y = bench_of(&c, &task, B, T);
        double r2[2];
        assert_int_equal(bf_train_probe_f64(r2, y.t, y.data, NULL), BF_OK);
        assert_true(r2[0] < 1 + 1e-9 && r2[1] < 1 + 1e-9);
        if (wild)
            assert_true(r2[0] < 0.1);
        else
            assert_true(r2[0] > 0.999 && r2[1] > 0.999);
        bench_end(&y);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(right__counts_the_targets_that_are_likeliest),
        TEST(right__is_told_of_the_answers),
        cmocka_unit_test(probe__reads_what_is_linear_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
