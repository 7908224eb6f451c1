/* What a bf16 record says of its own error is what an f32 record beside it shows. */
#include "tests/trace_model.h"

enum { N = 140 };

/* The losses that the words end with, "(35,105)". */
static size_t losses_of(size_t *losses, const char *words)
{
    size_t n = 0;
    const char *at = strrchr(words, '(');
    assert_non_null(at);
    for (char *end; *at != ')'; at = end, n++) {
        assert_true(n < 8);
        losses[n] = strtoul(at + 1, &end, 10);
    }
    return n;
}

/* Largest sum |a - b| / sum b over the layers of the query and those losses; the records hold all of
 * them, or one row for a sum. */
static double error_between(const bf_record *a, const bf_record *b, const bf_query *query,
                            const size_t *losses, size_t n)
{
    const flow_axes x = axes_of(tensor_of(a, "flow.resid_pre.grad_norm")),
                    y = axes_of(tensor_of(b, "flow.resid_pre.grad_norm"));
    double worst = 0.0;
    for (size_t k = 0; k < (query->layers ? query->n_layers : x.layers); k++)
        for (size_t s = 0; s < n; s++) {
            const size_t l = query->layers ? query->layers[k] : k, i = x.losses > 1 ? losses[s] : 0;
            double off = 0.0, sum = 0.0;
            for (size_t j = 0; j < x.N; j++) {
                off += fabs(flow_at(&x, l, 0, i, j) - flow_at(&y, l, 0, i, j));
                sum += flow_at(&y, l, 0, i, j);
            }
            worst = off / sum > worst ? off / sum : worst;
        }
    return worst;
}

/* The query's bf16_error rests on n losses and is what two records of all losses and layers show. */
static void must_agree(bf_model *model, const bf_query *query, size_t n, const char *what)
{
    bf_query whole = query_of(model, N, BF_PRECISION_BF16);
    size_t losses[8];
    char number[32];
    if (query->sum) {
        whole.losses = query->losses;
        whole.n_losses = query->n_losses;
        whole.sum = true;
    }
    whole.no_fold = query->no_fold;
    bf_record *told = trace_of(model, query), *coarse = trace_of(model, &whole);
    whole.precision = BF_PRECISION_F32;
    whole.no_fold = true;
    bf_record *exact = trace_of(model, &whole);
    const char *words = bf_record_meta(told, "bf16_error");
    assert_non_null(words);
    assert_non_null(bf_record_meta(told, "seconds_bf16_error"));
    assert_null(bf_record_meta(exact, "bf16_error"));
    if (losses_of(losses, words) != n)
        fail_msg("%s: %s, wanted %zu losses", what, words, n);
    const double error = error_between(coarse, exact, query, losses, n);
    snprintf(number, sizeof number, "%.3g:", error);
    if (!starts_with(words, number) || !(error > 1e-5 && error < 0.1))
        fail_msg("%s: said %s, found %s", what, words, number);
    bf_record_free(told);
    bf_record_free(coarse);
    bf_record_free(exact);
}

static void bf16_error__is_that_of_two_records(void **state)
{
    (void)state;
    static const size_t layer[] = {1};
    size_t some[64];
    for (size_t k = 0; k < 64; k++)
        some[k] = 2 * k + 3;
    for (size_t s = 0; s < N_SHAPES + 2; s++) {
        const made_model *made = s < N_SHAPES ? &SHAPES[s].made : &FOLDING[s - N_SHAPES];
        bf_model *model = open_made(made);
        bf_query query = query_of(model, N, BF_PRECISION_BF16);
        if (!has_bf16(model)) {
            bf_model_free(model);
            return;
        }
        must_agree(model, &query, 2, "all");
        query.no_fold = true; /* as losses that are walked again are */
        query.sites = BF_SITE_Q | BF_SITE_MLP_OUT;
        must_agree(model, &query, 2, "other sites");
        query.scores = BF_SCORE_GRAD_X_ACT | BF_SCORE_OWN | BF_SCORE_SHARE;
        must_agree(model, &query, 2, "other scores");
        query.losses = some;
        query.n_losses = 64;
        query.tolerance = 1e-3;
        must_agree(model, &query, 1, "some losses, with a tolerance");
        query = query_of(model, N, BF_PRECISION_BF16);
        query.layers = made->L > 1 ? layer : NULL;
        query.n_layers = 1;
        must_agree(model, &query, 2, "a layer");
        query.no_fold = true;
        query.blocks = 7;
        must_agree(model, &query, 2, "an overview");
        bf_model_free(model);
    }
}

static void bf16_error__of_a_few_losses_is_measured_by_a_check(void **state)
{
    (void)state;
    static const size_t few[] = {37, 38, 39, 40, 41};
    bf_model *model = open_made(&SHAPES[2].made);
    bf_query query = query_of(model, N, BF_PRECISION_BF16);
    query.no_fold = true;
    if (has_bf16(model)) {
        query.losses = few;
        query.n_losses = 5;
        bf_record *record = trace_of(model, &query);
        assert_true(starts_with(bf_record_meta(record, "bf16_error"), "not measured: "));
        assert_null(bf_record_meta(record, "seconds_bf16_error"));
        bf_record_free(record);
        query.check = true;
        must_agree(model, &query, 1, "five losses and a check");
        query.sum = true;
        must_agree(model, &query, 1, "a sum and a check");
    }
    bf_model_free(model);
}

/* Rows of a record that measured it are those of one that did not. */
static void bf16_error__leaves_the_record_as_it_was(void **state)
{
    (void)state;
    static const size_t few[] = {0, 35, 70, 105, 139};
    bf_model *model = open_made(&SHAPES[0].made);
    bf_query query = query_of(model, N, BF_PRECISION_BF16);
    query.no_fold = true; /* five losses are too few to fold */
    if (has_bf16(model)) {
        bf_record *all = trace_of(model, &query);
        query.losses = few;
        query.n_losses = 5;
        bf_record *chosen = trace_of(model, &query);
        const flow_axes a = axes_of(tensor_of(all, "flow.resid_pre.grad_norm")),
                        b = axes_of(tensor_of(chosen, "flow.resid_pre.grad_norm"));
        for (size_t l = 0; l < a.layers; l++)
            for (size_t k = 0; k < 5; k++)
                for (size_t j = 0; j < N; j++)
                    assert_true(flow_at(&a, l, 0, few[k], j) == flow_at(&b, l, 0, k, j));
        bf_record_free(all);
        bf_record_free(chosen);
    }
    bf_model_free(model);
}

/* Attention's time is a part of the walk's. */
static void seconds__of_attention_are_within_the_walk(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHAPES[0].made);
    const bf_query query = query_of(model, N, BF_PRECISION_F32);
    bf_record *record = trace_of(model, &query);
    const double attention = strtod(bf_record_meta(record, "seconds_attention"), NULL);
    assert_true(attention > 0.0);
    assert_true(attention <= strtod(bf_record_meta(record, "seconds_walk"), NULL));
    bf_record_free(record);
    bf_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bf16_error__is_that_of_two_records),
        cmocka_unit_test(bf16_error__of_a_few_losses_is_measured_by_a_check),
        cmocka_unit_test(bf16_error__leaves_the_record_as_it_was),
        cmocka_unit_test(seconds__of_attention_are_within_the_walk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
