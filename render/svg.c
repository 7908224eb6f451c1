#include "render/svg.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "render/stamp.h"

/* A number with at most three decimals and without trailing zeros. */
static void put(bf_buf *out, double v)
{
    char text[40];
    int n = snprintf(text, sizeof text, "%.3f", v);
    while (n > 1 && text[n - 1] == '0')
        n--;
    if (n > 1 && text[n - 1] == '.')
        n--;
    if (n == 2 && !memcmp(text, "-0", 2))
        bf_buf_text(out, "0");
    else
        bf_buf_bytes(out, text, (size_t)n);
}

/* name="v" */
static void attribute(bf_buf *out, const char *name, double v)
{
    bf_buf_printf(out, " %s=\"", name);
    put(out, v);
    bf_buf_text(out, "\"");
}

void bf_svg_start(bf_svg *svg, bf_buf *out, double width, double height, const char *font)
{
    svg->out = out;
    bf_buf_text(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                     "<svg xmlns=\"http://www.w3.org/2000/svg\" "
                     "xmlns:xlink=\"http://www.w3.org/1999/xlink\" version=\"1.1\" width=\"");
    put(out, width);
    bf_buf_text(out, "pt\" height=\"");
    put(out, height);
    bf_buf_text(out, "pt\" viewBox=\"0 0 ");
    put(out, width);
    bf_buf_text(out, " ");
    put(out, height);
    bf_buf_text(out, "\" font-family=\"");
    bf_stamp_escape(out, font, strlen(font));
    bf_buf_text(out, "\" xml:space=\"preserve\">\n<path fill=\"#fff\" d=\"M0 0H");
    put(out, width);
    bf_buf_text(out, "V");
    put(out, height);
    bf_buf_text(out, "H0z\"/>\n");
}

void bf_svg_text(bf_svg *svg, const char *text, size_t len, double x, double y, double across,
                 double size, uint32_t rgb, bool bold, bool turned)
{
    bf_buf *out = svg->out;
    if (!len || !(across > 0))
        return;
    bf_buf_text(out, "<text");
    if (turned) {
        bf_buf_text(out, " transform=\"translate(");
        put(out, x);
        bf_buf_text(out, " ");
        put(out, y);
        bf_buf_text(out, ")rotate(-90)\"");
    } else {
        attribute(out, "x", x);
        attribute(out, "y", y);
    }
    attribute(out, "font-size", size);
    if (bold)
        bf_buf_text(out, " font-weight=\"bold\"");
    bf_buf_printf(out, " fill=\"#%06x\"", (unsigned)rgb);
    attribute(out, "textLength", across);
    bf_buf_text(out, " lengthAdjust=\"spacingAndGlyphs\">");
    bf_stamp_escape(out, text, len);
    bf_buf_text(out, "</text>\n");
}

void bf_svg_box(bf_svg *svg, double x, double y, double width, double height, uint32_t rgb)
{
    bf_buf *out = svg->out;
    bf_buf_printf(out, "<path fill=\"#%06x\" d=\"M", (unsigned)rgb);
    put(out, x);
    bf_buf_text(out, " ");
    put(out, y);
    bf_buf_text(out, "h");
    put(out, width);
    bf_buf_text(out, "v");
    put(out, height);
    bf_buf_text(out, "h");
    put(out, -width);
    bf_buf_text(out, "z\"/>\n");
}

static void put_points(bf_buf *out, const double *points, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        bf_buf_text(out, k ? "L" : "M");
        put(out, points[2 * k]);
        bf_buf_text(out, " ");
        put(out, points[2 * k + 1]);
    }
}

static void put_stroke(bf_svg *svg, double width, uint32_t rgb)
{
    bf_buf_printf(svg->out, "<path fill=\"none\" stroke=\"#%06x\"", (unsigned)rgb);
    attribute(svg->out, "stroke-width", width);
    if (svg->dash_on > 0)
        bf_buf_printf(svg->out, " stroke-dasharray=\"%g %g\"", svg->dash_on, svg->dash_off);
    bf_buf_text(svg->out, " d=\"");
}

void bf_svg_lines(bf_svg *svg, const double *points, size_t n, bool closed, double width,
                  uint32_t rgb)
{
    put_stroke(svg, width, rgb);
    put_points(svg->out, points, n);
    bf_buf_printf(svg->out, "%s\"%s/>\n", closed ? "z" : "",
                  n > 8 ? " stroke-linejoin=\"round\"" : "");
}

void bf_svg_fill(bf_svg *svg, const double *points, size_t n, uint32_t rgb, double alpha)
{
    bf_buf_printf(svg->out, "<path fill=\"#%06x\"", (unsigned)rgb);
    if (alpha < 1)
        attribute(svg->out, "fill-opacity", alpha);
    bf_buf_text(svg->out, " d=\"");
    put_points(svg->out, points, n);
    bf_buf_text(svg->out, "z\"/>\n");
}

void bf_svg_strokes(bf_svg *svg, const double *pieces, size_t n, double width, uint32_t rgb)
{
    put_stroke(svg, width, rgb);
    for (size_t k = 0; k < n; k++)
        put_points(svg->out, pieces + 4 * k, 2);
    bf_buf_text(svg->out, "\"/>\n");
}

void bf_svg_gradient(bf_svg *svg, double x, double y, double width, double height,
                     const uint32_t *rgb, size_t n)
{
    bf_buf *out = svg->out;
    const size_t id = ++svg->gradients;
    bf_buf_printf(out, "<linearGradient id=\"scale%zu\">\n", id);
    for (size_t k = 0; k < n; k++)
        bf_buf_printf(out, "<stop offset=\"%.4g\" stop-color=\"#%06x\"/>\n",
                      n > 1 ? (double)k / (double)(n - 1) : 0.0, (unsigned)rgb[k]);
    bf_buf_printf(out, "</linearGradient>\n<rect fill=\"url(#scale%zu)\"", id);
    attribute(out, "x", x);
    attribute(out, "y", y);
    attribute(out, "width", width);
    attribute(out, "height", height);
    bf_buf_text(out, "/>\n");
}

static void put_base64(bf_buf *out, const unsigned char *bytes, size_t len)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t k = 0; k < len; k += 3) {
        const size_t n = len - k < 3 ? len - k : 3;
        const unsigned v = (unsigned)bytes[k] << 16 | (n > 1 ? (unsigned)bytes[k + 1] << 8 : 0u) |
                           (n > 2 ? bytes[k + 2] : 0u);
        const char four[] = {digit[v >> 18], digit[v >> 12 & 63], n > 1 ? digit[v >> 6 & 63] : '=',
                             n > 2 ? digit[v & 63] : '='};
        bf_buf_bytes(out, four, 4);
    }
}

/* The last value that a viewer knows counts: no smoothing between cells. */
void bf_svg_image(bf_svg *svg, double x, double y, double width, double height)
{
    bf_buf *out = svg->out;
    bf_buf_text(out, "<image style=\"image-rendering:optimizeSpeed;image-rendering:crisp-edges;"
                     "image-rendering:pixelated\" preserveAspectRatio=\"none\"");
    attribute(out, "x", x);
    attribute(out, "y", y);
    attribute(out, "width", width);
    attribute(out, "height", height);
    bf_buf_text(out, " xlink:href=\"data:image/png;base64,");
    if (!svg->image.failed && svg->image.data)
        put_base64(out, (const unsigned char *)svg->image.data, svg->image.len);
    out->failed = out->failed || svg->image.failed;
    bf_buf_text(out, "\"/>\n");
    bf_buf_free(&svg->image);
}

void bf_svg_finish(bf_svg *svg)
{
    bf_buf_text(svg->out, "</svg>\n");
}
