/* test_train_joint.c -- the joint loss of completions: what is drawn, which are kept, what they teach. */
#include "tests/train_golden.h"
#include "tests/train_run.h"

#include "tests/close.h"

/* A golden model with another objective; batches of its own. */
static void joint_open(golden *g, const bf_joint *joint)
{
    golden_open(g, "llama", 2);
    g->config.objective = BF_OBJECTIVE_JOINT;
    g->config.joint = *joint;
    g->config.seed = 5;
}

static double joint_loss(golden *g, uint64_t number)
{
    const bf_batch batch = golden_batch(g, 0);
    bf_error err = {0};
    double loss = NAN;
    g->t->add = false;
    g->t->number = number;
    if (bf_train_joint_f64(&loss, g->t, &batch, 1, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(g->t->B, g->B);
    assert_int_equal(g->t->T, g->T);
    return loss;
}

/* -log p of each token at the end of `context` tokens, by the loss of as many targets. */
static void next_losses(golden *g, double loss[13], const int32_t *tokens, size_t context)
{
    int32_t input[64] = {0}, target[64];
    const size_t n = g->B * g->T;
    assert_true(n <= 64);
    memcpy(input, tokens, context * sizeof *tokens);
    for (size_t v = 0; v < 13; v++) {
        for (size_t r = 0; r < n; r++)
            target[r] = -1;
        target[context - 1] = (int32_t)v;
        const bf_batch batch = {.B = g->B, .T = g->T, .heads = 1, .input = input, .target = target};
        bf_train_batch_f64(&loss[v], g->t, &batch, false, 1);
    }
}

/* With a single place for prefixes, one-token completions all kept have the loss E[-log p]: the entropy. */
static void joint__draws_follow_the_model(void **state)
{
    const bf_joint joint = {.n = 1, .prefixes = 1, .samples = 4000, .keep = 4000, .random = true, .weight = 1,
                            .context = 11};
    golden g;
    double loss[13], mean = 0, variance = 0;
    (void)state;
    joint_open(&g, &joint);
    int32_t same[36];
    for (size_t k = 0; k < 36; k++)
        same[k] = 4;
    bf_batch batch = golden_batch(&g, 0);
    batch.input = same; /* every prefix is this one */
    next_losses(&g, loss, same, joint.context);
    for (size_t v = 0; v < 13; v++)
        mean += exp(-loss[v]) * loss[v];
    for (size_t v = 0; v < 13; v++)
        variance += exp(-loss[v]) * (loss[v] - mean) * (loss[v] - mean);
    double got;
    assert_int_equal(bf_train_joint_f64(&got, g.t, &batch, 1, NULL), BF_OK);
    assert_close(got, mean, 4 * sqrt(variance / 4000));
    assert_true(mean > 0.1);
    golden_close(&g);
}

/* Of the same draws, the best have a smaller loss than any, and keeping all makes no difference. */
static void joint__best_are_best(void **state)
{
    bf_joint joint = {.n = 3, .prefixes = 5, .samples = 9, .keep = 9, .weight = 1, .context = 4};
    double best, any, all, all_any;
    golden g;
    (void)state;
    joint_open(&g, &joint);
    all = joint_loss(&g, 7);
    g.config.joint.random = true;
    all_any = joint_loss(&g, 7);
    g.config.joint.keep = 2;
    any = joint_loss(&g, 7);
    g.config.joint.random = false;
    best = joint_loss(&g, 7);
    assert_close(all, all_any, 1e-12);
    assert_true(best < any);
    assert_true(best < all);
    assert_true(joint_loss(&g, 7) == best);
    assert_true(joint_loss(&g, 8) != best);
    golden_close(&g);
}

/* Weight and share scale loss and gradient; groups of sequences add up. */
static void joint__gradient_is_that_of_the_completions(void **state)
{
    bf_joint joint = {.n = 2, .prefixes = 3, .samples = 30, .keep = 30, .weight = 1, .context = 3};
    golden g;
    (void)state;
    joint_open(&g, &joint);
    const double loss = joint_loss(&g, 1);
    double *grad = malloc(g.layout.values * sizeof *grad);
    assert_non_null(grad);
    memcpy(grad, g.t->grad, g.layout.values * sizeof *grad);
    g.config.joint.weight = 3;
    assert_close(joint_loss(&g, 1), 3 * loss, 1e-12);
    for (size_t k = 0; k < g.layout.values; k++)
        assert_close(g.t->grad[k], 3 * grad[k], 1e-12);
    free(grad);
    golden_close(&g);
}

/* Mean entropy of the next token over the prefixes of a batch. */
static double entropy(golden *g)
{
    const bf_batch batch = golden_batch(g, 0);
    double sum = 0;
    for (size_t b = 0; b < g->B; b++) {
        double loss[13];
        next_losses(g, loss, batch.input + b * g->T, 6);
        for (size_t v = 0; v < 13; v++)
            sum += exp(-loss[v]) * loss[v];
    }
    return sum / (double)g->B;
}

static double entropy_after(bool random)
{
    const bf_joint joint = {.n = 3, .prefixes = 4, .samples = 32, .keep = 4, .random = random, .weight = 1,
                            .context = 6};
    golden g;
    joint_open(&g, &joint);
    g.config.beta1 = 0.9;
    g.config.beta2 = 0.95;
    g.config.epsilon = 1e-8;
    for (size_t step = 0; step < 30; step++) {
        joint_loss(&g, step);
        bf_train_adamw_f64(g.t, 2e-2, 1, step + 1);
    }
    const double out = entropy(&g);
    golden_close(&g);
    return out;
}

/* Learning from the likeliest of one's own completions makes them likelier still. */
static void joint__best_of_many_collapses_entropy(void **state)
{
    golden g;
    (void)state;
    golden_open(&g, "llama", 1);
    const double before = entropy(&g);
    golden_close(&g);
    const double best = entropy_after(false), any = entropy_after(true);
    assert_true(best < 0.5 * before);
    assert_true(best < 0.7 * any);
}

/* ---- one position at a time ---- */

/* Logits of every row, written out. */
static void logits_of(const golden *g, double *out)
{
    const bf_train_f64 *t = g->t;
    const size_t D = t->c->D, n = t->c->V;
    double row[64], mean, rstd;
    assert_true(D <= 64 && !t->head.in_major);
    for (size_t r = 0; r < t->rows; r++) {
        bf_norm_f64(row, &mean, &rstd, t->last + r * D, t->final_w, t->final_b, t->c->norm, t->c->norm_eps,
                    D);
        for (size_t v = 0; v < n; v++) {
            out[r * n + v] = 0;
            for (size_t d = 0; d < D; d++)
                out[r * n + v] += row[d] * t->head.w[v * t->head.ld + d];
        }
    }
}

/* Positions from `from` on, each by a pass of its own, give the logits of one pass of all. 1e-12 of the
 * largest: sums of 8 to 20 terms, rounded at 1e-16 in another order. */
static void check_single(const char *name, size_t from)
{
    golden g;
    golden_open(&g, name, 2);
    const bf_batch batch = golden_batch(&g, 0);
    const size_t rows = g.t->rows, n = rows * g.t->c->V;
    double *whole = malloc(n * sizeof *whole), *single = malloc(n * sizeof *single), largest = 0;
    assert_true(whole && single);
    bf_train_forward_f64(g.t, &batch, g.t->c->L, false);
    logits_of(&g, whole);
    for (size_t r = 0; r < rows; r++)
        for (size_t d = 0; d < g.t->c->D && r % g.T >= from; d++)
            g.t->last[r * g.t->c->D + d] = NAN; /* what is not computed again shows */
    for (size_t l = 0; l < g.t->c->L; l++) {
        const size_t width = g.t->block[l].qkv.out;
        for (size_t r = 0; r < rows; r++)
            for (size_t k = 0; k < width && r % g.T >= from; k++)
                g.t->acts[l].qkv[r * width + k] = NAN; /* and what is read too early */
    }
    for (size_t j = from; j < g.T; j++) {
        bf_train_single_f64(g.t, j);
        bf_train_forward_f64(g.t, &batch, g.t->c->L, false);
    }
    bf_train_shape_f64(g.t, g.B, g.T);
    logits_of(&g, single);
    for (size_t k = 0; k < n; k++)
        largest = fmax(largest, fabs(whole[k]));
    for (size_t k = 0; k < n; k++)
        if (!(fabs(single[k] - whole[k]) <= 1e-12 * largest))
            fail_msg("%s: logit %zu is %.17g, wanted %.17g", name, k, single[k], whole[k]);
    free(whole);
    free(single);
    golden_close(&g);
}

static void forward__position_by_position_is_the_whole_pass(void **state)
{
    static const char *const name[] = {"gpt2", "llama", "mistral", "qwen2", "myopic", "states",
                                       "sink", "segment", "segment_cut", "compressive",
                                       "compressive_learnt", "compressive_delta"};
    (void)state;
    for (size_t k = 0; k < sizeof name / sizeof *name; k++) {
        check_single(name[k], 0);
        check_single(name[k], 7);
    }
}

/* Rows for 64 completions at a time, of 3 prefixes: groups end within a prefix. */
static void train__completions_are_the_same_for_any_number_of_threads(void **state)
{
    static const char *const name[] = {"one", "two", "five"};
    static const size_t threads[] = {1, 2, 5};
    scratch *s = *state;
    bf_data *data = open_data(s, 5, 128, 1);
    bf_train_config c = plain();
    c.objective = BF_OBJECTIVE_JOINT;
    c.joint = (bf_joint){.n = 4, .prefixes = 3, .samples = 50, .keep = 20, .weight = 1, .context = 6};
    for (size_t k = 0; k < 3; k++) {
        c.threads = threads[k];
        run(folder(s, name[k]), &c, data, false);
    }
    assert_same(folder(s, "one"), folder(s, "two"));
    assert_same(folder(s, "one"), folder(s, "five"));
    bf_data_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joint__draws_follow_the_model),
        cmocka_unit_test(joint__best_are_best),
        cmocka_unit_test(joint__gradient_is_that_of_the_completions),
        cmocka_unit_test(joint__best_of_many_collapses_entropy),
        cmocka_unit_test(forward__position_by_position_is_the_whole_pass),
        cmocka_unit_test_setup_teardown(train__completions_are_the_same_for_any_number_of_threads,
                                        scratch_open, remove_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
