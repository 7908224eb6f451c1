/* masked_model.h -- small random models with masks of their own, and what a mask lets through, without
 * spans. Whatever goes wrong on the way fails the test. */
#ifndef BF_TESTS_MASKED_MODEL_H
#define BF_TESTS_MASKED_MODEL_H

#include "tests/trace_model.h"

/* A random model with a mask of its own, and how it is traced. */
typedef struct {
    const char *what, *extra; /* extra: what is put into config.json */
    bf_mask mask[3];          /* of its layers */
    bf_detach detach;
    bool masked; /* losses of masked tokens */
} masked_model;

#define ALL3(...) {{__VA_ARGS__}, {__VA_ARGS__}, {__VA_ARGS__}}
static const masked_model MODELS[] = {
    {"window 4, sink 3", "\"backflow\": {\"mask\": {\"window\": 4, \"sink\": 3}}, ",
     ALL3(.window = 4, .sink = 3), 0, false},
    {"window 1", "\"backflow\": {\"mask\": {\"window\": 1}}, ", ALL3(.window = 1), 0, false},
    {"segments without memory", "\"backflow\": {\"mask\": {\"segment\": 7}}, ", ALL3(.segment = 7), 0, false},
    {"segments and memory", "\"backflow\": {\"mask\": {\"segment\": 6, \"memory\": 5}}, ",
     ALL3(.segment = 6, .memory = 5), 0, false},
    {"detached memory", "\"backflow\": {\"mask\": {\"segment\": 6, \"memory\": 9, \"detach\": \"memory\"}}, ",
     ALL3(.segment = 6, .memory = 9, .detach = BF_DETACH_MEMORY), 0, false},
    {"memory, detached by the query", "\"backflow\": {\"mask\": {\"segment\": 6, \"memory\": 9}}, ",
     ALL3(.segment = 6, .memory = 9, .detach = BF_DETACH_MEMORY), BF_DETACH_MEMORY, false},
    {"myopic", "", ALL3(.detach = BF_DETACH_MYOPIC), BF_DETACH_MYOPIC, false},
    {"both ways", "\"backflow\": {\"mask\": {\"bidirectional\": true}}, ", ALL3(.bidirectional = true), 0, false},
    {"encoder", "\"backflow\": {\"mask\": {\"bidirectional\": true}, \"mask_token\": 2}, ",
     ALL3(.bidirectional = true), 0, true},
    {"compressive memory", "\"backflow\": {\"mask\": {\"segment\": 5, \"compressive\": 0.4}}, ",
     ALL3(.segment = 5, .compressive = 0.4), 0, false},
    {"compressive memory, detached", "\"backflow\": {\"mask\": [{\"segment\": 5, \"compressive\": 0.4, "
     "\"detach\": \"memory\"}, {\"segment\": 7, \"compressive\": 0.6}, {}]}, ",
     {{.segment = 5, .compressive = 0.4, .detach = BF_DETACH_MEMORY}, {.segment = 7, .compressive = 0.6}, {0}},
     0, false},
    {"delta rule", "\"backflow\": {\"mask\": {\"segment\": 5, \"compressive\": 0.4, \"update\": \"delta\"}}, ",
     ALL3(.segment = 5, .compressive = 0.4, .delta = true), 0, false},
    {"learnt gates", "\"backflow\": {\"mask\": [{\"segment\": 4, \"compressive\": 0.5, \"gate\": \"learnt\"}, "
     "{\"segment\": 3, \"compressive\": 0.2, \"gate\": \"learnt\", \"update\": \"delta\"}, {\"window\": 6}]}, ",
     {{.segment = 4, .compressive = 0.5, .learnt = true},
      {.segment = 3, .compressive = 0.2, .learnt = true, .delta = true}, {.window = 6}}, 0, false},
    {"delta rule, detached", "\"backflow\": {\"mask\": [{}, {\"segment\": 3, \"compressive\": 0.4, \"update\": "
     "\"delta\", \"detach\": \"memory\"}, {\"segment\": 4, \"compressive\": 0.6, \"update\": \"delta\"}]}, ",
     {{0}, {.segment = 3, .compressive = 0.4, .delta = true, .detach = BF_DETACH_MEMORY},
      {.segment = 4, .compressive = 0.6, .delta = true}}, 0, false},
    {"one of each", "\"backflow\": {\"mask\": [{\"window\": 5, \"sink\": 2}, {\"bidirectional\": true}, "
     "{\"segment\": 4, \"memory\": 4, \"detach\": \"memory\"}]}, ",
     {{.window = 5, .sink = 2}, {.bidirectional = true}, {.segment = 4, .memory = 4, .detach = BF_DETACH_MEMORY}},
     0, false},
    {"sinks below a plain layer", "\"backflow\": {\"mask\": [{\"window\": 3, \"sink\": 1}, {\"window\": 2}, "
     "{\"window\": 4, \"sink\": 2}]}, ",
     {{.window = 3, .sink = 1}, {.window = 2}, {.window = 4, .sink = 2}}, 0, false},
};
enum { N_MODELS = sizeof MODELS / sizeof *MODELS, FAMILIES = 2 };
static const size_t hidden[] = {0, 3, 4, 11, 29, 30};
enum { HIDDEN = sizeof hidden / sizeof *hidden };

static inline size_t learnt_gates(const masked_model *m)
{
    size_t n = 0;
    while (n < 3 && m->mask[n].learnt)
        n++;
    return n;
}

/* GPT-2, or Llama with heads that share keys. */
static inline bf_model *open_masked(const masked_model *m, size_t family)
{
    made_model made = {.family = "gpt2", .L = 3, .D = 20, .H = 5, .F = 37, .V = 29, .P = 310,
                       .dtype = BF_F32, .tied = true, .seed = 11, .gates = learnt_gates(m), .extra = m->extra};
    if (family && !strstr(m->extra, "compressive")) /* which needs learned positions */
        made = (made_model){.family = "llama", .L = 3, .D = 23, .H = 6, .G = 2, .K = 6, .F = 31, .V = 37,
                            .P = 310, .dtype = BF_F32, .seed = 12, .extra = m->extra};
    return open_made(&made);
}

static inline bf_query masked_query(const masked_model *m, const bf_model *model, size_t N, bf_precision precision)
{
    bf_query query = query_of(model, N, precision);
    query.detach = m->detach;
    if (m->masked) {
        query.n_tokens = N;
        query.masked = hidden;
        while (query.n_masked < HIDDEN && hidden[query.n_masked] < N)
            query.n_masked++;
    }
    return query;
}

/* The i of row n. */
static inline size_t loss_of(const masked_model *m, size_t n)
{
    return m->masked ? hidden[n] : n;
}

/* --- the definition, once more and without spans */

static inline bool reads(const bf_mask *m, size_t r, size_t j)
{
    const size_t start = m->segment ? r / m->segment * m->segment : 0;
    if (m->bidirectional)
        return true;
    return j <= r && (!m->window || r - j < m->window || j < m->sink) &&
           (!m->segment || m->compressive > 0.0 || j + m->memory >= start);
}

static inline bool passes(const bf_mask *m, size_t r, size_t j)
{
    if (m->detach == BF_DETACH_MYOPIC)
        return reads(m, r, j) && j >= r;
    if (m->detach == BF_DETACH_MEMORY)
        return reads(m, r, j) && j >= r / m->segment * m->segment;
    return reads(m, r, j);
}

/* Where loss i is below the attention of layer l: at [N]. */
static inline void reached(bool *at, const bf_mask *mask, size_t L, size_t l, size_t i, size_t N)
{
    bool above[MAX_TOKENS];
    memset(at, 0, N * sizeof *at);
    at[i] = true;
    while (L-- > l) {
        memcpy(above, at, N * sizeof *at);
        for (size_t r = 0; r < N; r++)
            for (size_t j = 0; above[r] && j < N; j++)
                at[j] = at[j] || passes(&mask[L], r, j);
    }
}

#endif
