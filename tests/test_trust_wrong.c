/* test_trust_wrong.c -- is a wrong record not trusted, and one that is none refused? */
#include "tests/trust_subject.h"

/* ---- wrong records */

/* Swap values that are not 0 with others of the tensor. */
static void permute(bf_record *record, const char *name)
{
    double *x = values(record, name);
    const size_t n = bf_tensor_count(bf_record_find(record, name));
    uint64_t seed = 5;
    for (size_t k = n; k > 1; k--) {
        const size_t other = bf_random_below(&seed, k);
        const double held = x[k - 1];
        if (x[other] == 0.0 || held == 0.0)
            continue;
        x[k - 1] = x[other];
        x[other] = held;
    }
}

static void expect_wrong(subject *s, const bf_record *record, const char *what, const char *move)
{
    bf_trust *trust = judge(s, record, (bf_trust_query){.pairs = 240, .no_curves = true});
    const bf_trust_row *row = find_row(trust, what, move);
    if (trust->holds || row->holds || row->residual < 0.04)
        fail_msg("%s, %s: a wrong record holds, residual %.3g", what, move, row->residual);
    bf_trust_free(trust);
}

static void trust__permuted_values_are_not_trusted(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"flow.resid_pre.grad_x_act", "resid_pre", "scaled"},
                                           {"flow.resid_pre.grad_x_act", "resid_pre", "swap"},
                                           {"flow.resid_mid.grad_x_act", "resid_mid", "scaled"},
                                           {"flow.attn_out.grad_x_act", "attn_out", "scaled"},
                                           {"flow.mlp_out.grad_x_act", "mlp_out", "scaled"},
                                           {"flow.z.grad_x_act", "z", "scaled"},
                                           {"flow.resid_pre.grad_norm", "resid_pre", "gradient"},
                                           {"share.skip", "share.skip", "path"},
                                           {"share.mlp", "share.mlp", "path"},
                                           {"share.q", "share.q", "path"},
                                           {"share.k", "share.k", "path"},
                                           {"share.v", "share.v", "path"},
                                           {"edge.value", "edge.k", "path"},
                                           {"edge.value", "edge.v", "path"}};
    subject s;
    open_subject(&s, "tests/goldens/llama_grouped");
    trace_all(&s);
    bf_trust *trust = judge(&s, s.record, (bf_trust_query){.pairs = 240, .no_curves = true});
    assert_true(trust->holds);
    bf_trust_free(trust);
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        bf_record *wrong = copy_of(s.record, NULL);
        permute(wrong, cases[k][0]);
        expect_wrong(&s, wrong, cases[k][1], cases[k][2]);
        bf_record_free(wrong);
    }
    close_subject(&s);
}

static void trust__scaled_flipped_and_other_losses_are_not_trusted(void **state)
{
    (void)state;
    subject s;
    open_subject(&s, "tests/goldens/llama_grouped");
    trace(&s, (bf_query){.precision = BF_PRECISION_F64});
    for (int kind = 0; kind < 2; kind++) {
        bf_record *wrong = copy_of(s.record, NULL);
        double *x = values(wrong, "flow.z.grad_x_act");
        for (size_t k = 0; k < bf_tensor_count(bf_record_find(wrong, "flow.z.grad_x_act")); k++)
            x[k] *= kind ? 1.05 : -1.0;
        expect_wrong(&s, wrong, "z", "scaled");
        bf_record_free(wrong);
    }
    bf_record *wrong = copy_of(s.record, NULL);
    values(wrong, "loss")[3] += 0.01;
    bf_trust *trust = judge(&s, wrong, (bf_trust_query){.pairs = 40, .no_curves = true});
    assert_false(trust->loss_holds || trust->holds);
    assert_close(trust->loss_error, 0.01, 1e-9);
    bf_trust_free(trust);
    bf_record_free(wrong);
    close_subject(&s);
}

/* ---- what cannot be measured */

static void trust__wants_the_model_and_the_flow(void **state)
{
    (void)state;
    static const size_t absent[] = {3}, losses[] = {2, 5}, backwards[] = {5, 2};
    static const double sizes[] = {0.5, 0.25}, huge[] = {2.0};
    subject s, other;
    const bf_trust_query plain = {.pairs = 40};
    open_subject(&s, "tests/goldens/llama_grouped");
    open_subject(&other, "tests/goldens/llama_tied");
    trace(&s, (bf_query){.precision = BF_PRECISION_F64, .losses = losses, .n_losses = 2,
                         .sites = BF_SITE_RESID_PRE | BF_SITE_V});
    refused(&other, s.record, plain, BF_EARG, "other weights");
    bf_record *no_flow = copy_of(s.record, "flow.");
    refused(&s, no_flow, plain, BF_EARG, "holds no flow");
    bf_record_free(no_flow);
    refused(&s, s.record, (bf_trust_query){.sites = BF_SITE_Z}, BF_EARG,
            "flow.z.grad_x_act (it has that of: "
            "resid_pre, v)");
    refused(&s, s.record, (bf_trust_query){.losses = absent, .n_losses = 1}, BF_EARG,
            "loss 3 is not in");
    refused(&s, s.record, (bf_trust_query){.losses = backwards, .n_losses = 2}, BF_EARG,
            "ascending");
    refused(&s, s.record, (bf_trust_query){.sizes = sizes, .n_sizes = 2}, BF_EARG,
            "ascending sizes");
    refused(&s, s.record, (bf_trust_query){.sizes = huge, .n_sizes = 1}, BF_EARG, "at most 1");
    refused(&s, s.record, (bf_trust_query){.memory = 4096}, BF_ENOMEM, "--memory");
    static const volatile sig_atomic_t stop = 1;
    refused(&s, s.record, (bf_trust_query){.stop = &stop}, BF_EINTERRUPTED, "interrupted");
    refused(&s, s.reference, plain, BF_EARG, "no record of backflow's");
    close_subject(&other);
    close_subject(&s);
}

/* One thing wrong with a copy of the record. */
static void trust__refuses_records_that_contradict_themselves(void **state)
{
    (void)state;
    const bf_trust_query plain = {.pairs = 40, .no_curves = true};
    subject s;
    open_subject(&s, "tests/goldens/llama_grouped");
    trace_all(&s);
    static const struct {
        const char *key, *value;
        bf_code code;
        const char *word;
    } metas[] = {{"model_sha256", "00", BF_EARG, "other weights"},
                 {"target", "kl other", BF_EARG, "cannot be measured"},
                 {"target", "logit x", BF_EARG, "cannot be measured"},
                 {"target", "logit 99999999999999999999", BF_EFORMAT, "target is token"},
                 {"summed", "1", BF_EFORMAT, "summed"}};
    for (size_t k = 0; k < sizeof metas / sizeof *metas; k++) {
        bf_record *wrong = copy_of(s.record, NULL);
        assert_int_equal(bf_record_set_meta(wrong, metas[k].key, metas[k].value, NULL), BF_OK);
        refused(&s, wrong, plain, metas[k].code, metas[k].word);
        bf_record_free(wrong);
    }
    for (int64_t k = 0; k < 6; k++) { /* each number of an edge out of its range */
        bf_record *wrong = copy_of(s.record, NULL);
        ((int64_t *)bf_record_find(wrong, "edge.index")->data)[6 + k] = k % 2 ? 1000 : -1;
        refused(&s, wrong, plain, BF_EFORMAT, "edge 1 ");
        bf_record_free(wrong);
    }
    static const char *const nan[] = {"flow.resid_pre.grad_x_act", "flow.resid_pre.grad_norm",
                                      "share.k", "edge.value"};
    for (size_t k = 0; k < 4; k++) {
        bf_record *wrong = copy_of(s.record, NULL);
        double *x = values(wrong, nan[k]);
        for (size_t v = 0; v < bf_tensor_count(bf_record_find(wrong, nan[k])); v++)
            x[v] = k % 2 ? (double)INFINITY : (double)NAN;
        refused(&s, wrong, plain, BF_ENONFINITE, k == 3 ? "edge" : nan[k]);
        bf_record_free(wrong);
    }
    bf_record *wrong = copy_of(s.record, NULL);
    ((int64_t *)bf_record_find(wrong, "losses")->data)[0] = 1000;
    refused(&s, wrong, plain, BF_EFORMAT, "losses");
    ((int64_t *)bf_record_find(wrong, "losses")->data)[0] = 0;
    ((int64_t *)bf_record_find(wrong, "tokens")->data)[0] = 1 << 20;
    refused(&s, wrong, plain, BF_EARG, "vocabulary");
    bf_record_free(wrong);
    wrong = copy_of(s.record, "losses"); /* then the loss axis should be N long */
    refused(&s, wrong, plain, BF_ESHAPE, "does not fit");
    bf_record_free(wrong);
    close_subject(&s);
}

int main(int argc, char **argv)
{
    cmocka_set_test_filter(argc > 1 ? argv[1] : NULL);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trust__permuted_values_are_not_trusted),
        cmocka_unit_test(trust__scaled_flipped_and_other_losses_are_not_trusted),
        cmocka_unit_test(trust__wants_the_model_and_the_flow),
        cmocka_unit_test(trust__refuses_records_that_contradict_themselves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
