/* What a claim wants to be shown: figures, and tables of numbers beside others' numbers. */
#include "tracer/claim.h"

#include <string.h>

/* ---- figures */

static bf_code check_curve(const bf_claim *claim, const bf_json *name, const bf_place *place,
                           bf_error *err)
{
    size_t entry, k;
    bool series;
    const char *word = bf_json_string(name);
    if (!word || !bf_claim_lookup(&entry, &k, &series, claim, word))
        return bf_place_fail(err, place,
                             "\"%.60s\" names no series or result of the measures above",
                             word ? word : "(no string)");
    return BF_OK;
}

/* Does the measure of the curve `y` have a result of that name, too? */
static bool has_axis(const bf_claim *claim, const char *y, const char *x)
{
    size_t entry, k;
    bool series;
    if (!bf_claim_lookup(&entry, &k, &series, claim, y) || series)
        return false;
    const bf_measure_info *m = claim->entry[entry].measure;
    for (k = 0; k < m->n_results; k++)
        if (strcmp(m->results[k].name, x) == 0)
            return true;
    return false;
}

static bf_code check_curves(const bf_claim *claim, const bf_json *figure, const bf_place *place,
                            bf_error *err)
{
    const bf_json *y = bf_json_get(figure, "y"), *names = bf_json_get(figure, "names");
    const char *x = bf_json_string(bf_json_get(figure, "x")),
               *kind = bf_json_string(bf_json_get(figure, "kind"));
    const bf_place at_x = bf_place_in(place, "x", 0), at_y = bf_place_in(place, "y", 0);
    const bool table = strcmp(kind, "table") == 0;
    bf_code rc = BF_OK;
    if (!bf_json_first(y) || (!table && names && bf_json_count(names) != bf_json_count(y)))
        return bf_place_fail(err, &at_y,
                             "%zu curves and %zu names, wanted at least one, and a name each",
                             bf_json_count(y), names ? bf_json_count(names) : 0);
    for (const bf_json *c = bf_json_first(y); c && !rc; c = bf_json_next(c)) {
        rc = check_curve(claim, c, &at_y, err);
        if (!rc && x && !has_axis(claim, bf_json_string(c), x))
            rc = bf_place_fail(err, &at_x, "\"%.60s\" is no result of the measure of %.80s", x,
                               bf_json_string(c));
    }
    return rc;
}

static bf_code check_figure(const bf_claim *claim, const bf_json *figure, const bf_place *place,
                            bf_error *err)
{
    bf_code rc = bf_shape_check(figure, &bf_claim_shapes[BF_SHAPE_FIGURE], place, err);
    if (rc)
        return rc;
    const char *kind = bf_json_string(bf_json_get(figure, "kind"));
    const bf_place at_kind = bf_place_in(place, "kind", 0),
                   at_words = bf_place_in(place, "caption", 0);
    if (strcmp(kind, "lines") != 0 && strcmp(kind, "table") != 0)
        return bf_place_fail(err, &at_kind, "\"%.40s\", wanted lines or table", kind);
    rc = check_curves(claim, figure, place, err);
    return rc ? rc
              : bf_template_check(bf_json_string(bf_json_get(figure, "caption")), claim, &at_words,
                                  err);
}

bf_code bf_claim_check_figures(bf_claim *claim, const bf_place *top, bf_error *err)
{
    const bf_place list = bf_place_in(top, "figures", 0);
    bf_code rc = BF_OK;
    size_t k = 0;
    claim->figures = bf_json_get(claim->json, "figures");
    for (const bf_json *c = claim->figures ? bf_json_first(claim->figures) : NULL; c && !rc;
         c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&list, NULL, k);
        rc = check_figure(claim, c, &here, err);
    }
    return rc;
}

/* ---- tables */

static bf_code check_cells(const bf_claim *claim, const bf_json *row, size_t columns,
                           const bf_place *place, bf_error *err)
{
    bf_code rc = BF_OK;
    size_t k = 0;
    if (bf_json_kind(row) != BF_JSON_ARRAY || bf_json_count(row) != columns)
        return bf_place_fail(err, place, "wanted a list of %zu cells, one for each column", columns);
    for (const bf_json *c = bf_json_first(row); c && !rc; c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(place, NULL, k);
        rc = bf_json_string(c) ? bf_template_check(bf_json_string(c), claim, &here, err)
                               : bf_place_fail(err, &here, "wanted a string");
    }
    return rc;
}

static bf_code check_table(const bf_claim *claim, const bf_json *table, const bf_place *place,
                           bf_error *err)
{
    const bf_place head = bf_place_in(place, "columns", 0), list = bf_place_in(place, "rows", 0);
    const bf_json *columns = bf_json_get(table, "columns"), *rows = bf_json_get(table, "rows");
    bf_code rc = bf_shape_check(table, &bf_claim_shapes[BF_SHAPE_TABLE], place, err);
    size_t k = 0;
    if (!rc && !bf_json_first(columns))
        rc = bf_place_fail(err, &head, "empty, wanted at least one column");
    if (!rc)
        rc = check_cells(claim, columns, bf_json_count(columns), &head, err);
    for (const bf_json *c = rc ? NULL : bf_json_first(rows); c && !rc; c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&list, NULL, k);
        rc = check_cells(claim, c, bf_json_count(columns), &here, err);
    }
    return rc;
}

bf_code bf_claim_check_tables(const bf_claim *claim, const bf_place *top, bf_error *err)
{
    const bf_place list = bf_place_in(top, "tables", 0);
    const bf_json *tables = bf_json_get(claim->json, "tables");
    bf_code rc = BF_OK;
    size_t k = 0;
    for (const bf_json *c = tables ? bf_json_first(tables) : NULL; c && !rc;
         c = bf_json_next(c), k++) {
        const bf_place here = bf_place_in(&list, NULL, k);
        rc = check_table(claim, c, &here, err);
    }
    return rc;
}

/* ---- what they say */

static const bf_json *child(const bf_json *list, size_t k)
{
    const bf_json *c = list ? bf_json_first(list) : NULL;
    while (c && k--)
        c = bf_json_next(c);
    return c;
}

size_t bf_claim_figures(const bf_claim *claim)
{
    return claim->figures ? bf_json_count(claim->figures) : 0;
}

const char *bf_claim_figure_word(const bf_claim *claim, size_t k, const char *field, size_t n)
{
    const bf_json *figure = child(claim->figures, k),
                  *value = figure ? bf_json_get(figure, field) : NULL;
    if (value && bf_json_kind(value) == BF_JSON_ARRAY)
        return bf_json_string(child(value, n));
    if (value && bf_json_kind(value) == BF_JSON_BOOL)
        return bf_json_true(value) && n == 0 ? "true" : NULL;
    return value && n == 0 ? bf_json_string(value) : NULL;
}

size_t bf_claim_tables(const bf_claim *claim)
{
    const bf_json *tables = bf_json_get(claim->json, "tables");
    return tables ? bf_json_count(tables) : 0;
}

const char *bf_claim_table_title(const bf_claim *claim, size_t k)
{
    return bf_json_string(bf_json_get(child(bf_json_get(claim->json, "tables"), k), "title"));
}

const char *bf_claim_table_cell(const bf_claim *claim, size_t k, size_t row, size_t column)
{
    const bf_json *table = child(bf_json_get(claim->json, "tables"), k),
                  *cells = row ? child(bf_json_get(table, "rows"), row - 1)
                               : bf_json_get(table, "columns"),
                  *cell = cells ? child(cells, column) : NULL;
    return cell ? bf_json_string(cell) : NULL;
}
