/* canvas.c -- Cairo surfaces over a growing buffer, text through Pango.
 *
 * The bytes are collected in memory and written at the end, so that a picture appears whole or not
 * at all. Type is measured without hinting, so that all formats break lines alike. */
#include "render/canvas.h"

#include <cairo-pdf.h>
#include <cairo.h>
#include <math.h>
#include <pango/pangocairo.h>
#include <pango/pangofc-fontmap.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "render/palette.h"
#include "render/png.h"
#include "render/svg.h"

enum { MAX_PIXELS = 32000 }; /* a side; Cairo's pictures end at 32767 */
static const char FONTS[] = "Noto Sans,DejaVu Sans,sans-serif";

struct bf_canvas {
    bf_format format;
    int dpi;
    double width, height;
    char font[160]; /* family, and what to take for characters that it has not */
    bf_svg svg;     /* instead of a surface */
    PangoFontMap *fonts;
    PangoContext *context;
    PangoLayout *layout;
    cairo_surface_t *surface;
    cairo_t *cairo;
    bf_buf bytes;
};

/* Fonts with outlines come first wherever a character has a choice. */
static void prefer_outlines(FcPattern *pattern, gpointer nothing)
{
    (void)nothing;
    FcPatternDel(pattern, FC_COLOR);
    FcPatternAddBool(pattern, FC_COLOR, FcFalse);
    FcPatternAddBool(pattern, FC_OUTLINE, FcTrue);
}

bf_code bf_canvas_new(bf_canvas **out, bf_format format, int dpi, bf_error *err)
{
    bf_canvas *c = calloc(1, sizeof *c);
    if (!c)
        return bf_fail(err, BF_ENOMEM, "cannot hold a canvas");
    c->format = format;
    c->dpi = dpi;
    snprintf(c->font, sizeof c->font, "%s", FONTS);
    c->fonts = pango_cairo_font_map_new_for_font_type(CAIRO_FONT_TYPE_FT);
    pango_fc_font_map_set_default_substitute(PANGO_FC_FONT_MAP(c->fonts), prefer_outlines, NULL,
                                             NULL);
    c->context = pango_font_map_create_context(c->fonts);
    pango_context_set_round_glyph_positions(c->context, false);
    cairo_font_options_t *options = cairo_font_options_create();
    cairo_font_options_set_antialias(options, CAIRO_ANTIALIAS_GRAY);
    cairo_font_options_set_hint_style(options, CAIRO_HINT_STYLE_NONE);
    cairo_font_options_set_hint_metrics(options, CAIRO_HINT_METRICS_OFF);
    pango_cairo_context_set_font_options(c->context, options);
    cairo_font_options_destroy(options);
    c->layout = pango_layout_new(c->context);
    *out = c;
    return BF_OK;
}

/* Is there a family of that name? Pango would quietly take another one. */
static bool has_family(bf_canvas *c, const char *name)
{
    PangoFontFamily **family = NULL;
    int n = 0;
    bool found = false;
    pango_font_map_list_families(c->fonts, &family, &n);
    for (int k = 0; k < n && !found; k++)
        found = !strcasecmp(pango_font_family_get_name(family[k]), name);
    g_free(family);
    return found;
}

/* Letters that LaTeX's \includegraphics takes as they are. */
static bool is_plain(const char *path)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    return name[strspn(name, plain)] == '\0';
}

static bf_code check_look(const bf_look *look, const char *path, bf_error *err)
{
    if (look->caption && !is_plain(path))
        return bf_fail(err, BF_EARG,
                       "%.300s: a figure with a caption for LaTeX needs a name of letters, digits, "
                       "'.', '_' and '-'", path);
    if (look->dpi && (look->dpi < 20 || look->dpi > 2400))
        return bf_fail(err, BF_EARG, "dpi is %d, wanted 20 to 2400", look->dpi);
    if (look->width_mm != 0 && !(look->width_mm >= 20 && look->width_mm <= 5000))
        return bf_fail(err, BF_EARG, "the width is %g mm, wanted 20 to 5000", look->width_mm);
    if (look->palette && !bf_palette_find(look->palette))
        return bf_fail(err, BF_EARG, "there is no palette \"%.60s\"; wanted one of %s",
                       look->palette, bf_palette_names());
    return BF_OK;
}

bf_code bf_canvas_open(bf_canvas **out, const char *path, const bf_look *look, bf_error *err)
{
    const bf_format format = bf_format_of(path);
    bf_canvas *c = NULL;
    if (format == BF_FORMAT_NONE || format == BF_FORMAT_DOT)
        return bf_fail(err, BF_EARG, "%.300s: a figure's path must end in .png, .svg or .pdf",
                       path);
    bf_code rc = check_look(look, path, err);
    if (!rc)
        rc = bf_canvas_new(&c, format, look->dpi ? look->dpi : 300, err);
    if (!rc && look->font && (strchr(look->font, ',') || !has_family(c, look->font)))
        rc = bf_fail(err, BF_EARG, "there is no font \"%.60s\" here (fc-list : family lists them)",
                     look->font);
    if (rc) {
        bf_canvas_free(c);
        return rc;
    }
    if (look->font)
        snprintf(c->font, sizeof c->font, "%.100s,%s", look->font, FONTS);
    *out = c;
    return BF_OK;
}

void bf_canvas_free(bf_canvas *canvas)
{
    if (!canvas)
        return;
    if (canvas->cairo)
        cairo_destroy(canvas->cairo);
    if (canvas->surface)
        cairo_surface_destroy(canvas->surface);
    g_object_unref(canvas->layout);
    g_object_unref(canvas->context);
    g_object_unref(canvas->fonts);
    bf_buf_free(&canvas->svg.image);
    bf_buf_free(&canvas->bytes);
    free(canvas);
}

/* Fonts of pixels or layers of colour could be embedded in a PDF as Type 3 only. */
static bool has_outlines(PangoFont *font)
{
    FcPattern *pattern =
        PANGO_IS_FC_FONT(font) ? pango_fc_font_get_pattern(PANGO_FC_FONT(font)) : NULL;
    FcBool colour = FcFalse, outline = FcTrue;
    if (pattern) {
        FcPatternGetBool(pattern, FC_COLOR, 0, &colour);
        FcPatternGetBool(pattern, FC_OUTLINE, 0, &outline);
    }
    return outline && !colour;
}

/* Mark the bytes at which a character starts that cannot be shown: no font here has it, or only one
 * without outlines. Returns how many. */
static size_t mark_unknown(PangoLayout *layout, char *marks)
{
    PangoLayoutIter *iter = pango_layout_get_iter(layout);
    size_t n = 0;
    do {
        const PangoGlyphItem *run = pango_layout_iter_get_run_readonly(iter);
        for (int g = 0; run && g < run->glyphs->num_glyphs; g++) {
            const PangoGlyph glyph = run->glyphs->glyphs[g].glyph;
            if (glyph == PANGO_GLYPH_EMPTY ||
                (!(glyph & PANGO_GLYPH_UNKNOWN_FLAG) && has_outlines(run->item->analysis.font)))
                continue;
            marks[run->item->offset + run->glyphs->log_clusters[g]] = 1;
            n++;
        }
    } while (pango_layout_iter_next_run(iter));
    pango_layout_iter_free(iter);
    return n;
}

/* Characters that cannot be shown appear as their code points: "⟨4F60⟩" can be read, Pango's box of
 * tiny digits cannot. */
static void spell_unknown(PangoLayout *layout, const char *text)
{
    char *marks = calloc(strlen(text) + 1, 1);
    bf_buf spelt = {0};
    if (!marks || !mark_unknown(layout, marks)) {
        free(marks);
        return;
    }
    for (const char *p = text; *p; p = g_utf8_next_char(p)) {
        if (marks[p - text])
            bf_buf_printf(&spelt, "⟨%04X⟩", (unsigned)g_utf8_get_char(p));
        else
            bf_buf_bytes(&spelt, p, (size_t)(g_utf8_next_char(p) - p));
    }
    if (spelt.data && !spelt.failed)
        pango_layout_set_text(layout, spelt.data, -1);
    bf_buf_free(&spelt);
    free(marks);
}

static void set_layout(bf_canvas *c, const char *text, const bf_type *type)
{
    PangoFontDescription *font = pango_font_description_new();
    pango_font_description_set_family_static(font, c->font);
    pango_font_description_set_absolute_size(font, type->size * PANGO_SCALE);
    pango_font_description_set_weight(font, type->bold ? PANGO_WEIGHT_BOLD : PANGO_WEIGHT_NORMAL);
    pango_layout_set_font_description(c->layout, font);
    pango_font_description_free(font);
    pango_layout_set_width(c->layout, type->wrap > 0 ? (int)(type->wrap * PANGO_SCALE) : -1);
    pango_layout_set_wrap(c->layout, PANGO_WRAP_WORD_CHAR);
    pango_layout_set_single_paragraph_mode(c->layout, true);
    pango_layout_set_auto_dir(c->layout, false); /* tokens are isolated, sentences are English */
    pango_layout_set_text(c->layout, text, -1);
    spell_unknown(c->layout, text);
}

void bf_canvas_measure(bf_canvas *canvas, const char *text, const bf_type *type, double *width,
                       double *height)
{
    int w, h;
    set_layout(canvas, text, type);
    pango_layout_get_size(canvas->layout, &w, &h);
    if (width)
        *width = (double)w / PANGO_SCALE;
    if (height)
        *height = (double)h / PANGO_SCALE;
}

void bf_canvas_spell(bf_canvas *canvas, bf_buf *out, const char *text)
{
    const bf_type type = {.size = 10};
    set_layout(canvas, text, &type);
    bf_buf_text(out, pango_layout_get_text(canvas->layout));
}

static cairo_status_t on_bytes(void *closure, const unsigned char *bytes, unsigned len)
{
    bf_buf *buf = closure;
    bf_buf_bytes(buf, bytes, len);
    return buf->failed ? CAIRO_STATUS_NO_MEMORY : CAIRO_STATUS_SUCCESS;
}

static bf_code start_png(bf_canvas *c, bf_error *err)
{
    const double scale = c->dpi / 72.0;
    const double columns = ceil(c->width * scale), rows = ceil(c->height * scale);
    if (!(columns <= MAX_PIXELS && rows <= MAX_PIXELS))
        return bf_fail(err, BF_EARG,
                       "the picture would have %.0f by %.0f pixels, at most %d are "
                       "possible: a smaller width or dpi helps, or svg or pdf",
                       columns, rows, MAX_PIXELS);
    c->surface = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)columns, (int)rows);
    c->cairo = cairo_create(c->surface);
    cairo_scale(c->cairo, scale, scale);
    return BF_OK;
}

bf_code bf_canvas_start(bf_canvas *canvas, double width, double height, bf_error *err)
{
    bf_code rc = BF_OK;
    canvas->width = width;
    canvas->height = height;
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_start(&canvas->svg, &canvas->bytes, width, height, canvas->font);
        return BF_OK;
    }
    if (canvas->format == BF_FORMAT_PNG) {
        rc = start_png(canvas, err);
    } else {
        canvas->surface =
            cairo_pdf_surface_create_for_stream(on_bytes, &canvas->bytes, width, height);
        cairo_pdf_surface_restrict_to_version(canvas->surface, CAIRO_PDF_VERSION_1_4);
        canvas->cairo = cairo_create(canvas->surface);
    }
    if (rc)
        return rc;
    if (cairo_status(canvas->cairo))
        return bf_fail(err, BF_ENOMEM, "cannot hold a picture of %.0f by %.0f points: %s", width,
                       height, cairo_status_to_string(cairo_status(canvas->cairo)));
    cairo_set_source_rgb(canvas->cairo, 1, 1, 1);
    cairo_paint(canvas->cairo);
    return BF_OK;
}

static void set_colour(bf_canvas *c, uint32_t rgb)
{
    cairo_set_source_rgb(c->cairo, (rgb >> 16 & 0xff) / 255.0, (rgb >> 8 & 0xff) / 255.0,
                         (rgb & 0xff) / 255.0);
}

/* Line by line: an SVG does not break lines. Places are those of the line's left end and baseline,
 * seen from the upper left corner of the layout. */
static void write_svg_text(bf_canvas *c, double x, double y, const bf_type *type)
{
    PangoLayoutIter *iter = pango_layout_get_iter(c->layout);
    const char *text = pango_layout_get_text(c->layout);
    do {
        PangoRectangle logical;
        const PangoLayoutLine *line = pango_layout_iter_get_line_readonly(iter);
        pango_layout_iter_get_line_extents(iter, NULL, &logical);
        const double right = (double)logical.x / PANGO_SCALE,
                     down = (double)pango_layout_iter_get_baseline(iter) / PANGO_SCALE;
        bf_svg_text(&c->svg, text + line->start_index, (size_t)line->length,
                    type->turned ? x + down : x + right, type->turned ? y - right : y + down,
                    (double)logical.width / PANGO_SCALE, type->size, type->rgb, type->bold,
                    type->turned);
    } while (pango_layout_iter_next_line(iter));
    pango_layout_iter_free(iter);
}

void bf_canvas_text(bf_canvas *canvas, const char *text, double x, double y, const bf_type *type)
{
    double width, height;
    bf_canvas_measure(canvas, text, type, &width, &height);
    const double back = type->along * width, up = type->across * height;
    if (canvas->format == BF_FORMAT_SVG) {
        write_svg_text(canvas, type->turned ? x - up : x - back, type->turned ? y + back : y - up,
                       type);
        return;
    }
    cairo_save(canvas->cairo);
    set_colour(canvas, type->rgb);
    cairo_move_to(canvas->cairo, x, y);
    if (type->turned)
        cairo_rotate(canvas->cairo, -G_PI / 2);
    cairo_rel_move_to(canvas->cairo, -back, -up);
    pango_cairo_update_layout(canvas->cairo, canvas->layout);
    pango_cairo_show_layout(canvas->cairo, canvas->layout);
    cairo_new_path(canvas->cairo); /* the current point is no part of what is drawn next */
    cairo_restore(canvas->cairo);
}

void bf_canvas_box(bf_canvas *canvas, double x, double y, double width, double height, uint32_t rgb)
{
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_box(&canvas->svg, x, y, width, height, rgb);
        return;
    }
    set_colour(canvas, rgb);
    cairo_rectangle(canvas->cairo, x, y, width, height);
    cairo_fill(canvas->cairo);
}

static void add_path(bf_canvas *c, const double *points, size_t n, bool closed)
{
    for (size_t k = 0; k < n; k++)
        cairo_line_to(c->cairo, points[2 * k], points[2 * k + 1]);
    if (closed)
        cairo_close_path(c->cairo);
}

void bf_canvas_lines(bf_canvas *canvas, const double *points, size_t n, bool closed, double width,
                     uint32_t rgb)
{
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_lines(&canvas->svg, points, n, closed, width, rgb);
        return;
    }
    set_colour(canvas, rgb);
    cairo_set_line_width(canvas->cairo, width);
    cairo_set_line_join(canvas->cairo, n > 8 ? CAIRO_LINE_JOIN_ROUND : CAIRO_LINE_JOIN_MITER);
    add_path(canvas, points, n, closed);
    cairo_stroke(canvas->cairo);
}

void bf_canvas_dash(bf_canvas *canvas, double on, double off)
{
    const double dash[] = {on, off};
    canvas->svg.dash_on = on;
    canvas->svg.dash_off = off;
    if (canvas->cairo)
        cairo_set_dash(canvas->cairo, dash, on > 0 ? 2 : 0, 0);
}

void bf_canvas_fill(bf_canvas *canvas, const double *points, size_t n, uint32_t rgb, double alpha)
{
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_fill(&canvas->svg, points, n, rgb, alpha);
        return;
    }
    cairo_set_source_rgba(canvas->cairo, (rgb >> 16 & 0xff) / 255.0, (rgb >> 8 & 0xff) / 255.0,
                          (rgb & 0xff) / 255.0, alpha);
    add_path(canvas, points, n, true);
    cairo_fill(canvas->cairo);
}

void bf_canvas_strokes(bf_canvas *canvas, const double *pieces, size_t n, double width,
                       uint32_t rgb)
{
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_strokes(&canvas->svg, pieces, n, width, rgb);
        return;
    }
    set_colour(canvas, rgb);
    cairo_set_line_width(canvas->cairo, width);
    for (size_t k = 0; k < n; k++, pieces += 4) {
        cairo_move_to(canvas->cairo, pieces[0], pieces[1]);
        cairo_line_to(canvas->cairo, pieces[2], pieces[3]);
    }
    cairo_stroke(canvas->cairo);
}

void bf_canvas_gradient(bf_canvas *canvas, double x, double y, double width, double height,
                        const uint32_t *rgb, size_t n)
{
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_gradient(&canvas->svg, x, y, width, height, rgb, n);
        return;
    }
    cairo_pattern_t *pattern = cairo_pattern_create_linear(x, 0, x + width, 0);
    for (size_t k = 0; k < n; k++)
        cairo_pattern_add_color_stop_rgb(pattern, n > 1 ? (double)k / (double)(n - 1) : 0,
                                         (rgb[k] >> 16 & 0xff) / 255.0,
                                         (rgb[k] >> 8 & 0xff) / 255.0, (rgb[k] & 0xff) / 255.0);
    cairo_set_source(canvas->cairo, pattern);
    cairo_rectangle(canvas->cairo, x, y, width, height);
    cairo_fill(canvas->cairo);
    cairo_pattern_destroy(pattern);
}

/* Each value times*times pixels: viewers that smooth pictures although the file forbids it then
 * blur the edges of cells only. */
static cairo_surface_t *magnify(const uint32_t *rgb, size_t rows, size_t columns, size_t times)
{
    cairo_surface_t *image = cairo_image_surface_create(CAIRO_FORMAT_RGB24, (int)(columns * times),
                                                        (int)(rows * times));
    unsigned char *pixels = cairo_image_surface_get_data(image);
    const size_t stride = (size_t)cairo_image_surface_get_stride(image);
    for (size_t y = 0; pixels && y < rows * times; y++) {
        uint32_t *row = (uint32_t *)(void *)(pixels + y * stride);
        for (size_t x = 0; x < columns * times; x++)
            row[x] = rgb[y / times * columns + x / times];
    }
    cairo_surface_mark_dirty(image);
    return image;
}

void bf_canvas_image(bf_canvas *canvas, double x, double y, double width, double height,
                     const uint32_t *rgb, size_t rows, size_t columns)
{
    const size_t longer = rows > columns ? rows : columns;
    const size_t times = canvas->format == BF_FORMAT_PNG || longer > 1024 ? 1 : 2048 / longer;
    cairo_surface_t *image = magnify(rgb, rows, columns, times);
    if (canvas->format == BF_FORMAT_SVG) {
        const bf_code rc = bf_png_encode(
            &canvas->svg.image, cairo_image_surface_get_data(image),
            (size_t)cairo_image_surface_get_stride(image), columns * times, rows * times, 300,
            NULL);
        bf_svg_image(&canvas->svg, x, y, width, height);
        canvas->bytes.failed = canvas->bytes.failed || rc;
        cairo_surface_destroy(image);
        return;
    }
    cairo_save(canvas->cairo);
    cairo_translate(canvas->cairo, x, y);
    cairo_scale(canvas->cairo, width / (double)(columns * times), height / (double)(rows * times));
    cairo_set_source_surface(canvas->cairo, image, 0, 0); /* a failed image fails the canvas, too */
    const bool shrunk = canvas->format == BF_FORMAT_PNG &&
                        (double)longer > fmax(width, height) * canvas->dpi / 72;
    cairo_pattern_set_filter(cairo_get_source(canvas->cairo),
                             shrunk ? CAIRO_FILTER_GOOD : CAIRO_FILTER_NEAREST);
    cairo_paint(canvas->cairo);
    cairo_restore(canvas->cairo);
    cairo_surface_destroy(image);
}

bf_code bf_canvas_save(bf_canvas *canvas, const char *path, const bf_stamp *stamp, bf_error *err)
{
    bf_code rc = BF_OK;
    cairo_status_t status = CAIRO_STATUS_SUCCESS;
    if (canvas->format == BF_FORMAT_SVG) {
        bf_svg_finish(&canvas->svg);
    } else if (canvas->format == BF_FORMAT_PNG) {
        status = cairo_status(canvas->cairo);
        cairo_surface_flush(canvas->surface);
        if (!status)
            rc = bf_png_encode(&canvas->bytes, cairo_image_surface_get_data(canvas->surface),
                               (size_t)cairo_image_surface_get_stride(canvas->surface),
                               (size_t)cairo_image_surface_get_width(canvas->surface),
                               (size_t)cairo_image_surface_get_height(canvas->surface),
                               canvas->dpi, err);
    } else {
        status = cairo_status(canvas->cairo);
        cairo_surface_finish(canvas->surface);
        status = status ? status : cairo_surface_status(canvas->surface);
    }
    if (!rc && (status || canvas->bytes.failed))
        rc = bf_fail(err, BF_ENOMEM, "cannot draw %.300s: %s", path,
                     status ? cairo_status_to_string(status) : "out of memory");
    return rc ? rc : bf_stamp_write(path, &canvas->bytes, canvas->format, stamp, err);
}
