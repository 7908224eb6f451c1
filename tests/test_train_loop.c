/* test_train_loop.c -- bf_train's loop against the same steps written out: batches, accumulation, clipping,
 * warm-up and cosine, AdamW. */
#define BF_BITS 64

#include "tests/train_run.h"

#include "base/gemm.h"
#include "model/num/train.h"
#include "tests/close.h"

enum { N_STEPS = 7, ACCUMULATE = 3 };

typedef struct {
    bf_train_layout layout;
    bf_pool *pool;
    bf_train_f64 *t;
    double *grad, *m, *v; /* [layout.values] */
} plain_run;

static void begin(plain_run *p, const bf_train_config *c)
{
    bf_error err = {0};
    bf_gemm_init();
    if (bf_train_layout_new(&p->layout, c, &err) || bf_pool_new(&p->pool, 1, &err) ||
        bf_train_new_f64(&p->t, c, &p->layout, p->pool, B, T, &err))
        fail_msg("%s", err.msg);
    bf_train_first(p->t->param, BF_F64, &p->layout, 2, c->seed);
    p->grad = calloc(p->layout.values, sizeof *p->grad);
    p->m = calloc(p->layout.values, sizeof *p->m);
    p->v = calloc(p->layout.values, sizeof *p->v);
    assert_true(p->grad && p->m && p->v);
}

static void end(plain_run *p)
{
    free(p->grad);
    free(p->m);
    free(p->v);
    bf_train_free_f64(p->t);
    bf_pool_free(p->pool);
    bf_train_layout_free(&p->layout);
}

/* The mean loss and gradient of a step's batches. */
static double gradient(plain_run *p, bf_data *data, size_t step)
{
    double mean = 0;
    memset(p->grad, 0, p->layout.values * sizeof *p->grad);
    for (size_t k = 0; k < ACCUMULATE; k++) {
        bf_batch batch;
        double loss;
        assert_int_equal(bf_data_batch(&batch, data, BF_SPLIT_TRAIN, step * ACCUMULATE + k, NULL), BF_OK);
        p->t->add = false;
        p->t->number = step * ACCUMULATE + k;
        bf_train_batch_f64(&loss, p->t, &batch, true, 1);
        mean += loss / ACCUMULATE;
        for (size_t x = 0; x < p->layout.values; x++)
            p->grad[x] += p->t->grad[x] / ACCUMULATE;
    }
    return mean;
}

static double rate_of(const bf_train_config *c, size_t step)
{
    if (step < c->warmup)
        return c->rate * (double)(step + 1) / (double)c->warmup;
    const double done = (double)(step - c->warmup) / (double)(c->steps - c->warmup);
    return c->least_rate + (c->rate - c->least_rate) * 0.5 * (1 + cos(acos(-1) * done));
}

static double update(plain_run *p, const bf_train_config *c, size_t step)
{
    double squares = 0, rate = rate_of(c, step), t = (double)step + 1;
    for (size_t x = 0; x < p->layout.values; x++)
        squares += p->grad[x] * p->grad[x];
    const double scale = sqrt(squares) > c->clip ? c->clip / (sqrt(squares) + 1e-6) : 1;
    for (size_t k = 0; k < p->layout.n; k++) {
        const bf_train_tensor *w = &p->layout.tensor[k];
        for (size_t x = w->at; x < w->at + w->count; x++) {
            const double g = scale * p->grad[x];
            p->m[x] = c->beta1 * p->m[x] + (1 - c->beta1) * g;
            p->v[x] = c->beta2 * p->v[x] + (1 - c->beta2) * g * g;
            if (w->rank == 2)
                p->t->param[x] *= 1 - rate * c->decay;
            p->t->param[x] -= rate * p->m[x] / (1 - pow(c->beta1, t)) /
                              (sqrt(p->v[x] / (1 - pow(c->beta2, t))) + c->epsilon);
        }
    }
    return sqrt(squares);
}

static void check_loop(scratch *s, const char *name, double clip, bf_dropout dropout)
{
    bf_data *data = open_data(s, B, T, 1);
    bf_train_config c = plain();
    plain_run p;
    c.f64 = true;
    c.steps = N_STEPS;
    c.accumulate = ACCUMULATE;
    c.clip = clip;
    c.dropout = dropout;
    c.least_rate = 1e-3;
    c.beta1 = 0.8;
    c.beta2 = 0.9;
    c.epsilon = 1e-6;
    run(folder(s, name), &c, data, false);
    bf_buf log = read_part(folder(s, name), "log.jsonl");
    const char *line = log.data;
    begin(&p, &c);
    for (size_t step = 0; step < N_STEPS; step++, line = strchr(line, '\n') + 1) {
        assert_close(field(line, "\"loss"), gradient(&p, data, step), 1e-12);
        const double norm = update(&p, &c, step);
        assert_close(field(line, "\"grad_norm"), norm, 1e-5 * norm);
        assert_close(field(line, "\"rate"), rate_of(&c, step), 1e-5 * c.rate);
        assert_true(step > 0 || norm > 0.05);
    }
    bf_buf_free(&log);
    end(&p);
    bf_data_free(data);
}

static void train__takes_the_steps_that_it_says(void **state)
{
    check_loop(*state, "free", 1e9, (bf_dropout){0});
}

static void train__clips_the_whole_gradient(void **state)
{
    check_loop(*state, "clipped", 0.05, (bf_dropout){0});
}

/* Each batch of each step by its own number. */
static void train__drops_anew_for_every_batch(void **state)
{
    check_loop(*state, "dropped", 1e9, (bf_dropout){0.1, 0.3, 0.2});
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_open, remove_all)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(train__takes_the_steps_that_it_says),
        TEST(train__clips_the_whole_gradient),
        TEST(train__drops_anew_for_every_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
