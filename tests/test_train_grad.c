/* test_train_grad.c -- every weight's gradient, against PyTorch's in float64 (tests/goldens_train) and
 * against central differences.
 *
 * Tolerance: 1e-9 of a tensor's largest gradient; both sides round at 1e-16. */
#include "tests/train_golden.h"

#include <math.h>

#include "tests/close.h"

static void check_gradients(const char *name, size_t threads)
{
    golden g;
    golden_open(&g, name, threads);
    const bf_batch batch = golden_batch(&g, 0);
    double loss;
    assert_int_equal(bf_train_learn_f64(&loss, g.t, &batch, 1, NULL), BF_OK);
    assert_close(loss, golden_value(golden_tensor(&g, "", "loss"), 0), 1e-12);
    for (size_t k = 0; k < g.layout.n; k++) {
        const bf_train_tensor *w = &g.layout.tensor[k];
        const bf_st_tensor *want = golden_tensor(&g, "grad.", w->name);
        double largest = 0;
        for (size_t v = 0; v < w->count; v++)
            largest = fmax(largest, fabs(golden_value(want, v)));
        for (size_t v = 0; v < w->count; v++)
            if (!(fabs(g.t->grad[w->at + v] - golden_value(want, v)) <= 1e-9 * largest + 1e-15))
                fail_msg("%s: gradient %zu of %s is %.17g, wanted %.17g", name, v, w->name,
                         g.t->grad[w->at + v], golden_value(want, v));
    }
    golden_close(&g);
}

#define GRADIENTS(name)                                                                            \
    static void train_batch__gradients_are_pytorchs_##name(void **state)                           \
    {                                                                                              \
        (void)state;                                                                               \
        check_gradients(#name, 2);                                                                 \
    }

#define CASES(each)                                                                                \
    each(gpt2) each(llama) each(mistral) each(qwen2) each(myopic) each(states) each(local)         \
    each(heads) each(sink) each(segment) each(segment_cut) each(compressive)                       \
    each(compressive_learnt) each(compressive_delta) each(compressive_cut)                         \
    each(compressive_states) each(encoder) each(real) each(real_myopic) each(dropout)              \
    each(dropout_sink) each(dropout_states) each(dropout_local) each(dropout_heads)                \
    each(dropout_real) each(joint) each(joint_alone) each(joint_segment) each(joint_compressive)   \
    each(joint_states) each(joint_local)

CASES(GRADIENTS)

/* Weights of one tensor, one after the other, moved by h. */
static double difference(golden *g, const bf_batch *batch, double *value)
{
    const double h = 1e-5, old = *value;
    double up, down;
    *value = old + h;
    bf_train_batch_f64(&up, g->t, batch, false, 1);
    *value = old - h;
    bf_train_batch_f64(&down, g->t, batch, false, 1);
    *value = old;
    return (up - down) / (2 * h);
}

/* Where nothing is cut the gradient is the slope of the loss. */
static void train_batch__gradients_are_central_differences(void **state)
{
    static const char *const name[] = {"gpt2", "qwen2", "heads", "segment", "compressive", "compressive_learnt",
                                       "compressive_delta", "encoder", "real"};
    (void)state;
    for (size_t n = 0; n < sizeof name / sizeof *name; n++) {
        golden g;
        golden_open(&g, name[n], 1);
        const bf_batch batch = golden_batch(&g, 1);
        double loss;
        bf_train_batch_f64(&loss, g.t, &batch, true, 1);
        for (size_t k = 0; k < g.layout.n; k++) {
            const size_t at = g.layout.tensor[k].at + (7 * k + 3) % g.layout.tensor[k].count;
            assert_close(g.t->grad[at], difference(&g, &batch, &g.t->param[at]), 2e-8);
        }
        golden_close(&g);
    }
}

/* Two halves of a gradient add up to the mean of both batches'. */
static void train_batch__accumulates(void **state)
{
    golden g;
    (void)state;
    golden_open(&g, "gpt2", 2);
    const size_t n = g.layout.values;
    double *sum = calloc(n, sizeof *sum), loss;
    assert_non_null(sum);
    for (size_t k = 0; k < 2; k++) {
        const bf_batch batch = golden_batch(&g, k);
        bf_train_batch_f64(&loss, g.t, &batch, true, 1);
        for (size_t v = 0; v < n; v++)
            sum[v] += 0.5 * g.t->grad[v];
    }
    for (size_t k = 0; k < 2; k++) {
        const bf_batch batch = golden_batch(&g, k);
        g.t->add = k > 0;
        bf_train_batch_f64(&loss, g.t, &batch, true, 0.5);
    }
    for (size_t v = 0; v < n; v++)
        assert_close(g.t->grad[v], sum[v], 1e-14);
    free(sum);
    golden_close(&g);
}

/* A random model with rows for several tiles, and random batches. */
typedef struct {
    bf_train_config config;
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f64 *t;
    bf_batch batch;
    int32_t *input, *target;
} many;

static void many_open(many *m, const char *model, size_t B, size_t T, size_t threads)
{
    bf_error err = {0};
    *m = (many){.config = {.model = model, .heads = 2, .objective = BF_OBJECTIVE_HEADS}};
    bf_gemm_init();
    if (bf_train_layout_new(&m->layout, &m->config, &err) || bf_pool_new(&m->pool, threads, &err) ||
        bf_train_new_f64(&m->t, &m->config, &m->layout, m->pool, B, T, &err))
        fail_msg("%s", err.msg);
    bf_train_first(m->t->param, BF_F64, &m->layout, 2, 9);
    m->input = malloc(B * T * sizeof *m->input);
    m->target = malloc(2 * B * T * sizeof *m->target);
    assert_true(m->input && m->target);
    srand(4);
    for (size_t r = 0; r < B * T; r++) {
        m->input[r] = rand() % 19;
        m->target[2 * r] = rand() % 19;
        m->target[2 * r + 1] = rand() % 19;
    }
    m->batch = (bf_batch){.B = B, .T = T, .heads = 2, .input = m->input, .target = m->target};
}

static void many_close(many *m)
{
    bf_train_free_f64(m->t);
    bf_pool_free(m->pool);
    bf_train_layout_free(&m->layout);
    free(m->input);
    free(m->target);
}

/* The gradient of many sequences is the mean of each one's, whatever tiles and chunks of logits cut them. */
static void check_sequences(const char *model)
{
    enum { SEQUENCES = 11, LENGTH = 120 };
    many all, one;
    double whole, part;
    many_open(&all, model, SEQUENCES, LENGTH, 2);
    many_open(&one, model, 1, LENGTH, 1);
    assert_true(all.t->tiles > 2);
    all.t->chunk = BF_TRAIN_TILE;
    bf_train_batch_f64(&whole, all.t, &all.batch, true, 1);
    double mean = 0;
    for (size_t s = 0; s < SEQUENCES; s++) {
        bf_batch batch = one.batch;
        batch.input = all.input + s * LENGTH;
        batch.target = all.target + 2 * s * LENGTH;
        one.t->add = s > 0;
        bf_train_batch_f64(&part, one.t, &batch, true, 1.0 / SEQUENCES);
        mean += part / SEQUENCES;
    }
    assert_close(whole, mean, 1e-12);
    for (size_t k = 0; k < all.layout.values; k++)
        assert_close(all.t->grad[k], one.t->grad[k], 1e-13);
    many_close(&all);
    many_close(&one);
}

static void train_batch__tiles_and_chunks_add_up(void **state)
{
    (void)state;
    check_sequences("{\"model_type\": \"gpt2\", \"n_layer\": 2, \"n_embd\": 12, \"n_head\": 3, "
                    "\"vocab_size\": 19, \"n_positions\": 128}");
    check_sequences("{\"model_type\": \"qwen2\", \"num_hidden_layers\": 2, \"hidden_size\": 12, "
                    "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"intermediate_size\": 20, "
                    "\"vocab_size\": 19, \"max_position_embeddings\": 128, \"head_dim\": 4}");
}

/* No loss anywhere: no gradient, and nothing that is not a number. */
static void train_batch__no_targets_no_gradient(void **state)
{
    golden g;
    (void)state;
    golden_open(&g, "llama", 1);
    bf_batch batch = golden_batch(&g, 0);
    int32_t *none = malloc(g.B * g.T * sizeof *none);
    assert_non_null(none);
    for (size_t r = 0; r < g.B * g.T; r++)
        none[r] = -1;
    batch.target = none;
    double loss;
    bf_train_batch_f64(&loss, g.t, &batch, true, 1);
    assert_true(loss == 0);
    for (size_t v = 0; v < g.layout.values; v++)
        assert_true(g.t->grad[v] == 0);
    free(none);
    golden_close(&g);
}

/* 200 steps of AdamW with warm-up, cosine, decay and clipping, from the same weights. */
static void check_losses(const char *name)
{
    golden g;
    golden_open(&g, name, 2);
    bf_json *json = golden_json(&g, "train");
    assert_non_null(json);
    g.config.steps = (size_t)golden_number(json, "steps");
    g.config.warmup = (size_t)golden_number(json, "warmup");
    g.config.rate = golden_number(json, "rate");
    g.config.least_rate = golden_number(json, "least_rate");
    g.config.decay = golden_number(json, "decay");
    g.config.beta1 = golden_number(json, "beta1");
    g.config.beta2 = golden_number(json, "beta2");
    g.config.epsilon = golden_number(json, "epsilon");
    g.config.clip = golden_number(json, "clip");
    bf_json_free(json);
    const bf_st_tensor *want = golden_tensor(&g, "", "losses");
    assert_int_equal(want->count, g.config.steps);
    for (size_t step = 0; step < g.config.steps; step++) {
        const bf_batch batch = golden_batch(&g, step % g.batches);
        double loss;
        bf_train_batch_f64(&loss, g.t, &batch, true, 1);
        assert_close(loss, golden_value(want, step), 1e-8);
        const double norm = bf_train_grad_norm_f64(g.t), clip = g.config.clip;
        const double scale = norm > clip ? clip / (norm + 1e-6) : 1;
        bf_train_adamw_f64(g.t, bf_train_rate(&g.config, step), scale, step + 1);
    }
    golden_close(&g);
}

static void train_adamw__losses_are_pytorchs_gpt2(void **state)
{
    (void)state;
    check_losses("gpt2");
}

static void train_adamw__losses_are_pytorchs_llama(void **state)
{
    (void)state;
    check_losses("llama");
}

static void train_adamw__losses_are_pytorchs_compressive_delta(void **state)
{
    (void)state;
    check_losses("compressive_delta");
}

#define TEST(name) cmocka_unit_test(train_batch__gradients_are_pytorchs_##name),

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASES(TEST) cmocka_unit_test(train_batch__gradients_are_central_differences),
        cmocka_unit_test(train_batch__accumulates),
        cmocka_unit_test(train_batch__tiles_and_chunks_add_up),
        cmocka_unit_test(train_batch__no_targets_no_gradient),
        cmocka_unit_test(train_adamw__losses_are_pytorchs_gpt2),
        cmocka_unit_test(train_adamw__losses_are_pytorchs_llama),
        cmocka_unit_test(train_adamw__losses_are_pytorchs_compressive_delta),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
