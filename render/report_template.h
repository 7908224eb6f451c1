/* report_template.h -- a page's template: text with {{NAMES}} that something is put for. */
#ifndef BF_RENDER_REPORT_TEMPLATE_H
#define BF_RENDER_REPORT_TEMPLATE_H

#include <stdbool.h>

#include "base/buf.h"
#include "render/page_assets.h"

/* Put something for a name; false: there is no such name. */
typedef bool bf_template_put(bf_buf *out, const char *name, void *context);

/* Append the template, with style, script and their hashes put for CSS, CSS_HASH, JS, JS_HASH,
 * EARLY and EARLY_HASH, and `put` asked for every other name. Out of memory shows in out->failed;
 * a name that nobody knows is our own bug. */
void bf_template_fill(bf_buf *out, const bf_page_asset *page, bf_template_put *put, void *context);

#endif
