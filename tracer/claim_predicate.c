/* Predicates over what was measured: comparisons, and, or, not, in four values. What was left out
 * is neutral, and drops out of and/or; what is missing is unknown, and decides nothing. */
#include <math.h>
#include <string.h>

#include "tracer/claim.h"

enum { DEEPEST = 20 };

/* ---- is it well-formed? */

static bf_code check_result(const bf_json *name, const bf_claim *claim, const bf_place *place,
                            bf_error *err)
{
    size_t e, k;
    const char *word = bf_json_string(name);
    if (!word || !bf_claim_lookup(&e, &k, NULL, claim, word))
        return bf_place_fail(err, place, "\"%.80s\" names no result of the measures above",
                             word ? word : "(no string)");
    return BF_OK;
}

static const char *const RELATIONS[] = {"<", "<=", "=", "!=", ">=", ">"};

static bf_code check_word(const bf_json *object, const char *key, const char *const *words,
                          size_t n, const bf_place *place, bf_error *err)
{
    const char *found = bf_json_string(bf_json_get(object, key));
    const bf_place here = bf_place_in(place, key, 0);
    char wanted[80] = "";
    for (size_t k = 0; found && k < n; k++) {
        if (strcmp(found, words[k]) == 0)
            return BF_OK;
        strcat(strcat(wanted, k ? ", " : ""), words[k]);
    }
    return found ? bf_place_fail(err, &here, "\"%.40s\", wanted one of %s", found, wanted) : BF_OK;
}

static bf_code check_comparison(const bf_json *p, const bf_claim *claim, const bf_place *place,
                                bf_error *err)
{
    static const char *const bounds[] = {"low", "high", "p"}, *const quantifiers[] = {"every",
                                                                                      "some"};
    const bf_json *than = bf_json_get(p, "than");
    const bf_place value = bf_place_in(place, "value", 0), at = bf_place_in(place, "than", 0);
    double floor = 0.0;
    if (!bf_json_get(p, "is") || !than)
        return bf_place_fail(err, place, "a comparison wants \"value\", \"is\" and \"than\"");
    bf_code rc = check_result(bf_json_get(p, "value"), claim, &value, err);
    if (!rc && bf_json_string(than))
        rc = check_result(than, claim, &at, err);
    if (!rc)
        rc = check_word(p, "is", RELATIONS, 6, place, err);
    if (!rc)
        rc = check_word(p, "bound", bounds, 3, place, err);
    if (!rc)
        rc = check_word(p, "of", quantifiers, 2, place, err);
    bf_json_number(bf_json_get(p, "floor"), &floor);
    if (!rc && !(floor >= 0.0))
        rc = bf_place_fail(err, place, "floor is %g, wanted 0 or more", floor);
    return rc;
}

static bf_code check_node(const bf_json *p, const bf_claim *claim, const bf_place *place, int depth,
                          bf_error *err)
{
    static const char *const forms[] = {"value", "significant", "known", "and", "or", "not"};
    const bf_json *form = NULL;
    size_t n = 0;
    bf_code rc = bf_shape_check(p, &bf_claim_shapes[BF_SHAPE_COMPARE], place, err);
    if (rc)
        return rc;
    for (size_t k = 0; k < sizeof forms / sizeof *forms; k++)
        if (bf_json_get(p, forms[k])) {
            form = bf_json_get(p, forms[k]);
            n++;
        }
    if (n != 1 || depth > DEEPEST)
        return bf_place_fail(err, place,
                             n == 1 ? "nested too deep"
                                    : "wanted one of value, significant, "
                                      "known, and, or, not");
    const bf_place inner = bf_place_in(place, bf_json_key(form), 0);
    if (bf_json_get(p, "value"))
        return check_comparison(p, claim, place, err);
    if (bf_json_get(p, "significant") || bf_json_get(p, "known"))
        return check_result(form, claim, &inner, err);
    if (bf_json_get(p, "not"))
        return check_node(form, claim, &inner, depth + 1, err);
    size_t k = 0;
    if (!bf_json_first(form))
        return bf_place_fail(err, &inner, "empty, wanted at least one predicate");
    for (const bf_json *c = bf_json_first(form); c && !rc; c = bf_json_next(c), k++) {
        const bf_place at = bf_place_in(&inner, NULL, k);
        rc = check_node(c, claim, &at, depth + 1, err);
    }
    return rc;
}

bf_code bf_predicate_check(const bf_json *predicate, const bf_claim *claim, const bf_place *place,
                           bf_error *err)
{
    return check_node(predicate, claim, place, 0, err);
}

/* ---- is it true? */

typedef struct {
    const bf_claim *claim;
    const bf_decided *decided;
} evidence;

static const bf_entry_found *entry_of(const evidence *v, const char *name, size_t *k)
{
    size_t e = 0;
    bf_claim_lookup(&e, k, NULL, v->claim, name);
    return &v->decided->entries[e];
}

static double pick(const bf_measured *m, const char *bound)
{
    if (!bound)
        return m->value;
    return bound[0] == 'l' ? m->low : bound[0] == 'h' ? m->high : m->p;
}

static bf_truth compare(double a, const char *is, double b, double floor)
{
    if (isnan(a) || isnan(b))
        return BF_UNKNOWN;
    const bool same = a == b || fabs(a - b) <= floor;
    if (strcmp(is, "=") == 0)
        return same ? BF_YES : BF_NO;
    if (strcmp(is, "!=") == 0)
        return same ? BF_NO : BF_YES;
    const bool or_same = is[1] == '=';
    return (is[0] == '<' ? a < b : a > b) ? (or_same || !same ? BF_YES : BF_NO)
                                          : (or_same && same ? BF_YES : BF_NO);
}

/* Add one more to what is known of every, or some. */
static bf_truth join(bf_truth sofar, bf_truth one, bool every)
{
    if (sofar == BF_NEUTRAL || one == BF_NEUTRAL)
        return sofar == BF_NEUTRAL ? one : sofar;
    const bf_truth decides = every ? BF_NO : BF_YES;
    if (sofar == decides || one == decides)
        return decides;
    return sofar == BF_UNKNOWN || one == BF_UNKNOWN ? BF_UNKNOWN : sofar;
}

/* One reading's value against a number, or against every reading of another result. */
static bf_truth compare_with(const evidence *v, double value, const bf_json *p, bool every)
{
    const bf_json *than = bf_json_get(p, "than");
    const char *is = bf_json_string(bf_json_get(p, "is"));
    double floor = 0.0, number;
    bf_json_number(bf_json_get(p, "floor"), &floor);
    if (bf_json_number(than, &number))
        return compare(value, is, number, floor);
    size_t k = 0;
    bf_truth truth = BF_NEUTRAL;
    const bf_entry_found *e = entry_of(v, bf_json_string(than), &k);
    for (size_t r = 0; r < e->n_readings; r++)
        truth = join(truth, compare(value, is, e->readings[r].result[k].value, floor), every);
    return truth;
}

static bf_truth evaluate_result(const evidence *v, const bf_json *p)
{
    const char *name = bf_json_string(bf_json_get(p, "value")),
               *tested = bf_json_string(bf_json_get(p, "significant")),
               *known = bf_json_string(bf_json_get(p, "known")),
               *bound = bf_json_string(bf_json_get(p, "bound")),
               *of = bf_json_string(bf_json_get(p, "of"));
    const bool every = !of || strcmp(of, "every") == 0;
    size_t k = 0;
    double level = 0.05;
    bf_truth truth = BF_NEUTRAL;
    const bf_entry_found *e = entry_of(v, name ? name : tested ? tested : known, &k);
    bf_json_number(bf_json_get(p, "level"), &level);
    if (known && e->n_readings == 0)
        return BF_NO;
    for (size_t r = 0; r < e->n_readings; r++) {
        const bf_measured *m = &e->readings[r].result[k];
        bf_truth one = isnan(m->value) ? BF_NO : BF_YES; /* known */
        if (!known)
            one = tested ? compare(m->p, "<=", level, 0.0)
                         : compare_with(v, pick(m, bound), p, every);
        truth = join(truth, one, every);
    }
    return truth;
}

static bf_truth evaluate(const evidence *v, const bf_json *p)
{
    const bf_json *all = bf_json_get(p, "and"), *any = bf_json_get(p, "or"),
                  *not = bf_json_get(p, "not");
    bf_truth truth = BF_NEUTRAL;
    if (not ) {
        truth = evaluate(v, not );
        return truth == BF_YES ? BF_NO : truth == BF_NO ? BF_YES : truth;
    }
    if (!all && !any)
        return evaluate_result(v, p);
    for (const bf_json *c = bf_json_first(all ? all : any); c; c = bf_json_next(c))
        truth = join(truth, evaluate(v, c), all != NULL);
    return truth;
}

bf_truth bf_predicate_holds(const bf_json *predicate, const bf_claim *claim,
                            const bf_decided *decided)
{
    const evidence v = {claim, decided};
    return evaluate(&v, predicate);
}
