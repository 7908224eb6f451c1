/* report_panels.c -- distance, heads, trust, card. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "render/report_chart.h"
#include "render/report_data.h"
#include "render/report_html.h"
#include "render/report_page.h"

/* ---- distance */

static void lag_row(bf_buf *out, const bf_report_stats *s, size_t from, size_t to, double *sum)
{
    double flow = 0.0;
    size_t pairs = 0;
    for (size_t d = from; d <= to; d++) {
        flow += s->lag[d];
        pairs += s->pairs[d];
    }
    bf_buf_printf(out, "<tr><th scope=\"row\">%zu", from);
    if (to > from)
        bf_buf_printf(out, " to %zu", to);
    bf_buf_printf(out, "%s</th><td>%zu</td><td>", from ? "" : " (own)", pairs);
    if (pairs)
        bf_html_number(out, flow / (double)pairs);
    bf_buf_text(out, "</td><td>");
    if (from && s->later > 0.0) {
        *sum += flow;
        bf_html_percent(out, flow / s->later);
        bf_buf_text(out, "</td><td>");
        bf_html_percent(out, to + 1 == s->N ? 1.0 : *sum / s->later);
    } else {
        bf_buf_text(out, "–</td><td>–");
    }
    bf_buf_text(out, "</td></tr>\n");
}

static void lag_table(bf_buf *out, const bf_report_stats *s)
{
    double sum = 0.0;
    bf_buf_text(
        out,
        "<div class=\"scroll\"><table>\n"
        "<caption>Flow by distance. Mean |g| over pairs, nats per "
        "unit of the embedding.</caption>\n"
        "<thead><tr><th scope=\"col\">i − j</th><th "
        "scope=\"col\">pairs</th><th scope=\"col\">mean |g|</th><th scope=\"col\">part of later "
        "losses’</th><th scope=\"col\">within</th></tr></thead>\n"
        "<tbody>\n");
    for (size_t from = 0, to; from < s->N; from = to + 1) {
        to = from <= 4 ? from : 2 * (from - 1); /* 0 .. 4, 5 to 8, 9 to 16, ... */
        to = to < s->N ? to : s->N - 1;
        lag_row(out, s, from, to, &sum);
    }
    bf_buf_text(out, "</tbody>\n</table></div>\n");
}

void bf_report_lags(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    bf_buf_text(out,
                "<section id=\"s-lags\" aria-labelledby=\"sh-lags\">\n"
                "<h2 id=\"sh-lags\">Flow against "
                "distance</h2>\n"
                "<div class=\"pair\">\n");
    bf_report_lag_chart(out, s);
    lag_table(out, s);
    bf_buf_text(out, "</div>\n</section>\n");
}

/* ---- heads */

static void head_row(bf_buf *out, const bf_report_stats *s, size_t k)
{
    double sum = 0.0;
    bf_buf_printf(out, "<tr><th scope=\"row\">%zu</th>", s->layer[k]);
    for (size_t h = 0; h < s->heads; h++) {
        const double value = s->head[k * s->heads + h];
        const double a = value / s->head[s->best];
        sum += value;
        bf_buf_printf(out, "<td class=\"t a%d\">", bf_html_tint(a));
        bf_html_percent(out, value / s->head_total);
        bf_buf_text(out, "</td>");
    }
    bf_buf_text(out, "<td>");
    bf_html_percent(out, sum / s->head_total);
    bf_buf_text(out, "</td></tr>\n");
}

static void head_table(bf_buf *out, const bf_report_stats *s)
{
    bf_buf_text(
        out,
        "<div class=\"scroll\"><table class=\"grid\">\n"
        "<caption>Part of the flow to earlier "
        "positions’ values (site v, i&nbsp;&gt;&nbsp;j) that arrives at each head: norms, summed "
        "over pairs, of the gradient at v<sub>j</sub>.");
    if (s->query_heads > s->heads)
        bf_buf_printf(out, " %zu query heads share %zu key/value heads.", s->query_heads, s->heads);
    bf_buf_text(out, "</caption>\n<thead><tr><th scope=\"col\">layer</th>");
    for (size_t h = 0; h < s->heads; h++)
        bf_buf_printf(out, "<th scope=\"col\">head %zu</th>", h);
    bf_buf_text(out, "<th scope=\"col\">all</th></tr></thead>\n<tbody>\n");
    for (size_t k = s->layers; k-- > 0;)
        head_row(out, s, k);
    bf_buf_text(out, "</tbody>\n</table></div>\n");
}

void bf_report_heads(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    if (!s->heads || s->head_total <= 0.0)
        return;
    bf_buf_text(out,
                "<section id=\"s-heads\" aria-labelledby=\"sh-heads\">\n"
                "<h2 id=\"sh-heads\">Layers and "
                "heads</h2>\n"
                "<div class=\"pair\">\n");
    head_table(out, s);
    bf_buf_text(out, "</div>\n</section>\n");
}

/* ---- trust */

const char *bf_report_identity(const char *name)
{
    static const char *const words[][2] = {
        {"rows_sum", "The rows of all losses add up to the ordinary backward pass of their sum."},
        {"zeros", "No loss sends anything to a later position: those entries are exactly 0."},
        {"softmax_rows", "Each softmax row’s score gradients add up to 0."},
        {"key_bias", "Each loss’s key gradients add up to 0 where keys are not rotated."},
        {"central_difference", "The flow predicts how each loss changes along random directions "
                               "(central differences of the forward pass in double precision)."},
    };
    for (size_t k = 0; k < sizeof words / sizeof *words; k++)
        if (strcmp(words[k][0], name) == 0)
            return words[k][1];
    return "";
}

static void identity_row(bf_buf *out, const char *name, const char *value)
{
    char *end;
    const double residual = strtod(value, &end);
    const char *open = strstr(end, "(tolerance ");
    const double tolerance = open ? strtod(open + strlen("(tolerance "), NULL) : -1.0;
    bf_buf_text(out, "<tr><th scope=\"row\"><code>");
    bf_html_text(out, name);
    bf_buf_printf(out, "</code></th><td class=\"words\">%s</td><td>", bf_report_identity(name));
    bf_html_number(out, residual);
    bf_buf_text(out, "</td><td>");
    bf_html_number(out, tolerance);
    bf_buf_printf(out, "</td><td>%s</td></tr>\n",
                  residual <= tolerance ? "holds" : "<strong>fails</strong>");
}

static bool identity_table(bf_buf *out, const bf_record *record)
{
    bool any = false;
    for (size_t k = 0; k < bf_record_meta_count(record); k++) {
        const char *key = bf_record_meta_key(record, k);
        if (strncmp(key, "check.", 6) != 0)
            continue;
        if (!any)
            bf_buf_text(
                out,
                "<div class=\"scroll\"><table class=\"checks\">\n"
                "<caption>Identities measured in "
                "this run, on this model and text.</caption>\n"
                "<thead><tr><th "
                "scope=\"col\">identity</th><th scope=\"col\">what must hold</th><th "
                "scope=\"col\">residual</th><th scope=\"col\">tolerance</th><th "
                "scope=\"col\"></th></tr></thead>\n"
                "<tbody>\n");
        any = true;
        identity_row(out, key + 6, bf_record_meta(record, key));
    }
    bf_buf_text(out, any ? "</tbody>\n</table></div>\n" : "");
    return any;
}

void bf_report_trust(bf_buf *out, const bf_report_page *page)
{
    bf_buf_text(
        out, "<section id=\"s-trust\" aria-labelledby=\"sh-trust\">\n<h2 id=\"sh-trust\">Can this be "
             "trusted?</h2>\n");
    if (!identity_table(out, page->record))
        bf_buf_text(out, "<p>The identities were not measured in this run.</p>\n");
    bf_buf_text(
        out,
        "<p>A gradient says how a loss answers to small changes of a vector. It does not say what "
        "would happen if a token were left out or replaced, and norms at different sites or layers "
        "have different units and should not be compared by size.</p>\n"
        "</section>\n");
}

/* ---- card */

static void card_row(bf_buf *out, const bf_record *record, const char *term, const char *key)
{
    const char *value = bf_record_meta(record, key);
    if (!value)
        return;
    bf_buf_printf(out, "<dt>%s</dt><dd><bdi>", term);
    bf_html_text(out, value);
    bf_buf_text(out, "</bdi></dd>\n");
}

static void card_file(bf_buf *out, const bf_report_page *page, const char *name, const char *ending,
                      const char *between)
{
    const char *stem = page->extras ? page->extras->stem : NULL;
    bf_buf file = {0};
    bf_report_file(&file, stem, name, ending);
    bf_buf_printf(out, "%s<a href=\"%s\" download>%s</a>", between, file.data ? file.data : "",
                  !name && file.data ? file.data : ending);
    out->failed = out->failed || file.failed;
    bf_buf_free(&file);
}

static void card_files(bf_buf *out, const bf_report_page *page)
{
    static const char *const endings[] = {"png", "svg", "pdf", "dot"};
    bf_buf_text(out, "<dt>record</dt><dd>");
    card_file(out, page, NULL, "safetensors", "");
    bf_buf_text(out, ", every number behind this page; numpy, torch and jax open it</dd>\n");
    bf_buf_text(out, "<dt>figures</dt><dd>");
    for (size_t k = 0; k < BF_FIGURES; k++) {
        const bf_report_figure *f = &page->figure[k];
        for (size_t e = 0; f->made && e < (f->site ? 3u : 4u); e++)
            card_file(out, page, f->name, endings[e], e ? " · " : "");
        if (f->made)
            bf_buf_printf(out, " %s<br>", f->title);
    }
    bf_buf_text(out, "</dd>\n");
}

void bf_report_card(bf_buf *out, const bf_report_page *page)
{
    const bf_record *record = page->record;
    const char *command = bf_record_meta(record, "command");
    bf_buf_text(out, "<dl class=\"card\">\n");
    card_row(out, record, "model", "model");
    card_row(out, record, "family", "model_family");
    card_row(out, record, "SHA-256 of the weights", "model_sha256");
    bf_buf_printf(out, "<dt>tokens</dt><dd>%zu: %zu read, the last only predicted</dd>\n",
                  page->stats->N + 1, page->stats->N);
    bf_buf_printf(out, "<dt>losses</dt><dd>%zu</dd>\n", page->stats->losses);
    card_row(out, record, "walked back in place of the loss", "target");
    card_row(out, record, "precision", "precision");
    card_row(out, record, "threads", "threads");
    card_row(out, record, "backflow", "version");
    card_files(out, page);
    bf_buf_text(out, "</dl>\n");
    if (command) {
        bf_buf_text(out, "<p>The command that made this page:</p>\n<pre><code>");
        bf_html_text(out, command);
        bf_buf_text(out, "</code></pre>\n");
    }
}
