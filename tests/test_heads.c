/* The grid of heads: what the picture shows, and what cannot be drawn. */
#include "render_record.h"

#include <math.h>

#include "backflow/heads.h"
#include "render/palette.h"

enum {
    LAYERS = 2,
    HEADS = 3,
    CELL = 116,
    SIDE = 24
}; /* cells are 28 points: 116 pixels at 300 dpi */

/* Cells are found by their upper left corners, which hold no letters. */
static void find_cells(const char *path, const char *palette, const double place[LAYERS][HEADS])
{
    picture p = read_png(path);
    size_t x[LAYERS][HEADS], y[LAYERS][HEADS];
    for (size_t l = 0; l < LAYERS; l++)
        for (size_t h = 0; h < HEADS; h++)
            assert_true(find_square(&p, bf_palette_rgb(bf_palette_find(palette), place[l][h]), SIDE,
                                    &x[l][h], &y[l][h]));
    for (size_t l = 0; l < LAYERS; l++)
        for (size_t h = 0; h < HEADS; h++) { /* layer 0 below */
            assert_in_range(x[l][h] - x[0][0] + 4, CELL * h, CELL * h + 9);
            assert_in_range(y[0][0] - y[l][h] + 4, CELL * l, CELL * l + 9);
        }
    free(p.rgb);
}

static void heads__cells_have_their_colour_and_place(void **state)
{
    (void)state;
    const double value[LAYERS][HEADS] = {{10, 2, 0}, {4, 8, 6}};
    const double place[LAYERS][HEADS] = {{1, 0.2, 0}, {0.4, 0.8, 0.6}};
    const double two[LAYERS][HEADS] = {{10, -10, 0}, {5, -5, 2.5}};
    const double halves[LAYERS][HEADS] = {{1, 0, 0.5}, {0.75, 0.25, 0.625}};
    const char *const marks[LAYERS * HEADS] = {"P", "", NULL, "I", "DI", "S"};
    bf_heads_figure f = {.layers = LAYERS, .heads = HEADS, .value = value[0], .marks = marks};
    assert_int_equal(bf_render_heads(&f, path_of("heads.png"), NULL), BF_OK);
    find_cells(path_of("heads.png"), "cividis", place);
    f.value = two[0];
    assert_int_equal(bf_render_heads(&f, path_of("signed.png"), NULL), BF_OK);
    find_cells(path_of("signed.png"), "vik", halves);
}

/* Largest number of dark pixels in the middle of a cell, of all cells: letters are there or not. */
static size_t ink_of(const char *path)
{
    picture p = read_png(path);
    size_t dark = 0;
    for (size_t k = 0; k < p.width * p.height; k++)
        dark += (p.rgb[k] >> 16) < 40 && (p.rgb[k] >> 8 & 255) < 40 && (p.rgb[k] & 255) < 40;
    free(p.rgb);
    return dark;
}

static void heads__marks_are_set_in_their_cells(void **state)
{
    (void)state;
    const double value[1] = {1}; /* yellow: black ink */
    const char *const marks[1] = {"PSDI"};
    bf_heads_figure f = {.layers = 1, .heads = 1, .value = value};
    assert_int_equal(bf_render_heads(&f, path_of("plain.png"), NULL), BF_OK);
    const size_t plain = ink_of(path_of("plain.png"));
    f.marks = marks;
    assert_int_equal(bf_render_heads(&f, path_of("marked.png"), NULL), BF_OK);
    assert_true(ink_of(path_of("marked.png")) > plain + 300);
}

static void heads__every_format_and_hostile_words(void **state)
{
    (void)state;
    enum { L = 70, H = 130 };
    static double value[L * H];
    for (size_t k = 0; k < L * H; k++)
        value[k] = sin((double)k) + 0.5;
    const bf_heads_figure f = {.layers = L,
                               .heads = H,
                               .value = value,
                               .look = {.dpi = 60},
                               .title = "<b>\"&amp;]]> \xE2\x80\xAE"
                                        "evil --> %s%n",
                               .note = "\xF0\x9F\x99\x82 & <",
                               .quantity = "a < b",
                               .legend = "P & Q"};
    assert_int_equal(bf_render_heads(&f, path_of("big.svg"), NULL), BF_OK);
    bf_buf svg = read_all(path_of("big.svg"));
    assert_true(is_xml(svg.data));
    bf_buf_free(&svg);
    assert_int_equal(bf_render_heads(&f, path_of("big.pdf"), NULL), BF_OK);
    bf_buf pdf = read_all(path_of("big.pdf"));
    assert_memory_equal(pdf.data, "%PDF-", 5);
    bf_buf_free(&pdf);
    assert_int_equal(bf_render_heads(&f, path_of("big.PNG"), NULL), BF_OK);
    picture p = read_png(path_of("big.PNG"));
    assert_true(p.width > H * 7 && p.height > L * 7); /* 9 points are 7.5 pixels at 60 dpi */
    free(p.rgb);
}

static void refuse(const bf_heads_figure *f, const char *name, bf_code code, const char *words)
{
    bf_error err = {0};
    assert_int_equal(bf_render_heads(f, path_of(name), &err), code);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    assert_false(exists(path_of(name)));
}

static void heads__what_cannot_be_drawn_is_refused(void **state)
{
    (void)state;
    double value[6] = {0, 1, 2, 3, 4, 5};
    const bf_heads_figure good = {.layers = 2, .heads = 3, .value = value};
    bf_heads_figure f = good;
    refuse(&f, "x.jpg", BF_EARG, "must end in .png, .svg or .pdf");
    refuse(&f, "x.dot", BF_EARG, "must end in");
    refuse(&f, "no/such/x.png", BF_EIO, "no/such/x.png");
    f.look.dpi = 5;
    refuse(&f, "x.png", BF_EARG, "dpi is 5");
    f = good;
    f.layers = 0;
    refuse(&f, "x.png", BF_EARG, "0 layers");
    f = good;
    f.heads = 1025;
    refuse(&f, "x.png", BF_EARG, "1025 heads");
    f = good;
    value[4] = NAN;
    refuse(&f, "x.png", BF_ENONFINITE, "layer 1 head 1");
    value[4] = -INFINITY;
    refuse(&f, "x.svg", BF_ENONFINITE, "layer 1 head 1");
}

static void heads__all_zero_can_be_drawn(void **state)
{
    (void)state;
    const double value[4] = {0};
    const bf_heads_figure f = {.layers = 2, .heads = 2, .value = value, .quantity = "nothing"};
    assert_int_equal(bf_render_heads(&f, path_of("zero.svg"), NULL), BF_OK);
    bf_buf svg = read_all(path_of("zero.svg"));
    assert_true(is_xml(svg.data) && !strstr(svg.data, "nan"));
    bf_buf_free(&svg);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads__cells_have_their_colour_and_place),
        cmocka_unit_test(heads__marks_are_set_in_their_cells),
        cmocka_unit_test(heads__every_format_and_hostile_words),
        cmocka_unit_test(heads__what_cannot_be_drawn_is_refused),
        cmocka_unit_test(heads__all_zero_can_be_drawn),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
