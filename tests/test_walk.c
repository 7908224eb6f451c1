/* The walk: the same bits whatever it runs on, zeros where nothing arrives, identities hold. */
#include "tests/trace_model.h"

#include "tests/rows_alike.h"

static const char *const PRECISIONS[] = {"f32", "f64", "bf16"};

/* --- bits */

static void must_be_same(const bf_record *want, bf_model *model, const bf_query *query,
                         const char *what)
{
    bf_record *got = trace_of(model, query);
    const char *name = first_difference(want, got);
    if (name)
        fail_msg("%s, %s, %zu positions: %s differs with %zu threads and %zu bytes", what,
                 PRECISIONS[query->precision], query->n_tokens - 1, name, query->threads,
                 query->memory);
    bf_record_free(got);
}

/* A trace by one thread with memory for all, against three others with less and less. */
static void same_bits(bf_model *model, bf_query query, const char *what)
{
    query.threads = 1;
    query.memory = 0;
    bf_record *want = trace_of(model, &query);
    for (query.threads = 2; query.threads <= 4; query.threads++) {
        const size_t least = least_memory(model, query);
        query.memory = query.threads == 4 ? least : query.threads == 3 ? least + least / 2 : 0;
        must_be_same(want, model, &query, what);
    }
    bf_record_free(want);
}

static void same_bits_in(bf_precision precision)
{
    static const size_t N[] = {66, 1, 130, 2, 63, 64, 65}, losses[] = {0, 7, 40, 41, 62};
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        const bool can = precision != BF_PRECISION_BF16 || has_bf16(model);
        const size_t lengths = s == 0 ? sizeof N / sizeof *N : s == 4 ? 3 : 2;
        for (size_t k = 0; k < lengths && can; k++) {
            bf_query query = query_of(model, N[k], precision);
            query.scores = BF_SCORE_ALL;
            same_bits(model, query, SHAPES[s].what);
        }
        bf_query query = query_of(model, 63, precision);
        query.scores = BF_SCORE_ALL | BF_SCORE_EDGE;
        query.losses = losses;
        query.n_losses = sizeof losses / sizeof *losses;
        if (can)
            same_bits(model, query, SHAPES[s].what);
        bf_model_free(model);
        if (!can)
            return;
    }
}

static void record__same_bits_for_any_threads_and_memory_in_f32(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    same_bits_in(BF_PRECISION_F32);
}

static void record__same_bits_for_any_threads_and_memory_in_f64(void **state)
{
    (void)state;
    same_bits_in(BF_PRECISION_F64);
}

static void record__same_bits_for_any_threads_and_memory_in_bf16(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    same_bits_in(BF_PRECISION_BF16);
}

/* Weights that are converted, too many to be kept; products too large for BLAS's small kernels. */
static void record__same_bits_where_weights_come_and_go(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    const made_model wide = {.family = "llama", .L = 8, .D = 136, .H = 4, .G = 2, .K = 34, .F = 150,
                             .V = 41, .P = 200, .dtype = BF_BF16, .seed = 9};
    bf_model *model = open_made(&wide);
    for (bf_precision p = BF_PRECISION_F32; p <= BF_PRECISION_F64; p++) {
        bf_query query = query_of(model, 65, p);
        query.no_attn = true;
        same_bits(model, query, "wide");
        query.threads = 1;
        query.memory = least_memory(model, query);
        const size_t converted = bf_model_dims(model)->parameters * (p == BF_PRECISION_F64 ? 8 : 4);
        assert_true(query.memory / 2 < converted); /* else they were all kept */
    }
    bf_model_free(model);
}

/* --- zeros */

/* How many positions back the flow reaches through layers l and above it, at most N. */
static size_t reach_through(const walk_shape *s, size_t l, size_t N)
{
    size_t reach = 0;
    for (; l < s->made.L; l++)
        reach += s->window[l] ? s->window[l] - 1 : N;
    return reach < N ? reach : N;
}

/* resid_pre, k, v lie below their layer's attention, resid_final above all, the rest above it. */
static size_t first_layer(const char *name, size_t l, size_t L)
{
    if (starts_with(name, "flow.resid_final"))
        return L;
    const bool below = starts_with(name, "flow.resid_pre") || starts_with(name, "flow.k") ||
                       starts_with(name, "flow.v");
    return below ? l : l + 1;
}

/* Exactly 0 where nothing can arrive; norms are positive where something must. */
static void look_for_zeros(const walk_shape *s, const bf_tensor *t)
{
    const flow_axes a = axes_of(t);
    const bool norms = ends_with(t->name, "grad_norm");
    for (size_t l = 0; l < a.layers; l++) {
        const size_t reach = reach_through(s, first_layer(t->name, l, s->made.L), a.N);
        for (size_t n = 0; n < a.heads * a.N * a.N; n++) {
            const size_t h = n / (a.N * a.N), i = n / a.N % a.N, j = n % a.N;
            const double value = flow_at(&a, l, h, i, j);
            const bool arrives = j <= i && i - j <= reach;
            /* a single key has no rival: nothing reaches the query that reads it, nor that key */
            const bool lone = (starts_with(t->name, "flow.q") && j == 0) ||
                              (starts_with(t->name, "flow.k") && i == 0);
            if ((!arrives && (value != 0.0 || signbit(value))) ||
                (arrives && norms && !lone && !(value > 0.0)))
                fail_msg("%s: %s of layer %zu, head %zu, loss %zu, position %zu is %g", s->what,
                         t->name, l, h, i, j, value);
        }
    }
}

static void flow__exactly_zero_above_the_diagonal_and_beyond_windows(void **state)
{
    (void)state;
    for (size_t s = 0; s < 3 * N_SHAPES; s++) {
        const walk_shape *shape = &SHAPES[s / 3];
        bf_model *model = open_made(&shape->made);
        bf_query query = query_of(model, 47, (bf_precision)(s % 3));
        const bool can = s % 3 != BF_PRECISION_BF16 || has_bf16(model);
        bf_record *record = can ? trace_of(model, &query) : NULL;
        size_t seen = 0;
        for (size_t k = 0; can && k < bf_record_count(record); k++)
            if (starts_with(bf_record_at(record, k)->name, "flow.")) {
                look_for_zeros(shape, bf_record_at(record, k));
                seen++;
            }
        assert_int_equal(seen, can ? 18 : 0);
        bf_record_free(record);
        bf_model_free(model);
    }
}

static void attention__rows_sum_to_1_over_their_keys_alone(void **state)
{
    (void)state;
    for (size_t s = 0; s < 2 * N_SHAPES; s++) {
        const walk_shape *shape = &SHAPES[s / 2];
        bf_model *model = open_made(&shape->made);
        const bool f64 = s % 2;
        bf_query query = query_of(model, 71, f64 ? BF_PRECISION_F64 : BF_PRECISION_F32);
        query.sites = BF_SITE_RESID_FINAL;
        bf_record *record = trace_of(model, &query);
        const flow_axes a = axes_of(tensor_of(record, "attn"));
        for (size_t n = 0; n < a.layers * a.heads * a.N; n++) {
            const size_t l = n / a.N / a.heads, h = n / a.N % a.heads, i = n % a.N;
            const size_t w = shape->window[l] ? shape->window[l] : a.N;
            double sum = 0.0;
            for (size_t j = 0; j < a.N; j++) {
                const double p = flow_at(&a, l, h, i, j);
                if (j <= i && i - j < w)
                    assert_true(p > 0.0 && p <= 1.0 + 1e-6);
                else
                    assert_true(p == 0.0);
                sum += p;
            }
            assert_close(sum, 1.0, f64 ? 1e-14 : 1e-6);
        }
        bf_record_free(record);
        bf_model_free(model);
    }
}

/* --- identities */

static void check_identities(const walk_shape *shape, bf_model *model, const bf_query *query)
{
    bf_check checks[8];
    bf_error err = {0};
    bf_record *record = NULL;
    size_t n = 0;
    if (bf_trace(&record, model, query, NULL, checks, &n, &err))
        fail_msg("%s: %s", shape->what, err.msg);
    assert_int_equal(n, strcmp(shape->made.family, "gpt2") == 0 ? 5 : 4);
    for (size_t k = 0; k < n; k++) {
        char key[64];
        snprintf(key, sizeof key, "check.%.31s", checks[k].name);
        assert_non_null(bf_record_meta(record, key));
        if (!(checks[k].residual <= checks[k].tolerance))
            fail_msg("%s, %s, %zu positions: %s is %.3g, tolerance %.3g", shape->what,
                     PRECISIONS[query->precision], query->n_tokens - 1, checks[k].name,
                     checks[k].residual, checks[k].tolerance);
    }
    bf_record_free(record);
}

static void checks_hold_in(bf_precision precision)
{
    static const size_t N[] = {1, 2, 65}, losses[] = {1, 2, 3, 17, 64}, layers[] = {1};
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        const bool can = precision != BF_PRECISION_BF16 || has_bf16(model);
        /* a single loss may change by less than bf16's rounding along a random direction */
        for (size_t k = precision == BF_PRECISION_BF16 ? 2 : 0; k < 3 && can; k++) {
            bf_query query = query_of(model, N[k], precision);
            query.check = true;
            check_identities(&SHAPES[s], model, &query);
            if (N[k] < 65)
                continue;
            query.losses = losses;
            query.n_losses = 5;
            check_identities(&SHAPES[s], model, &query);
            query.layers = layers;
            query.n_layers = 1;
            if (SHAPES[s].made.L > 1)
                check_identities(&SHAPES[s], model, &query);
        }
        bf_model_free(model);
    }
}

/* Whatever stands in the loss's place: the central differences are of that. */
static void checks__hold_for_every_target(void **state)
{
    (void)state;
    static const bf_target targets[] = {{.kind = BF_TARGET_LOGIT, .a = 3},
                                        {.kind = BF_TARGET_LOGPROB, .a = 7},
                                        {.kind = BF_TARGET_LOGIT_DIFF, .a = 3, .b = 5},
                                        {.kind = BF_TARGET_ENTROPY}};
    static const size_t losses[] = {17, 18, 19, 20, 21};
    for (size_t s = 0; s < 4 * 4; s++) {
        bf_model *model = open_made(&SHAPES[s / 4].made);
        bf_query query = query_of(model, 40, BF_PRECISION_F64);
        query.check = true;
        query.target = targets[s % 4];
        check_identities(&SHAPES[s / 4], model, &query);
        query.losses = losses;
        query.n_losses = 5;
        query.sum = true;
        check_identities(&SHAPES[s / 4], model, &query);
        bf_model_free(model);
    }
}

static void checks__hold_in_f32(void **state)
{
    (void)state;
    checks_hold_in(BF_PRECISION_F32);
}

static void checks__hold_in_f64(void **state)
{
    (void)state;
    checks_hold_in(BF_PRECISION_F64);
}

static void checks__hold_in_bf16(void **state)
{
    (void)state;
    checks_hold_in(BF_PRECISION_BF16);
}

/* --- precision */

/* bf16 keeps 8 bits: each product is off by 2^-9, some ten of them in a row by a percent or two. */
static void bf16__is_within_3_percent_of_f64(void **state)
{
    (void)state;
    for (size_t s = 0; s < N_SHAPES; s++) {
        bf_model *model = open_made(&SHAPES[s].made);
        bf_query query = query_of(model, 66, BF_PRECISION_BF16);
        if (has_bf16(model)) {
            bf_record *rough = trace_of(model, &query);
            query.precision = BF_PRECISION_F32;
            bf_record *fine = trace_of(model, &query);
            query.precision = BF_PRECISION_F64;
            bf_record *exact = trace_of(model, &query);
            const double off = furthest(exact, rough), off32 = furthest(exact, fine);
            print_message("%s: bf16 is off by %.2g, f32 by %.2g of a tensor's largest\n",
                          SHAPES[s].what, off, off32);
            assert_true(off <= 0.03);
            assert_true(off32 <= 2e-5);
            assert_true(off > 10.0 * off32); /* else bf16 was not what walked */
            bf_record_free(rough);
            bf_record_free(fine);
            bf_record_free(exact);
        }
        bf_model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(record__same_bits_for_any_threads_and_memory_in_f32),
        cmocka_unit_test(record__same_bits_for_any_threads_and_memory_in_f64),
        cmocka_unit_test(record__same_bits_for_any_threads_and_memory_in_bf16),
        cmocka_unit_test(record__same_bits_where_weights_come_and_go),
        cmocka_unit_test(flow__exactly_zero_above_the_diagonal_and_beyond_windows),
        cmocka_unit_test(attention__rows_sum_to_1_over_their_keys_alone),
        cmocka_unit_test(checks__hold_for_every_target),
        cmocka_unit_test(checks__hold_in_f32),
        cmocka_unit_test(checks__hold_in_f64),
        cmocka_unit_test(checks__hold_in_bf16),
        cmocka_unit_test(bf16__is_within_3_percent_of_f64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
