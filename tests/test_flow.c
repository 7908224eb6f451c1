/* The flow of losses: conserved, split as the record says, pruned to what carries it, and its
 * paths. What the code finds level by level is held against every path, one by one. */
#include "render_record.h"

#include <math.h>

#include "backflow/render.h"
#include "render/flow.h"

enum { L = 3, H = 2, N = 5, PAIRS = N * (N + 1) / 2, E = L * H * PAIRS * 2 };

static double noise(size_t k)
{
    const double x = sin(12.9898 * (double)k + 1) * 43758.5453;
    return x - floor(x);
}

/* Value of an edge or share; some are negative. */
static double value_of(size_t k)
{
    return noise(k) * noise(k + 7) - 0.1;
}

static bf_record *new_record(bool edges, bool shares)
{
    bf_tensor specs[12] = {
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_final.grad_norm", BF_F64, 2, N, N, 0, 0),
        spec("flow.z.grad_norm", BF_F64, 4, L, H, N, N), spec("attn", BF_F64, 4, L, H, N, N),
        spec("loss", BF_F64, 1, N, 0, 0, 0)};
    size_t n = 5;
    if (edges) {
        specs[n++] = spec("edge.index", BF_I64, 2, N * E, 6, 0, 0);
        specs[n++] = spec("edge.value", BF_F64, 1, N * E, 0, 0, 0);
    }
    if (shares) {
        specs[n++] = spec("share.skip", BF_F64, 3, L, N, N, 0);
        specs[n++] = spec("share.mlp", BF_F64, 3, L, N, N, 0);
        specs[n++] = spec("share.q", BF_F64, 4, L, H, N, N);
        specs[n++] = spec("share.k", BF_F64, 4, L, H, N, N);
        specs[n++] = spec("share.v", BF_F64, 4, L, H, N, N);
    }
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, n, NULL), BF_OK);
    for (size_t t = 0; t < n; t++) { /* in a causal way */
        const bf_tensor *x = bf_record_at(record, t);
        if (x->dtype != BF_F64 || strncmp(x->name, "edge", 4) == 0)
            continue;
        for (size_t k = 0; k < bf_tensor_count(x); k++)
            if (x->rank == 1 || k % N <= k / N % N)
                ((double *)x->data)[k] =
                    x->name[0] == 's' ? value_of(k + 1000 * t) : 0.1 + noise(k + 1000 * t);
    }
    return record;
}

/* Complete edges of every loss, ordered as records order them; in the last layer from the loss's
 * own position only. */
static void fill_edges(bf_record *record)
{
    int64_t *index = bf_record_find(record, "edge.index")->data;
    double *value = doubles(record, "edge.value");
    size_t e = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t l = 0; l < L; l++)
            for (size_t h = 0; h < H; h++)
                for (size_t r = l == L - 1 ? i : 0; r <= i; r++)
                    for (size_t j = 0; j <= r; j++)
                        for (size_t p = 0; p < 2; p++, e++) {
                            const size_t row[] = {i, l, h, r, j, p};
                            for (size_t c = 0; c < 6; c++)
                                index[6 * e + c] = (int64_t)row[c];
                            value[e] = value_of(e);
                        }
    for (; e < N * E; e++) /* of a loss that is not there */
        for (size_t c = 0; c < 6; c++)
            index[6 * e + c] = c ? 0 : 99;
}

static bf_flow flow_of(const bf_record *record, bf_graph_style style)
{
    bf_flow f;
    bf_error err = {0};
    if (bf_flow_read(&f, record, &style, &err))
        fail_msg("%s", err.msg);
    return f;
}

/* ---- every path, one by one */

typedef struct {
    const bf_flow *f;
    double least;  /* edges below are not taken */
    double sum;    /* of all paths */
} walk;

static void walk_down(walk *w, size_t level, size_t at, double part)
{
    const bf_flow *f = w->f;
    if (level == 0) {
        w->sum += part * f->node[at];
        return;
    }
    for (size_t e = 0; e < f->n; e++) {
        const bf_flow_edge *x = &f->edge[e];
        if (x->level + 1u == level && x->from == at && x->flow >= w->least)
            walk_down(w, level - 1, x->to,
                      part * (x->flow / f->node[x->level * f->positions + x->to]));
    }
}

static double carried(const bf_flow *f, double least)
{
    walk w = {.f = f, .least = least};
    for (size_t j = 0; j < f->positions; j++)
        walk_down(&w, f->levels, j, 1);
    return w.sum;
}

static void check_conserved(const bf_flow *f)
{
    const size_t n = f->positions;
    for (size_t k = 0; k <= f->levels; k++) {
        double sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += f->node[k * n + j];
        assert_true(fabs(sum - 1) < 1e-12);
    }
    for (size_t k = 0; k < f->levels; k++)
        for (size_t j = 0; j < n; j++) {
            double down = 0, in = 0;
            for (size_t e = 0; e < f->n; e++) {
                if (f->edge[e].level == k && f->edge[e].to == j)
                    in += f->edge[e].flow;
                if (f->edge[e].level == k && f->edge[e].from == j)
                    down += f->edge[e].flow;
            }
            assert_true(fabs(in - f->node[k * n + j]) < 1e-12);
            assert_true(fabs(down - f->node[(k + 1) * n + j]) < 1e-12);
        }
    assert_true(fabs(carried(f, 0) - 1) < 1e-12);
}

static const bf_flow_edge *find_edge(const bf_flow *f, size_t level, size_t from, size_t to,
                                     long head, unsigned path)
{
    for (size_t e = 0; e < f->n; e++) {
        const bf_flow_edge *x = &f->edge[e];
        if (x->level == level && x->from == from && x->to == to && x->head == head &&
            x->path == path)
            return x;
    }
    return NULL;
}

/* ---- tests */

static void flow__is_conserved_and_starts_as_the_tokens_norms(void **state)
{
    (void)state;
    for (int kind = 0; kind < 4; kind++) {
        bf_record *record = new_record(kind & 1, kind & 2);
        if (kind & 1)
            fill_edges(record);
        for (size_t i = 0; i < N; i++) {
            bf_flow f = flow_of(record, (bf_graph_style){.loss = i, .keep = 1});
            check_conserved(&f);
            assert_int_equal(f.basis, kind & 1   ? BF_GRAPH_EDGES
                                      : kind & 2 ? BF_GRAPH_SHARES
                                                 : BF_GRAPH_NORMS);
            const double *norm = doubles(record, "flow.resid_pre.grad_norm") + i * N;
            double sum = 0;
            for (size_t j = 0; j <= i; j++)
                sum += norm[j];
            for (size_t j = 0; j <= i; j++)
                assert_true(fabs(f.node[j] - norm[j] / sum) < 1e-12);
            if (kind & 1) /* the last layer's edges come from the loss alone */
                assert_true(f.node[L * f.positions + i] > 0.2);
            bf_flow_free(&f);
        }
        bf_record_free(record);
    }
}

static void flow__edges_split_a_node_as_their_values(void **state)
{
    (void)state;
    bf_record *record = new_record(true, true);
    fill_edges(record);
    const size_t i = 3, l = 1, j = 1;
    bf_flow f = flow_of(record, (bf_graph_style){.loss = i, .keep = 1});
    const int64_t *index = bf_record_find(record, "edge.index")->data;
    const double *value = doubles(record, "edge.value");
    const double norm = doubles(record, "flow.resid_pre.grad_norm")[(l * N + i) * N + j];
    double sum = 0;
    for (size_t e = 0; e < N * E; e++)
        if (index[6 * e] == (int64_t)i && index[6 * e + 1] == (int64_t)l &&
            index[6 * e + 4] == (int64_t)j)
            sum += fabs(value[e]);
    const size_t at = (l * N + i) * N + j;
    sum +=
        norm * (fabs(doubles(record, "share.skip")[at]) + fabs(doubles(record, "share.mlp")[at]));
    for (size_t h = 0; h < H; h++)
        sum += norm * fabs(doubles(record, "share.q")[((l * H + h) * N + i) * N + j]);
    size_t seen = 0, against = 0;
    for (size_t e = 0; e < N * E; e++) {
        const int64_t *x = index + 6 * e;
        if (x[0] != (int64_t)i || x[1] != (int64_t)l || x[4] != (int64_t)j)
            continue;
        const bf_flow_edge *edge = find_edge(&f, l, (size_t)x[3], j, (long)x[2],
                                             x[5] ? BF_GRAPH_V : BF_GRAPH_K);
        assert_non_null(edge);
        assert_true(fabs(edge->flow - f.node[l * f.positions + j] * fabs(value[e]) / sum) < 1e-12);
        assert_true(edge->against == (value[e] < 0));
        against += edge->against;
        seen++;
    }
    assert_int_equal(seen, 2 * H * (i - j + 1));
    assert_true(against > 0 && against < seen);
    const bf_flow_edge *skip = find_edge(&f, l, j, j, -1, BF_GRAPH_SKIP);
    assert_non_null(skip);
    assert_true(fabs(skip->flow - f.node[l * f.positions + j] * norm *
                                      fabs(doubles(record, "share.skip")[at]) / sum) < 1e-12);
    bf_flow_free(&f);
    bf_record_free(record);
}

/* Without share.*, what the edges leave of the norm stays. */
static void flow__edges_alone_leave_the_rest_of_the_norm(void **state)
{
    (void)state;
    bf_record *record = new_record(true, false);
    fill_edges(record);
    bf_flow f = flow_of(record, (bf_graph_style){.loss = 2, .keep = 1});
    const int64_t *index = bf_record_find(record, "edge.index")->data;
    const double *value = doubles(record, "edge.value");
    double rest = doubles(record, "flow.resid_pre.grad_norm")[2 * N + 1], sum = 0;
    for (size_t e = 0; e < N * E; e++)
        if (index[6 * e] == 2 && index[6 * e + 1] == 0 && index[6 * e + 4] == 1) {
            rest -= value[e];
            sum += fabs(value[e]);
        }
    const bf_flow_edge *own = find_edge(&f, 0, 1, 1, -1, BF_GRAPH_OWN);
    assert_non_null(own);
    assert_true(fabs(own->flow - f.node[1] * fabs(rest) / (sum + fabs(rest))) < 1e-12);
    assert_true(own->against == (rest < 0));
    bf_flow_free(&f);
    bf_record_free(record);
}

static void flow__shares_are_spread_by_attention(void **state)
{
    (void)state;
    bf_record *record = new_record(false, true);
    const size_t i = 4, l = 2, j = 1, h = 1;
    bf_flow f = flow_of(record, (bf_graph_style){.loss = i, .keep = 1});
    double sum = 0, weight[N] = {0};
    for (size_t r = j; r <= i; r++) {
        weight[r] = doubles(record, "attn")[((l * H + h) * N + r) * N + j] *
                    doubles(record, "flow.z.grad_norm")[((l * H + h) * N + i) * N + r];
        sum += weight[r];
    }
    const bf_flow_edge *skip = find_edge(&f, l, j, j, -1, BF_GRAPH_SKIP);
    const double unit = skip->flow / fabs(doubles(record, "share.skip")[(l * N + i) * N + j]);
    const double share = doubles(record, "share.v")[((l * H + h) * N + i) * N + j];
    for (size_t r = j; r <= i; r++) {
        const bf_flow_edge *e = find_edge(&f, l, r, j, (long)h, BF_GRAPH_V);
        assert_non_null(e);
        assert_true(fabs(e->flow - unit * fabs(share) * weight[r] / sum) < 1e-12);
    }
    bf_flow_free(&f);
    bf_record_free(record);
}

static void flow__keep_is_the_highest_threshold_that_carries_it(void **state)
{
    (void)state;
    bf_record *record = new_record(true, true);
    fill_edges(record);
    for (double keep = 0.1; keep < 1.05; keep += 0.2) {
        bf_flow f = flow_of(record, (bf_graph_style){.loss = 4, .keep = fmin(keep, 1)});
        const double least = f.kept[f.n_kept - 1]->flow;
        double above = 2; /* the next higher flow among all edges */
        for (size_t e = 0; e < f.n; e++)
            if (f.edge[e].flow > least)
                above = fmin(above, f.edge[e].flow);
        assert_true(fabs(carried(&f, least) - f.carried) < 1e-12);
        assert_true(f.carried >= fmin(keep, 1) * (1 - 1e-8));
        assert_true(carried(&f, above) < fmin(keep, 1));
        for (size_t e = 0; e < f.n_kept; e++) { /* each on a path of kept edges */
            const bf_flow_edge *x = f.kept[e];
            bool in = x->level + 1u == f.levels, out = x->level == 0;
            for (size_t k = 0; k < f.n_kept; k++) {
                in = in || (f.kept[k]->level == x->level + 1u && f.kept[k]->to == x->from);
                out = out || (f.kept[k]->level + 1u == x->level && f.kept[k]->from == x->to);
            }
            assert_true(in && out);
            assert_true(!e || x->flow <= f.kept[e - 1]->flow);
        }
        bf_flow_free(&f);
    }
    bf_flow f = flow_of(record, (bf_graph_style){.loss = 4, .top = 6});
    assert_int_equal(f.kept_moves, 6);
    for (size_t e = 0, outside = 0; e < f.n; e++) {
        outside += f.edge[e].from != f.edge[e].to && f.edge[e].flow > f.kept[f.n_kept - 1]->flow;
        assert_true(outside <= 6);
    }
    bf_flow_free(&f);
    bf_record_free(record);
}

static void flow__of_several_losses_is_the_weighted_sum(void **state)
{
    (void)state;
    bf_record *record = new_record(true, true);
    fill_edges(record);
    static const size_t losses[] = {1, 3, 4};
    const double *norm = doubles(record, "flow.resid_pre.grad_norm");
    double weight[3] = {0}, total = 0;
    for (size_t n = 0; n < 3; n++) {
        for (size_t j = 0; j <= losses[n]; j++)
            weight[n] += norm[losses[n] * N + j];
        total += weight[n];
    }
    bf_flow all = flow_of(record, (bf_graph_style){.losses = losses, .n_losses = 3, .keep = 1});
    check_conserved(&all);
    double *left = malloc(all.n * sizeof *left);
    for (size_t e = 0; e < all.n; e++)
        left[e] = all.edge[e].flow;
    for (size_t n = 0; n < 3; n++) {
        bf_flow f = flow_of(record, (bf_graph_style){.loss = losses[n], .keep = 1});
        for (size_t e = 0; e < f.n; e++) {
            const bf_flow_edge *x = &f.edge[e];
            const bf_flow_edge *same = find_edge(&all, x->level, x->from, x->to, x->head, x->path);
            assert_non_null(same);
            left[same - all.edge] -= x->flow * weight[n] / total;
        }
        bf_flow_free(&f);
    }
    for (size_t e = 0; e < all.n; e++)
        assert_true(fabs(left[e]) < 1e-12);
    assert_true(fabs(all.mean_loss - (doubles(record, "loss")[1] + doubles(record, "loss")[3] +
                                      doubles(record, "loss")[4]) / 3) < 1e-12);
    free(left);
    bf_flow_free(&all);
    bf_record_free(record);
}

/* Flow of the path with these steps: elsewhere it stays, by any edge. */
static double way_part(const bf_flow *f, const bf_graph_way *way)
{
    size_t j = way->source, next = way->n_steps;
    double part = f->node[j];
    for (size_t k = 0; k < f->levels; k++) {
        const bf_graph_step *s = next ? &way->step[next - 1] : NULL;
        double p = 0;
        for (size_t e = 0; e < f->n; e++) {
            const bf_flow_edge *x = &f->edge[e];
            if (x->level != k || x->to != j)
                continue;
            if (s && s->layer == k
                    ? x->from == s->from && x->head == (int)s->head && x->path == s->path
                    : x->from == j)
                p += x->flow / f->node[k * f->positions + j];
        }
        part *= p;
        if (s && s->layer == k) {
            assert_true(s->to == j);
            j = s->from;
            next--;
        }
    }
    assert_true(next == 0 && j == way->loss);
    return part;
}

/* With a tensor `masked`, positions after the loss's are reached, too. */
static void flow__of_a_bidirectional_model_goes_both_ways(void **state)
{
    (void)state;
    static const int64_t index[4][6] = {
        {1, 0, 0, 1, 2, 0}, {1, 0, 0, 1, 0, 1}, {2, 0, 0, 2, 0, 0}, {2, 0, 0, 2, 1, 1}};
    const bf_tensor specs[] = {spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, 2, 3, 0),
                               spec("edge.index", BF_I64, 2, 4, 6, 0, 0),
                               spec("edge.value", BF_F64, 1, 4, 0, 0, 0),
                               spec("losses", BF_I64, 1, 2, 0, 0, 0),
                               spec("masked", BF_I64, 1, 2, 0, 0, 0)};
    static const size_t losses[] = {1, 2};
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, 5, NULL), BF_OK);
    memcpy(bf_record_find(record, "edge.index")->data, index, sizeof index);
    memcpy(bf_record_find(record, "losses")->data, (int64_t[]){1, 2}, 16);
    memcpy(doubles(record, "edge.value"), (double[]){2, 1, 1, 3}, 4 * sizeof(double));
    memcpy(doubles(record, "flow.resid_pre.grad_norm"), (double[]){1, 3, 2, 1, 3, 6},
           6 * sizeof(double));
    bf_flow f = flow_of(record, (bf_graph_style){.loss = 1, .keep = 1});
    assert_int_equal(f.positions, 3);
    const bf_flow_edge *up = find_edge(&f, 0, 1, 2, 0, BF_GRAPH_K);
    assert_non_null(up);
    assert_true(fabs(up->flow - 2.0 / 6) < 1e-12 && fabs(f.node[3 + 1] - 1) < 1e-12);
    bf_flow_free(&f);
    f = flow_of(record, (bf_graph_style){.losses = losses, .n_losses = 2, .keep = 1});
    check_conserved(&f);
    assert_true(fabs(f.node[3 + 1] - 6.0 / 16) < 1e-12);
    assert_int_equal(bf_flow_token(&f, 1), 1);
    bf_flow_free(&f);
    bf_record_free(record);
}

static void ways__are_the_heaviest_paths_and_add_up_to_all(void **state)
{
    (void)state;
    bf_record *record = new_record(true, true);
    fill_edges(record);
    const bf_graph_style style = {.loss = 2, .keep = 0.5};
    bf_flow f = flow_of(record, style);
    bf_graph_ways all, some;
    assert_int_equal(bf_graph_find_ways(&all, record, &style, 1000, NULL), BF_OK);
    assert_in_range(all.n, 50, 999); /* so these are all there are */
    assert_true(fabs(all.sum - 1) < 1e-9);
    for (size_t k = 0; k < all.n; k++) {
        assert_true(fabs(way_part(&f, &all.way[k]) - all.way[k].part) < 1e-12);
        assert_true(!k || all.way[k].part <= all.way[k - 1].part);
    }
    assert_int_equal(bf_graph_find_ways(&some, record, &style, 7, NULL), BF_OK);
    assert_int_equal(some.n, 7);
    assert_true(some.basis == BF_GRAPH_EDGES && some.edges == f.n && some.kept == f.n_kept &&
                some.carried == f.carried);
    for (size_t k = 0; k < 7; k++)
        assert_true(fabs(some.way[k].part - all.way[k].part) < 1e-15);
    bf_graph_ways_free(&some);
    assert_int_equal(bf_graph_find_ways(&some, record, &style, 1001, NULL), BF_EARG);
    bf_graph_ways_free(&all);
    bf_flow_free(&f);
    bf_record_free(record);
}

/* Everything is a multiple of 1/4, so that a way of the record's is easily seen to be right. */
static void ways__of_a_record_by_hand(void **state)
{
    (void)state;
    static const int64_t index[2][6] = {{1, 0, 1, 1, 0, 0}, {1, 0, 0, 1, 0, 1}};
    const bf_tensor specs[] = {spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, 2, 2, 0),
                               spec("edge.index", BF_I64, 2, 2, 6, 0, 0),
                               spec("edge.value", BF_F64, 1, 2, 0, 0, 0)};
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, 3, NULL), BF_OK);
    memcpy(bf_record_find(record, "edge.index")->data, index, sizeof index);
    memcpy(doubles(record, "edge.value"), (double[]){3, -1}, 2 * sizeof(double));
    memcpy(doubles(record, "flow.resid_pre.grad_norm"), (double[]){1, 0, 2, 6}, 4 * sizeof(double));
    bf_graph_ways w;
    assert_int_equal(bf_graph_find_ways(&w, record, &(bf_graph_style){.loss = 1}, 5, NULL), BF_OK);
    assert_int_equal(w.n, 3); /* 6 stay at 1; at 0: 3 by k, -1 by v, the rest of 2 is 0 */
    assert_true(w.way[0].part == 0.75 && w.way[0].n_steps == 0 && w.way[0].source == 1);
    assert_true(w.way[1].part == 0.1875 && w.way[1].source == 0 && w.way[1].n_steps == 1);
    assert_true(w.way[1].step->head == 1 && w.way[1].step->path == BF_GRAPH_K &&
                !w.way[1].step->against);
    assert_true(w.way[2].part == 0.0625 && w.way[2].step->path == BF_GRAPH_V &&
                w.way[2].step->against);
    bf_graph_ways_free(&w);
    bf_record_free(record);
}

static void expect(const bf_record *record, bf_graph_style style, bf_code code, const char *words)
{
    bf_error err = {0};
    bf_flow f;
    assert_int_equal(bf_flow_read(&f, record, &style, &err), code);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    bf_flow_free(&f);
}

static void flow__bad_edges_are_named(void **state)
{
    (void)state;
    const bf_graph_style style = {.loss = 3};
    static const struct {
        size_t column;
        int64_t value;
    } bad[] = {{2, -1}, {2, H}, {3, 4}, {3, -1}, {4, 4}, {4, -1}, {5, 2}, {5, -1}};
    for (size_t k = 0; k < sizeof bad / sizeof *bad; k++) {
        bf_record *record = new_record(true, true);
        fill_edges(record);
        int64_t *index = bf_record_find(record, "edge.index")->data;
        size_t row = 0;
        while (index[6 * row] != 3)
            row++;
        index[6 * (row + 2) + bad[k].column] = bad[k].value;
        const bool head = bad[k].column == 2 && bad[k].value > 0;
        expect(record, style, BF_EFORMAT, head ? "wanted heads below 2" : "which loss 3 cannot");
        bf_record_free(record);
    }
    bf_record *record = new_record(true, true);
    fill_edges(record);
    int64_t *index = bf_record_find(record, "edge.index")->data;
    index[6 * (N * E - 1)] = 3; /* after others */
    expect(record, style, BF_EFORMAT, "returns to loss 3 and layer 0");
    index[6 * (N * E - 1)] = 99;
    doubles(record, "share.mlp")[(1 * N + 3) * N + 1] = NAN;
    expect(record, style, BF_ENONFINITE, "share.mlp is nan");
    doubles(record, "share.mlp")[(1 * N + 3) * N + 1] = 1e308;
    doubles(record, "flow.resid_pre.grad_norm")[(1 * N + 3) * N + 1] = 1e308;
    expect(record, style, BF_ENONFINITE, "not finite in layer 1");
    static const size_t falling[] = {3, 2};
    expect(record, (bf_graph_style){.losses = falling, .n_losses = 2}, BF_EARG, "ascending");
    bf_record_free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(flow__is_conserved_and_starts_as_the_tokens_norms),
        cmocka_unit_test(flow__edges_split_a_node_as_their_values),
        cmocka_unit_test(flow__edges_alone_leave_the_rest_of_the_norm),
        cmocka_unit_test(flow__shares_are_spread_by_attention),
        cmocka_unit_test(flow__keep_is_the_highest_threshold_that_carries_it),
        cmocka_unit_test(flow__of_several_losses_is_the_weighted_sum),
        cmocka_unit_test(flow__of_a_bidirectional_model_goes_both_ways),
        cmocka_unit_test(ways__are_the_heaviest_paths_and_add_up_to_all),
        cmocka_unit_test(ways__of_a_record_by_hand),
        cmocka_unit_test(flow__bad_edges_are_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
