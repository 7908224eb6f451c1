/* Verdicts and measures as tables, JSON and JUnit. */
#include <math.h>
#include <string.h>

#include "cli/verify.h"

/* ---- the table */

enum { WIDTH = 96, INDENT = 4 };

/* Words, broken into lines of WIDTH, each after INDENT spaces. */
static void print_wrapped(const char *text)
{
    size_t column = 0;
    while (*text) {
        const size_t n = strcspn(text, " \n");
        if (column && column + 1 + n > WIDTH) {
            printf("\n");
            column = 0;
        }
        if (!column)
            column = (size_t)printf("%*s", INDENT, "");
        else
            column += (size_t)printf(" ");
        char word[512];
        snprintf(word, sizeof word, "%.*s", (int)n, text);
        cli_print_visible(stdout, word);
        column += cli_visible_width(word);
        text += n + (text[n] != '\0');
    }
    printf("\n");
}

static void print_one(const verify_one *one)
{
    const bf_decided *d = one->decided;
    cli_print_visible(stdout, bf_claim_id(one->claim));
    printf("  %s", bf_verdict_name(d->verdict));
    if (d->condition[0]) {
        printf(": ");
        cli_print_visible(stdout, d->condition);
    }
    if (d->judged && d->surprising)
        printf("  (expected: %s)", bf_verdict_name(d->expected));
    printf("\n");
    print_wrapped(bf_claim_word(one->claim, "claim"));
    printf("\n");
    print_wrapped(d->answer);
    printf("\n");
}

void verify_print_table(const verify_run *run)
{
    size_t count[BF_VERDICTS] = {0}, surprising = 0;
    for (size_t k = 0; k < run->n; k++) {
        print_one(&run->one[k]);
        count[run->one[k].decided->verdict]++;
        surprising += run->one[k].decided->surprising;
    }
    printf("%zu claim%s:", run->n, run->n == 1 ? "" : "s");
    for (unsigned v = 0, said = 0; v < BF_VERDICTS; v++)
        if (count[v])
            printf("%s %zu %s", said++ ? "," : "", count[v], bf_verdict_name((bf_verdict)v));
    printf("; %zu not as expected\n", surprising);
}

/* ---- JSON */

static bf_code print_field(const char *key, const char *text, bf_error *err)
{
    printf(", \"%s\": ", key);
    return cli_print_json_string(text, err);
}

static void print_number(const char *key, double value)
{
    printf("%s\": ", key);
    cli_print_json_number(value);
}

static bf_code print_reading(const bf_reading *r, const bf_measure_info *m, bf_error *err)
{
    printf("{\"model\": ");
    bf_code rc = cli_print_json_string(r->model, err);
    if (!rc && r->missing[0])
        rc = print_field("missing", r->missing, err);
    printf(", \"results\": {");
    for (size_t k = 0; k < m->n_results && !rc; k++) {
        printf("%s\n   \"%s\": {", k ? "," : "", m->results[k].name);
        print_number("\"value", r->result[k].value);
        if (!isnan(r->result[k].low)) {
            print_number(", \"low", r->result[k].low);
            print_number(", \"high", r->result[k].high);
        }
        if (!isnan(r->result[k].p))
            print_number(", \"p", r->result[k].p);
        printf("}");
    }
    printf("}}");
    return rc;
}

static bf_code print_json_one(const verify_one *one, bf_error *err)
{
    const bf_decided *d = one->decided;
    printf("{\"id\": ");
    bf_code rc = cli_print_json_string(bf_claim_id(one->claim), err);
    if (!rc)
        rc = print_field("claim", bf_claim_word(one->claim, "claim"), err);
    if (!rc)
        rc = print_field("verdict", bf_verdict_name(d->verdict), err);
    if (!rc && d->judged)
        rc = print_field("expected", bf_verdict_name(d->expected), err);
    printf(", \"as_expected\": %s", d->surprising ? "false" : "true");
    if (!rc)
        rc = print_field("condition", d->condition, err);
    if (!rc)
        rc = print_field("answer", d->answer, err);
    printf(", \"tests\": %zu, \"seconds\": %.3f, \"measures\": [", d->n_tests, d->seconds);
    for (size_t e = 0, said = 0; e < d->n_entries && !rc; e++) {
        const bf_entry_found *f = &d->entries[e];
        if (f->absent)
            continue;
        printf("%s\n {\"name\": \"%s\", \"measure\": \"%s\", \"readings\": [", said++ ? "," : "",
               f->name, f->measure->name);
        for (size_t r = 0; r < f->n_readings && !rc; r++) {
            printf(r ? ",\n  " : "\n  ");
            rc = print_reading(&f->readings[r], f->measure, err);
        }
        printf("]}");
    }
    printf("]}");
    return rc;
}

bf_code verify_print_json(const verify_run *run, bf_error *err)
{
    bf_code rc = BF_OK;
    printf("{\"version\": \"%s\", \"seed\": %zu, \"claims\": [", BF_VERSION, run->seed);
    for (size_t k = 0; k < run->n && !rc; k++) {
        printf(k ? ",\n" : "\n");
        rc = print_json_one(&run->one[k], err);
    }
    printf("\n]}\n");
    return rc;
}

/* ---- JUnit */

/* Text for XML; controls that XML has no way to say become '?'. */
static void put_xml(bf_buf *to, const char *text)
{
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '<' || c == '>' || c == '&' || c == '"')
            bf_buf_printf(to, "&#%u;", (unsigned)c);
        else if (c < 0x20)
            bf_buf_text(to, c == '\n' || c == '\t' ? " " : "?");
        else
            bf_buf_bytes(to, text, 1);
    }
}

static void put_case(bf_buf *to, const verify_one *one)
{
    const bf_decided *d = one->decided;
    bf_buf_text(to, "  <testcase classname=\"backflow.verify\" name=\"");
    put_xml(to, bf_claim_id(one->claim));
    bf_buf_text(to, ": ");
    put_xml(to, bf_claim_word(one->claim, "claim"));
    bf_buf_printf(to, "\" time=\"%.3f\">\n", d->seconds);
    if (d->surprising) {
        bf_buf_printf(to, "    <failure message=\"%s, expected %s\">", bf_verdict_name(d->verdict),
                      d->judged ? bf_verdict_name(d->expected) : "anything but refuted");
        put_xml(to, d->answer);
        bf_buf_text(to, "</failure>\n");
    }
    bf_buf_printf(to, "    <system-out>%s. ", bf_verdict_name(d->verdict));
    put_xml(to, d->answer);
    bf_buf_text(to, "</system-out>\n  </testcase>\n");
}

bf_code verify_write_junit(const verify_run *run, bf_error *err)
{
    bf_buf to = {0};
    size_t failures = 0;
    double seconds = 0.0;
    for (size_t k = 0; k < run->n; k++) {
        failures += run->one[k].decided->surprising;
        seconds += run->one[k].decided->seconds;
    }
    bf_buf_printf(&to,
                  "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"backflow verify\" "
                  "tests=\"%zu\" "
                  "failures=\"%zu\" errors=\"0\" time=\"%.3f\">\n",
                  run->n, failures, seconds);
    for (size_t k = 0; k < run->n; k++)
        put_case(&to, &run->one[k]);
    bf_buf_text(&to, "</testsuite>\n");
    const bf_code rc = to.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the JUnit file")
                                 : bf_file_write(run->junit, to.data, to.len, err);
    bf_buf_free(&to);
    return rc;
}

/* ---- measures */

static void print_list(const char *what, const bf_measure_result *list, size_t n)
{
    if (n)
        printf("  %s\n", what);
    for (size_t k = 0; k < n; k++)
        printf("    %-20s %s%s%s\n", list[k].name, list[k].unit, list[k].unit[0] ? "; " : "",
               list[k].help);
}

static void print_measure(const bf_measure_info *m)
{
    printf("%s: %s\n", m->name, m->help);
    if (m->n_params)
        printf("  parameters\n");
    for (size_t k = 0; k < m->n_params; k++) {
        const bf_measure_param *p = &m->params[k];
        printf("    %-20s ", p->name);
        if (p->words)
            printf("%s: %s%s\n", p->words, p->help, p->least > 0.0 ? "" : " (may be left out)");
        else
            printf("%g (%g to %g); %s\n", p->value, p->least, p->most, p->help);
    }
    print_list("results", m->results, m->n_results);
    print_list("series", m->series, m->n_series);
    printf("\n");
}

static bf_code print_json_list(const char *key, const bf_measure_result *list, size_t n,
                               bf_error *err)
{
    bf_code rc = BF_OK;
    printf(", \"%s\": [", key);
    for (size_t k = 0; k < n && !rc; k++) {
        printf("%s{\"name\": \"%s\"", k ? ", " : "", list[k].name);
        rc = print_field("unit", list[k].unit, err);
        if (!rc)
            rc = print_field("help", list[k].help, err);
        printf("}");
    }
    printf("]");
    return rc;
}

static bf_code print_json_measure(const bf_measure_info *m, bf_error *err)
{
    bf_code rc = BF_OK;
    printf("{\"name\": \"%s\"", m->name);
    rc = print_field("help", m->help, err);
    printf(", \"takes_models\": %s, \"parameters\": [", m->kept ? "false" : "true");
    for (size_t k = 0; k < m->n_params && !rc; k++) {
        const bf_measure_param *p = &m->params[k];
        printf("%s{\"name\": \"%s\"", k ? ", " : "", p->name);
        rc = print_field("help", p->help, err);
        if (p->words)
            printf(", \"type\": \"text\", \"needed\": %s}", p->least > 0.0 ? "true" : "false");
        else
            printf(", \"type\": \"number\", \"default\": %.17g, \"least\": %.17g, \"most\": %.17g}",
                   p->value, p->least, p->most);
    }
    printf("]");
    if (!rc)
        rc = print_json_list("results", m->results, m->n_results, err);
    if (!rc)
        rc = print_json_list("series", m->series, m->n_series, err);
    printf("}");
    return rc;
}

bf_code verify_print_measures(bool json, bf_error *err)
{
    bf_code rc = BF_OK;
    const bf_measure_info *m;
    printf(json ? "["
                : "Of models (a claim says of which; all in double), or of kept results of "
                  "training.\n\n");
    for (size_t k = 0; (m = bf_measure_at(k)) && !rc; k++) {
        if (!json) {
            print_measure(m);
            continue;
        }
        printf(k ? ",\n" : "\n");
        rc = print_json_measure(m, err);
    }
    printf(json ? "\n]\n" : "");
    return rc;
}
