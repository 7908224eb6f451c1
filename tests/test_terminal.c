/* A record in the terminal: no byte of a token's that moves the cursor, and the values in their
 * places. */
#include "render_record.h"

#include <math.h>

#include "backflow/render.h"

enum { N = 6 };

static const char *const hostile[N + 1] = {"\x1B[2J",
                                           " a\nb",
                                           "\xC2\x9B"
                                           "31m",
                                           "\xE2\x80\xAE"
                                           "evil",
                                           "\xFF\r\x07",
                                           " ",
                                           "end"};

static bf_record *new_record(const char *name, size_t n)
{
    const bf_tensor specs[] = {spec("", BF_F64, 3, 1, n, n, 0),
                               spec("tokens", BF_I64, 1, n + 1, 0, 0, 0)};
    bf_tensor named[2];
    bf_record *record;
    memcpy(named, specs, sizeof named);
    snprintf(named[0].name, sizeof named[0].name, "%s", name);
    assert_int_equal(bf_record_new(&record, named, 2, NULL), BF_OK);
    return record;
}

static char *show(const bf_record *record, size_t columns, bf_terminal_colours colours)
{
    const bf_terminal_style style = {columns, colours};
    char *text = NULL;
    bf_error err = {0};
    if (bf_render_terminal(&text, record, &style, &err))
        fail_msg("%s", err.msg);
    return text;
}

/* Takes colour sequences out; fails on any other control but a newline, and on what is no UTF-8. */
static size_t strip(char *text)
{
    size_t sequences = 0;
    char *to = text;
    for (const char *c = text; *c;) {
        if (*c == '\033') {
            assert_int_equal(c[1], '[');
            const size_t n = strspn(c + 2, "0123456789;");
            assert_true(n > 0 && c[2 + n] == 'm');
            c += n + 3;
            sequences++;
            continue;
        }
        const size_t n = bf_utf8_length(c, strlen(c));
        assert_true(n > 0 && (*c == '\n' || (unsigned char)*c >= 0x20) && *c != 0x7f);
        assert_false(n == 2 && (unsigned char)c[0] == 0xC2 && (unsigned char)c[1] < 0xA0);
        memmove(to, c, n);
        to += n;
        c += n;
    }
    *to = '\0';
    return sequences;
}

static void terminal__hostile_tokens_stay_what_they_are(void **state)
{
    (void)state;
    for (int colours = BF_TERMINAL_PLAIN; colours <= BF_TERMINAL_TRUE; colours++) {
        bf_record *record = new_record("flow.resid_pre.grad_norm", N);
        for (size_t k = 0; k < N * N; k++)
            doubles(record, "flow.resid_pre.grad_norm")[k] = k % N <= k / N ? 1 + (double)k : 0;
        set_tokens(record, hostile, N + 1);
        bf_record_set_meta(record, "model", "\033]0;title\007", NULL);
        char *text = show(record, 60, (bf_terminal_colours)colours);
        const size_t sequences = strip(text);
        assert_true(colours == BF_TERMINAL_PLAIN ? sequences == 0 : sequences > 20);
        assert_non_null(strstr(text, "␛[2J"));
        assert_non_null(strstr(text, "⟨202E⟩evil"));
        assert_null(strstr(text, "\xE2\x80\xAE"));
        free(text);
        bf_record_free(record);
    }
}

/* The n-th line of the text. */
static const char *line(const char *text, size_t n)
{
    while (n--)
        text = strchr(text, '\n') + 1;
    return text;
}

static void terminal__plain_cells_are_shades(void **state)
{
    (void)state;
    bf_record *record = new_record("flow.resid_pre.grad_norm", 3);
    const double value[9] = {1000, 0, 0, 1.5, 1000, 0, 0, 30, 200};
    memcpy(doubles(record, "flow.resid_pre.grad_norm"), value, sizeof value);
    char *text = show(record, 80, BF_TERMINAL_PLAIN);
    assert_memory_equal(line(text, 2), "         #0 ██\n", strlen("         #0 ██\n"));
    assert_memory_equal(line(text, 3), "         #0 ░░██\n", strlen("         #0 ░░██\n"));
    assert_memory_equal(line(text, 4), "         #0 ··▒▒██\n", strlen("         #0 ··▒▒██\n"));
    assert_null(strstr(text, "\033"));
    free(text);
    bf_record_free(record);
}

static void terminal__half_blocks_hold_two_cells(void **state)
{
    (void)state;
    bf_record *record = new_record("flow.resid_pre.grad_norm", 2);
    const double value[4] = {1, 0, 1, 1};
    memcpy(doubles(record, "flow.resid_pre.grad_norm"), value, sizeof value);
    char *text = show(record, 80, BF_TERMINAL_TRUE);
    /* cells of 4 x 4 halves: two lines a cell, the first has nothing beside it */
    const char *first = line(text, 2), *third = line(text, 4);
    char copy[2][400];
    snprintf(copy[0], sizeof copy[0], "%.*s", (int)strcspn(first, "\n"), first);
    snprintf(copy[1], sizeof copy[1], "%.*s", (int)strcspn(third, "\n"), third);
    assert_non_null(strstr(copy[0], "\033[38;2;"));
    assert_non_null(strstr(copy[0], "\033[48;2;"));
    strip(copy[0]);
    strip(copy[1]);
    assert_string_equal(copy[0], "         #0 ▀▀▀▀    ");
    assert_string_equal(copy[1], "         #0 ▀▀▀▀▀▀▀▀");
    free(text);
    text = show(record, 80, BF_TERMINAL_256);
    assert_non_null(strstr(text, "\033[38;5;"));
    assert_null(strstr(text, "\033[38;2;"));
    free(text);
    bf_record_free(record);
}

/* Lines of cells and of the sentence; those of words with commas are not cut. */
static void check_width(const char *text, size_t wide)
{
    for (const char *l = text; *l; l += strcspn(l, "\n") + 1) {
        const size_t n = strcspn(l, "\n");
        size_t columns = 0;
        for (size_t k = 0; k < n; k++)
            columns +=
                ((unsigned char)l[k] & 0xC0) != 0x80 ? (unsigned char)l[k] == 0xE4 ? 2 : 1 : 0;
        if (columns > wide && !memchr(l, ',', n) && strncmp(l, "what each", 9) != 0)
            fail_msg("%zu columns of %zu: %.60s", columns, wide, l);
    }
}

static void terminal__fits_its_width_and_says_what_a_cell_is(void **state)
{
    (void)state;
    enum { MANY = 130 };
    static const size_t widths[][2] = {{0, 80}, {1, 24}, {24, 24}, {61, 61}, {80, 80}, {5000, 400}};
    bf_record *record = new_record("flow.resid_pre.grad_norm", MANY);
    const char *tokens[MANY + 1];
    for (size_t k = 0; k <= MANY; k++)
        tokens[k] = k % 3 ? " word" : "\xE4\xBD\xA0\xE4\xBD\xA0"; /* two columns each */
    set_tokens(record, tokens, MANY + 1);
    for (size_t k = 0; k < MANY * MANY; k++)
        doubles(record, "flow.resid_pre.grad_norm")[k] =
            k % MANY <= k / MANY ? 1 + (double)(k % 9) : 0;
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
        char *text = show(record, widths[w][0], BF_TERMINAL_TRUE);
        strip(text);
        check_width(text, widths[w][1]);
        assert_non_null(strstr(text, "a cell is the largest of"));
        free(text);
    }
    bf_record_free(record);
}

static void terminal__shows_what_there_is_or_says_that_there_is_nothing(void **state)
{
    (void)state;
    bf_record *record = new_record("flow.mlp_out.grad_x_act", 2);
    memcpy(doubles(record, "flow.mlp_out.grad_x_act"), (double[]){-2, 0, 1, 1}, 4 * sizeof(double));
    char *text = show(record, 80, BF_TERMINAL_PLAIN);
    assert_non_null(strstr(text, "flow.mlp_out.grad_x_act"));
    assert_non_null(strstr(text, "██")); /* the size of -2 */
    free(text);
    bf_record_free(record);
    record = new_record("something.else", 2);
    bf_error err = {0};
    char *none = NULL;
    assert_int_equal(
        bf_render_terminal(&none, record, &(bf_terminal_style){80, BF_TERMINAL_PLAIN}, &err),
        BF_EARG);
    assert_null(none);
    assert_non_null(strstr(err.msg, "nothing to show"));
    bf_record_free(record);
    record = new_record("flow.resid_pre.grad_norm", 2); /* all zeros */
    text = show(record, 80, BF_TERMINAL_TRUE);
    strip(text);
    free(text);
    doubles(record, "flow.resid_pre.grad_norm")[0] = NAN;
    assert_int_equal(
        bf_render_terminal(&none, record, &(bf_terminal_style){80, BF_TERMINAL_PLAIN}, &err),
        BF_ENONFINITE);
    bf_record_free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terminal__hostile_tokens_stay_what_they_are),
        cmocka_unit_test(terminal__plain_cells_are_shades),
        cmocka_unit_test(terminal__half_blocks_hold_two_cells),
        cmocka_unit_test(terminal__fits_its_width_and_says_what_a_cell_is),
        cmocka_unit_test(terminal__shows_what_there_is_or_says_that_there_is_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
