/* terminal.c -- a record at first glance, in characters: a small heatmap and the tinted sentence.
 *
 * With colours, a half block (U+2580) shows two cells one above the other; without, a cell is two
 * characters of a shade. No byte of a token reaches the terminal but as render/text.h shows it. */
#include <glib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "base/buf.h"
#include "render/describe.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/range.h"
#include "render/text.h"

enum { LABEL = 12, HALVES = 48, LARGEST_CELL = 4, LEAST_COLUMNS = 24, MOST_COLUMNS = 400 };
static const uint32_t NONE = UINT32_MAX, NOTHING = 0x404040; /* no cell; a cell of value 0 */
static const char *const shades[] = {"·", "░", "▒", "▓", "█"};

typedef struct {
    const bf_record *record;
    const bf_terminal_style *style;
    bf_matrix m;
    bf_range range;
    const bf_palette *palette;
    size_t columns;
    size_t block; /* so many rows and columns of the matrix make a cell; it shows the largest */
    size_t cell;       /* half lines (with colours), lines (without) across a cell */
    size_t rows, cols; /* cells */
    bf_buf out;
} screen;

/* ---- colours */

static int cube(unsigned c)
{
    return c < 48 ? 0 : c < 115 ? 1 : (int)(c - 35) / 40;
}

/* Begin a colour: of the letters, or of the ground. */
static void put_colour(screen *s, uint32_t rgb, bool ground)
{
    const unsigned r = rgb >> 16 & 255, g = rgb >> 8 & 255, b = rgb & 255;
    if (s->style->colours == BF_TERMINAL_TRUE)
        bf_buf_printf(&s->out, "\033[%d;2;%u;%u;%um", ground ? 48 : 38, r, g, b);
    else
        bf_buf_printf(&s->out, "\033[%d;5;%dm", ground ? 48 : 38,
                      16 + 36 * cube(r) + 6 * cube(g) + cube(b));
}

static void put_plain(screen *s)
{
    bf_buf_text(&s->out, "\033[0m");
}

/* Three decades are what so few shades can tell apart. */
static bf_code find_range(bf_range *range, const bf_matrix *m, bf_error *err)
{
    const bf_code rc =
        bf_range_find(range, m, 1, m->is_signed ? BF_SCALE_LINEAR : BF_SCALE_LOG, err);
    if (!m->is_signed)
        range->low = fmax(range->low, range->top * 1e-3);
    return rc;
}

/* The place of a value on the scale; 0 for what it has no place for. */
static double place_of(const bf_range *range, double v)
{
    const bool placed = v != 0 && !(range->is_log && !range->is_signed && fabs(v) < range->low);
    return placed && range->top > 0 ? bf_range_place(range, v) : 0;
}

static uint32_t colour_of(const screen *s, const bf_range *range, double v)
{
    return v == 0 || range->top == 0 ? NOTHING : bf_palette_rgb(s->palette, place_of(range, v));
}

static const char *shade_of(const bf_range *range, double v)
{
    double x = place_of(range, v);
    if (range->is_signed)
        x = fabs(2 * x - 1);
    return v == 0 ? shades[0] : shades[1 + (int)fmin(3, 4 * x)];
}

/* ---- the heatmap */

/* The largest value of a cell; false: it is empty by causality. */
static bool cell_value(double *value, const screen *s, size_t row, size_t col)
{
    bool any = false;
    *value = 0;
    for (size_t r = row * s->block; r < (row + 1) * s->block && r < s->m.rows; r++)
        for (size_t c = col * s->block; c < (col + 1) * s->block && c < s->m.cols; c++) {
            const double v = s->m.value[r * s->m.cols + c];
            if (s->m.is_causal && c > s->m.i[r])
                continue;
            any = true;
            if (fabs(v) > fabs(*value))
                *value = v;
        }
    return any;
}

static uint32_t cell_colour(const screen *s, size_t row, size_t col)
{
    double v;
    return row < s->rows && cell_value(&v, s, row, col) ? colour_of(s, &s->range, v) : NONE;
}

static size_t width_of(const char *text)
{
    size_t n = 0;
    for (; *text; text = g_utf8_next_char(text)) {
        const gunichar c = g_utf8_get_char(text);
        n += g_unichar_iszerowidth(c) ? 0 : g_unichar_iswide(c) ? 2 : 1;
    }
    return n;
}

/* The token that the row's loss predicts (of attention: that asks), in LABEL columns. */
static void put_row_name(screen *s, size_t row, bool shown)
{
    bf_buf name = {0};
    const size_t r = row * s->block;
    if (shown && r < s->m.rows && s->m.is_causal)
        bf_text_label(&name, s->record,
                      s->m.number[r] + !(s->m.is_attn || bf_record_find(s->record, "masked")),
                      LABEL - 2);
    else if (shown && r < s->m.rows)
        bf_buf_printf(&name, "%zu", s->m.number[r]);
    const size_t width = name.data ? width_of(name.data) : 0;
    for (size_t k = width; k < LABEL - 1; k++)
        bf_buf_text(&s->out, " ");
    bf_buf_text(&s->out, name.data ? name.data : "");
    bf_buf_text(&s->out, " ");
    s->out.failed = s->out.failed || name.failed;
    bf_buf_free(&name);
}

/* Two cells, one above the other. */
static void put_halves(screen *s, uint32_t upper, uint32_t lower)
{
    if (upper == NONE && lower == NONE) {
        bf_buf_text(&s->out, " ");
        return;
    }
    put_colour(s, upper == NONE ? lower : upper, false);
    if (upper != NONE && lower != NONE)
        put_colour(s, lower, true);
    bf_buf_text(&s->out, upper == NONE ? "▄" : "▀");
    put_plain(s);
}

static void put_coloured(screen *s)
{
    const size_t halves = s->rows * s->cell;
    for (size_t h = 0; h < halves; h += 2) {
        put_row_name(s, h / s->cell, h % s->cell == 0);
        for (size_t c = 0; c < s->cols * s->cell; c++)
            put_halves(s, cell_colour(s, h / s->cell, c / s->cell),
                       h + 1 < halves ? cell_colour(s, (h + 1) / s->cell, c / s->cell) : NONE);
        bf_buf_text(&s->out, "\n");
    }
}

static void put_shaded(screen *s)
{
    for (size_t row = 0; row < s->rows; row++) {
        put_row_name(s, row, true);
        for (size_t c = 0; c < s->cols; c++) {
            double v;
            const char *shade = cell_value(&v, s, row, c) ? shade_of(&s->range, v) : " ";
            bf_buf_printf(&s->out, "%s%s", shade, shade);
        }
        while (s->out.len && s->out.data[s->out.len - 1] == ' ')
            s->out.data[--s->out.len] = '\0';
        bf_buf_text(&s->out, "\n");
    }
}

static void lay_cells(screen *s)
{
    const bool coloured = s->style->colours != BF_TERMINAL_PLAIN;
    const size_t across = (s->columns - LABEL) / (coloured ? 1 : 2);
    const size_t down = coloured ? HALVES : HALVES / 2;
    const size_t by_cols = (s->m.cols + across - 1) / across;
    const size_t by_rows = (s->m.rows + down - 1) / down;
    s->block = by_cols > by_rows ? by_cols : by_rows;
    s->rows = (s->m.rows + s->block - 1) / s->block;
    s->cols = (s->m.cols + s->block - 1) / s->block;
    s->cell = 1;
    while (coloured && s->cell < LARGEST_CELL && (s->cell + 1) * s->cols <= across &&
           (s->cell + 1) * s->rows <= down)
        s->cell++;
}

/* ---- the sentence */

/* What each token received from all losses after its own (where gradient goes both ways: from all
 * but its own); of attention from all later queries. */
static void sum_columns(const screen *s, double *sum)
{
    for (size_t r = 0; r < s->m.rows; r++)
        for (size_t c = 0; c < s->m.cols; c++)
            if (s->m.is_causal ? c < s->m.i[r] : c != s->m.number[r])
                sum[c] += s->m.value[r * s->m.cols + c];
}

/* A token as it stands in the sentence: its first spaces stay. *newline: it ends the line. */
static void append_token(const screen *s, bf_buf *out, size_t k, bool *newline)
{
    const char *text = k < bf_record_token_count(s->record) ? bf_record_token(s->record, k) : NULL;
    const size_t spaces = text ? strspn(text, " ") : 0;
    *newline = text && strchr(text, '\n') != NULL;
    if (text && spaces == 1 && !text[1]) {
        bf_buf_text(out, " ");
    } else if (text && text[spaces]) {
        bf_buf_printf(out, "%*s", (int)(spaces < 8 ? spaces : 8), "");
        bf_text_token(out, text + spaces, s->columns / 2);
    } else {
        bf_buf_text(out, text ? "" : " ");
        bf_text_label(out, s->record, k, s->columns / 2);
    }
}

/* Shades below the tokens, of a line that is full. */
static void end_line(screen *s, bf_buf *below)
{
    bf_buf_text(&s->out, "\n");
    if (below->len)
        bf_buf_printf(&s->out, "%s\n", below->data);
    bf_buf_free(below);
}

static void put_token(screen *s, bf_buf *below, const bf_range *range, const char *text,
                      double value)
{
    if (s->style->colours != BF_TERMINAL_PLAIN) {
        const uint32_t rgb = colour_of(s, range, value);
        put_colour(s, rgb, true);
        put_colour(s, bf_palette_ink(rgb), false);
        bf_buf_text(&s->out, text);
        put_plain(s);
        return;
    }
    const size_t spaces = strspn(text, " "), width = width_of(text + spaces);
    bf_buf_text(&s->out, text);
    bf_buf_printf(below, "%*s", (int)spaces, "");
    for (size_t k = 0; k < width; k++)
        bf_buf_text(below, shade_of(range, value));
}

static bf_code put_sentence(screen *s, bf_error *err)
{
    bf_matrix one = {.rows = 1, .cols = s->m.cols, .is_signed = s->m.is_signed};
    bf_range range = {0};
    bf_buf below = {0};
    size_t i = s->m.cols, used = 0;
    one.value = calloc(s->m.cols, sizeof *one.value);
    one.i = &i;
    bf_code rc = one.value ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu values", s->m.cols);
    if (!rc) {
        sum_columns(s, one.value);
        rc = find_range(&range, &one, err);
    }
    for (size_t k = 0; k < s->m.cols && !rc; k++) {
        bf_buf text = {0};
        bool newline;
        append_token(s, &text, k, &newline);
        const char *shown = text.data ? text.data : "";
        const size_t width = width_of(shown);
        if (used && used + width > s->columns) {
            end_line(s, &below);
            used = 0;
        }
        put_token(s, &below, &range, used ? shown : shown + strspn(shown, " "), one.value[k]);
        used = newline ? 0 : used + width;
        if (newline)
            end_line(s, &below);
        s->out.failed = s->out.failed || text.failed;
        bf_buf_free(&text);
    }
    if (used && !rc)
        end_line(s, &below);
    bf_buf_free(&below);
    bf_range_free(&range);
    free(one.value);
    return rc;
}

/* ---- the whole */

static void put_scale(screen *s)
{
    bf_buf_printf(&s->out, "%*s", (int)LABEL, "");
    bf_text_number(&s->out, s->range.is_signed ? -s->range.top : s->range.low);
    bf_buf_text(&s->out, " ");
    for (size_t k = 0; k < 16; k++)
        if (s->style->colours != BF_TERMINAL_PLAIN) {
            put_colour(s, bf_palette_rgb(s->palette, (double)k / 15), true);
            bf_buf_text(&s->out, " ");
            put_plain(s);
        } else if (k % 4 == 0) {
            const size_t at = s->range.is_signed ? (size_t)fabs((double)k / 2 - 3) : k / 4;
            bf_buf_text(&s->out, shades[1 + (at < 4 ? at : 3)]);
        }
    bf_buf_text(&s->out, " ");
    bf_text_number(&s->out, s->range.top);
    bf_buf_text(&s->out, s->range.is_log ? ", logarithmic" : "");
    if (s->block > 1)
        bf_buf_printf(&s->out, "; a cell is the largest of %zu×%zu", s->block, s->block);
    bf_buf_text(&s->out, "\n\n");
}

static bf_code put_all(screen *s, bf_error *err)
{
    bf_buf quantity = {0};
    const bf_heatmap_style style = {.site = s->m.tensor};
    bf_describe_values(&quantity, NULL, &s->m, s->record, &style);
    bf_describe_model(&s->out, s->record);
    bf_text_token(&s->out, s->m.tensor, 0);
    bf_describe_place(&s->out, &s->m);
    bf_buf_printf(&s->out, ", %s\n", quantity.data ? quantity.data : "");
    bf_buf_printf(&s->out, "%s down, positions across\n", s->m.is_attn ? "queries" : "losses");
    s->out.failed = s->out.failed || quantity.failed;
    bf_buf_free(&quantity);
    if (s->style->colours != BF_TERMINAL_PLAIN)
        put_coloured(s);
    else
        put_shaded(s);
    put_scale(s);
    bf_buf_printf(&s->out, "what each token received from all %s %s\n",
                  s->m.is_causal ? "later" : "other", s->m.is_attn ? "queries" : "losses");
    const bf_code rc = put_sentence(s, err);
    return !rc && s->out.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a screen of text") : rc;
}

/* The first site there is, norms before inner products. */
static bf_code select_first(bf_matrix *m, const bf_record *record, bf_error *err)
{
    static const char *const sites[] = {"resid_pre", "resid_mid", "resid_final", "mlp_out",
                                        "attn_out",  "v",         "z",           "k",
                                        "q"};
    static const char *const scores[] = {"grad_norm", "grad_x_act"};
    for (size_t c = 0; c < 2; c++)
        for (size_t k = 0; k < sizeof sites / sizeof *sites; k++) {
            bf_buf name = {0};
            bf_buf_printf(&name, "flow.%s.%s", sites[k], scores[c]);
            const bool found = !name.failed && bf_record_find(record, name.data);
            bf_buf_free(&name);
            const bf_heatmap_style style = {
                .site = sites[k], .score = scores[c], .layer = -1, .head = -1};
            if (found)
                return bf_matrix_select(m, record, &style, err);
        }
    const bf_heatmap_style attn = {.site = "attn", .layer = -1, .head = -1};
    return bf_record_find(record, "attn")
               ? bf_matrix_select(m, record, &attn, err)
               : bf_fail(err, BF_EARG, "the record has neither a tensor flow.SITE.SCORE nor attn, "
                                       "there is nothing to show");
}

bf_code bf_render_terminal(char **out, const bf_record *record, const bf_terminal_style *style,
                           bf_error *err)
{
    screen s = {.record = record, .style = style};
    s.columns = style->columns ? style->columns : 80;
    s.columns = s.columns < LEAST_COLUMNS ? LEAST_COLUMNS : s.columns;
    s.columns = s.columns > MOST_COLUMNS ? MOST_COLUMNS : s.columns;
    bf_code rc = select_first(&s.m, record, err);
    if (!rc)
        rc = find_range(&s.range, &s.m, err);
    if (!rc) {
        s.palette = bf_palette_find(s.m.is_signed ? "vik" : "cividis");
        lay_cells(&s);
        rc = put_all(&s, err);
    }
    if (!rc)
        *out = s.out.data; /* handed over */
    else
        bf_buf_free(&s.out);
    bf_range_free(&s.range);
    bf_matrix_free(&s.m);
    return rc;
}
