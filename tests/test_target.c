/* The divergence from another run's predictions as a target, and the predictions in a record. */
#include "tests/trace_model.h"

enum { N = 33 };

/* The same vocabulary and text, other weights. */
static bf_model *open_other(const walk_shape *shape)
{
    made_model made = shape->made;
    made.seed += 100;
    return open_made(&made);
}

static bf_record *predict(bf_model *model, bf_precision precision)
{
    bf_query query = query_of(model, N, precision);
    query.logprobs = true;
    query.sites = BF_SITE_RESID_FINAL;
    return trace_of(model, &query);
}

static double at(const bf_record *record, const char *name, size_t k)
{
    return bf_tensor_value(tensor_of(record, name), k);
}

/* --- predictions */

static void logprobs__are_distributions_and_hold_the_losses(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2 * N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s / 2].made);
        const size_t V = SHAPES[s / 2].made.V;
        const double tolerance = s % 2 ? 1e-14 : 1e-6;
        bf_record *record = predict(model, s % 2 ? BF_PRECISION_F64 : BF_PRECISION_F32);
        const bf_tensor *t = tensor_of(record, "logprobs");
        assert_true(t->rank == 2 && t->dim[0] == N && t->dim[1] == V);
        assert_int_equal(t->dtype, s % 2 ? BF_F64 : BF_F32);
        for (size_t i = 0; i < N; i++) {
            const size_t next = (size_t)some_tokens(model)[i + 1];
            double sum = 0.0;
            for (size_t v = 0; v < V; v++)
                sum += exp(bf_tensor_value(t, i * V + v));
            assert_close(sum, 1.0, tolerance);
            assert_close(-bf_tensor_value(t, i * V + next), at(record, "loss", i), 10 * tolerance);
        }
        bf_record_free(record);
        bf_model_free(model);
    }
}

static void logprobs__change_nothing_else(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHAPES[2].made);
    bf_query query = query_of(model, N, BF_PRECISION_F32);
    bf_record *without = trace_of(model, &query);
    query.logprobs = true;
    query.threads = 1;
    bf_record *with = trace_of(model, &query);
    assert_int_equal(bf_record_count(with), bf_record_count(without) + 1);
    for (size_t k = 0; k < bf_record_count(without); k++) {
        const bf_tensor *a = bf_record_at(without, k), *b = tensor_of(with, a->name);
        assert_memory_equal(a->data, b->data, bf_tensor_count(a) * bf_dtype_size(a->dtype));
    }
    bf_record_free(without);
    bf_record_free(with);
    bf_model_free(model);
}

/* --- the divergence */

static void kl__is_the_divergence_of_the_two_predictions(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made), *other = open_other(&SHAPES[s]);
        const size_t V = SHAPES[s].made.V;
        bf_record *reference = predict(other, BF_PRECISION_F64),
                  *mine = predict(model, BF_PRECISION_F64);
        bf_query query = query_of(model, N, BF_PRECISION_F64);
        query.target = (bf_target){.kind = BF_TARGET_KL, .reference = reference};
        bf_record *record = trace_of(model, &query);
        assert_string_equal(bf_record_meta(record, "target"), "kl");
        assert_string_equal(bf_record_meta(record, "reference_model_sha256"),
                            bf_record_meta(reference, "model_sha256"));
        for (size_t i = 0; i < N; i++) {
            double kl = 0.0;
            for (size_t v = 0; v < V; v++) {
                const double r = at(reference, "logprobs", i * V + v);
                kl += exp(r) * (r - at(mine, "logprobs", i * V + v));
            }
            assert_close(at(record, "target", i), kl, 1e-13);
            assert_close(at(record, "loss", i), at(mine, "loss", i), 1e-14);
        }
        bf_record_free(record);
        bf_record_free(reference);
        bf_record_free(mine);
        bf_model_free(model);
        bf_model_free(other);
    }
}

static void check_identities(const char *what, bf_model *model, const bf_query *query)
{
    bf_check checks[8];
    bf_error err = {0};
    bf_record *record = NULL;
    size_t n = 0;
    if (bf_trace(&record, model, query, NULL, checks, &n, &err))
        fail_msg("%s: %s", what, err.msg);
    for (size_t k = 0; k < n; k++)
        if (!(checks[k].residual <= checks[k].tolerance))
            fail_msg("%s: %s is %.3g, tolerance %.3g", what, checks[k].name, checks[k].residual,
                     checks[k].tolerance);
    bf_record_free(record);
}

/* Central differences of the divergence in double, rows that add up, and the rest of --check. */
static void kl__identities_hold(void **state)
{
    (void)state;
    static const size_t losses[] = {17, 18, 19, 20, 21};
    for (size_t s = 0; s < 2 * N_SHAPES; s++) {
        const walk_shape *shape = &SHAPES[s / 2];
        bf_model *model = open_made(&shape->made), *other = open_other(shape);
        bf_record *reference = predict(other, s % 2 ? BF_PRECISION_F32 : BF_PRECISION_F64);
        bf_query query = query_of(model, N, s % 2 ? BF_PRECISION_F32 : BF_PRECISION_F64);
        query.check = true;
        query.target = (bf_target){.kind = BF_TARGET_KL, .reference = reference};
        check_identities(shape->what, model, &query);
        query.losses = losses;
        query.n_losses = 5;
        query.sum = true;
        check_identities(shape->what, model, &query);
        bf_record_free(reference);
        bf_model_free(model);
        bf_model_free(other);
    }
}

static void kl__of_a_run_from_itself_is_nothing(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        bf_record *reference = predict(model, BF_PRECISION_F64);
        bf_query query = query_of(model, N, BF_PRECISION_F64);
        query.target = (bf_target){.kind = BF_TARGET_KL, .reference = reference};
        bf_record *record = trace_of(model, &query);
        assert_true(largest_of(tensor_of(record, "target")) < 1e-28);
        assert_true(largest_of(tensor_of(record, "flow.resid_pre.grad_norm")) < 1e-12);
        bf_record_free(record);
        bf_record_free(reference);
        bf_model_free(model);
    }
}

/* Between precisions the divergence is far below what sum r (log r - log p) could show in double.
 */
static void kl__between_precisions_is_small_and_positive(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHAPES[2].made);
    bf_record *reference = predict(model, BF_PRECISION_F64);
    bf_query query = query_of(model, N, BF_PRECISION_F32);
    query.target = (bf_target){.kind = BF_TARGET_KL, .reference = reference};
    bf_record *record = trace_of(model, &query);
    for (size_t i = 0; i < N; i++) {
        const double kl = at(record, "target", i);
        assert_true(kl > 0.0 && kl < 1e-11);
    }
    assert_true(largest_of(tensor_of(record, "flow.resid_pre.grad_norm")) > 1e-9);
    bf_record_free(record);
    bf_record_free(reference);
    bf_model_free(model);
}

/* --- references that are refused */

static void refuse(bf_model *model, const bf_record *reference, bool other_text, bf_code code,
                   const char *word)
{
    bf_query query = query_of(model, N, BF_PRECISION_F64);
    bf_record *record = NULL;
    bf_error err = {0};
    bf_plan plan;
    query.target = (bf_target){
        .kind = BF_TARGET_KL, .reference = reference, .other_text = other_text};
    const bf_code rc = bf_trace(&record, model, &query, NULL, NULL, NULL, &err);
    if (rc != code || record || !strstr(err.msg, word) ||
        !strstr(err.msg, "the target's reference: "))
        fail_msg("code %d (wanted %d) with \"%s\", wanted \"%s\"", rc, code, err.msg, word);
    assert_int_equal(bf_trace_plan(&plan, model, &query, NULL), code);
}

/* A record of tokens and even predictions; the first value is another. */
static bf_record *even(size_t n, size_t V, size_t rank, bf_dtype dtype, double first)
{
    const bf_tensor specs[] = {
        {.name = "tokens", .dtype = BF_I64, .rank = 1, .dim = {n + 1}},
        {.name = "logprobs", .dtype = dtype, .rank = rank, .dim = {rank == 1 ? n * V : n, V}}};
    bf_record *record = NULL;
    assert_int_equal(bf_record_new(&record, specs, 2, NULL), BF_OK);
    const bf_tensor *t = bf_record_find(record, "logprobs");
    for (size_t k = 0; k < n * V && dtype == BF_F64; k++)
        ((double *)t->data)[k] = k ? -log((double)V) : first;
    for (size_t k = 0; k < n * V && dtype == BF_F32; k++)
        ((float *)t->data)[k] = (float)(k ? -log((double)V) : first);
    return record;
}

static void kl__references_that_do_not_fit_are_refused(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHAPES[2].made);
    const size_t V = SHAPES[2].made.V;
    const double fair = -log((double)V);
    const struct {
        size_t n, V, rank;
        bf_dtype dtype;
        double first;
        bool other_text;
        bf_code code;
        const char *word;
    } bad[] = {
        {N, V, 2, BF_F64, fair, false, BF_EARG, "token 0 is 0, in the text "},
        {N + 1, V, 2, BF_F64, fair, true, BF_ESHAPE, "has 34 positions, the text has 33"},
        {N - 1, V, 2, BF_F64, fair, true, BF_ESHAPE, "has 32 positions, the text has 33"},
        {N, V - 1, 2, BF_F64, fair, true, BF_ESHAPE, "a vocabulary of 36 tokens, the model has 37"},
        {N, V, 1, BF_F64, fair, true, BF_ESHAPE, "1 axes"},
        {N, V, 2, BF_I64, fair, true, BF_ESHAPE, "of type I64, wanted F32 or F64"},
        {N, V, 2, BF_F64, NAN, true, BF_EFORMAT, "position 0, token 0 is nan"},
        {N, V, 2, BF_F32, INFINITY, true, BF_EFORMAT, "position 0, token 0 is inf"},
        {N, V, 2, BF_F64, 0.5, true, BF_EFORMAT, "position 0, token 0 is 0.5, wanted at most 0"},
        {N, V, 2, BF_F64, -0.1, true, BF_EFORMAT, "add up to 1.8"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bf_record *reference = even(bad[k].n, bad[k].V, bad[k].rank, bad[k].dtype, bad[k].first);
        refuse(model, reference, bad[k].other_text, bad[k].code, bad[k].word);
        bf_record_free(reference);
    }
    bf_query query = query_of(model, N, BF_PRECISION_F64);
    bf_record *plain = trace_of(model, &query);
    refuse(model, plain, false, BF_EARG, "there is no tensor logprobs");
    refuse(model, NULL, false, BF_EARG, "needs a reference");
    bf_record_free(plain);
    bf_model_free(model);
}

/* Another text as long, if that is what was asked for; p = 0 in a reference is no hindrance. */
static void kl__takes_another_text_and_impossible_tokens(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2; s++) {
        bf_model *model = open_made(&SHAPES[2].made);
        const size_t V = SHAPES[2].made.V;
        bf_record *reference = even(N, V, 2, s ? BF_F32 : BF_F64, -log((double)V));
        for (size_t v = 0; v < V; v++) { /* position 3 predicts token 5 alone */
            const double value = v == 5 ? 0.0 : -INFINITY;
            if (s)
                ((float *)tensor_of(reference, "logprobs")->data)[3 * V + v] = (float)value;
            else
                ((double *)tensor_of(reference, "logprobs")->data)[3 * V + v] = value;
        }
        bf_record *mine = predict(model, BF_PRECISION_F64);
        bf_query query = query_of(model, N, BF_PRECISION_F64);
        query.check = true;
        query.target = (bf_target){
            .kind = BF_TARGET_KL, .reference = reference, .other_text = true};
        check_identities("another text", model, &query);
        bf_record *record = trace_of(model, &query);
        assert_close(at(record, "target", 3), -at(mine, "logprobs", 3 * V + 5), 1e-13);
        bf_record_free(record);
        bf_record_free(reference);
        bf_record_free(mine);
        bf_model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(logprobs__are_distributions_and_hold_the_losses),
        cmocka_unit_test(logprobs__change_nothing_else),
        cmocka_unit_test(kl__is_the_divergence_of_the_two_predictions),
        cmocka_unit_test(kl__identities_hold),
        cmocka_unit_test(kl__of_a_run_from_itself_is_nothing),
        cmocka_unit_test(kl__between_precisions_is_small_and_positive),
        cmocka_unit_test(kl__references_that_do_not_fit_are_refused),
        cmocka_unit_test(kl__takes_another_text_and_impossible_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
