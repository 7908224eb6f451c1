/* figure_record.h -- a small record with a bit of everything that can be drawn. */
#ifndef BF_TESTS_FIGURE_RECORD_H
#define BF_TESTS_FIGURE_RECORD_H

#include "render_record.h"

#include <math.h>

#include "backflow/render.h"

enum { L = 3, N = 7, LEVELS = L + 1, BLOCKS = 2 };

static const char json[] __attribute__((unused)) = "{\"a\":\"(b\\\\)\\u003c/metadata> 1) %%EOF\"}";

static inline double flow_at(size_t l, size_t i, size_t j)
{
    return j > i ? 0 : (double)(l + 1) * pow((double)(i - j) + 1, -1.5);
}

/* A record with a bit of everything; values scaled by `times`. */
static inline bf_record *new_record(double times)
{
    static const char *const token[N + 1] = {"In", " the", " begin", "ning", "\n", " God", "</b>",
                                             " made"};
    const bf_tensor specs[] = {
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_pre.grad_x_act", BF_F64, 3, L, N, N, 0),
        spec("own.grad_norm", BF_F64, 2, LEVELS, N, 0, 0),
        spec("future.grad_norm", BF_F64, 2, LEVELS, N, 0, 0),
        spec("own_future.cosine", BF_F64, 2, LEVELS, N, 0, 0),
        spec("overview.resid_pre.grad_norm", BF_F64, 3, L, BLOCKS, N, 0),
        spec("edge.value", BF_F64, 1, 3, 0, 0, 0),
        spec("loss", BF_F64, 1, N, 0, 0, 0),
        spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
        spec("blocks", BF_I64, 1, BLOCKS + 1, 0, 0, 0),
    };
    bf_record *r;
    assert_int_equal(bf_record_new(&r, specs, sizeof specs / sizeof *specs, NULL), BF_OK);
    for (size_t l = 0; l < L; l++)
        for (size_t i = 0; i < N; i++)
            for (size_t j = 0; j < N; j++) {
                const size_t at = (l * N + i) * N + j;
                const double v = times * flow_at(l, i, j);
                doubles(r, "flow.resid_pre.grad_norm")[at] = v;
                doubles(r, "flow.resid_pre.grad_x_act")[at] = (i + j) % 3 ? v : -v;
            }
    for (size_t k = 0; k < LEVELS * N; k++) {
        doubles(r, "own.grad_norm")[k] = 1 + (double)(k / N);
        doubles(r, "future.grad_norm")[k] = k % N == N - 1 ? 0 : 2 + (double)(k % N);
        doubles(r, "own_future.cosine")[k] = -0.5;
    }
    for (size_t l = 0; l < L; l++)
        for (size_t b = 0; b < BLOCKS; b++)
            for (size_t j = 0; j < (b ? N : 3); j++)
                doubles(r, "overview.resid_pre.grad_norm")[(l * BLOCKS + b) * N + j] = 1;
    int64_t *blocks = bf_record_find(r, "blocks")->data,
            *tokens = bf_record_find(r, "tokens")->data;
    blocks[1] = 3, blocks[2] = N;
    for (size_t k = 0; k <= N; k++)
        tokens[k] = (int64_t)(10 * k);
    set_tokens(r, token, N + 1);
    assert_int_equal(bf_record_set_meta(r, "model", "tiny", NULL), BF_OK);
    return r;
}

static inline bf_heatmap_style style_of(const char *site)
{
    return (bf_heatmap_style){.site = site, .layer = -1, .head = -1,
                              .look = {.provenance = json, .dpi = 72}};
}

#endif
