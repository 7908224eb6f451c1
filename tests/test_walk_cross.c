/* Two more short cuts: q's and k's weights passed as sums over keys and queries (tracer/num/cross.c), and the top
 * layer's k's and v's as sums over heads (top.c). */
#include "tests/trace_model.h"

#include "model/num/params.h"
#include "tests/change_tensor.h"
#include "tests/rows_alike.h"

/* Few wide heads and many narrow ones: blocks of 16 positions and of 4. */
static const made_model CROSSING[] = {
    {.family = "gpt2", .L = 3, .D = 576, .H = 3, .F = 60, .V = 23, .P = 310, .dtype = BF_F32, .tied = true, .seed = 9},
    {.family = "gpt2", .L = 3, .D = 768, .H = 12, .F = 60, .V = 23, .P = 310, .dtype = BF_BF16, .tied = true, .seed = 10},
};
static const size_t POSITIONS[] = {90, 75}; /* the last block is not full */
enum { MODELS = sizeof CROSSING / sizeof *CROSSING };

/* A query that crosses; skipped where the processor does not. */
static bf_query crossing(bf_model *model, size_t k, bf_precision precision)
{
    bf_query query = query_of(model, POSITIONS[k], precision);
    query.no_attn = true;
    if (!bf_attention_crosses_f32(&model->config)) {
        printf("skipped: no AVX-512 on this processor\n");
        skip();
    }
    return query;
}

static void check_rounding(bf_model *model, bf_query query, const bf_record *exact, double tolerance, bool below_top)
{
    bf_job job = job_of(model, &query);
    assert_true(job.cross == below_top && job.top && job.saved > 0.0);
    assert_rounding_alone(model, query, exact, tolerance);
    query.no_fold = true;
    job = job_of(model, &query);
    assert_false(job.cross || job.top);
}

static void cross__changes_nothing_but_rounding(void **state)
{
    (void)state;
    for (size_t k = 0; k < MODELS; k++) {
        bf_model *model = open_made(&CROSSING[k]);
        bf_query query = crossing(model, k, BF_PRECISION_F64);
        query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_OWN;
        assert_false(job_of(model, &query).cross);
        bf_record *exact = trace_of(model, &query);
        query.precision = BF_PRECISION_F32;
        check_rounding(model, query, exact, 1e-5, true);
        query.precision = BF_PRECISION_BF16;
        if (has_bf16(model))
            check_rounding(model, query, exact, 0.03, true); /* what it is off by anyway */
        bf_record_free(exact);
        bf_model_free(model);
    }
}

/* Some losses of a text that is too long to cross below the top layer, and longer than a tile of rows. */
static void take_long(bf_query *query)
{
    static const size_t losses[] = {4, 20, 37, 90, 118, 119, 120, 121, 150, 180, 199, 210, 220, 230, 240, 250, 260, 262, 299};
    query->n_tokens = 301;
    query->losses = losses;
    query->n_losses = sizeof losses / sizeof *losses;
}

static void top__changes_nothing_but_rounding(void **state)
{
    (void)state;
    bf_model *model = open_made(&CROSSING[1]);
    bf_query query = crossing(model, 1, BF_PRECISION_F64);
    take_long(&query);
    query.layers = (const size_t[]){1, 2};
    query.n_layers = 2;
    bf_record *exact = trace_of(model, &query);
    query.precision = BF_PRECISION_F32;
    check_rounding(model, query, exact, 1e-5, false);
    query.precision = BF_PRECISION_BF16;
    if (has_bf16(model))
        check_rounding(model, query, exact, 0.03, false);
    bf_record_free(exact);
    bf_model_free(model);
}

/* Both in each model, and in the last rounds the top layer's alone. */
static void cross__gives_the_same_bits_for_any_threads_and_memory(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    for (size_t k = 0; k < 2 * MODELS + 2; k++) {
        const size_t which = k < 2 * MODELS ? k / 2 : 1;
        bf_model *model = open_made(&CROSSING[which]);
        bf_query query = crossing(model, which, k % 2 ? BF_PRECISION_BF16 : BF_PRECISION_F32);
        if (k >= 2 * MODELS)
            take_long(&query);
        if (k % 2 == 0 || has_bf16(model)) {
            const bf_job job = job_of(model, &query);
            assert_true(job.cross == (k < 2 * MODELS) && job.top);
            assert_same_any_way(model, query);
        }
        bf_model_free(model);
    }
}

/* Without a word about q and k their cotangents are not formed; the rest is the same to the bit. */
static void cross__is_the_same_with_and_without_sites_of_q_and_k(void **state)
{
    (void)state;
    bf_model *model = open_made(&CROSSING[0]);
    bf_query query = crossing(model, 0, BF_PRECISION_F32);
    bf_record *all = trace_of(model, &query);
    query.sites = BF_SITE_ALL & ~(BF_SITE_Q | BF_SITE_K);
    bf_record *some = trace_of(model, &query);
    for (size_t k = 0; k < bf_record_count(some); k++) {
        const bf_tensor *x = bf_record_at(some, k), *y = tensor_of(all, x->name);
        assert_memory_equal(x->data, y->data, bf_tensor_count(x) * bf_dtype_size(x->dtype));
    }
    assert_true(bf_record_count(some) + 4 == bf_record_count(all));
    bf_record_free(all);
    bf_record_free(some);
    bf_model_free(model);
}

/* Two losses of three; and down to a layer that is not the lowest. */
static void cross__takes_losses_and_layers_that_were_chosen(void **state)
{
    (void)state;
    size_t losses[60];
    const size_t layers[] = {1, 2};
    bf_model *model = open_made(&CROSSING[0]);
    bf_query query = crossing(model, 0, BF_PRECISION_F64);
    query.losses = losses;
    for (size_t i = 0; i < POSITIONS[0]; i++)
        if (i % 3 != 1)
            losses[query.n_losses++] = i;
    query.layers = layers;
    query.n_layers = 2;
    bf_record *exact = trace_of(model, &query);
    query.precision = BF_PRECISION_F32;
    check_rounding(model, query, exact, 1e-5, true);
    bf_record_free(exact);
    bf_model_free(model);
}

/* Summed losses are walked without it, and must add up to those walked with it. */
static void cross__passes_the_checks(void **state)
{
    (void)state;
    bf_model *model = open_made(&CROSSING[0]);
    bf_query query = crossing(model, 0, BF_PRECISION_F32);
    bf_record *record = NULL;
    bf_check checks[8];
    bf_error err = {0};
    size_t n = 0;
    query.check = true;
    assert_true(job_of(model, &query).cross);
    if (bf_trace(&record, model, &query, NULL, checks, &n, &err))
        fail_msg("%s", err.msg);
    assert_true(n >= 4);
    for (size_t k = 0; k < n; k++)
        if (!(checks[k].residual <= checks[k].tolerance))
            fail_msg("%s: %.3g, at most %.3g is wanted", checks[k].name, checks[k].residual, checks[k].tolerance);
    bf_record_free(record);
    bf_model_free(model);
}

/* The first model, but with keys that have far more in common than what tells them apart. */
static bf_model *open_alike(float common)
{
    char path[256], name[64];
    bf_model *model = NULL;
    const size_t D = CROSSING[0].D;
    make_folder(path);
    make_model(path, &CROSSING[0]);
    weights_file file = open_weights(path);
    for (size_t l = 0; l < CROSSING[0].L; l++) {
        size_t n;
        snprintf(name, sizeof name, "transformer.h.%zu.attn.c_attn.bias", l);
        char *bias = find_weights(&n, &file, name);
        assert_int_equal(n, 3 * D);
        for (size_t e = D; e < 2 * D; e++) {
            const float v = e % 3 ? common : -common;
            memcpy(bias + 4 * e, &v, 4);
        }
    }
    close_weights(&file, path);
    assert_int_equal(bf_model_open(&model, path, NULL), BF_OK);
    remove_folder(path);
    return model;
}

/* That costs bfloat16 no digits. */
static void cross__leaves_out_what_keys_have_in_common(void **state)
{
    (void)state;
    bf_model *model = open_alike(100.0f);
    bf_query query = crossing(model, 0, BF_PRECISION_F64);
    query.sites = BF_SITE_RESID_PRE;
    if (has_bf16(model)) {
        bf_record *exact = trace_of(model, &query);
        query.precision = BF_PRECISION_BF16;
        assert_true(job_of(model, &query).cross);
        bf_record *with = trace_of(model, &query);
        query.no_fold = true;
        bf_record *without = trace_of(model, &query);
        const double off = furthest(exact, with), off_without = furthest(exact, without);
        print_message("off by %.3g, not crossed by %.3g\n", off, off_without);
        assert_true(off <= 3.0 * off_without);
        bf_record_free(exact);
        bf_record_free(with);
        bf_record_free(without);
    }
    bf_model_free(model);
}

static void cross__is_for_plain_attention_of_many_losses_alone(void **state)
{
    (void)state;
    size_t losses[] = {20, 50};
    made_model made = CROSSING[1];
    bf_model *model = open_made(&made);
    const bf_query usual = crossing(model, 1, BF_PRECISION_F32);
    assert_true(job_of(model, &usual).cross);
    for (size_t k = 0; k < 7; k++) {
        bf_query query = usual;
        if (k == 0)
            query.tolerance = 0.01;
        if (k == 1)
            query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_PARAM;
        if (k == 2)
            query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_SHARE;
        if (k == 3)
            query.sum = true;
        if (k == 4) {
            query.losses = losses;
            query.n_losses = 2;
        }
        if (k == 5)
            query.n_tokens = 301; /* a loss has too many keys and queries */
        if (k == 6)
            query.detach = BF_DETACH_MYOPIC;
        const bf_job job = job_of(model, &query);
        assert_false(job.cross);
        assert_true(job.top == (k == 5));
    }
    bf_model_free(model);
    made.extra = "\"sliding_window\": 20, ";
    made.family = "mistral";
    model = open_made(&made);
    assert_false(bf_attention_crosses_f32(&model->config)); /* rotated */
    bf_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(cross__changes_nothing_but_rounding),
        cmocka_unit_test(top__changes_nothing_but_rounding),
        cmocka_unit_test(cross__gives_the_same_bits_for_any_threads_and_memory),
        cmocka_unit_test(cross__is_the_same_with_and_without_sites_of_q_and_k),
        cmocka_unit_test(cross__takes_losses_and_layers_that_were_chosen),
        cmocka_unit_test(cross__passes_the_checks),
        cmocka_unit_test(cross__leaves_out_what_keys_have_in_common),
        cmocka_unit_test(cross__is_for_plain_attention_of_many_losses_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
