/* Figures beyond one heatmap: small multiples, differences, curves, tinted sentences, and what a
 * file says about itself. */
#include "figure_record.h"

#include "render/bar.h"
#include "render/curves.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/range.h"

static void expect(const bf_record *record, const bf_heatmap_style *style, bf_code code,
                   const char *words)
{
    bf_error err = {0};
    assert_int_equal(bf_render_heatmap(record, style, path_of("x.png"), &err), code);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    assert_false(exists(path_of("x.png")));
}

/* ---- matrices */

static void heatmap__panels_share_one_scale(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    bf_heatmap_style style = style_of("resid_pre");
    const size_t layers[] = {2, 0};
    style.layers = layers;
    style.n_layers = 2;
    style.look.dpi = 300;
    assert_int_equal(bf_render_heatmap(r, &style, path_of("grid.png"), NULL), BF_OK);
    picture p = read_png(path_of("grid.png"));
    const bf_palette *c = bf_palette_find("cividis");
    size_t x, y; /* the diagonals: 3 in layer 2, and 1 of at most 3 in layer 0 */
    assert_true(find_square(&p, bf_palette_rgb(c, 1), 50, &x, &y));
    assert_true(find_square(&p, bf_palette_rgb(c, 1 / 3.0), 50, &x, &y));
    free(p.rgb);
    style.n_layers = 1;
    assert_int_equal(bf_render_heatmap(r, &style, path_of("grid.png"), NULL), BF_OK);
    style.layers = NULL;
    style.all_layers = true;
    assert_int_equal(bf_render_heatmap(r, &style, path_of("grid.svg"), NULL), BF_OK);
    bf_buf svg = read_all(path_of("grid.svg"));
    assert_non_null(strstr(svg.data, ">layer 0</text>"));
    assert_non_null(strstr(svg.data, ">layer 2</text>"));
    bf_buf_free(&svg);
    bf_record_free(r);
}

static void matrix__any_tensor_has_its_axes(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    bf_matrix m;
    bf_heatmap_style style = style_of("own.grad_norm");
    assert_int_equal(bf_matrix_select(&m, r, &style, NULL), BF_OK);
    assert_true(m.down == BF_AXIS_LEVEL && m.rows == LEVELS && m.cols == N && !m.is_causal);
    bf_matrix_free(&m);
    style.site = "overview.resid_pre";
    assert_int_equal(bf_matrix_select(&m, r, &style, NULL), BF_OK);
    assert_true(m.down == BF_AXIS_BLOCK && m.rows == BLOCKS && m.i[0] == 2 && m.i[1] == N - 1);
    bf_matrix_free(&m);
    doubles(r, "overview.resid_pre.grad_norm")[3] = 1; /* block 0 ends with loss 2 */
    expect(r, &style, BF_EFORMAT, "later position 3");
    style.site = "loss";
    assert_int_equal(bf_matrix_select(&m, r, &style, NULL), BF_OK);
    assert_true(m.rows == 1 && m.cols == N && m.across == BF_AXIS_POSITION);
    bf_matrix_free(&m);
    style.site = "edge.value";
    expect(r, &style, BF_EARG, "list of edges");
    bf_record_free(r);
}

static void matrix__rows_divided_by_their_sum_add_up_to_one(void **state)
{
    (void)state;
    bf_record *r = new_record(5);
    bf_matrix m;
    bf_heatmap_style style = style_of("resid_pre");
    style.score = "grad_x_act";
    style.by_row = true;
    assert_int_equal(bf_matrix_select(&m, r, &style, NULL), BF_OK);
    for (size_t i = 0; i < N; i++) {
        double sum = 0;
        for (size_t j = 0; j <= i; j++)
            sum += fabs(m.value[i * N + j]);
        assert_true(fabs(sum - 1) < 1e-12);
    }
    assert_true(m.value[0] < 0); /* the sign stays */
    bf_matrix_free(&m);
    bf_record_free(r);
}

static void matrix__difference_needs_the_same_tokens(void **state)
{
    (void)state;
    bf_record *a = new_record(3), *b = new_record(1);
    bf_matrix m;
    bf_heatmap_style style = style_of("resid_pre");
    style.minus = b;
    assert_int_equal(bf_matrix_select(&m, a, &style, NULL), BF_OK);
    assert_true(fabs(m.value[N] - 2 * flow_at(0, 1, 0)) < 1e-12 && m.is_signed);
    bf_matrix_free(&m);
    ((int64_t *)bf_record_find(b, "tokens")->data)[4] = 7;
    expect(a, &style, BF_EARG, "tokens at 4 is 40 in one and 7 in the other");
    bf_record_free(a);
    bf_record_free(b);
}

static void range__ranks_are_even_and_ties_share(void **state)
{
    (void)state;
    double value[] = {1, 100, 100, 0, -1e9};
    size_t i[] = {4};
    const bf_matrix m = {.rows = 1, .cols = 5, .value = value, .i = i, .is_signed = true};
    bf_range r;
    assert_int_equal(bf_range_find(&r, &m, 1, BF_SCALE_RANK, NULL), BF_OK);
    assert_true(fabs(bf_range_place(&r, 1) - (0.5 + 0.5 * 0.125)) < 1e-12);
    assert_true(fabs(bf_range_place(&r, 100) - (0.5 + 0.5 * 0.5)) < 1e-12);
    assert_true(fabs(bf_range_place(&r, -1e9) - (0.5 - 0.5 * 0.875)) < 1e-12);
    bf_range_free(&r);
}

/* Of small cells a stretch below 0 is hatched and one above is not. */
static void heatmap__small_cells_below_zero_are_hatched(void **state)
{
    (void)state;
    enum { WIDE = 200 };
    const bf_tensor specs[] = {spec("flow.v.grad_x_act", BF_F64, 2, WIDE, WIDE, 0, 0)};
    size_t paths[2];
    for (int below = 0; below < 2; below++) {
        bf_record *r;
        assert_int_equal(bf_record_new(&r, specs, 1, NULL), BF_OK);
        for (size_t i = 0; i < WIDE; i++)
            for (size_t j = 0; j <= i; j++)
                doubles(r, "flow.v.grad_x_act")[i * WIDE + j] = below ? -1 : 1;
        bf_heatmap_style style = style_of("v");
        style.score = "grad_x_act";
        style.look.width_mm = 89;
        assert_int_equal(bf_render_heatmap(r, &style, path_of("hatch.svg"), NULL), BF_OK);
        bf_buf svg = read_all(path_of("hatch.svg"));
        const char *hatch = strstr(svg.data, "stroke-width=\"0.3\"");
        paths[below] = hatch ? strcspn(hatch, ">") : 0;
        bf_buf_free(&svg);
        bf_record_free(r);
    }
    assert_int_equal(paths[0], 0);
    assert_true(paths[1] > 2000);
}

/* ---- curves */

static void curves__power_law_is_found(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    const bf_record *both[] = {r, r};
    bf_curves c;
    double slope, scale;
    const double x[] = {0, 1, 2, 4}, w[] = {0, 1, 1, 1}, y[] = {9, 3, 0.75, 0.1875};
    assert_true(bf_power_law(&slope, &scale, x, w, y, 4));
    assert_true(fabs(slope + 2) < 1e-12 && fabs(scale - 3) < 1e-12);
    assert_false(bf_power_law(&slope, &scale, x, w, y, 3));
    assert_true(isnan(slope));
    assert_int_equal(bf_curves_lag(&c, both, 2, "resid_pre", "grad_norm", false, 50, NULL), BF_OK);
    assert_true(c.K == L && c.P == N && c.number[2] == 2);
    for (size_t l = 0; l < L; l++)
        for (size_t d = 0; d < N; d++) {
            assert_true(fabs(c.mean[l * N + d] - flow_at(l, d, 0)) < 1e-12);
            assert_true(c.low[l * N + d] == c.high[l * N + d]); /* two equal documents */
        }
    bf_curves_free(&c);
    bf_record_free(r);
}

static void curves__distances_fall_into_bins(void **state)
{
    (void)state;
    enum { WIDE = 40 };
    const bf_tensor specs[] = {spec("flow.v.grad_norm", BF_F64, 2, WIDE, WIDE, 0, 0)};
    bf_record *r;
    bf_curves c;
    assert_int_equal(bf_record_new(&r, specs, 1, NULL), BF_OK);
    for (size_t i = 0; i < WIDE; i++)
        for (size_t j = 0; j <= i; j++)
            doubles(r, "flow.v.grad_norm")[i * WIDE + j] = i - j == 16 ? 4 : 1;
    const bf_record *one[] = {r};
    assert_int_equal(bf_curves_lag(&c, one, 1, "v", "grad_norm", true, 0, NULL), BF_OK);
    assert_int_equal(c.P, 16 + 11); /* 39 is 10 bins above 16 */
    assert_true(c.x[15] == 15 && fabs(c.x[16] - sqrt(16 * 17.0)) < 1e-12);
    /* 24 pairs are 16 apart and 23 are 17 apart */
    assert_true(fabs(c.mean[16] - (24 * 4 + 23) / 47.0) < 1e-12);
    assert_null(c.low);
    bf_curves_free(&c);
    bf_record_free(r);
}

static void curves__own_and_future_are_means(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    const bf_record *one[] = {r};
    bf_curves c;
    assert_int_equal(bf_curves_layer(&c, one, 1, 0, NULL), BF_OK);
    assert_int_equal(c.P, LEVELS);
    assert_true(c.mean[3] == 4);                              /* own at level 3 */
    assert_true(c.mean[LEVELS] == (2 + 3 + 4 + 5 + 6 + 7) / 6.0); /* the last has no future */
    assert_true(c.mean[2 * LEVELS] == -0.5);
    bf_curves_free(&c);
    assert_int_equal(bf_curves_position(&c, one, 1, 1, 0, NULL), BF_OK);
    assert_true(c.P == N && c.mean[0] == 2 && isnan(c.mean[N + N - 1]));
    bf_curves_free(&c);
    bf_error err;
    assert_int_equal(bf_curves_position(&c, one, 1, LEVELS, 0, &err), BF_EARG);
    assert_non_null(strstr(err.msg, "layers 0 to 3"));
    bf_record_free(r);
}

static void profile__draws_all_parts_or_says_what_is_missing(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    const bf_record *two[] = {r, r};
    bf_profile_style style = {.layer = -1, .look = {.provenance = json}};
    bf_error err = {0};
    assert_int_equal(bf_render_profile(two, 2, &style, path_of("p.svg"), &err), BF_OK);
    bf_buf svg = read_all(path_of("p.svg"));
    assert_true(is_xml(svg.data));
    assert_non_null(strstr(svg.data, "95 % bootstrap"));
    assert_non_null(strstr(svg.data, ">d</text>")); /* four blocks have letters */
    bf_buf_free(&svg);
    style.site = "attn";
    assert_int_equal(bf_render_profile(two, 2, &style, path_of("x.svg"), &err), BF_EARG);
    const bf_tensor specs[] = {spec("flow.v.grad_norm", BF_F64, 2, 2, 2, 0, 0)};
    bf_record *small;
    assert_int_equal(bf_record_new(&small, specs, 1, NULL), BF_OK);
    const bf_record *one[] = {small};
    style.parts = BF_PROFILE_LAYER;
    assert_int_equal(bf_render_profile(one, 1, &style, path_of("x.svg"), &err), BF_EARG);
    assert_non_null(strstr(err.msg, "--scores own"));
    style.parts = BF_PROFILE_LAG; /* all zero, one distance: an empty frame */
    style.site = "v";
    assert_int_equal(bf_render_profile(one, 1, &style, path_of("zero.pdf"), &err), BF_OK);
    assert_false(exists(path_of("x.svg")));
    bf_record_free(small);
    bf_record_free(r);
}

/* ---- tinted sentences */

static void strip__tints_what_a_loss_reaches(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    bf_strip_style style = {.layer = 0, .head = -1, .loss = 3, .source = -1, .numbers = true,
                            .score = "grad_x_act", .look = {.provenance = json}};
    bf_error err = {0};
    assert_int_equal(bf_render_strip(r, &style, path_of("s.svg"), &err), BF_OK);
    bf_buf svg = read_all(path_of("s.svg"));
    assert_true(is_xml(svg.data));
    /* position 3 is 0 from loss 3: (3 + 3) % 3 == 0, so -1, the whole blue end, and underlined */
    char box[64];
    const unsigned blue = (unsigned)bf_palette_rgb(bf_palette_find("vik"), 0);
    snprintf(box, sizeof box, "fill=\"#%06x\"", blue);
    assert_non_null(strstr(svg.data, box));
    assert_non_null(strstr(svg.data, "stroke-dasharray"));
    assert_non_null(strstr(svg.data, "&lt;/b&gt;")); /* token 6: out of reach, but there */
    bf_buf_free(&svg);
    style.loss = -1;
    style.source = 2;
    assert_int_equal(bf_render_strip(r, &style, path_of("s.png"), &err), BF_OK);
    style.source = N;
    assert_int_equal(bf_render_strip(r, &style, path_of("x.png"), &err), BF_EARG);
    style.source = -1;
    style.loss = N;
    assert_int_equal(bf_render_strip(r, &style, path_of("x.png"), &err), BF_EARG);
    assert_non_null(strstr(err.msg, "no loss 7"));
    assert_false(exists(path_of("x.png")));
    bf_record_free(r);
}

/* ---- what a file says about itself */

static void stamp__comes_back_from_every_format_and_bytes_repeat(void **state)
{
    (void)state;
    static const char *const names[] = {"a.png", "a.svg", "a.pdf"};
    bf_record *r = new_record(1);
    const bf_heatmap_style style = style_of("resid_pre");
    for (size_t k = 0; k < 3; k++) {
        char *text = NULL;
        assert_int_equal(bf_render_heatmap(r, &style, path_of(names[k]), NULL), BF_OK);
        bf_buf first = read_all(path_of(names[k]));
        assert_int_equal(bf_figure_provenance(&text, path_of(names[k]), NULL), BF_OK);
        assert_string_equal(text, json);
        free(text);
        assert_int_equal(bf_render_heatmap(r, &style, path_of(names[k]), NULL), BF_OK);
        bf_buf second = read_all(path_of(names[k]));
        assert_true(first.len == second.len && !memcmp(first.data, second.data, first.len));
        bf_buf_free(&first);
        bf_buf_free(&second);
    }
    bf_record_free(r);
}

/* Whatever is cut off or changed: an answer or an error, nothing else. */
static void stamp__survives_broken_files(void **state)
{
    (void)state;
    static const char *const names[] = {"b.png", "b.svg", "b.pdf"};
    bf_record *r = new_record(1);
    const bf_heatmap_style style = style_of("resid_pre");
    for (size_t k = 0; k < 3; k++) {
        assert_int_equal(bf_render_heatmap(r, &style, path_of(names[k]), NULL), BF_OK);
        bf_buf all = read_all(path_of(names[k]));
        const size_t cut = all.len < 3000 ? all.len : 3000;
        for (size_t n = 0; n < cut; n += 7) {
            char *text = NULL;
            bf_error err = {0};
            all.data[n] = (char)(all.data[n] ^ 0x55);
            const size_t len = n % 2 ? all.len : n + 1;
            assert_int_equal(bf_file_write(path_of("broken"), all.data, len, &err), BF_OK);
            const bf_code rc = bf_figure_provenance(&text, path_of("broken"), &err);
            assert_true(rc ? err.msg[0] && !text : text != NULL);
            free(text);
            all.data[n] = (char)(all.data[n] ^ 0x55);
        }
        bf_buf_free(&all);
    }
    bf_record_free(r);
}

static void svg__holds_its_text_as_text_and_a_caption_compiles_in_principle(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    bf_heatmap_style style = style_of("resid_pre");
    style.look.caption = true;
    style.look.title = "100 % of $x_1$ & \\evil{} 你";
    assert_int_equal(bf_render_heatmap(r, &style, path_of("t.svg"), NULL), BF_OK);
    bf_buf svg = read_all(path_of("t.svg"));
    assert_true(is_xml(svg.data));
    assert_non_null(strstr(svg.data, "begin\xE2\x81\xA9</text>"));
    assert_null(strstr(svg.data, "<symbol"));
    bf_buf_free(&svg);
    bf_buf tex = read_all(path_of("t.tex"));
    assert_non_null(strstr(tex.data, "100 \\% of \\$x\\_1\\$ \\& \\textbackslash{}evil\\{\\} "
                                     "{\\small[U+4F60]}"));
    assert_non_null(strstr(tex.data, "\\includesvg["));
    assert_non_null(strstr(tex.data, "N = 7 positions"));
    for (size_t k = 0; k < tex.len; k++)
        assert_true((unsigned char)tex.data[k] < 0x80);
    bf_buf_free(&tex);
    bf_error err = {0};
    assert_int_equal(bf_render_heatmap(r, &style, path_of("a b}.png"), &err), BF_EARG);
    assert_non_null(strstr(err.msg, "caption"));
    assert_false(exists(path_of("a b}.png")));
    bf_record_free(r);
}

static void look__font_and_width_are_kept_or_refused(void **state)
{
    (void)state;
    bf_record *r = new_record(1);
    bf_heatmap_style style = style_of("resid_pre");
    style.look.width_mm = 89;
    style.look.font = "DejaVu Sans";
    assert_int_equal(bf_render_heatmap(r, &style, path_of("w.svg"), NULL), BF_OK);
    bf_buf svg = read_all(path_of("w.svg"));
    assert_non_null(strstr(svg.data, "width=\"252.283pt\"")); /* 89 mm */
    assert_non_null(strstr(svg.data, "font-family=\"DejaVu Sans,"));
    bf_buf_free(&svg);
    style.look.font = "No Such Font";
    expect(r, &style, BF_EARG, "no font \"No Such Font\"");
    bf_record_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heatmap__panels_share_one_scale),
        cmocka_unit_test(matrix__any_tensor_has_its_axes),
        cmocka_unit_test(matrix__rows_divided_by_their_sum_add_up_to_one),
        cmocka_unit_test(matrix__difference_needs_the_same_tokens),
        cmocka_unit_test(range__ranks_are_even_and_ties_share),
        cmocka_unit_test(heatmap__small_cells_below_zero_are_hatched),
        cmocka_unit_test(curves__power_law_is_found),
        cmocka_unit_test(curves__distances_fall_into_bins),
        cmocka_unit_test(curves__own_and_future_are_means),
        cmocka_unit_test(profile__draws_all_parts_or_says_what_is_missing),
        cmocka_unit_test(strip__tints_what_a_loss_reaches),
        cmocka_unit_test(stamp__comes_back_from_every_format_and_bytes_repeat),
        cmocka_unit_test(stamp__survives_broken_files),
        cmocka_unit_test(svg__holds_its_text_as_text_and_a_caption_compiles_in_principle),
        cmocka_unit_test(look__font_and_width_are_kept_or_refused),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
