/* report_figures.c -- figures with their captions. */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "render/matrix.h"
#include "render/report_html.h"
#include "render/report_pack.h"
#include "render/report_page.h"

static const size_t NONE = (size_t)-1;

/* The pair with the largest magnitude at i > j, or i = j if there is no other; false: all is 0. */
typedef struct {
    size_t i, j;
    double value;
} peak;

static bool find_peak(peak *top, const bf_report_page *page, const bf_report_figure *f)
{
    const bf_heatmap_style style = {.site = f->site,
                                    .score = f->score,
                                    .layer = f->layer == NONE ? -1 : (long)f->layer,
                                    .head = f->head == NONE ? -1 : (long)f->head};
    bf_matrix m = {0};
    *top = (peak){0};
    if (bf_matrix_select(&m, page->record, &style, NULL) == BF_OK)
        for (size_t r = 0; r < m.rows; r++)
            for (size_t j = 0; j <= m.i[r]; j++)
                if (j != m.number[r] && fabs(m.value[r * m.cols + j]) > fabs(top->value))
                    *top = (peak){m.number[r], j, m.value[r * m.cols + j]};
    bf_matrix_free(&m);
    return top->value != 0.0;
}

static void show_image(bf_buf *out, const bf_report_page *page, const bf_report_figure *f,
                       const peak *top)
{
    bf_buf_printf(out, "<img src=\"data:image/%s;base64,", f->site ? "png" : "svg+xml");
    bf_pack_base64(out, f->image.data, f->image.len);
    bf_buf_printf(out, "\" alt=\"%s", f->title);
    if (!f->site) {
        bf_buf_printf(out, ": graph with positions across and layers up, loss %zu above.", f->loss);
    } else {
        bf_buf_printf(out,
                      ": heatmap of %zu losses down by %zu positions across, lower triangle only.",
                      page->stats->losses, page->stats->N);
        if (top->value != 0.0) {
            bf_buf_text(out, " Largest to an earlier position: ");
            bf_html_number(out, top->value);
            bf_buf_printf(out, ", from loss %zu to position %zu, ", top->i, top->j);
            bf_html_token_attribute(out, page->record, top->j);
            bf_buf_text(out, ".");
        }
    }
    bf_buf_text(out, "\">\n");
}

static void show_figure(bf_buf *out, const bf_report_page *page, const bf_report_figure *f)
{
    peak top = {0};
    if (!f->made || !f->image.len)
        return;
    const bool flows = f->site && find_peak(&top, page, f);
    bf_buf_text(out, "<figure>\n");
    show_image(out, page, f, &top);
    bf_buf_printf(out, "<figcaption><b>%s.</b>", f->title);
    if (flows) {
        bf_buf_text(out, " The largest value at an earlier position is ");
        bf_html_number(out, top.value);
        bf_buf_printf(out, ": loss&nbsp;%zu, which predicts <span class=\"tok\">“", top.i);
        bf_html_token(out, page->record, top.i + 1);
        bf_buf_printf(out, "”</span>, at position&nbsp;%zu, <span class=\"tok\">“", top.j);
        bf_html_token(out, page->record, top.j);
        bf_buf_text(out, "”</span>.");
    }
    bf_buf_text(out, "</figcaption>\n</figure>\n");
}

void bf_report_maps(bf_buf *out, const bf_report_page *page)
{
    bf_buf_text(
        out,
        "<section id=\"s-maps\" aria-labelledby=\"sh-maps\">\n"
        "<h2 id=\"sh-maps\">The maps: which loss "
        "reaches which token</h2>\n"
        "<p>Each row is a loss, named by the token it predicts; each "
        "column a position, named by the token it reads. A model that reads from left to right "
        "cannot send gradient to later positions, so the upper half is empty.</p>\n"
        "<div "
        "class=\"figures\">\n");
    show_figure(out, page, &page->figure[BF_FIGURE_EMBEDDING]);
    bf_buf_text(out, "</div>\n</section>\n");
}

void bf_report_graph(bf_buf *out, const bf_report_page *page)
{
    const bf_report_figure *f = &page->figure[BF_FIGURE_GRAPH];
    const bf_report_stats *s = page->stats;
    if (!f->made || !f->image.len)
        return;
    bf_buf_printf(
        out,
        "<section id=\"s-graph\" aria-labelledby=\"sh-graph\">\n"
        "<h2 id=\"sh-graph\">One loss and its "
        "ways back</h2>\n"
        "<p>Loss&nbsp;%zu, which predicts <span class=\"tok\">“",
        f->loss);
    bf_html_token(out, page->record, f->loss + 1);
    bf_buf_text(out, "”</span>, ");
    if (s->given[s->senders[0]] > 0.0) {
        bf_buf_text(out, "sends the most to earlier tokens’ embeddings: ");
        bf_html_number(out, s->given[s->senders[0]]);
        bf_buf_text(out, " nats per unit, ");
        bf_html_percent(out, s->given[s->senders[0]] / s->later);
        bf_buf_text(out, " of what all losses together send there.");
    } else {
        bf_buf_text(out, "like all others, sends nothing to earlier tokens’ embeddings.");
    }
    bf_buf_text(out, "</p>\n<div class=\"wide\">\n");
    show_figure(out, page, f);
    bf_buf_text(out, "</div>\n</section>\n");
}
