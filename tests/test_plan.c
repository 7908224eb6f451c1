/* The plan: what it counts is what a trace takes, and what it refuses it refuses with a way out. */
#include "tests/trace_model.h"

static bf_plan plan_of(const bf_model *model, const bf_query *query)
{
    bf_plan plan;
    bf_error err = {0};
    if (bf_trace_plan(&plan, model, query, &err))
        fail_msg("%s", err.msg);
    return plan;
}

/* --- what it counts */

static void plan__rows_are_the_pairs_that_can_be_reached(void **state)
{
    (void)state;
    static const size_t N[] = {1, 2, 64, 130}, losses[] = {0, 1, 20, 63}, layers[] = {2};
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        const bool windows = SHAPES[s].window[0] > 0;
        for (size_t k = 0; k < 4; k++) {
            bf_query query = query_of(model, N[k], BF_PRECISION_F32);
            bf_plan plan = plan_of(model, &query);
            assert_int_equal(plan.N, N[k]);
            assert_int_equal(plan.losses, N[k]);
            size_t rows = 0;
            for (size_t i = 0; i < N[k]; i++) /* three windows of 5 reach 12 back */
                rows += windows && i > 12 ? 13 : i + 1;
            assert_int_equal(plan.rows, rows);
            assert_true(plan.flops > 0.0 && plan.seconds > 0.0 && isfinite(plan.seconds));
            if (N[k] < 64)
                continue;
            query.losses = losses;
            query.n_losses = 4;
            plan = plan_of(model, &query);
            assert_int_equal(plan.losses, 4);
            assert_int_equal(plan.rows, windows ? 1 + 2 + 13 + 13 : 1 + 2 + 21 + 64);
            if (!windows)
                continue;
            query.layers = layers; /* one window of 5 */
            query.n_layers = 1;
            assert_int_equal(plan_of(model, &query).rows, 1 + 2 + 5 + 5);
        }
        bf_model_free(model);
    }
}

static void plan__record_bytes_are_those_of_the_record(void **state)
{
    (void)state;
    static const size_t losses[] = {3, 8, 19}, layers[] = {0, 2};
    bf_model *model = open_made(&SHAPES[2].made);
    for (unsigned k = 0; k < 32; k++) {
        bf_query query = query_of(model, 21, k & 1 ? BF_PRECISION_F64 : BF_PRECISION_F32);
        query.scores = k & 2 ? BF_SCORE_ALL : 0;
        query.sites = k & 4 ? BF_SITE_K | BF_SITE_RESID_FINAL : 0;
        query.blocks = k & 8 ? 4 : 0;
        if (k & 16) {
            query.losses = losses;
            query.n_losses = 3;
            query.layers = layers;
            query.n_layers = 2;
            query.scores |= k & 2 ? BF_SCORE_EDGE : 0;
            query.no_attn = true;
        }
        bf_record *record = trace_of(model, &query);
        size_t bytes = 0;
        for (size_t n = 0; n < bf_record_count(record); n++)
            bytes += bf_tensor_count(bf_record_at(record, n)) *
                     bf_dtype_size(bf_record_at(record, n)->dtype);
        assert_int_equal(plan_of(model, &query).record_bytes, bytes);
        bf_record_free(record);
    }
    bf_model_free(model);
}

static void count_walks(void *context, const char *stage, double done, double seconds_left)
{
    size_t *ticks = context;
    assert_true(done >= 0.0 && done <= 1.0 + 1e-9 && seconds_left >= 0.0);
    *ticks += strcmp(stage, "walk") == 0;
}

/* A tick a layer and chunk: the walk takes as many chunks as the plan says. */
static void plan__chunks_are_those_of_the_walk(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        bf_query query = query_of(model, 130, BF_PRECISION_F32);
        size_t ticks = 0, before = 0;
        query.progress = count_walks;
        query.progress_context = &ticks;
        const size_t least = least_memory(model, query);
        for (size_t part = 0; part < 5; part++) {
            query.memory = part ? least + least / part / part / 2 : 0;
            query.memory = part == 4 ? least : query.memory;
            const bf_plan plan = plan_of(model, &query);
            assert_true(plan.chunks >= before && plan.chunks <= plan.losses);
            assert_true(plan.chunks * plan.chunk_rows >= plan.rows);
            assert_true(plan.bytes <= (query.memory ? query.memory : (size_t)4 << 30));
            ticks = 0;
            bf_record_free(trace_of(model, &query));
            assert_int_equal(ticks, plan.chunks * SHAPES[s].made.L);
            assert_true(part ? plan.chunks >= before : plan.chunks == 1);
            before = plan.chunks;
        }
        assert_true(before > 10);
        bf_model_free(model);
    }
}

/* An overview walks all blocks once for grad_x_act and once for each probe. */
static void plan__an_overview_counts_all_its_walks(void **state)
{
    (void)state;
    static const size_t losses[] = {3, 8, 19};
    bf_model *model = open_made(&SHAPES[0].made);
    bf_query query = query_of(model, 130, BF_PRECISION_F32);
    size_t ticks = 0, rows = 0;
    query.blocks = 7;
    query.probes = 3;
    query.progress = count_walks;
    query.progress_context = &ticks;
    for (size_t b = 1; b <= 7; b++)
        rows += b * 130 / 7; /* from position 0 to the block's last */
    for (size_t part = 0; part < 6; part++) {
        const size_t walks = part / 2 == 0 ? 4 : part / 2 == 1 ? 1 : 3;
        query.scores = part / 2 == 0 ? 0 : part / 2 == 1 ? BF_SCORE_GRAD_X_ACT : BF_SCORE_GRAD_NORM;
        query.losses = part % 2 ? losses : NULL;
        query.n_losses = part % 2 ? 3 : 0;
        query.memory = 0;
        query.memory = part < 2 ? least_memory(model, query) : 0;
        const bf_plan plan = plan_of(model, &query);
        assert_int_equal(plan.rows, walks * rows + (part % 2 ? 4 + 9 + 20 : 0));
        assert_true(plan.flops > 0.0 && plan.chunks >= walks);
        ticks = 0;
        bf_record_free(trace_of(model, &query));
        assert_int_equal(ticks, plan.chunks * SHAPES[0].made.L);
    }
    bf_model_free(model);
}

/* --- memory */

static void plan__more_memory_is_never_refused(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2 * N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s / 2].made);
        bf_query query = query_of(model, s % 2 ? 130 : 40, BF_PRECISION_F32);
        for (query.threads = 1; query.threads <= 4; query.threads += 3) {
            const size_t least = least_memory(model, query);
            for (size_t part = 0; part < 256; part++) {
                query.memory = least + least * part / 64;
                if (!fits(model, &query))
                    fail_msg("%s, %zu positions, %zu threads: %zu bytes fit, %zu do not",
                             SHAPES[s / 2].what, query.n_tokens - 1, query.threads, least,
                             query.memory);
            }
        }
        bf_model_free(model);
    }
}

/* What a budget is refused with, in MiB. */
static double wanted_mib(const bf_model *model, const bf_query *query)
{
    bf_plan plan;
    bf_error err = {0};
    double mib = 0.0;
    assert_int_equal(bf_trace_plan(&plan, model, query, &err), BF_ENOMEM);
    const char *number = strstr(err.msg, "at least ");
    assert_non_null(number);
    assert_int_equal(sscanf(number, "at least %lf MiB", &mib), 1);
    assert_non_null(strstr(err.msg, "--memory"));
    return mib;
}

/* One that was refused does as the message says, and it works: no more, no less. */
static void plan__a_refusal_says_how_much_would_do(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2 * N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s / 2].made);
        bf_query query = query_of(model, s % 2 ? 70 : 17, BF_PRECISION_F64);
        for (query.threads = 1; query.threads <= 4; query.threads += 3) {
            const size_t least = least_memory(model, query);
            const size_t budgets[] = {1, least / 3, least - least / 50, least - 1};
            for (size_t k = 0; k < 4; k++) {
                query.memory = budgets[k];
                const double mib = wanted_mib(model, &query);
                query.memory = (size_t)(mib * 1048576.0);
                bf_record *record = NULL;
                bf_error err = {0};
                if (bf_trace(&record, model, &query, NULL, NULL, NULL, &err))
                    fail_msg("%s, %zu positions, %zu threads: refused with %g MiB: %s",
                             SHAPES[s / 2].what, query.n_tokens - 1, query.threads, mib, err.msg);
                bf_record_free(record);
                assert_true((double)least / 1048576.0 >= mib - 0.11); /* it is not asked for more */
            }
        }
        bf_model_free(model);
    }
}

/* --- what is refused: by the plan and by the trace, with nothing left behind */

static void refuse_query(bf_model *model, const bf_query *query, bf_code code, const char *word)
{
    bf_record *record = NULL;
    bf_error err = {0}, other = {0};
    bf_plan plan;
    const bf_code rc = bf_trace(&record, model, query, NULL, NULL, NULL, &err);
    if (rc != code || err.code != code || record || !strstr(err.msg, word))
        fail_msg("code %d (wanted %d) with \"%s\", wanted \"%s\"", rc, code, err.msg, word);
    assert_int_equal(bf_trace(&record, model, query, NULL, NULL, NULL, NULL), code);
    assert_int_equal(bf_trace_plan(&plan, model, query, &other), code);
    assert_string_equal(err.msg, other.msg);
}

static void query__bad_tokens_are_EARG(void **state)
{
    (void)state;
    for (size_t s = 0; s < 3; s += 2) {
        made_model made = SHAPES[s].made;
        made.P = 10;
        bf_model *model = open_made(&made);
        int64_t tokens[12] = {1, 2, 3};
        bf_query query = {.tokens = tokens, .n_tokens = 4, .threads = 1};
        const int64_t bad[] = {(int64_t)made.V, -1, INT64_MIN, INT64_MAX, (int64_t)1 << 32};
        for (size_t k = 0; k < 10; k++) {
            char word[64];
            tokens[k / 5 ? 3 : 1] = bad[k % 5]; /* the last is but a target */
            snprintf(word, sizeof word, "token %d is %lld", k / 5 ? 3 : 1, (long long)bad[k % 5]);
            refuse_query(model, &query, BF_EARG, word);
            tokens[k / 5 ? 3 : 1] = 2;
        }
        query.n_tokens = 11;
        bf_record_free(trace_of(model, &query));
        query.n_tokens = 12;
        refuse_query(model, &query, BF_EARG, "11 input tokens, the model knows 10 positions");
        query.n_tokens = 1;
        refuse_query(model, &query, BF_EARG, "1 tokens");
        query.n_tokens = 0;
        refuse_query(model, &query, BF_EARG, "0 tokens");
        query.n_tokens = 3;
        query.tokens = NULL;
        refuse_query(model, &query, BF_EARG, "tokens");
        bf_model_free(model);
    }
}

static void query__bad_choices_are_EARG(void **state)
{
    (void)state;
    bf_model *model = open_made(&SHAPES[0].made);
    static const struct {
        size_t list[3], n;
        const char *word;
    } bad[] = {{{0, 1, 9}, 3, " 9 is not there"}, {{2, 1, 0}, 2, " 1 after "},
               {{1, 1, 0}, 2, " 1 after "}, {{0, 0, 0}, 0, "no "},
               {{SIZE_MAX, 0, 0}, 1, "is not there"}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bf_query query = query_of(model, 9, BF_PRECISION_F32);
        query.losses = bad[k].list;
        query.n_losses = bad[k].n;
        refuse_query(model, &query, BF_EARG, "loss");
        refuse_query(model, &query, BF_EARG, bad[k].word);
        query = query_of(model, 9, BF_PRECISION_F32);
        query.layers = bad[k].list;
        query.n_layers = bad[k].n;
        refuse_query(model, &query, BF_EARG, "layer");
        refuse_query(model, &query, BF_EARG, bad[k].word);
    }
    bf_query query = query_of(model, 9, BF_PRECISION_F32);
    query.sites = BF_SITE_ALL + 1;
    refuse_query(model, &query, BF_EARG, "site");
    query.sites = 0;
    query.scores = 1u << 30;
    refuse_query(model, &query, BF_EARG, "score");
    query.scores = 0;
    query.threads = 100000;
    refuse_query(model, &query, BF_EARG, "thread");
    query.threads = SIZE_MAX / 64;
    refuse_query(model, &query, BF_EARG, "thread");
    query.threads = 1;
    query.check = true;
    bf_record *record = NULL; /* checks, and nowhere to put them */
    assert_int_equal(bf_trace(&record, model, &query, NULL, NULL, NULL, NULL), BF_EARG);
    assert_null(record);
    bf_model_free(model);
}

static void site__names_and_bits_agree(void **state)
{
    (void)state;
    for (unsigned k = 0; k < 9; k++)
        assert_int_equal(bf_site_bit(bf_site_name(1u << k)), 1u << k);
    assert_null(bf_site_name(1u << 9));
    assert_null(bf_site_name(3));
    assert_null(bf_site_name(0));
    assert_int_equal(bf_site_bit("resid"), 0);
    assert_int_equal(bf_site_bit(""), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plan__rows_are_the_pairs_that_can_be_reached),
        cmocka_unit_test(plan__record_bytes_are_those_of_the_record),
        cmocka_unit_test(plan__chunks_are_those_of_the_walk),
        cmocka_unit_test(plan__an_overview_counts_all_its_walks),
        cmocka_unit_test(plan__more_memory_is_never_refused),
        cmocka_unit_test(plan__a_refusal_says_how_much_would_do),
        cmocka_unit_test(query__bad_tokens_are_EARG),
        cmocka_unit_test(query__bad_choices_are_EARG),
        cmocka_unit_test(site__names_and_bits_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
