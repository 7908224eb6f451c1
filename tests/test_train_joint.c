/* test_train_joint.c -- the joint loss of completions: what is drawn, which are kept, what they teach. */
#include "tests/train_golden.h"

#include <math.h>

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joint__draws_follow_the_model),
        cmocka_unit_test(joint__best_are_best),
        cmocka_unit_test(joint__gradient_is_that_of_the_completions),
        cmocka_unit_test(joint__best_of_many_collapses_entropy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
