/* report.c -- numbers, then figures, then the page that shows both. */
#include "backflow/report.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "render/matrix.h"
#include "render/report_data.h"
#include "render/report_page.h"
#include "render/report_stats.h"
#include "render/report_template.h"

enum { PICTURE_DPI = 130 };

static const size_t NONE = (size_t)-1;

/* ---- the files */

static const struct {
    const char *name, *endings[5];
} files[] = {{NULL, {"safetensors", "html"}},
             {"embedding_grad_norm", {"png", "svg", "pdf"}},
             {"middle_grad_norm", {"png", "svg", "pdf"}},
             {"embedding_grad_x_act", {"png", "svg", "pdf"}},
             {"head_v", {"png", "svg", "pdf"}},
             {"graph", {"png", "svg", "pdf", "dot"}}};

void bf_report_file(bf_buf *out, const char *stem, const char *name, const char *ending)
{
    if (!stem && !name)
        stem = strcmp(ending, "html") == 0 ? "index" : "run";
    bf_buf_printf(out, "%s%s%s.%s", stem ? stem : "", stem && name ? "_" : "", name ? name : "",
                  ending);
}

/* All names, one after the other, each with its NUL. */
static void list_files(bf_buf *out)
{
    for (size_t t = 0; t <= BF_REPORT_TEXTS; t++) {
        char stem[16];
        snprintf(stem, sizeof stem, "text-%02zu", t);
        for (size_t f = 0; f < sizeof files / sizeof *files; f++)
            for (size_t e = 0; files[f].endings[e]; e++) {
                bf_report_file(out, t ? stem : NULL, files[f].name, files[f].endings[e]);
                bf_buf_bytes(out, "", 1);
            }
    }
}

static const char **file_names;

static void make_file_names(void)
{
    static bf_buf text;
    size_t n = 1;
    list_files(&text);
    for (size_t k = 0; k < text.len; k++)
        n += !text.data[k];
    file_names = text.failed ? NULL : calloc(n, sizeof *file_names);
    n = 0;
    for (size_t k = 0; k < text.len && file_names; k += strlen(text.data + k) + 1)
        file_names[n++] = text.data + k;
}

const char *const *bf_report_files(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_file_names);
    return (const char *const *)file_names;
}

/* ---- which figures */

static bool has_flow(const bf_record *record, const char *name)
{
    const bf_tensor *t = bf_record_find(record, name);
    return t && t->rank >= 3;
}

/* The middle one of the layers that the record has; NONE if that is layer 0 again. */
static bf_code middle_layer(size_t *layer, const bf_record *record, bf_error *err)
{
    const bf_tensor *t = bf_record_find(record, "flow.resid_pre.grad_norm");
    const size_t count = t && t->rank == 3 ? t->dim[0] : 0;
    *layer = NONE;
    if (count < 2)
        return BF_OK;
    const bf_code rc = bf_matrix_layer(layer, record, count / 2, count, err);
    if (!rc && *layer == 0)
        *layer = NONE;
    return rc;
}

static bf_report_figure make_figure(const char *name, const char *title, const char *site,
                                    const char *score, size_t layer, size_t head, bool log)
{
    return (bf_report_figure){.name = name,
                              .title = title,
                              .site = site,
                              .score = score,
                              .layer = layer,
                              .head = head,
                              .log = log,
                              .made = true};
}

/* Titles that depend on the record stand in titles[size], which outlives the page. */
static bf_code choose_figures(bf_report_page *page, char *titles, size_t size, bf_error *err)
{
    const bf_report_stats *s = page->stats;
    bf_report_figure *figure = page->figure;
    size_t middle, at = 0;
    const bf_code rc = middle_layer(&middle, page->record, err);
    if (rc)
        return rc;
    figure[BF_FIGURE_EMBEDDING] =
        make_figure("embedding_grad_norm", "Norm of the gradient at the embeddings, nats per unit",
                    "resid_pre", "grad_norm", 0, NONE, true);
    if (middle != NONE) {
        at = 1 + (size_t)snprintf(titles, size,
                                  "Norm of the gradient at the input of layer %zu, nats per unit",
                                  middle);
        figure[BF_FIGURE_MIDDLE] =
            make_figure("middle_grad_norm", titles, "resid_pre", "grad_norm", middle, NONE, true);
    }
    if (has_flow(page->record, "flow.resid_pre.grad_x_act")) /* few are large among many */
        figure[BF_FIGURE_SIGNED] =
            make_figure("embedding_grad_x_act", "Gradient times embedding, signed, nats",
                        "resid_pre", "grad_x_act", 0, NONE, s->N > 64);
    if (s->heads && s->head_total > 0.0) {
        const size_t l = s->layer[s->best / s->heads], h = s->best % s->heads;
        snprintf(titles + at, size - at,
                 "Norm of the gradient at the values of head %zu.%zu, nats per unit", l, h);
        figure[BF_FIGURE_HEAD] = make_figure("head_v", titles + at, "v", "grad_norm", l, h, true);
    }
    figure[BF_FIGURE_GRAPH] =
        make_figure("graph", "The flow of one loss back through positions and layers", NULL, NULL,
                    NONE, NONE, false);
    figure[BF_FIGURE_GRAPH].loss = s->i[s->senders[0]];
    return BF_OK;
}

/* ---- drawing */

static bf_code draw_to(const bf_report_page *page, const bf_report_figure *f, const char *path,
                       int dpi, bf_error *err)
{
    if (f->site) {
        bf_heatmap_style style = {.site = f->site,
                                  .score = f->score,
                                  .layer = (long)f->layer,
                                  .head = f->head == NONE ? -1 : (long)f->head,
                                  .scale = f->log ? BF_SCALE_LOG : BF_SCALE_LINEAR};
        style.look.dpi = dpi;
        return bf_render_heatmap(page->record, &style, path, err);
    }
    const bf_graph_style style = {.loss = f->loss};
    return bf_render_graph(page->record, &style, path, err);
}

static bf_code make_path(bf_buf *path, const bf_report_page *page, const char *folder,
                         const char *name, const char *ending, bf_error *err)
{
    bf_buf_printf(path, "%s/", folder);
    bf_report_file(path, page->extras ? page->extras->stem : NULL, name, ending);
    return path->failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path") : BF_OK;
}

/* A figure in all its formats. What the picture shows of it is read back; of maps at few dots. */
static bf_code draw_figure(const bf_report_page *page, bf_report_figure *f, const char *folder,
                           bool shown, bf_error *err)
{
    static const char *const endings[] = {"png", "svg", "pdf", "dot"};
    bf_code rc = BF_OK;
    for (size_t e = 0; e < (f->site ? 3u : 4u) && !rc; e++) {
        bf_buf path = {0};
        const bool keep = shown && e == (f->site ? 0u : 1u);
        rc = make_path(&path, page, folder, f->name, endings[e], err);
        if (!rc && keep && f->site)
            rc = draw_to(page, f, path.data, PICTURE_DPI, err);
        else if (!rc)
            rc = draw_to(page, f, path.data, 0, err);
        if (!rc && keep)
            rc = bf_file_read(&f->image, path.data, 1u << 26, err);
        if (!rc && keep && f->site)
            rc = draw_to(page, f, path.data, 0, err);
        bf_buf_free(&path);
    }
    return rc;
}

/* ---- the page */

static void put_picture(bf_buf *out, const bf_report_page *page)
{
    bf_report_sentence(out, page);
    bf_report_lags(out, page);
    bf_report_maps(out, page);
    bf_report_heads(out, page);
    bf_report_graph(out, page);
    bf_report_trust(out, page);
}

typedef struct {
    const bf_report_page *page;
    const bf_buf *data;
} parts;

static bool put_part(bf_buf *out, const char *name, void *context)
{
    static const struct {
        const char *name;
        void (*put)(bf_buf *out, const bf_report_page *page);
    } table[] = {{"TITLE", bf_report_title},     {"FACTS", bf_report_facts},
                 {"SUMMARY", bf_report_summary}, {"CARD", bf_report_card},
                 {"PICTURE", put_picture}};
    const parts *p = context;
    if (strcmp(name, "DATA") == 0) {
        bf_buf_bytes(out, p->data->data, p->data->len);
        return true;
    }
    for (size_t k = 0; k < sizeof table / sizeof *table; k++) {
        if (strcmp(name, table[k].name) != 0)
            continue;
        table[k].put(out, p->page);
        return true;
    }
    return false;
}

static bf_code write_page(const bf_report_page *page, const char *folder, bf_error *err)
{
    const bf_report_stats *s = page->stats;
    const char *mask = bf_record_meta(page->record, "mask");
    const bf_tensor *stream = bf_record_find(page->record, "flow.resid_pre.grad_norm");
    const bf_report_source source = {.record = page->record,
                                     .stats = s,
                                     .extras = page->extras,
                                     .N = s->N,
                                     .rows = s->losses,
                                     .layers = stream->dim[0],
                                     .i = s->i,
                                     .full = mask && strstr(mask, "bidirectional")};
    bf_buf data = {0}, out = {0}, path = {0};
    bf_code rc = bf_report_put_data(&data, &source, err);
    if (!rc)
        rc = make_path(&path, page, folder, NULL, "html", err);
    if (!rc) {
        bf_template_fill(&out, &bf_page_html, put_part, &(parts){page, &data});
        rc = out.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the report's page")
                        : bf_file_write(path.data, out.data, out.len, err);
    }
    bf_buf_free(&data);
    bf_buf_free(&out);
    bf_buf_free(&path);
    return rc;
}

bf_code bf_render_report(const bf_record *record, const bf_report_extras *extras,
                         const char *folder, bf_error *err)
{
    char titles[256];
    bf_report_stats stats;
    bf_report_page page = {.record = record, .stats = &stats, .extras = extras};
    if (bf_record_find(record, "masked"))
        return bf_fail(err, BF_EARG, "no page is made of masked tokens' losses (--mask); heatmap, "
                                     "graph and profile draw their record");
    bf_code rc = bf_report_stats_make(&stats, record, err);
    if (!rc)
        rc = choose_figures(&page, titles, sizeof titles, err);
    for (size_t k = 0; k < BF_FIGURES && !rc; k++)
        if (page.figure[k].made)
            rc = draw_figure(&page, &page.figure[k], folder,
                             k == BF_FIGURE_EMBEDDING || k == BF_FIGURE_GRAPH, err);
    if (!rc)
        rc = write_page(&page, folder, err);
    for (size_t k = 0; k < BF_FIGURES; k++)
        bf_buf_free(&page.figure[k].image);
    bf_report_stats_free(&stats);
    return rc;
}
