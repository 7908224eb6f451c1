/* vega_profile.c -- the curves of a profile as a Vega-Lite specification. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/render.h"
#include "render/curves.h"
#include "render/describe.h"
#include "render/text.h"
#include "render/vega.h"

enum { MOST_CHARTS = 6, LONGEST = 96 };

typedef struct {
    const bf_record *const *records;
    size_t n;
    const bf_profile_style *style;
    const char *site, *score;
    bf_curves lag, reach, position, layer;
    bf_vega_chart chart[MOST_CHARTS];
    size_t n_charts;
    char y_name[MOST_CHARTS][LONGEST];
    char (*names)[LONGEST];     /* of the lines of lag and reach */
    bf_vega_line *lines;        /* [lag.K + reach.K + 6], handed out in turn */
    size_t n_lines;
} sheet;

static bf_code compute(sheet *s, bf_error *err)
{
    const bf_profile_style *w = s->style;
    const unsigned own =
        bf_curves_have_own(s->records, s->n) ? BF_PROFILE_POSITION | BF_PROFILE_LAYER : 0u;
    const unsigned parts = w->parts ? w->parts : BF_PROFILE_LAG | BF_PROFILE_REACH | own;
    bf_code rc = BF_OK;
    if (parts & BF_PROFILE_LAG)
        rc = bf_curves_lag(&s->lag, s->records, s->n, s->site, s->score, true, w->resamples, err);
    if (!rc && parts & BF_PROFILE_REACH)
        rc = bf_curves_lag(&s->reach, s->records, s->n, s->site, s->score, false, 1, err);
    if (!rc && parts & BF_PROFILE_POSITION)
        rc = bf_curves_position(&s->position, s->records, s->n, w->layer, w->resamples, err);
    if (!rc && parts & BF_PROFILE_LAYER)
        rc = bf_curves_layer(&s->layer, s->records, s->n, w->resamples, err);
    return rc;
}

/* Curves `from` to `to` of c as one chart. */
static void add_chart(sheet *s, const bf_curves *c, size_t from, size_t to,
                      const char *const *names, bf_vega_chart looks)
{
    bf_vega_chart *chart = &s->chart[s->n_charts++];
    *chart = looks;
    chart->x = c->x;
    chart->n = c->P;
    chart->lines = s->lines + s->n_lines;
    chart->n_lines = to - from;
    for (size_t k = from; k < to; k++)
        s->lines[s->n_lines++] = (bf_vega_line){names[k - from], c->mean + k * c->P,
                                                c->low ? c->low + k * c->P : NULL,
                                                c->low ? c->high + k * c->P : NULL};
}

static bf_code add_layers(sheet *s, const bf_curves *c, bf_vega_chart looks, bf_error *err)
{
    const char **names = calloc(c->K + 1, sizeof *names);
    char(*text)[LONGEST] = s->names + (c == &s->reach ? s->lag.K : 0);
    if (!names)
        return bf_fail(err, BF_ENOMEM, "cannot hold the names of %zu lines", c->K);
    for (size_t k = 0; k < c->K; k++) {
        names[k] = text[k];
        if (c->number[k] == (size_t)-1)
            snprintf(text[k], LONGEST, "final");
        else
            snprintf(text[k], LONGEST, "layer %zu", c->number[k]);
    }
    add_chart(s, c, 0, c->K, names, looks);
    free(names);
    return BF_OK;
}

static void add_own(sheet *s, const bf_curves *c, const char *title, const char *x_name)
{
    static const char *const names[] = {"own", "future", "cosine"};
    char *norm = s->y_name[s->n_charts];
    snprintf(norm, LONGEST, "norm, %.20s per unit", bf_describe_unit(s->records[0]));
    add_chart(s, c, 0, 2, names,
              (bf_vega_chart){.title = title, .x_name = x_name, .y_name = norm, .log_y = true});
    add_chart(s, c, 2, 3, names + 2,
              (bf_vega_chart){
                  .title = "cosine between own and future", .x_name = x_name, .y_name = "cosine"});
}

static bf_code make_charts(sheet *s, bf_error *err)
{
    const bool is_norm = strcmp(s->score, "grad_norm") == 0;
    bf_vega_chart looks = {
        .x_name = "distance i − j, tokens", .y_name = s->y_name[0], .log_y = true};
    bf_code rc = BF_OK;
    s->lines = calloc(s->lag.K + s->reach.K + 6, sizeof *s->lines);
    s->names = calloc(s->lag.K + s->reach.K + 1, sizeof *s->names);
    if (!s->lines || !s->names)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu lines", s->lag.K + s->reach.K);
    snprintf(s->y_name[0], LONGEST, "mean %s%.30s%s, %.20s%s", is_norm ? "" : "|", s->score,
             is_norm ? "" : "|", bf_describe_unit(s->records[0]), is_norm ? " per unit" : "");
    looks.title = "flow against distance";
    looks.log_x = true;
    if (s->lag.K)
        rc = add_layers(s, &s->lag, looks, err);
    looks.title = "reach: no point where the mean is exactly 0";
    looks.log_x = false;
    if (s->reach.K && !rc)
        rc = add_layers(s, &s->reach, looks, err);
    return rc;
}

bf_code bf_export_vega_profile(const bf_record *const *records, size_t n,
                               const bf_profile_style *style, const char *path, bf_error *err)
{
    sheet s = {.records = records, .n = n, .style = style,
               .site = style->site ? style->site : "resid_pre",
               .score = style->score ? style->score : "grad_norm"};
    bf_buf title = {0};
    bf_code rc = n ? compute(&s, err) : bf_fail(err, BF_EARG, "no record was given");
    if (!rc)
        rc = make_charts(&s, err);
    bf_curves *last[] = {&s.position, &s.layer};
    static const char *const titles[] = {"own and future by position", "own and future by layer"};
    static const char *const x_names[] = {"position j", "input of layer; last: of the final norm"};
    for (size_t k = 0; k < 2 && !rc; k++)
        if (last[k]->K)
            add_own(&s, last[k], titles[k], x_names[k]);
    if (!rc) {
        bf_describe_model(&title, records[0]);
        bf_buf_text(&title, "profile of the flow");
        rc = title.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a title")
                          : bf_vega_write_charts(s.chart, s.n_charts,
                                                 style->look.title ? style->look.title : title.data,
                                                 path, err);
    }
    bf_buf_free(&title);
    bf_curves_free(&s.lag);
    bf_curves_free(&s.reach);
    bf_curves_free(&s.position);
    bf_curves_free(&s.layer);
    free(s.lines);
    free(s.names);
    return rc;
}
