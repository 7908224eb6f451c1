/* png.c -- 8-bit RGB by libpng's row interface; its errors come back by longjmp. */
#include "render/png.h"

#include <png.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    bf_error *err;
    bf_code code;
} complaint;

static void on_error(png_structp png, png_const_charp message)
{
    complaint *c = png_get_error_ptr(png);
    c->code = bf_fail(c->err, BF_EFORMAT, "cannot encode the PNG: %s", message);
    longjmp(png_jmpbuf(png), 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    (void)message; /* of no consequence for the file, and the library never prints */
}

static void on_bytes(png_structp png, png_bytep bytes, png_size_t len)
{
    bf_buf_bytes(png_get_io_ptr(png), bytes, len);
}

static void on_flush(png_structp png)
{
    (void)png;
}

static void set_header(png_structp png, png_infop info, size_t width, size_t height, int dpi)
{
    png_set_IHDR(png, info, (png_uint_32)width, (png_uint_32)height, 8, PNG_COLOR_TYPE_RGB,
                 PNG_INTERLACE_NONE, PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    const png_uint_32 per_metre = (png_uint_32)((double)dpi / 0.0254 + 0.5);
    png_set_pHYs(png, info, per_metre, per_metre, PNG_RESOLUTION_METER);
    png_set_sRGB(png, info, PNG_sRGB_INTENT_PERCEPTUAL);
}

/* Kept apart from what allocates: locals that change between setjmp and longjmp are lost. */
static bf_code write_rows(png_structp png, png_infop info, png_bytep row,
                          const unsigned char *pixels, size_t stride, size_t width, size_t height)
{
    png_write_info(png, info);
    for (size_t y = 0; y < height; y++) {
        for (size_t x = 0; x < width; x++) {
            uint32_t rgb;
            memcpy(&rgb, pixels + y * stride + 4 * x, sizeof rgb);
            row[3 * x] = (png_byte)(rgb >> 16 & 0xff);
            row[3 * x + 1] = (png_byte)(rgb >> 8 & 0xff);
            row[3 * x + 2] = (png_byte)(rgb & 0xff);
        }
        png_write_row(png, row);
    }
    png_write_end(png, info);
    return BF_OK;
}

bf_code bf_png_encode(bf_buf *out, const unsigned char *pixels, size_t stride, size_t width,
                      size_t height, int dpi, bf_error *err)
{
    complaint trouble = {err, BF_OK};
    if (!width || !height || width > 1u << 20 || height > 1u << 20)
        return bf_fail(err, BF_EARG, "cannot encode a PNG of %zu by %zu pixels", width, height);
    png_structp png =
        png_create_write_struct(PNG_LIBPNG_VER_STRING, &trouble, on_error, on_warning);
    png_infop info = png ? png_create_info_struct(png) : NULL;
    png_bytep row = malloc(3 * width);
    if (!info || !row) {
        trouble.code = bf_fail(err, BF_ENOMEM, "cannot hold a row of %zu pixels", width);
    } else if (!setjmp(png_jmpbuf(png))) {
        png_set_write_fn(png, out, on_bytes, on_flush);
        set_header(png, info, width, height, dpi);
        trouble.code = write_rows(png, info, row, pixels, stride, width, height);
    }
    free(row);
    png_destroy_write_struct(&png, &info);
    if (!trouble.code && out->failed)
        trouble.code =
            bf_fail(err, BF_ENOMEM, "cannot hold the PNG of %zu by %zu pixels", width, height);
    return trouble.code;
}
