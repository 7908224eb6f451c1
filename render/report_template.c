#include "render/report_template.h"

#include <assert.h>
#include <string.h>

static bool put_asset(bf_buf *out, const char *name)
{
    static const struct {
        const char *text, *hash;
        const bf_page_asset *asset;
    } assets[] = {{"CSS", "CSS_HASH", &bf_page_css},
                  {"JS", "JS_HASH", &bf_page_js},
                  {"EARLY", "EARLY_HASH", &bf_page_early_js}};
    for (size_t k = 0; k < sizeof assets / sizeof *assets; k++) {
        if (strcmp(name, assets[k].text) == 0)
            bf_buf_bytes(out, assets[k].asset->text, assets[k].asset->len);
        else if (strcmp(name, assets[k].hash) == 0)
            bf_buf_text(out, assets[k].asset->sha256);
        else
            continue;
        return true;
    }
    return false;
}

void bf_template_fill(bf_buf *out, const bf_page_asset *page, bf_template_put *put, void *context)
{
    const char *at = page->text;
    for (const char *open; (open = strstr(at, "{{"));) {
        const char *close = strstr(open, "}}");
        char name[32] = "";
        const size_t n = close ? (size_t)(close - open) - 2 : sizeof name;
        if (n >= sizeof name)
            break;
        memcpy(name, open + 2, n);
        bf_buf_bytes(out, at, (size_t)(open - at));
        const bool known = put_asset(out, name) || put(out, name, context);
        assert(known);
        (void)known;
        at = close + 2;
    }
    bf_buf_text(out, at);
}
