/* strip.c -- the sentence itself, tinted token by token.
 *
 * Tokens are set one after the other with no more room between them than the text has, each on a
 * box of its colour; a line ends where the next token has no room, and behind a newline token.
 * Norms are tinted by the upper half of vik: what is next to nothing looks like paper. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "render/bar.h"
#include "render/canvas.h"
#include "render/describe.h"
#include "render/matrix.h"
#include "render/text.h"

static const double MM = 72 / 25.4, COLUMN = 89, PAGE = 183; /* millimetres */
static const double MARGIN = 7, GAP = 3, SIZE = 9, NUMBER = 5.2; /* points, like all that follow */
static const double PAD = 1.6, SPACE = 1.4;
static const double LINE = 14.5, NUMBERED = 21, BAR = 150;
static const uint32_t INK = 0x222222, FAINT = 0x767676, LOCK = 0xd55e00;
enum { COLUMNS = 40 }; /* longer tokens are cut */

/* One token: its label, what it is tinted by, and its place. */
typedef struct {
    size_t from;       /* its label in the text buffer */
    bool reached;      /* it has a value: no causal or chosen zero */
    bool locked;       /* it is the loss's target, or the source */
    double value;
    double x, y, width;
} token;

typedef struct {
    const bf_record *record;
    const bf_strip_style *style;
    bf_heatmap_style what;
    bf_matrix m;
    bf_range range;
    const bf_palette *palette;
    bf_canvas *canvas;
    bf_buf text, title, note, quantity;
    token *tokens;     /* [n] */
    size_t n;
    bool quiet;
    double width, height, y, note_y, bar_y, line;
    bf_bar bar;
} strip;

/* ---- values */

static bf_code find_row(size_t *row, const strip *s, bf_error *err)
{
    for (*row = 0; *row < s->m.rows; ++*row)
        if (s->m.number[*row] == (size_t)s->style->loss)
            return BF_OK;
    return bf_fail(err, BF_EARG, "the record has no loss %ld of %s; it has %zu, the last is %zu",
                   s->style->loss, s->m.tensor, s->m.rows, s->m.number[s->m.rows - 1]);
}

/* Received from one loss: positions up to it. */
static bf_code take_loss(strip *s, bf_error *err)
{
    size_t row;
    const bf_code rc = find_row(&row, s, err);
    for (size_t j = 0; !rc && j <= s->m.i[row]; j++) {
        s->tokens[j].value = s->m.value[row * s->m.cols + j];
        s->tokens[j].reached = true;
    }
    if (!rc)
        s->tokens[s->m.number[row] + s->m.shift].locked = true;
    return rc;
}

/* Given back by one position: the tokens whose losses reach it. */
static bf_code take_source(strip *s, bf_error *err)
{
    const size_t j = (size_t)s->style->source;
    if (j >= s->m.cols)
        return bf_fail(err, BF_EARG, "the record has positions 0 to %zu, wanted source %ld",
                       s->m.cols - 1, s->style->source);
    for (size_t r = 0; r < s->m.rows; r++)
        if (s->m.i[r] >= j) {
            token *t = &s->tokens[s->m.number[r] + s->m.shift];
            t->value = s->m.value[r * s->m.cols + j];
            t->reached = true;
        }
    s->tokens[j].locked = true;
    return BF_OK;
}

/* Received from the losses at all other positions. */
static void take_all(strip *s)
{
    for (size_t r = 0; r < s->m.rows; r++)
        for (size_t j = 0; j <= s->m.i[r]; j++) {
            if (j == s->m.number[r])
                continue;
            s->tokens[j].value += s->m.value[r * s->m.cols + j];
            s->tokens[j].reached = true;
        }
}

static bf_code take_values(strip *s, bf_error *err)
{
    const bf_strip_style *w = s->style;
    s->what = (bf_heatmap_style){.site = w->site ? w->site : "resid_pre", .score = w->score,
                                 .layer = w->layer, .head = w->head};
    bf_code rc = bf_matrix_select(&s->m, s->record, &s->what, err);
    if (!rc && s->m.down != BF_AXIS_LOSS)
        rc = bf_fail(err, BF_EARG, "%s has no losses and positions to tint tokens by", s->m.tensor);
    if (rc)
        return rc;
    s->n = s->m.cols + s->m.shift;
    s->tokens = calloc(s->n, sizeof *s->tokens);
    if (!s->tokens)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", s->n);
    if (w->loss >= 0)
        return take_loss(s, err);
    if (w->source >= 0)
        return take_source(s, err);
    take_all(s);
    return BF_OK;
}

/* The range of the tints alone: as if they were one row. */
static bf_code find_range(strip *s, bf_error *err)
{
    size_t last = 0, n = 0;
    double *value = calloc(s->n, sizeof *value);
    if (!value)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu values", s->n);
    for (size_t k = 0; k < s->n; k++)
        if (s->tokens[k].reached)
            value[n++] = s->tokens[k].value;
    const bf_matrix row = {.rows = 1, .cols = n ? n : 1, .value = value, .i = &last,
                           .is_signed = s->m.is_signed};
    last = row.cols - 1;
    const bf_code rc = bf_range_find(&s->range, &row, 1, s->style->scale, err);
    free(value);
    return rc;
}

/* ---- words */

static void put_token(bf_buf *out, const bf_record *record, size_t k)
{
    bf_buf_text(out, "“");
    bf_text_isolated(out, record, k, 24);
    bf_buf_printf(out, "” (%zu)", k);
}

static bf_code describe(strip *s, bf_error *err)
{
    const bf_strip_style *w = s->style;
    const char *loss = bf_describe_loss(s->record);
    if (w->look.title && *w->look.title) {
        bf_text_token(&s->title, w->look.title, 400);
    } else {
        bf_describe_model(&s->title, s->record);
        bf_describe_tensor(&s->title, &s->m);
        bf_describe_place(&s->title, &s->m);
    }
    if (w->loss >= 0) {
        bf_buf_printf(&s->note, "what each token receives from %s %ld, which predicts ", loss,
                      w->loss);
        put_token(&s->note, s->record, (size_t)w->loss + s->m.shift);
    } else if (w->source >= 0) {
        bf_buf_printf(&s->note, "what the %s of each token sends back to ", loss);
        put_token(&s->note, s->record, (size_t)w->source);
    } else {
        bf_buf_printf(&s->note,
                      "what each token receives from the losses at all %s positions, added up",
                      s->m.is_causal ? "later" : "other");
    }
    bf_buf_text(&s->note, "; tokens in grey are out of reach");
    bf_describe_values(&s->quantity, NULL, &s->m, s->record, &s->what);
    return s->title.failed || s->note.failed || s->quantity.failed
               ? bf_fail(err, BF_ENOMEM, "cannot hold the title") : BF_OK;
}

static bf_code make_labels(strip *s, bf_error *err)
{
    const bf_type type = {.size = SIZE};
    for (size_t k = 0; k < s->n; k++) {
        s->tokens[k].from = s->text.len;
        bf_text_isolated(&s->text, s->record, k, COLUMNS);
        bf_buf_bytes(&s->text, "", 1);
    }
    if (s->text.failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu labels", s->n);
    for (size_t k = 0; k < s->n; k++) {
        bf_canvas_measure(s->canvas, s->text.data + s->tokens[k].from, &type, &s->tokens[k].width,
                          NULL);
        s->tokens[k].width += 2 * PAD;
    }
    return BF_OK;
}

/* ---- layout */

/* Room between two tokens: that of a space, or next to none inside a word. */
static double room_before(const strip *s, size_t k)
{
    const bool known = k < bf_record_token_count(s->record);
    return !known || bf_record_token(s->record, k)[0] == ' ' ? 2 * SPACE : SPACE / 2;
}

static bool ends_line(const strip *s, size_t k)
{
    const char *text = k < bf_record_token_count(s->record) ? bf_record_token(s->record, k) : "";
    return *text && text[strlen(text) - 1] == '\n';
}

/* Values below tokens need room side by side. */
static double number_width(const strip *s, const token *t)
{
    const bf_type type = {.size = NUMBER};
    bf_buf number = {0};
    double width = 0;
    if (!s->style->numbers || !t->reached)
        return 0;
    bf_text_number(&number, t->value);
    if (!number.failed)
        bf_canvas_measure(s->canvas, number.data, &type, &width, NULL);
    bf_buf_free(&number);
    return width + 4;
}

static void lay_tokens(strip *s)
{
    const double right = s->width - MARGIN;
    double x = MARGIN, y = s->y;
    for (size_t k = 0; k < s->n; k++) {
        token *t = &s->tokens[k];
        t->width = fmax(t->width, number_width(s, t));
        const double before = x > MARGIN ? room_before(s, k) : 0;
        if (x > MARGIN && x + before + t->width > right) {
            x = MARGIN;
            y += s->line;
        }
        t->x = x > MARGIN ? x + before : x;
        t->y = y;
        x = t->x + t->width;
        if (ends_line(s, k)) {
            x = MARGIN;
            y += s->line;
        }
    }
    s->bar_y = s->tokens[s->n - 1].y + s->line + 2 * GAP;
}

static void lay_out(strip *s)
{
    double natural = 0, height;
    for (size_t k = 0; k < s->n; k++)
        natural += s->tokens[k].width + 2 * SPACE;
    s->width = s->style->look.width_mm > 0 ? s->style->look.width_mm * MM
               : natural < COLUMN * MM * 2 ? COLUMN * MM : PAGE * MM;
    s->line = s->style->numbers ? NUMBERED : LINE;
    const bf_type title = {.size = 8.5, .bold = true, .wrap = s->width - 2 * MARGIN},
                  note = {.size = 6.8, .wrap = title.wrap};
    s->y = s->note_y = MARGIN;
    if (!s->quiet) {
        bf_canvas_measure(s->canvas, s->title.data, &title, NULL, &height);
        s->note_y += height;
        bf_canvas_measure(s->canvas, s->note.data, &note, NULL, &height);
        s->y = s->note_y + height + 2 * GAP;
    }
    lay_tokens(s);
    s->bar = (bf_bar){.range = &s->range, .palette = s->palette, .quantity = s->quantity.data,
                      .width = fmin(BAR, s->width - 2 * MARGIN),
                      .below = s->range.is_signed ? "underlined in dashes: below 0" : NULL};
    s->height = s->bar_y + bf_bar_draw(s->canvas, &s->bar, 0, 0, false) + MARGIN;
}

/* ---- drawing */

static void draw_number(const strip *s, const token *t)
{
    const bf_type type = {.size = NUMBER, .rgb = INK, .along = 0.5};
    bf_buf number = {0};
    bf_text_number(&number, t->value);
    if (!number.failed)
        bf_canvas_text(s->canvas, number.data, t->x + t->width / 2, t->y + LINE - 2, &type);
    bf_buf_free(&number);
}

static void draw_token(const strip *s, const token *t)
{
    const double high = LINE - 3;
    bf_type type = {.size = SIZE, .rgb = FAINT, .along = 0.5, .across = 0.5};
    if (t->reached) {
        const uint32_t rgb = bf_bar_rgb(&s->range, s->palette, t->value);
        type.rgb = bf_palette_ink(rgb);
        bf_canvas_box(s->canvas, t->x, t->y, t->width, high, rgb);
    }
    bf_canvas_text(s->canvas, s->text.data + t->from, t->x + t->width / 2, t->y + high / 2, &type);
    if (t->reached && t->value < 0) {
        const double line[] = {t->x + 1, t->y + high - 1.1, t->x + t->width - 1, t->y + high - 1.1};
        bf_canvas_dash(s->canvas, 1.8, 1.2);
        bf_canvas_lines(s->canvas, line, 2, false, 0.7, type.rgb);
        bf_canvas_dash(s->canvas, 0, 0);
    }
    if (t->locked) {
        const double x1 = t->x + t->width, y1 = t->y + high;
        const double frame[] = {t->x, t->y, x1, t->y, x1, y1, t->x, y1};
        bf_canvas_lines(s->canvas, frame, 4, true, 1.1, LOCK);
    }
    if (s->style->numbers && t->reached)
        draw_number(s, t);
}

static bf_code draw(strip *s, bf_error *err)
{
    const bf_type title = {.size = 8.5, .rgb = INK, .bold = true, .wrap = s->width - 2 * MARGIN},
                  note = {.size = 6.8, .rgb = FAINT, .wrap = title.wrap};
    const bf_code rc = bf_canvas_start(s->canvas, s->width, s->height, err);
    if (rc)
        return rc;
    if (!s->quiet) {
        bf_canvas_text(s->canvas, s->title.data, MARGIN, MARGIN, &title);
        bf_canvas_text(s->canvas, s->note.data, MARGIN, s->note_y, &note);
    }
    for (size_t k = 0; k < s->n; k++)
        draw_token(s, &s->tokens[k]);
    bf_bar_draw(s->canvas, &s->bar, MARGIN, s->bar_y, true);
    return BF_OK;
}

static bf_code make(strip *s, const char *path, bf_error *err)
{
    const bf_look *look = &s->style->look;
    if (s->style->loss >= 0 && s->style->source >= 0)
        return bf_fail(err, BF_EARG, "a loss and a source are given, wanted one of them");
    bf_code rc = bf_canvas_open(&s->canvas, path, look, err);
    if (!rc)
        rc = take_values(s, err);
    if (!rc)
        rc = find_range(s, err);
    s->palette = bf_palette_find(look->palette ? look->palette : "vik");
    if (!rc)
        rc = describe(s, err);
    if (!rc)
        rc = make_labels(s, err);
    if (rc)
        return rc;
    lay_out(s);
    rc = draw(s, err);
    const bf_stamp stamp = {s->title.data, s->note.data, look->provenance};
    if (!rc)
        rc = bf_canvas_save(s->canvas, path, &stamp, err);
    return rc || !look->caption ? rc : bf_describe_caption(path, s->width, s->title.data,
                                                           s->note.data, s->record, err);
}

bf_code bf_render_strip(const bf_record *record, const bf_strip_style *style, const char *path,
                        bf_error *err)
{
    const char *title = style->look.title;
    strip s = {.record = record, .style = style, .quiet = title && !*title};
    const bf_code rc = make(&s, path, err);
    free(s.tokens);
    bf_range_free(&s.range);
    bf_matrix_free(&s.m);
    bf_canvas_free(s.canvas);
    bf_buf_free(&s.text);
    bf_buf_free(&s.title);
    bf_buf_free(&s.note);
    bf_buf_free(&s.quantity);
    return rc;
}
