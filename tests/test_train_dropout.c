/* test_train_dropout.c -- dropout: how much is dropped, that it is a function of its keys alone, and where
 * it is not at work. Gradients under it are PyTorch's: test_train_grad.c. */
#include "tests/train_golden.h"
#include "tests/train_run.h"

#include "tests/close.h"

static const bf_dropout some = {0.1, 0.3, 0.2};

/* A training's state for 16 sequences of 64 that drops `p` everywhere. */
typedef struct {
    bf_train_config config;
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f64 *t;
} dropper;

static void dropper_open(dropper *d, double p)
{
    bf_error err = {0};
    *d = (dropper){.config = {.model = model_text, .seed = 3, .dropout = {p, p, p}}};
    if (bf_train_layout_new(&d->layout, &d->config, &err) || bf_pool_new(&d->pool, 1, &err) ||
        bf_train_new_f64(&d->t, &d->config, &d->layout, d->pool, 16, 64, &err))
        fail_msg("%s", err.msg);
    d->t->dropping = true;
}

static void dropper_close(dropper *d)
{
    bf_train_free_f64(d->t);
    bf_pool_free(d->pool);
    bf_train_layout_free(&d->layout);
}

/* ---- what is dropped ---- */

/* n values are 0 or 1/(1-p); their mean is 1 within five deviations sqrt(p/(1-p)/n). */
static void check_factors(const double *x, size_t n, double p)
{
    double sum = 0;
    for (size_t k = 0; k < n; k++) {
        if (x[k] != 0)
            assert_close(x[k], 1 / (1 - p), 1e-15);
        sum += x[k];
    }
    assert_close(sum / (double)n, 1, 5 * sqrt(p / (1 - p) / (double)n));
}

static void drop__keeps_the_mean(void **state)
{
    static const double share[] = {0.05, 0.3, 0.9};
    enum { ROWS = 16 * 64, D = 12 };
    static double ones[ROWS * D], factors[ROWS * D];
    (void)state;
    for (size_t k = 0; k < ROWS * D; k++)
        ones[k] = 1;
    for (size_t k = 0; k < 3; k++) {
        dropper d;
        dropper_open(&d, share[k]);
        for (int place = 0; place < 4; place++) {
            bf_train_drop_f64(d.t, (bf_drop)place, 1, factors, ones, 0, ROWS);
            check_factors(factors, ROWS * D, share[k]);
        }
        dropper_close(&d);
    }
}

/* Of attention's weights those that are read have factors, and all others 0. */
static void drop__weights_that_are_read(void **state)
{
    enum { LENGTH = 64 };
    static double factor[LENGTH * LENGTH], read[LENGTH * LENGTH];
    const bf_mask mask = {.window = 9, .sink = 2};
    dropper d;
    size_t n = 0;
    (void)state;
    dropper_open(&d, 0.25);
    for (size_t s = 0; s < 16; s++) {
        bf_train_factors_f64(d.t, 1, s, 2, &mask, factor);
        n = 0;
        for (size_t i = 0; i < LENGTH; i++)
            for (size_t j = 0; j < LENGTH; j++) {
                if (j <= i && (j < 2 || j + 9 > i))
                    read[n++] = factor[i * LENGTH + j];
                else
                    assert_true(factor[i * LENGTH + j] == 0);
            }
        check_factors(read, n, 0.25);
    }
    assert_true(n > 600);
    dropper_close(&d);
}

enum { KEYS = 7 };

/* One row's factors, with one of its keys moved by one (KEYS: none). */
static void row_factors(dropper *d, size_t moved, double *out)
{
    static double all[64 * 64];
    const bf_mask mask = {.bidirectional = true};
    const size_t block = 1 + (moved == 0), s = 3 + (moved == 1), h = 1 + (moved == 2), i = 5 + (moved == 3);
    d->t->number = 8 + (moved == 4);
    d->t->sequence = moved == 5;
    d->config.seed = 3 + (moved == 6);
    bf_train_factors_f64(d->t, block, s, h, &mask, all);
    memcpy(out, all + i * 64, 64 * sizeof *out);
}

/* At 1/2, two rows of 64 that do not depend on each other are equal once in 2^64. */
static void drop__every_key_counts(void **state)
{
    double row[64], other[64];
    dropper d;
    (void)state;
    dropper_open(&d, 0.5);
    row_factors(&d, KEYS, row);
    row_factors(&d, KEYS, other);
    assert_memory_equal(row, other, sizeof row);
    for (size_t k = 0; k < KEYS; k++) {
        row_factors(&d, k, other);
        assert_memory_not_equal(row, other, sizeof row);
    }
    dropper_close(&d);
}

/* A sequence's factors go with it, whatever stands beside it. */
static void drop__goes_with_the_sequence(void **state)
{
    double here[12], there[12], ones[12];
    static double x[16 * 64 * 12];
    dropper d;
    (void)state;
    for (size_t k = 0; k < 12; k++)
        ones[k] = 1;
    dropper_open(&d, 0.5);
    for (size_t k = 0; k < 12; k++)
        x[(7 * 64 + 9) * 12 + k] = x[9 * 12 + k] = ones[k];
    bf_train_drop_f64(d.t, BF_DROP_MLP_OUT, 0, x, x, 7 * 64 + 9, 1);
    memcpy(here, x + (7 * 64 + 9) * 12, sizeof here);
    d.t->sequence = 7;
    bf_train_drop_f64(d.t, BF_DROP_MLP_OUT, 0, x, x, 9, 1);
    memcpy(there, x + 9 * 12, sizeof there);
    assert_memory_equal(here, there, sizeof here);
    assert_memory_not_equal(here, ones, sizeof here);
    dropper_close(&d);
}

/* ---- where it is at work ---- */

/* A golden's loss and gradient under another dropout. */
static double golden_loss(golden *g, bf_dropout dropout, bool learn)
{
    const bf_batch batch = golden_batch(g, 0);
    double loss;
    g->config.dropout = dropout;
    g->t->add = false;
    bf_train_batch_f64(&loss, g->t, &batch, learn, 1);
    return loss;
}

static const char *const cases[] = {"dropout",       "dropout_sink",  "dropout_states",
                                    "dropout_local", "dropout_heads", "dropout_real"};

static void drop__is_off_where_nothing_is_learnt(void **state)
{
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        golden g;
        golden_open(&g, cases[k], 1);
        const bf_dropout own = g.config.dropout;
        const double dropped = golden_loss(&g, own, true), measured = golden_loss(&g, own, false);
        assert_true(measured == golden_loss(&g, (bf_dropout){0}, true));
        assert_true(fabs(dropped - measured) > 1e-3);
        golden_close(&g);
    }
}

/* A share that no draw falls below takes every step of dropout and changes nothing but rounding. */
static void drop__of_nothing_changes_nothing(void **state)
{
    const bf_dropout nothing = {1e-300, 1e-300, 1e-300};
    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        golden g;
        golden_open(&g, cases[k], 1);
        const size_t n = g.layout.values;
        double *grad = malloc(n * sizeof *grad);
        assert_non_null(grad);
        const double plain_loss = golden_loss(&g, (bf_dropout){0}, true);
        memcpy(grad, g.t->grad, n * sizeof *grad);
        assert_close(golden_loss(&g, nothing, true), plain_loss, 1e-12);
        for (size_t v = 0; v < n; v++)
            assert_close(g.t->grad[v], grad[v], 1e-12);
        free(grad);
        golden_close(&g);
    }
}

/* ---- whole trainings ---- */

static void train__dropout_is_the_same_for_any_number_of_threads(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, 5, 128, 1); /* more than two tiles of rows */
    bf_train_config c = plain();
    c.dropout = some;
    for (c.threads = 1; c.threads < 4; c.threads += 2)
        run(folder(s, c.threads == 1 ? "one" : "three"), &c, data, false);
    assert_same(folder(s, "one"), folder(s, "three"));
    bf_data_free(data);
}

static void train__dropout_resumes_to_the_same_bits(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err;
    c.dropout = some;
    c.objective = BF_OBJECTIVE_JOINT;
    c.joint = (bf_joint){.n = 3, .prefixes = 2, .samples = 5, .keep = 2, .weight = 1, .context = 7};
    run(folder(s, "whole"), &c, data, false);
    for (c.until = 2; c.until < STEPS; c.until += 4)
        assert_int_equal(fails(folder(s, "parts"), &c, data, true, &err), BF_EINTERRUPTED);
    c.until = 0;
    run(folder(s, "parts"), &c, data, true);
    assert_same(folder(s, "whole"), folder(s, "parts"));
    bf_data_free(data);
}

static void train__refuses_what_it_cannot_drop(void **state)
{
    static const struct {
        bf_dropout dropout;
        const char *fields, *words;
        bf_code code;
    } bad[] = {
        {{1, 0, 0}, "", "dropout.embedding", BF_EARG},
        {{0, -0.1, 0}, "", "dropout.attention", BF_EARG},
        {{0, 0, NAN}, "", "dropout.residual", BF_EARG},
        {{0, 0, 0.1}, ", \"resid_pdrop\": 0.2",
         "\"resid_pdrop\" is the number 0.2, wanted dropout.residual, 0.1", BF_EARG},
        {{0, 0, 0}, ", \"embd_pdrop\": 0.1", "\"embd_pdrop\" is the number 0.1", BF_EARG},
        {{0, 0.1, 0}, ", \"backflow\": {\"mask\": {\"segment\": 8, \"compressive\": 0.5}}",
         "dropout.attention", BF_EUNSUPPORTED},
    };
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char model[600];
        bf_train_config c = plain();
        bf_error err = {0};
        snprintf(model, sizeof model, "%.*s%s}", (int)strlen(model_text) - 1, model_text, bad[k].fields);
        c.model = model;
        c.dropout = bad[k].dropout;
        assert_int_equal(fails(folder(s, "refused"), &c, data, false, &err), bad[k].code);
        if (!strstr(err.msg, bad[k].words))
            fail_msg("\"%s\" does not say %s", err.msg, bad[k].words);
    }
    bf_data_free(data);
}

/* What a finished model's config says of dropout does not keep measurements from laying it out. */
static void layout__reads_models_that_learnt_with_dropout(void **state)
{
    char model[600];
    bf_train_layout layout = {0};
    bf_error err = {0};
    (void)state;
    snprintf(model, sizeof model, "%.*s, \"attn_pdrop\": 0.1}", (int)strlen(model_text) - 1, model_text);
    const bf_train_config c = {.model = model};
    if (bf_train_layout_new(&layout, &c, &err))
        fail_msg("%s", err.msg);
    bf_train_layout_free(&layout);
}

/* Everything else works beside a compressive memory. */
static void train__drops_beside_a_compressive_memory(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    char model[600];
    snprintf(model, sizeof model, "%.*s, \"backflow\": {\"mask\": {\"segment\": 8, \"compressive\": 0.5}}}",
             (int)strlen(model_text) - 1, model_text);
    c.model = model;
    c.dropout = (bf_dropout){.embedding = 0.1, .residual = 0.2};
    run(folder(s, "memory"), &c, data, false);
    bf_data_free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drop__keeps_the_mean),
        cmocka_unit_test(drop__weights_that_are_read),
        cmocka_unit_test(drop__every_key_counts),
        cmocka_unit_test(drop__goes_with_the_sequence),
        cmocka_unit_test(drop__is_off_where_nothing_is_learnt),
        cmocka_unit_test(drop__of_nothing_changes_nothing),
        TEST(train__dropout_is_the_same_for_any_number_of_threads),
        TEST(train__dropout_resumes_to_the_same_bits),
        TEST(train__refuses_what_it_cannot_drop),
        cmocka_unit_test(layout__reads_models_that_learnt_with_dropout),
        TEST(train__drops_beside_a_compressive_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
