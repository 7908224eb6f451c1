/* Templates: {entry.result} becomes a number with its interval, over several models a range. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tracer/claim.h"

enum { NAME = 96 };

/* The next {name} or {name:%} from text on: where it starts, what follows it; NULL: none.
 * *fault: an opened brace that holds no name. */
static const char *next_name(char name[NAME], char *style, const char **behind, const char *text,
                             bool *fault)
{
    const char *open = strchr(text, '{'), *close = open ? strchr(open, '}') : NULL;
    *fault = open && (!close || close - open < 2 || close - open >= NAME);
    if (!open || *fault)
        return NULL;
    snprintf(name, NAME, "%.*s", (int)(close - open - 1), open + 1);
    char *colon = strchr(name, ':');
    *style = colon ? colon[1] : '\0';
    *fault = colon && strcmp(colon + 1, "%") != 0;
    if (colon)
        *colon = '\0';
    *behind = close + 1;
    return open;
}

bf_code bf_template_check(const char *text, const bf_claim *claim, const bf_place *place,
                          bf_error *err)
{
    char name[NAME], style;
    const char *behind = text;
    size_t e, k;
    bool fault;
    while (next_name(name, &style, &behind, behind, &fault))
        if (!bf_claim_lookup(&e, &k, NULL, claim, name))
            return bf_place_fail(err, place, "{%s} names no result of the measures above", name);
    return fault ? bf_place_fail(err, place,
                                 "wanted {measure.result} or {measure.result:%%} where a "
                                 "brace opens")
                 : BF_OK;
}

static void put_number(bf_buf *to, double value, char style)
{
    if (style == '%')
        value *= 100.0;
    const double size = fabs(value);
    if (isnan(value))
        bf_buf_text(to, "unknown");
    else if (value == floor(value) && size < 1e6)
        bf_buf_printf(to, "%.0f", value);
    else if (size >= 100.0 && size < 1e5)
        bf_buf_printf(to, "%.0f", value);
    else
        bf_buf_printf(to, "%.3g", value);
}

static void put_measured(bf_buf *to, const bf_measured *m, char style)
{
    put_number(to, m->value, style);
    if (isfinite(m->low) && isfinite(m->high)) {
        bf_buf_text(to, " [");
        put_number(to, m->low, style);
        bf_buf_text(to, ", ");
        put_number(to, m->high, style);
        bf_buf_text(to, "]");
    }
    bf_buf_text(to, style == '%' ? " %" : "");
}

/* One reading as it is; of several the range, or the one number that all have. */
static void put_result(bf_buf *to, const bf_decided *d, const char *name, char style)
{
    const size_t n = bf_claim_readings(d, name);
    bf_measured m, least = {NAN, NAN, NAN, NAN}, most = least;
    size_t known = 0;
    for (size_t r = 0; r < n; r++)
        if (bf_claim_value(&m, d, name, r) && !isnan(m.value)) {
            least = known == 0 || m.value < least.value ? m : least;
            most = known == 0 || m.value > most.value ? m : most;
            known++;
        }
    if (known == 0) {
        bf_buf_text(to, "(not measured)");
    } else if (known == 1 || least.value == most.value) {
        put_measured(to, &least, style);
    } else {
        put_number(to, least.value, style);
        bf_buf_text(to, " to ");
        put_number(to, most.value, style);
        bf_buf_text(to, style == '%' ? " %" : "");
    }
}

bf_code bf_claim_fill(char **out, const bf_decided *decided, const char *text, bf_error *err)
{
    char name[NAME], style;
    bf_buf to = {0};
    bool fault;
    const char *behind = text;
    bf_buf_text(&to, "");
    for (const char *at; (at = next_name(name, &style, &behind, text, &fault)); text = behind) {
        bf_buf_bytes(&to, text, (size_t)(at - text));
        put_result(&to, decided, name, style);
    }
    bf_buf_text(&to, text);
    if (to.failed) {
        bf_buf_free(&to);
        return bf_fail(err, BF_ENOMEM, "cannot hold an answer");
    }
    *out = to.data;
    return BF_OK;
}

/* ---- names among what was found */

static const bf_entry_found *find_entry(const bf_decided *d, const char *name, const char **rest)
{
    const char *dot = strchr(name, '.');
    for (size_t e = 0; dot && e < d->n_entries; e++) {
        const size_t n = strlen(d->entries[e].name);
        if (n == (size_t)(dot - name) && strncmp(d->entries[e].name, name, n) == 0) {
            *rest = dot + 1;
            return &d->entries[e];
        }
    }
    return NULL;
}

static size_t find_name(const bf_measure_result *list, size_t n, const char *name)
{
    size_t k = 0;
    while (k < n && strcmp(list[k].name, name) != 0)
        k++;
    return k;
}

size_t bf_claim_readings(const bf_decided *decided, const char *name)
{
    const char *rest;
    const bf_entry_found *e = find_entry(decided, name, &rest);
    return e ? e->n_readings : 0;
}

bool bf_claim_value(bf_measured *out, const bf_decided *decided, const char *name, size_t reading)
{
    const char *rest;
    const bf_entry_found *e = find_entry(decided, name, &rest);
    if (!e || reading >= e->n_readings)
        return false;
    const size_t k = find_name(e->measure->results, e->measure->n_results, rest);
    if (k == e->measure->n_results)
        return false;
    *out = e->readings[reading].result[k];
    return true;
}

const bf_series *bf_claim_series(const bf_decided *decided, const char *name, size_t reading)
{
    const char *rest;
    const bf_entry_found *e = find_entry(decided, name, &rest);
    if (!e || reading >= e->n_readings)
        return NULL;
    const size_t k = find_name(e->measure->series, e->measure->n_series, rest);
    if (k == e->measure->n_series || !e->readings[reading].series[k].value)
        return NULL;
    return &e->readings[reading].series[k];
}
