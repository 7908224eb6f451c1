/* test_report_data.c -- does the page hold what the record says, in elements that nothing leaves? */
#include "render_record.h"

#include <math.h>
#include <openssl/sha.h>
#include <zlib.h>

#include "backflow/report.h"
#include "render/page_assets.h"
#include "render/report_pack.h"

#include "close.h"

enum { L = 2, H = 3, N = 5 };

/* ---- unpacking, as data.js does it */

static size_t base64_value(char c)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    return (size_t)(strchr(set, c) - set);
}

/* Inflate the base64 that stands at text, up to anything else. to: [room].  How many bytes came. */
static size_t unpack(unsigned char *to, size_t room, const char *text)
{
    unsigned char packed[20000];
    size_t n = 0;
    const size_t length = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                       "0123456789+/=");
    assert_int_equal(length % 4, 0);
    assert_true(length / 4 * 3 <= sizeof packed);
    for (size_t k = 0; k < length; k += 4) {
        size_t v = 0, pad = 0;
        for (size_t c = 0; c < 4; c++) {
            pad += text[k + c] == '=';
            v = v << 6 | (text[k + c] == '=' ? 0 : base64_value(text[k + c]));
        }
        for (size_t b = 0; b < 3 - pad; b++)
            packed[n++] = (unsigned char)(v >> (16 - 8 * b));
    }
    uLongf got = room;
    assert_int_equal(uncompress(to, &got, packed, n), Z_OK);
    return got;
}

static const char *element(const bf_buf *page, const char *id)
{
    char open[80];
    snprintf(open, sizeof open, "id=\"%s\">", id);
    const char *at = strstr(page->data, open);
    if (!at)
        fail_msg("the page has no element %s", id);
    return at + strlen(open);
}

static size_t words(unsigned short *to, size_t room, const char *text)
{
    unsigned char bytes[20000];
    const size_t n = unpack(bytes, sizeof bytes, text) / 2;
    assert_true(n <= room);
    for (size_t k = 0; k < n; k++)
        to[k] = (unsigned short)(bytes[k] | bytes[n + k] << 8);
    return n;
}

static size_t floats(float *to, size_t room, const char *text)
{
    unsigned char bytes[40000];
    const size_t n = unpack(bytes, sizeof bytes, text) / 4;
    assert_true(n <= room);
    for (size_t k = 0; k < n; k++) {
        const uint32_t bits = bytes[k] | (uint32_t)bytes[n + k] << 8 |
                              (uint32_t)bytes[2 * n + k] << 16 | (uint32_t)bytes[3 * n + k] << 24;
        memcpy(&to[k], &bits, sizeof bits);
    }
    return n;
}

static double decode(unsigned code, double top)
{
    if ((code & 0x7fff) < 2)
        return 0.0;
    const double v = top / pow(10, BF_PACK_DECADES) * pow(BF_PACK_STEP, (code & 0x7fff) - 2.0);
    return code & 0x8000 ? -v : v;
}

/* ---- a record in which every number is another */

static double g(size_t l, size_t i, size_t j)
{
    return l == L - 1 && j == 0 && i > 2 ? 0.0 : 1.0 + (double)(17 * l + 5 * i + 3 * j);
}

/* Shares of a node that sum to 1: heads q, k, v, then mlp, skip. */
static double share(size_t path, size_t l, size_t i, size_t j)
{
    double w[3 * H + 2], sum = 0.0;
    for (size_t p = 0; p < 3 * H + 2; p++)
        sum += w[p] = (double)((7 * p + 3 * l + 2 * i + j) % 11) - 2.0;
    return w[path] / sum;
}

static double attn(size_t l, size_t h, size_t r, size_t j)
{
    double sum = 0.0;
    for (size_t k = 0; k <= r; k++)
        sum += 1.0 + (double)((l + h + k) % 4);
    return (1.0 + (double)((l + h + j) % 4)) / sum;
}

static void fill(bf_record *record)
{
    static const char *const share_name[] = {"share.q", "share.k", "share.v"};
    for (size_t l = 0; l < L; l++)
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j <= i; j++) {
                const size_t at = (l * N + i) * N + j;
                doubles(record, "flow.resid_pre.grad_norm")[at] = g(l, i, j);
                doubles(record, "share.mlp")[at] = share(3 * H, l, i, j);
                doubles(record, "share.skip")[at] = share(3 * H + 1, l, i, j);
                for (size_t h = 0; h < H; h++) {
                    const size_t cell = ((l * H + h) * N + i) * N + j;
                    for (size_t p = 0; p < 3; p++)
                        doubles(record, share_name[p])[cell] = share(p * H + h, l, i, j);
                    doubles(record, "attn")[cell] = attn(l, h, i, j);
                    doubles(record, "flow.z.grad_norm")[cell] = 1.0 + (double)((h + i * j) % 5);
                }
            }
    for (size_t i = 0; i < N; i++)
        doubles(record, "loss")[i] = (double)(i + 1);
}

static bf_record *make_record(void)
{
    static const char *const token[N + 1] = {"</script>", "<!--", " \xE2\x80\xA8" "x", "\x1b[31m",
                                             "\xE2\x80\xAE", "=cmd"};
    const bf_tensor specs[] = {
        spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
        spec("loss", BF_F64, 1, N, 0, 0, 0),
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.z.grad_norm", BF_F64, 4, L, H, N, N),
        spec("share.q", BF_F64, 4, L, H, N, N),
        spec("share.k", BF_F64, 4, L, H, N, N),
        spec("share.v", BF_F64, 4, L, H, N, N),
        spec("share.mlp", BF_F64, 3, L, N, N, 0),
        spec("share.skip", BF_F64, 3, L, N, N, 0),
        spec("attn", BF_F64, 4, L, H, N, N),
    };
    bf_record *record = NULL;
    bf_error err;
    if (bf_record_new(&record, specs, sizeof specs / sizeof *specs, &err))
        fail_msg("%s", err.msg);
    fill(record);
    set_tokens(record, token, N + 1);
    return record;
}

static bf_buf page_of(const bf_record *record)
{
    bf_error err;
    if (bf_render_report(record, NULL, folder, &err))
        fail_msg("%s", err.msg);
    return read_all(path_of("index.html"));
}

/* The head of the page's data. */
static bf_json *head_of(const bf_buf *page)
{
    const char *from = element(page, "head"), *to = strstr(from, "</script>");
    bf_json *head = NULL;
    bf_error err;
    assert_non_null(to);
    if (bf_json_parse(&head, from, (size_t)(to - from), &err))
        fail_msg("%s", err.msg);
    return head;
}

/* ---- tests */

static void pack_matrix__comes_back_within_half_a_step(void **state)
{
    (void)state;
    enum { ROWS = 3, COLS = 7 };
    double value[ROWS * COLS] = {0};
    size_t i[ROWS] = {1, 4, 6};
    for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j <= i[r]; j++)
            value[r * COLS + j] = pow(-7.3, (double)j) * (r == 1 ? 1e-4 : 1.0);
    value[2 * COLS + 3] = 0.0;
    value[2 * COLS + 4] = 1e-9;
    const bf_matrix m = {.rows = ROWS, .cols = COLS, .value = value, .i = i, .is_signed = true};
    bf_buf out = {0};
    bf_error err;
    double top;
    assert_int_equal(bf_pack_matrix(&out, &top, &m, false, &err), BF_OK);
    unsigned short code[64];
    assert_int_equal(words(code, 64, out.data), 2 + 5 + 7);
    assert_close(top, pow(7.3, 6), 1e-9);
    for (size_t r = 0, at = 0; r < ROWS; r++)
        for (size_t j = 0; j <= i[r]; j++, at++) {
            const double v = value[r * COLS + j];
            if (v == 0.0)
                assert_int_equal(code[at], 0);
            else if (fabs(v) < top * 1e-6)
                assert_int_equal(code[at], 1);
            else
                assert_true(fabs(decode(code[at], top) / v - 1.0) <= 0.00501);
        }
    bf_buf_free(&out);
    assert_int_equal(bf_pack_matrix(&out, &top, &m, true, &err), BF_OK);
    assert_int_equal(words(code, 64, out.data), ROWS * COLS);
    bf_buf_free(&out);
}

static void pack_floats__keep_16_bits(void **state)
{
    (void)state;
    const double value[] = {0.0, 1.0, -3.14159265, 1e-30, -2.5e20, 65535.99};
    float back[6];
    bf_buf out = {0};
    bf_error err;
    assert_int_equal(bf_pack_floats(&out, value, 6, &err), BF_OK);
    assert_int_equal(floats(back, 6, out.data), 6);
    for (size_t k = 0; k < 6; k++)
        assert_true(fabs((double)back[k] - value[k]) <= fabs(value[k]) / 65536.0);
    bf_buf_free(&out);
}

static void page__scripts_are_those_that_the_policy_names(void **state)
{
    (void)state;
    bf_record *record = make_record();
    bf_buf page = page_of(record);
    const bf_page_asset *const assets[] = {&bf_page_early_js, &bf_page_js, &bf_page_css};
    for (size_t k = 0; k < 3; k++) {
        unsigned char hash[SHA256_DIGEST_LENGTH];
        char source[80] = "'sha256-";
        bf_buf text = {0};
        SHA256((const unsigned char *)assets[k]->text, assets[k]->len, hash);
        bf_pack_base64(&text, hash, sizeof hash);
        snprintf(source + 8, sizeof source - 8, "%s'", text.data);
        assert_non_null(strstr(page.data, source));
        bf_buf_free(&text);
    }
    /* Between the first and the last script there are data, of types that no browser runs. */
    size_t run = 0, data = 0;
    for (const char *at = page.data; (at = strstr(at, "<script")); at++) {
        run += strncmp(at, "<script>", 8) == 0;
        data += strncmp(at, "<script type=\"application/octet-stream;base64\" id=\"", 51) == 0 ||
                strncmp(at, "<script type=\"application/json\" id=\"head\">", 42) == 0;
        if (run == 2)
            break;
    }
    assert_int_equal(run, 2);
    assert_true(data > 5);
    assert_null(strstr(page.data, " style=\""));
    assert_null(strstr(page.data, "\xE2\x80\xAE"));
    assert_null(strstr(page.data, "\xE2\x80\xA8" "x"));
    assert_null(strchr(page.data, '\x1b'));
    bf_buf_free(&page);
    bf_record_free(record);
}

static void page__maps_hold_the_record(void **state)
{
    (void)state;
    bf_record *record = make_record();
    bf_buf page = page_of(record);
    bf_json *head = head_of(&page);
    const bf_json *m = bf_json_first(bf_json_get(head, "matrices"));
    assert_string_equal(bf_json_string(bf_json_first(m)), "resid_pre");
    assert_int_equal(bf_json_count(bf_json_get(head, "tokens")), N + 1);
    assert_string_equal(bf_json_string(bf_json_first(bf_json_get(head, "tokens"))), "</script>");
    for (size_t l = 0; l < L; l++) {
        char id[8];
        unsigned short code[64];
        snprintf(id, sizeof id, "m%zu", l);
        assert_int_equal(words(code, 64, element(&page, id)), N * (N + 1) / 2);
        for (size_t i = 0, at = 0; i < N; i++)
            for (size_t j = 0; j <= i; j++, at++) {
                const double back = decode(code[at], g(l, N - 1, N - 1));
                assert_true(fabs(back - g(l, i, j)) <= 0.00501 * g(l, i, j));
                assert_int_equal(code[at] == 0, g(l, i, j) == 0.0);
            }
    }
    bf_json_free(head);
    bf_buf_free(&page);
    bf_record_free(record);
}

static void page__parts_of_a_layer_sum_to_its_flow(void **state)
{
    (void)state;
    enum { C = 3 * H + 3 };
    bf_record *record = make_record();
    bf_buf page = page_of(record);
    float loss[L * C * N], source[L * C * N];
    assert_int_equal(floats(loss, L * C * N, element(&page, "carry_loss")), L * C * N);
    assert_int_equal(floats(source, L * C * N, element(&page, "carry_source")), L * C * N);
    for (size_t l = 0; l < L; l++)
        for (size_t k = 0; k < N; k++) {
            double by_loss = 0.0, by_source = 0.0, sent = 0.0, received = 0.0;
            for (size_t c = 0; c < C - 1; c++) {
                by_loss += loss[(l * C + c) * N + k];
                by_source += source[(l * C + c) * N + k];
            }
            for (size_t j = 0; j < k; j++)
                sent += g(l, k, j);
            for (size_t i = k + 1; i < N; i++)
                received += g(l, i, k);
            assert_close(by_loss, sent, 1e-3 * (sent + 1));
            assert_close(by_source, received, 1e-3 * (received + 1));
            assert_close(loss[(l * C + C - 1) * N + k], sent, 1e-4 * (sent + 1));
            assert_close(source[(l * C + C - 1) * N + k], received, 1e-4 * (received + 1));
        }
    double one = 0.0;
    for (size_t j = 0; j < 3; j++)
        one += share(H + 1, 1, 3, j) * g(1, 3, j); /* layer 1, k of head 1, loss 3 */
    assert_close(loss[(1 * C + H + 1) * N + 3], one, 1e-3 * fabs(one) + 1e-4);
    bf_buf_free(&page);
    bf_record_free(record);
}

/* Parts of a node sum to 1, the flow of each layer to 1; from r edges come as attn * |dz_r|, and
 * what a path brought is its share. */
static void page__edges_carry_the_whole_flow(void **state)
{
    (void)state;
    enum { ROOM = 2000, I = 4 };
    bf_record *record = make_record();
    bf_buf page = page_of(record);
    unsigned short w[5 * ROOM];
    float value[2 * ROOM];
    char id[8];
    snprintf(id, sizeof id, "e%d", I);
    const char *text = element(&page, id);
    const size_t n = words(w, 5 * ROOM, text) / 5;
    assert_int_equal(floats(value, 2 * ROOM, strchr(text, ' ') + 1), 2 * n);
    double into[L][N] = {{0}}, flow[L] = {0}, passed = 0.0, seen = 0.0, other = 0.0, mlp = 0.0, skip = 0.0;
    for (size_t k = 0; k < n; k++) {
        const size_t l = w[k], path = w[n + k], h = w[2 * n + k], r = w[3 * n + k],
                     j = w[4 * n + k];
        assert_true(l < L && path < 5 && h < H && r < N && j <= r);
        into[l][j] += fabs((double)value[k]);
        flow[l] += value[n + k];
        passed += l == 0 && g(1, I, r) > 0.0 ? value[n + k] : 0.0f;
        if (l == 0 && path == 1 && h == 2 && j == 1 && r >= 3)
            *(r == 3 ? &seen : &other) = value[k];
        if (l == 1 && j == 2 && path >= 3)
            *(path == 3 ? &mlp : &skip) = value[k];
    }
    assert_close(flow[0], 1.0, 1e-3);
    assert_close(flow[1], passed, 1e-3); /* what came to a node that says it has nothing ends there */
    for (size_t l = 0; l < L; l++) {
        for (size_t j = 0; j <= I; j++)
            if (g(l, I, j) > 0.0)
                assert_close(into[l][j], 1.0, 1e-3);
    }
    assert_close(mlp / skip, share(3 * H, 1, I, 2) / share(3 * H + 1, 1, I, 2), 1e-3);
    const double at3 = attn(0, 2, 3, 1) * (1.0 + (double)((2 + I * 3) % 5)),
                 at4 = attn(0, 2, 4, 1) * (1.0 + (double)((2 + I * 4) % 5));
    assert_close(seen / other, at3 / at4, 1e-3 * at3 / at4);
    bf_buf_free(&page);
    bf_record_free(record);
}

static void page__says_what_trust_measured(void **state)
{
    (void)state;
    const size_t loss[] = {1, 2}, position[] = {0, 2};
    const double predicted[] = {0.5, -0.25}, real[] = {0.5, 0.125, NAN, 3}, r[] = {1.0, 0.5},
                 size = 0.25;
    const bf_report_move move = {.what = "z\"<", .move = "scaled", .n = 2, .loss = loss,
                                 .position = position, .predicted = predicted, .real = real,
                                 .pearson = r, .slope = r, .residual = 0.125, .range = NAN,
                                 .holds = true};
    const bf_report_extras extras = {.n_moves = 1, .n_sizes = 1, .moves = &move, .sizes = &size,
                                     .stem = "text-01", .text_name = "<i>", .model = "m"};
    bf_record *record = make_record();
    bf_error err;
    if (bf_render_report(record, &extras, folder, &err))
        fail_msg("%s", err.msg);
    bf_buf page = read_all(path_of("text-01.html"));
    bf_json *head = head_of(&page);
    const bf_json *m = bf_json_first(bf_json_get(head, "moves"));
    assert_string_equal(bf_json_string(bf_json_get(m, "what")), "z\"<");
    assert_true(bf_json_true(bf_json_get(m, "holds")));
    assert_int_equal(bf_json_kind(bf_json_get(m, "range")), BF_JSON_NULL);
    const bf_json *point = bf_json_next(bf_json_first(bf_json_get(m, "points")));
    assert_int_equal(bf_json_count(point), 5);
    assert_null(strstr(page.data, "<i>"));
    assert_true(exists(path_of("text-01_graph.svg")));
    bf_json_free(head);
    bf_buf_free(&page);
    bf_record_free(record);
}

static void files__name_each_once_and_all_that_is_written(void **state)
{
    (void)state;
    const char *const *files = bf_report_files();
    size_t n = 0, found = 0;
    for (; files[n]; n++) {
        found += strcmp(files[n], "text-01_graph.svg") == 0 || strcmp(files[n], "text-99.html") == 0;
        for (size_t k = 0; k < n && n < 200; k++)
            assert_string_not_equal(files[k], files[n]);
    }
    assert_int_equal(n, 100 * 18);
    assert_int_equal(found, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pack_matrix__comes_back_within_half_a_step),
        cmocka_unit_test(pack_floats__keep_16_bits),
        cmocka_unit_test(page__scripts_are_those_that_the_policy_names),
        cmocka_unit_test(page__maps_hold_the_record),
        cmocka_unit_test(page__parts_of_a_layer_sum_to_its_flow),
        cmocka_unit_test(page__edges_carry_the_whole_flow),
        cmocka_unit_test(page__says_what_trust_measured),
        cmocka_unit_test(files__name_each_once_and_all_that_is_written),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
