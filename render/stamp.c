#include "render/stamp.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "backflow/render.h"
#include "base/utf8.h"

enum { MOST_FILE = 1 << 29, MOST_PROVENANCE = 1 << 20 };
static const char KEY[] = "backflow", PNG_START[] = "\x89PNG\r\n\x1a\n";
static const char OPEN[] = "<metadata id=\"backflow\">", CLOSE[] = "</metadata>";

bf_format bf_format_of(const char *path)
{
    static const struct {
        const char *ending;
        bf_format format;
    } known[] = {{".png", BF_FORMAT_PNG}, {".svg", BF_FORMAT_SVG}, {".pdf", BF_FORMAT_PDF},
                 {".dot", BF_FORMAT_DOT}};
    const char *dot = strrchr(path, '.');
    for (size_t k = 0; dot && k < sizeof known / sizeof *known; k++)
        if (!strcasecmp(dot, known[k].ending))
            return known[k].format;
    return BF_FORMAT_NONE;
}

/* The first place of needle in bytes that may hold NULs, from `from` on; NULL: nowhere. */
static const char *find(const bf_buf *bytes, size_t from, const char *needle)
{
    const size_t n = strlen(needle);
    for (size_t k = from; k + n <= bytes->len; k++) {
        const char *at = memchr(bytes->data + k, needle[0], bytes->len - n + 1 - k);
        if (!at)
            return NULL;
        if (!memcmp(at, needle, n))
            return at;
        k = (size_t)(at - bytes->data);
    }
    return NULL;
}

static const char *find_last(const bf_buf *bytes, const char *needle)
{
    const size_t n = strlen(needle);
    for (size_t k = bytes->len; k >= n; k--)
        if (!memcmp(bytes->data + k - n, needle, n))
            return bytes->data + k - n;
    return NULL;
}

/* bytes becomes bytes[0..at) + middle + bytes[at..]. Frees middle. */
static void insert(bf_buf *bytes, size_t at, bf_buf *middle)
{
    bf_buf all = {0};
    bf_buf_bytes(&all, bytes->data, at);
    bf_buf_bytes(&all, middle->data, middle->len);
    bf_buf_bytes(&all, bytes->data + at, bytes->len - at);
    all.failed = all.failed || middle->failed || bytes->failed;
    bf_buf_free(middle);
    bf_buf_free(bytes);
    *bytes = all;
}

/* ---- PNG */

/* The CRC of PNG's chunks (W3C PNG, annex D), bit by bit: they are short. */
static uint32_t crc_of(const char *bytes, size_t len)
{
    uint32_t crc = 0xffffffffu;
    for (size_t k = 0; k < len; k++) {
        crc ^= (unsigned char)bytes[k];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static uint32_t read_u32(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;
    return (uint32_t)u[0] << 24 | (uint32_t)u[1] << 16 | (uint32_t)u[2] << 8 | u[3];
}

static void put_u32(bf_buf *out, uint32_t v)
{
    const char bytes[] = {(char)(v >> 24), (char)(v >> 16), (char)(v >> 8), (char)v};
    bf_buf_bytes(out, bytes, 4);
}

/* iTXt: keyword, NUL, not compressed, no language, no translated keyword, text. */
static void put_chunk(bf_buf *out, const char *key, const char *text)
{
    bf_buf chunk = {0};
    if (!text)
        return;
    bf_buf_text(&chunk, "iTXt");
    bf_buf_bytes(&chunk, key, strlen(key) + 1);
    bf_buf_bytes(&chunk, "\0\0\0\0", 4);
    bf_buf_text(&chunk, text);
    if (chunk.failed) {
        out->failed = true;
    } else {
        put_u32(out, (uint32_t)(chunk.len - 4));
        bf_buf_bytes(out, chunk.data, chunk.len);
        put_u32(out, crc_of(chunk.data, chunk.len));
    }
    bf_buf_free(&chunk);
}

enum { AFTER_IHDR = 8 + 25 };

static bool stamp_png(bf_buf *bytes, const bf_stamp *stamp)
{
    bf_buf chunks = {0};
    if (bytes->len < AFTER_IHDR || memcmp(bytes->data, PNG_START, 8) ||
        memcmp(bytes->data + 12, "IHDR", 4))
        return false;
    put_chunk(&chunks, "Title", stamp->title);
    put_chunk(&chunks, "Description", stamp->about);
    put_chunk(&chunks, "Software", KEY);
    put_chunk(&chunks, KEY, stamp->provenance);
    insert(bytes, AFTER_IHDR, &chunks);
    return true;
}

static bool read_png(bf_buf *out, const bf_buf *bytes)
{
    static const char head[] = "iTXtbackflow\0\0\0\0";
    const size_t skip = sizeof head; /* with the last of five NULs */
    for (size_t at = 8; bytes->len - at >= 12;) {
        const char *chunk = bytes->data + at;
        const size_t len = read_u32(chunk);
        if (len > bytes->len - at - 12)
            return false;
        if (len + 4 >= skip && len <= MOST_PROVENANCE && !memcmp(chunk + 4, head, skip) &&
            crc_of(chunk + 4, len + 4) == read_u32(chunk + 8 + len)) {
            bf_buf_bytes(out, chunk + 4 + skip, len + 4 - skip);
            return true;
        }
        at += len + 12;
    }
    return false;
}

/* ---- SVG */

void bf_stamp_escape(bf_buf *out, const char *text, size_t len)
{
    for (size_t k = 0, n; k < len; k += n) {
        const unsigned char c = (unsigned char)text[k];
        n = bf_utf8_length(text + k, len - k);
        const bool forbidden = !n || (c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ||
                               (n == 3 && !memcmp(text + k, "\xEF\xBF", 2) &&
                                (unsigned char)text[k + 2] >= 0xBE);
        n = n ? n : 1;
        if (forbidden)
            bf_buf_text(out, "\xEF\xBF\xBD");
        else if (strchr("&<>\"", c))
            bf_buf_text(out, c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : "&quot;");
        else
            bf_buf_bytes(out, text + k, n);
    }
}

static void put_element(bf_buf *out, const char *open, const char *text, const char *close)
{
    if (!text)
        return;
    bf_buf_printf(out, "\n%s", open);
    bf_stamp_escape(out, text, strlen(text));
    bf_buf_text(out, close);
}

static bool stamp_svg(bf_buf *bytes, const bf_stamp *stamp)
{
    const char *tag = find(bytes, 0, "<svg");
    const char *end = tag ? memchr(tag, '>', bytes->len - (size_t)(tag - bytes->data)) : NULL;
    bf_buf head = {0};
    if (!end)
        return false;
    put_element(&head, "<title>", stamp->title, "</title>");
    put_element(&head, "<desc>", stamp->about, "</desc>");
    put_element(&head, OPEN, stamp->provenance, CLOSE);
    insert(bytes, (size_t)(end + 1 - bytes->data), &head);
    return true;
}

static bool read_svg(bf_buf *out, const bf_buf *bytes)
{
    static const char *const entity[][2] = {
        {"&amp;", "&"}, {"&lt;", "<"}, {"&gt;", ">"}, {"&quot;", "\""}};
    const char *at = find(bytes, 0, OPEN);
    const char *end = at ? find(bytes, (size_t)(at - bytes->data), CLOSE) : NULL;
    if (!end || end - at > MOST_PROVENANCE)
        return false;
    for (at += sizeof OPEN - 1; at < end; at++) {
        size_t k = 0;
        while (k < 4 && strncmp(at, entity[k][0], strlen(entity[k][0])))
            k++;
        bf_buf_bytes(out, k < 4 ? entity[k][1] : at, 1);
        at += k < 4 ? strlen(entity[k][0]) - 1 : 0;
    }
    return true;
}

/* ---- PDF */

/* A text string of PDF's: in parentheses where all is ASCII, else UTF-16 in hexadecimal. */
static void put_pdf_text(bf_buf *out, const char *key, const char *text)
{
    const size_t len = text ? strlen(text) : 0;
    bool ascii = true;
    if (!text)
        return;
    for (size_t k = 0; k < len; k++)
        ascii = ascii && (unsigned char)text[k] < 0x80;
    bf_buf_printf(out, "   /%s %s", key, ascii ? "(" : "<FEFF");
    for (size_t k = 0, n; k < len; k += n) {
        n = bf_utf8_length(text + k, len - k);
        if (ascii) {
            bf_buf_printf(out, "%s%c", strchr("()\\", text[k]) ? "\\" : "", text[k]);
            n = 1;
            continue;
        }
        static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
        unsigned c = n ? (unsigned char)text[k] & first[n] : 0xfffd;
        for (size_t b = 1; b < n; b++)
            c = c << 6 | ((unsigned char)text[k + b] & 0x3fu);
        if (c >= 0x10000)
            bf_buf_printf(out, "%04X%04X", 0xd800 + ((c - 0x10000) >> 10),
                          0xdc00 + ((c - 0x10000) & 0x3ff));
        else
            bf_buf_printf(out, "%04X", c);
        n = n ? n : 1;
    }
    bf_buf_text(out, ascii ? ")\n" : ">\n");
}

/* Overwrite "(D:2024...)" with spaces: nothing moves. */
static void blank_dates(bf_buf *bytes)
{
    static const char *const keys[] = {"/CreationDate (D:", "/ModDate (D:"};
    for (size_t k = 0; k < 2; k++) {
        const char *at = find_last(bytes, keys[k]);
        const size_t from = at ? (size_t)(at - bytes->data) : bytes->len;
        const char *end = at ? memchr(at, ')', bytes->len - from) : NULL;
        if (end && end - at < 60)
            memset(bytes->data + from, ' ', (size_t)(end + 1 - at));
    }
}

/* The whole number after the last `key`. */
static bool last_number(size_t *out, const bf_buf *bytes, const char *key)
{
    const char *at = find_last(bytes, key);
    char *end;
    if (!at)
        return false;
    at += strlen(key);
    *out = (size_t)strtoull(at, &end, 10); /* the buffer ends with NUL */
    return end > at;
}

static bool stamp_pdf(bf_buf *bytes, const bf_stamp *stamp)
{
    size_t size, root, before;
    if (bytes->len < 8 || memcmp(bytes->data, "%PDF-", 5))
        return false;
    if (!last_number(&size, bytes, "/Size ") || !last_number(&root, bytes, "/Root ") ||
        !last_number(&before, bytes, "startxref"))
        return false;
    blank_dates(bytes);
    const size_t info = bytes->len;
    bf_buf_printf(bytes, "%zu 0 obj\n<<\n", size);
    put_pdf_text(bytes, "Title", stamp->title);
    put_pdf_text(bytes, "Subject", stamp->about);
    put_pdf_text(bytes, "Creator", KEY);
    put_pdf_text(bytes, "Keywords", stamp->provenance);
    bf_buf_text(bytes, ">>\nendobj\n");
    const size_t table = bytes->len;
    bf_buf_printf(bytes,
                  "xref\n%zu 1\n%010zu 00000 n \ntrailer\n<< /Size %zu\n   /Root %zu 0 R\n"
                  "   /Info %zu 0 R\n   /Prev %zu\n>>\nstartxref\n%zu\n%%%%EOF\n",
                  size, info, size + 1, root, size, before, table);
    return true;
}

static bool read_pdf(bf_buf *out, const bf_buf *bytes)
{
    const char *at = find_last(bytes, "/Keywords ("), *end = bytes->data + bytes->len;
    if (!at)
        return false;
    for (at += sizeof "/Keywords (" - 1; at < end && *at != ')'; at++) {
        if (*at == '\\')
            at++;
        if (at < end && out->len < MOST_PROVENANCE)
            bf_buf_bytes(out, at, 1);
    }
    return at < end;
}

/* ---- all */

bf_code bf_stamp_write(const char *path, bf_buf *bytes, bf_format format, const bf_stamp *stamp,
                       bf_error *err)
{
    bool known = true;
    if (bytes->failed || !bytes->data)
        return bf_fail(err, BF_ENOMEM, "cannot hold %.300s", path);
    if (format == BF_FORMAT_PNG)
        known = stamp_png(bytes, stamp);
    else if (format == BF_FORMAT_SVG)
        known = stamp_svg(bytes, stamp);
    else if (format == BF_FORMAT_PDF)
        known = stamp_pdf(bytes, stamp);
    if (bytes->failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold %.300s", path);
    if (!known)
        return bf_fail(err, BF_EFORMAT, "%.300s: what was drawn is no such file", path);
    return bf_file_write(path, bytes->data, bytes->len, err);
}

bf_code bf_figure_provenance(char **out, const char *path, bf_error *err)
{
    bf_buf bytes = {0}, json = {0};
    bool found = false;
    bf_code rc = bf_file_read(&bytes, path, MOST_FILE, err);
    if (rc)
        return rc;
    if (bytes.len >= 8 && !memcmp(bytes.data, PNG_START, 8))
        found = read_png(&json, &bytes);
    else if (bytes.len >= 8 && !memcmp(bytes.data, "%PDF-", 5))
        found = read_pdf(&json, &bytes);
    else if (bytes.len)
        found = read_svg(&json, &bytes);
    bf_buf_bytes(&json, "", 0);
    if (json.failed)
        rc = bf_fail(err, BF_ENOMEM, "%.300s: cannot hold the provenance", path);
    else if (!found || strlen(json.data) != json.len)
        rc = bf_fail(err, BF_EFORMAT,
                     "%.300s: no provenance in it, wanted a PNG, SVG or PDF of backflow's", path);
    else
        *out = strdup(json.data);
    if (!rc && !*out)
        rc = bf_fail(err, BF_ENOMEM, "%.300s: cannot hold the provenance", path);
    bf_buf_free(&bytes);
    bf_buf_free(&json);
    return rc;
}
