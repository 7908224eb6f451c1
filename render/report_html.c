#include "render/report_html.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/utf8.h"
#include "render/text.h"

static bool is_direction_mark(const char *c, size_t n)
{
    static const char *const marks[] = {"\xE2\x80\x8E", "\xE2\x80\x8F", "\xE2\x80\xAA",
                                        "\xE2\x80\xAB", "\xE2\x80\xAC", "\xE2\x80\xAD",
                                        "\xE2\x80\xAE", "\xE2\x81\xA6", "\xE2\x81\xA7",
                                        "\xE2\x81\xA8", "\xE2\x81\xA9", "\xD8\x9C"};
    for (size_t k = 0; k < sizeof marks / sizeof *marks; k++)
        if (strlen(marks[k]) == n && memcmp(marks[k], c, n) == 0)
            return true;
    return false;
}

static const char *entity(char c)
{
    switch (c) {
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '&': return "&amp;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

/* One character, made visible; bytes of it that were taken. */
static size_t put_visible(bf_buf *out, const char *text, size_t len)
{
    const size_t n = bf_utf8_length(text, len);
    const unsigned char c = (unsigned char)*text;
    if (!n) {
        bf_buf_text(out, "\xEF\xBF\xBD");
        return 1;
    }
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) {
        const unsigned picture = c == 0x7f ? 0x21u : c; /* U+2400 on: control pictures */
        bf_buf_bytes(out, (const char[]){'\xE2', '\x90', (char)(0x80 + picture)}, 3);
    } else if ((n == 2 && c == 0xC2 && (unsigned char)text[1] < 0xA0) ||
               is_direction_mark(text, n)) {
        bf_text_token(out, (const char[]){text[0], text[1], n > 2 ? text[2] : '\0', '\0'}, 0);
    } else {
        bf_buf_bytes(out, text, n);
    }
    return n;
}

void bf_html_visible(bf_buf *out, const char *text)
{
    for (size_t len = strlen(text), n; len; text += n, len -= n)
        n = put_visible(out, text, len);
}

void bf_html_text(bf_buf *out, const char *text)
{
    for (size_t len = strlen(text), n; len; text += n, len -= n) {
        n = 1;
        if (entity(*text))
            bf_buf_text(out, entity(*text));
        else
            n = put_visible(out, text, len);
    }
}

static void put_token(bf_buf *out, const char *open, const char *close, const bf_record *record,
                      size_t k)
{
    bf_buf label = {0};
    bf_text_label(&label, record, k, 0);
    bf_buf_text(out, open);
    bf_html_text(out, label.data ? label.data : "");
    bf_buf_text(out, close);
    out->failed = out->failed || label.failed;
    bf_buf_free(&label);
}

void bf_html_token(bf_buf *out, const bf_record *record, size_t k)
{
    put_token(out, "<bdi>", "</bdi>", record, k);
}

void bf_html_token_attribute(bf_buf *out, const bf_record *record, size_t k)
{
    put_token(out, "\xE2\x81\xA8", "\xE2\x81\xA9", record, k);
}

int bf_html_tint(double x)
{
    return (int)lround(20.0 * fmin(fmax(x, 0.0), 1.0));
}

void bf_html_number(bf_buf *out, double value)
{
    bf_text_number(out, value);
}

void bf_html_percent(bf_buf *out, double part)
{
    const double p = 100.0 * part;
    if (p > 0.0 && p < 0.05)
        bf_buf_text(out, "under 0.1");
    else if (p > 99.95 && p < 100.0)
        bf_buf_text(out, "over 99.9");
    else
        bf_buf_printf(out, "%.*f", (p > 0.0 && p < 9.95) || (p > 99.0 && p < 100.0) ? 1 : 0, p);
    bf_buf_text(out, "&nbsp;%");
}
