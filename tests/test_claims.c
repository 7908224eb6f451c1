/* Tests of claims as files: what is refused, and where; what predicates and templates say; the
 * schema. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "backflow/claims.h"
#include "base/buf.h"
#include "base/json.h"
#include "tests/close.h"
#include "tests/scratch.h"
#include "tracer/claim.h"

static const char MODEL[] =
    "{\"random\": {\"family\": \"gpt2\", \"layers\": 2, \"width\": 8, \"heads\": 2, "
    "\"vocabulary\": 11}}";
static const char ENTRY[] =
    "{\"name\": \"a\", \"measure\": \"support\", \"tokens\": 6, \"documents\": 1, "
    "\"models\": [%s]}";
static const char CLAIM[] =
    "{\"backflow_claim\": 1, \"id\": \"t\", \"claim\": \"c\", \"refuted_if\": \"r\", "
    "\"measures\": [%s], \"verdicts\": [%s]}";
static const char ROW[] = "{\"verdict\": \"holds\", \"answer\": \"{a.reached:%} of {a.pairs}\"}";

/* A claim with these measures and verdicts, as a file. */
static const char *write_claim(scratch *s, const char *entries, const char *verdicts)
{
    static char text[8192];
    const int n = snprintf(text, sizeof text, CLAIM, entries, verdicts);
    scratch_write(scratch_path(s, "claim.json"), text, (size_t)n);
    return s->path;
}

static const char *usual_entry(void)
{
    static char text[1024];
    snprintf(text, sizeof text, ENTRY, MODEL);
    return text;
}

static void assert_refused(scratch *s, const char *entries, const char *verdicts, const char *words)
{
    bf_claim *claim = NULL;
    bf_error err = {0};
    const bf_code rc = bf_claim_open(&claim, write_claim(s, entries, verdicts), &err);
    if (rc != BF_EFORMAT || claim || !strstr(err.msg, words))
        fail_msg("code %d, wanted \"%s\" in: %s", (int)rc, words, err.msg);
}

static void table__cells_are_checked(void **state)
{
    scratch *s = *state;
    static const struct {
        const char *table, *words;
    } cases[] = {
        {"3", "/tables/0: the number 3, wanted an object"},
        {"{\"title\": \"t\", \"columns\": []}", "/tables/0/rows: missing"},
        {"{\"title\": \"t\", \"columns\": [], \"rows\": []}", "/tables/0/columns: empty"},
        {"{\"title\": \"t\", \"columns\": [\"a\", 1], \"rows\": []}", "/tables/0/columns/1: wanted a string"},
        {"{\"title\": \"t\", \"columns\": [\"a\"], \"rows\": [[\"x\"], [\"x\", \"y\"]]}",
         "/tables/0/rows/1: wanted a list of 1 cells"},
        {"{\"title\": \"t\", \"columns\": [\"a\"], \"rows\": [[\"{a.rearched}\"]]}", "/tables/0/rows/0/0"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        char verdicts[600];
        snprintf(verdicts, sizeof verdicts,
                 "{\"verdict\": \"holds\", \"answer\": \"\"}], \"tables\": [%s", cases[k].table);
        assert_refused(s, usual_entry(), verdicts, cases[k].words);
    }
}

static bf_decided *decide(scratch *s, const char *entries, const char *verdicts, bf_claim **claim)
{
    bf_decided *d = NULL;
    bf_error err = {0};
    const bf_claim_query q = {.threads = 1, .results = s->folder};
    if (bf_claim_open(claim, write_claim(s, entries, verdicts), &err) ||
        bf_claim_decide(&d, *claim, &q, &err))
        fail_msg("%s", err.msg);
    return d;
}

static void open__names_file_field_found_and_wanted(void **state)
{
    scratch *s = *state;
    const char *e = usual_entry();
    char text[2100];
    assert_refused(s, "", ROW, "/measures: 0 measures");
    assert_refused(s, "3", ROW, "/measures/0: the number 3, wanted an object");
    assert_refused(s, "{\"name\": \"a\"}", ROW, "/measures/0/measure: missing");
    assert_refused(s, "{\"name\": \"a\", \"measure\": \"none\", \"models\": []}", ROW,
                   "/measures/0/measure: no measure \"none\"");
    assert_refused(s, "{\"name\": \"a b\", \"measure\": \"support\"}", ROW, "/measures/0/name");
    assert_refused(s, "{\"name\": \"a\", \"measure\": \"support\"}", ROW,
                   "/measures/0/models: missing or empty");
    snprintf(text, sizeof text, "%s, %s", e, e);
    assert_refused(s, text, ROW, "/measures/1/name: \"a\" is the name of another");
    assert_refused(
        s, "{\"name\": \"a\", \"measure\": \"support\", \"models\": [\"x\"], \"tokens\": 1}", ROW,
        "/measures/0/tokens: the number 1, wanted a whole number from 2");
    assert_refused(
        s,
        "{\"name\": \"a\", \"measure\": \"support\", \"models\": [\"x\"], \"with\": {\"flor\": 1}}",
        ROW, "/measures/0/with/flor: the measure support has no such parameter");
    assert_refused(s,
                   "{\"name\": \"a\", \"measure\": \"support\", \"models\": [\"x\"], \"with\": "
                   "{\"floor\": 2}}",
                   ROW, "/measures/0/with/floor: the number 2, wanted a number from 0 to 1");
    assert_refused(s, "{\"name\": \"a\", \"measure\": \"kept\", \"with\": {\"value\": \"x\"}}", ROW,
                   "/measures/0/with/group: missing");
    assert_refused(s,
                   "{\"name\": \"a\", \"measure\": \"support\", \"models\": [{\"random\": "
                   "{\"family\": \"gpt3\", "
                   "\"layers\": 1, \"width\": 8, \"heads\": 2, \"vocabulary\": 4}}]}",
                   ROW, "/measures/0/models/0/random/family: \"gpt3\"");
    assert_refused(s,
                   "{\"name\": \"a\", \"measure\": \"support\", \"models\": [{\"random\": "
                   "{\"family\": \"gpt2\", \"layers\": 1, \"width\": 8, \"heads\": 2, \"vocabulary\": 4, "
                   "\"mask\": {\"segment\": 2, \"compressive\": 0.5, \"gate\": \"learnt\"}}}]}",
                   ROW, "/measures/0/models/0/random/mask: \"gate\" is \"learnt\", wanted \"fixed\"");
    assert_refused(s, e, "{\"verdict\": \"true\", \"answer\": \"\"}",
                   "/verdicts/0/verdict: \"true\", wanted holds");
    assert_refused(s, e, "{\"verdict\": \"holds\", \"answer\": \"{a.rearched}\"}",
                   "/verdicts/0/answer: {a.rearched} names no result");
    assert_refused(s, e, "{\"verdict\": \"holds\", \"answer\": \"{\"}", "/verdicts/0/answer");
    assert_refused(
        s, e,
        "{\"verdict\": \"holds\", \"answer\": \"\"}, {\"verdict\": \"holds\", \"answer\": \"\"}",
        "/verdicts/0/if: missing");
    assert_refused(
        s, e,
        "{\"if\": {\"value\": \"a.reached\", \"is\": \"~\", \"than\": 1}, \"verdict\": \"holds\", "
        "\"answer\": \"\"}",
        "/verdicts/0/if/is: \"~\", wanted one of <");
    assert_refused(
        s, e,
        "{\"if\": {\"value\": \"b.reached\", \"is\": \"<\", \"than\": 1}, \"verdict\": \"holds\", "
        "\"answer\": \"\"}",
        "/verdicts/0/if/value: \"b.reached\" names no result");
    assert_refused(s, e, "{\"if\": {\"and\": []}, \"verdict\": \"holds\", \"answer\": \"\"}",
                   "/verdicts/0/if/and: empty");
    assert_refused(s, e, "{\"if\": {\"and\": [{}]}, \"verdict\": \"holds\", \"answer\": \"\"}",
                   "/verdicts/0/if/and/0: wanted one of value");
    assert_refused(s, e, "{\"if\": {\"vale\": 1}, \"verdict\": \"holds\", \"answer\": \"\"}",
                   "/verdicts/0/if/vale: no such field, wanted one of: value");
}

static void open__survives_any_bytes(void **state)
{
    scratch *s = *state;
    char text[4096];
    uint64_t seed = 1;
    const int n = snprintf(text, sizeof text, CLAIM, usual_entry(), ROW);
    for (int round = 0; round < 1500; round++) {
        unsigned char bytes[4096];
        bf_claim *claim = NULL;
        bf_error err = {0};
        memcpy(bytes, text, (size_t)n);
        scratch_mutate(bytes, (size_t)n, &seed);
        scratch_write(scratch_path(s, "claim.json"), bytes, (size_t)n);
        const bf_code rc = bf_claim_open(&claim, s->path, &err);
        assert_true(rc ? !claim && strstr(err.msg, "claim.json") : claim != NULL);
        bf_claim_free(claim);
    }
}

/* reached is 1 and pairs 36 for 6 positions. */
static bf_verdict verdict_if(scratch *s, const char *predicate)
{
    char rows[1024];
    bf_claim *claim = NULL;
    snprintf(
        rows, sizeof rows,
        "{\"if\": %s, \"verdict\": \"holds\", \"answer\": \"yes\"}, {\"verdict\": \"refuted\", "
        "\"answer\": \"no\"}",
        predicate);
    bf_decided *d = decide(s, usual_entry(), rows, &claim);
    const bf_verdict v = d->verdict;
    bf_decided_free(d);
    bf_claim_free(claim);
    return v;
}

static void predicate__compares_and_joins(void **state)
{
    scratch *s = *state;
    static const struct {
        const char *predicate;
        bool is;
    } cases[] = {
        {"{\"value\": \"a.pairs\", \"is\": \"=\", \"than\": 36}", true},
        {"{\"value\": \"a.pairs\", \"is\": \"!=\", \"than\": 36}", false},
        {"{\"value\": \"a.pairs\", \"is\": \"=\", \"than\": 35, \"floor\": 1}", true},
        {"{\"value\": \"a.pairs\", \"is\": \"=\", \"than\": 34, \"floor\": 1}", false},
        {"{\"value\": \"a.pairs\", \"is\": \">\", \"than\": 35}", true},
        {"{\"value\": \"a.pairs\", \"is\": \">\", \"than\": 35, \"floor\": 1}", false},
        {"{\"value\": \"a.pairs\", \"is\": \">=\", \"than\": 37, \"floor\": 1}", true},
        {"{\"value\": \"a.pairs\", \"is\": \"<=\", \"than\": 36}", true},
        {"{\"value\": \"a.pairs\", \"is\": \"<\", \"than\": 36}", false},
        {"{\"value\": \"a.pairs\", \"is\": \">\", \"than\": \"a.reached\"}", true},
        {"{\"known\": \"a.pairs\"}", true},
        {"{\"not\": {\"known\": \"a.pairs\"}}", false},
        {"{\"and\": [{\"known\": \"a.pairs\"}, {\"value\": \"a.later\", \"is\": \"=\", \"than\": "
         "0}]}",
         true},
        {"{\"and\": [{\"known\": \"a.pairs\"}, {\"value\": \"a.later\", \"is\": \">\", \"than\": "
         "0}]}",
         false},
        {"{\"or\": [{\"not\": {\"known\": \"a.pairs\"}}, {\"value\": \"a.later\", \"is\": \"=\", "
         "\"than\": 0}]}",
         true},
    };
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++)
        if ((verdict_if(s, cases[k].predicate) == BF_VERDICT_HOLDS) != cases[k].is)
            fail_msg("%s is taken for %s", cases[k].predicate, cases[k].is ? "false" : "true");
}

/* There is no interval, so its end is unknown, and an unknown predicate decides nothing. */
static void predicate__unknown_leaves_the_verdict_open(void **state)
{
    assert_int_equal(
        verdict_if(*state,
                   "{\"value\": \"a.pairs\", \"bound\": \"low\", \"is\": \">\", \"than\": 0}"),
        BF_VERDICT_OPEN);
    assert_int_equal(verdict_if(*state, "{\"significant\": \"a.pairs\"}"), BF_VERDICT_OPEN);
}

static void answer__fills_in_numbers(void **state)
{
    bf_claim *claim = NULL;
    bf_decided *d = decide(*state, usual_entry(), ROW, &claim);
    assert_string_equal(d->answer, "100 % of 36");
    assert_false(d->surprising);
    bf_decided_free(d);
    bf_claim_free(claim);
}

static void kept__reads_groups_and_pairs_seeds(void **state)
{
    scratch *s = *state;
    static const double a[] = {3, 5, 4}, b[] = {1, 2, 4};
    static const char entries[] = "{\"name\": \"k\", \"measure\": \"kept\", \"with\": {\"group\": "
                                  "\"a\", \"value\": \"x\", \"curve\": \"c\"}}, "
                                  "{\"name\": \"g\", \"measure\": \"kept_gap\", \"with\": {\"a\": "
                                  "\"a\", \"b\": \"b\", \"value\": \"x\", \"curve\": \"c\"}}, "
                                  "{\"name\": \"m\", \"measure\": \"kept\", \"with\": {\"group\": "
                                  "\"none\", \"value\": \"x\"}}";
    bf_measured m;
    bf_claim *claim = NULL;
    for (int k = 0; k < 6; k++) {
        char name[32], text[200];
        snprintf(name, sizeof name, "r%d.json", k);
        const int n = snprintf(
            text, sizeof text,
            "{\"group\": \"%s\", \"seed\": %d, \"results\": {\"x\": %g, \"c\": [1, %g]}}",
            k < 3 ? "a" : "b", k % 3, k < 3 ? a[k] : b[k - 3], k < 3 ? a[k] : 0.0);
        scratch_write(scratch_path(s, name), text, (size_t)n);
    }
    bf_decided *d = decide(
        s, entries,
        "{\"if\": {\"known\": \"m.mean\"}, \"verdict\": \"holds\", \"answer\": \"\"}, "
        "{\"if\": {\"value\": \"m.mean\", \"is\": \">\", \"than\": 0}, \"verdict\": "
        "\"holds\", \"answer\": \"\"}",
        &claim);
    assert_int_equal(d->verdict, BF_VERDICT_OPEN);
    assert_non_null(strstr(d->answer, "no kept result \"x\" of none"));
    assert_true(bf_claim_value(&m, d, "k.mean", 0));
    assert_close(m.value, 4, 1e-14);
    assert_true(bf_claim_value(&m, d, "g.difference", 0));
    assert_close(m.value, 5.0 / 3.0, 1e-14);
    assert_true(bf_claim_value(&m, d, "g.ratio", 0));
    assert_close(m.value, (3.0 + 2.5 + 1.0) / 3.0, 1e-14);
    assert_close(bf_claim_series(d, "k.curve", 0)->value[1], 4, 1e-14);
    assert_close(bf_claim_series(d, "k.curve", 0)->high[1], 5, 1e-14);
    assert_close(bf_claim_series(d, "g.curve", 0)->value[0], 0, 1e-14);
    assert_close(bf_claim_series(d, "g.curve", 0)->value[1], 4, 1e-14);
    bf_decided_free(d);
    bf_claim_free(claim);
}

/* ---- the schema says what the reader checks */

static const bf_json *definition(const bf_json *schema, const char *name)
{
    const bf_json *d = bf_json_get(bf_json_get(schema, "$defs"), name);
    if (!d)
        fail_msg("the schema has no definition \"%s\"", name);
    return d;
}

static bool in_list(const bf_json *list, const char *word)
{
    for (const bf_json *c = list ? bf_json_first(list) : NULL; c; c = bf_json_next(c))
        if (strcmp(bf_json_string(c), word) == 0)
            return true;
    return false;
}

static void schema__has_the_fields_of_the_reader(void **state)
{
    bf_json *schema = NULL;
    bf_error err = {0};
    (void)state;
    if (bf_json_read(&schema, "docs/claims.schema.json", 1 << 20, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(bf_json_count(bf_json_get(schema, "$defs")), BF_SHAPES);
    for (size_t k = 0; k < BF_SHAPES; k++) {
        const bf_json *d = definition(schema, bf_claim_shapes[k].name),
                      *props = bf_json_get(d, "properties");
        size_t n = 0;
        for (const bf_claim_field *f = bf_claim_shapes[k].fields; f->name; f++, n++) {
            if (!bf_json_get(props, f->name))
                fail_msg("the schema's %s has no %s", bf_claim_shapes[k].name, f->name);
            if (in_list(bf_json_get(d, "required"), f->name) != f->needed)
                fail_msg("the schema and the reader disagree on whether %s needs %s",
                         bf_claim_shapes[k].name, f->name);
        }
        if (bf_json_count(props) != n)
            fail_msg("the schema's %s has %zu fields, the reader knows %zu",
                     bf_claim_shapes[k].name, bf_json_count(props), n);
    }
    bf_json_free(schema);
}

/* All that come with backflow, and the examples, are read without complaint. */
static void bundled__are_well_formed(void **state)
{
    static const char *const own[] = {"own_windows", "own_statistical", "own_model"};
    (void)state;
    for (int k = 1; k <= 16; k++) {
        char path[100];
        bf_claim *claim = NULL;
        bf_error err = {0};
        if (k <= 13)
            snprintf(path, sizeof path, "examples/claims/C%02d.json", k);
        else
            snprintf(path, sizeof path, "examples/claims/%s.json", own[k - 14]);
        if (bf_claim_open(&claim, path, &err))
            fail_msg("%s", err.msg);
        bf_claim_free(claim);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(open__names_file_field_found_and_wanted, scratch_open,
                                        scratch_close),
        cmocka_unit_test_setup_teardown(table__cells_are_checked, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(open__survives_any_bytes, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(predicate__compares_and_joins, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(predicate__unknown_leaves_the_verdict_open, scratch_open,
                                        scratch_close),
        cmocka_unit_test_setup_teardown(answer__fills_in_numbers, scratch_open, scratch_close),
        cmocka_unit_test_setup_teardown(kept__reads_groups_and_pairs_seeds, scratch_open,
                                        scratch_close),
        cmocka_unit_test(schema__has_the_fields_of_the_reader),
        cmocka_unit_test(bundled__are_well_formed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
