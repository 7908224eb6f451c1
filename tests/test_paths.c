/* Shares, edges and parameter norms: the identities that tie them to the flow. */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "backflow/backflow.h"

/* A golden model and the tokens of its reference. */
typedef struct {
    bf_model *model;
    bf_record *reference;
} golden;

static bool open_golden(golden *g, const char *name)
{
    char path[512];
    bf_error err = {0};
    snprintf(path, sizeof path, "tests/goldens/%s/ref.safetensors", name);
    if (name[0] == '.' || bf_record_open(&g->reference, path, &err))
        return false;
    snprintf(path, sizeof path, "tests/goldens/%s", name);
    assert_int_equal(bf_model_open(&g->model, path, &err), BF_OK);
    return true;
}

static void close_golden(golden *g)
{
    bf_record_free(g->reference);
    bf_model_free(g->model);
}

static bf_record *trace(const golden *g, unsigned scores, const size_t *losses, size_t n)
{
    const bf_tensor *tokens = bf_record_find(g->reference, "tokens");
    const bf_tensor *masked = bf_record_find(g->reference, "masked");
    const bf_query query = {.masked = masked ? masked->data : NULL,
                            .n_masked = masked ? masked->dim[0] : 0,
                            .tokens = tokens->data, .n_tokens = tokens->dim[0], .losses = losses,
                            .n_losses = n, .scores = scores, .precision = BF_PRECISION_F64,
                            .sites = BF_SITE_RESID_PRE, .threads = 2};
    bf_record *record = NULL;
    bf_error err = {0};
    if (bf_trace(&record, g->model, &query, NULL, NULL, NULL, &err))
        fail_msg("%s", err.msg);
    return record;
}

static const double *values(const bf_record *record, const char *name)
{
    const bf_tensor *t = bf_record_find(record, name);
    assert_non_null(t);
    return t->data;
}

/* Sum of all shares of node n = (layer, loss, position) of [L,I,N]. */
static double shares_of(const bf_record *r, const bf_dims *d, size_t I, size_t N, size_t l, size_t at,
                        bool attention)
{
    double sum = values(r, "share.skip")[l * I * N + at] + values(r, "share.mlp")[l * I * N + at];
    for (size_t h = 0; h < d->H; h++) {
        const size_t k = (l * d->H + h) * I * N + at;
        sum += values(r, "share.q")[k];
        if (attention)
            sum += values(r, "share.k")[k] + values(r, "share.v")[k];
    }
    return sum;
}

static double check_shares(const golden *g)
{
    const bf_dims *d = bf_model_dims(g->model);
    bf_record *r = trace(g, BF_SCORE_GRAD_NORM | BF_SCORE_SHARE, NULL, 0);
    const size_t N = bf_record_find(r, "loss")->dim[0];
    const double *norm = values(r, "flow.resid_pre.grad_norm");
    double worst = 0.0;
    const size_t I = bf_record_find(r, "flow.resid_pre.grad_norm")->dim[1];
    for (size_t l = 0; l < d->L; l++)
        for (size_t at = 0; at < I * N; at++) {
            const double sum = shares_of(r, d, I, N, l, at, true);
            worst = fmax(worst, fabs(sum - (norm[l * I * N + at] > 0.0 ? 1.0 : 0.0)));
        }
    bf_record_free(r);
    return worst;
}

static void share__paths_into_a_node_sum_to_one(void **unused)
{
    (void)unused;
    DIR *dir = opendir("tests/goldens");
    size_t seen = 0;
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        golden g = {0};
        if (!open_golden(&g, e->d_name))
            continue;
        const double worst = check_shares(&g);
        if (!(worst < 1e-10))
            fail_msg("%s: shares miss 1 by %g", e->d_name, worst);
        seen++;
        close_golden(&g);
    }
    closedir(dir);
    assert_true(seen >= 10);
}

/* What edges and own paths into each node of one loss miss its grad_norm by; edges by k, by head,
 * against share.k. */
static void check_edges(const golden *g, const char *name, size_t loss)
{
    const bf_dims *d = bf_model_dims(g->model);
    bf_record *r = trace(g, BF_SCORE_GRAD_NORM | BF_SCORE_SHARE | BF_SCORE_EDGE, &loss, 1);
    const bf_tensor *index = bf_record_find(r, "edge.index");
    const size_t N = bf_record_find(r, "loss")->dim[0];
    const double *value = values(r, "edge.value"), *norm = values(r, "flow.resid_pre.grad_norm");
    double *sum = calloc(d->L * N, sizeof *sum), *by_k = calloc(d->L * d->H * N, sizeof *by_k);
    double largest = 0.0;
    const char *mask = bf_record_meta(r, "mask");
    const bool both_ways = mask && strcmp(mask, "bidirectional") == 0;
    assert_true(sum && by_k && index->dim[0] > 0);
    for (size_t e = 0; e < index->dim[0]; e++) {
        const int64_t *at = (const int64_t *)index->data + e * 6;
        assert_true(at[0] == (int64_t)loss);
        assert_true(both_ways || (at[3] >= at[4] && at[3] <= (int64_t)loss));
        sum[(size_t)at[1] * N + (size_t)at[4]] += value[e];
        if (at[5] == 0)
            by_k[((size_t)at[1] * d->H + (size_t)at[2]) * N + (size_t)at[4]] += value[e];
    }
    for (size_t n = 0; n < d->L * N; n++)
        largest = fmax(largest, norm[n]);
    for (size_t l = 0; l < d->L; l++)
        for (size_t j = 0; j < N; j++) {
            const double own = shares_of(r, d, 1, N, l, j, false) * norm[l * N + j];
            const double missed = fabs(sum[l * N + j] + own - norm[l * N + j]);
            if (!(missed < 1e-10 * largest))
                fail_msg("%s: layer %zu position %zu misses its norm by %g", name, l, j, missed);
            for (size_t h = 0; h < d->H; h++) {
                const size_t k = (l * d->H + h) * N + j;
                assert_true(fabs(by_k[k] - values(r, "share.k")[k] * norm[l * N + j]) < 1e-10 * largest);
            }
        }
    free(sum);
    free(by_k);
    bf_record_free(r);
}

static void edge__edges_and_own_paths_sum_to_the_norm(void **unused)
{
    (void)unused;
    DIR *dir = opendir("tests/goldens");
    assert_non_null(dir);
    for (struct dirent *e = readdir(dir); e; e = readdir(dir)) {
        golden g = {0};
        if (!open_golden(&g, e->d_name))
            continue;
        const size_t N = bf_record_find(g.reference, "loss")->dim[0];
        const bf_tensor *masked = bf_record_find(g.reference, "masked");
        const size_t first = masked ? (size_t)((const int64_t *)masked->data)[1] : N - 1,
                     last = masked ? (size_t)((const int64_t *)masked->data)[3] : N / 2;
        check_edges(&g, e->d_name, first);
        check_edges(&g, e->d_name, last);
        close_golden(&g);
    }
    closedir(dir);
}

static void edge__without_chosen_losses_is_refused(void **unused)
{
    (void)unused;
    golden g = {0};
    bf_record *record = NULL;
    bf_error err = {0};
    assert_true(open_golden(&g, "gpt2_odd_heads"));
    const bf_tensor *tokens = bf_record_find(g.reference, "tokens");
    const bf_query query = {.tokens = tokens->data, .n_tokens = tokens->dim[0],
                            .scores = BF_SCORE_EDGE};
    assert_int_equal(bf_trace(&record, g.model, &query, NULL, NULL, NULL, &err), BF_EARG);
    assert_non_null(strstr(err.msg, "--losses"));
    assert_null(record);
    close_golden(&g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(share__paths_into_a_node_sum_to_one),
        cmocka_unit_test(edge__edges_and_own_paths_sum_to_the_norm),
        cmocka_unit_test(edge__without_chosen_losses_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
