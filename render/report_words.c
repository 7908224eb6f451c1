/* report_words.c -- what a report says first: the sentence about the text, and the text itself. */
#include <math.h>
#include <string.h>

#include "render/report_html.h"
#include "render/report_page.h"

static const char *meta_or(const bf_record *record, const char *key, const char *otherwise)
{
    const char *value = bf_record_meta(record, key);
    return value && *value ? value : otherwise;
}

void bf_report_title(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    bf_html_text(out, meta_or(page->record, "model", "a model"));
    bf_buf_printf(out, ", %zu %s", s->losses, s->losses == 1 ? "loss" : "losses");
}

void bf_report_facts(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    const char *text = page->extras ? page->extras->text_name : NULL;
    bf_buf_text(out, "model <b><bdi>");
    bf_html_text(out, meta_or(page->record, "model", "a model"));
    bf_buf_text(out, "</bdi></b>");
    if (text) {
        bf_buf_text(out, " · text <b><bdi>");
        bf_html_text(out, text);
        bf_buf_text(out, "</bdi></b>");
    }
    bf_buf_printf(out, " · %zu %s", s->losses, s->losses == 1 ? "loss" : "losses");
    if (s->losses < s->N)
        bf_buf_printf(out, " of the text’s %zu", s->N);
    bf_buf_text(out, " · mean ");
    bf_html_number(out, s->mean_loss);
    bf_buf_text(out, "&nbsp;nats · perplexity ");
    bf_html_number(out, exp(s->mean_loss));
    if (page->extras && page->extras->stem)
        bf_buf_text(out, " · <a href=\"index.html\">all texts</a>");
}

/* ---- the sentence */

static void quote_position(bf_buf *out, const bf_report_page *page, size_t j)
{
    bf_buf_text(out, "<span class=\"tok\">“");
    bf_html_token(out, page->record, j);
    bf_buf_text(out, "”</span>");
}

static void say_receivers(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    const double *got = s->received;
    const size_t a = s->order[0];
    const size_t b = s->N > 1 && got[s->order[1]] > 0.0 ? s->order[1] : a;
    const double both = (got[a] + (b != a ? got[b] : 0.0)) / s->later;
    bf_buf_text(out, both > 0.5 ? " <a href=\"#s-text\" data-panel=\"text\">Most of it</a> arrives at "
                                : " <a href=\"#s-text\" data-panel=\"text\">The largest parts</a> arrive at ");
    quote_position(out, page, a);
    bf_buf_printf(out, " (position&nbsp;%zu, ", a);
    bf_html_percent(out, got[a] / s->later);
    if (b != a) {
        bf_buf_text(out, ") and ");
        quote_position(out, page, b);
        bf_buf_printf(out, " (position&nbsp;%zu, ", b);
        bf_html_percent(out, got[b] / s->later);
    }
    bf_buf_text(out, ").");
}

static void say_head(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    if (!s->heads || s->head_total <= 0.0)
        return;
    const size_t layer = s->layer[s->best / s->heads], head = s->best % s->heads;
    bf_buf_printf(
        out,
        " Of what arrives at earlier positions’ values, %shead <a href=\"#s-heads\" "
        "data-panel=\"heads\" data-layer=\"%zu\" data-head=\"%zu\"><b>%zu.%zu</b></a> carries the largest part, ",
        s->query_heads > s->heads ? "key/value " : "", layer, head, layer, head);
    bf_html_percent(out, s->head[s->best] / s->head_total);
    bf_buf_text(out, ".");
}

static void say_summary(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    bf_buf_text(out, "<p class=\"lede\">");
    if (s->later <= 0.0) {
        bf_buf_text(out,
                    s->N == 1
                        ? "The text has one loss, that of its second token; there is no later one "
                          "that could send gradient back."
                        : "No gradient of a later token’s loss reaches an earlier token’s "
                          "embedding.");
    } else {
        bf_buf_text(out, "<a href=\"#s-maps\" data-panel=\"map\"><b>");
        bf_html_percent(out, s->later / s->all);
        bf_buf_text(
            out,
            "</b></a> of the gradient that reaches a token’s embedding comes from the losses of "
            "later tokens; half of that comes from within <a href=\"#s-lags\" data-panel=\"lag\"><b>");
        bf_buf_printf(out, "%zu&nbsp;%s</b></a>.", s->half, s->half == 1 ? "token" : "tokens");
        say_receivers(out, page);
        say_head(out, page);
    }
    bf_buf_text(out, "</p>\n");
}

static void define(bf_buf *out, const char *term, const char *meaning)
{
    bf_buf_printf(out, "<dt>%s</dt><dd>%s</dd>\n", term, meaning);
}

static void say_definitions(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    bf_buf_text(out, "<dl class=\"defs\">\n");
    define(out, "loss i",
           "−log p(token i+1 | tokens 0 … i), in nats. It is position i’s <em>own</em> loss, "
           "and a <em>later</em> one to every position j&nbsp;&lt;&nbsp;i.");
    define(
        out, "gradient at an embedding",
        "|g<sub>ij</sub>|, the Euclidean norm of the derivative of loss i with respect to the "
        "embedding of token j (<code>resid_pre</code>, layer 0), for each pair by itself; the "
        "parts are parts of sums of these norms over pairs.");
    if (s->later > 0.0)
        define(out, "within m tokens",
               "the least m with at least half of the sum over i&nbsp;&gt;&nbsp;j at distances "
               "i&nbsp;−&nbsp;j&nbsp;≤&nbsp;m.");
    if (s->later > 0.0 && s->heads && s->head_total > 0.0)
        define(
            out, "head l.h",
            "layer l, key/value head h, counted from 0: its part of the sum over all heads, "
            "layers and i&nbsp;&gt;&nbsp;j of the gradient’s norm at the head’s values "
            "v<sub>j</sub>.");
    bf_buf_text(out, "</dl>\n");
}

void bf_report_summary(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    say_summary(out, page);
    if (s->cancelled >= 0.0) {
        bf_buf_text(out, "<p class=\"aside\">Added up as vectors, as in ordinary training, the "
                         "later losses’ gradients partly cancel: the norm of their sum is "
                         "<a href=\"#s-lags\" data-panel=\"own\">");
        bf_html_percent(out, s->cancelled);
        bf_buf_text(out, "</a> of the sum of their norms.</p>\n");
    }
    bf_buf_text(out, "<details class=\"words\"><summary>What the words mean</summary>\n");
    say_definitions(out, page);
    bf_buf_text(out, "</details>\n");
}

/* ---- the text, tinted */

/* How deep a token is tinted. */
static int depth(const bf_report_stats *s, double received)
{
    const double most = s->received[s->order[0]];
    return bf_html_tint(most > 0.0 ? received / most : 0.0);
}

static void show_position(bf_buf *out, const bf_report_page *page, size_t j)
{
    const bf_report_stats *s = page->stats;
    const char *raw =
        j < bf_record_token_count(page->record) ? bf_record_token(page->record, j) : "";
    bf_buf_text(out, *raw == ' ' ? " " : "");
    bf_buf_printf(out, "<span class=\"t a%d\" title=\"position %zu: received ",
                  depth(s, s->received[j]), j);
    bf_html_number(out, s->received[j]);
    bf_buf_text(out, " from later losses\">");
    bf_html_token(out, page->record, j);
    bf_buf_text(out, "</span>");
    if (strchr(raw, '\n'))
        bf_buf_text(out, "<br>");
    else if (!*raw)
        bf_buf_text(out, " "); /* ids only: keep them apart */
}

static void show_legend(bf_buf *out, const bf_report_stats *s)
{
    static const double parts[] = {0.0, 0.25, 0.5, 0.75, 1.0};
    bf_buf_text(out, "<p class=\"legend\"><span>received from later losses, nats per unit:</span>");
    for (size_t k = 0; k < sizeof parts / sizeof *parts; k++) {
        const double value = parts[k] * s->received[s->order[0]];
        bf_buf_printf(out, " <span class=\"t a%d\">&nbsp;", depth(s, value));
        bf_html_number(out, value);
        bf_buf_text(out, "&nbsp;</span>");
    }
    bf_buf_text(out, "</p>\n");
}

static void position_row(bf_buf *out, const bf_report_page *page, size_t j)
{
    const bf_report_stats *s = page->stats;
    bf_buf_printf(out, "<tr><td>%zu</td><th scope=\"row\">", j);
    bf_html_token(out, page->record, j);
    bf_buf_text(out, "</th><td>");
    bf_html_number(out, s->received[j]);
    bf_buf_text(out, "</td><td>");
    bf_html_percent(out, s->later > 0.0 ? s->received[j] / s->later : 0.0);
    bf_buf_text(out, "</td><td>");
    bf_html_number(out, s->own[j]);
    bf_buf_text(out, "</td></tr>\n");
}

static void loss_row(bf_buf *out, const bf_report_page *page, size_t k)
{
    const bf_report_stats *s = page->stats;
    const bf_tensor *loss = bf_record_find(page->record, "loss");
    bf_buf_printf(out, "<tr><td>%zu</td><th scope=\"row\">", s->i[k]);
    bf_html_token(out, page->record, s->i[k] + 1);
    bf_buf_text(out, "</th><td>");
    bf_html_number(out, bf_tensor_value(loss, s->i[k]));
    bf_buf_text(out, "</td><td>");
    bf_html_number(out, s->given[k]);
    bf_buf_text(out, "</td><td>");
    bf_html_percent(out, s->later > 0.0 ? s->given[k] / s->later : 0.0);
    bf_buf_text(out, "</td></tr>\n");
}

/* Rows order[0..n), or 0..n-1, under a caption and five heads. */
static void ranking(bf_buf *out, const bf_report_page *page, const char *caption,
                    const char *const head[5], const size_t *order, size_t n,
                    void (*row)(bf_buf *, const bf_report_page *, size_t))
{
    bf_buf_printf(
        out, "<div class=\"scroll\"><table class=\"tokens\">\n<caption>%s</caption>\n<thead><tr>",
        caption);
    for (size_t k = 0; k < 5; k++)
        bf_buf_printf(out, "<th scope=\"col\">%s</th>", head[k]);
    bf_buf_text(out, "</tr></thead>\n<tbody>\n");
    for (size_t k = 0; k < n; k++)
        row(out, page, order ? order[k] : k);
    bf_buf_text(out, "</tbody>\n</table></div>\n");
}

static void show_rankings(bf_buf *out, const bf_report_page *page)
{
    enum { MOST = 8 };
    static const char *const position_head[] = {"position", "token", "from later losses", "part",
                                                "from its own loss"};
    static const char *const loss_head[] = {"loss", "predicts", "nats", "to earlier tokens",
                                            "part"};
    const bf_report_stats *s = page->stats;
    bf_buf_text(out, "<div class=\"pair\">\n");
    ranking(out, page,
            "Tokens that receive most. Sums of |g| over losses, nats per unit of the embedding.",
            position_head, s->order, s->N < MOST ? s->N : MOST, position_row);
    ranking(out, page, "Losses that send most. Sums of |g| over earlier positions, nats per unit.",
            loss_head, s->senders, s->losses < MOST ? s->losses : MOST, loss_row);
    bf_buf_text(out, "</div>\n");
    if (s->N <= MOST)
        return;
    bf_buf_printf(
        out, "<details><summary>All %zu positions and losses</summary>\n<div class=\"pair\">\n",
        s->N);
    ranking(out, page, "Every position, in the order of the text.", position_head, NULL, s->N,
            position_row);
    ranking(out, page, "Every loss, in the order of the text.", loss_head, NULL, s->losses,
            loss_row);
    bf_buf_text(out, "</div>\n</details>\n");
}

void bf_report_sentence(bf_buf *out, const bf_report_page *page)
{
    const bf_report_stats *s = page->stats;
    bf_buf_text(
        out,
        "<section id=\"s-text\" aria-labelledby=\"sh-text\">\n"
        "<h2 id=\"sh-text\">The text, tinted by "
        "what each token received</h2>\n"
        "<p class=\"text\">");
    for (size_t j = 0; j < s->N; j++)
        show_position(out, page, j);
    const char *last =
        s->N < bf_record_token_count(page->record) ? bf_record_token(page->record, s->N) : "";
    bf_buf_printf(out, "%s<span class=\"last\" title=\"only predicted, never read\">",
                  *last == ' ' ? " " : "");
    bf_html_token(out, page->record, s->N);
    bf_buf_text(out, "</span></p>\n");
    show_legend(out, s);
    if (s->later > 0.0)
        show_rankings(out, page);
    bf_buf_text(out, "</section>\n");
}
