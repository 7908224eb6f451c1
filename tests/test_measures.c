/* Tests of measures through the claims that come with backflow: each verdict comes out the other
 * way on a model that was made for it. Claims are asked of a made folder as a user's own model, or
 * of a copy of the claim's file in which something was changed. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backflow/claims.h"
#include "base/buf.h"
#include "tests/close.h"
#include "tests/change_tensor.h"
#include "tests/make_model.h"

/* ---- making */

static const made_model GPT2 = {.family = "gpt2",
                                .L = 2,
                                .D = 12,
                                .H = 2,
                                .F = 24,
                                .V = 13,
                                .P = 80,
                                .dtype = BF_F32,
                                .seed = 3};
static const made_model MISTRAL = {.family = "mistral",
                                   .L = 3,
                                   .D = 12,
                                   .H = 2,
                                   .F = 24,
                                   .V = 13,
                                   .P = 80,
                                   .dtype = BF_F32,
                                   .seed = 4};

typedef struct {
    bf_claim *claim;
    bf_decided *decided;
} outcome;

static void outcome_end(outcome *o)
{
    bf_decided_free(o->decided);
    bf_claim_free(o->claim);
}

static outcome ask_file(const char *path, const char *model, const char *results)
{
    outcome o = {0};
    bf_error err = {0};
    const bf_claim_query q = {.model = model, .results = results, .threads = 1};
    if (bf_claim_open(&o.claim, path, &err) || bf_claim_decide(&o.decided, o.claim, &q, &err))
        fail_msg("%s", err.msg);
    return o;
}

/* Ask the k-th bundled claim of the model in a folder, which goes. */
static outcome ask_of(int k, const char *folder)
{
    char path[100];
    snprintf(path, sizeof path, "examples/claims/C%02d.json", k);
    const outcome o = ask_file(path, folder, NULL);
    remove_folder(folder);
    return o;
}

static void make_one(char folder[256], const made_model *m)
{
    make_folder(folder);
    make_model(folder, m);
}

/* Ask a copy of the k-th claim with `what` replaced by `by`, in pairs; models named kjv-1m become
 * {"random": ..}, so that the test needs no bundled model. */
static outcome ask_changed(int k, const char *const (*change)[2], size_t n, const char *results)
{
    static const char random[] =
        "{\"random\": {\"family\": \"llama\", \"layers\": 2, \"width\": 16, \"heads\": 2, "
        "\"vocabulary\": 17}}";
    char path[256];
    bf_buf file = {0};
    snprintf(path, sizeof path, "examples/claims/C%02d.json", k);
    assert_int_equal(bf_file_read(&file, path, 1 << 20, NULL), BF_OK);
    for (size_t c = 0; c < n + 1; c++) {
        const char *what = c < n ? change[c][0] : "\"kjv-1m\"", *by = c < n ? change[c][1] : random;
        bf_buf to = {0};
        size_t found = 0;
        for (const char *at = file.data, *hit; at; at = hit) {
            hit = strstr(at, what);
            bf_buf_bytes(&to, at, hit ? (size_t)(hit - at) : strlen(at));
            if (hit) {
                bf_buf_text(&to, by);
                hit += strlen(what);
                found++;
            }
        }
        if (c < n && !found)
            fail_msg("%s has no %s", path, what);
        bf_buf_free(&file);
        file = to;
    }
    char folder[256], name[512];
    make_folder(folder);
    write_file(folder, "claim.json", file.data, file.len);
    join(name, folder, "claim.json");
    const outcome o = ask_file(name, NULL, results);
    remove_folder(folder);
    bf_buf_free(&file);
    return o;
}

static void assert_verdict(outcome o, bf_verdict wanted)
{
    if (o.decided->verdict != wanted)
        fail_msg("%s: %s (%s), wanted %s: %s", bf_claim_id(o.claim),
                 bf_verdict_name(o.decided->verdict), o.decided->condition, bf_verdict_name(wanted),
                 o.decided->answer);
    outcome_end(&o);
}

static double value_of(const outcome *o, const char *name)
{
    bf_measured m;
    if (!bf_claim_value(&m, o->decided, name, 0))
        fail_msg("there is no %s", name);
    return m.value;
}

/* ---- the other way */

static const char BOTH[] =
    "\"backflow\": {\"mask\": {\"bidirectional\": true}, \"mask_token\": 12}, ";

/* Without positions and embeddings all positions are the same, and what comes next never changes.
 */
static void make_alike(char folder[256], const char *extra, size_t V)
{
    made_model m = GPT2;
    m.extra = extra;
    m.V = V;
    make_one(folder, &m);
    change_tensor(folder, "transformer.wte.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.wpe.weight", NULL, 0.0f);
}

static void c1__refuted_where_nothing_depends_on_what_came_before(void **state)
{
    char folder[256], claim[2048];
    (void)state;
    make_alike(folder, NULL, 7);
    snprintf(claim, sizeof claim,
             "{\"backflow_claim\": 1, \"id\": \"t\", \"claim\": \"c\", \"refuted_if\": \"r\", "
             "\"measures\": [{\"name\": \"small\", \"measure\": \"chain_rule\", \"models\": "
             "[\"%s\"], \"tokens\": 4, "
             "\"documents\": 5, \"with\": {\"length\": 3, \"samples\": 20000}}], \"verdicts\": "
             "[{\"if\": {\"value\": "
             "\"small.greedy_differs\", \"is\": \"=\", \"than\": 0}, \"verdict\": \"refuted\", "
             "\"answer\": \"\"}, "
             "{\"verdict\": \"holds\", \"answer\": \"\"}]}",
             folder);
    write_file(folder, "claim.json", claim, strlen(claim));
    char path[512];
    join(path, folder, "claim.json");
    outcome o = ask_file(path, NULL, NULL);
    remove_folder(folder);
    assert_true(value_of(&o, "small.sum_error") < 1e-12);
    assert_true(value_of(&o, "small.sampling_p") > 1e-4);
    assert_verdict(o, BF_VERDICT_REFUTED);
}

static void c2__refuted_with_attention_to_both_sides(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.extra = BOTH;
    make_one(folder, &m);
    assert_verdict(ask_of(2, folder), BF_VERDICT_REFUTED);
}

static void c2__holds_for_a_window(void **state)
{
    char folder[256];
    made_model m = MISTRAL;
    (void)state;
    m.extra = "\"sliding_window\": 3, ";
    make_one(folder, &m);
    outcome o = ask_of(2, folder);
    assert_close(value_of(&o, "flow.reached"), 1, 0);
    assert_true(value_of(&o, "flow.earlier") < 0.5);
    outcome_end(&o);
}

/* One layer, whose keys and values are nearly half of the weights. */
static void c3__holds_for_one_layer_of_the_right_shape(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.L = 1;
    m.F = 1;
    make_one(folder, &m);
    outcome o = ask_of(3, folder);
    assert_close(value_of(&o, "trained.reached"), 2.0 * 144 / (4.0 * 144 + 24), 1e-12);
    assert_verdict(o, BF_VERDICT_HOLDS);
}

static void c4__holds_for_a_window_of_one_token_back(void **state)
{
    char folder[256];
    made_model m = MISTRAL;
    (void)state;
    m.extra = "\"sliding_window\": 2, ";
    make_one(folder, &m);
    assert_verdict(ask_of(4, folder), BF_VERDICT_HOLDS);
}

static void c4__refuted_for_a_wider_window(void **state)
{
    char folder[256];
    made_model m = MISTRAL;
    (void)state;
    m.extra = "\"sliding_window\": 3, ";
    make_one(folder, &m);
    assert_verdict(ask_of(4, folder), BF_VERDICT_REFUTED);
}

static void c5__refuted_for_a_window(void **state)
{
    char folder[256];
    made_model m = MISTRAL;
    (void)state;
    m.extra = "\"sliding_window\": 7, ";
    make_one(folder, &m);
    assert_verdict(ask_of(5, folder), BF_VERDICT_REFUTED);
}

static void c6__holds_for_one_layer_without_positions(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.L = 1;
    make_one(folder, &m);
    change_tensor(folder, "transformer.wpe.weight", NULL, 0.0f);
    assert_verdict(ask_of(6, folder), BF_VERDICT_HOLDS);
    make_one(folder, &m);
    assert_verdict(ask_of(6, folder), BF_VERDICT_REFUTED);
}

static void c7__holds_where_all_positions_are_alike(void **state)
{
    char folder[256], claim[2048], path[512];
    (void)state;
    make_alike(folder, BOTH, 13);
    snprintf(claim, sizeof claim,
             "{\"backflow_claim\": 1, \"id\": \"t\", \"claim\": \"c\", \"refuted_if\": \"r\", "
             "\"measures\": [{\"name\": \"random\", \"measure\": \"spread\", \"models\": [\"%s\"], "
             "\"tokens\": 20, "
             "\"documents\": 2}], \"verdicts\": [{\"if\": {\"value\": \"random.deviation\", "
             "\"is\": \"<\", \"than\": "
             "0.01}, \"verdict\": \"holds\", \"answer\": \"\"}, {\"verdict\": \"depends\", "
             "\"answer\": \"\"}]}",
             folder);
    write_file(folder, "claim.json", claim, strlen(claim));
    join(path, folder, "claim.json");
    outcome o = ask_file(path, NULL, NULL);
    remove_folder(folder);
    assert_close(value_of(&o, "random.support"), 1, 0);
    assert_close(value_of(&o, "random.both_sides"), 1, 0);
    assert_close(value_of(&o, "random.evenness"), 1, 1e-9);
    assert_verdict(o, BF_VERDICT_HOLDS);
}

static void c7__refuted_for_causal_attention(void **state)
{
    static const char *const change[][2] = {
        {"\"bidirectional\": true", "\"bidirectional\": false"}};
    (void)state;
    assert_verdict(ask_changed(7, change, 1, NULL), BF_VERDICT_REFUTED);
}

static void c8__refuted_where_each_token_sees_itself_only(void **state)
{
    char folder[256];
    made_model m = MISTRAL;
    (void)state;
    m.extra = "\"sliding_window\": 1, ";
    make_one(folder, &m);
    outcome o = ask_of(8, folder);
    assert_close(value_of(&o, "trained.future"), 0, 0);
    assert_verdict(o, BF_VERDICT_REFUTED);
}

/* Kept results of a made-up training: one value, or two. */
static void keep_more(const char *folder, const char *group, const char *value, const double *x,
                      const char *other, const double *y, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        bf_buf text = {0};
        char name[100];
        snprintf(name, sizeof name, "%s-%zu.json", group, k);
        bf_buf_printf(&text, "{\"group\": \"%s\", \"seed\": %zu, \"results\": {\"%s\": %.17g", group,
                      k, value, x[k]);
        if (other)
            bf_buf_printf(&text, ", \"%s\": %.17g", other, y[k]);
        bf_buf_text(&text, "}}");
        write_file(folder, name, text.data, text.len);
        bf_buf_free(&text);
    }
}

static void keep(const char *folder, const char *group, const char *value, const double *x,
                 size_t n)
{
    keep_more(folder, group, value, x, NULL, NULL, n);
}

static void c9__goes_by_the_kept_results(void **state)
{
    static const double same[] = {1.0, 1.1, 0.9}, low[] = {0.1, 0.12, 0.08},
                        text[] = {3.0, 3.1, 3.05}, worse[] = {4.0, 4.1, 4.05};
    char folder[256];
    (void)state;
    make_folder(folder);
    assert_verdict(ask_changed(9, NULL, 0, folder), BF_VERDICT_OPEN);
    keep(folder, "sine-1.0-myopic", "loss_per_p", same, 3);
    keep(folder, "sine-1.0-full", "loss_per_p", same, 3); /* a task that needs no planning */
    assert_verdict(ask_changed(9, NULL, 0, folder), BF_VERDICT_REFUTED);
    keep(folder, "sine-1.0-full", "loss_per_p", low, 3);
    keep(folder, "text-full", "held_out", text, 3);
    keep(folder, "text-states", "held_out", text, 3);
    assert_verdict(ask_changed(9, NULL, 0, folder), BF_VERDICT_DEPENDS);
    keep(folder, "text-states", "held_out", worse, 3);
    assert_verdict(ask_changed(9, NULL, 0, folder), BF_VERDICT_HOLDS);
    remove_folder(folder);
}

/* Large steps after each token do end elsewhere than one step for all. */
static void c10__depends_at_a_large_rate(void **state)
{
    char folder[256], path[512];
    bf_buf file = {0};
    (void)state;
    make_one(folder, &GPT2);
    assert_int_equal(bf_file_read(&file, "examples/claims/C10.json", 1 << 20, NULL), BF_OK);
    char *rate = strstr(file.data, "\"rate\": 1e-05");
    assert_non_null(rate);
    memcpy(rate, "\"rate\": 1e-02", 13);
    write_file(folder, "claim.json", file.data, file.len);
    bf_buf_free(&file);
    join(path, folder, "claim.json");
    outcome large = ask_file(path, folder, NULL),
            small = ask_file("examples/claims/C10.json", folder, NULL);
    remove_folder(folder);
    assert_close(value_of(&small, "forcing.through_prediction"), 0, 0);
    /* drift is of first order in the rate */
    assert_close(value_of(&small, "steps.drift_10") / value_of(&small, "steps.drift"), 10, 1.0);
    assert_verdict(small, BF_VERDICT_HOLDS);
    assert_verdict(large, BF_VERDICT_DEPENDS);
}

/* What was just said is what is least likely next. */
static void c11__refuted_where_each_token_is_followed_by_another(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.L = 1;
    m.D = 16;
    make_one(folder, &m);
    change_tensor(folder, "transformer.wpe.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.h.0.attn.c_proj.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.h.0.mlp.c_proj.weight", NULL, 0.0f);
    turn_tensor(folder, "transformer.wte.weight", m.D, 0, 1.0f);
    turn_tensor(folder, "lm_head.weight", m.D, 1, 4.0f);
    assert_verdict(ask_of(11, folder), BF_VERDICT_REFUTED);
}

/* Two tokens that take turns are no token said again and again, but low-entropy text. */
static void c11__depends_where_two_tokens_take_turns(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.L = 1;
    make_one(folder, &m);
    change_tensor(folder, "transformer.wpe.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.h.0.attn.c_proj.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.h.0.mlp.c_proj.weight", NULL, 0.0f);
    change_tensor(folder, "lm_head.weight", "transformer.wte.weight", -8.0f);
    assert_verdict(ask_of(11, folder), BF_VERDICT_DEPENDS);
}

static void c11__holds_where_it_is_likely(void **state)
{
    char folder[256];
    made_model m = GPT2;
    (void)state;
    m.L = 1;
    make_one(folder, &m);
    change_tensor(folder, "transformer.h.0.attn.c_proj.weight", NULL, 0.0f);
    change_tensor(folder, "transformer.h.0.mlp.c_proj.weight", NULL, 0.0f);
    change_tensor(folder, "lm_head.weight", "transformer.wte.weight", 1.5f);
    outcome o = ask_of(11, folder);
    assert_true(value_of(&o, "eight.class_mass") < 0.5);
    assert_verdict(o, BF_VERDICT_HOLDS);
}

static void c12__goes_by_the_kept_results(void **state)
{
    static const double x[] = {0.40, 0.50, 0.45}, more[] = {0.47, 0.58, 0.52};
    static const char *const group[] = {"heads-1", "heads-2", "heads-4"};
    char folder[256];
    (void)state;
    make_folder(folder);
    for (size_t k = 0; k < 3; k++) {
        assert_verdict(ask_changed(12, NULL, 0, folder), BF_VERDICT_OPEN);
        keep(folder, group[k], "future", x, 3);
    }
    for (size_t k = 0; k < 3; k++)
        keep_more(folder, group[k], "future", x, "far", x, 3);
    assert_verdict(ask_changed(12, NULL, 0, folder), BF_VERDICT_REFUTED);
    keep_more(folder, "heads-4", "future", more, "far", x, 3);
    assert_verdict(ask_changed(12, NULL, 0, folder), BF_VERDICT_MEASURED);
    remove_folder(folder);
}

/* Windows and segments as long as the text are full attention. */
static void c13__refuted_where_the_text_is_short(void **state)
{
    static const char *const change[][2] = {{"\"window\": 8", "\"window\": 64"},
                                            {"\"segment\": 16", "\"segment\": 64"}};
    (void)state;
    assert_verdict(ask_changed(13, change, 2, NULL), BF_VERDICT_REFUTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(c1__refuted_where_nothing_depends_on_what_came_before),
        cmocka_unit_test(c2__refuted_with_attention_to_both_sides),
        cmocka_unit_test(c2__holds_for_a_window),
        cmocka_unit_test(c3__holds_for_one_layer_of_the_right_shape),
        cmocka_unit_test(c4__holds_for_a_window_of_one_token_back),
        cmocka_unit_test(c4__refuted_for_a_wider_window),
        cmocka_unit_test(c5__refuted_for_a_window),
        cmocka_unit_test(c6__holds_for_one_layer_without_positions),
        cmocka_unit_test(c7__holds_where_all_positions_are_alike),
        cmocka_unit_test(c7__refuted_for_causal_attention),
        cmocka_unit_test(c8__refuted_where_each_token_sees_itself_only),
        cmocka_unit_test(c9__goes_by_the_kept_results),
        cmocka_unit_test(c10__depends_at_a_large_rate),
        cmocka_unit_test(c11__refuted_where_each_token_is_followed_by_another),
        cmocka_unit_test(c11__depends_where_two_tokens_take_turns),
        cmocka_unit_test(c11__holds_where_it_is_likely),
        cmocka_unit_test(c12__goes_by_the_kept_results),
        cmocka_unit_test(c13__refuted_where_the_text_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
