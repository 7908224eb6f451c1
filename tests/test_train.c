/* test_train.c -- trainings as folders: the same bits after any interruption and for any number of threads,
 * and models that open. */
#include "tests/train_run.h"

#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/close.h"

/* ---- the same bits ---- */

static void train__resumed_run_has_the_bits_of_a_whole_one(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err;
    run(folder(s, "whole"), &c, data, false);
    for (c.until = 1; c.until < STEPS; c.until += 3)
        assert_int_equal(fails(folder(s, "parts"), &c, data, true, &err), BF_EINTERRUPTED);
    c.until = 0;
    run(folder(s, "parts"), &c, data, true);
    assert_same(folder(s, "whole"), folder(s, "parts"));
    run(folder(s, "parts"), &c, data, true); /* nothing left to do */
    assert_same(folder(s, "whole"), folder(s, "parts"));
    bf_data_free(data);
}

/* Rows that fill more than one tile. */
static void train__threads_do_not_change_a_bit(void **state)
{
    static const char *const name[] = {"one", "two", "five"};
    static const size_t threads[] = {1, 2, 5};
    scratch *s = *state;
    bf_data *data = open_data(s, 5, 128, 1);
    bf_train_config c = plain();
    for (int f64 = 0; f64 < 2; f64++) {
        c.f64 = f64;
        for (size_t k = 0; k < 3; k++) {
            char path[64];
            snprintf(path, sizeof path, "%s%d", name[k], f64);
            c.threads = threads[k];
            run(folder(s, path), &c, data, false);
        }
        assert_same(folder(s, f64 ? "one1" : "one0"), folder(s, f64 ? "two1" : "two0"));
        assert_same(folder(s, f64 ? "one1" : "one0"), folder(s, f64 ? "five1" : "five0"));
    }
    bf_data_free(data);
}

/* Float and double tell the same story for 200 steps (and double tells PyTorch's: test_train_grad.c). */
static void train__f32_follows_f64(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    c.steps = 200;
    c.rate = 3e-3;
    c.accumulate = 1;
    c.checkpoint = 200;
    run(folder(s, "f32"), &c, data, false);
    c.f64 = true;
    run(folder(s, "f64"), &c, data, false);
    bf_buf a = read_part(folder(s, "f32"), "log.jsonl"), b = read_part(folder(s, "f64"), "log.jsonl");
    const char *x = a.data, *y = b.data;
    size_t lines = 0;
    for (; *x && *y; x = strchr(x, '\n') + 1, y = strchr(y, '\n') + 1, lines++)
        assert_close(field(x, "\"loss"), field(y, "\"loss"), 1e-3);
    assert_int_equal(lines, 200);
    bf_buf_free(&a);
    bf_buf_free(&b);
    bf_data_free(data);
}

/* A child trains, is killed at any moment, and is sent on until it comes through. */
static void train__killed_run_resumes_to_the_same_bits(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    const char *rounds = getenv("BF_KILLS"); /* tests/kill_train.sh asks for more */
    int kills = rounds ? atoi(rounds) : 5, status = 0;
    c.steps = 40;
    c.checkpoint = 1;
    run(folder(s, "whole"), &c, data, false);
    srand(11);
    for (;;) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            _exit(bf_train(folder(s, "killed"), &c, data, true, NULL, NULL, NULL, NULL, NULL) ? 1 : 0);
        if (kills-- > 0) {
            nanosleep(&(struct timespec){0, rand() % 40000000}, NULL);
            kill(child, SIGKILL);
        }
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status))
            break;
    }
    assert_int_equal(WEXITSTATUS(status), 0);
    run(folder(s, "killed"), &c, data, true);
    assert_same(folder(s, "whole"), folder(s, "killed"));
    bf_data_free(data);
}

/* ---- what comes out ---- */

static size_t count_lines(const bf_buf *text)
{
    size_t n = 0;
    for (size_t k = 0; k < text->len; k++)
        n += text->data[k] == '\n' ? 1 : 0;
    return n;
}

static void train__log_has_each_step_once(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_error err;
    run(folder(s, "whole"), &c, data, false);
    c.until = 7;
    assert_int_equal(fails(folder(s, "parts"), &c, data, false, &err), BF_EINTERRUPTED);
    FILE *f = fopen(folder(s, "parts/log.jsonl"), "a"); /* as a run would leave that was killed later */
    assert_non_null(f);
    fputs("{\"step\": 8, \"loss\": 1}\n{\"step\": 9, \"lo", f);
    fclose(f);
    c.until = 0;
    run(folder(s, "parts"), &c, data, true);
    bf_buf log = read_part(folder(s, "parts"), "log.jsonl");
    bf_buf whole = read_part(folder(s, "whole"), "log.jsonl");
    assert_int_equal(count_lines(&log), STEPS);
    const char *x = log.data, *y = whole.data;
    for (size_t k = 1; k <= STEPS; k++, x = strchr(x, '\n') + 1, y = strchr(y, '\n') + 1) {
        assert_true(field(x, "\"step") == (double)k);
        assert_true(field(x, "\"loss") == field(y, "\"loss"));
        const bool measured = k % 5 == 0 || k == STEPS;
        assert_true(isnan(field(x, "\"held_out")) == !measured);
    }
    bf_buf_free(&log);
    bf_buf_free(&whole);
    bf_data_free(data);
}

static volatile sig_atomic_t stop_now;

static void stop_at_three(void *context, const bf_train_state *state)
{
    *(size_t *)context = state->step;
    stop_now = state->step == 3;
}

static void train__stop_flag_saves(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    bf_train_state last;
    bf_error err;
    size_t seen = 0;
    stop_now = 0;
    assert_int_equal(bf_train(folder(s, "stopped"), &c, data, false, &last, stop_at_three, &seen, &stop_now,
                              &err), BF_EINTERRUPTED);
    assert_int_equal(seen, 3);
    assert_int_equal(last.step, 3);
    run(folder(s, "whole"), &c, data, false);
    run(folder(s, "stopped"), &c, data, true);
    assert_same(folder(s, "whole"), folder(s, "stopped"));
    bf_data_free(data);
}

/* The mean loss that tracing the saved model finds on two held-out batches is what the training measured. */
static double traced_loss(const char *path, bf_data *data)
{
    bf_model *model = NULL;
    bf_error err = {0};
    bf_batch batch;
    double sum = 0;
    size_t n = 0;
    if (bf_model_open(&model, path, &err))
        fail_msg("%s", err.msg);
    for (size_t s = 0; s < 2 * B; s++) {
        const size_t b = s % B;
        assert_int_equal(bf_data_batch(&batch, data, BF_SPLIT_HELD_OUT, s / B, &err), BF_OK);
        int64_t tokens[T + 1];
        bf_record *record = NULL;
        for (size_t j = 0; j < T; j++) {
            tokens[j] = batch.input[b * T + j];
            tokens[j + 1] = batch.target[(b * T + j) * batch.heads];
        }
        const bf_query query = {.tokens = tokens, .n_tokens = T + 1, .sites = BF_SITE_RESID_FINAL,
                                .scores = BF_SCORE_GRAD_NORM, .no_attn = true};
        if (bf_trace(&record, model, &query, NULL, NULL, NULL, &err))
            fail_msg("%s", err.msg);
        const bf_tensor *loss = bf_record_find(record, "loss");
        assert_non_null(loss);
        for (size_t j = 0; j < T; j++, n++)
            sum += loss->dtype == BF_F64 ? ((double *)loss->data)[j] : (double)((float *)loss->data)[j];
        bf_record_free(record);
    }
    bf_model_free(model);
    return sum / (double)n;
}

static void check_traced(scratch *s, const char *name, bf_train_config c, size_t heads)
{
    bf_data *data = open_data(s, B, T, heads);
    bf_train_state last;
    bf_error err = {0};
    c.held_out = 2;
    if (bf_train(folder(s, name), &c, data, false, &last, NULL, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    const double loss = traced_loss(folder(s, name), data);
    if (heads == 1)
        assert_close(loss, last.held_out, 1e-5);
    else
        assert_true(loss < last.held_out && loss > 0.2); /* the next-token head's part of a sum over heads */
    bf_data_free(data);
}

static void train__saved_model_opens_and_has_the_loss(void **state)
{
    bf_train_config c = plain();
    check_traced(*state, "gpt2", c, 1);
    c.model = "{\"model_type\": \"llama\", \"num_hidden_layers\": 2, \"hidden_size\": 12, "
              "\"num_attention_heads\": 4, \"num_key_value_heads\": 2, \"head_dim\": 4, "
              "\"intermediate_size\": 20, \"vocab_size\": 17, \"max_position_embeddings\": 64, "
              "\"backflow\": {\"mask\": {\"window\": 9, \"sink\": 2}}}";
    check_traced(*state, "llama", c, 1);
    c.cut = BF_CUT_MYOPIC;
    check_traced(*state, "myopic", c, 1);
    c.cut = BF_CUT_NONE;
    c.objective = BF_OBJECTIVE_HEADS;
    c.heads = 3;
    check_traced(*state, "heads", c, 3);
    bf_buf heads = read_part(folder(*state, "heads"), "heads.safetensors");
    assert_true(heads.len > 1000);
    bf_buf_free(&heads);
}

/* Before its first step a local run reads what the model that stays has kept: that is the model itself. */
static void train__local_cut_begins_at_the_start_model(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    double loss[2][2];
    run(folder(s, "start"), &c, data, false);
    c.start = folder(s, "start");
    c.steps = 2;
    c.warmup = 0;
    for (int k = 0; k < 2; k++) {
        c.cut = k ? BF_CUT_LOCAL : BF_CUT_NONE;
        run(folder(s, k ? "local" : "plain"), &c, data, false);
        bf_buf log = read_part(folder(s, k ? "local" : "plain"), "log.jsonl");
        loss[k][0] = field(log.data, "\"loss");
        loss[k][1] = field(strchr(log.data, '\n') + 1, "\"loss");
        bf_buf_free(&log);
    }
    assert_close(loss[1][0], loss[0][0], 1e-6);
    assert_true(fabs(loss[1][1] - loss[0][1]) > 1e-5);
    bf_data_free(data);
}

static void train_check__counts(void **state)
{
    scratch *s = *state;
    bf_data *data = open_data(s, B, T, 1);
    const bf_train_config c = plain();
    bf_train_plan plan;
    bf_error err = {0};
    assert_int_equal(bf_train_check(&plan, &c, data, &err), BF_OK);
    const size_t layer = 4 * 12 + 12 * 36 + 36 + 144 + 12 + 2 * 240 + 20 + 12;
    assert_int_equal(plan.parameters, 17 * 12 + 256 * 12 + 24 + 2 * layer);
    assert_int_equal(plan.extra_parameters, 0);
    assert_int_equal(plan.tokens, 2 * B * T);
    assert_true(plan.bytes > 4 * sizeof(float) * plan.parameters);
    bf_data_free(data);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(train__resumed_run_has_the_bits_of_a_whole_one),
        TEST(train__threads_do_not_change_a_bit),
        TEST(train__f32_follows_f64),
        TEST(train__killed_run_resumes_to_the_same_bits),
        TEST(train__log_has_each_step_once),
        TEST(train__stop_flag_saves),
        TEST(train__saved_model_opens_and_has_the_loss),
        TEST(train__local_cut_begins_at_the_start_model),
        TEST(train_check__counts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
