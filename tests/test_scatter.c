/* test_scatter.c -- does the figure of trust show what it was given, and refuse what it cannot
 * show? */
#include "tests/close.h"
#include "tests/scratch.h"

#include <math.h>
#include <string.h>

#include "backflow/render.h"
#include "base/buf.h"

enum { POINTS = 1200, LINES = 3, STEPS = 5 };

/* A figure of two panels and a chart. */
typedef struct {
    double x[POINTS], y[POINTS];
    bool marked[POINTS];
    bf_scatter_panel panels[2];
    double line[LINES][STEPS];
    const double *lines[LINES];
    bf_scatter_chart chart;
    bf_scatter scatter;
} sample;

static const char *const rows[] = {"resid_pre <scaled> & \"more\""}, *const columns[] = {"t → 0",
                                                                                         "t = 1"};
static const char *const names[] = {"one", "two", "random"};

static void make_sample(sample *s)
{
    *s = (sample){0};
    for (size_t k = 0; k < POINTS; k++) {
        s->x[k] = (k % 2 ? -1.0 : 1.0) * exp(-0.01 * (double)k);
        s->y[k] = s->x[k] * (1.0 + 0.1 * (double)(k % 7));
        s->marked[k] = k % 3 == 0 && k % 4 == 0; /* 100; of every third point a fourth */
    }
    for (size_t k = 0; k < LINES; k++) {
        for (size_t p = 0; p < STEPS; p++)
            s->line[k][p] = (double)(k * p) - 0.5;
        s->lines[k] = s->line[k];
    }
    s->panels[0] = (bf_scatter_panel){POINTS, s->x, s->y, s->marked, 0.98, -0.25};
    s->panels[1] = (bf_scatter_panel){0, NULL, NULL, NULL, (double)NAN, (double)NAN};
    s->chart = (bf_scatter_chart){.title = "Deletion",
                                  .x_name = "part",
                                  .y_name = "nats",
                                  .n_lines = LINES,
                                  .n_points = STEPS,
                                  .names = names,
                                  .lines = s->lines,
                                  .low = s->line[0],
                                  .high = s->line[2]};
    s->scatter = (bf_scatter){.title = "a < b & c",
                              .note = "a note",
                              .x_name = "predicted",
                              .y_name = "real",
                              .names = {"later", "own"},
                              .n_rows = 1,
                              .n_columns = 2,
                              .rows = rows,
                              .columns = columns,
                              .panels = s->panels,
                              .n_charts = 1,
                              .charts = &s->chart,
                              .look = {.dpi = 72}};
}

static void read_picture(bf_buf *out, const char *path)
{
    bf_error err = {0};
    if (bf_file_read(out, path, 1 << 26, &err))
        fail_msg("%s", err.msg);
}

static size_t count(const char *text, const char *what)
{
    size_t n = 0;
    for (const char *at = text; (at = strstr(at, what)) != NULL; at++)
        n++;
    return n;
}

static void scatter__draws_all_formats(void **state)
{
    static const char *const files[][2] = {
        {"f.png", "\x89PNG"}, {"f.pdf", "%PDF"}, {"f.svg", "<?xml"}};
    sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    make_sample(s);
    for (size_t k = 0; k < 3; k++) {
        const char *path = scratch_path(*state, files[k][0]);
        bf_buf bytes = {0};
        assert_int_equal(bf_render_scatter(&s->scatter, path, NULL), BF_OK);
        read_picture(&bytes, path);
        assert_memory_equal(bytes.data, files[k][1], 4);
        assert_true(bytes.len > 2000);
        bf_buf_free(&bytes);
    }
    free(s);
}

/* Every third of 1,200 points is drawn: 400, of which 100 are marked; and one box a colour in the
 * legend. */
static void scatter__draws_each_point_in_its_colour(void **state)
{
    static const char plain[] = "fill=\"#0072b2\"", marked[] = "fill=\"#d55e00\"";
    sample *s = calloc(1, sizeof *s);
    bf_buf svg = {0};
    assert_non_null(s);
    make_sample(s);
    s->scatter.n_charts = 0;
    const char *path = scratch_path(*state, "points.svg");
    assert_int_equal(bf_render_scatter(&s->scatter, path, NULL), BF_OK);
    read_picture(&svg, path);
    assert_int_equal(count(svg.data, marked), 100 + 1);
    assert_int_equal(count(svg.data, plain), 300 + 1);
    assert_non_null(strstr(svg.data, "<title>a &lt; b &amp; c</title>"));
    bf_buf_free(&svg);
    free(s);
}

static void scatter__draws_what_is_all_zero(void **state)
{
    sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    make_sample(s);
    memset(s->x, 0, sizeof s->x);
    memset(s->y, 0, sizeof s->y);
    memset(s->line, 0, sizeof s->line);
    s->panels[0].n = 1;
    assert_int_equal(bf_render_scatter(&s->scatter, scratch_path(*state, "zero.png"), NULL), BF_OK);
    s->scatter.n_rows = 0;
    assert_int_equal(bf_render_scatter(&s->scatter, scratch_path(*state, "none.pdf"), NULL), BF_OK);
    free(s);
}

static void refuse(const bf_scatter *scatter, scratch *to, const char *name, bf_code code,
                   const char *word)
{
    bf_error err = {0};
    const size_t before = scratch_entries(to, 0);
    const bf_code rc = bf_render_scatter(scatter, scratch_path(to, name), &err);
    if (rc != code || !strstr(err.msg, word))
        fail_msg("code %d, wanted %d; \"%s\", wanted \"%s\"", rc, code, err.msg, word);
    assert_int_equal(scratch_entries(to, 0), before);
}

static void scatter__refuses_what_it_cannot_show(void **state)
{
    sample *s = calloc(1, sizeof *s);
    assert_non_null(s);
    make_sample(s);
    refuse(&s->scatter, *state, "f.gif", BF_EARG, ".png, .svg or .pdf");
    refuse(&s->scatter, *state, "f.dot", BF_EARG, ".png, .svg or .pdf");
    refuse(&s->scatter, *state, "no/f.png", BF_EIO, "no/f.png");
    s->scatter.look.dpi = 5000;
    refuse(&s->scatter, *state, "f.png", BF_EARG, "dpi is 5000");
    s->scatter.look.dpi = 0;
    s->scatter.n_rows = 65;
    refuse(&s->scatter, *state, "f.png", BF_EARG, "65 rows");
    s->scatter.n_rows = 1;
    s->y[700] = (double)NAN;
    refuse(&s->scatter, *state, "f.png", BF_ENONFINITE, "resid_pre");
    s->y[700] = 0.0;
    s->line[1][2] = (double)INFINITY;
    refuse(&s->scatter, *state, "f.png", BF_ENONFINITE, "line \"two\"");
    free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(scatter__draws_all_formats, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(scatter__draws_each_point_in_its_colour, scratch_open,
                                        scratch_close),
        cmocka_unit_test_setup_teardown(scatter__draws_what_is_all_zero, scratch_open,
                                        scratch_close),
        cmocka_unit_test_setup_teardown(scatter__refuses_what_it_cannot_show, scratch_open,
                                        scratch_close),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
