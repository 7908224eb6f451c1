/* page_assets.h -- the page's parts, made of render/page/ at build time (tools/embed.c). */
#ifndef BF_RENDER_PAGE_ASSETS_H
#define BF_RENDER_PAGE_ASSETS_H

#include <stddef.h>

typedef struct {
    const char *text; /* [len], and a NUL */
    size_t len;
    const char *sha256; /* of text, in base64, for the page's Content-Security-Policy */
} bf_page_asset;

extern const bf_page_asset bf_page_html;       /* the template; {{NAMES}} stand for what changes */
extern const bf_page_asset bf_page_index_html; /* the same, of an index over several texts */
extern const bf_page_asset bf_page_css;
extern const bf_page_asset bf_page_js;       /* the bundle of main.js */
extern const bf_page_asset bf_page_early_js; /* runs before the page is drawn */

#endif
