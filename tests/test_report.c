/* test_report.c -- are the numbers of a report what its words say, and is a hostile text harmless? */
#include "render_record.h"

#include <math.h>

#include "backflow/report.h"
#include "render/report_html.h"
#include "render/report_stats.h"

#include "close.h"

enum { L = 2, G = 2, N = 3 };

/* |g_ij| at layer 0, by hand: own 1, 2, 4; later 8 (1 to 0), 16 (2 to 0), 32 (2 to 1). */
static const double flow[N][N] = {{1, 0, 0}, {8, 2, 0}, {16, 32, 4}};

static bf_record *make_record(const char *const token[N + 1])
{
    const bf_tensor specs[] = {
        spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
        spec("loss", BF_F64, 1, N, 0, 0, 0),
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_pre.grad_x_act", BF_F64, 3, L, N, N, 0),
        spec("flow.v.grad_norm", BF_F64, 4, L, G, N, N),
        spec("future.grad_norm", BF_F64, 2, L + 1, N, 0, 0),
    };
    bf_record *record = NULL;
    bf_error err;
    if (bf_record_new(&record, specs, sizeof specs / sizeof *specs, &err))
        fail_msg("%s", err.msg);
    for (size_t i = 0; i < N; i++) {
        doubles(record, "loss")[i] = (double)(i + 1);
        for (size_t j = 0; j <= i; j++) {
            doubles(record, "flow.resid_pre.grad_norm")[i * N + j] = flow[i][j];
            doubles(record, "flow.resid_pre.grad_norm")[(N + i) * N + j] = 100.0; /* layer 1 */
            doubles(record, "flow.resid_pre.grad_x_act")[i * N + j] = -flow[i][j];
        }
    }
    /* v: layer 1, head 0 carries 3 of 4; what arrives from its own loss does not count */
    doubles(record, "flow.v.grad_norm")[((1 * G + 0) * N + 2) * N + 1] = 3.0;
    doubles(record, "flow.v.grad_norm")[((0 * G + 1) * N + 1) * N + 0] = 1.0;
    doubles(record, "flow.v.grad_norm")[((0 * G + 1) * N + 1) * N + 1] = 50.0;
    doubles(record, "future.grad_norm")[0] = 12.0;
    doubles(record, "future.grad_norm")[1] = 16.0;
    set_tokens(record, token, N + 1);
    return record;
}

static const char *const plain[N + 1] = {"In", " the", " end", "."};

static void report_stats__are_the_sums_that_the_page_defines(void **state)
{
    (void)state;
    bf_record *record = make_record(plain);
    bf_report_stats s;
    bf_error err = {0};
    if (bf_report_stats_make(&s, record, &err))
        fail_msg("%s", err.msg);
    assert_int_equal(s.N, N);
    assert_int_equal(s.losses, N);
    assert_close(s.mean_loss, 2.0, 1e-15);
    assert_close(s.all, 63.0, 1e-12);
    assert_close(s.later, 56.0, 1e-12);
    assert_close(s.received[0], 24.0, 1e-12);
    assert_close(s.received[1], 32.0, 1e-12);
    assert_close(s.received[2], 0.0, 0.0);
    assert_close(s.own[2], 4.0, 0.0);
    assert_close(s.given[1], 8.0, 1e-12);
    assert_close(s.lag[1], 40.0, 1e-12); /* 40 of 56: half of it comes from within 1 */
    assert_int_equal(s.half, 1);
    assert_int_equal(s.order[0], 1);
    assert_int_equal(s.order[2], 2);
    assert_int_equal(s.senders[0], 2);
    assert_close(s.cancelled, 0.5, 1e-12); /* (12 + 16) / 56 */
    assert_int_equal(s.layer[s.best / s.heads], 1);
    assert_int_equal(s.best % s.heads, 0);
    assert_close(s.head[s.best] / s.head_total, 0.75, 1e-12);
    bf_report_stats_free(&s);
    bf_record_free(record);
}

static void report_stats__refuse_what_is_missing_or_not_finite(void **state)
{
    (void)state;
    bf_record *record = NULL;
    bf_report_stats s;
    bf_error err = {0};
    const bf_tensor bare = spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, N, N, 0);
    assert_int_equal(bf_record_new(&record, &bare, 1, &err), BF_OK);
    assert_int_equal(bf_report_stats_make(&s, record, &err), BF_ESHAPE); /* no loss */
    bf_report_stats_free(&s);
    bf_record_free(record);
    record = make_record(plain);
    doubles(record, "loss")[1] = NAN;
    assert_int_equal(bf_report_stats_make(&s, record, &err), BF_ENONFINITE);
    bf_report_stats_free(&s);
    doubles(record, "loss")[1] = 1.0;
    doubles(record, "flow.resid_pre.grad_norm")[0] = NAN;
    assert_int_equal(bf_report_stats_make(&s, record, &err), BF_ENONFINITE);
    bf_report_stats_free(&s);
    bf_record_free(record);
}

static bf_buf render(const bf_record *record)
{
    bf_error err = {0};
    if (bf_render_report(record, NULL, folder, &err))
        fail_msg("%s", err.msg);
    for (size_t k = 1; strncmp(bf_report_files()[k], "text-", 5) != 0; k++)
        assert_true(exists(path_of(bf_report_files()[k])));
    return read_all(path_of("index.html"));
}

static void report__says_the_numbers(void **state)
{
    (void)state;
    bf_record *record = make_record(plain);
    assert_int_equal(bf_record_set_meta(record, "check.zeros", "0 (tolerance 0)", NULL), BF_OK);
    assert_int_equal(bf_record_set_meta(record, "check.rows_sum", "1 (tolerance 1e-4)", NULL),
                     BF_OK);
    bf_buf page = render(record);
    assert_non_null(strstr(page.data, "<b>89&nbsp;%</b></a> of the gradient")); /* 56 of 63 */
    assert_non_null(strstr(page.data, "<b>1&nbsp;token</b>"));
    assert_non_null(strstr(page.data, "Most of it</a> arrives at <span class=\"tok\">“<bdi>the</bdi>"));
    assert_non_null(strstr(page.data, "<b>1.0</b></a> carries the largest part, 75&nbsp;%"));
    assert_non_null(strstr(page.data, "50&nbsp;%</a> of the sum of their norms"));
    assert_non_null(strstr(page.data, "perplexity 7.39"));
    assert_non_null(strstr(page.data, "<td>holds</td>"));
    assert_non_null(strstr(page.data, "<strong>fails</strong>"));
    bf_buf_free(&page);
    bf_record_free(record);
}

static void report__shows_hostile_strings_and_obeys_none(void **state)
{
    (void)state;
    static const char *const hostile[N + 1] = {"<script>alert(1)</script>", "\xE2\x80\xAE\"onload='x",
                                               "\xE2\x81\xA9&\n\x1b", "\xE2\x81\xA6"};
    bf_record *record = make_record(hostile);
    assert_int_equal(bf_record_set_meta(record, "model", "</title><b>\xE2\x80\xAE", NULL), BF_OK);
    assert_int_equal(bf_record_set_meta(record, "command", "x</code>\x07<i>", NULL), BF_OK);
    assert_int_equal(bf_record_set_meta(record, "check.<u>", "nan <u>", NULL), BF_OK);
    bf_buf page = render(record);
    assert_null(strstr(page.data, "</title><b>"));
    assert_null(strstr(page.data, "<i>"));
    assert_null(strstr(page.data, "<u>"));
    assert_null(strstr(page.data, "\xE2\x80\xAE"));
    for (const char *c = page.data; (c = strstr(c, "\"onload")); c++) /* in the data: escaped */
        assert_true(c[-1] == '\\');
    assert_null(strchr(page.data, '\x1b'));
    assert_null(strchr(page.data, '\x07'));
    assert_non_null(strstr(page.data, "<bdi>&lt;script&gt;alert(1)&lt;/script&gt;</bdi>"));
    assert_non_null(strstr(page.data, "⟨202E⟩&quot;onload=&#39;x"));
    assert_null(strstr(page.data, "alert(1)</script>"));
    for (const char *c = page.data; (c = strstr(c, "\xE2\x81\xA9")); c += 3) /* ours close ours */
        assert_true(c > page.data && strncmp(c - 3, "\xE2\x81\xA9", 3) != 0);
    bf_buf_free(&page);
    bf_record_free(record);
}

static void report__without_later_losses_says_so(void **state)
{
    (void)state;
    const bf_tensor specs[] = {spec("tokens", BF_I64, 1, 2, 0, 0, 0),
                               spec("loss", BF_F64, 1, 1, 0, 0, 0),
                               spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, 1, 1, 0)};
    bf_record *record = NULL;
    bf_error err = {0};
    assert_int_equal(bf_record_new(&record, specs, 3, &err), BF_OK);
    doubles(record, "flow.resid_pre.grad_norm")[0] = 1.0;
    if (bf_render_report(record, NULL, folder, &err))
        fail_msg("%s", err.msg);
    bf_buf page = read_all(path_of("index.html"));
    assert_non_null(strstr(page.data, "there is no later one"));
    assert_null(strstr(page.data, ">nan"));
    assert_null(strstr(page.data, " nan"));
    bf_buf_free(&page);
    bf_record_free(record);
}

static void report__a_folder_that_is_not_there_is_EIO(void **state)
{
    (void)state;
    bf_record *record = make_record(plain);
    bf_error err = {0};
    assert_int_equal(bf_render_report(record, NULL, path_of("nowhere"), &err), BF_EIO);
    bf_record_free(record);
}

static void html_percent__never_rounds_to_none_or_all(void **state)
{
    (void)state;
    static const struct {
        double part;
        const char *words;
    } cases[] = {{0, "0&nbsp;%"},       {1e-9, "under 0.1&nbsp;%"},      {0.004, "0.4&nbsp;%"},
                 {0.123, "12&nbsp;%"},  {0.9961, "99.6&nbsp;%"},         {1.0, "100&nbsp;%"},
                 {0.099, "9.9&nbsp;%"}, {0.99999, "over 99.9&nbsp;%"}};
    for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
        bf_buf out = {0};
        bf_html_percent(&out, cases[k].part);
        assert_string_equal(out.data, cases[k].words);
        bf_buf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(report_stats__are_the_sums_that_the_page_defines),
        cmocka_unit_test(report_stats__refuse_what_is_missing_or_not_finite),
        cmocka_unit_test(report__says_the_numbers),
        cmocka_unit_test(report__shows_hostile_strings_and_obeys_none),
        cmocka_unit_test(report__without_later_losses_says_so),
        cmocka_unit_test(report__a_folder_that_is_not_there_is_EIO),
        cmocka_unit_test(html_percent__never_rounds_to_none_or_all),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
