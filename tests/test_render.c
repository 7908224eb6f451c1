/* Heatmaps: what the pictures show, and what cannot be drawn. Graphs: test_render_graph.c. */
#include "render_record.h"

#include <math.h>

#include "backflow/render.h"
#include "render/bar.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/range.h"
#include "render/text.h"

static const char *const hostile[] = {
    "\"quoted\"", "<b>", "\n", "\\N", "\\l\\r", "&amp;", "&#65;", " named", "  ", "\t",
    "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D", "\xE2\x80\xAE" "evil", "\xF0\x9F\x99\x82", "\\xE2\\x80",
    "]]>", "\x01", "\xE4\xBD\xA0", "antidisestablishmentarianism", "", "\xCC\x81", "-->", "\\",
    "%s%n", "\\\"",
};
enum { HOSTILE = sizeof hostile / sizeof *hostile };

static bf_heatmap_style style_of(const char *site, const char *score)
{
    return (bf_heatmap_style){.site = site, .score = score, .layer = -1, .head = -1};
}

/* L layers of resid_pre scores for N positions, all zero, with N + 1 tokens from the list above. */
static bf_record *new_record(size_t L, size_t N)
{
    const bf_tensor specs[] = {
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_pre.grad_x_act", BF_F64, 3, L, N, N, 0),
        spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
    };
    const char **token = calloc(N + 1, sizeof *token);
    bf_record *record;
    assert_non_null(token);
    assert_int_equal(bf_record_new(&record, specs, 3, NULL), BF_OK);
    for (size_t k = 0; k <= N; k++)
        token[k] = hostile[k % HOSTILE];
    set_tokens(record, token, N + 1);
    assert_int_equal(bf_record_set_meta(record, "model", "<tiny> & \"co\"", NULL), BF_OK);
    free(token);
    return record;
}

/* Values that fall from the diagonal backwards, all different. */
static void fill(bf_record *record, size_t L, size_t N)
{
    double *norm = doubles(record, "flow.resid_pre.grad_norm");
    double *act = doubles(record, "flow.resid_pre.grad_x_act");
    for (size_t k = 0; k < L * N; k++)
        for (size_t i = k % N, j = 0; j <= i; j++) {
            norm[k * N + j] = exp(-0.3 * (double)(i - j)) * (1 + 0.37 * (double)i);
            act[k * N + j] = norm[k * N + j] * sin((double)(3 * i + 7 * j + 1));
        }
}

static void heatmap__png_shows_each_cell_in_its_colour_and_place(void **state)
{
    (void)state;
    enum { N = 3, SIDE = 80 }; /* cells are 22 points: 92 pixels at 300 dpi */
    bf_record *record = new_record(1, N);
    double *v = doubles(record, "flow.resid_pre.grad_norm");
    const double value[N][N] = {{0.5, 0, 0}, {0.25, 1.0, 0}, {0.125, 0, 0.75}};
    memcpy(v, value, sizeof value);
    bf_heatmap_style style = style_of("resid_pre", "grad_norm");
    assert_int_equal(bf_render_heatmap(record, &style, path_of("cells.png"), NULL), BF_OK);
    picture p = read_png(path_of("cells.png"));
    size_t x[N][N] = {{0}}, y[N][N] = {{0}};
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++) {
            const uint32_t rgb = value[i][j] == 0 ? BF_RGB_ZERO
                : bf_palette_rgb(bf_palette_find("cividis"), value[i][j]);
            assert_true(find_square(&p, rgb, SIDE, &x[i][j], &y[i][j]));
            /* outlines take a pixel or two */
            assert_in_range(x[i][j] - x[0][0] + 3, 92 * j, 92 * j + 6);
            assert_in_range(y[i][j] - y[0][0] + 3, 92 * i, 92 * i + 6);
        }
    free(p.rgb);
    bf_record_free(record);
}

static void heatmap__log_scale_tells_zero_and_small_and_structural_apart(void **state)
{
    (void)state;
    enum { N = 3, SIDE = 80 };
    bf_record *record = new_record(1, N);
    double *v = doubles(record, "flow.resid_pre.grad_norm");
    const double value[N][N] = {{100, 0, 0}, {0, 1e-9, 0}, {1e-4, 0.1, 10}};
    memcpy(v, value, sizeof value);
    bf_heatmap_style style = style_of("resid_pre", "grad_norm");
    style.scale = BF_SCALE_LOG;
    style.look.palette = "magma";
    assert_int_equal(bf_render_heatmap(record, &style, path_of("log.png"), NULL), BF_OK);
    picture p = read_png(path_of("log.png"));
    const bf_palette *magma = bf_palette_find("magma");
    size_t x = 0, y = 0, white_x, white_y;
    assert_true(find_square(&p, bf_palette_rgb(magma, 1), SIDE, &x, &y));
    white_x = x + 92;
    white_y = y + 20;
    assert_int_equal(p.rgb[white_y * p.width + white_x + 40], 0xffffff); /* j > i beside it */
    assert_true(find_square(&p, BF_RGB_ZERO, SIDE, &x, &y));
    assert_true(find_square(&p, BF_RGB_BELOW, SIDE, &x, &y));
    assert_true(find_square(&p, bf_palette_rgb(magma, 0), SIDE, &x, &y));   /* six decades: 1e-4 */
    assert_true(find_square(&p, bf_palette_rgb(magma, 0.5), SIDE, &x, &y)); /* 0.1: the middle */
    free(p.rgb);
    bf_record_free(record);
}

/* Cells below 0 have a dash in their middle, so that only their halves are of one colour. */
static void heatmap__signed_scores_are_centred_at_zero(void **state)
{
    (void)state;
    enum { N = 2, SIDE = 36 };
    bf_record *record = new_record(1, N);
    const double value[N][N] = {{-2, 0}, {1, 2}};
    memcpy(doubles(record, "flow.resid_pre.grad_x_act"), value, sizeof value);
    bf_heatmap_style style = style_of("resid_pre", "grad_x_act");
    const bf_palette *vik = bf_palette_find("vik");
    for (int log = 0; log < 2; log++) {
        style.scale = log ? BF_SCALE_LOG : BF_SCALE_LINEAR;
        assert_int_equal(bf_render_heatmap(record, &style, path_of("signed.png"), NULL), BF_OK);
        picture p = read_png(path_of("signed.png"));
        size_t x = 0, y = 0;
        assert_true(find_square(&p, bf_palette_rgb(vik, 0), SIDE, &x, &y));
        assert_true(find_square(&p, bf_palette_rgb(vik, 1), SIDE, &x, &y));
        /* symmetric log: linear below 0.01 */
        const double one = log ? 0.5 + 0.5 * log1p(1 / 0.01) / log1p(2 / 0.01) : 0.75;
        assert_true(find_square(&p, bf_palette_rgb(vik, one), SIDE, &x, &y));
        free(p.rgb);
    }
    bf_record_free(record);
}

/* Draw in all three formats and look at what every file must have. */
static void draw_all(const bf_record *record, const bf_heatmap_style *style)
{
    bf_error err = {0};
    if (bf_render_heatmap(record, style, path_of("all.png"), &err))
        fail_msg("%s", err.msg);
    picture p = read_png(path_of("all.png"));
    assert_in_range(p.width, 900, 4000);
    assert_in_range(p.height, 300, 4000);
    free(p.rgb);
    assert_int_equal(bf_render_heatmap(record, style, path_of("all.svg"), &err), BF_OK);
    bf_buf svg = read_all(path_of("all.svg"));
    assert_true(is_xml(svg.data));
    assert_non_null(strstr(svg.data, "<title>"));
    const char *image = strstr(svg.data, "<image");
    assert_true(!image || !strncmp(image, "<image style=\"image-rendering:", 29));
    bf_buf_free(&svg);
    assert_int_equal(bf_render_heatmap(record, style, path_of("all.pdf"), &err), BF_OK);
    bf_buf pdf = read_all(path_of("all.pdf"));
    assert_memory_equal(pdf.data, "%PDF-", 5);
    size_t embedded = 0;
    for (size_t k = 0; k + 11 < pdf.len; k++) {
        assert_memory_not_equal(pdf.data + k, "/Type3", 6);
        assert_memory_not_equal(pdf.data + k, "/Interpolate true", 17);
        embedded += !memcmp(pdf.data + k, "/FontFile", 9);
    }
    assert_in_range(embedded, 1, 40);
    bf_buf_free(&pdf);
    assert_int_equal(files_in_folder(), 3 + 0u);
    for (int k = 0; k < 3; k++)
        unlink(path_of((const char *[]){"all.png", "all.svg", "all.pdf"}[k]));
}

static void heatmap__every_size_and_scale_and_format_comes_out(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 2, 7, 64, 65, 131, 512, 1024};
    char command[128];
    snprintf(command, sizeof command, "rm -f %s/*", folder);
    assert_int_equal(system(command), 0);
    for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
        bf_record *record = new_record(1, sizes[k]);
        bf_heatmap_style zero = style_of("resid_pre", "grad_norm");
        zero.scale = BF_SCALE_LOG;
        if (sizes[k] < 10)
            draw_all(record, &zero); /* nothing but zeros */
        fill(record, 1, sizes[k]);
        for (int variant = 0; variant < 4; variant++) {
            bf_heatmap_style style =
                style_of("resid_pre", variant & 1 ? "grad_x_act" : "grad_norm");
            style.scale = variant & 2 ? BF_SCALE_LOG : BF_SCALE_LINEAR;
            if (sizes[k] < 10 || (size_t)variant == k % 4)
                draw_all(record, &style);
        }
        bf_record_free(record);
    }
}

static void heatmap__large_maps_keep_every_cell(void **state)
{
    (void)state;
    enum { N = 512 };
    bf_record *record = new_record(1, N);
    double *v = doubles(record, "flow.resid_pre.grad_norm");
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j <= i; j++)
            v[i * N + j] = (i + j) % 2 ? 1.0 : 0.5; /* smoothing would mix the two */
    bf_heatmap_style style = style_of("resid_pre", "grad_norm");
    assert_int_equal(bf_render_heatmap(record, &style, path_of("large.png"), NULL), BF_OK);
    picture p = read_png(path_of("large.png"));
    const uint32_t one = bf_palette_rgb(bf_palette_find("cividis"), 1);
    const uint32_t half = bf_palette_rgb(bf_palette_find("cividis"), 0.5);
    size_t ones = 0, halves = 0;
    for (size_t k = 0; k < p.width * p.height; k++) {
        ones += p.rgb[k] == one;
        halves += p.rgb[k] == half;
    }
    /* 131,328 cells, half of each, 4 by 4 pixels; the outline runs over those of the diagonal */
    assert_in_range(ones, 65280 * 16, 65664 * 16 + 4000);
    assert_in_range(halves, 65280 * 16, 65664 * 16 + 4000);
    free(p.rgb);
    bf_record_free(record);
}

static void expect_failure(const bf_record *record, bf_heatmap_style style, const char *name,
                           bf_code code, const char *words)
{
    bf_error err = {0};
    assert_int_equal(bf_render_heatmap(record, &style, path_of(name), &err), code);
    assert_int_equal(err.code, code);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    assert_false(exists(path_of(name)));
}

static void heatmap__what_cannot_be_drawn_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    enum { N = 4, L = 2 };
    bf_record *record = new_record(L, N);
    fill(record, L, N);
    const bf_heatmap_style good = style_of("resid_pre", "grad_norm");
    bf_heatmap_style s = good;
    s.site = "nowhere";
    expect_failure(record, s, "x.png", BF_EARG, "it has flow.resid_pre.grad_norm");
    s = good, s.site = NULL;
    expect_failure(record, s, "x.png", BF_EARG, "no site");
    s = good, s.layer = 2;
    expect_failure(record, s, "x.png", BF_EARG, "no layer 2");
    s = good, s.look.palette = "jet";
    expect_failure(record, s, "x.png", BF_EARG, "viridis, cividis, magma, vik");
    s = good, s.look.dpi = -1;
    expect_failure(record, s, "x.png", BF_EARG, "dpi is -1");
    s = good, s.look.width_mm = NAN;
    expect_failure(record, s, "x.png", BF_EARG, "width");
    s = good, s.look.width_mm = 20;
    expect_failure(record, s, "x.png", BF_EARG, "20 mm");
    s = good, s.look.width_mm = 5000, s.look.dpi = 2400;
    expect_failure(record, s, "x.png", BF_EARG, "pixels");
    expect_failure(record, good, "x.gif", BF_EARG, ".png, .svg or .pdf");
    expect_failure(record, good, "x.dot", BF_EARG, ".png, .svg or .pdf");
    expect_failure(record, good, "missing/x.png", BF_EIO, "missing/x.png");
    double *v = doubles(record, "flow.resid_pre.grad_norm");
    v[1] = 1e-300;
    expect_failure(record, good, "x.png", BF_EFORMAT, "later position 1");
    v[1] = 0, v[N + 1] = NAN;
    expect_failure(record, good, "x.svg", BF_ENONFINITE, "row 1 at position 1");
    v[N + 1] = INFINITY;
    expect_failure(record, good, "x.pdf", BF_ENONFINITE, "inf");
    bf_record_free(record);
}

static void matrix__puts_heads_together_and_finds_layers_and_losses(void **state)
{
    (void)state;
    enum { L = 2, H = 2, I = 2, N = 3 };
    const bf_tensor specs[] = {
        spec("flow.z.grad_norm", BF_F64, 4, L, H, I, N),
        spec("flow.z.grad_x_act", BF_F64, 4, L, H, I, N),
        spec("attn", BF_F64, 4, L, H, N, N),
        spec("losses", BF_I64, 1, I, 0, 0, 0),
        spec("layers", BF_I64, 1, L, 0, 0, 0),
    };
    bf_record *record;
    bf_matrix m;
    assert_int_equal(bf_record_new(&record, specs, 5, NULL), BF_OK);
    int64_t *losses = bf_record_find(record, "losses")->data,
            *layers = bf_record_find(record, "layers")->data;
    losses[0] = 0, losses[1] = 2, layers[0] = 3, layers[1] = 7;
    double *norm = doubles(record, "flow.z.grad_norm"), *act = doubles(record, "flow.z.grad_x_act");
    double *attn = doubles(record, "attn");
    norm[((1 * H + 0) * I + 1) * N + 1] = 3; /* layer 7, loss 2, j 1 */
    act[((1 * H + 0) * I + 1) * N + 1] = 3;
    norm[((1 * H + 1) * I + 1) * N + 1] = 4, act[((1 * H + 1) * I + 1) * N + 1] = -4;
    attn[((1 * H + 1) * N + 2) * N + 1] = 0.5;
    bf_heatmap_style s = {.site = "z", .layer = 7, .head = -1};
    assert_int_equal(bf_matrix_select(&m, record, &s, NULL), BF_OK);
    assert_true(m.rows == I && m.cols == N && m.i[0] == 0 && m.i[1] == 2 && m.layer == 7 &&
                m.heads == H);
    assert_true(m.value[1 * N + 1] == 5 && !m.is_signed);
    bf_matrix_free(&m);
    s.score = "grad_x_act";
    assert_int_equal(bf_matrix_select(&m, record, &s, NULL), BF_OK);
    assert_true(m.value[1 * N + 1] == -1 && m.is_signed);
    bf_matrix_free(&m);
    s.head = 1;
    assert_int_equal(bf_matrix_select(&m, record, &s, NULL), BF_OK);
    assert_true(m.value[1 * N + 1] == -4 && m.head == 1);
    bf_matrix_free(&m);
    s.site = "attn", s.head = -1;
    assert_int_equal(bf_matrix_select(&m, record, &s, NULL), BF_OK);
    assert_true(m.rows == N && m.value[2 * N + 1] == 0.25 && m.i[2] == 2);
    bf_matrix_free(&m);
    s.head = 2;
    expect_failure(record, s, "x.png", BF_EARG, "heads 0 to 1");
    s.head = 0, s.layer = 0;
    expect_failure(record, s, "x.png", BF_EARG, "no layer 0");
    s.layer = 7, s.site = "z", losses[1] = 3;
    expect_failure(record, s, "x.png", BF_EFORMAT, "losses holds 3");
    losses[1] = 2, layers[0] = -1;
    expect_failure(record, s, "x.png", BF_EFORMAT, "layers holds -1");
    bf_record_free(record);
}

static void heatmap__fewer_losses_than_positions_need_the_tensor_losses(void **state)
{
    (void)state;
    const bf_tensor specs[] = {spec("flow.q.grad_norm", BF_F64, 3, 1, 2, 3, 0),
                               spec("losses", BF_I64, 1, 1, 0, 0, 0)};
    bf_record *record;
    for (size_t n = 1; n <= 2; n++) {
        assert_int_equal(bf_record_new(&record, specs, n, NULL), BF_OK);
        expect_failure(record, style_of("q", "grad_norm"), "x.png", BF_ESHAPE, "losses");
        bf_record_free(record);
    }
}

static void text__shows_what_is_there(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        size_t columns;
        const char *label;
    } table[] = {
        {" named", 0, "named"},
        {"named", 0, "named"},
        {" ", 0, "␣"},
        {"  a", 0, "␣␣a"},
        {"a ", 0, "a␣"},
        {"a b", 0, "a b"},
        {"\n", 0, "↵"},
        {".\n\n", 0, ".↵↵"},
        {"\t", 0, "⇥"},
        {"\r", 0, "␍"},
        {"\x01", 0, "␁"},
        {"\x7f", 0, "␡"},
        {"\xE2\x80", 0, "\\xE2\\x80"},
        {"a\xFFz", 0, "a\\xFFz"},
        {"\xE2\x80\xAE" "x", 0, "⟨202E⟩x"},
        {"\xC2\xA0", 0, "⟨00A0⟩"},
        {"\xEF\xBB\xBF", 0, "⟨FEFF⟩"},
        {"\xC2\x85", 0, "⟨0085⟩"},
        {"\xCC\x81", 0, "◌\xCC\x81"},
        {"e\xCC\x81", 0, "e\xCC\x81"},
        {"", 0, "⟨empty⟩"},
        {"<b>&amp;\\N\"", 0, "<b>&amp;\\N\""},
        {"abcdef", 6, "abcdef"},
        {"abcdefg", 6, "abcde…"},
        {"你好你好", 6, "你好…"},
        {"你好", 4, "你好"},
        {"\xF4\x90\x80\x80", 0, "\\xF4\\x90\\x80\\x80"},
        {"\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80", 0,
         "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x9A\x80"},
        {"a\xCC\x81\xCC\x81\xCC\x81\xCC\x81", 0, "a\xCC\x81\xCC\x81\xCC\x81⟨0301⟩"},
    };
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        bf_buf out = {0};
        bf_text_token(&out, table[k].token, table[k].columns);
        assert_string_equal(out.data ? out.data : "", table[k].label);
        bf_buf_free(&out);
    }
}

static void text__numbers_have_three_digits(void **state)
{
    (void)state;
    static const struct {
        double value;
        const char *plain, *power;
    } table[] = {
        {0, "0", "0"},
        {1, "1", "1"},
        {-0.25, "−0.25", "−2.5×10⁻¹"},
        {0.001, "0.001", "10⁻³"},
        {0.00099, "9.9×10⁻⁴", "9.9×10⁻⁴"},
        {1234.5, "1234", "1.23×10³"},
        {99999, "10⁵", "10⁵"},
        {10, "10", "10"},
        {1e-320, "10⁻³²⁰", "10⁻³²⁰"},
        {0.09999, "0.1", "10⁻¹"},
    };
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        bf_buf out = {0};
        bf_text_number(&out, table[k].value);
        assert_string_equal(out.data, table[k].plain);
        bf_buf_free(&out);
        bf_text_power(&out, table[k].value);
        assert_string_equal(out.data, table[k].power);
        bf_buf_free(&out);
    }
}

static void palette__is_neutral_or_grows_lighter_throughout(void **state)
{
    (void)state;
    static const char *const names[] = {"viridis", "cividis", "magma"};
    for (size_t k = 0; k < 3; k++) {
        double before = -1;
        for (int x = 0; x <= 100; x++) {
            const uint32_t rgb = bf_palette_rgb(bf_palette_find(names[k]), x / 100.0);
            const double light = 0.2126 * pow((rgb >> 16) / 255.0, 2.2) +
                                 0.7152 * pow((rgb >> 8 & 255) / 255.0, 2.2) +
                                 0.0722 * pow((rgb & 255) / 255.0, 2.2);
            assert_true(light > before - 0.0015); /* stops are rounded to 1/255 */
            before = light;
        }
    }
    const uint32_t middle = bf_palette_rgb(bf_palette_find("vik"), 0.5);
    assert_in_range((middle >> 16) - (middle & 255), 0, 14); /* nearly grey */
    assert_int_equal(bf_palette_rgb(bf_palette_find("viridis"), -1), 0x440154); /* as published */
    assert_int_equal(bf_palette_rgb(bf_palette_find("viridis"), NAN), 0x440154);
    assert_int_equal(bf_palette_rgb(bf_palette_find("viridis"), 7), 0xfde725);
    assert_int_equal(bf_palette_ink(0x00224e), 0xffffff);
    assert_int_equal(bf_palette_ink(0xfde725), 0x000000);
    assert_null(bf_palette_find("jet"));
}

static void range__ticks_stay_inside_at_any_magnitude(void **state)
{
    (void)state;
    for (int e = -320; e <= 307; e++)
        for (int variant = 0; variant < 6; variant++) {
            static const bf_scale scales[] = {BF_SCALE_LINEAR, BF_SCALE_LOG, BF_SCALE_RANK};
            double value[] = {3.1 * pow(10, e), 0, 1.7 * pow(10, e - (variant & 2 ? 3 : 0)),
                              3 * pow(10, e)};
            size_t i[] = {0, 1};
            const bf_matrix m = {
                .rows = 2, .cols = 2, .value = value, .i = i, .is_signed = variant & 1};
            bf_range range;
            assert_int_equal(bf_range_find(&range, &m, 1, scales[variant / 2], NULL), BF_OK);
            double ticks[BF_MAX_TICKS];
            const size_t n = bf_range_ticks(ticks, &range, 5);
            assert_in_range(n, 1, BF_MAX_TICKS);
            for (size_t k = 0; k < n; k++) {
                const double place =
                    ticks[k] == 0 && range.is_signed ? 0.5 : bf_range_place(&range, ticks[k]);
                assert_true(place >= -1e-6 && place <= 1 + 1e-6);
                assert_true(k == 0 || ticks[k] > ticks[k - 1] || range.top < 1e-300);
            }
            /* ranks: of three values the largest stands at 5/6 of the way */
            const double top = variant < 4 ? 1 : variant & 1 ? 5.5 / 6 : 5 / 6.0;
            assert_true(fabs(bf_range_place(&range, value[0]) - top) < 1e-9);
            bf_range_free(&range);
        }
}

static void heatmap__draws_the_shared_reference(void **state)
{
    (void)state;
    bf_record *record;
    if (bf_record_open(&record, "../shared/models/stories260K/ref.safetensors", NULL)) {
        print_message("skipped: ../shared/models/stories260K/ref.safetensors is not here\n");
        skip();
    }
    static const char *const sites[] = {"resid_pre", "resid_mid", "resid_final", "q",
                                        "k",         "v",         "z",           "attn"};
    for (size_t k = 0; k < 8; k++)
        for (int score = 0; score < 2; score++) {
            bf_heatmap_style style = style_of(sites[k], score ? "grad_x_act" : "grad_norm");
            bf_error err = {0};
            style.scale = BF_SCALE_LOG;
            if (bf_render_heatmap(record, &style, path_of("shared.png"), &err))
                fail_msg("%s: %s", sites[k], err.msg);
        }
    bf_record_free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heatmap__every_size_and_scale_and_format_comes_out),
        cmocka_unit_test(heatmap__png_shows_each_cell_in_its_colour_and_place),
        cmocka_unit_test(heatmap__log_scale_tells_zero_and_small_and_structural_apart),
        cmocka_unit_test(heatmap__signed_scores_are_centred_at_zero),
        cmocka_unit_test(heatmap__large_maps_keep_every_cell),
        cmocka_unit_test(heatmap__what_cannot_be_drawn_is_said_and_leaves_nothing),
        cmocka_unit_test(heatmap__fewer_losses_than_positions_need_the_tensor_losses),
        cmocka_unit_test(matrix__puts_heads_together_and_finds_layers_and_losses),
        cmocka_unit_test(text__shows_what_is_there),
        cmocka_unit_test(text__numbers_have_three_digits),
        cmocka_unit_test(palette__is_neutral_or_grows_lighter_throughout),
        cmocka_unit_test(range__ticks_stay_inside_at_any_magnitude),
        cmocka_unit_test(heatmap__draws_the_shared_reference),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
