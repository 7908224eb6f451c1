/* Two short cuts: positions whose MLP is folded to one matrix, and rows too small to walk on. */
#include "tests/trace_model.h"

#include "tests/rows_alike.h"

/* --- folding */

static void fold__changes_nothing_but_rounding(void **state)
{
    (void)state;
    static const size_t N[] = {30, 150, 300};
    static const double tolerance[] = {1e-5, 1e-12, 0.03}; /* bf16: what it is off by anyway */
    for (size_t k = 0; k < 15; k++) { /* the longest text for the first model alone: time */
        bf_model *model = open_made(&FOLDING[k / 9]);
        bf_query query = query_of(model, N[k / 3 % 3], (bf_precision)(k % 3));
        query.no_attn = true;
        query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_GRAD_X_ACT | BF_SCORE_OWN | BF_SCORE_SHARE;
        if (N[k / 3 % 3] == 300)
            query.sites = BF_SITE_RESID_PRE | BF_SITE_K; /* enough, and quicker */
        if (query.precision != BF_PRECISION_BF16 || has_bf16(model)) {
            const size_t positions = folded(model, &query);
            const size_t rest = query.precision == BF_PRECISION_BF16 ? 25 : 15; /* bf16's MLP is cheaper */
            assert_true(positions >= query.n_tokens - 1 - rest && positions < query.n_tokens - 1);
            bf_record *with = trace_of(model, &query);
            query.no_fold = true;
            assert_int_equal(folded(model, &query), 0);
            bf_record *without = trace_of(model, &query);
            const double off = furthest(without, with);
            if (!(off <= tolerance[query.precision]))
                fail_msg("%s, N = %zu, precision %d: off by %.3g", FOLDING[k / 9].family,
                         query.n_tokens - 1, (int)query.precision, off);
            assert_non_null(first_difference(without, with)); /* it did take another way */
            bf_record_free(with);
            bf_record_free(without);
        }
        bf_model_free(model);
    }
}

static void fold__gives_the_same_bits_for_any_threads_and_memory(void **state)
{
    (void)state;
    for (size_t k = 0; k < 6; k++) {
        bf_model *model = open_made(&FOLDING[k / 3]);
        bf_query query = query_of(model, 150, (bf_precision)(k % 3));
        query.no_attn = true;
        if (query.precision != BF_PRECISION_BF16 || has_bf16(model)) {
            query.threads = 1;
            bf_record *want = trace_of(model, &query);
            const size_t usual = folded(model, &query);
            const size_t ways = query.precision == BF_PRECISION_F64 || rows_are_alike() ? 3 : 1;
            for (size_t n = 0; n < ways; n++) { /* usual memory, the least, and between, where attention takes parts */
                query.threads = 2 + n % 2;
                query.memory = memory_of_way(model, query, n);
                const bf_job job = job_of(model, &query);
                assert_true(job.fold_below > 0 && job.fold_below == usual);
                assert_true(n < 2 || job.part_rows < job.chunk_rows);
                assert_same_trace(want, model, &query);
            }
            bf_record_free(want);
        }
        bf_model_free(model);
    }
}

/* Windows leave most of a folded position's rows away, some positions none. */
static void fold__works_with_windows(void **state)
{
    (void)state;
    made_model made = SHAPES[4].made;
    made.F = 60;
    made.extra = "\"sliding_window\": 30, ";
    bf_model *model = open_made(&made);
    bf_query query = query_of(model, 150, BF_PRECISION_F64);
    assert_true(folded(model, &query) > 0);
    bf_record *with = trace_of(model, &query);
    query.no_fold = true;
    bf_record *without = trace_of(model, &query);
    assert_true(furthest(without, with) <= 1e-12);
    assert_non_null(first_difference(without, with));
    bf_record_free(with);
    bf_record_free(without);
    bf_model_free(model);
}

static void fold__is_for_many_losses_alone(void **state)
{
    (void)state;
    size_t losses[100];
    bf_model *model = open_made(&FOLDING[0]);
    bf_query query = query_of(model, 150, BF_PRECISION_F64);
    bf_record *whole = trace_of(model, &query);
    for (size_t k = 0; k < 100; k++)
        losses[k] = k + 50;
    query.losses = losses;
    query.n_losses = 5;
    assert_int_equal(folded(model, &query), 0);
    query.n_losses = 100;
    assert_true(folded(model, &query) > 0);
    bf_record *chosen = trace_of(model, &query);
    const flow_axes a = axes_of(tensor_of(whole, "flow.resid_pre.grad_norm")),
                    b = axes_of(tensor_of(chosen, "flow.resid_pre.grad_norm"));
    const double allowed = 1e-12 * largest_of(a.t);
    for (size_t n = 0; n < 3 * 100 * 150; n++) {
        const size_t l = n / 15000, i = n / 150 % 100, j = n % 150;
        assert_close(flow_at(&b, l, 0, i, j), flow_at(&a, l, 0, i + 50, j), allowed);
    }
    bf_record_free(whole);
    bf_record_free(chosen);
    bf_model_free(model);
}

/* --- tolerance */

/* Attention that is sharp enough for most rows to be small. */
static const made_model SHARP[] = {
    {.family = "gpt2", .L = 4, .D = 24, .H = 3, .F = 30, .V = 23, .P = 310, .dtype = BF_F32,
     .tied = true, .scale = 2.0, .seed = 11},
    {.family = "llama", .L = 4, .D = 22, .H = 4, .G = 2, .K = 6, .F = 30, .V = 23, .P = 310,
     .dtype = BF_F32, .scale = 2.5, .seed = 12},
};

/* sum_j |norm - exact| / sum_j exact of loss i at the lowest resid_pre. */
static double row_error(const bf_record *exact, const bf_record *pruned, size_t i)
{
    const flow_axes a = axes_of(tensor_of(exact, "flow.resid_pre.grad_norm")),
                    b = axes_of(tensor_of(pruned, "flow.resid_pre.grad_norm"));
    double off = 0.0, sum = 0.0;
    for (size_t j = 0; j <= i; j++) {
        off += fabs(flow_at(&a, 0, 0, i, j) - flow_at(&b, 0, 0, i, j));
        sum += flow_at(&a, 0, 0, i, j);
    }
    return off / sum;
}

typedef struct {
    double largest, mean; /* as the record reports */
    double worst, average; /* as they are */
} pruning;

static pruning prune(bf_model *model, bf_query query, const bf_record *exact, double tolerance)
{
    pruning p = {0};
    double said;
    query.tolerance = tolerance;
    bf_record *record = trace_of(model, &query);
    const char *text = bf_record_meta(record, "pruned");
    assert_non_null(text);
    const int read = sscanf(text, "tolerance %lf, dropped: largest %lf, mean %lf", &said,
                            &p.largest, &p.mean);
    assert_int_equal(read, 3);
    assert_close(said, tolerance, 1e-6 * tolerance);
    const size_t N = query.n_tokens - 1;
    for (size_t i = 0; i < N; i++) {
        const double off = row_error(exact, record, i);
        p.worst = fmax(p.worst, off);
        p.average += off / (double)N;
    }
    bf_record_free(record);
    return p;
}

/* What ends in a layer would have gone on to the lower ones: its share of the layer's norms bounds
 * its share of theirs, if layers magnify all rows about alike. Here they do (0.7 and less). */
static void tolerance__errors_are_bounded_by_what_the_record_says(void **state)
{
    (void)state;
    static const double tolerances[] = {1e-4, 1e-3, 1e-2, 0.1};
    for (size_t m = 0; m < 2; m++) {
        bf_model *model = open_made(&SHARP[m]);
        bf_query query = query_of(model, 130, BF_PRECISION_F64);
        query.sites = BF_SITE_RESID_PRE;
        bf_record *exact = trace_of(model, &query);
        assert_null(bf_record_meta(exact, "pruned"));
        double before = 0.0;
        for (size_t k = 0; k < 4; k++) {
            const pruning p = prune(model, query, exact, tolerances[k]);
            print_message("%s, tolerance %g: dropped %.3g, mean %.3g; off by %.3g, mean %.3g\n",
                          SHARP[m].family, tolerances[k], p.largest, p.mean, p.worst, p.average);
            assert_true(p.largest > before); /* something did end, and more with more tolerance */
            assert_true(p.worst > 0.0);
            assert_true(p.worst <= p.largest);
            assert_true(p.average <= p.mean);
            before = p.largest;
        }
        bf_record_free(exact);
        bf_model_free(model);
    }
}

/* The topmost resid_pre is written before anything ends; of a row that ended nothing goes on below,
 * neither through the MLP nor past it: what comes is sent there by attention. */
static void tolerance__leaves_the_top_layer_exact(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHARP[0]);
    bf_query query = query_of(model, 130, BF_PRECISION_F64);
    query.scores = BF_SCORE_GRAD_NORM | BF_SCORE_SHARE;
    bf_record *exact = trace_of(model, &query);
    query.tolerance = 0.01;
    bf_record *pruned = trace_of(model, &query);
    size_t ended = 0;
    const flow_axes a = axes_of(tensor_of(exact, "flow.resid_pre.grad_norm")),
                    b = axes_of(tensor_of(pruned, "flow.resid_pre.grad_norm")),
                    mid = axes_of(tensor_of(pruned, "flow.mlp_out.grad_norm")),
                    skip = axes_of(tensor_of(pruned, "share.skip"));
    for (size_t i = 0; i < 130; i++) {
        double largest = 0.0;
        for (size_t j = 0; j <= i; j++) {
            assert_true(flow_at(&a, 3, 0, i, j) == flow_at(&b, 3, 0, i, j));
            largest = fmax(largest, flow_at(&b, 3, 0, i, j));
        }
        for (size_t j = 0; j <= i; j++) {
            const bool small = flow_at(&b, 3, 0, i, j) < 0.01 * largest;
            assert_true((flow_at(&mid, 2, 0, i, j) == 0.0) == small);
            assert_true((flow_at(&skip, 2, 0, i, j) == 0.0) == small);
            ended += small;
        }
    }
    assert_true(ended > 130);
    bf_record_free(exact);
    bf_record_free(pruned);
    bf_model_free(model);
}

static void tolerance__gives_the_same_bits_for_any_threads_and_memory(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    for (size_t m = 0; m < 2; m++) {
        bf_model *model = open_made(&SHARP[m]);
        bf_query query = query_of(model, 100, BF_PRECISION_F32);
        query.tolerance = 0.02;
        bf_record *want = trace_of(model, &query);
        query.threads = 3;
        query.memory = least_memory(model, query);
        bf_record *got = trace_of(model, &query);
        assert_null(first_difference(want, got));
        assert_string_equal(bf_record_meta(want, "pruned"), bf_record_meta(got, "pruned"));
        bf_record_free(want);
        bf_record_free(got);
        bf_model_free(model);
    }
}

static void tolerance__out_of_range_is_EARG(void **state)
{
    (void)state;
    static const double bad[] = {-1e-9, -1.0, 1.0, 2.0, INFINITY, -INFINITY, NAN};
    bf_model *model = open_made(&SHARP[0]);
    bf_query query = query_of(model, 5, BF_PRECISION_F32);
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bf_record *record = NULL;
        bf_plan plan;
        bf_error err = {0};
        query.tolerance = bad[k];
        assert_int_equal(bf_trace(&record, model, &query, NULL, NULL, NULL, &err), BF_EARG);
        assert_non_null(strstr(err.msg, "tolerance"));
        assert_null(record);
        assert_int_equal(bf_trace_plan(&plan, model, &query, &err), BF_EARG);
    }
    bf_model_free(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fold__changes_nothing_but_rounding),
        cmocka_unit_test(fold__gives_the_same_bits_for_any_threads_and_memory),
        cmocka_unit_test(fold__works_with_windows),
        cmocka_unit_test(fold__is_for_many_losses_alone),
        cmocka_unit_test(tolerance__errors_are_bounded_by_what_the_record_says),
        cmocka_unit_test(tolerance__leaves_the_top_layer_exact),
        cmocka_unit_test(tolerance__gives_the_same_bits_for_any_threads_and_memory),
        cmocka_unit_test(tolerance__out_of_range_is_EARG),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
