/* What a mask says of queries and keys, and how config.json says it. */
#include "model/families.h"
#include "tests/masked_model.h"

static const bf_mask SOME[] = {
    {0}, {.window = 1}, {.window = 5}, {.window = 5, .sink = 1}, {.window = 2, .sink = 6},
    {.window = 30, .sink = 3}, {.segment = 1}, {.segment = 4}, {.segment = 4, .memory = 1},
    {.segment = 3, .memory = 7}, {.bidirectional = true}, {.detach = BF_DETACH_MYOPIC},
    {.window = 3, .sink = 2, .detach = BF_DETACH_MYOPIC}, {.segment = 5, .compressive = 0.5},
    {.segment = 5, .compressive = 0.5, .detach = BF_DETACH_MEMORY},
    {.segment = 4, .memory = 6, .detach = BF_DETACH_MEMORY}};

static void must_be(bf_span span, const bool *at, size_t N)
{
    size_t size = 0, next = bf_span_first(span);
    for (size_t j = 0; j < N; j++) {
        assert_true(bf_span_has(span, j) == at[j]);
        if (!at[j])
            continue;
        assert_int_equal(next, j);
        next = bf_span_next(span, j);
        size++;
    }
    assert_true(next > span.hi);
    assert_int_equal(bf_span_size(span), size);
}

static void spans__hold_what_is_read_passed_and_reached(void **state)
{
    (void)state;
    enum { N = 19, COUNT = sizeof SOME / sizeof *SOME };
    bool at[N];
    for (size_t k = 0; k < COUNT * N; k++) {
        const bf_mask *m = &SOME[k / N];
        const size_t i = k % N;
        assert_null(bf_mask_fault(m));
        for (size_t j = 0; j < N; j++)
            at[j] = reads(m, i, j);
        must_be(bf_mask_keys(m, i, N), at, N);
        for (size_t j = 0; j < N; j++)
            at[j] = passes(m, i, j);
        must_be(bf_mask_flow(m, i, N), at, N);
        for (size_t a = 0; a < COUNT * COUNT; a++) {
            const bf_mask three[] = {*m, SOME[a / COUNT], SOME[a % COUNT]};
            bf_span span = {0, i, i};
            for (size_t l = 3; l-- > 0;)
                span = bf_mask_reach(&three[l], span, N);
            reached(at, three, 3, 0, i, N);
            must_be(span, at, N);
        }
    }
}

/* With every layer's window w, (L - l)(w - 1) positions back, and the sinks. */
static void reach__of_windows_and_sinks_has_a_closed_form(void **state)
{
    (void)state;
    enum { N = 60, L = 5 };
    bf_mask masks[L];
    const bf_config c = {.L = L, .mask = masks};
    for (size_t w = 1; w < 9; w++)
        for (size_t k = 0; k < 2 * L * N; k++) {
            const size_t sink = k % 2 ? 3 : 0, l = k / 2 % L, i = k / 2 / L, back = (L - l) * (w - 1);
            for (size_t n = 0; n < L; n++)
                masks[n] = (bf_mask){.window = w, .sink = sink};
            const bf_span span = bf_walk_span(&c, N, (bf_span){0, i, i}, l);
            for (size_t j = 0; j < N; j++)
                assert_true(bf_span_has(span, j) == (j <= i && (i - j <= back || j < sink)));
        }
}

/* --- config.json */

static void config__masks_are_read(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_MODELS; k++) {
        bf_model *model = open_masked(&MODELS[k], k % FAMILIES);
        for (size_t l = 0; l < 3; l++) {
            const bf_mask got = bf_config_mask(&model->config, l), *want = &MODELS[k].mask[l];
            assert_int_equal(got.window, want->window);
            assert_int_equal(got.sink, want->sink);
            assert_int_equal(got.segment, want->segment);
            assert_int_equal(got.memory, want->memory);
            assert_true(got.compressive == want->compressive);
            assert_true(got.learnt == want->learnt && got.delta == want->delta);
            assert_true(got.bidirectional == want->bidirectional);
            assert_true((got.detach == BF_DETACH_MEMORY) ==
                        (want->detach == BF_DETACH_MEMORY && !MODELS[k].detach));
        }
        assert_int_equal(model->config.mask_token, MODELS[k].masked ? 2 : -1);
        bf_model_free(model);
    }
}

static void config__masks_that_make_no_sense_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *extras, *word;
    } bad[] = {
        {"3", "wanted an object"}, {"{\"mask\": 3}", "wanted an object"},
        {"{\"mask\": {\"window\": -1}}", "\"window\""}, {"{\"mask\": {\"window\": 1.5}}", "\"window\""},
        {"{\"mask\": {\"window\": \"5\"}}", "\"window\""}, {"{\"mask\": {\"window\": 3e9}}", "\"window\""},
        {"{\"mask\": {\"wndow\": 5}}", "\"wndow\" is unknown"}, {"{\"mask\": {\"sink\": 2}}", "\"sink\" without"},
        {"{\"mask\": {\"compressive\": 0.5}}", "\"compressive\" without"},
        {"{\"mask\": {\"compressive\": 1, \"segment\": 3}}", "wanted 0 to below 1"},
        {"{\"mask\": {\"memory\": 2}}", "\"memory\" without"},
        {"{\"mask\": {\"segment\": 2, \"gate\": \"learnt\"}}", "\"gate\" or \"update\" without"},
        {"{\"mask\": {\"segment\": 2, \"update\": \"delta\"}}", "\"gate\" or \"update\" without"},
        {"{\"mask\": {\"segment\": 2, \"compressive\": 0.5, \"update\": \"sum\"}}",
         "\"update\" is \"sum\", wanted \"delta\" or \"linear\""},
        {"{\"mask\": {\"segment\": 2, \"compressive\": 0.5, \"gate\": 0.5}}", "\"gate\""},
        {"{\"mask\": {\"segment\": 2, \"window\": 3}}", "together"},
        {"{\"mask\": {\"bidirectional\": true, \"window\": 3}}", "together"},
        {"{\"mask\": {\"bidirectional\": 1}}", "\"bidirectional\""},
        {"{\"mask\": {\"segment\": 2, \"detach\": \"memory\"}}", "without \"memory\""},
        {"{\"mask\": {\"detach\": \"myopic\"}}", "wanted \"memory\" or \"none\""},
        {"{\"mask\": {\"detach\": 1}}", "\"detach\""}, {"{\"mask\": [{}, {}]}", "2 entries, wanted 3"},
        {"{\"mask\": [{}, {}, 4]}", "wanted an object"}, {"{\"mask_token\": 29}", "\"backflow.mask_token\""},
        {"{\"mask_token\": -1}", "wanted an id from 0 to 28"}, {"{\"mask_token\": \"a\"}", "\"backflow.mask_token\""}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char extra[200], path[256];
        bf_model *model = NULL;
        bf_error err = {0};
        snprintf(extra, sizeof extra, "\"backflow\": %s, ", bad[k].extras);
        const made_model made = {.family = "gpt2", .L = 3, .D = 4, .H = 2, .F = 3, .V = 29, .P = 9,
                                 .dtype = BF_F32, .tied = true, .seed = 1, .extra = extra};
        make_folder(path);
        make_model(path, &made);
        const bf_code rc = bf_model_open(&model, path, &err);
        remove_folder(path);
        if (rc != BF_EFORMAT || model || !strstr(err.msg, bad[k].word) || !strstr(err.msg, "config.json"))
            fail_msg("%s: code %d, \"%s\", wanted \"%s\"", bad[k].extras, rc, err.msg, bad[k].word);
    }
    char path[256];
    bf_model *model = NULL;
    bf_error err = {0};
    const made_model windows = {.family = "mistral", .L = 3, .D = 4, .H = 2, .G = 1, .K = 2, .F = 3, .V = 9,
                                .P = 9, .dtype = BF_F32, .seed = 1,
                                .extra = "\"sliding_window\": 3, \"backflow\": {\"mask\": {}}, "};
    make_folder(path);
    make_model(path, &windows);
    assert_int_equal(bf_model_open(&model, path, &err), BF_EFORMAT);
    assert_non_null(strstr(err.msg, "beside windows"));
    remove_folder(path);
}

/* A gate that is learnt is a weight, and one that is fixed is none. */
static void gates__that_are_not_there_or_not_wanted_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *gate, *word;
        size_t gates;
    } bad[] = {{"learnt", "\"backflow.layers.0.memory_gate\" is missing, wanted [2]", 0},
               {"learnt", "\"backflow.layers.2.memory_gate\" is missing, wanted [2]", 2},
               {"fixed", "\"backflow.layers.0.memory_gate\" is unknown", 3}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        char extra[200], path[256];
        bf_model *model = NULL;
        bf_error err = {0};
        snprintf(extra, sizeof extra, "\"backflow\": {\"mask\": {\"segment\": 3, \"compressive\": 0.5, "
                 "\"gate\": \"%s\"}}, ", bad[k].gate);
        const made_model made = {.family = "gpt2", .L = 3, .D = 4, .H = 2, .F = 3, .V = 29, .P = 9, .seed = 1,
                                 .dtype = BF_F32, .tied = true, .gates = bad[k].gates, .extra = extra};
        make_folder(path);
        make_model(path, &made);
        const bf_code rc = bf_model_open(&model, path, &err);
        remove_folder(path);
        if (rc != BF_EFORMAT || model || !strstr(err.msg, bad[k].word))
            fail_msg("code %d, \"%s\", wanted \"%s\"", rc, err.msg, bad[k].word);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spans__hold_what_is_read_passed_and_reached),
        cmocka_unit_test(reach__of_windows_and_sinks_has_a_closed_form),
        cmocka_unit_test(config__masks_are_read),
        cmocka_unit_test(config__masks_that_make_no_sense_are_refused),
        cmocka_unit_test(gates__that_are_not_there_or_not_wanted_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
