/* test_trust.c -- is a right record trusted, and do its numbers say what happens?
 *
 * Reads tests/goldens, examples/models/kjv-1m and, where present, ../shared/models/stories260K. */
#include "tests/trust_subject.h"

#include <dirent.h>

#include "base/packed.h"

static const char stories[] = "../shared/models/stories260K";

/* ---- statistics */

static void agree__numbers_worked_out_by_hand(void **state)
{
    (void)state;
    /* means 2.5, 3.25; xx 5, yy 24.75, xy 10.5; through 0: 43/30; ranks 0 1 2 3 and 0 1.5 1.5 3 */
    const double x[] = {1, 2, 3, 4}, y[] = {0, 3, 3, 7};
    bf_ranked ranked[4];
    double ranks[8];
    bf_agreement a;
    bf_agree(&a, x, y, 4, ranked, ranks);
    assert_int_equal(a.n, 4);
    assert_close(a.pearson, 10.5 / sqrt(5 * 24.75), 1e-15);
    assert_close(a.spearman, 4.5 / sqrt(5 * 4.5), 1e-15);
    assert_close(a.slope, 43.0 / 30, 1e-15);
    assert_close(a.free_slope, 2.1, 1e-15);
    assert_close(a.intercept, 3.25 - 2.1 * 2.5, 1e-14);
    assert_close(a.sign, 0.75, 0);
    assert_close(a.error, 0.5 * (1.0 / 3 + 3.0 / 7), 1e-15); /* of inf 1/3 0 3/7: 1/3 and 3/7 */
    const double minus[] = {-1, -2, -3, -4};
    bf_agree(&a, minus, x, 4, ranked, ranks);
    assert_close(a.pearson, -1, 1e-15);
    assert_close(a.slope, -1, 1e-15);
    assert_close(a.sign, 0, 0);
    bf_agree(&a, x, x, 1, ranked, ranks);
    assert_true(isnan(a.pearson) && isnan(a.spearman) && isnan(a.free_slope));
    assert_close(a.slope, 1, 0);
    bf_agree(&a, x, x, 0, ranked, ranks);
    assert_true(isnan(a.slope) && isnan(a.error));
}

/* ---- moved vectors */

typedef struct {
    bf_evidence evidence;
    bf_trust_query query;
    bf_trial trial;
} setting;

static void start_trial(setting *t, subject *s)
{
    *t = (setting){.query = {.threads = 2}};
    assert_int_equal(bf_evidence_open(&t->evidence, s->record, s->model, &s->err), BF_OK);
    assert_int_equal(bf_trial_new(&t->trial, &t->evidence, s->model, &t->query, &s->err), BF_OK);
}

static void end_trial(setting *t)
{
    bf_trial_end(&t->trial);
    bf_evidence_end(&t->evidence);
}

/* Put a vector in its own place: nothing may change. Put another one there: only losses from its
 * position on may, and at least one of them must. */
static void check_edits(setting *t, unsigned k, size_t l)
{
    bf_trial *trial = &t->trial;
    const size_t width = bf_trial_width(trial, k), N = trial->N, j = N / 2;
    double *other = calloc(width, sizeof *other);
    size_t moved = 0;
    assert_non_null(other);
    bf_edit_f64 edit = {k, l, 0, j, bf_trial_vector(trial, k, l, 0, j)};
    assert_int_equal(bf_trial_run(trial, l, &edit, 1, N, NULL), BF_OK);
    assert_memory_equal(trial->work->loss, trial->base->loss, N * sizeof(double));
    for (size_t d = 0; d < width; d++)
        other[d] = 1.0 + 0.5 * (double)(d % 3);
    edit.value = other;
    assert_int_equal(bf_trial_run(trial, l, &edit, 1, N, NULL), BF_OK);
    for (size_t i = 0; i < N; i++) {
        const bool same = trial->work->loss[i] == trial->base->loss[i];
        assert_true(same || i >= j);
        assert_true(same || bf_trial_reaches(trial, k, l, j, i));
        moved += !same;
    }
    if (!moved)
        fail_msg("site %u, layer %zu: nothing moved", k, l);
    free(other);
}

static void edit__moves_what_comes_after_and_nothing_else(void **state)
{
    (void)state;
    static const char *const folders[] = {"tests/goldens/llama_grouped",
                                          "tests/goldens/gpt2_odd_heads",
                                          "tests/goldens/mistral_window"};
    for (size_t f = 0; f < 3; f++) {
        subject s;
        setting t;
        open_subject(&s, folders[f]);
        trace(&s, (bf_query){.precision = BF_PRECISION_F64});
        start_trial(&t, &s);
        const size_t L = t.trial.c->L;
        for (unsigned k = 0; k < BF_SITES; k++)
            for (size_t l = 0; l < L; l++)
                check_edits(&t, k, k == BF_AT_RESID_FINAL ? L : l);
        end_trial(&t);
        close_subject(&s);
    }
}

/* ---- right records */

/* Every kind of move: the derivative, and a move so small that it is nearly one. */
static void check_small_moves(const bf_trust *trust, const char *folder)
{
    for (size_t k = 0; k < trust->n_rows; k++)
        if (!trust->rows[k].holds)
            fail_msg("%s: %s %s does not hold, residual %.3g", folder, trust->rows[k].what,
                     trust->rows[k].move, trust->rows[k].residual);
    assert_true(trust->holds && trust->loss_error < 1e-12);
    for (size_t k = 0; k < trust->n_rows; k++) {
        const bf_trust_row *row = &trust->rows[k];
        if (row->n < 3 ||
            row->all[0].slope != row->all[0].slope) /* nothing reaches it but itself */
            continue;
        for (size_t s = 0; s < 2; s++) {
            const bf_agreement *a = &row->all[s];
            if (!(fabs(a->slope - 1.0) < 1e-3 && a->pearson > 0.9999 && a->sign > 0.8))
                fail_msg("%s: %s %s at size %zu: slope %.6f, r %.6f, signs %.3f of %zu", folder,
                         row->what, row->move, s, a->slope, a->pearson, a->sign, a->n);
        }
        if (!(row->residual < 1e-3))
            fail_msg("%s: %s %s: residual %.3g", folder, row->what, row->move, row->residual);
    }
}

static void trust__derivatives_hold_on_every_golden(void **state)
{
    (void)state;
    static const double small[] = {0x1p-16, 1.0};
    DIR *dir = opendir("tests/goldens");
    size_t seen = 0, rows = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        char folder[512];
        subject s;
        if (e->d_name[0] == '.')
            continue;
        snprintf(folder, sizeof folder, "tests/goldens/%s/ref.safetensors", e->d_name);
        if (access(folder, R_OK) != 0) /* not of a model */
            continue;
        *strrchr(folder, '/') = '\0';
        open_subject(&s, folder);
        trace_all(&s);
        const char *mask = bf_record_meta(s.record, "mask");
        if (mask && (strstr(mask, "bidirectional") || strstr(mask, "compressive"))) {
            refused(&s, s.record, (bf_trust_query){0}, BF_EUNSUPPORTED, "softmax alone");
            close_subject(&s);
            continue;
        }
        bf_trust *trust = judge(&s, s.record,
                                (bf_trust_query){.sizes = small,
                                                 .n_sizes = 2,
                                                 .pairs = 240,
                                                 .no_curves = true,
                                                 .sites = BF_SITE_ALL & ~BF_SITE_RESID_FINAL});
        check_small_moves(trust, folder);
        rows += trust->n_rows;
        seen++;
        bf_trust_free(trust);
        close_subject(&s);
    }
    closedir(dir);
    assert_true(seen >= 12);
    /* eight sites, four directions, five shares, two edges; of one position there are fewer */
    assert_true(rows >= 15 * seen);
}

static void check_trained(const char *folder)
{
    static const double small[] = {1.0 / 1024, 1.0 / 64};
    static const char *const sites[] = {"resid_pre", "resid_mid", "attn_out", "mlp_out", "z"};
    subject s;
    open_subject(&s, folder);
    trace(&s, (bf_query){.precision = BF_PRECISION_F64});
    bf_trust *trust = judge(
        &s, s.record,
        (bf_trust_query){.sizes = small, .n_sizes = 2, .no_curves = true, .pairs = 600});
    assert_true(trust->holds);
    for (size_t k = 0; k < 5; k++) {
        const bf_trust_row *row = find_row(trust, sites[k], "scaled");
        if (!(fabs(row->all[1].slope - 1.0) < 1e-3 && row->all[1].pearson > 0.9999))
            fail_msg("%s: %s at 1/1024: slope %.6f, r %.6f", folder, sites[k], row->all[1].slope,
                     row->all[1].pearson);
        assert_true(fabs(row->all[1].slope - 1.0) < fabs(row->all[2].slope - 1.0) + 1e-4);
        assert_close(row->range, 1.0 / 64, 0);
        assert_true(row->n >= 500 && row->moves >= 12);
    }
    bf_trust_free(trust);
    close_subject(&s);
}

static void trust__slopes_go_to_one_on_trained_models(void **state)
{
    (void)state;
    check_trained(bundled);
    if (access(stories, R_OK) == 0)
        check_trained(stories);
    else
        print_message("skipped: %s is not here\n", stories);
}

/* Float's rounding, bfloat16's and dropped rows leave a record that holds. */
static void trust__rounded_records_hold(void **state)
{
    (void)state;
    subject s;
    open_subject(&s, bundled);
    const bf_trust_query query = {.pairs = 160, .no_curves = true};
    trace(&s, (bf_query){.precision = BF_PRECISION_F32});
    bf_trust *trust = judge(&s, s.record, query);
    assert_true(trust->holds);
    assert_true(trust->loss_error > 0.0 && trust->loss_error < 1e-4);
    bf_trust_free(trust);
    trace(&s, (bf_query){.precision = BF_PRECISION_F32, .tolerance = 1e-3});
    trust = judge(&s, s.record, query);
    assert_true(trust->holds);
    bf_trust_free(trust);
    if (bf_bf16_available()) {
        trace(&s, (bf_query){.precision = BF_PRECISION_BF16});
        trust = judge(&s, s.record, query);
        assert_true(trust->holds);
        assert_true(find_row(trust, "resid_pre", "scaled")->residual > 1e-4); /* it is bfloat16 */
        bf_trust_free(trust);
    } else {
        print_message("skipped: no bfloat16 on this processor\n");
    }
    close_subject(&s);
}

static void trust__other_targets_and_sums_hold(void **state)
{
    (void)state;
    static const bf_target targets[] = {{.kind = BF_TARGET_LOGIT, .a = 3, .b = -1},
                                        {.kind = BF_TARGET_LOGPROB, .a = -1, .b = -1},
                                        {.kind = BF_TARGET_LOGIT_DIFF, .a = -1, .b = 5},
                                        {.kind = BF_TARGET_ENTROPY, .a = -1, .b = -1}};
    static const size_t span[] = {4, 5, 6};
    const bf_trust_query query = {.pairs = 200};
    subject s;
    open_subject(&s, "tests/goldens/llama_grouped");
    for (size_t k = 0; k < 4; k++) {
        trace(&s, (bf_query){.precision = BF_PRECISION_F64, .target = targets[k]});
        bf_trust *trust = judge(&s, s.record, query);
        if (!trust->holds)
            fail_msg("target %s does not hold", bf_record_meta(s.record, "target"));
        bf_trust_free(trust);
    }
    trace(&s,
          (bf_query){.precision = BF_PRECISION_F64, .losses = span, .n_losses = 3, .sum = true});
    bf_trust *trust = judge(&s, s.record, query);
    assert_true(trust->holds);
    assert_true(find_row(trust, "resid_pre", "gradient")->n > 4);
    bf_trust_free(trust);
    close_subject(&s);
}

/* What is measured of a part of the record is what is measured of all of it. */
static void trust__subsets_of_layers_and_losses_hold(void **state)
{
    (void)state;
    static const size_t layers[] = {1}, losses[] = {2, 5, 9}, chosen[] = {5, 9};
    subject s;
    open_subject(&s, "tests/goldens/llama_grouped");
    trace(&s, (bf_query){.precision = BF_PRECISION_F64,
                         .layers = layers,
                         .n_layers = 1,
                         .losses = losses,
                         .n_losses = 3,
                         .sites = BF_SITE_RESID_PRE | BF_SITE_Z});
    bf_trust *trust = judge(&s, s.record,
                            (bf_trust_query){.losses = chosen, .n_losses = 2, .pairs = 1000});
    assert_true(trust->holds);
    assert_int_equal(trust->n_losses, 2);
    assert_int_equal(trust->losses[0], 5);
    assert_int_equal(trust->losses[1], 9);
    for (size_t k = 0; k < trust->n_rows; k++)
        for (size_t p = 0; p < trust->rows[k].n; p++) {
            const size_t i = trust->rows[k].loss[p];
            assert_true(i == 5 || i == 9);
            assert_true(trust->rows[k].position[p] <= i);
        }
    assert_int_equal(find_row(trust, "resid_pre", "scaled")->n, 6 + 10); /* every pair, one layer */
    assert_int_equal(trust->n_curves, 3); /* layer 0 is not recorded: attention, rollout, random */
    bf_trust_free(trust);
    close_subject(&s);
}

static void trust__threads_change_no_bit(void **state)
{
    (void)state;
    subject s;
    open_subject(&s, bundled);
    trace(&s, (bf_query){.precision = BF_PRECISION_F64});
    static const size_t losses[] = {9, 20};
    bf_trust_query query = {.pairs = 80, .threads = 1, .seed = 3, .losses = losses, .n_losses = 2};
    bf_trust *one = judge(&s, s.record, query);
    query.threads = 3;
    bf_trust *three = judge(&s, s.record, query);
    query.seed = 4;
    bf_trust *other = judge(&s, s.record, query);
    assert_int_equal(one->n_rows, three->n_rows);
    for (size_t k = 0; k < one->n_rows; k++) {
        assert_int_equal(one->rows[k].n, three->rows[k].n);
        assert_memory_equal(one->rows[k].real, three->rows[k].real,
                            one->rows[k].n * (one->n_sizes + 1) * sizeof(double));
    }
    for (size_t k = 0; k < one->n_curves; k++)
        assert_memory_equal(one->curves[k].deletion, three->curves[k].deletion,
                            (one->n_steps + 1) * sizeof(double));
    assert_true(one->rows[0].real[0] != other->rows[0].real[0]); /* another seed, other pairs */
    bf_trust_free(one);
    bf_trust_free(three);
    bf_trust_free(other);
    close_subject(&s);
}

/* ---- curves */

/* One deletion curve over again: the ranking from the record, the removals by edits of our own. */
static void check_deletion(subject *s, const bf_trust *trust, size_t i)
{
    setting t;
    const double *flow = values(s->record, "flow.resid_pre.grad_norm");
    const size_t N = s->n_tokens - 1, n = i + 1;
    size_t order[64];
    start_trial(&t, s);
    const size_t D = t.trial.c->D;
    double *mean = calloc(D, sizeof *mean);
    bf_edit_f64 edits[64];
    for (size_t j = 0; j < N; j++)
        for (size_t d = 0; d < D; d++)
            mean[d] += bf_trial_vector(&t.trial, BF_AT_RESID_PRE, 0, 0, j)[d] / (double)N;
    for (size_t j = 0; j < n; j++) {
        size_t at = j;
        for (; at && flow[i * N + order[at - 1]] < flow[i * N + j]; at--)
            order[at] = order[at - 1];
        order[at] = j;
    }
    for (size_t step = 0; step <= trust->n_steps; step++) {
        const double share = (double)(n * step) / (double)trust->n_steps;
        const size_t gone = (size_t)floor(share + 0.5);
        for (size_t k = 0; k < gone; k++)
            edits[k] = (bf_edit_f64){BF_AT_RESID_PRE, 0, 0, order[k], mean};
        assert_int_equal(bf_trial_run(&t.trial, 0, edits, gone, N, NULL), BF_OK);
        for (size_t m = 0; m < trust->n_curves; m++)
            if (strcmp(trust->curves[m].method, "grad_norm") == 0)
                assert_close(trust->curves[m].deletion[step],
                             t.trial.work->loss[i] - t.trial.base->loss[i], 1e-12);
    }
    free(mean);
    end_trial(&t);
}

static void curves__remove_what_is_ranked_first(void **state)
{
    (void)state;
    static const size_t one[] = {20};
    subject s;
    open_subject(&s, bundled);
    trace(&s, (bf_query){.precision = BF_PRECISION_F64});
    bf_trust *trust = judge(&s, s.record,
                            (bf_trust_query){.losses = one, .n_losses = 1, .pairs = 8});
    assert_int_equal(trust->n_curves, BF_TRUST_METHODS);
    assert_int_equal(trust->n_losses, 1);
    check_deletion(&s, trust, 20);
    const bf_trust_curve *random = &trust->curves[trust->n_curves - 1];
    assert_string_equal(random->method, "random");
    for (size_t m = 0; m < trust->n_curves; m++) {
        const bf_trust_curve *c = &trust->curves[m];
        assert_close(c->deletion[0], 0.0, 1e-12);
        assert_close(c->insertion[trust->n_steps], 0.0, 1e-12);
        assert_close(c->deletion[trust->n_steps], random->deletion[trust->n_steps], 1e-12);
        assert_close(c->insertion[0], c->deletion[trust->n_steps], 1e-12);
        double sum = 0.0;
        for (size_t k = 0; k <= trust->n_steps; k++)
            sum += c->deletion[k] * (k == 0 || k == trust->n_steps ? 0.5 : 1.0);
        assert_close(c->deletion_auc, sum / (double)trust->n_steps, 1e-12);
    }
    assert_true(trust->random_deletion_auc[0] < random->deletion_auc);
    assert_true(trust->random_deletion_auc[1] > random->deletion_auc);
    bf_trust_free(trust);
    close_subject(&s);
}

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agree__numbers_worked_out_by_hand),
        cmocka_unit_test(edit__moves_what_comes_after_and_nothing_else),
        cmocka_unit_test(trust__derivatives_hold_on_every_golden),
        cmocka_unit_test(trust__slopes_go_to_one_on_trained_models),
        cmocka_unit_test(trust__rounded_records_hold),
        cmocka_unit_test(trust__other_targets_and_sums_hold),
        cmocka_unit_test(trust__subsets_of_layers_and_losses_hold),
        cmocka_unit_test(trust__threads_change_no_bit),
        cmocka_unit_test(curves__remove_what_is_ranked_first),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
