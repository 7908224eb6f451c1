/* report_index.c -- the page over several texts' pages. */
#include <math.h>
#include <string.h>

#include "render/report_html.h"
#include "render/report_page.h"
#include "render/report_template.h"

typedef struct {
    const bf_report_entry *entry;
    size_t n;
    const bf_report_stats *stats; /* [n] */
} contents;

enum { FIRST_TOKENS = 40 };

/* How the text begins, each token tinted by what it received from later losses. */
static void put_start(bf_buf *out, const bf_report_entry *e, const bf_report_stats *s)
{
    const double most = s->received[s->order[0]];
    bf_buf_text(out, "<p class=\"text\">");
    for (size_t k = 0; k < s->N && k < FIRST_TOKENS; k++) {
        const char *raw = k < bf_record_token_count(e->record) ? bf_record_token(e->record, k) : " ";
        bf_buf_printf(out, "%s<span class=\"t a%d\">", *raw == ' ' ? " " : "",
                      bf_html_tint(most > 0.0 ? s->received[k] / most : 0.0));
        bf_html_token(out, e->record, k);
        bf_buf_text(out, "</span>");
    }
    bf_buf_text(out, s->N > FIRST_TOKENS ? " …</p>\n" : "</p>\n");
}

static void put_row(bf_buf *out, const bf_report_entry *e, const bf_report_stats *s)
{
    bf_buf_printf(out, "<tr><th scope=\"row\"><a href=\"%s.html\"><bdi>", e->stem);
    bf_html_text(out, e->name);
    bf_buf_printf(out, "</bdi></a></th><td>%zu</td><td>", s->losses);
    bf_html_number(out, s->mean_loss);
    bf_buf_text(out, "</td><td>");
    bf_html_percent(out, s->all > 0.0 ? s->later / s->all : 0.0);
    bf_buf_text(out, "</td><td>");
    if (s->half)
        bf_buf_printf(out, "%zu", s->half);
    else
        bf_buf_text(out, "–");
    bf_buf_text(out, "</td><td>");
    if (s->cancelled >= 0.0)
        bf_html_percent(out, s->cancelled);
    else
        bf_buf_text(out, "–");
    bf_buf_text(out, "</td><td>");
    if (s->heads && s->head_total > 0.0) {
        bf_buf_printf(out, "%zu.%zu, ", s->layer[s->best / s->heads], s->best % s->heads);
        bf_html_percent(out, s->head[s->best] / s->head_total);
    } else {
        bf_buf_text(out, "–");
    }
    bf_buf_printf(out,
                  "</td><td><a href=\"%s.safetensors\" download>%s.safetensors</a></td></tr>\n",
                  e->stem, e->stem);
}

static void put_table(bf_buf *out, const contents *c)
{
    bf_buf_text(
        out,
        "<section class=\"entry\" aria-labelledby=\"h-table\">\n"
        "<h2 id=\"h-table\">Side by side</h2>\n<div class=\"scroll\"><table>\n"
        "<caption>From later: part of the gradient’s norms at the embeddings that comes from the "
        "losses of later tokens. Half within: the least distance with at least half of that. Left "
        "after adding: the norm of the later losses’ sum over the sum of their norms. Head: the "
        "key/value head at which most arrives, and its part.</caption>\n"
        "<thead><tr><th scope=\"col\">text</th><th scope=\"col\">losses</th>"
        "<th scope=\"col\">mean, nats</th><th scope=\"col\">from later</th>"
        "<th scope=\"col\">half within</th><th scope=\"col\">left after adding</th>"
        "<th scope=\"col\">head</th><th scope=\"col\">record</th></tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < c->n; k++)
        put_row(out, &c->entry[k], &c->stats[k]);
    bf_buf_text(out, "</tbody>\n</table></div>\n</section>\n");
}

static bool put_part(bf_buf *out, const char *name, void *context)
{
    const contents *c = context;
    const char *model = bf_record_meta(c->entry[0].record, "model");
    if (strcmp(name, "COUNT") == 0) {
        bf_buf_printf(out, "%zu", c->n);
    } else if (strcmp(name, "TITLE") == 0) {
        bf_html_text(out, model ? model : "a model");
        bf_buf_printf(out, ", %zu texts", c->n);
    } else if (strcmp(name, "FACTS") == 0) {
        bf_buf_text(out, "model <b><bdi>");
        bf_html_text(out, model ? model : "a model");
        bf_buf_text(out, "</bdi></b>");
    } else if (strcmp(name, "BODY") == 0) {
        put_table(out, c);
        for (size_t k = 0; k < c->n; k++) {
            bf_buf_printf(out, "<section class=\"entry\">\n<h2><a href=\"%s.html\"><bdi>",
                          c->entry[k].stem);
            bf_html_text(out, c->entry[k].name);
            bf_buf_text(out, "</bdi></a></h2>\n");
            put_start(out, &c->entry[k], &c->stats[k]);
            bf_buf_text(out, "</section>\n");
        }
    } else {
        return false;
    }
    return true;
}

bf_code bf_render_report_index(const bf_report_entry *entry, size_t n, const char *folder,
                               bf_error *err)
{
    bf_report_stats stats[BF_REPORT_TEXTS] = {{0}};
    bf_buf out = {0}, path = {0};
    bf_code rc = n && n <= BF_REPORT_TEXTS
                     ? BF_OK
                     : bf_fail(err, BF_EARG, "%zu texts, wanted 1 to %d", n, BF_REPORT_TEXTS);
    for (size_t k = 0; k < n && !rc; k++)
        rc = bf_report_stats_make(&stats[k], entry[k].record, err);
    if (!rc) {
        bf_template_fill(&out, &bf_page_index_html, put_part, &(contents){entry, n, stats});
        bf_buf_printf(&path, "%s/index.html", folder);
        rc = out.failed || path.failed
                 ? bf_fail(err, BF_ENOMEM, "cannot hold the index page")
                 : bf_file_write(path.data, out.data, out.len, err);
    }
    for (size_t k = 0; k < n && k < BF_REPORT_TEXTS; k++)
        bf_report_stats_free(&stats[k]);
    bf_buf_free(&out);
    bf_buf_free(&path);
    return rc;
}
