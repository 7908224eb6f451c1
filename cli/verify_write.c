/* The answers as a page in Markdown, with figures in the folder claims/ beside it. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "backflow/plot.h"
#include "cli/verify.h"

enum { MOST_CURVES = 24 };

/* ---- figures */

/* What a figure borrows from what was decided, and owns of it. */
typedef struct {
    bf_plot_curve curve[MOST_CURVES];
    char *name[MOST_CURVES];
    double *own[2 * MOST_CURVES];
    size_t n, n_own;
} curves;

static void curves_free(curves *c)
{
    for (size_t k = 0; k < MOST_CURVES; k++)
        free(c->name[k]);
    for (size_t k = 0; k < c->n_own; k++)
        free(c->own[k]);
}

static double *take_values(curves *c, const bf_decided *d, const char *name, size_t n)
{
    double *values = calloc(n + 1, sizeof *values);
    bf_measured m;
    for (size_t r = 0; values && r < n; r++)
        values[r] = bf_claim_value(&m, d, name, r) ? m.value : NAN;
    if (values)
        c->own[c->n_own++] = values;
    return values;
}

/* A result over its readings is one curve; a series is one for each reading. False: no memory. */
static bool add_curves(curves *c, const bf_decided *d, const char *y, const char *x,
                       const char *name)
{
    const size_t readings = bf_claim_readings(d, y);
    bf_measured unused;
    if (c->n < MOST_CURVES && bf_claim_value(&unused, d, y, 0)) {
        bf_plot_curve *to = &c->curve[c->n++];
        bf_buf axis = {0};
        bf_buf_printf(&axis, "%.*s.%s", (int)strcspn(y, "."), y, x ? x : "");
        double *value = take_values(c, d, y, readings),
               *at = x && !axis.failed ? take_values(c, d, axis.data, readings) : NULL;
        bf_buf_free(&axis);
        *to = (bf_plot_curve){.name = name, .n = readings, .x = at ? at : value, .y = value};
        return value && (at || !x);
    }
    for (size_t r = 0; r < readings && c->n < MOST_CURVES; r++) {
        const bf_series *s = bf_claim_series(d, y, r);
        if (!s)
            continue;
        bf_buf label = {0};
        const char *model = NULL;
        for (size_t e = 0; e < d->n_entries; e++)
            if (strncmp(d->entries[e].name, y, strlen(d->entries[e].name)) == 0 &&
                y[strlen(d->entries[e].name)] == '.')
                model = d->entries[e].readings[r].model;
        bf_buf_text(&label, name && readings == 1 ? name : model ? model : "");
        c->name[c->n] = label.data;
        c->curve[c->n] = (bf_plot_curve){.name = label.data,
                                         .n = s->columns,
                                         .x = s->x,
                                         .y = s->value,
                                         .low = s->rows == 1 ? s->low : NULL,
                                         .high = s->rows == 1 ? s->high : NULL};
        c->n++;
        if (label.failed)
            return false;
    }
    return true;
}

/* *drawn false: what it would show was not measured. */
static bf_code draw_figure(bool *drawn, const verify_one *one, size_t k, const char *path,
                           bf_error *err)
{
    const bf_claim *claim = one->claim;
    curves c = {.n = 0};
    const char *y, *rows[MOST_CURVES] = {NULL};
    bool ok = true;
    bf_plot plot = {.title = bf_claim_figure_word(claim, k, "title", 0),
                    .note = bf_claim_figure_word(claim, k, "caption", 0),
                    .x_name = bf_claim_figure_word(claim, k, "x_name", 0),
                    .y_name = bf_claim_figure_word(claim, k, "y_name", 0),
                    .x_log = bf_claim_figure_word(claim, k, "x_log", 0) != NULL,
                    .y_log = bf_claim_figure_word(claim, k, "y_log", 0) != NULL};
    if (strcmp(bf_claim_figure_word(claim, k, "kind", 0), "table") == 0) {
        const bf_series *s = bf_claim_series(one->decided, bf_claim_figure_word(claim, k, "y", 0),
                                             0);
        if (s) {
            plot.rows = s->rows;
            plot.columns = s->columns;
            plot.table = s->value;
            for (size_t n = 0; n < MOST_CURVES && n < s->rows; n++)
                rows[n] = bf_claim_figure_word(claim, k, "names", n);
            plot.row_names = s->rows <= MOST_CURVES && rows[s->rows - 1] ? rows : NULL;
        }
    } else {
        for (size_t n = 0; (y = bf_claim_figure_word(claim, k, "y", n)) && ok; n++)
            ok = add_curves(&c, one->decided, y, bf_claim_figure_word(claim, k, "x", 0),
                            bf_claim_figure_word(claim, k, "names", n));
        plot.n_curves = c.n;
        plot.curves = c.curve;
    }
    *drawn = plot.table || c.n;
    const bf_code rc = !ok      ? bf_fail(err, BF_ENOMEM, "cannot hold a figure")
                       : *drawn ? bf_render_plot(&plot, path, err)
                                : BF_OK;
    curves_free(&c);
    return rc;
}

/* ---- words */

/* Text for Markdown: what would begin a tag, a link, a table or a list is escaped. */
static void put_text(bf_buf *to, const char *text)
{
    for (; *text; text++) {
        if (strchr("\\`*_[]<>|#", *text))
            bf_buf_text(to, "\\");
        bf_buf_bytes(to, *text == '\n' ? " " : text, 1);
    }
}

static void put_paragraph(bf_buf *to, const char *head, const char *text)
{
    if (!text || !*text)
        return;
    bf_buf_printf(to, "%s", head);
    put_text(to, text);
    bf_buf_text(to, "\n\n");
}

static void put_measured(bf_buf *to, const bf_measured *m)
{
    bf_buf_printf(to, "%.4g", m->value);
    if (!isnan(m->low))
        bf_buf_printf(to, " [%.4g, %.4g]", m->low, m->high);
    if (!isnan(m->p))
        bf_buf_printf(to, ", p = %.2g", m->p);
}

/* One line a reading: all its numbers. */
static void put_evidence(bf_buf *to, const bf_decided *d)
{
    bf_buf_text(to, "<details><summary>Numbers</summary>\n\n");
    for (size_t e = 0; e < d->n_entries; e++) {
        const bf_entry_found *f = &d->entries[e];
        bf_buf_printf(to, "- `%s` (%s)\n", f->name, f->measure->name);
        for (size_t r = 0; r < f->n_readings; r++) {
            bf_buf_text(to, "  - ");
            put_text(to, f->readings[r].model);
            bf_buf_text(to, ": ");
            if (f->readings[r].missing[0])
                put_text(to, f->readings[r].missing);
            for (size_t k = 0; k < f->measure->n_results && !f->readings[r].missing[0]; k++) {
                bf_buf_printf(to, "%s%s ", k ? "; " : "", f->measure->results[k].name);
                put_measured(to, &f->readings[r].result[k]);
            }
            bf_buf_text(to, "\n");
        }
    }
    bf_buf_printf(to, "\n%s</details>\n\n",
                  d->n_tests > 1 ? "p-values are corrected for the tests of this claim (Holm). "
                                 : "");
}

static bf_code put_figures(bf_buf *to, const verify_one *one, const char *folder, bf_error *err)
{
    bf_code rc = BF_OK;
    for (size_t k = 0; k < bf_claim_figures(one->claim) && !rc; k++) {
        bf_buf path = {0};
        char *caption = NULL;
        bool drawn = false;
        bf_buf_printf(&path, "%s/%s-%zu.svg", folder, bf_claim_id(one->claim), k + 1);
        rc = path.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path")
                         : draw_figure(&drawn, one, k, path.data, err);
        if (!rc)
            rc = bf_claim_fill(&caption, one->decided,
                               bf_claim_figure_word(one->claim, k, "caption", 0), err);
        if (!rc && drawn) {
            bf_buf_text(to, "![");
            put_text(to, bf_claim_figure_word(one->claim, k, "title", 0));
            bf_buf_printf(to, "](claims/%s-%zu.svg)\n\n", bf_claim_id(one->claim), k + 1);
            put_paragraph(to, "", caption);
        }
        free(caption);
        bf_buf_free(&path);
    }
    return rc;
}

static bf_code put_cell(bf_buf *to, const verify_one *one, const char *template, bf_error *err)
{
    char *words = NULL;
    const bf_code rc = bf_claim_fill(&words, one->decided, template, err);
    bf_buf_text(to, "| ");
    put_text(to, words ? words : "");
    bf_buf_text(to, " ");
    free(words);
    return rc;
}

static bf_code put_table(bf_buf *to, const verify_one *one, size_t k, bf_error *err)
{
    const char *cell;
    bf_code rc = BF_OK;
    put_paragraph(to, "", bf_claim_table_title(one->claim, k));
    for (size_t row = 0; bf_claim_table_cell(one->claim, k, row, 0) && !rc; row++) {
        size_t n = 0;
        while ((cell = bf_claim_table_cell(one->claim, k, row, n)) && !rc) {
            rc = put_cell(to, one, cell, err);
            n++;
        }
        bf_buf_text(to, "|\n");
        for (size_t c = 0; row == 0 && c < n; c++)
            bf_buf_text(to, c + 1 < n ? "|---" : "|---|\n");
    }
    bf_buf_text(to, "\n");
    return rc;
}

static void put_head(bf_buf *to, const verify_run *run)
{
    bf_buf_text(
        to,
        "# Thirteen claims about gradient flow\n\n"
        "Made by `backflow verify --write`; every number is measured when the page is made, or "
        "read from "
        "results of training that `backflow verify --full` made and `examples/claims/results/` "
        "keeps "
        "(with command, machine and time). Ranges (a to b) are over models, brackets are 95 % "
        "bootstrap "
        "intervals over texts or seeds. *Structural* zeros are never written by the walk; "
        "*underflow* is "
        "a number at the stated floor or below it. The claims, measures and predicates are files: "
        "`examples/claims/`. The models are small: what is measured on them is no law of large "
        "ones.\n\n"
        "| | claim | verdict |\n|---|---|---|\n");
    for (size_t k = 0; k < run->n; k++) {
        const bf_decided *d = run->one[k].decided;
        bf_buf_printf(to, "| [%s](#%s) | ", bf_claim_id(run->one[k].claim),
                      bf_claim_id(run->one[k].claim));
        put_text(to, bf_claim_word(run->one[k].claim, "claim"));
        bf_buf_printf(to, " | **%s**%s", bf_verdict_name(d->verdict), d->condition[0] ? ": " : "");
        put_text(to, d->condition);
        bf_buf_text(to, " |\n");
    }
    bf_buf_text(to, "\n");
}

static bf_code put_claim(bf_buf *to, const verify_one *one, const char *folder, bf_error *err)
{
    const bf_decided *d = one->decided;
    bf_buf_printf(to, "## <a id=\"%s\"></a>%s. ", bf_claim_id(one->claim), bf_claim_id(one->claim));
    put_paragraph(to, "", bf_claim_word(one->claim, "claim"));
    put_paragraph(to, "", bf_claim_word(one->claim, "plain"));
    put_paragraph(to, "**Would be refuted** if ", bf_claim_word(one->claim, "refuted_if"));
    bf_buf_printf(to, "**Verdict: %s**%s", bf_verdict_name(d->verdict),
                  d->condition[0] ? ", " : "");
    put_text(to, d->condition);
    if (d->judged && d->surprising)
        bf_buf_printf(to, " (expected was: %s)", bf_verdict_name(d->expected));
    bf_buf_text(to, ".\n\n");
    put_paragraph(to, d->verdict == BF_VERDICT_OPEN ? "Not decided: " : "", d->answer);
    bf_code rc = BF_OK;
    for (size_t k = 0; k < bf_claim_tables(one->claim) && !rc; k++)
        rc = put_table(to, one, k, err);
    if (!rc)
        rc = put_figures(to, one, folder, err);
    put_paragraph(to, "*Exact:* ", bf_claim_word(one->claim, "exact"));
    put_paragraph(to, "*Open:* ", bf_claim_word(one->claim, "open"));
    put_evidence(to, d);
    return rc;
}

bf_code verify_write_page(const verify_run *run, bf_error *err)
{
    bf_buf to = {0}, folder = {0};
    const char *slash = strrchr(run->write, '/');
    bf_buf_printf(&folder, "%.*sclaims", slash ? (int)(slash + 1 - run->write) : 0, run->write);
    bf_code rc = folder.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a path") : BF_OK;
    if (!rc && mkdir(folder.data, 0777) != 0 && errno != EEXIST)
        rc = bf_fail(err, BF_EIO, "%.300s: cannot make the folder: %s", folder.data,
                     strerror(errno));
    put_head(&to, run);
    for (size_t k = 0; k < run->n && !rc; k++)
        rc = put_claim(&to, &run->one[k], folder.data, err);
    if (!rc)
        rc = to.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the page")
                       : bf_file_write(run->write, to.data, to.len, err);
    bf_buf_free(&to);
    bf_buf_free(&folder);
    return rc;
}
