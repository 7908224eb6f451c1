#include "render/report_pack.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

static bf_code no_memory(size_t n, bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold %zu bytes of the page's data", n);
}

void bf_pack_base64(bf_buf *out, const void *bytes, size_t n)
{
    const unsigned char *b = bytes;
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char text[4096];
    size_t at = 0;
    for (size_t k = 0; k < n; k += 3) {
        const unsigned v = (unsigned)b[k] << 16 | (k + 1 < n ? (unsigned)b[k + 1] << 8 : 0u) |
                           (k + 2 < n ? (unsigned)b[k + 2] : 0u);
        text[at++] = set[v >> 18];
        text[at++] = set[v >> 12 & 63];
        text[at++] = k + 1 < n ? set[v >> 6 & 63] : '=';
        text[at++] = k + 2 < n ? set[v & 63] : '=';
        if (at == sizeof text) {
            bf_buf_bytes(out, text, at);
            at = 0;
        }
    }
    bf_buf_bytes(out, text, at);
}

static bf_code pack_bytes(bf_buf *out, const void *bytes, size_t len, bf_error *err)
{
    if (len > UINT32_MAX)
        return no_memory(len, err);
    uLongf packed = compressBound((uLong)len);
    unsigned char *to = malloc(packed);
    if (!to)
        return no_memory(packed, err);
    const bool done = compress2(to, &packed, bytes, (uLong)len, 6) == Z_OK;
    if (done)
        bf_pack_base64(out, to, packed);
    free(to);
    return done && !out->failed ? BF_OK : no_memory(len, err);
}

bf_code bf_pack_floats(bf_buf *out, const double *value, size_t n, bf_error *err)
{
    unsigned char *plane = n <= SIZE_MAX / 4 ? malloc(4 * n + 1) : NULL;
    if (!plane)
        return no_memory(n, err);
    for (size_t k = 0; k < n; k++) {
        const float f = (float)value[k];
        uint32_t bits;
        memcpy(&bits, &f, sizeof bits);
        bits = (bits + 0x40u) & ~0x7fu; /* a carry goes into the exponent, as it should */
        for (size_t b = 0; b < 4; b++)
            plane[b * n + k] = (unsigned char)(bits >> 8 * b);
    }
    const bf_code rc = pack_bytes(out, plane, 4 * n, err);
    free(plane);
    return rc;
}

bf_code bf_pack_words(bf_buf *out, const unsigned short *word, size_t n, bf_error *err)
{
    unsigned char *plane = n <= SIZE_MAX / 2 ? malloc(2 * n + 1) : NULL;
    if (!plane)
        return no_memory(n, err);
    for (size_t k = 0; k < n; k++) {
        plane[k] = (unsigned char)(word[k] & 0xff);
        plane[n + k] = (unsigned char)(word[k] >> 8);
    }
    const bf_code rc = pack_bytes(out, plane, 2 * n, err);
    free(plane);
    return rc;
}

static double largest(const bf_matrix *m)
{
    double top = 0.0;
    for (size_t k = 0; k < m->rows * m->cols; k++)
        top = fmax(top, fabs(m->value[k]));
    return top;
}

static unsigned short code_of(double v, double low)
{
    const double a = fabs(v);
    if (a == 0.0)
        return 0;
    if (a < low)
        return 1;
    const long steps = lround(log(a / low) / log(BF_PACK_STEP));
    return (unsigned short)((steps + 2) | (v < 0.0 ? 0x8000 : 0));
}

bf_code bf_pack_matrix(bf_buf *out, double *top, const bf_matrix *m, bool full, bf_error *err)
{
    size_t n = 0, at = 0;
    for (size_t r = 0; r < m->rows; r++)
        n += full ? m->cols : m->i[r] + 1;
    unsigned short *code = malloc((n ? n : 1) * sizeof *code);
    if (!code)
        return no_memory(n, err);
    *top = largest(m);
    const double low = *top * pow(10.0, -BF_PACK_DECADES);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j < (full ? m->cols : m->i[r] + 1); j++)
            code[at++] = code_of(m->value[r * m->cols + j], low);
    const bf_code rc = bf_pack_words(out, code, n, err);
    free(code);
    return rc;
}
