/* Tasks: their statistics, and their truth recomputed from the tokens alone. */
#include "tests/close.h"
#include "tests/scratch.h"

#include "backflow/tokenizer.h"
#include "model/tasks.h"

static bf_task_config task_of(bf_task_kind kind)
{
    bf_task_config t = {.kind = kind};
    bf_task_defaults(&t);
    return t;
}

typedef struct {
    int32_t id[1200];
    uint8_t answer[1200];
    size_t n;
    const bf_task_config *task;
} sequence;

static void draw(sequence *s, const bf_task_config *task, size_t n, uint64_t step)
{
    bf_random random = bf_random_of(3, 0, step, 0);
    s->n = n;
    s->task = task;
    bf_task_tokens(s->id, s->answer, n, task, &random);
    for (size_t k = 0; k < n; k++)
        assert_true(s->id[k] >= 0 && (size_t)s->id[k] < bf_task_vocabulary(task));
}

/* Token k as text, "" behind the end; buf of 64. */
static const char *word(char *buf, const sequence *s, size_t k)
{
    bf_buf out = {0};
    buf[0] = '\0';
    if (k >= s->n)
        return buf;
    bf_task_word(&out, s->task, (size_t)s->id[k]);
    snprintf(buf, 64, "%s", out.data);
    bf_buf_free(&out);
    return buf;
}

static bool is(const sequence *s, size_t k, const char *text)
{
    char buf[64];
    return !strcmp(word(buf, s, k), text);
}

/* ---- real numbers ---- */

static void sine__targets_equal_the_formula(void **state)
{
    (void)state;
    enum { N = 64, ROWS = 400 };
    bf_task_config t = task_of(BF_TASK_SINE);
    double x[2 * N], y[N], sum = 0, square = 0, ones = 0, huber = 0;
    for (size_t r = 0; r < ROWS; r++) {
        bf_random random = bf_random_of(1, 0, 0, r);
        bf_task_sine(x, y, N, &t, &random);
        for (size_t n = 0; n < N; n++) {
            double s = 0;
            for (size_t k = 1; k <= 10; k++)
                s += n >= k ? sin(10 * x[2 * (n - k)]) : 0;
            const double z = x[2 * n + 1];
            assert_true(z == 0 || z == 1);
            assert_close(y[n], z * s + (1 - z) * x[2 * n], 1e-12);
            sum += x[2 * n];
            square += x[2 * n] * x[2 * n];
            ones += z;
            huber += z != 0 ? fabs(s) <= 1 ? 0.5 * s * s : fabs(s) - 0.5 : 0;
        }
    }
    const double count = N * ROWS;
    assert_close(sum / count, 0, 5 / sqrt(count));         /* five deviations of the mean */
    assert_close(square / count, 1, 5 * sqrt(2 / count));
    assert_close(ones / count, 0.3, 5 * sqrt(0.21 / count));
    /* Predicting 0 where z = 1 costs what Wu et al.'s notebook has at p = 1: 1.257. */
    assert_close(huber / ones, 1.257, 0.05);
}

static void sine__z_is_drawn_for_every_position(void **state)
{
    (void)state;
    bf_task_config t = task_of(BF_TASK_SINE);
    double x[128], y[64], same = 0;
    for (size_t r = 0; r < 300; r++) {
        bf_random random = bf_random_of(2, 0, 0, r);
        bf_task_sine(x, y, 64, &t, &random);
        for (size_t n = 1; n < 64; n++)
            same += x[2 * n + 1] == x[2 * n - 1];
    }
    const double count = 300 * 63, p = 0.3 * 0.3 + 0.7 * 0.7;
    assert_close(same / count, p, 5 * sqrt(p * (1 - p) / count));
}

/* ---- tokens ---- */

static void copy__answers_say_the_span_again(void **state)
{
    (void)state;
    const bf_task_config t = task_of(BF_TASK_COPY);
    sequence s;
    size_t lengths[32] = {0}, letters[32] = {0}, total = 0;
    for (size_t step = 0; step < 400; step++) {
        draw(&s, &t, 600, step);
        for (size_t k = 0; k < s.n;) {
            size_t n = 0, at = k + 1;
            assert_true(is(&s, k, "<s>"));
            while (at + n < s.n && !is(&s, at + n, "|")) {
                assert_int_equal(s.answer[at + n], 0);
                n++;
            }
            for (size_t i = 0; i < n && at + n + 1 + i < s.n; i++) {
                assert_int_equal(s.id[at + n + 1 + i], s.id[at + i]);
                assert_int_equal(s.answer[at + n + 1 + i], 1);
            }
            k = at + 2 * n + 1;
            if (k >= s.n)
                break;
            assert_in_range(n, 4, 24);
            lengths[n]++;
            for (size_t i = 0; i < n; i++, total++)
                letters[s.id[at + i] - 2]++;
        }
    }
    for (size_t a = 0; a < 26; a++)
        assert_close((double)letters[a] / (double)total, 1.0 / 26,
                     5 * sqrt(1.0 / 26 / (double)total));
    for (size_t n = 4; n <= 24; n++)
        assert_true(lengths[n] > 0);
}

static void recall__every_question_has_its_value_before(void **state)
{
    (void)state;
    const bf_task_config t = task_of(BF_TASK_RECALL);
    sequence s;
    char key[64], other[64];
    size_t questions = 0;
    for (size_t step = 0; step < 100; step++) {
        draw(&s, &t, 500, step);
        size_t begin = 0;
        for (size_t k = 0; k < s.n; k++) {
            begin = is(&s, k, "<s>") ? k : begin;
            if (!s.answer[k])
                continue;
            assert_true(is(&s, k - 2, "?"));
            word(key, &s, k - 1);
            assert_int_equal(key[0], 'k');
            size_t found = 0;
            for (size_t p = begin + 1; !is(&s, p, "?"); p += 2)
                if (!strcmp(word(other, &s, p), key)) {
                    assert_int_equal(s.id[p + 1], s.id[k]);
                    found++;
                }
            assert_int_equal(found, 1);
            questions++;
        }
    }
    assert_true(questions > 3000);
}

/* ---- polynomials, by a parser of the text and arithmetic of its own ---- */

typedef struct {
    int c[5];
} poly;

static poly times(poly a, poly b)
{
    int wide[9] = {0};
    poly out;
    for (int i = 0; i < 5; i++)
        for (int j = 0; j < 5; j++)
            wide[i + j] += a.c[i] * b.c[j];
    for (int k = 0; k < 5; k++)
        out.c[k] = wide[k] % 7;
    return out;
}

/* sum_k f_k g^k, powers one after the other. */
static poly compose(poly f, poly g)
{
    poly power = {{1}}, out = {{0}};
    for (int k = 0; k < 5; k++, power = times(power, g))
        for (int i = 0; i < 5; i++)
            out.c[i] = (out.c[i] + f.c[k] * power.c[i]) % 7;
    return out;
}

static poly parse(const sequence *s, size_t *at, size_t *operations)
{
    char buf[64];
    poly a = {{0}};
    if (!is(s, *at, "(")) {
        for (int k = 0; k < 5; k++)
            a.c[k] = atoi(word(buf, s, (*at)++));
        return a;
    }
    ++*at;
    ++*operations;
    if (is(s, *at, "-")) {
        ++*at;
        a = parse(s, at, operations);
        for (int k = 0; k < 5; k++)
            a.c[k] = (7 - a.c[k]) % 7;
    } else {
        char sign[64];
        a = parse(s, at, operations);
        word(sign, s, (*at)++);
        const poly b = parse(s, at, operations);
        if (!strcmp(sign, "*"))
            a = times(a, b);
        else if (!strcmp(sign, "o"))
            a = compose(a, b);
        else
            for (int k = 0; k < 5; k++)
                a.c[k] = (a.c[k] + b.c[k]) % 7;
    }
    assert_true(is(s, (*at)++, ")"));
    return a;
}

static void polynomial__values_equal_a_parsers(void **state)
{
    (void)state;
    const bf_task_config t = task_of(BF_TASK_POLYNOMIAL);
    sequence s;
    char buf[64];
    size_t with[8] = {0}, expressions = 0;
    for (size_t step = 0; step < 200; step++) {
        draw(&s, &t, 600, step);
        for (size_t k = 0; k + 60 < s.n;) {
            size_t operations = 0;
            assert_true(is(&s, k++, "<s>"));
            const poly value = parse(&s, &k, &operations);
            assert_true(is(&s, k++, "="));
            for (int i = 0; i < 5; i++, k++) {
                assert_int_equal(atoi(word(buf, &s, k)), value.c[i]);
                assert_int_equal(s.answer[k], 1);
            }
            assert_in_range(operations, 1, 5);
            with[operations]++;
            expressions++;
        }
    }
    for (size_t m = 1; m <= 5;
         m++) /* the last of each sequence is left out, which favours short ones */
        assert_close((double)with[m] / (double)expressions, 0.2, 0.05);
}

static void polynomial__ring_laws(void **state)
{
    (void)state;
    bf_random random = bf_random_of(1, 2, 3, 4);
    for (int round = 0; round < 500; round++) {
        bf_poly p[3], x = {{0, 1, 0, 0, 0}};
        for (size_t k = 0; k < 15; k++)
            p[k / 5].c[k % 5] = (uint8_t)bf_random_below(&random, 7);
        const bf_poly left = bf_poly_times(p[0], bf_poly_add(p[1], p[2])),
                      right = bf_poly_add(bf_poly_times(p[0], p[1]), bf_poly_times(p[0], p[2]));
        assert_memory_equal(&left, &right, sizeof left);
        const bf_poly same = bf_poly_compose(p[0], x),
                      zero = bf_poly_add(p[0], bf_poly_negate(p[0]));
        assert_memory_equal(&same, &p[0], sizeof same);
        const bf_poly none = {{0}};
        assert_memory_equal(&zero, &none, sizeof zero);
    }
}

/* ---- stories ---- */

static bool begins_name(const sequence *s, size_t k)
{
    const size_t V = bf_task_vocabulary(s->task), n = s->task->symbols;
    return (size_t)s->id[k] >= V - 2 * n && (size_t)s->id[k] < V - n;
}

static bool ends_name(const sequence *s, size_t k)
{
    return (size_t)s->id[k] >= bf_task_vocabulary(s->task) - s->task->symbols;
}

static void induction__a_name_has_two_tokens_and_keeps_them(void **state)
{
    (void)state;
    const bf_task_config t = task_of(BF_TASK_INDUCTION);
    sequence s;
    size_t answers = 0, tokens = 0, firsts = 0;
    for (size_t step = 0; step < 100; step++) {
        draw(&s, &t, 1000, step);
        size_t begin = 0;
        for (size_t k = 0; k + 1 < s.n; k++, tokens++) {
            begin = is(&s, k, "<s>") ? k : begin;
            assert_false(is(&s, k, "[UNK]"));
            assert_true(ends_name(&s, k + 1) == begins_name(&s, k));
            if (!begins_name(&s, k))
                continue;
            int32_t before = -1;
            for (size_t p = begin; p < k; p++)
                before = s.id[p] == s.id[k] ? s.id[p + 1] : before;
            assert_int_equal(s.answer[k + 1], before >= 0);
            if (before >= 0)
                assert_int_equal(s.id[k + 1], before);
            answers += before >= 0;
            firsts += before < 0;
        }
    }
    assert_true(answers > 3 * firsts); /* names come again */
    assert_true(answers * 20 > tokens);
}

static void induction__second_syllables_are_even(void **state)
{
    (void)state;
    const bf_task_config t = task_of(BF_TASK_INDUCTION);
    sequence s;
    size_t seen[60] = {0}, total = 0;
    for (size_t step = 0; step < 300; step++) {
        draw(&s, &t, 1000, step);
        for (size_t k = 0; k + 1 < s.n; k++)
            if (begins_name(&s, k) && !s.answer[k + 1]) {
                seen[(size_t)s.id[k + 1] - (bf_task_vocabulary(&t) - t.symbols)]++;
                total++;
            }
    }
    for (size_t k = 0; k < t.symbols; k++)
        assert_close((double)seen[k] / (double)total, 1.0 / 48, 5 * sqrt(1.0 / 48 / (double)total));
}

/* ---- all token tasks ---- */

static void tokenizer__ids_of_the_text_are_the_tasks(void **state)
{
    (void)state;
    for (int kind = BF_TASK_COPY; kind < BF_TASKS; kind++) {
        const bf_task_config t = task_of((bf_task_kind)kind);
        bf_buf json = {0}, text = {0};
        bf_tokenizer *tokenizer = NULL;
        bf_error err = {0};
        bf_token *token = NULL;
        sequence s;
        size_t n = 0;
        bf_task_tokenizer(&json, &t);
        if (bf_tokenizer_parse(&tokenizer, json.data, json.len, &err))
            fail_msg("%s: %s", bf_task_name(t.kind), err.msg);
        assert_int_equal(bf_tokenizer_size(tokenizer), bf_task_vocabulary(&t));
        draw(&s, &t, 400, 7);
        for (size_t k = 0; k < s.n; k++) {
            char buf[64];
            word(buf, &s, k);
            const bool joins = buf[0] == '#';
            bf_buf_text(&text, k && !joins ? " " : "");
            bf_buf_text(&text, joins ? buf + 2 : buf);
        }
        if (bf_tokenizer_encode(&token, &n, tokenizer, text.data, text.len, &err))
            fail_msg("%s: %s", bf_task_name(t.kind), err.msg);
        /* a name that is cut off at the end may be another token */
        assert_true(n == s.n);
        for (size_t k = 0; k + 1 < n; k++)
            assert_int_equal(token[k].id, s.id[k]);
        free(token);
        bf_tokenizer_free(tokenizer);
        bf_buf_free(&json);
        bf_buf_free(&text);
    }
}

static void words__differ(void **state)
{
    (void)state;
    for (int kind = BF_TASK_COPY; kind < BF_TASKS; kind++) {
        bf_task_config t = task_of((bf_task_kind)kind);
        t.symbols = kind == BF_TASK_COPY ? 800 : t.symbols;
        for (size_t a = 0; a < bf_task_vocabulary(&t); a++) {
            bf_buf x = {0};
            bf_task_word(&x, &t, a);
            for (size_t b = 0; b < a; b++) {
                bf_buf y = {0};
                bf_task_word(&y, &t, b);
                assert_string_not_equal(x.data, y.data);
                bf_buf_free(&y);
            }
            bf_buf_free(&x);
        }
    }
}

static void tasks__are_a_function_of_the_generator(void **state)
{
    (void)state;
    for (int kind = BF_TASK_COPY; kind < BF_TASKS; kind++) {
        const bf_task_config t = task_of((bf_task_kind)kind);
        sequence a, b, c;
        draw(&a, &t, 300, 1);
        draw(&b, &t, 300, 1);
        draw(&c, &t, 300, 2);
        assert_memory_equal(a.id, b.id, 300 * sizeof *a.id);
        assert_memory_not_equal(a.id, c.id, 300 * sizeof *a.id);
    }
}

static void check__what_cannot_be_is_refused(void **state)
{
    (void)state;
    bf_error err;
    bf_task_config t = task_of(BF_TASK_COPY);
    assert_int_equal(bf_task_check(&t, 50, &err), BF_OK);
    assert_int_equal(bf_task_check(&t, 49, &err), BF_ESHAPE);
    assert_non_null(strstr(err.msg, "copy, 50"));
    t.least = 30;
    assert_int_equal(bf_task_check(&t, 500, &err), BF_EARG);
    t = task_of(BF_TASK_RECALL);
    t.symbols = 8;
    assert_int_equal(bf_task_check(&t, 500, &err), BF_EARG);
    t = task_of(BF_TASK_INDUCTION);
    t.symbols = 61;
    assert_int_equal(bf_task_check(&t, 500, &err), BF_EARG);
    t = task_of(BF_TASK_POLYNOMIAL);
    t.most = 33;
    assert_int_equal(bf_task_check(&t, 500, &err), BF_EARG);
    t = task_of(BF_TASK_SINE);
    t.p = NAN;
    assert_int_equal(bf_task_check(&t, 500, &err), BF_EARG);
    for (int k = 0; k < BF_TASKS; k++)
        assert_int_equal(bf_task_find(bf_task_name((bf_task_kind)k)), k);
    assert_int_equal(bf_task_find("cop"), -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sine__targets_equal_the_formula),
        cmocka_unit_test(sine__z_is_drawn_for_every_position),
        cmocka_unit_test(copy__answers_say_the_span_again),
        cmocka_unit_test(recall__every_question_has_its_value_before),
        cmocka_unit_test(polynomial__values_equal_a_parsers),
        cmocka_unit_test(polynomial__ring_laws),
        cmocka_unit_test(induction__a_name_has_two_tokens_and_keeps_them),
        cmocka_unit_test(induction__second_syllables_are_even),
        cmocka_unit_test(tokenizer__ids_of_the_text_are_the_tasks),
        cmocka_unit_test(words__differ),
        cmocka_unit_test(tasks__are_a_function_of_the_generator),
        cmocka_unit_test(check__what_cannot_be_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
