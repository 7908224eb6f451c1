/* What families read from config.json beside sizes: scales, windows, rotary frequencies. */
#include "model/model.h"
#include "tests/open_model.h"

static void config__scales_and_windows_are_read(void **state)
{
    (void)state;
    made_model made = GPT2;
    made.extra = "\"scale_attn_by_inverse_layer_idx\": true, \"activation_function\": \"relu\", "
                 "\"layer_norm_epsilon\": 0.25, ";
    make_model(folder, &made);
    bf_model *m = open_model(folder);
    assert_close(m->config.attn_scale[0], 0.5, 0);
    assert_close(m->config.attn_scale[1], 0.25, 0);
    assert_int_equal(m->config.act, BF_ACT_RELU);
    assert_close(m->config.norm_eps, 0.25, 0);
    assert_int_equal(m->config.pos, BF_POS_LEARNED);
    assert_null(m->config.mask);
    bf_model_free(m);
    made.extra = "\"scale_attn_weights\": false, ";
    make_model(folder, &made);
    m = open_model(folder);
    assert_close(m->config.attn_scale[1], 1, 0);
    assert_int_equal(m->config.act, BF_ACT_GELU_TANH);
    assert_close(m->config.norm_eps, 1e-5, 0);
    bf_model_free(m);
    const struct { const char *family, *extra; size_t window[L]; } slide[] = {
        {"mistral", "\"sliding_window\": 3, ", {3, 3}}, {"mistral", "", {4096, 4096}},
        {"mistral", "\"sliding_window\": null, ", {0, 0}},
        {"qwen2", "\"sliding_window\": 3, ", {0, 0}},
        {"qwen2", "\"sliding_window\": 3, \"use_sliding_window\": true, \"max_window_layers\": 1, ",
         {0, 3}},
        {"qwen2", "\"sliding_window\": 3, \"use_sliding_window\": true, \"layer_types\": "
                  "[\"sliding_attention\", \"full_attention\"], ", {3, 0}}};
    for (size_t k = 0; k < sizeof slide / sizeof *slide; k++) {
        made = LLAMA;
        made.family = slide[k].family;
        made.extra = slide[k].extra;
        make_model(folder, &made);
        m = open_model(folder);
        assert_int_equal(m->config.mask != NULL, slide[k].window[0] + slide[k].window[1] != 0);
        for (size_t l = 0; m->config.mask && l < L; l++)
            assert_int_equal(m->config.mask[l].window, slide[k].window[l]);
        assert_int_equal(m->weights.layer[0].q_b.data != NULL, strcmp(made.family, "qwen2") == 0);
        bf_model_free(m);
    }
}

/* Wanted: transformers 5.23's LlamaRotaryEmbedding in float64, head_dim 12, 89 positions. */
static void config__rotary_frequencies_equal_transformers(void **state)
{
    (void)state;
    const double yarn[] = {1, 0.053860867250797098, 0.01160397208403195, 0.0025,
                           0.00053860867250797107, 0.00011603972084031942};
    const struct { const char *extra; double f[6], scale; } want[] = {
        {"\"rope_theta\": 500000.0, ", {1, 0.11224620483093732, 0.012599210498948734,
         0.001414213562373095, 0.00015874010519682002, 1.7817974362806776e-05}, 1},
        {"\"rope_scaling\": {\"type\": \"linear\", \"factor\": 4.0}, ",
         {0.25, yarn[1], yarn[2], yarn[3], yarn[4], yarn[5]}, 1},
        {"\"rope_parameters\": {\"rope_type\": \"dynamic\", \"factor\": 3.0, "
         "\"rope_theta\": 20000.0}, ",
         {1, 0.19193831036664846, 0.036840314986403867, 0.0070710678118654753,
          0.0013572088082974536, 0.00026050036547934556}, 1},
        {"\"rope_theta\": 500000.0, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8.0, "
         "\"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "
         "\"original_max_position_embeddings\": 200}, ",
         {1, 0.098263852609351887, 0.0015749013123685918, 0.00017677669529663688,
          1.9842513149602502e-05, 2.227246795350847e-06}, 1},
        {"\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
         "\"original_max_position_embeddings\": 23}, ",
         {1, yarn[1], yarn[2], yarn[3], yarn[4], yarn[5]}, 1.1386294361119891},
        {"\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, \"truncate\": false, "
         "\"beta_fast\": 8, \"beta_slow\": 0.5, \"mscale\": 1.2, \"mscale_all_dim\": 0.7}, ",
         {1, 0.15927810684467347, 0.015041647435759744, yarn[3], yarn[4], yarn[5]},
         1.0631833659779666},
        {"\"rope_parameters\": {\"rope_type\": \"yarn\", \"factor\": 4.0, "
         "\"attention_factor\": 1.5}, \"original_max_position_embeddings\": 40, ",
         {1, 0.13465216812699274, yarn[2], yarn[3], yarn[4], yarn[5]}, 1.5}};
    made_model made = LLAMA;
    made.K = 12;
    made.P = 89;
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        made.extra = want[k].extra;
        make_model(folder, &made);
        bf_model *m = open_model(folder);
        assert_int_equal(m->config.rotary_dim, 12);
        assert_false(m->config.rotary_pairs);
        assert_close(m->config.rotary_scale, want[k].scale, 1e-15);
        for (size_t d = 0; d < 6; d++)
            assert_close(m->config.inv_freq[d], want[k].f[d], 4e-16 * want[k].f[d]);
        bf_model_free(m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(config__scales_and_windows_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(config__rotary_frequencies_equal_transformers, set_up,
                                        tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
