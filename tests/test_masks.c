/* Attention masks in the walk: where gradient can arrive, what does, and that nothing else changes. */
#include "tests/masked_model.h"

#include "tests/rows_alike.h"

/* --- zeros */

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
static void look_for_zeros(const masked_model *m, const bf_tensor *t)
{
    const flow_axes a = axes_of(t);
    const bool sure = ends_with(t->name, "grad_norm") && !starts_with(t->name, "flow.q") &&
                      !starts_with(t->name, "flow.k"); /* a single key has no rival */
    bool at[MAX_TOKENS];
    for (size_t n = 0; n < a.layers * a.losses; n++) {
        const size_t l = n / a.losses, row = n % a.losses, i = loss_of(m, row);
        reached(at, m->mask, 3, first_layer(t->name, l, 3), i, a.N);
        for (size_t h = 0; h < a.heads; h++)
            for (size_t j = 0; j < a.N; j++) {
                const double value = flow_at(&a, l, h, row, j);
                if ((!at[j] && (value != 0.0 || signbit(value))) || (at[j] && sure && !(value > 0.0)))
                    fail_msg("%s: %s of layer %zu, head %zu, loss %zu, position %zu is %g", m->what, t->name,
                             l, h, i, j, value);
            }
    }
}

static void flow__exactly_zero_where_no_query_lets_it_through(void **state)
{
    (void)state;
    for (size_t k = 0; k < 2 * N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / 2 / FAMILIES];
        bf_model *model = open_masked(m, k / 2 % FAMILIES);
        bf_query query = masked_query(m, model, 41, k % 2 ? BF_PRECISION_F64 : BF_PRECISION_F32);
        bf_record *record = trace_of(model, &query);
        size_t seen = 0;
        for (size_t n = 0; n < bf_record_count(record); n++)
            if (starts_with(bf_record_at(record, n)->name, "flow.")) {
                look_for_zeros(m, bf_record_at(record, n));
                seen++;
            }
        assert_int_equal(seen, 18);
        bf_record_free(record);
        bf_model_free(model);
    }
}

/* --- values */

enum { FEW = 11 };

/* |d loss_i / d resid_pre[l] at j| for all, by central differences along each coordinate. */
static double *numeric_norms(const masked_model *m, bf_model *model, size_t l)
{
    bf_query query = masked_query(m, model, FEW, BF_PRECISION_F64);
    const size_t D = bf_model_dims(model)->D;
    double *norm = calloc(FEW * FEW, sizeof *norm), *u = calloc(FEW * D, sizeof *u), slope[FEW];
    bf_error err = {0};
    bf_job job;
    query.threads = 1;
    assert_true(norm && u);
    if (bf_job_make(&job, model, &query, &err))
        fail_msg("%s", err.msg);
    for (size_t n = 0; n < FEW * D; n++) {
        u[n] = 1.0;
        if (bf_differences(slope, &job, l, u, &err))
            fail_msg("%s", err.msg);
        u[n] = 0.0;
        for (size_t i = 0; i < FEW; i++)
            norm[i * FEW + n / D] += slope[i] * slope[i];
    }
    bf_job_free(&job);
    free(u);
    return norm;
}

static void flow__equals_differences_along_each_coordinate(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / FAMILIES];
        bf_model *model = open_masked(m, k % FAMILIES);
        bf_query query = masked_query(m, model, FEW, BF_PRECISION_F64);
        bf_record *record = trace_of(model, &query);
        const flow_axes a = axes_of(tensor_of(record, "flow.resid_pre.grad_norm"));
        for (size_t l = k % FAMILIES; l < 3; l += 2) { /* 0 and 2, or 1 */
            double *norm = numeric_norms(m, model, l), worst = 0.0, largest = 0.0;
            for (size_t n = 0; n < a.losses * FEW; n++) {
                const double want = sqrt(norm[loss_of(m, n / FEW) * FEW + n % FEW]);
                worst = fmax(worst, fabs(want - flow_at(&a, l, 0, n / FEW, n % FEW)));
                largest = fmax(largest, want);
            }
            if (!(worst <= 1e-8 * largest))
                fail_msg("%s: layer %zu is off by %.3g of %.3g", m->what, l, worst, largest);
            free(norm);
        }
        bf_record_free(record);
        bf_model_free(model);
    }
}

static void check_identities(const masked_model *m, bf_model *model, bf_query query)
{
    bf_check checks[8];
    bf_error err = {0};
    bf_record *record = NULL;
    size_t n = 0;
    query.check = true;
    if (bf_trace(&record, model, &query, NULL, checks, &n, &err))
        fail_msg("%s: %s", m->what, err.msg);
    assert_true(n >= 4);
    for (size_t k = 0; k < n; k++)
        if (!(checks[k].residual <= checks[k].tolerance))
            fail_msg("%s: %s is %.3g, tolerance %.3g", m->what, checks[k].name, checks[k].residual,
                     checks[k].tolerance);
    bf_record_free(record);
}

static void checks__hold_under_every_mask(void **state)
{
    (void)state;
    static const size_t N[] = {2, 67}, some[] = {3, 4, 11};
    for (size_t k = 0; k < 2 * N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / 2 / FAMILIES];
        bf_model *model = open_masked(m, k / 2 % FAMILIES);
        for (size_t n = 0; n < 2; n++) {
            bf_query query = masked_query(m, model, N[n], k % 2 ? BF_PRECISION_F64 : BF_PRECISION_F32);
            check_identities(m, model, query);
            query.losses = some;
            query.n_losses = 3;
            if (n)
                check_identities(m, model, query);
        }
        bf_model_free(model);
    }
}

static void record__same_bits_for_any_threads_and_memory(void **state)
{
    (void)state;
    skip_unless_rows_are_alike();
    for (size_t k = 0; k < N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / FAMILIES];
        bf_model *model = open_masked(m, k % FAMILIES);
        bf_query query = masked_query(m, model, 66, BF_PRECISION_F32);
        static const size_t some[] = {3, 4, 30};
        query.scores = BF_SCORE_ALL | BF_SCORE_EDGE;
        query.losses = some;
        query.n_losses = 3;
        query.threads = 1;
        bf_record *want = trace_of(model, &query);
        query.threads = 3;
        query.memory = least_memory(model, query);
        bf_record *got = trace_of(model, &query);
        const char *name = first_difference(want, got);
        if (name)
            fail_msg("%s: %s differs with %zu bytes", m->what, name, query.memory);
        bf_record_free(want);
        bf_record_free(got);
        bf_model_free(model);
    }
}

/* Blocks of one loss each are the losses; rows below next to nothing can go. */
static void overview_and_prune__come_to_the_same(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / FAMILIES];
        bf_model *model = open_masked(m, k % FAMILIES);
        bf_query query = masked_query(m, model, 33, BF_PRECISION_F64);
        query.no_fold = true;
        bf_record *want = trace_of(model, &query);
        query.tolerance = 1e-14;
        bf_record *pruned = trace_of(model, &query);
        assert_true(furthest(want, pruned) < 1e-10);
        query.tolerance = 0.0;
        query.blocks = m->masked ? 0 : 33;
        bf_record *blocks = m->masked ? NULL : trace_of(model, &query);
        for (size_t n = 0; blocks && n < 9; n++) {
            char flow[64], overview[64];
            snprintf(flow, sizeof flow, "flow.%s.grad_x_act", bf_site_name(1u << n));
            snprintf(overview, sizeof overview, "overview.%s.grad_x_act", bf_site_name(1u << n));
            const bf_tensor *a = tensor_of(want, flow), *b = tensor_of(blocks, overview);
            assert_int_equal(bf_tensor_count(a), bf_tensor_count(b));
            for (size_t e = 0; e < bf_tensor_count(a); e++)
                assert_true(bf_tensor_value(a, e) == bf_tensor_value(b, e));
        }
        bf_record_free(want);
        bf_record_free(pruned);
        bf_record_free(blocks);
        bf_model_free(model);
    }
}

static void fold__comes_to_the_same(void **state)
{
    (void)state;
    size_t fold = 0;
    for (size_t k = 0; k < N_MODELS * FAMILIES; k++) {
        const masked_model *m = &MODELS[k / FAMILIES];
        made_model made = FOLDING[strstr(m->extra, "compressive") ? 0 : k % FAMILIES];
        made.L = 3;
        made.extra = m->extra;
        made.gates = learnt_gates(m);
        bf_model *model = open_made(&made);
        bf_query query = masked_query(m, model, 64, BF_PRECISION_F64);
        const bool folds = folded(model, &query) > 0;
        bf_record *with = trace_of(model, &query);
        query.no_fold = true;
        bf_record *without = trace_of(model, &query);
        assert_true(furthest(without, with) < 1e-11);
        assert_true(folds == !!first_difference(without, with));
        fold += folds;
        bf_record_free(with);
        bf_record_free(without);
        bf_model_free(model);
    }
    printf("%zu of %d fold\n", fold, N_MODELS * FAMILIES);
    assert_true(fold > N_MODELS); /* short windows and segments leave too few rows */
}

/* --- cuts and masked tokens */

static void detach__leaves_the_forward_run_as_it_is(void **state)
{
    (void)state;
    const masked_model *cut = &MODELS[4], *plain = &MODELS[5];
    bf_model *model = open_masked(cut, 1), *same = open_masked(plain, 1);
    bf_query query = query_of(model, 40, BF_PRECISION_F32);
    bf_record *by_model = trace_of(model, &query);
    query.detach = BF_DETACH_NONE;
    bf_record *none = trace_of(model, &query);
    query.detach = BF_DETACH_MODEL;
    bf_record *whole = trace_of(same, &query);
    query.detach = BF_DETACH_MEMORY;
    bf_record *by_query = trace_of(same, &query);
    assert_null(first_difference(by_model, by_query));
    assert_null(first_difference(none, whole));
    const bf_tensor *a = tensor_of(by_model, "loss"), *b = tensor_of(none, "loss");
    assert_memory_equal(a->data, b->data, 40 * sizeof(float));
    assert_non_null(first_difference(by_model, none));
    assert_string_equal(bf_record_meta(by_model, "detach"), "memory");
    assert_string_equal(bf_record_meta(by_model, "mask"), "segment 6, memory 9");
    assert_null(bf_record_meta(none, "detach"));
    bf_record_free(by_model);
    bf_record_free(none);
    bf_record_free(whole);
    bf_record_free(by_query);
    bf_model_free(model);
    bf_model_free(same);
}

static void masked__true_token_is_not_read(void **state)
{
    (void)state;
    const masked_model *m = &MODELS[8];
    bf_model *model = open_masked(m, 0);
    bf_query query = masked_query(m, model, 20, BF_PRECISION_F64);
    int64_t other[20];
    memcpy(other, query.tokens, sizeof other);
    bf_record *one = trace_of(model, &query);
    other[3] = (other[3] + 1) % 29;
    query.tokens = other;
    bf_record *two = trace_of(model, &query);
    assert_memory_equal(tensor_of(one, "attn")->data, tensor_of(two, "attn")->data,
                        bf_tensor_count(tensor_of(one, "attn")) * sizeof(double));
    for (size_t j = 0; j < 20; j++) {
        const bool same = bf_tensor_value(tensor_of(one, "loss"), j) == bf_tensor_value(tensor_of(two, "loss"), j);
        assert_true(same == (j != 3));
    }
    const bf_tensor *masked = tensor_of(one, "masked"), *losses = tensor_of(one, "losses");
    assert_int_equal(bf_tensor_count(masked), 4);
    assert_int_equal(bf_tensor_count(tensor_of(one, "tokens")), 20);
    for (size_t k = 0; k < 4; k++) {
        assert_true(bf_tensor_value(masked, k) == (double)hidden[k]);
        assert_true(bf_tensor_value(losses, k) == (double)hidden[k]);
    }
    bf_record_free(one);
    bf_record_free(two);
    bf_model_free(model);
}

static void must_refuse(bf_model *model, const bf_query *query, const char *word)
{
    bf_record *record = NULL;
    bf_error err = {0};
    const bf_code rc = bf_trace(&record, model, query, NULL, NULL, NULL, &err);
    if (rc != BF_EARG || record || !strstr(err.msg, word))
        fail_msg("code %d, \"%s\", wanted \"%s\"", rc, err.msg, word);
}

static void queries__that_ask_for_what_is_not_there_are_EARG(void **state)
{
    (void)state;
    static const size_t wrong_way[] = {4, 3}, far[] = {4, 20}, other[] = {3, 5};
    bf_model *causal = open_masked(&MODELS[0], 0), *both = open_masked(&MODELS[7], 0),
             *encoder = open_masked(&MODELS[8], 0);
    bf_query query = masked_query(&MODELS[8], encoder, 20, BF_PRECISION_F32);
    must_refuse(causal, &query, "no mask token");
    must_refuse(both, &query, "no mask token");
    query.blocks = 2;
    must_refuse(encoder, &query, "overview");
    query.blocks = 0;
    query.losses = other;
    query.n_losses = 2;
    must_refuse(encoder, &query, "not masked");
    query.losses = NULL;
    query.n_masked = 2;
    query.masked = wrong_way;
    must_refuse(encoder, &query, "ascending");
    query.masked = far;
    must_refuse(encoder, &query, "masked position 20");
    query = query_of(both, 9, BF_PRECISION_F32);
    query.detach = BF_DETACH_MYOPIC;
    must_refuse(both, &query, "bidirectional");
    query.detach = BF_DETACH_MEMORY;
    must_refuse(causal, &query, "no memory to detach");
    query.detach = (bf_detach)9;
    must_refuse(causal, &query, "unknown detach");
    bf_model_free(causal);
    bf_model_free(both);
    bf_model_free(encoder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow__exactly_zero_where_no_query_lets_it_through),
        cmocka_unit_test(flow__equals_differences_along_each_coordinate),
        cmocka_unit_test(checks__hold_under_every_mask),
        cmocka_unit_test(record__same_bits_for_any_threads_and_memory),
        cmocka_unit_test(overview_and_prune__come_to_the_same),
        cmocka_unit_test(fold__comes_to_the_same),
        cmocka_unit_test(detach__leaves_the_forward_run_as_it_is),
        cmocka_unit_test(masked__true_token_is_not_read),
        cmocka_unit_test(queries__that_ask_for_what_is_not_there_are_EARG),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
