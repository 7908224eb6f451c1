/* report_page.h -- the page of a report, panel by panel (internal to render/report*.c). */
#ifndef BF_RENDER_REPORT_PAGE_H
#define BF_RENDER_REPORT_PAGE_H

#include <stdbool.h>

#include "backflow/report.h"
#include "base/buf.h"
#include "render/report_stats.h"

/* A figure that stands in the folder as NAME.png, .svg, .pdf (and .dot if a graph). */
typedef struct {
    const char *name, *title;
    const char *site, *score; /* of a heatmap; NULL: the graph */
    size_t layer, head;       /* (size_t)-1: none */
    bool log;
    size_t loss; /* of the graph */
    bool made;
    bf_buf image; /* what the picture of the page shows of it: PNG, of the graph SVG; or empty */
} bf_report_figure;

enum {
    BF_FIGURE_EMBEDDING,
    BF_FIGURE_MIDDLE,
    BF_FIGURE_SIGNED,
    BF_FIGURE_HEAD,
    BF_FIGURE_GRAPH,
    BF_FIGURES
};

typedef struct {
    const bf_record *record;
    const bf_report_stats *stats;
    const bf_report_extras *extras; /* may be NULL */
    bf_report_figure figure[BF_FIGURES];
} bf_report_page;

/* Append the name of a report's file: "STEM_NAME.ENDING"; without a stem "NAME.ENDING"; the page
 * and the record have no NAME, and without a stem are "index" and "run". */
void bf_report_file(bf_buf *out, const char *stem, const char *name, const char *ending);

/* What stands in the header; the first panel; the card (its list and command, no section). */
void bf_report_title(bf_buf *out, const bf_report_page *page);
void bf_report_facts(bf_buf *out, const bf_report_page *page);
void bf_report_summary(bf_buf *out, const bf_report_page *page);
void bf_report_card(bf_buf *out, const bf_report_page *page);

/* Panels of the picture that stands for the page with scripts off; each appends a <section>, or
 * nothing if the record lacks what it shows. */
void bf_report_sentence(bf_buf *out, const bf_report_page *page);
void bf_report_lags(bf_buf *out, const bf_report_page *page);
void bf_report_maps(bf_buf *out, const bf_report_page *page);
void bf_report_heads(bf_buf *out, const bf_report_page *page);
void bf_report_graph(bf_buf *out, const bf_report_page *page);
void bf_report_trust(bf_buf *out, const bf_report_page *page);

#endif
