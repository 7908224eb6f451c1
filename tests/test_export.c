/* Graphs as Neuronpedia's JSON, matrices and curves as Vega-Lite: fields, types, and the same
 * numbers. (Both were held against their projects' own schemas when they were made:
 * docs/graphs.md.) */
#include "render_record.h"

#include <math.h>

#include "backflow/render.h"
#include "base/json.h"
#include "render/vega.h"

enum { L = 2, H = 2, N = 4 };

static const char *const hostile[N + 1] = {"</script>", "\"\\", "\n\x01",
                                           "\xE2\x80\xAE"
                                           "evil",
                                           "\x1B[31m"};

static bf_record *new_record(void)
{
    const bf_tensor specs[] = {spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
                               spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
                               spec("share.skip", BF_F64, 3, L, N, N, 0),
                               spec("share.mlp", BF_F64, 3, L, N, N, 0),
                               spec("share.q", BF_F64, 4, L, H, N, N),
                               spec("share.k", BF_F64, 4, L, H, N, N),
                               spec("share.v", BF_F64, 4, L, H, N, N),
                               spec("flow.z.grad_norm", BF_F64, 4, L, H, N, N),
                               spec("attn", BF_F64, 4, L, H, N, N),
                               spec("loss", BF_F64, 1, N, 0, 0, 0)};
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, 10, NULL), BF_OK);
    for (size_t t = 0; t < 10; t++) {
        const bf_tensor *x = bf_record_at(record, t);
        for (size_t k = 0; k < bf_tensor_count(x); k++)
            if (x->dtype == BF_I64)
                ((int64_t *)x->data)[k] = 7;
            else if (x->rank == 1 || k % N <= k / N % N)
                ((double *)x->data)[k] = 0.05 * (double)(1 + (k + t) % 7) *
                                         (!strcmp(x->name, "share.mlp") ? -1 : 1);
    }
    static const char *const own[] = {"share.skip", "share.mlp", "share.q", "flow.z.grad_norm"};
    for (size_t t = 0; t < 4; t++) { /* the last layer's own paths end at the loss's own position */
        const bf_tensor *x = bf_record_find(record, own[t]);
        for (size_t k = bf_tensor_count(x) / 2; k < bf_tensor_count(x); k++)
            if (k % N != k / N % N)
                ((double *)x->data)[k] = 0;
    }
    set_tokens(record, hostile, N + 1);
    bf_record_set_meta(record, "model", "tiny", NULL);
    return record;
}

static bf_json *parse(const char *name)
{
    bf_json *json = NULL;
    bf_error err = {0};
    if (bf_json_read(&json, path_of(name), 1 << 24, &err))
        fail_msg("%s", err.msg);
    return json;
}

typedef struct {
    const char *key;
    bf_json_type type;
} field;

static void need(const bf_json *object, const field *fields, size_t n)
{
    for (size_t k = 0; k < n; k++) {
        const bf_json *value = bf_json_get(object, fields[k].key);
        if (!value || bf_json_kind(value) != fields[k].type)
            fail_msg("field \"%s\" is missing or of another type", fields[k].key);
    }
}

static const bf_json *find_node(const bf_json *nodes, const char *id)
{
    for (const bf_json *v = bf_json_first(nodes); v; v = bf_json_next(v))
        if (!strcmp(bf_json_string(bf_json_get(v, "node_id")), id))
            return v;
    return NULL;
}

/* What the schema's version 1.0.0 requires, and what circuit-tracer's Node has beyond it. */
static void check_nodes(const bf_json *nodes)
{
    static const field fields[] = {
        {"node_id", BF_JSON_STRING},    {"feature", BF_JSON_NUMBER},
        {"layer", BF_JSON_STRING},      {"ctx_idx", BF_JSON_NUMBER},
        {"clerp", BF_JSON_STRING},      {"feature_type", BF_JSON_STRING},
        {"jsNodeId", BF_JSON_STRING},   {"influence", BF_JSON_NUMBER},
        {"token_prob", BF_JSON_NUMBER}, {"is_target_logit", BF_JSON_BOOL},
        {"activation", BF_JSON_NULL}};
    size_t tokens = 0, losses = 0, heads = 0, mlps = 0;
    for (const bf_json *v = bf_json_first(nodes); v; v = bf_json_next(v)) {
        need(v, fields, sizeof fields / sizeof *fields);
        const char *id = bf_json_string(bf_json_get(v, "node_id"));
        const char *type = bf_json_string(bf_json_get(v, "feature_type"));
        assert_ptr_equal(find_node(nodes, id), v);
        double influence;
        assert_true(bf_json_number(bf_json_get(v, "influence"), &influence));
        assert_true(influence > 0 && influence <= 1);
        if (!strcmp(type, "embedding")) {
            char want[32];
            snprintf(want, sizeof want, "E_7_%zu", tokens);
            assert_string_equal(id, want);
            assert_string_equal(bf_json_string(bf_json_get(v, "layer")), "E");
            assert_string_equal(bf_json_string(bf_json_get(v, "clerp")), hostile[tokens++]);
        }
        losses += !strcmp(type, "logit") && bf_json_true(bf_json_get(v, "is_target_logit"));
        heads += !strcmp(type, "attention head");
        mlps += !strcmp(type, "mlp");
    }
    assert_true(tokens == N && losses == 1 && heads > 3 && mlps > 3);
}

/* All that goes into a node in the middle leaves it, and links lead upwards from node to node. */
static void check_links(const bf_json *links, const bf_json *nodes)
{
    static const field fields[] = {
        {"source", BF_JSON_STRING}, {"target", BF_JSON_STRING}, {"weight", BF_JSON_NUMBER}};
    double negative = 0;
    for (const bf_json *v = bf_json_first(nodes); v; v = bf_json_next(v)) {
        const char *id = bf_json_string(bf_json_get(v, "node_id"));
        const char *type = bf_json_string(bf_json_get(v, "feature_type"));
        double in = 0, out = 0, weight;
        for (const bf_json *l = bf_json_first(links); l; l = bf_json_next(l)) {
            need(l, fields, 3);
            assert_true(bf_json_number(bf_json_get(l, "weight"), &weight));
            assert_non_null(find_node(nodes, bf_json_string(bf_json_get(l, "source"))));
            assert_non_null(find_node(nodes, bf_json_string(bf_json_get(l, "target"))));
            negative = fmin(negative, weight);
            in += strcmp(bf_json_string(bf_json_get(l, "target")), id) ? 0 : fabs(weight);
            out += strcmp(bf_json_string(bf_json_get(l, "source")), id) ? 0 : fabs(weight);
        }
        if (!strcmp(type, "embedding"))
            assert_true(in == 0 && out > 0);
        else if (!strcmp(type, "logit"))
            assert_true(out == 0 && fabs(in - 1) < 1e-6);
        else
            assert_true(in > 0 && fabs(in - out) < 1e-6);
    }
    assert_true(negative < 0);
}

static void neuronpedia__has_what_its_schema_requires(void **state)
{
    (void)state;
    static const field top[] = {{"metadata", BF_JSON_OBJECT}, {"qParams", BF_JSON_OBJECT},
                                {"nodes", BF_JSON_ARRAY}, {"links", BF_JSON_ARRAY}};
    static const field meta[] = {
        {"slug", BF_JSON_STRING},           {"scan", BF_JSON_STRING},
        {"prompt_tokens", BF_JSON_ARRAY},   {"prompt", BF_JSON_STRING},
        {"transcoder_list", BF_JSON_ARRAY}, {"node_threshold", BF_JSON_NUMBER}};
    static const field state_of[] = {{"pinnedIds", BF_JSON_ARRAY}, {"supernodes", BF_JSON_ARRAY},
                                     {"linkType", BF_JSON_STRING}, {"clickedId", BF_JSON_STRING},
                                     {"sg_pos", BF_JSON_STRING}};
    bf_record *record = new_record();
    bf_error err = {0};
    const bf_graph_style style = {.loss = N - 1, .keep = 1};
    assert_int_equal(bf_export_neuronpedia(record, &style, path_of("g.json"), &err), BF_OK);
    bf_json *json = parse("g.json");
    need(json, top, 4);
    const bf_json *m = bf_json_get(json, "metadata");
    need(m, meta, sizeof meta / sizeof *meta);
    need(bf_json_get(json, "qParams"), state_of, 5);
    assert_int_equal(bf_json_count(bf_json_get(m, "prompt_tokens")), N);
    assert_string_equal(bf_json_string(bf_json_get(m, "scan")), "tiny");
    const bf_json *nodes = bf_json_get(json, "nodes");
    check_nodes(nodes);
    check_links(bf_json_get(json, "links"), nodes);
    const bf_json *logit = find_node(nodes, "3_7_3"); /* of two layers, above the second */
    assert_non_null(logit);
    double p;
    assert_true(bf_json_number(bf_json_get(logit, "token_prob"), &p));
    assert_true(fabs(p - exp(-doubles(record, "loss")[N - 1])) < 1e-8);
    bf_json_free(json);
    bf_buf bytes = read_all(path_of("g.json"));
    assert_null(strstr(bytes.data, "</script"));
    bf_buf_free(&bytes);
    assert_int_equal(bf_export_neuronpedia(record, &style, path_of("g.svg"), &err), BF_EARG);
    assert_false(exists(path_of("g.svg")));
    bf_record_free(record);
}

/* ---- Vega-Lite */

static const char *text_of(const bf_json *v, const char *a, const char *b, const char *c)
{
    v = bf_json_get(v, a);
    v = b ? bf_json_get(v, b) : v;
    return bf_json_string(c ? bf_json_get(v, c) : v);
}

static void vega__heatmap_holds_the_matrix(void **state)
{
    (void)state;
    bf_record *record = new_record();
    bf_error err = {0};
    const bf_heatmap_style style = {
        .site = "resid_pre", .layer = 1, .head = -1, .scale = BF_SCALE_LOG};
    if (bf_export_vega_heatmap(record, &style, path_of("h.vl.json"), &err))
        fail_msg("%s", err.msg);
    bf_json *json = parse("h.vl.json");
    assert_string_equal(text_of(json, "$schema", NULL, NULL),
                        "https://vega.github.io/schema/vega-lite/v5.json");
    assert_string_equal(text_of(json, "mark", "type", NULL), "rect");
    assert_string_equal(text_of(json, "encoding", "x", "field"), "across");
    assert_string_equal(text_of(bf_json_get(json, "encoding"), "color", "scale", "type"), "log");
    const bf_json *values = bf_json_get(bf_json_get(json, "data"), "values");
    assert_int_equal(bf_json_count(values), N * (N + 1) / 2);
    for (const bf_json *v = bf_json_first(values); v; v = bf_json_next(v)) {
        size_t i, j;
        double x;
        assert_true(bf_json_size(bf_json_get(v, "down"), &i) &&
                    bf_json_size(bf_json_get(v, "across"), &j));
        assert_true(bf_json_number(bf_json_get(v, "value"), &x) && j <= i && i < N);
        assert_true(fabs(x - doubles(record, "flow.resid_pre.grad_norm")[(N + i) * N + j]) < 1e-9);
    }
    const bf_json *names = bf_json_get(bf_json_first(bf_json_get(json, "params")), "value");
    assert_int_equal(bf_json_count(names), N);
    bf_json_free(json);
    bf_record_free(record);
}

static void vega__small_multiples_are_facets_and_signs_have_a_middle(void **state)
{
    (void)state;
    bf_record *record = new_record();
    bf_error err = {0};
    bf_heatmap_style style = {.site = "share.v", .all_layers = true, .all_heads = true};
    if (bf_export_vega_heatmap(record, &style, path_of("m.vl.json"), &err))
        fail_msg("%s", err.msg);
    bf_json *json = parse("m.vl.json");
    assert_string_equal(text_of(json, "encoding", "row", "field"), "layer");
    assert_string_equal(text_of(json, "encoding", "column", "field"), "head");
    const bf_json *colour =
        bf_json_get(bf_json_get(bf_json_get(json, "encoding"), "color"), "scale");
    double middle = 1;
    assert_true(bf_json_number(bf_json_get(colour, "domainMid"), &middle) && middle == 0);
    assert_int_equal(bf_json_count(bf_json_get(bf_json_get(json, "data"), "values")),
                     L * H * N * (N + 1) / 2);
    bf_json_free(json);
    assert_int_equal(bf_export_vega_heatmap(record, &style, path_of("m.png"), &err), BF_EARG);
    style.look.palette = "jet";
    assert_int_equal(bf_export_vega_heatmap(record, &style, path_of("n.vl.json"), &err), BF_EARG);
    style = (bf_heatmap_style){.site = "nowhere"};
    assert_int_equal(bf_export_vega_heatmap(record, &style, path_of("n.vl.json"), &err), BF_EARG);
    assert_false(exists(path_of("n.vl.json")) || exists(path_of("m.png")));
    bf_record_free(record);
}

static void vega__curves_leave_out_what_an_axis_has_no_place_for(void **state)
{
    (void)state;
    const double x[] = {0, 1, 2, 4}, y[] = {3, NAN, -1, 0.5}, low[] = {1, 1, 1, -2},
                 high[] = {4, 4, 4, 1};
    const bf_vega_line lines[] = {{"a \"line\"", y, low, high}, {"b", x, NULL, NULL}};
    const bf_vega_chart chart = {"t", "lag", "flow", true, true, x, 4, 2, lines};
    bf_error err = {0};
    assert_int_equal(bf_vega_write_charts(&chart, 1, "curves", path_of("c.vl.json"), &err), BF_OK);
    bf_json *json = parse("c.vl.json");
    const bf_json *panel = bf_json_first(bf_json_get(json, "vconcat"));
    const bf_json *values = bf_json_get(bf_json_get(panel, "data"), "values");
    assert_int_equal(bf_json_count(values), 1 + 3); /* of a: x = 4 only; of b: x > 0 */
    assert_string_equal(bf_json_string(bf_json_get(bf_json_first(values), "line")), "a \"line\"");
    double lower;
    assert_true(bf_json_number(bf_json_get(bf_json_first(values), "low"), &lower) && lower > 0);
    assert_int_equal(bf_json_count(bf_json_get(panel, "layer")), 2);
    bf_json_free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(neuronpedia__has_what_its_schema_requires),
        cmocka_unit_test(vega__heatmap_holds_the_matrix),
        cmocka_unit_test(vega__small_multiples_are_facets_and_signs_have_a_middle),
        cmocka_unit_test(vega__curves_leave_out_what_an_axis_has_no_place_for),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
