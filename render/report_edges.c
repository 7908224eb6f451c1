/* report_edges.c -- the heaviest edges of each loss's graph.
 *
 * A node (layer l, position j) holds |g_ij| at resid_pre[l]; what came into it by each path is
 * share * |g_ij|, and these sum to it. Skip, mlp and q come from the same position one level up.
 * By k and v a head brings gradient from positions r: where edges were recorded they say from
 * which; else the head's sum is spread over r in proportion to attn[r,j] * |dz_ir|. The flow is
 * that of docs/graphs.md: of the sources' norms, each its part of all; from level to level up,
 *     p(e) = v(e) / sum of |v| over the edges into its node,   flow(e) = |p(e)| flow(node below). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "render/report_data.h"
#include "render/report_pack.h"

enum { PATH_K, PATH_V, PATH_Q, PATH_MLP, PATH_SKIP, WORDS = 5 };
enum { MOST = 2000, LEAST = 200, PER_PAGE = 350000 };
#define NEGLIGIBLE 1e-6 /* of the whole flow: not followed */

typedef struct {
    unsigned short layer, path, head, from, to;
    double p; /* signed; until its layer is complete, v */
    double flow;
} edge;

typedef struct {
    const bf_report_source *s;
    const bf_tensor *norm, *q, *k, *v, *mlp, *skip, *attn, *z, *index, *value;
    size_t heads, next;           /* next: the first recorded edge that was not looked at */
    edge *list;                   /* [n] of this loss, in room for cap */
    size_t n, cap;
    double *weight;               /* [N] */
    double *flow, *above, *into;  /* [N] of this level's nodes, of the next's; sum of |v| */
    bool failed;
} job;

static double at(const bf_tensor *t, size_t k)
{
    if (t->dtype == BF_F32)
        return (double)((const float *)t->data)[k];
    return bf_tensor_value(t, k);
}

static const bf_tensor *find(const bf_report_source *s, const char *name, size_t rank, size_t heads,
                             size_t rows)
{
    const bf_tensor *t = bf_record_find(s->record, name);
    if (!t || t->rank != rank || t->dim[0] != s->layers || (rank == 4 && t->dim[1] != heads) ||
        t->dim[rank - 2] != rows || t->dim[rank - 1] != s->N)
        return NULL;
    return t;
}

/* Are the tensors there, are the layers all of the model, do numbers fit into words? */
static bool begin(job *b, const bf_report_source *s)
{
    const bf_tensor *q = bf_record_find(s->record, "share.q");
    const size_t H = q && q->rank == 4 ? q->dim[1] : 0;
    *b = (job){.s = s, .heads = H};
    b->norm = find(s, "flow.resid_pre.grad_norm", 3, 0, s->rows);
    b->mlp = find(s, "share.mlp", 3, 0, s->rows);
    b->skip = find(s, "share.skip", 3, 0, s->rows);
    b->q = find(s, "share.q", 4, H, s->rows);
    b->k = find(s, "share.k", 4, H, s->rows);
    b->v = find(s, "share.v", 4, H, s->rows);
    b->attn = find(s, "attn", 4, H, s->N);
    b->z = find(s, "flow.z.grad_norm", 4, H, s->rows);
    b->index = bf_record_find(s->record, "edge.index");
    b->value = bf_record_find(s->record, "edge.value");
    if (b->index && (!b->value || b->index->rank != 2 || b->index->dim[1] != 6 ||
                     bf_tensor_count(b->value) != b->index->dim[0]))
        b->index = NULL;
    return b->norm && b->mlp && b->skip && b->q && b->k && b->v &&
           (b->index || (b->attn && b->z)) && !bf_record_find(s->record, "layers") && H &&
           H < 0xffff && s->N < 0xffff && s->layers < 0xffff;
}

static void push(job *b, size_t layer, size_t path, size_t head, size_t from, size_t to, double v)
{
    b->into[to] += fabs(v);
    if (b->n == b->cap && !b->failed) {
        const size_t cap = b->cap ? 2 * b->cap : 1024;
        edge *grown = realloc(b->list, cap * sizeof *grown);
        b->failed = !grown;
        b->list = grown ? grown : b->list;
        b->cap = grown ? cap : b->cap;
    }
    if (!b->failed)
        b->list[b->n++] = (edge){(unsigned short)layer, (unsigned short)path, (unsigned short)head,
                                 (unsigned short)from,  (unsigned short)to,   v, 0.0};
}

/* A head's sum at j, spread over the positions that read j. g: the node's norm. */
static void spread(job *b, size_t row, size_t layer, size_t head, size_t path, size_t j, double all,
                   double g)
{
    const bf_report_source *s = b->s;
    const size_t plane = layer * b->heads + head, from = s->full ? 0 : j,
                 to = s->full ? s->N : s->i[row] + 1;
    double whole = 0.0;
    if (fabs(all) * b->flow[j] < NEGLIGIBLE * g) {
        b->into[j] += fabs(all);
        return;
    }
    for (size_t r = from; r < to; r++) {
        b->weight[r] = at(b->attn, (plane * s->N + r) * s->N + j) *
                       at(b->z, (plane * s->rows + row) * s->N + r);
        whole += b->weight[r];
    }
    for (size_t r = from; r < to && whole > 0.0; r++)
        if (b->weight[r] > 0.0)
            push(b, layer, path, head, r, j, all * b->weight[r] / whole);
}

static void add_node(job *b, size_t row, size_t layer, size_t j, double g)
{
    const bf_report_source *s = b->s;
    const size_t cell = (layer * s->rows + row) * s->N + j;
    push(b, layer, PATH_SKIP, 0, j, j, g * at(b->skip, cell));
    push(b, layer, PATH_MLP, 0, j, j, g * at(b->mlp, cell));
    for (size_t h = 0; h < b->heads; h++) {
        const size_t c = ((layer * b->heads + h) * s->rows + row) * s->N + j;
        push(b, layer, PATH_Q, h, j, j, g * at(b->q, c));
        if (b->index)
            continue;
        spread(b, row, layer, h, PATH_K, j, g * at(b->k, c), g);
        spread(b, row, layer, h, PATH_V, j, g * at(b->v, c), g);
    }
}

/* The recorded edges of this loss and layer; they are ordered by loss, then by layer. */
static void add_recorded(job *b, size_t row, size_t layer)
{
    const int64_t *e = b->index ? b->index->data : NULL;
    const size_t n = b->index ? b->index->dim[0] : 0, i = b->s->i[row];
    for (; b->next < n; b->next++) {
        const int64_t *x = e + 6 * b->next;
        if ((size_t)x[0] > i || ((size_t)x[0] == i && (size_t)x[1] > layer))
            return;
        if ((size_t)x[0] == i && (size_t)x[1] == layer && (size_t)x[2] < b->heads &&
            (size_t)x[3] < b->s->N && (size_t)x[4] < b->s->N)
            push(b, layer, x[5] ? PATH_V : PATH_K, (size_t)x[2], (size_t)x[3], (size_t)x[4],
                 bf_tensor_value(b->value, b->next));
    }
}

/* The edges from list[first] on are all of their layer: how much flows through each, and up. */
static void settle(job *b, size_t first)
{
    size_t kept = first;
    memset(b->above, 0, b->s->N * sizeof *b->above);
    for (size_t k = first; k < b->n; k++) {
        edge e = b->list[k];
        if (b->into[e.to] <= 0.0)
            continue;
        e.p /= b->into[e.to];
        e.flow = fabs(e.p) * b->flow[e.to];
        b->above[e.from] += e.flow;
        if (e.flow >= NEGLIGIBLE)
            b->list[kept++] = e;
    }
    b->n = kept;
    double *const flow = b->flow;
    b->flow = b->above;
    b->above = flow;
}

static void collect(job *b, size_t row)
{
    const bf_report_source *s = b->s;
    const size_t reach = s->full ? s->N : s->i[row] + 1;
    double all = 0.0;
    b->n = 0;
    for (size_t j = 0; j < reach; j++)
        all += at(b->norm, row * s->N + j);
    for (size_t j = 0; j < s->N; j++)
        b->flow[j] = j < reach && all > 0.0 ? at(b->norm, row * s->N + j) / all : 0.0;
    for (size_t l = 0; l < s->layers && !b->failed; l++) {
        const size_t first = b->n;
        memset(b->into, 0, s->N * sizeof *b->into);
        for (size_t j = 0; j < reach; j++)
            add_node(b, row, l, j, at(b->norm, (l * s->rows + row) * s->N + j));
        add_recorded(b, row, l);
        if (!b->failed)
            settle(b, first);
    }
}

static int heavier(const void *a, const void *b)
{
    const edge *x = a, *y = b;
    if (x->flow != y->flow)
        return x->flow < y->flow ? 1 : -1;
    return memcmp(&x->layer, &y->layer, WORDS * sizeof x->layer); /* ties: in any fixed order */
}

/* The heaviest `most`, as words and floats (all p, then all flows); the head gets their number. */
static bf_code write_edges(bf_buf *out, bf_buf *head, job *b, size_t row, size_t most,
                           bf_error *err)
{
    if (b->n)
        qsort(b->list, b->n, sizeof *b->list, heavier);
    const size_t n = b->n < most ? b->n : most;
    unsigned short *word = malloc((n * WORDS + 1) * sizeof *word);
    double *value = malloc((2 * n + 1) * sizeof *value);
    bf_code rc = word && value ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu edges", n);
    for (size_t k = 0; k < n && !rc; k++) {
        const edge *e = &b->list[k];
        const unsigned short w[WORDS] = {e->layer, e->path, e->head, e->from, e->to};
        for (size_t c = 0; c < WORDS; c++)
            word[c * n + k] = w[c];
        value[k] = e->p;
        value[n + k] = e->flow;
    }
    bf_report_open(out, "e", row);
    if (!rc)
        rc = bf_pack_words(out, word, n * WORDS, err);
    bf_buf_text(out, " ");
    if (!rc)
        rc = bf_pack_floats(out, value, 2 * n, err);
    bf_report_close(out);
    bf_buf_printf(head, "%s%zu", row ? "," : "", n);
    free(word);
    free(value);
    return rc;
}

bf_code bf_report_put_edges(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err)
{
    job b;
    if (!begin(&b, s))
        return BF_OK;
    size_t most = PER_PAGE / s->rows;
    most = most < LEAST ? LEAST : most > MOST ? MOST : most;
    double *room = calloc(s->N, 4 * sizeof *room);
    bf_code rc = room ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot hold %zu positions", s->N);
    if (!rc) {
        b.weight = room;
        b.flow = room + s->N;
        b.above = room + 2 * s->N;
        b.into = room + 3 * s->N;
    }
    bf_buf_printf(head, ",\"measured\":%s,\"edges\":[", b.index ? "true" : "false");
    for (size_t row = 0; row < s->rows && !rc; row++) {
        collect(&b, row);
        rc = b.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the edges of loss %zu", s->i[row])
                      : write_edges(out, head, &b, row, most, err);
    }
    bf_buf_text(head, "]");
    free(room);
    free(b.list);
    return rc;
}
