/* kept, kept_gap: results of training, made by `backflow verify --full`, one small JSON file a
 * unit:
 * {"group": "sine-full", "seed": 1, "results": {"loss": 0.01, "curve": [..]}, "command": .., ...}.
 */
#include "tracer/measure.h"

#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/files.h"

enum { MOST_UNITS = 1000, FILE_LIMIT = 1 << 20 };

/* ---- reading the folder */

typedef struct {
    size_t seed;
    bf_json *json;
} unit;

typedef struct {
    unit *unit; /* by seed */
    size_t n;
} units;

static void units_free(units *u)
{
    for (size_t k = 0; k < u->n; k++)
        bf_json_free(u->unit[k].json);
    free(u->unit);
}

static int by_seed(const void *a, const void *b)
{
    const unit *x = a, *y = b;
    return x->seed < y->seed ? -1 : x->seed > y->seed;
}

static bf_code read_unit(units *u, const char *folder, const char *name, const char *group,
                         bf_error *err)
{
    const size_t n = strlen(name);
    char found[80];
    bf_json *json = NULL;
    size_t seed = 0;
    if (n < 6 || strcmp(name + n - 5, ".json") != 0 || name[0] == '.')
        return BF_OK;
    char *path = bf_path_join(folder, name);
    bf_code rc = path ? bf_json_read(&json, path, FILE_LIMIT, err)
                      : bf_fail(err, BF_ENOMEM, "cannot hold a path");
    const char *is = rc ? NULL : bf_json_string(bf_json_get(json, "group"));
    if (!rc && is && strcmp(is, group) == 0) {
        if (!bf_json_size(bf_json_get(json, "seed"), &seed))
            rc = bf_fail(err, BF_EFORMAT, "%.300s: /seed: %s, wanted a whole number", path,
                         bf_json_describe(bf_json_get(json, "seed"), found, sizeof found));
        else if (u->n == MOST_UNITS)
            rc = bf_fail(err, BF_EFORMAT, "%.300s: more than %d results of one group", folder,
                         MOST_UNITS);
        else
            u->unit[u->n++] = (unit){seed, json};
        json = rc ? json : NULL;
    }
    bf_json_free(json);
    free(path);
    return rc;
}

/* All units of a group; none if there is no such folder. */
static bf_code read_group(units *u, const char *folder, const char *group, bf_error *err)
{
    bf_code rc = BF_OK;
    DIR *dir = opendir(folder);
    *u = (units){.unit = calloc(MOST_UNITS, sizeof *u->unit)};
    if (!u->unit)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold kept results");
    for (struct dirent *d; dir && !rc && (d = readdir(dir));)
        rc = read_unit(u, folder, d->d_name, group, err);
    if (dir)
        closedir(dir);
    if (u->unit)
        qsort(u->unit, u->n, sizeof *u->unit, by_seed);
    return rc;
}

static const bf_json *value_of(const unit *u, const char *name)
{
    const bf_json *results = bf_json_get(u->json, "results");
    return results ? bf_json_get(results, name) : NULL;
}

/* Those units that have the number, in place; [n] numbers to x. */
static size_t gather(double *x, units *u, const char *name)
{
    size_t n = 0;
    for (size_t k = 0; k < u->n; k++) {
        double value;
        if (!bf_json_number(value_of(&u->unit[k], name), &value)) {
            bf_json_free(u->unit[k].json);
            continue;
        }
        u->unit[n] = u->unit[k];
        x[n++] = value;
    }
    u->n = n;
    return n;
}

static void say_missing(bf_reading *out, const char *group, const char *value)
{
    snprintf(out->missing, sizeof out->missing,
             "no kept result \"%.60s\" of %.80s (backflow verify --full makes them)", value, group);
}

/* ---- kept */

enum { P_GROUP, P_VALUE, P_CURVE, PARAMS };
static const bf_measure_param params[PARAMS] = {
    {"group", 0, 1, 1, "the group's name, a text", "of results that differ in their seed only"},
    {"value", 0, 1, 1, "the number's name, a text", "of \"results\""},
    {"curve", 0, 0, 1, "a list's name, a text", "of \"results\", for a figure"},
};
enum { MEAN, LEAST, MOST, SEEDS, RESULTS };
static const bf_measure_result results[RESULTS] = {
    [MEAN] = {"mean", "", "over seeds, with an interval by the bootstrap"},
    [LEAST] = {"least", "", "over seeds"},
    [MOST] = {"most", "", "over seeds"},
    [SEEDS] = {"seeds", "", "kept"},
};
static const bf_measure_result series[] = {
    {"by_seed", "", "the number, seed by seed"},
    {"curve", "", "the list, mean over seeds with the range of all"},
};

/* Mean and range over units of a list as long as the shortest. */
static bf_code read_curve(bf_series *out, const units *u, const char *name, bf_error *err)
{
    size_t length = SIZE_MAX;
    for (size_t k = 0; k < u->n; k++) {
        const bf_json *list = value_of(&u->unit[k], name);
        const size_t n = list && bf_json_kind(list) == BF_JSON_ARRAY ? bf_json_count(list) : 0;
        length = n < length ? n : length;
    }
    if (length == 0 || length == SIZE_MAX)
        return BF_OK;
    const bf_code rc = bf_series_new(out, 1, length, true, err);
    for (size_t k = 0; k < u->n && !rc; k++) {
        const bf_json *c = bf_json_first(value_of(&u->unit[k], name));
        for (size_t at = 0; at < length; at++, c = bf_json_next(c)) {
            double value = NAN;
            bf_json_number(c, &value);
            out->value[at] += value / (double)u->n;
            out->low[at] = k ? fmin(out->low[at], value) : value;
            out->high[at] = k ? fmax(out->high[at], value) : value;
        }
    }
    return rc;
}

static bf_code run(bf_reading *out, const bf_subject *s, bf_error *err)
{
    units u;
    double x[MOST_UNITS];
    bf_estimate e;
    bf_code rc = read_group(&u, s->results, s->word[P_GROUP], err);
    const size_t n = rc ? 0 : gather(x, &u, s->word[P_VALUE]);
    if (!rc && n == 0) {
        say_missing(out, s->word[P_GROUP], s->word[P_VALUE]);
    } else if (!rc) {
        rc = bf_bootstrap_mean(&e, x, n, 2000, s->seed, err);
        out->result[MEAN] = (bf_measured){e.mean, e.low, e.high, NAN};
        if (!rc)
            rc = bf_series_new(&out->series[0], 1, n, false, err);
        for (size_t k = 0; k < n && !rc; k++) {
            out->series[0].x[k] = (double)u.unit[k].seed;
            out->series[0].value[k] = x[k];
        }
        if (!rc && s->word[P_CURVE])
            rc = read_curve(&out->series[1], &u, s->word[P_CURVE], err);
        out->result[LEAST] = bf_plain(bf_quantile(x, n, 0.0));
        out->result[MOST] = bf_plain(bf_quantile(x, n, 1.0));
        out->result[SEEDS] = bf_plain((double)n);
    }
    units_free(&u);
    return rc;
}

const bf_measure bf_measure_kept = {
    {"kept", "a number that training gave, over seeds: kept by backflow verify --full", params,
     PARAMS, results, RESULTS, series, 2, true},
    run};

/* ---- kept_gap */

enum { G_A, G_B, G_VALUE, G_CURVE, GAP_PARAMS };
static const bf_measure_param gap_params[GAP_PARAMS] = {
    {"a", 0, 1, 1, "a group's name, a text", "the one"},
    {"b", 0, 1, 1, "a group's name, a text", "the other; pairs are made by seed"},
    {"value", 0, 1, 1, "the number's name, a text", "of \"results\""},
    {"curve", 0, 0, 1, "a list's name, a text", "of \"results\", for a figure"},
};
enum { DIFFERENCE, RATIO, PAIRS, GAP_RESULTS };
static const bf_measure_result gap_results[GAP_RESULTS] = {
    [DIFFERENCE] = {"difference", "",
                    "a - b, mean over seeds with an interval by the bootstrap; p by random signs "
                    "(null: 0; with 5 seeds it cannot be below 1/16)"},
    [RATIO] = {"ratio", "", "a / b, mean over seeds with an interval by the bootstrap"},
    [PAIRS] = {"seeds", "", "that both groups have"},
};
static const bf_measure_result gap_series[] = {
    {"curve", "", "the list's a - b, means over seeds"},
};

/* Differences and ratios of the seeds that both have. */
static size_t pair_up(double *difference, double *ratio, const units *a, const double *x,
                      const units *b, const double *y)
{
    size_t n = 0;
    for (size_t k = 0, m = 0; k < a->n && m < b->n;) {
        if (a->unit[k].seed != b->unit[m].seed) {
            *(a->unit[k].seed < b->unit[m].seed ? &k : &m) += 1;
            continue;
        }
        difference[n] = x[k] - y[m];
        ratio[n++] = x[k] / y[m];
        k++;
        m++;
    }
    return n;
}

/* Mean of a's lists less that of b's, as far as both go. */
static bf_code subtract_curves(bf_series *out, const units *a, const units *b, const char *name,
                               bf_error *err)
{
    bf_series x = {0}, y = {0};
    bf_code rc = read_curve(&x, a, name, err);
    if (!rc)
        rc = read_curve(&y, b, name, err);
    const size_t n = x.columns < y.columns ? x.columns : y.columns;
    if (!rc && n)
        rc = bf_series_new(out, 1, n, false, err);
    for (size_t k = 0; k < n && !rc; k++)
        out->value[k] = x.value[k] - y.value[k];
    bf_series_free(&x);
    bf_series_free(&y);
    return rc;
}

static bf_code run_gap(bf_reading *out, const bf_subject *s, bf_error *err)
{
    units a, b = {0};
    double x[MOST_UNITS], y[MOST_UNITS];
    bf_estimate e;
    bf_code rc = read_group(&a, s->results, s->word[G_A], err);
    if (!rc)
        rc = read_group(&b, s->results, s->word[G_B], err);
    double *difference = calloc(2 * MOST_UNITS, sizeof *difference);
    if (!rc && !difference)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold kept results");
    if (!rc) {
        double *ratio = difference + MOST_UNITS;
        const size_t na = gather(x, &a, s->word[G_VALUE]), nb = gather(y, &b, s->word[G_VALUE]);
        const size_t n = pair_up(difference, ratio, &a, x, &b, y);
        if (n == 0) {
            say_missing(out, na ? nb ? "one seed in both groups" : s->word[G_B] : s->word[G_A],
                        s->word[G_VALUE]);
        } else {
            rc = bf_bootstrap_mean(&e, difference, n, 2000, s->seed, err);
            const double p = n >= 5 ? bf_sign_test(difference, n, 4999, s->seed) : NAN;
            out->result[DIFFERENCE] = (bf_measured){e.mean, e.low, e.high, p};
            if (!rc)
                rc = bf_bootstrap_mean(&e, ratio, n, 2000, s->seed, err);
            out->result[RATIO] = (bf_measured){e.mean, e.low, e.high, NAN};
            out->result[PAIRS] = bf_plain((double)n);
            if (!rc && s->word[G_CURVE])
                rc = subtract_curves(&out->series[0], &a, &b, s->word[G_CURVE], err);
        }
    }
    free(difference);
    units_free(&a);
    units_free(&b);
    return rc;
}

const bf_measure bf_measure_kept_gap = {
    {"kept_gap",
     "a number that training gave in two groups, pair by pair: kept by backflow verify --full",
     gap_params, GAP_PARAMS, gap_results, GAP_RESULTS, gap_series, 1, true},
    run_gap};
