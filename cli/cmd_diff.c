/* backflow diff: do two records hold the same numbers? */
#include "cli/cli.h"

#include <math.h>
#include <string.h>

static const char notes[] =
    "Tensor by tensor, in the first record's order: shape and type, how many values differ, the\n"
    "largest difference, and the largest of |a - b| / max(|a|, |b|), each with its place. Without\n"
    "--tolerance any two values that are not the same bits apart from the sign of 0 differ (NaN\n"
    "equals NaN); with it, those with |a - b| > E * max(1, |a|, |b|). Types may then differ, and "
    "integers\n"
    "must still be equal. Of the metadata, only the tokens' strings are compared.\n"
    "Exit: 0 equal, 1 they differ, 2 misused or failed.\n"
    "\n"
    "examples:\n"
    "  backflow diff before.safetensors after.safetensors\n"
    "  backflow diff f32.safetensors f64.safetensors --tolerance 1e-4 --json\n";

/* What became of one tensor. */
typedef enum { SAME, DIFFERS, OTHER_SHAPE, OTHER_TYPE, ONLY_FIRST, ONLY_SECOND } verdict;

typedef struct {
    const bf_tensor *a, *b;
    verdict verdict;
    size_t count;                   /* values that differ */
    double absolute, relative;      /* the largest */
    size_t at_absolute, at_relative; /* where */
} comparison;

static const char *const verdicts[] = {
    [SAME] = "equal",           [DIFFERS] = "differs",       [OTHER_SHAPE] = "other shape",
    [OTHER_TYPE] = "other type", [ONLY_FIRST] = "only in A", [ONLY_SECOND] = "only in B"};

static bool same_shape(const bf_tensor *a, const bf_tensor *b)
{
    bool same = a->rank == b->rank;
    for (size_t k = 0; same && k < a->rank; k++)
        same = a->dim[k] == b->dim[k];
    return same;
}

/* tolerance < 0: any difference counts. */
static bool values_differ(double x, double y, double tolerance)
{
    if (isnan(x) || isnan(y))
        return isnan(x) != isnan(y);
    if (x == y)
        return false;
    return tolerance < 0 || !(fabs(x - y) <= tolerance * fmax(1, fmax(fabs(x), fabs(y))));
}

static void note_largest(comparison *c, double x, double y, size_t k)
{
    const double size = fmax(fabs(x), fabs(y)), apart = fabs(x - y);
    const double absolute = isnan(apart) ? INFINITY : apart;
    const double relative = isfinite(apart) ? apart / size : INFINITY;
    if (absolute > c->absolute) {
        c->absolute = absolute;
        c->at_absolute = k;
    }
    if (relative > c->relative) {
        c->relative = relative;
        c->at_relative = k;
    }
}

/* i64 are compared as the integers that they are: beyond 2^53, two may be one double. */
static bool integers_differ(const comparison *c, size_t k)
{
    return c->a->dtype == BF_I64 && c->b->dtype == BF_I64 &&
           memcmp((const char *)c->a->data + 8 * k, (const char *)c->b->data + 8 * k, 8) != 0;
}

static comparison compare(const bf_tensor *a, const bf_tensor *b, double tolerance)
{
    comparison c = {.a = a, .b = b};
    if (!a || !b)
        c.verdict = a ? ONLY_FIRST : ONLY_SECOND;
    else if (!same_shape(a, b))
        c.verdict = OTHER_SHAPE;
    else if (tolerance < 0 && a->dtype != b->dtype)
        c.verdict = OTHER_TYPE;
    if (c.verdict != SAME)
        return c;
    if (a->dtype == BF_I64 && b->dtype == BF_I64)
        tolerance = -1; /* ids and indices */
    for (size_t k = 0; k < bf_tensor_count(a); k++) {
        const double x = bf_tensor_value(a, k), y = bf_tensor_value(b, k);
        if ((x == y || (isnan(x) && isnan(y))) && !integers_differ(&c, k))
            continue;
        note_largest(&c, x, y, k);
        c.count += values_differ(x, y, tolerance) || (tolerance < 0 && integers_differ(&c, k));
    }
    c.verdict = c.count ? DIFFERS : SAME;
    return c;
}

/* ---- words */

/* "[0,3,2]": the place of value k. */
static void place(char to[120], const bf_tensor *t, size_t k)
{
    size_t at[BF_MAX_RANK] = {0}, used = 0;
    for (size_t d = t->rank; d-- > 0;) {
        at[d] = k % t->dim[d];
        k /= t->dim[d];
    }
    to[0] = '\0';
    for (size_t d = 0; d < t->rank; d++)
        used += (size_t)snprintf(to + used, 120 - used, "%s%zu", d ? "," : "", at[d]);
}

static void print_shape(const bf_tensor *t)
{
    printf("%s [", bf_dtype_name(t->dtype));
    for (size_t k = 0; k < t->rank; k++)
        printf("%s%zu", k ? "," : "", t->dim[k]);
    printf("]");
}

static void print_row(const comparison *c)
{
    const bf_tensor *t = c->a ? c->a : c->b;
    const size_t width = cli_visible_width(t->name);
    cli_print_visible(stdout, t->name);
    printf("%*s %-11s", width < 28 ? (int)(28 - width) : 0, "", verdicts[c->verdict]);
    if (c->verdict == OTHER_SHAPE || c->verdict == OTHER_TYPE) {
        printf("  ");
        print_shape(c->a);
        printf(" and ");
        print_shape(c->b);
    } else if (c->absolute > 0) {
        char at[2][120];
        place(at[0], t, c->at_absolute);
        place(at[1], t, c->at_relative);
        printf(" %9zu of %-9zu %10.3g at [%s], relative %.3g at [%s]", c->count, bf_tensor_count(t),
               c->absolute, at[0], c->relative, at[1]);
    }
    printf("\n");
}

static bf_code print_row_json(const comparison *c, bool first, bf_error *err)
{
    const bf_tensor *t = c->a ? c->a : c->b;
    printf("%s{\"name\": ", first ? "" : ", ");
    const bf_code rc = cli_print_json_string(t->name, err);
    printf(", \"verdict\": \"%s\"", verdicts[c->verdict]);
    if (c->verdict == SAME || c->verdict == DIFFERS) {
        char at[2][120];
        place(at[0], t, c->at_absolute);
        place(at[1], t, c->at_relative);
        printf(", \"values\": %zu, \"differ\": %zu, \"absolute\": ", bf_tensor_count(t), c->count);
        cli_print_json_number(c->absolute);
        printf(", \"relative\": ");
        cli_print_json_number(c->relative);
        if (c->absolute > 0)
            printf(", \"at_absolute\": [%s], \"at_relative\": [%s]", at[0], at[1]);
    }
    printf("}");
    return rc;
}

/* ---- the command */

static bool same_strings(const bf_record *a, const bf_record *b)
{
    bool same = bf_record_token_count(a) == bf_record_token_count(b);
    for (size_t k = 0; same && k < bf_record_token_count(a); k++)
        same = strcmp(bf_record_token(a, k), bf_record_token(b, k)) == 0;
    return same;
}

/* Every tensor of either record; *differ counts those that are not equal. */
static bf_code print_all(size_t *differ, const bf_record *a, const bf_record *b, double tolerance,
                         bool json, bf_error *err)
{
    bf_code rc = BF_OK;
    const size_t n = bf_record_count(a), m = bf_record_count(b);
    bool first = true;
    for (size_t k = 0; k < n + m && !rc; k++) {
        const bf_tensor *t = k < n ? bf_record_at(a, k) : bf_record_at(b, k - n);
        const bf_tensor *other = bf_record_find(k < n ? b : a, t->name);
        if (k >= n && other)
            continue;
        const comparison c = k < n ? compare(t, other, tolerance) : compare(NULL, t, tolerance);
        *differ += c.verdict != SAME;
        if (json)
            rc = print_row_json(&c, first, err);
        else
            print_row(&c);
        first = false;
        if (*cli_stop())
            rc = bf_fail(err, BF_EINTERRUPTED, "interrupted");
    }
    return rc;
}

static int diff(const char *const path[2], double tolerance, bool json)
{
    bf_error err = {0};
    bf_record *record[2] = {NULL};
    size_t differ = 0;
    bf_code rc = bf_record_open(&record[0], path[0], &err);
    if (!rc)
        rc = bf_record_open(&record[1], path[1], &err);
    const bool strings = !rc && same_strings(record[0], record[1]);
    if (!rc && json)
        printf("{\"same_token_strings\": %s, \"tensors\": [", strings ? "true" : "false");
    else if (!rc)
        printf("%-28s %-11s %9s    %-9s %10s\n", "tensor", "", "differ", "values", "largest");
    if (!rc)
        rc = print_all(&differ, record[0], record[1], tolerance, json, &err);
    const bool equal = !differ && strings;
    if (!rc && json)
        printf("], \"equal\": %s}\n", equal ? "true" : "false");
    else if (!rc)
        printf("\n%s%s\n",
               equal    ? "equal"
               : differ ? "they differ"
                        : "equal but for",
               strings  ? ""
               : differ ? "; so do the strings of the tokens"
                        : " the strings of the tokens");
    bf_record_free(record[0]);
    bf_record_free(record[1]);
    return rc ? cli_fail(&err) : equal ? CLI_DONE : CLI_REFUTED;
}

int cmd_diff(const cli_command *self, int argc, char **argv)
{
    const char *path[2] = {NULL};
    double tolerance = -1;
    bool json = false;
    const cli_option options[] = {
        {"tolerance", cli_parse_positive, &tolerance, "E",
         "what differs by less is equal (default: the same bits)"},
        {"json", NULL, &json, NULL, "print it as JSON"},
    };
    const cli_syntax syntax = {options, sizeof options / sizeof *options, "RECORD", &path[0],
                               notes};
    const int code = cli_read_two(self, &syntax, "second RECORD", &path[1], argc, argv);
    return code == CLI_GO ? diff(path, tolerance, json) : code;
}
