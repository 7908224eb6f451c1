/* find.c -- texts through the tracer, what came of it through the statistics. */
#include "tracer/find.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model/model.h"

enum {
    LOSSES = 32,
    SEQUENCES = 32,
    RESAMPLES = 1000,
    LEAST_RESAMPLES = 100,
    LONGEST_HALF = 64,
    SHORTEST_HALF = 4
};
static const double EDGE_BYTES = 56,
                    EDGES_PART = 0.125; /* of the memory, that one trace may write */
static const size_t MEMORY = (size_t)4 << 30;
enum { MOST = 1 << 20 }; /* texts, sequences, resamples */
/* Streams of random numbers that have nothing to do with each other. */
enum { STREAM_LOSSES = 1, STREAM_SEQUENCES, STREAM_TEXT_DRAWS, STREAM_SEQUENCE_DRAWS };

/* What is measured of every head in every text. */
enum { CARRIED, BY_K, BY_V, WAY, OF_LAYER, MEASURES };

typedef struct {
    const bf_find_query *query;
    bf_model *model;
    size_t L, H, losses, sequences, resamples, N; /* N: positions of the longest text or sequence */
    bf_carry carry;
    bf_looks looks[2];         /* of texts, of sequences */
    double *measure[MEASURES]; /* [texts,L*H] */
    double *lag;               /* [2,L*H] flow times tokens, and flow */
    double *ones;              /* [texts] */
    size_t *loss;              /* [losses] */
    int64_t *sequence;         /* [n_begin + 2 * LONGEST_HALF] */
    bf_found *found;
    double start;
} finder;

static double seconds_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t stream(const finder *f, uint64_t which)
{
    uint64_t state = f->query->seed * 16 + which;
    return bf_random_next(&state);
}

static void say(const finder *f, const char *stage, size_t done, size_t all)
{
    const bf_find_query *q = f->query;
    if (!q->progress)
        return;
    const double part = (double)done / (double)all, spent = seconds_now() - f->start;
    q->progress(q->progress_context, stage, part, done ? spent * (1.0 / part - 1.0) : 0.0);
}

static bf_code fail_memory(bf_error *err, const finder *f)
{
    return bf_fail(err, BF_ENOMEM, "cannot hold what %zu heads do in %zu texts", f->L * f->H,
                   f->query->n_texts);
}

/* ---- the query */

static bf_code check_counts(const finder *f, bf_error *err)
{
    const bf_find_query *q = f->query;
    if (q->n_texts < 2)
        return bf_fail(err, BF_EARG, "%zu text%s, wanted at least 2 for intervals over texts",
                       q->n_texts, q->n_texts == 1 ? "" : "s");
    if (q->n_texts > MOST || f->sequences > MOST || f->resamples > MOST)
        return bf_fail(err, BF_EARG, "%zu texts, %zu sequences, %zu resamples: at most %d of each",
                       q->n_texts, f->sequences, f->resamples, (int)MOST);
    if (f->sequences < 2)
        return bf_fail(err, BF_EARG, "1 random sequence, wanted at least 2 for intervals");
    if (f->resamples < LEAST_RESAMPLES)
        return bf_fail(err, BF_EARG, "%zu resamples, wanted at least %d", f->resamples,
                       (int)LEAST_RESAMPLES);
    return BF_OK;
}

static bf_code check_texts(finder *f, bf_error *err)
{
    const bf_dims *d = bf_model_dims(f->model);
    const bf_find_query *q = f->query;
    for (size_t k = 0; k < q->n_texts; k++) {
        if (q->lengths[k] < 2 || q->lengths[k] - 1 > d->P)
            return bf_fail(err, BF_EARG, "text %zu has %zu tokens, wanted 2 to %zu", k,
                           q->lengths[k], d->P + 1);
        if (q->lengths[k] - 1 > f->N)
            f->N = q->lengths[k] - 1;
    }
    for (size_t k = 0; k < q->n_begin; k++)
        if (q->begin[k] < 0 || (size_t)q->begin[k] >= d->V)
            return bf_fail(err, BF_EARG,
                           "begin token %lld is not below %zu, the size of the vocabulary",
                           (long long)q->begin[k], d->V);
    return BF_OK;
}

/* Tokens that a random sequence says twice, at most; 0: the model is too small for them. A token
 * that begins texts is none of them. */
static size_t longest_half(const finder *f)
{
    const bf_dims *d = bf_model_dims(f->model);
    const size_t begin = f->query->n_begin;
    size_t half = LONGEST_HALF;
    if (begin >= d->P || begin >= d->V)
        return 0;
    if (half > (d->P - begin) / 2)
        half = (d->P - begin) / 2;
    if (half > (d->V - begin) / 2)
        half = (d->V - begin) / 2;
    return half < SHORTEST_HALF ? 0 : half;
}

static bf_code start(finder *f, bf_model *model, const bf_find_query *query, bf_error *err)
{
    const bf_dims *d = bf_model_dims(model);
    *f = (finder){.query = query, .model = model, .L = d->L, .H = d->H, .start = seconds_now()};
    f->losses = query->losses ? query->losses : LOSSES;
    f->sequences = query->sequences ? query->sequences : SEQUENCES;
    f->resamples = query->resamples ? query->resamples : RESAMPLES;
    bf_code rc = check_counts(f, err);
    if (!rc && bf_config_bidirectional(&model->config))
        rc = bf_fail(err, BF_EUNSUPPORTED, "heads are named by what they read of earlier tokens, the model "
                     "reads later ones, too");
    if (!rc)
        rc = check_texts(f, err);
    if (rc)
        return rc;
    const size_t heads = f->L * f->H, half = longest_half(f), most = query->n_begin + 2 * half;
    f->sequences = half ? f->sequences : 0;
    f->N = most > f->N ? most : f->N;
    f->losses = f->losses < f->N ? f->losses : f->N;
    for (size_t m = 0; m < MEASURES; m++)
        f->measure[m] = calloc(query->n_texts, heads * sizeof **f->measure);
    f->lag = calloc(2 * heads, sizeof *f->lag);
    f->ones = calloc(query->n_texts, sizeof *f->ones);
    f->loss = calloc(f->losses, sizeof *f->loss);
    f->sequence = calloc(most + 1, sizeof *f->sequence);
    f->found = calloc(1, sizeof *f->found);
    if (f->found)
        f->found->head = calloc(heads, sizeof *f->found->head);
    for (size_t m = 0; m < MEASURES; m++)
        if (!f->measure[m])
            return fail_memory(err, f);
    if (!f->lag || !f->ones || !f->loss || !f->sequence || !f->found || !f->found->head)
        return fail_memory(err, f);
    rc = bf_carry_new(&f->carry, f->L, f->H, f->N, err);
    if (!rc)
        rc = bf_looks_new(&f->looks[0], query->n_texts, heads, f->N, err);
    return rc ? rc : bf_looks_new(&f->looks[1], f->sequences, heads, f->N, err);
}

static void end(finder *f)
{
    bf_carry_free(&f->carry);
    bf_looks_free(&f->looks[0]);
    bf_looks_free(&f->looks[1]);
    for (size_t m = 0; m < MEASURES; m++)
        free(f->measure[m]);
    free(f->lag);
    free(f->ones);
    free(f->loss);
    free(f->sequence);
    bf_found_free(f->found);
}

void bf_found_free(bf_found *found)
{
    if (found)
        free(found->head);
    free(found);
}

/* ---- texts */

static bf_query query_of(const finder *f, const int64_t *tokens, size_t n_tokens)
{
    const bf_find_query *q = f->query;
    return (bf_query){.tokens = tokens,
                      .n_tokens = n_tokens,
                      .precision = q->precision,
                      .memory = q->memory,
                      .threads = q->threads,
                      .stop = q->stop,
                      .sites = BF_SITE_RESID_PRE,
                      .scores = BF_SCORE_GRAD_NORM,
                      .no_fold = true /* which depends on the losses of a group */};
}

/* As many losses, from the first of n on, as have room for their edges; at least one. */
static size_t group_size(const finder *f, const size_t *loss, size_t n)
{
    const double memory = (double)(f->query->memory ? f->query->memory : MEMORY);
    double edges = 0.0;
    size_t k = 0;
    for (; k < n; k++) {
        const double i = (double)loss[k];
        edges += (double)(f->L * f->H) * (i + 1.0) * (i + 2.0);
        if (k && edges * EDGE_BYTES > memory * EDGES_PART)
            break;
    }
    return k;
}

/* What the text's sums say of every head. */
static void keep_text(finder *f, size_t text)
{
    const bf_carry *c = &f->carry;
    const size_t heads = f->L * f->H;
    for (size_t k = 0; k < heads; k++) {
        const double flow = c->flow > 0.0 ? 1.0 / c->flow : 0.0;
        const double way = c->distance > 0.0 ? 1.0 / c->distance : 0.0;
        const double layer = c->layer[k / f->H] > 0.0 ? 1.0 / c->layer[k / f->H] : 0.0;
        f->measure[BY_K][text * heads + k] = c->by[0][k] * flow;
        f->measure[BY_V][text * heads + k] = c->by[1][k] * flow;
        f->measure[CARRIED][text * heads + k] = (c->by[0][k] + c->by[1][k]) * flow;
        f->measure[WAY][text * heads + k] = c->way[k] * way;
        f->measure[OF_LAYER][text * heads + k] = c->direct[k] * layer;
        f->lag[k] += c->way[k] * flow;
        f->lag[heads + k] += (c->by[0][k] + c->by[1][k]) * flow;
    }
    f->ones[text] = 1.0;
    f->found->pairs += c->pairs;
    if (c->flow > 0.0 && c->lost / c->flow > f->found->residual)
        f->found->residual = c->lost / c->flow;
}

/* The losses drawn, a group of them at a time; the attention is the same in all. */
static bf_code take_text(finder *f, size_t text, uint64_t *random, bf_error *err)
{
    const bf_find_query *q = f->query;
    const size_t N = q->lengths[text] - 1, n = f->losses < N ? f->losses : N;
    bf_query query = query_of(f, q->texts[text], N + 1);
    bf_code rc = BF_OK;
    query.scores |= BF_SCORE_EDGE;
    bf_random_choose(f->loss, n, N, random);
    bf_carry_clear(&f->carry);
    for (size_t from = 0; from < n && !rc; from += query.n_losses) {
        bf_record *record = NULL;
        query.losses = f->loss + from;
        query.n_losses = group_size(f, query.losses, n - from);
        query.no_attn = from > 0;
        rc = bf_trace(&record, f->model, &query, NULL, NULL, NULL, err);
        if (!rc)
            rc = bf_carry_add(&f->carry, record, err);
        if (!rc && from == 0)
            rc = bf_looks_add(&f->looks[0], text, q->texts[text], bf_record_find(record, "attn"),
                              err);
        bf_record_free(record);
    }
    f->found->losses += n;
    if (!rc)
        keep_text(f, text);
    return rc;
}

static bf_code name_text(bf_code rc, const char *what, size_t k, bf_error *err)
{
    char prefix[48];
    snprintf(prefix, sizeof prefix, "%s %zu", what, k);
    return rc == BF_EINTERRUPTED ? rc : bf_error_prefix(err, rc, prefix);
}

static bf_code take_texts(finder *f, bf_error *err)
{
    const size_t texts = f->query->n_texts;
    uint64_t random = stream(f, STREAM_LOSSES);
    bf_code rc = BF_OK;
    for (size_t k = 0; k < texts && !rc; k++) {
        say(f, "texts", k, texts + f->sequences);
        rc = take_text(f, k, &random, err);
        if (rc)
            name_text(rc, "text", k, err);
    }
    return rc;
}

/* ---- random tokens said twice */

static bool begins(const finder *f, size_t token)
{
    for (size_t k = 0; k < f->query->n_begin; k++)
        if (f->query->begin[k] == (int64_t)token)
            return true;
    return false;
}

/* The begin tokens, then `half` tokens, all different, twice. Returns how many in all. */
static size_t make_sequence(finder *f, size_t half, uint64_t *random)
{
    const size_t V = bf_model_dims(f->model)->V, begin = f->query->n_begin;
    int64_t *to = f->sequence;
    for (size_t k = 0; k < begin; k++)
        to[k] = f->query->begin[k];
    for (size_t k = 0; k < half;) {
        const size_t token = bf_random_below(random, V);
        bool seen = begins(f, token);
        for (size_t m = 0; m < k && !seen; m++)
            seen = to[begin + m] == (int64_t)token;
        if (!seen)
            to[begin + k++] = (int64_t)token;
    }
    memcpy(to + begin + half, to + begin, half * sizeof *to);
    return begin + 2 * half;
}

/* Halves of many lengths: a head that looks back so many positions, whatever is there, is none that
 * finds what was said before. One token more than the sequence, as a trace wants a target for its
 * last one; of its losses the first is the cheapest. */
static bf_code take_sequences(finder *f, bf_error *err)
{
    const size_t half = longest_half(f), texts = f->query->n_texts, first = 0;
    uint64_t random = stream(f, STREAM_SEQUENCES);
    bf_code rc = BF_OK;
    for (size_t k = 0; k < f->sequences && !rc; k++) {
        bf_record *record = NULL;
        const size_t least = (half + 1) / 2;
        const size_t n =
            make_sequence(f, least + bf_random_below(&random, half - least + 1), &random);
        bf_query query = query_of(f, f->sequence, n + 1);
        f->sequence[n] = f->sequence[n - 1];
        query.losses = &first;
        query.n_losses = 1;
        say(f, "random sequences", texts + k, texts + f->sequences);
        rc = bf_trace(&record, f->model, &query, NULL, NULL, NULL, err);
        if (!rc)
            rc = bf_looks_add(&f->looks[1], k, f->sequence, bf_record_find(record, "attn"), err);
        bf_record_free(record);
        if (rc)
            name_text(rc, "random sequence", k, err);
    }
    return rc;
}

/* ---- weighing */

typedef struct {
    uint32_t *draws[2]; /* of texts, of sequences */
    double *room;       /* [resamples] */
    double *p;          /* [heads,BF_HEAD_NAMES] */
    size_t *order;      /* the same */
} scales;

static void weigh_head(const finder *f, const scales *s, size_t k)
{
    const size_t heads = f->L * f->H, texts = f->query->n_texts;
    bf_found_head *to = &f->found->head[k];
    bf_estimate *const into[MEASURES] = {&to->carried, &to->by_k, &to->by_v, &to->way,
                                         &to->of_layer};
    for (size_t m = 0; m < MEASURES; m++)
        *into[m] = bf_estimate_ratio(f->measure[m] + k, heads, f->ones, texts, s->draws[0],
                                     f->resamples, s->room);
    to->layer = k / f->H;
    to->head = k % f->H;
    to->lag = f->lag[heads + k] > 0.0 ? f->lag[k] / f->lag[heads + k] : NAN;
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++) {
        bf_estimate *const of[2] = {&to->test[name].text, &to->test[name].random};
        for (size_t r = 0; r < 2; r++)
            *of[r] =
                bf_estimate_ratio(f->looks[r].score[name] + k, heads, f->looks[r].queries[name],
                                  f->looks[r].units, s->draws[r], f->resamples, s->room);
        const size_t decides = bf_head_kind_of(name)->random;
        const double n = (double)f->found->queries[name][decides];
        const double chance = f->looks[decides].chance[name][k];
        to->test[name].chance = n > 0.0 ? chance / n : NAN;
        s->p[k * BF_HEAD_NAMES + name] = n > 0.0 ? bf_bernstein(of[decides]->mean * n - chance,
                                                                f->looks[decides].variance[name][k])
                                                 : 1.0;
    }
}

static int by_carried(const void *a, const void *b)
{
    const bf_found_head *x = a, *y = b;
    if (x->carried.mean != y->carried.mean)
        return x->carried.mean < y->carried.mean ? 1 : -1;
    if (x->layer != y->layer)
        return x->layer < y->layer ? -1 : 1;
    return x->head < y->head ? -1 : x->head > y->head;
}

static void name_heads(const finder *f, const scales *s)
{
    const size_t heads = f->L * f->H;
    bf_holm(s->p, heads * BF_HEAD_NAMES, s->order);
    for (size_t k = 0; k < heads; k++)
        for (unsigned name = 0; name < BF_HEAD_NAMES; name++) {
            bf_head_test *test = &f->found->head[k].test[name];
            const bf_head_kind *kind = bf_head_kind_of(name);
            test->p = s->p[k * BF_HEAD_NAMES + name];
            test->named =
                (kind->random ? test->random : test->text).low > kind->threshold && test->p < 0.05;
        }
}

static bf_code weigh_heads(finder *f, bf_error *err)
{
    const size_t heads = f->L * f->H;
    bf_found *found = f->found;
    scales s = {.room = calloc(f->resamples, sizeof *s.room),
                .p = calloc(heads, BF_HEAD_NAMES * sizeof *s.p),
                .order = calloc(heads, BF_HEAD_NAMES * sizeof *s.order)};
    found->layers = f->L;
    found->heads = f->H;
    found->texts = f->query->n_texts;
    found->sequences = f->sequences;
    for (unsigned name = 0; name < BF_HEAD_NAMES; name++)
        for (size_t r = 0; r < 2; r++)
            for (size_t u = 0; u < f->looks[r].units; u++)
                found->queries[name][r] += (size_t)f->looks[r].queries[name][u];
    bf_code rc = s.room && s.p && s.order ? BF_OK : fail_memory(err, f);
    if (!rc)
        rc = bf_resamples_draw(&s.draws[0], f->resamples, found->texts,
                               stream(f, STREAM_TEXT_DRAWS), err);
    if (!rc)
        rc = bf_resamples_draw(&s.draws[1], f->resamples, f->sequences,
                               stream(f, STREAM_SEQUENCE_DRAWS), err);
    for (size_t k = 0; k < heads && !rc; k++)
        weigh_head(f, &s, k);
    if (!rc) {
        name_heads(f, &s);
        qsort(found->head, heads, sizeof *found->head, by_carried);
    }
    free(s.draws[0]);
    free(s.draws[1]);
    free(s.room);
    free(s.p);
    free(s.order);
    return rc;
}

bf_code bf_find(bf_found **out, bf_model *model, const bf_find_query *query, bf_error *err)
{
    finder f;
    bf_code rc = start(&f, model, query, err);
    if (!rc)
        rc = take_texts(&f, err);
    if (!rc)
        rc = take_sequences(&f, err);
    if (!rc)
        rc = weigh_heads(&f, err);
    if (!rc) {
        *out = f.found;
        f.found = NULL;
    }
    end(&f);
    return rc;
}
