/* test_train_bf16.c -- trainings in mixed precision: gradients and losses near those in float, the same bits
 * after an interruption and for any number of threads. */
#include "tests/train_run.h"

#include "base/gemm.h"
#include "base/packed.h"
#include "model/num/train.h"
#include "tests/close.h"

/* Rows that fill one tile and a part of another. */
enum { SEQUENCES = 5, POSITIONS = 67, ROWS = SEQUENCES * POSITIONS };

static bool has_bf16(void)
{
    if (!bf_bf16_available())
        printf("skipped: no avx512_bf16 on this processor\n");
    return bf_bf16_available();
}

/* ---- gradients ---- */

static const char gpt2_text[] =
    "{\"model_type\": \"gpt2\", \"n_layer\": 3, \"n_embd\": 51, \"n_head\": 3, \"n_inner\": 97, "
    "\"vocab_size\": 41, \"n_positions\": 128}";
static const char llama_text[] =
    "{\"model_type\": \"llama\", \"num_hidden_layers\": 3, \"hidden_size\": 47, \"num_attention_heads\": 6, "
    "\"num_key_value_heads\": 2, \"head_dim\": 10, \"intermediate_size\": 83, \"vocab_size\": 41, "
    "\"tie_word_embeddings\": false, \"max_position_embeddings\": 128}";

/* The gradients of two batches' mean. */
typedef struct {
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f32 *t;
    double loss;
} learner;

static bf_batch batch_of(const bf_train_config *c, int32_t *tokens, double *x, uint64_t seed)
{
    const size_t heads = c->heads ? c->heads : 1;
    for (size_t k = 0; k < ROWS * (heads + 1); k++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        tokens[k] = (int32_t)((seed >> 33) % 41);
        x[k] = (double)tokens[k] / 20.0 - 1.0;
    }
    if (c->objective == BF_OBJECTIVE_REAL)
        return (bf_batch){.B = SEQUENCES, .T = POSITIONS, .heads = 1, .channels = 1, .x = x, .y = x + ROWS};
    return (bf_batch){.B = SEQUENCES, .T = POSITIONS, .heads = heads, .input = tokens,
                      .target = tokens + ROWS};
}

/* Attention of first weights is little more than a mean. */
static void double_matrices(learner *l)
{
    for (size_t k = 0; k < l->layout.n; k++) {
        const bf_train_tensor *w = &l->layout.tensor[k];
        for (size_t v = w->at; v < w->at + w->count && w->decays; v++)
            l->t->param[v] *= 2;
    }
}

static void learn(learner *l, const bf_train_config *c)
{
    static int32_t tokens[8 * ROWS];
    static double x[8 * ROWS];
    bf_error err = {0};
    *l = (learner){0};
    if (bf_train_layout_new(&l->layout, c, &err) || bf_pool_new(&l->pool, 2, &err) ||
        bf_train_new_f32(&l->t, c, &l->layout, l->pool, SEQUENCES, POSITIONS, &err))
        fail_msg("%s", err.msg);
    bf_train_first(l->t->param, BF_F32, &l->layout, 3, 5);
    double_matrices(l);
    if (l->t->kept_param)
        bf_train_first(l->t->kept_param, BF_F32, &l->layout, 3, 6);
    bf_train_round_weights_f32(l->t);
    for (uint64_t k = 0; k < 2; k++) {
        const bf_batch batch = batch_of(c, tokens, x, 11 + k);
        double loss;
        l->t->add = k > 0;
        bf_train_batch_f32(&loss, l->t, &batch, true, 0.5);
        l->loss += 0.5 * loss;
    }
    assert_int_equal(bf_train_failed_f32(l->t, NULL), BF_OK);
}

static void forget(learner *l)
{
    bf_train_free_f32(l->t);
    bf_pool_free(l->pool);
    bf_train_layout_free(&l->layout);
}

/* |a - b| over |b| of one tensor's gradients. */
static double distance(const learner *a, const learner *b, const bf_train_tensor *w)
{
    double off = 0, size = 0;
    for (size_t k = w->at; k < w->at + w->count; k++) {
        const double d = (double)a->t->grad[k] - (double)b->t->grad[k];
        off += d * d;
        size += (double)b->t->grad[k] * (double)b->t->grad[k];
    }
    return size > 0 ? sqrt(off / size) : off > 0 ? INFINITY : 0;
}

/* An operand keeps 8 bits, so that it is off by 2^-9 at most and by a third of that on average, and a product
 * of two by 2^-9.3. Some 30 products follow each other through three layers and back; as their errors do not
 * depend on each other, what comes out is off by sqrt(30) 2^-9.3, 0.009 of a tensor's gradient. */
static void compare(const char *name, bf_train_config c)
{
    learner f32, bf16;
    learn(&f32, &c);
    c.bf16 = true;
    learn(&bf16, &c);
    for (size_t k = 0; k < f32.layout.n; k++) {
        const bf_train_tensor *w = &f32.layout.tensor[k];
        const double d = distance(&bf16, &f32, w);
        if (!(d > 0x1p-12 && d < 0x1p-6))
            fail_msg("%s: the gradient of %s is off by %.3g, wanted 2^-12 to 2^-6", name, w->name, d);
    }
    assert_close(bf16.loss, f32.loss, 0x1p-9 * f32.loss);
    assert_true(bf16.loss != f32.loss);
    forget(&f32);
    forget(&bf16);
}

static void train_batch__gradients_are_near_those_in_float(void **state)
{
    (void)state;
    if (!has_bf16())
        skip();
    bf_train_config c = {.model = gpt2_text, .accumulate = 1};
    bf_gemm_init();
    compare("gpt2", c);
    c.dropout = (bf_dropout){.embedding = 0.1, .attention = 0.2, .residual = 0.3};
    compare("gpt2, dropout", c);
    c.dropout = (bf_dropout){0};
    c.cut = BF_CUT_STATES;
    compare("gpt2, states", c);
    c.model = llama_text;
    compare("llama, states", c);
    c.cut = BF_CUT_LOCAL;
    c.start = "kept";
    compare("llama, local", c);
    c.cut = BF_CUT_MYOPIC;
    compare("llama, myopic", c);
    c.cut = BF_CUT_NONE;
    compare("llama", c);
    c.objective = BF_OBJECTIVE_REAL;
    compare("llama, real", c);
    c.objective = BF_OBJECTIVE_HEADS;
    c.heads = 3;
    compare("llama, heads", c);
}

/* ---- whole runs ---- */

/* A tile's width and more than a tile of rows. */
static bf_train_config mixed(void)
{
    bf_train_config c = plain();
    c.model = "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 40, "
              "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 52, "
              "\"vocab_size\": 17, \"max_position_embeddings\": 128}";
    c.bf16 = true;
    return c;
}

static void train__threads_and_interruptions_do_not_change_a_bit(void **state)
{
    scratch *s = *state;
    if (!has_bf16())
        skip();
    bf_data *data = open_data(s, 5, 128, 1);
    bf_train_config c = mixed();
    bf_error err;
    c.threads = 1;
    run(folder(s, "one"), &c, data, false);
    for (c.threads = 2; c.threads < 6; c.threads += 3) {
        run(folder(s, c.threads == 2 ? "two" : "five"), &c, data, false);
        assert_same(folder(s, "one"), folder(s, c.threads == 2 ? "two" : "five"));
    }
    c.threads = 2;
    for (c.until = 1; c.until < STEPS; c.until += 3)
        assert_int_equal(fails(folder(s, "parts"), &c, data, true, &err), BF_EINTERRUPTED);
    c.until = 0;
    run(folder(s, "parts"), &c, data, true);
    assert_same(folder(s, "one"), folder(s, "parts"));
    c.bf16 = false;
    run(folder(s, "f32"), &c, data, false);
    bf_buf a = read_part(folder(s, "one"), "checkpoint.safetensors");
    bf_buf b = read_part(folder(s, "f32"), "checkpoint.safetensors");
    assert_true(a.len != b.len || memcmp(a.data, b.data, a.len) != 0);
    bf_buf_free(&a);
    bf_buf_free(&b);
    bf_data_free(data);
}

static void joint_run(scratch *s, const char *name, size_t threads)
{
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = mixed();
    c.objective = BF_OBJECTIVE_JOINT;
    c.joint = (bf_joint){.n = 2, .prefixes = 3, .samples = 4, .keep = 2, .weight = 1, .context = 8};
    c.threads = threads;
    run(folder(s, name), &c, data, false);
    bf_data_free(data);
}

/* Sequences of another length stand where the batch stood. */
static void train__joint_losses_have_the_same_bits(void **state)
{
    if (!has_bf16())
        skip();
    joint_run(*state, "one", 1);
    joint_run(*state, "two", 2);
    assert_same(folder(*state, "one"), folder(*state, "two"));
}

/* The loss falls from 2.8 to 1.1 nats. A step's gradient is off by less than 1 % (above), without a direction
 * of its own, so that the runs stay together: within 0.5 % of a nat at every step (they were 0.06 % apart), a
 * tenth of that on average. Batches differ by 0.2. */
static void train__follows_f32(void **state)
{
    scratch *s = *state;
    if (!has_bf16())
        skip();
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = mixed();
    double mean[2] = {0, 0};
    c.steps = 200;
    c.rate = 3e-3;
    c.accumulate = 1;
    c.checkpoint = 200;
    run(folder(s, "bf16"), &c, data, false);
    c.bf16 = false;
    run(folder(s, "f32"), &c, data, false);
    bf_buf a = read_part(folder(s, "bf16"), "log.jsonl"), b = read_part(folder(s, "f32"), "log.jsonl");
    const char *x = a.data, *y = b.data;
    size_t lines = 0;
    for (; *x && *y; x = strchr(x, '\n') + 1, y = strchr(y, '\n') + 1, lines++) {
        assert_close(field(x, "\"loss"), field(y, "\"loss"), 5e-3);
        mean[0] += field(x, "\"loss") / 200;
        mean[1] += field(y, "\"loss") / 200;
    }
    assert_int_equal(lines, 200);
    assert_close(mean[0], mean[1], 5e-4);
    assert_true(field(a.data, "\"loss") > 2.7 && mean[0] < 1.6);
    bf_buf_free(&a);
    bf_buf_free(&b);
    bf_data_free(data);
}

/* ---- plans ---- */

static void train_check__counts_what_is_rounded(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = mixed();
    bf_train_plan plan, without;
    bf_error err = {0};
    const bf_code rc = bf_train_check(&plan, &c, data, &err);
    if (!bf_bf16_available()) {
        assert_int_equal(rc, BF_EUNSUPPORTED);
        assert_non_null(strstr(err.msg, "field \"precision\" is bf16, this processor has no bfloat16"));
        assert_int_equal(fails(folder(s, "refused"), &c, data, false, &err), BF_EUNSUPPORTED);
        assert_int_equal(access(folder(s, "refused"), F_OK), -1);
    }
    c.f64 = true;
    assert_int_equal(bf_train_check(&without, &c, data, &err), BF_EARG);
    assert_non_null(strstr(err.msg, "\"bf16\" and \"f64\" are both true"));
    c.f64 = c.bf16 = false;
    assert_int_equal(bf_train_check(&without, &c, data, &err), BF_OK);
    if (!rc) { /* weights; per row and layer normed twice, z, hidden */
        const size_t values = plan.parameters + B * T * 2 * (3 * 40 + 52);
        assert_true(plan.bytes > without.bytes + 2 * values && plan.bytes < without.bytes + 8 * values);
    }
    bf_data_free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(train_batch__gradients_are_near_those_in_float),
        TEST(train__threads_and_interruptions_do_not_change_a_bit),
        TEST(train__joint_losses_have_the_same_bits),
        TEST(train__follows_f32),
        TEST(train_check__counts_what_is_rounded),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
