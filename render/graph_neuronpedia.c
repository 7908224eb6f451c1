/* graph_neuronpedia.c -- a flow graph as the JSON that Neuronpedia and circuit-tracer's viewer
 * read.
 *
 * Schema: "Anthropic Attribution Graph", version 1.0.0,
 *     github.com/hijohnnylin/neuronpedia, apps/webapp/app/api/graph/graph-schema.json
 * and, for what circuit-tracer adds (all there): circuit_tracer/frontend/graph_models.py.
 * Tokens are its embeddings, losses its logits. Residual streams, heads and MLPs are nodes between;
 * a head stands at the position whose loss it serves. Links run upwards, as there, and weigh the
 * part of the flow, negative where it works against the rest. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/buf.h"
#include "base/json.h"
#include "render/flow.h"

typedef enum { NODE_STREAM, NODE_MLP, NODE_OWN, NODE_HEAD } node_kind;

typedef struct {
    node_kind kind;
    size_t level, position, head;
    double flow;       /* through it */
    double influence;  /* flow of this node and all that carry more, as part of all nodes' */
    char id[48];
} node;

typedef struct {
    const bf_flow *flow;
    const bf_record *record;
    node *nodes;
    size_t n;
    bf_buf out;
} export;

/* ---- nodes */

static int by_identity(const void *a, const void *b)
{
    const node *x = a, *y = b;
    const size_t p[] = {x->level, x->position, x->kind, x->head};
    const size_t q[] = {y->level, y->position, y->kind, y->head};
    for (size_t k = 0; k < 4; k++)
        if (p[k] != q[k])
            return p[k] < q[k] ? -1 : 1;
    return 0;
}

static long long token_id(const export *x, size_t k)
{
    const bf_tensor *ids = bf_record_find(x->record, "tokens");
    return ids && k < bf_tensor_count(ids) ? (long long)bf_tensor_value(ids, k) : 0;
}

static bool is_token(const node *v)
{
    return v->kind == NODE_STREAM && v->level == 0;
}

static bool is_loss(const export *x, const node *v)
{
    return v->kind == NODE_STREAM && v->level == x->flow->levels;
}

/* "E_391_2" a token, "13_44_9" a loss, else layer_feature_position, the feature a number of ours:
 * 0 stream, 1 MLP, 2 all that stays, 3 + h head h. */
static void name_node(const export *x, node *v)
{
    if (is_token(v))
        snprintf(v->id, sizeof v->id, "E_%lld_%zu", token_id(x, v->position), v->position);
    else if (is_loss(x, v))
        snprintf(v->id, sizeof v->id, "%zu_%lld_%zu", x->flow->layer[v->level - 1] + 2,
                 token_id(x, bf_flow_token(x->flow, v->position)), v->position);
    else
        snprintf(v->id, sizeof v->id, "%zu_%zu_%zu", x->flow->layer[v->level],
                 v->kind == NODE_HEAD ? 3 + v->head : (size_t)v->kind, v->position);
}

/* The node in the middle of an edge; skips have none. */
static bool middle(node *v, const bf_flow_edge *e)
{
    *v = (node){.level = e->level, .position = e->from};
    v->kind = e->path == BF_GRAPH_MLP ? NODE_MLP : e->head < 0 ? NODE_OWN : NODE_HEAD;
    v->head = e->head < 0 ? 0 : (size_t)e->head;
    return e->path != BF_GRAPH_SKIP && !(e->path == BF_GRAPH_OWN && e->from == e->to);
}

static void add_node(export *x, node v)
{
    x->nodes[x->n++] = v;
}

static int falling(const void *a, const void *b)
{
    const node *const *x = a, *const *y = b;
    return ((*x)->flow < (*y)->flow) - ((*x)->flow > (*y)->flow);
}

static bf_code rank_nodes(export *x, bf_error *err)
{
    double total = 0, sum = 0;
    node **sorted = calloc(x->n + 1, sizeof *sorted);
    if (!sorted)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu nodes", x->n);
    for (size_t k = 0; k < x->n; k++) {
        total += x->nodes[k].flow;
        sorted[k] = &x->nodes[k];
    }
    qsort(sorted, x->n, sizeof *sorted, falling);
    for (size_t k = 0; k < x->n; k++) {
        sum += sorted[k]->flow;
        sorted[k]->influence = total > 0 ? fmin(1, sum / total) : 0;
    }
    free(sorted);
    return BF_OK;
}

/* Every token and loss, and what the kept edges join. Equal ones are put together. */
static bf_code make_nodes(export *x, bf_error *err)
{
    const bf_flow *f = x->flow;
    const size_t N = f->positions, room = 3 * f->n_kept + N + f->n_losses;
    x->nodes = calloc(room, sizeof *x->nodes);
    if (!x->nodes)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu nodes", room);
    for (size_t j = 0; j < N; j++)
        add_node(x, (node){.position = j});
    for (size_t n = 0; n < f->n_losses; n++)
        add_node(x, (node){.level = f->levels, .position = f->loss[n]});
    for (size_t k = 0; k < f->n_kept; k++) {
        const bf_flow_edge *e = f->kept[k];
        node v;
        add_node(x, (node){.level = e->level, .position = e->to});
        add_node(x, (node){.level = e->level + 1u, .position = e->from});
        if (middle(&v, e)) {
            v.flow = e->flow;
            add_node(x, v);
        }
    }
    qsort(x->nodes, x->n, sizeof *x->nodes, by_identity);
    const size_t n = x->n;
    x->n = 0;
    for (size_t k = 0; k < n; k++) {
        node *v = &x->nodes[k];
        if (v->kind == NODE_STREAM)
            v->flow = f->node[v->level * N + v->position];
        if (x->n && by_identity(&x->nodes[x->n - 1], v) == 0) {
            x->nodes[x->n - 1].flow += v->kind == NODE_STREAM ? 0 : v->flow;
            continue;
        }
        name_node(x, v);
        x->nodes[x->n++] = *v;
    }
    return rank_nodes(x, err);
}

static const node *find_node(const export *x, node v)
{
    return bsearch(&v, x->nodes, x->n, sizeof v, by_identity);
}

/* ---- JSON */

static void put_number(export *x, double value)
{
    bf_buf_printf(&x->out, "%.9g", value);
}

static bf_code put_token(export *x, size_t k, bf_error *err)
{
    char id[32];
    snprintf(id, sizeof id, "#%lld", token_id(x, k));
    const bf_code rc = bf_json_quote(
        &x->out, k < bf_record_token_count(x->record) ? bf_record_token(x->record, k) : id);
    return rc ? bf_fail(err, rc, "cannot write a token as JSON") : BF_OK;
}

static bf_code put_quoted(export *x, const char *text, bf_error *err)
{
    const bf_code rc = bf_json_quote(&x->out, text);
    return rc ? bf_fail(err, rc, "cannot write a string as JSON") : BF_OK;
}

/* All input tokens, one after the other. */
static bf_code put_prompt(export *x, bf_error *err)
{
    bf_buf prompt = {0};
    for (size_t k = 0; k < x->flow->positions && k < bf_record_token_count(x->record); k++)
        bf_buf_text(&prompt, bf_record_token(x->record, k));
    const bf_code rc = prompt.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the text")
                                     : put_quoted(x, prompt.data ? prompt.data : "", err);
    bf_buf_free(&prompt);
    return rc;
}

static bf_code put_metadata(export *x, bf_error *err)
{
    const char *model = bf_record_meta(x->record, "model");
    const char *version = bf_record_meta(x->record, "version");
    bf_buf slug = {0};
    bf_buf_text(&slug, "backflow-loss");
    for (size_t n = 0; n < x->flow->n_losses; n++)
        bf_buf_printf(&slug, "-%zu", x->flow->loss[n]);
    bf_buf_printf(&x->out, "{\n\"metadata\": {\"slug\": \"%s\", \"scan\": ",
                  slug.failed ? "" : slug.data);
    bf_buf_free(&slug);
    bf_code rc = put_quoted(x, model ? model : "unknown", err);
    bf_buf_text(&x->out, ", \"transcoder_list\": [], \"prompt_tokens\": [");
    for (size_t k = 0; k < x->flow->positions && !rc; k++) {
        bf_buf_text(&x->out, k ? ", " : "");
        rc = put_token(x, k, err);
    }
    bf_buf_text(&x->out, "], \"prompt\": ");
    if (!rc)
        rc = put_prompt(x, err);
    bf_buf_text(&x->out,
                ", \"node_threshold\": 1, \"schema_version\": 1, \"info\": {\"description\": "
                "\"Flow of gradient from losses to tokens; weights are parts of the flow, "
                "negative where they work against the rest\", \"generator\": "
                "{\"name\": \"backflow\", \"version\": ");
    if (!rc)
        rc = put_quoted(x, version ? version : "", err);
    bf_buf_printf(&x->out, "}}, \"generation_settings\": {\"basis\": \"%s\"}, "
                  "\"pruning_settings\": {\"flow_carried\": ",
                  x->flow->basis == BF_GRAPH_EDGES    ? "edges"
                  : x->flow->basis == BF_GRAPH_SHARES ? "shares"
                                                      : "norms");
    put_number(x, x->flow->carried);
    bf_buf_text(&x->out,
                "}},\n\"qParams\": {\"pinnedIds\": [], \"supernodes\": [], \"linkType\": \"both\", "
                "\"clickedId\": \"\", \"sg_pos\": \"\"},\n\"nodes\": [");
    return rc;
}

/* "head 4 of layer 3" */
static void describe(const export *x, const node *v, char words[64])
{
    const size_t layer = v->level < x->flow->levels ? x->flow->layer[v->level] : 0;
    if (v->kind == NODE_HEAD)
        snprintf(words, 64, "layer %zu, head %zu", layer, v->head);
    else
        snprintf(words, 64,
                 v->kind == NODE_MLP   ? "layer %zu, MLP"
                 : v->kind == NODE_OWN ? "layer %zu, attention"
                                       : "input of layer %zu",
                 layer);
}

/* The label of a node: a token's is its string. */
static bf_code put_label(export *x, const node *v, bf_error *err)
{
    char words[64];
    bf_buf text = {0};
    bf_code rc;
    if (is_token(v))
        return put_token(x, v->position, err);
    if (is_loss(x, v)) {
        bf_buf_text(&text, "loss of \"");
        const size_t token = bf_flow_token(x->flow, v->position);
        if (token < bf_record_token_count(x->record))
            bf_buf_text(&text, bf_record_token(x->record, token));
        bf_buf_text(&text, "\"");
    } else {
        describe(x, v, words);
        bf_buf_text(&text, words);
    }
    rc = text.failed ? bf_fail(err, BF_ENOMEM, "cannot hold a label")
                     : put_quoted(x, text.data, err);
    bf_buf_free(&text);
    return rc;
}

/* circuit-tracer's number of a feature of a layer: Cantor's pairing. */
static unsigned long long pair(size_t layer, size_t feature)
{
    return (unsigned long long)(layer + feature) * (layer + feature + 1) / 2 + feature;
}

static bf_code put_node(export *x, const node *v, bf_error *err)
{
    static const char *const types[] = {[NODE_STREAM] = "residual stream", [NODE_MLP] = "mlp",
                                        [NODE_OWN] = "attention", [NODE_HEAD] = "attention head"};
    const bool token = is_token(v), loss = is_loss(x, v);
    const bf_tensor *losses = bf_record_find(x->record, "loss");
    const size_t layer = v->level < x->flow->levels ? x->flow->layer[v->level]
                                                    : x->flow->layer[v->level - 1] + 2;
    const size_t feature = v->kind == NODE_HEAD ? 3 + v->head : (size_t)v->kind;
    bf_buf_printf(&x->out, "{\"node_id\": \"%s\", \"feature\": ", v->id);
    if (token)
        bf_buf_printf(&x->out, "%zu, \"layer\": \"E\"", v->position);
    else if (loss)
        bf_buf_printf(&x->out, "%lld, \"layer\": \"%zu\"",
                      token_id(x, bf_flow_token(x->flow, v->position)), layer);
    else
        bf_buf_printf(&x->out, "%llu, \"layer\": \"%zu\"", pair(layer, feature), layer);
    bf_buf_printf(&x->out, ", \"ctx_idx\": %zu, \"feature_type\": \"%s\", \"token_prob\": ",
                  v->position, token ? "embedding" : loss ? "logit" : types[v->kind]);
    const bool known = loss && losses && v->position < bf_tensor_count(losses);
    const double p = known ? exp(-bf_tensor_value(losses, v->position)) : 0;
    put_number(x, isfinite(p) ? p : 0);
    bf_buf_printf(&x->out, ", \"is_target_logit\": %s, \"run_idx\": 0, \"reverse_ctx_idx\": 0, "
                  "\"jsNodeId\": \"%s\", \"clerp\": ",
                  loss ? "true" : "false", v->id);
    const bf_code rc = put_label(x, v, err);
    bf_buf_text(&x->out, ", \"influence\": ");
    put_number(x, v->influence);
    bf_buf_text(&x->out, ", \"activation\": null}");
    return rc;
}

typedef struct {
    const node *source, *target;
    double weight;
} link_of;

static int by_ends(const void *a, const void *b)
{
    const link_of *x = a, *y = b;
    if (x->source != y->source)
        return x->source < y->source ? -1 : 1;
    return (x->target > y->target) - (x->target < y->target);
}

/* Links of all kept edges, up through the node in their middle; those with the same ends added. */
static bf_code put_links(export *x, bf_error *err)
{
    const bf_flow *f = x->flow;
    link_of *links = calloc(2 * f->n_kept + 1, sizeof *links);
    size_t n = 0, written = 0;
    if (!links)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu links", 2 * f->n_kept);
    for (size_t k = 0; k < f->n_kept; k++) {
        const bf_flow_edge *e = f->kept[k];
        const node *below = find_node(x, (node){.level = e->level, .position = e->to});
        const node *above = find_node(x, (node){.level = e->level + 1u, .position = e->from});
        const double weight = e->against ? -e->flow : e->flow;
        node v;
        if (middle(&v, e)) {
            const node *between = find_node(x, v);
            links[n++] = (link_of){below, between, weight};
            links[n++] = (link_of){between, above, weight};
        } else {
            links[n++] = (link_of){below, above, weight};
        }
    }
    qsort(links, n, sizeof *links, by_ends);
    for (size_t k = 0; k < n;) {
        link_of sum = links[k];
        for (k++; k < n && by_ends(&sum, &links[k]) == 0; k++)
            sum.weight += links[k].weight;
        bf_buf_printf(&x->out, "%s\n{\"source\": \"%s\", \"target\": \"%s\", \"weight\": ",
                      written++ ? "," : "", sum.source->id, sum.target->id);
        put_number(x, sum.weight);
        bf_buf_text(&x->out, "}");
    }
    free(links);
    return BF_OK;
}

static bf_code put_all(export *x, bf_error *err)
{
    bf_code rc = put_metadata(x, err);
    for (size_t k = 0; k < x->n && !rc; k++) {
        bf_buf_text(&x->out, k ? ",\n" : "\n");
        rc = put_node(x, &x->nodes[k], err);
    }
    bf_buf_text(&x->out, "],\n\"links\": [");
    if (!rc)
        rc = put_links(x, err);
    bf_buf_text(&x->out, "]\n}\n");
    return !rc && x->out.failed ? bf_fail(err, BF_ENOMEM, "cannot hold the graph's JSON") : rc;
}

bf_code bf_export_neuronpedia(const bf_record *record, const bf_graph_style *style,
                              const char *path, bf_error *err)
{
    bf_flow flow = {0};
    export x = {.flow = &flow, .record = record};
    const char *dot = strrchr(path, '.');
    if (!dot || strcasecmp(dot, ".json") != 0)
        return bf_fail(err, BF_EARG, "%.300s: a graph for Neuronpedia's path must end in .json",
                       path);
    bf_code rc = bf_flow_read(&flow, record, style, err);
    if (!rc)
        rc = make_nodes(&x, err);
    if (!rc)
        rc = put_all(&x, err);
    if (!rc)
        rc = bf_file_write(path, x.out.data, x.out.len, err);
    bf_buf_free(&x.out);
    free(x.nodes);
    bf_flow_free(&flow);
    return rc;
}
