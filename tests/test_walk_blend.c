/* The third short cut: a gated MLP's two input weights as one (the others: test_walk_fold.c). */
#include "tests/trace_model.h"

#include "model/num/params.h"
#include "tests/rows_alike.h"

/* Wide enough to blend from about 200 losses on, too wide to fold with less than 212. */
static const made_model BLENDING = {.family = "llama", .L = 3, .D = 192, .H = 4, .G = 2, .K = 16, .F = 300, .V = 23,
                                    .P = 310, .dtype = BF_F32, .seed = 8};

/* A query that is blended; skipped where the processor does not. */
static bf_query blending(bf_model *model, bf_precision precision)
{
    bf_query query = query_of(model, 210, precision);
    query.no_attn = true;
    query.sites = BF_SITE_RESID_PRE | BF_SITE_RESID_MID | BF_SITE_K;
    if (!bf_mlp_blends_f32(&model->config)) {
        printf("skipped: no AVX-512 on this processor\n");
        skip();
    }
    return query;
}

static void check_rounding(bf_model *model, bf_query query, const bf_record *exact, double tolerance, bool folds)
{
    const bf_job job = job_of(model, &query);
    assert_true(job.blend && job.saved > 0.0 && !job.fold_below == !folds);
    assert_rounding_alone(model, query, exact, tolerance);
    query.no_fold = true;
    assert_false(job_of(model, &query).blend);
}

static void blend__changes_nothing_but_rounding(void **state)
{
    (void)state;
    bf_model *model = open_made(&BLENDING);
    bf_query query = blending(model, BF_PRECISION_F64);
    query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_OWN | BF_SCORE_SHARE;
    assert_false(job_of(model, &query).blend);
    bf_record *exact = trace_of(model, &query);
    query.precision = BF_PRECISION_F32;
    check_rounding(model, query, exact, 1e-5, false);
    query.precision = BF_PRECISION_BF16;
    if (has_bf16(model))
        check_rounding(model, query, exact, 0.03, false); /* what it is off by anyway */
    bf_record_free(exact);
    bf_model_free(model);
}

/* Positions with most losses are folded, the others blended. */
static void blend__goes_with_the_fold(void **state)
{
    (void)state;
    bf_model *model = open_made(&BLENDING);
    bf_query query = blending(model, BF_PRECISION_F64);
    query.n_tokens = 301;
    query.sites = BF_SITE_RESID_PRE;
    query.no_fold = true;
    bf_record *exact = trace_of(model, &query);
    query.no_fold = false;
    query.precision = BF_PRECISION_F32;
    check_rounding(model, query, exact, 1e-5, true);
    bf_record_free(exact);
    bf_model_free(model);
}

/* Windows leave most rows of a position away; weights are stored in bfloat16. */
static void blend__works_with_windows_and_converted_weights(void **state)
{
    (void)state;
    made_model made = BLENDING;
    made.family = "mistral";
    made.dtype = BF_BF16;
    made.extra = "\"sliding_window\": 60, ";
    bf_model *model = open_made(&made);
    bf_query query = blending(model, BF_PRECISION_F64);
    query.n_tokens = 251;
    bf_record *exact = trace_of(model, &query);
    query.precision = BF_PRECISION_F32;
    check_rounding(model, query, exact, 1e-5, false);
    bf_record_free(exact);
    bf_model_free(model);
}

static void blend__gives_the_same_bits_for_any_threads_and_memory(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    bf_model *model = open_made(&BLENDING);
    for (int p = 0; p < 2; p++) {
        bf_query query = blending(model, p ? BF_PRECISION_BF16 : BF_PRECISION_F32);
        if (p && !has_bf16(model))
            break;
        assert_true(job_of(model, &query).blend);
        assert_same_any_way(model, query);
    }
    bf_model_free(model);
}

static void blend__is_for_many_losses_and_the_overviews_blocks(void **state)
{
    (void)state;
    size_t losses[] = {20, 50, 100};
    bf_model *model = open_made(&BLENDING);
    bf_query query = blending(model, BF_PRECISION_F32);
    query.losses = losses;
    query.n_losses = 3;
    query.n_tokens = 301;
    query.blocks = 100;
    query.probes = 1;
    const bf_job job = job_of(model, &query);
    assert_true(!job.blend && job.blend_blocks);
    bf_record *with = trace_of(model, &query);
    query.no_fold = true;
    assert_false(job_of(model, &query).blend_blocks);
    bf_record *without = trace_of(model, &query);
    assert_true(furthest(without, with) <= 1e-5);
    assert_string_not_equal(first_difference(without, with), "flow.resid_pre.grad_norm");
    assert_true(starts_with(first_difference(without, with), "overview."));
    bf_record_free(with);
    bf_record_free(without);
    query = blending(model, BF_PRECISION_F32);
    query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_PARAM; /* wants both weights' cotangents */
    assert_false(job_of(model, &query).blend);
    bf_model_free(model);
}

static void blend__ends_small_rows_too(void **state)
{
    (void)state;
    bf_model *model = open_made(&BLENDING);
    bf_query query = blending(model, BF_PRECISION_F32);
    query.tolerance = 0.02;
    bf_record *with = trace_of(model, &query);
    query.no_fold = true;
    bf_record *without = trace_of(model, &query);
    assert_true(furthest(without, with) <= 1e-5);
    assert_non_null(bf_record_meta(with, "pruned"));
    bf_record_free(with);
    bf_record_free(without);
    bf_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(blend__changes_nothing_but_rounding),
        cmocka_unit_test(blend__goes_with_the_fold),
        cmocka_unit_test(blend__works_with_windows_and_converted_weights),
        cmocka_unit_test(blend__gives_the_same_bits_for_any_threads_and_memory),
        cmocka_unit_test(blend__is_for_many_losses_and_the_overviews_blocks),
        cmocka_unit_test(blend__ends_small_rows_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
