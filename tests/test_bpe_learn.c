/* Merges against the `tokenizers` library (tests/data/bpe_learned.json, by
 * tests/make_bpe_golden.py), and against a learner that counts everything anew before each merge.
 */
#include "tests/scratch.h"
#include "tests/starve.h"

#include "backflow/tokenizer.h"
#include "base/json.h"
#include "model/bpe_learn.h"

static const char *const special[] = {"<|endoftext|>", "<|mask|>"};

static void learn(bf_buf *out, const char *text, size_t len, size_t vocabulary, size_t n_special)
{
    bf_bpe_learner *learner = NULL;
    bf_error err = {0};
    if (bf_bpe_learner_new(&learner, special, n_special, &err) ||
        bf_bpe_learner_feed(learner, text, len, &err) ||
        bf_bpe_learner_finish(out, learner, vocabulary, &err))
        fail_msg("%s", err.msg);
    bf_bpe_learner_free(learner);
}

static bf_json *parse(const bf_buf *text)
{
    bf_json *json = NULL;
    bf_error err;
    if (bf_json_parse(&json, text->data, text->len, &err))
        fail_msg("%s", err.msg);
    return json;
}

static const bf_json *model_of(const bf_json *json, const char *key)
{
    const bf_json *v = bf_json_get(bf_json_get(json, "model"), key);
    assert_non_null(v);
    return v;
}

static void assert_same_merges(const bf_json *a, const bf_json *b)
{
    assert_int_equal(bf_json_count(a), bf_json_count(b));
    const bf_json *y = bf_json_first(b);
    for (const bf_json *x = bf_json_first(a); x; x = bf_json_next(x), y = bf_json_next(y)) {
        const bf_json *p = bf_json_first(x), *q = bf_json_first(y);
        assert_string_equal(bf_json_string(p), bf_json_string(q));
        assert_string_equal(bf_json_string(bf_json_next(p)), bf_json_string(bf_json_next(q)));
    }
}

static void learn__equals_the_tokenizers_library(void **state)
{
    (void)state;
    bf_buf text = {0}, mine = {0};
    bf_json *theirs = NULL;
    assert_int_equal(bf_file_read(&text, "tests/data/bpe_text.txt", 1 << 20, NULL), BF_OK);
    assert_int_equal(bf_json_read(&theirs, "tests/data/bpe_learned.json", 1 << 20, NULL), BF_OK);
    learn(&mine, text.data, text.len, 900, 2);
    bf_json *json = parse(&mine);
    assert_same_merges(model_of(json, "merges"), model_of(theirs, "merges"));
    const bf_json *vocab = model_of(theirs, "vocab");
    assert_int_equal(bf_json_count(vocab), bf_json_count(model_of(json, "vocab")));
    for (const bf_json *v = bf_json_first(vocab); v; v = bf_json_next(v)) {
        size_t wanted, id;
        assert_true(bf_json_size(v, &wanted));
        assert_true(bf_json_size(bf_json_get(model_of(json, "vocab"), bf_json_key(v)), &id));
        assert_int_equal(id, wanted);
    }
    bf_json_free(json);
    bf_json_free(theirs);
    bf_buf_free(&text);
    bf_buf_free(&mine);
}

static void learn__our_tokenizer_reads_it_and_gives_the_text_back(void **state)
{
    (void)state;
    bf_buf text = {0}, json = {0};
    bf_tokenizer *t = NULL;
    bf_token *token = NULL;
    size_t n = 0;
    char *back = NULL;
    assert_int_equal(bf_file_read(&text, "tests/data/bpe_text.txt", 1 << 20, NULL), BF_OK);
    learn(&json, text.data, text.len, 700, 1);
    assert_int_equal(bf_tokenizer_parse(&t, json.data, json.len, NULL), BF_OK);
    assert_int_equal(bf_tokenizer_size(t), 700);
    assert_int_equal(bf_tokenizer_encode(&token, &n, t, text.data, text.len, NULL), BF_OK);
    assert_true(n < text.len / 2); /* it has learnt something */
    int64_t *ids = calloc(n, sizeof *ids);
    assert_non_null(ids);
    for (size_t k = 0; k < n; k++)
        ids[k] = token[k].id;
    assert_int_equal(bf_tokenizer_decode(&back, t, ids, n, NULL), BF_OK);
    assert_string_equal(back, text.data);
    free(ids);
    free(back);
    free(token);
    bf_tokenizer_free(t);
    bf_buf_free(&text);
    bf_buf_free(&json);
}

/* ---- the obvious learner: words of 'a' to 'd' without spaces between them ---- */

enum { WORDS = 40, LONGEST = 24, TOKENS = 64 };
typedef struct {
    int symbol[WORDS][LONGEST];
    int n[WORDS];
    char text[TOKENS][LONGEST + 1];
    int n_tokens;
} naive;

static int count_pair(const naive *v, int a, int b)
{
    int count = 0;
    for (int w = 0; w < WORDS; w++)
        for (int k = 0; k + 1 < v->n[w]; k++)
            count += v->symbol[w][k] == a && v->symbol[w][k + 1] == b;
    return count;
}

static void merge_pair(naive *v, int a, int b, int id)
{
    for (int w = 0; w < WORDS; w++) {
        int n = 0;
        for (int k = 0; k < v->n[w]; k++) {
            const int pair = v->symbol[w][k] == a && k + 1 < v->n[w] && v->symbol[w][k + 1] == b;
            v->symbol[w][n++] = pair ? id : v->symbol[w][k];
            k += pair;
        }
        v->n[w] = n;
    }
}

/* Appends the merges to out as "a b\n"; stops where a text would be made twice, which the two count
 * differently. */
static void learn_naively(naive *v, bf_buf *out, int merges)
{
    while (merges--) {
        int best = 0, a = 0, b = 0;
        for (int x = 0; x < v->n_tokens; x++)
            for (int y = 0; y < v->n_tokens; y++) {
                const int count = count_pair(v, x, y);
                if (count > best) {
                    best = count;
                    a = x;
                    b = y;
                }
            }
        char text[2 * LONGEST + 1];
        snprintf(text, sizeof text, "%s%s", v->text[a], v->text[b]);
        for (int t = 0; t < v->n_tokens; t++)
            if (!strcmp(v->text[t], text))
                best = 0;
        if (!best || v->n_tokens == TOKENS)
            return;
        bf_buf_printf(out, "%s %s\n", v->text[a], v->text[b]);
        snprintf(v->text[v->n_tokens], sizeof v->text[0], "%.*s", LONGEST, text);
        merge_pair(v, a, b, v->n_tokens++);
    }
}

static void put_merges(bf_buf *out, const bf_json *merges, size_t most)
{
    for (const bf_json *m = bf_json_first(merges); m && most; m = bf_json_next(m), most--)
        bf_buf_printf(out, "%s %s\n", bf_json_string(bf_json_first(m)),
                      bf_json_string(bf_json_next(bf_json_first(m))));
}

static void learn__equals_counting_anew_before_each_merge(void **state)
{
    (void)state;
    uint64_t seed = 5;
    for (int round = 0; round < 20; round++) {
        naive v = {.n_tokens = 4, .text = {"a", "b", "c", "d"}};
        bf_buf text = {0}, json = {0}, mine = {0}, theirs = {0};
        for (int w = 0; w < WORDS; w++) {
            v.n[w] = 1 + (int)(scratch_random(&seed) % (LONGEST - 1));
            for (int k = 0; k < v.n[w]; k++) {
                v.symbol[w][k] = (int)(scratch_random(&seed) % (2 + (unsigned)round % 3));
                bf_buf_bytes(&text, &"abcd"[v.symbol[w][k]], 1);
            }
            bf_buf_text(&text, "\n");
        }
        learn_naively(&v, &theirs, 50);
        learn(&json, text.data, text.len, 257 + 50, 1);
        bf_json *file = parse(&json);
        size_t lines = 0;
        for (size_t k = 0; k < theirs.len; k++)
            lines += theirs.data[k] == '\n';
        assert_true(lines > 5);
        put_merges(&mine, model_of(file, "merges"), lines);
        assert_string_equal(mine.data, theirs.data);
        bf_json_free(file);
        bf_buf_free(&text);
        bf_buf_free(&json);
        bf_buf_free(&mine);
        bf_buf_free(&theirs);
    }
}

static void learn__stops_where_nothing_is_left(void **state)
{
    (void)state;
    bf_buf json = {0}, empty = {0};
    learn(&json, "abab", 4, 5000, 0);
    bf_json *file = parse(&json);
    assert_int_equal(bf_json_count(model_of(file, "vocab")), 256 + 2); /* ab, abab */
    learn(&empty, "", 0, 256, 0);
    bf_json_free(file);
    bf_buf_free(&json);
    bf_buf_free(&empty);
}

static void learn__bytes_that_are_no_utf8_do_no_harm(void **state)
{
    (void)state;
    uint64_t seed = 9;
    char bytes[5000];
    bf_buf json = {0};
    for (size_t k = 0; k < sizeof bytes; k++)
        bytes[k] = (char)scratch_random(&seed);
    learn(&json, bytes, sizeof bytes, 400, 1);
    bf_json_free(parse(&json));
    bf_buf_free(&json);
}

static void learn__refuses_what_cannot_be(void **state)
{
    (void)state;
    bf_bpe_learner *learner = NULL;
    bf_error err;
    bf_buf json = {0};
    assert_int_equal(bf_bpe_learner_new(&learner, (const char *const[]){"x", "x"}, 2, &err),
                     BF_EARG);
    assert_non_null(strstr(err.msg, "twice"));
    assert_int_equal(bf_bpe_learner_new(&learner, (const char *const[]){""}, 1, &err), BF_EARG);
    assert_int_equal(bf_bpe_learner_new(&learner, (const char *const[]){"\xFF"}, 1, &err), BF_EARG);
    assert_null(learner);
    assert_int_equal(bf_bpe_learner_new(&learner, special, 2, &err), BF_OK);
    assert_int_equal(bf_bpe_learner_finish(&json, learner, 257, &err), BF_EARG);
    assert_non_null(strstr(err.msg, "at least 258"));
    bf_bpe_learner_free(learner);
    bf_buf_free(&json);
}

#ifdef STARVE
/* Not while words are cut: Oniguruma frees twice where memory runs out. */
static void finish__any_allocation_may_fail(void **state)
{
    (void)state;
    static const char text[] = "the cat and the hat and that cat sat on the mat";
    bf_error err;
    bf_code rc = BF_ENOMEM;
    size_t n = 0;
    for (; rc == BF_ENOMEM; n++) {
        const long before = starve_live();
        bf_bpe_learner *learner = NULL;
        bf_buf json = {0};
        assert_int_equal(bf_bpe_learner_new(&learner, special, 1, &err), BF_OK);
        assert_int_equal(bf_bpe_learner_feed(learner, text, sizeof text - 1, &err), BF_OK);
        starve_after(n);
        rc = bf_bpe_learner_finish(&json, learner, 290, &err);
        starve_end();
        bf_bpe_learner_free(learner);
        bf_buf_free(&json);
        assert_true(rc == BF_OK || rc == BF_ENOMEM);
        if (n) /* Oniguruma keeps what it made at first */
            assert_int_equal(starve_live(), before);
    }
    assert_true(n > 20);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(learn__equals_the_tokenizers_library),
        cmocka_unit_test(learn__our_tokenizer_reads_it_and_gives_the_text_back),
        cmocka_unit_test(learn__equals_counting_anew_before_each_merge),
        cmocka_unit_test(learn__stops_where_nothing_is_left),
        cmocka_unit_test(learn__bytes_that_are_no_utf8_do_no_harm),
        cmocka_unit_test(learn__refuses_what_cannot_be),
#ifdef STARVE
        cmocka_unit_test(finish__any_allocation_may_fail),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
