/* Future is the total less own. Is it also what a detach the other way round leaves? Only in a
 * model of one layer: with more, paths that pass a query's own key or value in one layer and an
 * earlier position's in another belong to neither part (docs/math.md#own). All in double, at
 * resid_pre[0]. */
#define BF_BITS 64
#include "tests/trace_model.h"
#include "base/gemm.h"
#include "tracer/num/run.h"

enum { POSITIONS = 40 };

/* Which keys and values pass gradient: a query's own, those of earlier positions, or neither. */
enum { OWN = 1, EARLIER = 2 };

/* A model after its forward run, and room for a walk of the sum of all losses. */
typedef struct {
    bf_job job;
    bf_run_state_f64 run;
    size_t N, ld;
    double *hidden, *gate, *normed, *dz, *dqkv;
} subject;

static double *some(size_t n)
{
    double *room = calloc(n, sizeof *room);
    assert_non_null(room);
    return room;
}

static void begin(subject *s, bf_model *model, const bf_query *query)
{
    bf_error err = {0};
    bf_code rc = bf_job_make(&s->job, model, query, &err);
    if (!rc)
        rc = bf_run_new_f64(&s->run, &s->job, &err);
    if (!rc)
        rc = bf_forward_f64(s->run.acts, s->run.params, s->run.config, query->tokens, s->run.pool,
                            s->run.arena, NULL, &err);
    if (rc)
        fail_msg("%s", err.msg);
    const bf_config *c = s->run.config;
    assert_false(c->parallel);
    s->N = s->job.N;
    s->ld = (c->H + 2 * c->G) * c->K;
    s->hidden = some(s->N * c->F);
    s->gate = some(s->N * c->F);
    s->normed = some(s->N * c->D);
    s->dz = some(s->N * c->H * c->K);
    s->dqkv = some(s->N * s->ld);
}

static void end(subject *s)
{
    free(s->hidden);
    free(s->gate);
    free(s->normed);
    free(s->dz);
    free(s->dqkv);
    bf_run_end_f64(&s->run);
    bf_job_free(&s->job);
}

/* dx (+)= dy W */
static void back(double *dx, const double *dy, size_t lddy, size_t rows, const bf_mat_f64 *W,
                 bool add)
{
    bf_gemm_f64(false, W->in_major, rows, W->in, W->out, 1, dy, lddy, W->w, W->ld, add, dx, W->in);
}

static void mlp_back(subject *s, double *g, const bf_block_f64 *b, const bf_layer_acts_f64 *a)
{
    const bf_config *c = s->run.config;
    const size_t D = c->D;
    back(s->hidden, g, D, s->N, &b->mlp_out, false);
    for (size_t n = 0; n < s->N * c->F; n++) {
        s->gate[n] = s->hidden[n] * a->slope[n];
        s->hidden[n] = c->gated ? s->hidden[n] * a->gain[n] : s->gate[n];
    }
    back(s->normed, s->hidden, c->F, s->N, &b->mlp_in, false);
    if (c->gated)
        back(s->normed, s->gate, c->F, s->N, &b->mlp_gate, true);
    for (size_t j = 0; j < s->N; j++)
        bf_norm_vjp_f64(g + j * D, s->normed + j * D, a->resid_mid + j * D, a->mean2[j],
                        a->rstd2[j], b->norm2_w, c->norm, D);
}

/* One head, row by row as docs/math.md#attention has it. */
static void head_back(subject *s, size_t l, size_t h, int passes)
{
    const bf_config *c = s->run.config;
    const bf_head_f64 head = bf_acts_head_f64(s->run.acts, c, l, h);
    const size_t K = c->K, group = h / (c->H / c->G);
    double ds[POSITIONS];
    for (size_t r = 0; r < s->N; r++) {
        const double *dz = s->dz + (r * c->H + h) * K, *p = head.pattern + r * s->N;
        double mean = 0.0, *dq = s->dqkv + r * s->ld + h * K;
        for (size_t j = 0; j <= r; j++) {
            ds[j] = 0.0;
            for (size_t e = 0; e < K; e++)
                ds[j] += dz[e] * head.v[j * head.ldv + e];
            mean += p[j] * ds[j];
        }
        for (size_t j = 0; j <= r; j++) {
            double *dk = s->dqkv + j * s->ld + (c->H + group) * K, *dv = dk + c->G * K;
            const bool pass = passes & (j == r ? OWN : EARLIER);
            ds[j] = head.scale * p[j] * (ds[j] - mean);
            for (size_t e = 0; e < K; e++) {
                dq[e] += ds[j] * head.k[j * head.ldk + e];
                dk[e] += pass ? ds[j] * head.q[r * head.ldq + e] : 0.0;
                dv[e] += pass ? p[j] * dz[e] : 0.0;
            }
        }
    }
}

static void attention_back(subject *s, double *g, const bf_block_f64 *b, size_t l, int passes,
                           bool alone)
{
    const bf_config *c = s->run.config;
    const bf_acts_f64 *acts = s->run.acts;
    const bf_layer_acts_f64 *a = &acts->layer[l];
    const size_t D = c->D, q = c->H * c->K, half = c->rotary_dim / 2;
    back(s->dz, g, D, s->N, &b->o, false);
    memset(s->dqkv, 0, s->N * s->ld * sizeof *s->dqkv);
    for (size_t h = 0; h < c->H; h++)
        head_back(s, l, h, passes);
    for (size_t j = 0; j < s->N; j++) {
        double *x = s->dqkv + j * s->ld;
        if (alone)
            memset(x, 0, q * sizeof *x);
        if (c->pos == BF_POS_ROTARY)
            bf_rotate_f64(x, acts->cosines + j * half, acts->sines + j * half, c->H + c->G, c->K,
                          half, c->rotary_pairs, true);
    }
    back(s->normed, s->dqkv, s->ld, s->N, &b->qkv[0], false);
    back(s->normed, s->dqkv + q, s->ld, s->N, &b->qkv[1], true);
    back(s->normed, s->dqkv + q + c->G * c->K, s->ld, s->N, &b->qkv[2], true);
    if (alone)
        memset(g, 0, s->N * D * sizeof *g);
    for (size_t j = 0; j < s->N; j++)
        bf_norm_vjp_f64(g + j * D, s->normed + j * D, a->resid_pre + j * D, a->mean1[j],
                        a->rstd1[j], b->norm1_w, c->norm, D);
}

/* The sum of all losses back to resid_pre[0], through these keys and values; alone: and not by the
 * stream around attention nor by queries. The caller frees it. */
static double *walk(subject *s, int passes, bool alone)
{
    const bf_config *c = s->run.config;
    const bf_acts_f64 *acts = s->run.acts;
    const size_t D = c->D;
    double *g = some(s->N * D);
    bf_error err = {0};
    for (size_t j = 0; j < s->N; j++)
        bf_norm_vjp_f64(g + j * D, acts->dfinal + j * D, acts->resid_final + j * D, acts->mean[j],
                        acts->rstd[j], bf_params_final_w_f64(s->run.params), c->norm, D);
    for (size_t l = c->L; l-- > 0;) {
        const bf_block_f64 *b;
        if (bf_params_layer_f64(&b, s->run.params, l, &err))
            fail_msg("%s", err.msg);
        mlp_back(s, g, b, &acts->layer[l]);
        attention_back(s, g, b, l, passes, alone);
    }
    return g;
}

static double length(const double *x, size_t n)
{
    double sum = 0.0;
    for (size_t k = 0; k < n; k++)
        sum += x[k] * x[k];
    return sqrt(sum);
}

/* The walk above against the record: own is what is left when other positions' keys and values are
 * detached, and future is the rest. */
static void compare_with_record(const subject *s, const double *total, const double *own,
                                const bf_record *record)
{
    const bf_tensor *norms[] = {tensor_of(record, "own.grad_norm"),
                                tensor_of(record, "future.grad_norm")};
    const size_t D = s->run.config->D;
    double *rest = some(D);
    for (size_t j = 0; j < s->N; j++) {
        for (size_t d = 0; d < D; d++)
            rest[d] = total[j * D + d] - own[j * D + d];
        const double scale = length(total, s->N * D);
        assert_close(length(own + j * D, D), bf_tensor_value(norms[0], j), 1e-12 * scale);
        assert_close(length(rest, D), bf_tensor_value(norms[1], j), 1e-12 * scale);
    }
    free(rest);
}

/* What own and a reversed detach miss the total by, relative to the total: [0] where queries' own
 * keys and values are detached (less what passes no key or value at all, which is own); [1] where
 * the stream around attention and the queries are detached, too, so that all comes through later
 * positions' attention. */
static void measure(double missed[2], bf_model *model, const int64_t *tokens)
{
    subject s = {0};
    const bf_query query = {.tokens = tokens,
                            .n_tokens = POSITIONS + 1,
                            .threads = 1,
                            .precision = BF_PRECISION_F64,
                            .scores = BF_SCORE_OWN};
    begin(&s, model, &query);
    const size_t n = s.N * s.run.config->D;
    double *total = walk(&s, OWN | EARLIER, false), *own = walk(&s, OWN, false),
           *none = walk(&s, 0, false), *without = walk(&s, EARLIER, false),
           *alone = walk(&s, EARLIER, true);
    bf_record *record = trace_of(model, &query);
    compare_with_record(&s, total, own, record);
    bf_record_free(record);
    for (size_t k = 0; k < n; k++) {
        without[k] += own[k] - none[k] - total[k];
        alone[k] += own[k] - total[k];
    }
    missed[0] = length(without, n) / length(total, n);
    missed[1] = length(alone, n) / length(total, n);
    free(total);
    free(own);
    free(none);
    free(without);
    free(alone);
    end(&s);
}

static void reversed__detach_is_the_complement_in_one_layer(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        made_model made = SHAPES[k].made;
        double missed[2];
        made.L = 1;
        if (k == 5) /* its layers are named one by one */
            made.extra = NULL;
        bf_model *model = open_made(&made);
        measure(missed, model, some_tokens(model));
        if (!(missed[0] < 1e-13 && missed[1] < 1e-13))
            fail_msg("%s: %g and %g", SHAPES[k].what, missed[0], missed[1]);
        bf_model_free(model);
    }
}

static void reversed__detach_misses_mixed_paths_in_random_models(void **state)
{
    (void)state;
    for (size_t k = 0; k < N_SHAPES; k++) {
        double missed[2];
        if (SHAPES[k].made.L == 1)
            continue;
        bf_model *model = open_made(&SHAPES[k].made);
        measure(missed, model, some_tokens(model));
        print_message("%s: misses %.3f and %.3f of the total\n", SHAPES[k].what, missed[0],
                      missed[1]);
        assert_true(missed[0] > 0.01 && missed[1] > 0.01);
        bf_model_free(model);
    }
}

static void reversed__detach_misses_mixed_paths_in_trained_models(void **state)
{
    (void)state;
    static const struct {
        const char *path, *text;
    } trained[] = {{"examples/models/kjv-1m",
                    "And God said, Let there be light: and there was light. And God saw the "
                    "light, that it was good: and God divided the light from the darkness. And God "
                    "called the light "
                    "Day, and the darkness he called Night. And the evening and the morning were "
                    "the first day."},
                   {"../shared/models/stories260K",
                    "Once upon a time, there was a little girl named Lily. She loved "
                    "to play outside in the park. One day, she saw a big, red ball. She wanted to "
                    "play with it, but it "
                    "was too high. Lily asked her mom, who was on a bench under a tree, if she "
                    "could help her."}};
    for (size_t k = 0; k < 2; k++) {
        const bf_tokenizer *tokenizer = NULL;
        bf_model *model = NULL;
        bf_token *token = NULL;
        bf_error err = {0};
        int64_t ids[POSITIONS + 1];
        double missed[2];
        size_t n = 0;
        if (bf_model_open(&model, trained[k].path, &err)) {
            print_message("skipped: %s\n", trained[k].path);
            assert_int_equal(k, 1);
            continue;
        }
        assert_int_equal(bf_model_tokenizer(&tokenizer, model, &err), BF_OK);
        assert_int_equal(bf_tokenizer_encode(&token, &n, tokenizer, trained[k].text,
                                             strlen(trained[k].text), &err),
                         BF_OK);
        assert_true(n > POSITIONS);
        for (size_t p = 0; p <= POSITIONS; p++)
            ids[p] = token[p].id;
        free(token);
        measure(missed, model, ids);
        print_message("%s: misses %.3f and %.3f of the total\n", trained[k].path, missed[0],
                      missed[1]);
        assert_true(missed[0] > 0.01 && missed[1] > 0.01);
        bf_model_free(model);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reversed__detach_is_the_complement_in_one_layer),
        cmocka_unit_test(reversed__detach_misses_mixed_paths_in_random_models),
        cmocka_unit_test(reversed__detach_misses_mixed_paths_in_trained_models),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
