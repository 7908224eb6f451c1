/* profile.c -- blocks of curves: flow against distance, reach, own and future. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "render/bar.h"
#include "render/canvas.h"
#include "render/chart.h"
#include "render/curves.h"
#include "render/describe.h"
#include "render/panel.h"
#include "render/text.h"

enum { BLOCKS = 4, MOST_LINES = 128 };
static const double MM = 72 / 25.4, COLUMN = 89, PAGE = 183, NARROW = 130; /* millimetres */
static const double MARGIN = 7, GAP = 14, LEFT = 38, HEAD = 14, FOOT = 24; /* points */
static const double PLOT = 128, UPPER = 78, LOWER = 38, SPLIT = 12, NAME = 60;
static const uint32_t INK = 0x222222, FAINT = 0x666666;

typedef struct {
    const bf_record *const *records;
    size_t n;
    const bf_profile_style *style;
    unsigned parts;
    bool quiet;
    const char *site, *score;
    bf_curves lag, reach, position, layer;
    bf_canvas *canvas;
    bf_buf title, note, caption;
    double width, height, block; /* of a block */
} sheet;

static const bf_profile_part order[BLOCKS] = {BF_PROFILE_LAG, BF_PROFILE_REACH,
                                              BF_PROFILE_POSITION, BF_PROFILE_LAYER};

/* ---- numbers */

static bf_code compute(sheet *s, bf_error *err)
{
    const bf_profile_style *w = s->style;
    bf_code rc = BF_OK;
    const unsigned own =
        bf_curves_have_own(s->records, s->n) ? BF_PROFILE_POSITION | BF_PROFILE_LAYER : 0u;
    s->parts =
        w->parts ? w->parts & BF_PROFILE_ALL : BF_PROFILE_LAG | BF_PROFILE_REACH | own;
    if (s->parts & BF_PROFILE_LAG)
        rc = bf_curves_lag(&s->lag, s->records, s->n, s->site, s->score, true, w->resamples, err);
    if (!rc && s->parts & BF_PROFILE_REACH)
        rc = bf_curves_lag(&s->reach, s->records, s->n, s->site, s->score, false, 1, err);
    if (!rc && s->parts & BF_PROFILE_POSITION)
        rc = bf_curves_position(&s->position, s->records, s->n, w->layer, w->resamples, err);
    if (!rc && s->parts & BF_PROFILE_LAYER)
        rc = bf_curves_layer(&s->layer, s->records, s->n, w->resamples, err);
    return rc;
}

/* ---- flow against distance */

/* A family of lines is told apart by dashes, too. */
static void set_dash(bf_line *line, size_t k)
{
    static const double dashes[][2] = {{0, 0}, {5, 1.6}, {2.4, 1.6}, {0.9, 1.5}};
    line->dash_on = dashes[k % 4][0];
    line->dash_off = dashes[k % 4][1];
}

static void put_slope(bf_buf *out, const char *before, double v)
{
    bf_buf_printf(out, "%s%s%.2f", before, v < 0 ? "−" : "", fabs(v));
}

/* "3: −1.02 [−1.10, −0.95]": the layer, and the slope where there is one. */
static void put_name(bf_buf *out, const bf_curves *c, size_t k)
{
    if (c->number[k] == (size_t)-1)
        bf_buf_text(out, "final");
    else
        bf_buf_printf(out, "%zu", c->number[k]);
    if (!isfinite(c->slope[k]))
        return;
    put_slope(out, ": ", c->slope[k]);
    if (c->slope_low) {
        put_slope(out, " [", c->slope_low[k]);
        put_slope(out, ", ", c->slope_high[k]);
        bf_buf_text(out, "]");
    }
}

/* The names stand one after the other in text. */
static bf_code name_lines(bf_buf *text, bf_line *lines, const bf_curves *c, bf_error *err)
{
    size_t from[MOST_LINES];
    for (size_t k = 0; k < c->K; k++) {
        from[k] = text->len;
        put_name(text, c, k);
        bf_buf_bytes(text, "", 1);
    }
    if (text->failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold the names of %zu lines", c->K);
    for (size_t k = 0; k < c->K; k++)
        lines[k].name = text->data + from[k];
    return BF_OK;
}

static bf_code draw_fits(const sheet *s, const bf_frame *f, bf_error *err)
{
    const bf_curves *c = &s->lag;
    bf_code rc = BF_OK;
    double *y = calloc(c->P, sizeof *y);
    if (!y)
        return bf_fail(err, BF_ENOMEM, "cannot hold a line of %zu points", c->P);
    for (size_t k = 0; k < c->K && c->K <= 3 && !rc; k++) {
        for (size_t p = 1; p < c->P; p++)
            y[p] = c->scale[k] * pow(c->x[p], c->slope[k]); /* NaN without a law */
        const bf_line line = {.y = y + 1, .rgb = 0, .width = 0.5, .dash_on = 1, .dash_off = 1.5};
        rc = bf_lines_over(s->canvas, f, &line, 1, c->x + 1, c->P - 1, err);
    }
    free(y);
    return rc;
}

static bf_code draw_lag(const sheet *s, double x, double y, bf_error *err)
{
    const bf_curves *c = &s->lag;
    bf_line lines[MOST_LINES] = {{0}};
    bf_buf names = {0};
    char y_name[96];
    bf_code rc = name_lines(&names, lines, c, err);
    for (size_t k = 0; k < c->K && !rc; k++) {
        lines[k].y = c->mean + k * c->P + 1;
        lines[k].low = c->low ? c->low + k * c->P + 1 : NULL;
        lines[k].high = c->low ? c->high + k * c->P + 1 : NULL;
        lines[k].rgb = bf_line_family(s->style->look.palette, k, c->K);
        set_dash(&lines[k], k);
    }
    if (!rc) {
        const double legend = fmax(52, bf_lines_legend(s->canvas, lines, c->K, 0, 0, false));
        bf_frame f = {.x = x + LEFT, .y = y + HEAD, .height = PLOT,
                      .width = s->block - LEFT - legend - 6, .x0 = 1,
                      .x1 = fmax(2, c->x[c->P - 1]), .log_x = true, .log_y = true};
        const bool is_norm = !strcmp(s->score, "grad_norm");
        snprintf(y_name, sizeof y_name, "mean %s%.30s%s, %s%s", is_norm ? "" : "|",
                 s->score, is_norm ? "" : "|", bf_describe_unit(s->records[0]),
                 is_norm ? " per unit" : "");
        bf_frame_names(s->canvas, &f, "distance i − j, tokens", y_name, x);
        if (c->P > 1 && bf_lines_range(&f, lines, c->K, c->P - 1)) {
            bf_frame_draw(s->canvas, &f, true, true, true);
            rc = bf_lines_over(s->canvas, &f, lines, c->K, c->x + 1, c->P - 1, err);
            if (!rc)
                rc = draw_fits(s, &f, err);
            bf_lines_legend(s->canvas, lines, c->K, f.x + f.width + 6, f.y + 12, true);
            bf_canvas_text(s->canvas, c->slope_low ? "layer: slope [95 %]" : "layer: slope",
                           f.x + f.width + 6, f.y - 1, &(bf_type){.size = 6.2, .rgb = FAINT});
        }
    }
    bf_buf_free(&names);
    return rc;
}

/* ---- reach */

/* Layers go up; a place where every pair is exactly 0 has the colour of zeros. */
static bf_code fill_reach(bf_matrix *m, const bf_curves *c, bf_error *err)
{
    *m = (bf_matrix){.rows = c->K, .cols = c->P};
    m->value = calloc(c->K * c->P, sizeof *m->value);
    m->i = calloc(c->K, sizeof *m->i);
    if (!m->value || !m->i)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu by %zu values", c->K, c->P);
    for (size_t k = 0; k < c->K; k++) {
        const double *from = c->mean + k * c->P;
        m->i[c->K - 1 - k] = c->P - 1;
        for (size_t d = 0; d < c->P; d++)
            m->value[(c->K - 1 - k) * c->P + d] = isnan(from[d]) ? 0 : from[d];
    }
    return BF_OK;
}

static void draw_layer_numbers(const sheet *s, const bf_frame *f)
{
    const bf_curves *c = &s->reach;
    const bf_type type = {.size = 6.2, .rgb = INK, .along = 1, .across = 0.5};
    const double cell = f->height / (double)c->K;
    const size_t step = (size_t)ceil(7.4 / cell);
    for (size_t k = 0; k < c->K; k += step) {
        char number[24] = "final";
        if (c->number[k] != (size_t)-1)
            snprintf(number, sizeof number, "%zu", c->number[k]);
        bf_canvas_text(s->canvas, number, f->x - 3, f->y + f->height - ((double)k + 0.5) * cell,
                       &type);
    }
}

static bf_code draw_reach(const sheet *s, double x, double y, bf_error *err)
{
    const bf_curves *c = &s->reach;
    bf_matrix m = {0};
    bf_range range = {0};
    bf_code rc = fill_reach(&m, c, err);
    if (!rc)
        rc = bf_range_find(&range, &m, 1, BF_SCALE_LOG, err);
    if (!rc) {
        const bf_palette *palette =
            bf_palette_find(s->style->look.palette ? s->style->look.palette : "cividis");
        const bf_bar bar = {.range = &range, .palette = palette, .quantity = "mean over pairs",
                            .zero = "exactly 0: out of reach", .width = 84};
        const bf_frame f = {.x = x + LEFT, .y = y + HEAD, .height = PLOT,
                            .width = s->block - LEFT - bar.width - 10, .x0 = -0.5,
                            .x1 = (double)c->P - 0.5, .whole_x = true};
        const bf_panel panel = {&m, &range, palette, f.x, f.y, f.width / (double)c->P,
                                f.height / (double)c->K};
        rc = bf_panel_draw(s->canvas, &panel, err);
        bf_frame_draw(s->canvas, &f, true, false, false);
        draw_layer_numbers(s, &f);
        bf_frame_names(s->canvas, &f, "distance i − j, tokens", "layer", x + 12);
        bf_bar_draw(s->canvas, &bar, f.x + f.width + 10, f.y, true);
    }
    bf_range_free(&range);
    bf_matrix_free(&m);
    return rc;
}

/* ---- own and future */

static bf_line line_of(const bf_curves *c, size_t k)
{
    static const char *const names[] = {"own", "future", "cosine"};
    bf_line line = {.name = names[k],
                    .y = c->mean + k * c->P,
                    .low = c->low ? c->low + k * c->P : NULL,
                    .high = c->low ? c->high + k * c->P : NULL,
                    .rgb = k == 2 ? 0x333333 : bf_line_colour(k)};
    if (k == 1)
        set_dash(&line, 1);
    return line;
}

/* Norms above, their cosine below, over the same axis. */
static bf_code draw_own(const sheet *s, const bf_curves *c, const char *x_name, double x, double y,
                        bf_error *err)
{
    const bf_line lines[] = {line_of(c, 0), line_of(c, 1), line_of(c, 2)};
    const double legend = bf_lines_legend(s->canvas, lines, 3, 0, 0, false);
    bf_frame upper = {.x = x + LEFT, .y = y + HEAD, .height = UPPER,
                      .width = s->block - LEFT - legend - 6, .x1 = fmax(1, c->x[c->P - 1]),
                      .log_y = true, .whole_x = true},
             lower = upper;
    bf_code rc = BF_OK;
    if (!rc && bf_lines_range(&upper, lines, 2, c->P)) {
        bf_frame_draw(s->canvas, &upper, false, true, true);
        rc = bf_lines_over(s->canvas, &upper, lines, 2, c->x, c->P, err);
    }
    lower.y += UPPER + SPLIT;
    lower.height = LOWER;
    lower.log_y = false;
    if (!rc && bf_lines_range(&lower, lines + 2, 1, c->P)) {
        lower.y0 = lower.y0 < 0 ? -1 : 0;
        lower.y1 = 1;
        bf_frame_draw(s->canvas, &lower, true, true, true);
        rc = bf_lines_over(s->canvas, &lower, lines + 2, 1, c->x, c->P, err);
    }
    bf_lines_legend(s->canvas, lines, 2, upper.x + upper.width + 6, upper.y + 4, true);
    bf_lines_legend(s->canvas, lines + 2, 1, lower.x + lower.width + 6, lower.y + 4, true);
    char name[64];
    snprintf(name, sizeof name, "norm, %s per unit", bf_describe_unit(s->records[0]));
    bf_frame_names(s->canvas, &upper, NULL, name, x);
    bf_frame_names(s->canvas, &lower, x_name, "cosine", x);
    return rc;
}

/* ---- the sheet */

static const char *head_of(const sheet *s, bf_profile_part part, char *text, size_t size)
{
    if (part == BF_PROFILE_LAG)
        snprintf(text, size, "Flow against distance, %.30s", s->site);
    else if (part == BF_PROFILE_REACH)
        snprintf(text, size, "Reach: layer against distance, %.30s", s->site);
    else if (part == BF_PROFILE_LAYER)
        snprintf(text, size, "Own and future by layer, mean over positions");
    else if (s->style->layer < 0)
        snprintf(text, size, "Own and future by position, mean over layers");
    else
        snprintf(text, size, "Own and future by position, layer %ld", s->style->layer);
    return text;
}

static bf_code draw_block(const sheet *s, bf_profile_part part, char letter, double x, double y,
                          bf_error *err)
{
    const bf_type bold = {.size = 8, .rgb = INK, .bold = true}, plain = {.size = 7.2, .rgb = INK};
    char text[96], name[] = {letter, '\0'};
    if (letter)
        bf_canvas_text(s->canvas, name, x, y - 1, &bold);
    bf_canvas_text(s->canvas, head_of(s, part, text, sizeof text), x + (letter ? 11 : 0), y,
                   &plain);
    switch (part) {
    case BF_PROFILE_LAG:
        return draw_lag(s, x, y, err);
    case BF_PROFILE_REACH:
        return draw_reach(s, x, y, err);
    case BF_PROFILE_POSITION:
        return draw_own(s, &s->position,
                        s->position.P > 1 && s->position.x[1] - s->position.x[0] > 1.5
                            ? "position j (means over neighbours)" : "position j", x, y, err);
    default:
        return draw_own(s, &s->layer, "input of layer; last: of the final norm", x, y, err);
    }
}

static bf_code describe(sheet *s, bf_error *err)
{
    const char *title = s->style->look.title;
    size_t least = (size_t)-1, most = 0;
    for (size_t k = 0; k < s->n; k++) {
        const bf_tensor *t = bf_record_find(s->records[k], "tokens");
        const size_t N = t && bf_tensor_count(t) ? bf_tensor_count(t) - 1 : 0;
        least = N < least ? N : least;
        most = N > most ? N : most;
    }
    if (title && *title) {
        bf_text_token(&s->title, title, 400);
    } else {
        bf_describe_model(&s->title, s->records[0]);
        bf_buf_text(&s->title, "profile of the flow");
    }
    if (s->n > 1)
        bf_buf_printf(&s->note,
                      "%zu documents, N = %zu to %zu; shaded and in brackets: 95 %% bootstrap "
                      "intervals over documents", s->n, least, most);
    else
        bf_buf_printf(&s->note, "one document, N = %zu", most);
    if (s->parts & BF_PROFILE_LAG)
        bf_buf_text(&s->note, "; slope: of log flow on log distance, every octave counting alike; "
                              "from distance 16 on means over bins of 1/8 octave");
    bf_buf_text(&s->caption, s->note.data ? s->note.data : "");
    char letter = 'a', text[96];
    for (size_t k = 0; k < BLOCKS; k++)
        if (s->parts & order[k])
            bf_buf_printf(&s->caption, "; %c: %s", letter++,
                          head_of(s, order[k], text, sizeof text));
    return s->title.failed || s->note.failed || s->caption.failed
               ? bf_fail(err, BF_ENOMEM, "cannot hold the title") : BF_OK;
}

static bf_code draw(sheet *s, double wanted, bf_error *err)
{
    size_t blocks = 0, k = 0;
    for (size_t b = 0; b < BLOCKS; b++)
        blocks += (s->parts & order[b]) != 0;
    s->width = wanted > 0 ? wanted : (blocks > 1 ? PAGE : COLUMN) * MM;
    const size_t columns = blocks > 1 && s->width >= NARROW * MM ? 2 : 1;
    s->block = (s->width - 2 * MARGIN - GAP * (double)(columns - 1)) / (double)columns;
    if (s->block < LEFT + 2 * NAME + 40)
        return bf_fail(err, BF_EARG, "a width of %.0f mm is too narrow for a profile, wanted 70 mm",
                       s->width / MM);
    const bf_type title = {.size = 8.5, .rgb = INK, .bold = true, .wrap = s->width - 2 * MARGIN},
                  note = {.size = 6.8, .rgb = FAINT, .wrap = title.wrap};
    double head = 0, under = 0;
    if (!s->quiet) {
        bf_canvas_measure(s->canvas, s->title.data, &title, NULL, &head);
        bf_canvas_measure(s->canvas, s->note.data, &note, NULL, &under);
    }
    const double step = HEAD + PLOT + FOOT + 8, top = MARGIN + head + under + (s->quiet ? 0 : 8);
    s->height = top + step * (double)((blocks + columns - 1) / columns);
    bf_code rc = bf_canvas_start(s->canvas, s->width, s->height, err);
    if (!rc && !s->quiet) {
        bf_canvas_text(s->canvas, s->title.data, MARGIN, MARGIN, &title);
        bf_canvas_text(s->canvas, s->note.data, MARGIN, MARGIN + head, &note);
    }
    for (size_t b = 0; b < BLOCKS && !rc; b++)
        if (s->parts & order[b]) {
            rc = draw_block(s, order[b], blocks > 1 ? (char)('a' + k) : '\0',
                            MARGIN + (double)(k % columns) * (s->block + GAP),
                            top + (double)(k / columns) * step, err);
            k++;
        }
    return rc;
}

static bf_code make(sheet *s, const char *path, bf_error *err)
{
    const bf_look *look = &s->style->look;
    bf_code rc = bf_canvas_open(&s->canvas, path, look, err);
    if (!rc)
        rc = compute(s, err);
    if (!rc && s->lag.K > MOST_LINES)
        rc = bf_fail(err, BF_EARG, "%zu layers, at most %d lines can be drawn", s->lag.K,
                     (int)MOST_LINES);
    if (!rc)
        rc = describe(s, err);
    if (!rc)
        rc = draw(s, look->width_mm * MM, err);
    const bf_stamp stamp = {s->title.data, s->caption.data, look->provenance};
    if (!rc)
        rc = bf_canvas_save(s->canvas, path, &stamp, err);
    if (!rc && look->caption)
        rc = bf_describe_caption(path, s->width, s->title.data, s->caption.data, s->records[0],
                                 err);
    return rc;
}

bf_code bf_render_profile(const bf_record *const *records, size_t n, const bf_profile_style *style,
                          const char *path, bf_error *err)
{
    const char *title = style->look.title;
    sheet s = {.records = records, .n = n, .style = style,
               .site = style->site ? style->site : "resid_pre",
               .score = style->score ? style->score : "grad_norm",
               .quiet = title && !*title};
    const bf_code rc = n ? make(&s, path, err) : bf_fail(err, BF_EARG, "no record was given");
    bf_curves_free(&s.lag);
    bf_curves_free(&s.reach);
    bf_curves_free(&s.position);
    bf_curves_free(&s.layer);
    bf_canvas_free(s.canvas);
    bf_buf_free(&s.title);
    bf_buf_free(&s.note);
    bf_buf_free(&s.caption);
    return rc;
}
