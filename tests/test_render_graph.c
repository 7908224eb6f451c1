/* Flow graphs: what is kept, where it stands, and that no token breaks out of its label. */
#include "render_record.h"

#include <graphviz/cgraph.h>
#include <math.h>

#include "backflow/render.h"
#include "render/flow.h"

enum { L = 3, H = 2, N = 25 };

static const char *const hostile[N + 1] = {
    "\"quoted\"", "<b>", "\n", "\\N", "\\l\\r\\n", "&amp;", "&#65;&lt;", " named", "  ", "\t",
    "a\\", "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D", "\xE2\x80\xAE" "evil", "\xF0\x9F\x99\x82",
    "\\xE2\\x80", "]]>", "\x01", "\xE4\xBD\xA0", "antidisestablishmentarianism", "", "\xCC\x81",
    "-->", "\\", "%s%n", "\\\"", "\"];}<>|{}\\G",
};

/* As a reader sees them in a graph, U+2068, U+2069 and U+2060 left out. */
static const char *const visible[N] = {
    "\"quoted\"", "<b>", "↵", "\\N", "\\l\\r\\n", "&amp;", "&#65;&lt;", "named", "␣␣", "⇥", "a\\",
    "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D", "⟨202E⟩evil", "\xF0\x9F\x99\x82", "\\xE2\\x80", "]]>", "␁",
    "\xE4\xBD\xA0", "antidisesta…", "⟨empty⟩", "◌\xCC\x81", "-->", "\\", "%s%n", "\\\"",
};

static double noise(size_t k)
{
    return fabs(sin(12.9898 * (double)k + 1) * 43758.5453 -
                floor(sin(12.9898 * (double)k + 1) * 43758.5453));
}

/* All that a graph reads. */
static bf_record *new_record(void)
{
    const bf_tensor specs[] = {
        spec("flow.resid_pre.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_mid.grad_norm", BF_F64, 3, L, N, N, 0),
        spec("flow.resid_final.grad_norm", BF_F64, 2, N, N, 0, 0),
        spec("flow.z.grad_norm", BF_F64, 4, L, H, N, N), spec("attn", BF_F64, 4, L, H, N, N),
        spec("loss", BF_F64, 1, N, 0, 0, 0), spec("tokens", BF_I64, 1, N + 1, 0, 0, 0),
    };
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, sizeof specs / sizeof *specs, NULL), BF_OK);
    for (size_t k = 0; k < L * N; k++)
        for (size_t i = k % N, j = 0; j <= i; j++) {
            doubles(record, "flow.resid_pre.grad_norm")[k * N + j] =
                0.1 + noise(k * N + j) / (double)(1 + i - j);
            doubles(record, "flow.resid_mid.grad_norm")[k * N + j] = 0.1 + noise(3 * k * N + j);
        }
    for (size_t k = 0; k < L * H * N; k++)
        for (size_t i = k % N, j = 0; j <= i; j++) {
            doubles(record, "flow.z.grad_norm")[k * N + j] = noise(5 * k * N + j);
            doubles(record, "attn")[k * N + j] = 1 / (double)(1 + i);
        }
    for (size_t i = 0; i < N; i++) {
        doubles(record, "flow.resid_final.grad_norm")[i * N + i] = 1;
        doubles(record, "loss")[i] = 0.5 + (double)i;
    }
    set_tokens(record, hostile, N + 1);
    bf_record_set_meta(record, "model", "tiny", NULL);
    return record;
}

static void draw(const bf_record *record, bf_graph_style style, const char *name)
{
    bf_error err = {0};
    if (bf_render_graph(record, &style, path_of(name), &err))
        fail_msg("%s: %s", name, err.msg);
}

/* Take out every occurrence of what is invisible. */
static void remove_all(char *text, const char *what)
{
    const size_t n = strlen(what);
    for (char *at = text; (at = strstr(at, what));)
        memmove(at, at + n, strlen(at + n) + 1);
}

static void plain(char *text)
{
    remove_all(text, "\xE2\x81\xA8");
    remove_all(text, "\xE2\x81\xA9");
    remove_all(text, "\xE2\x81\xA0");
}

/* What a browser shows of the text node that starts at `from`. */
static void read_svg_text(char out[200], const char *from)
{
    static const char *const entity[][2] = {{"&lt;", "<"},         {"&gt;", ">"},  {"&quot;", "\""},
                                            {"&amp;", "&"},        {"&#45;", "-"}, {"&#39;", "'"},
                                            {"&#160;", "\xC2\xA0"}};
    size_t n = 0;
    while (*from && *from != '<' && n < 190) {
        bool known = false;
        for (size_t k = 0; k < 7 && !known; k++)
            if ((known = !strncmp(from, entity[k][0], strlen(entity[k][0])))) {
                n += (size_t)snprintf(out + n, 8, "%s", entity[k][1]);
                from += strlen(entity[k][0]);
            }
        if (!known) {
            assert_int_not_equal(*from, '&');
            out[n++] = *from++;
        }
    }
    out[n] = '\0';
    plain(out);
}

static void check_svg(const bf_buf *svg)
{
    assert_true(is_xml(svg->data));
    for (size_t j = 0; j < N; j++) {
        char title[40], text[200];
        snprintf(title, sizeof title, "<title>token%zu</title>", j);
        const char *at = strstr(svg->data, title);
        assert_non_null(at);
        at = strstr(at, "<text");
        assert_non_null(at);
        read_svg_text(text, strchr(at, '>') + 1);
        assert_string_equal(text, visible[j]);
    }
    const char *at = strstr(svg->data, "<title>loss</title>");
    assert_non_null(at);
    char text[200];
    read_svg_text(text, strchr(strstr(at, "<text"), '>') + 1);
    assert_string_equal(text, "loss of “\"];}<>|{}\\G”");
    assert_non_null(strstr(at, ">24.5 nats<"));
}

static void graph__svg_shows_every_token_as_it_is(void **state)
{
    (void)state;
    bf_record *record = new_record();
    draw(record, (bf_graph_style){.loss = N - 1}, "graph.svg");
    bf_buf svg = read_all(path_of("graph.svg"));
    check_svg(&svg);
    bf_buf_free(&svg);
    bf_record_free(record);
}

static void graph__dot_survives_dot(void **state)
{
    (void)state;
    bf_record *record = new_record();
    char command[256];
    draw(record, (bf_graph_style){.loss = N - 1}, "graph.dot");
    snprintf(command, sizeof command, "cd '%s' && dot -Tsvg:svg graph.dot -o again.svg 2>messages",
             folder);
    assert_int_equal(system(command), 0);
    bf_buf messages = read_all(path_of("messages"));
    assert_int_equal(messages.len, 0);
    bf_buf svg = read_all(path_of("again.svg"));
    check_svg(&svg);
    bf_buf_free(&svg);
    bf_buf_free(&messages);
    bf_record_free(record);
}

/* The node's place in a graph read back from DOT. */
static void place_of(Agraph_t *g, const char *name, double *x, double *y)
{
    char pos[] = "pos", copy[32];
    snprintf(copy, sizeof copy, "%s", name);
    Agnode_t *node = agnode(g, copy, 0);
    assert_non_null(node);
    assert_int_equal(sscanf(agget(node, pos), "%lf,%lf", x, y), 2);
}

static void graph__positions_are_columns_and_layers_are_rows(void **state)
{
    (void)state;
    bf_record *record = new_record();
    draw(record, (bf_graph_style){.loss = 9, .top = 7}, "grid.dot");
    bf_buf dot = read_all(path_of("grid.dot"));
    Agraph_t *g = agmemread(dot.data);
    assert_non_null(g);
    double x0 = 0, y0 = 0, left = -1e9;
    for (size_t j = 0; j <= 9; j++)
        for (size_t level = 0; level < L; level++) {
            double x, y;
            char name[32];
            snprintf(name, sizeof name, "l%zu_p%zu", level, j);
            place_of(g, name, &x, &y);
            if (!level)
                x0 = x;
            if (!j && !level)
                y0 = y;
            assert_true(fabs(x - x0) < 0.01);
            assert_true(fabs(y - y0 - 62 * (double)level) < 0.01);
            assert_true(level || x > left + 20);
            left = level ? left : x;
        }
    double x, y;
    place_of(g, "loss", &x, &y);
    assert_true(fabs(x - left) < 0.01 && y > y0 + 62 * L + 20);
    size_t attention = 0;
    char color[] = "color", first[] = "l0_p0";
    assert_non_null(agnode(g, first, 0));
    for (Agnode_t *n = agfstnode(g); n; n = agnxtnode(g, n))
        for (Agedge_t *e = agfstout(g, n); e; e = agnxtout(g, e))
            attention += !strncmp(agget(e, color), "#d55e00", 7) && agnameof(n)[0] == 'l' &&
                         strncmp(agnameof(n), "legend", 6);
    assert_int_equal(attention, 7);
    agclose(g);
    bf_buf_free(&dot);
    bf_record_free(record);
}

static void graph__every_format_comes_out(void **state)
{
    (void)state;
    bf_record *record = new_record();
    static const size_t losses[] = {0, 1, N - 1};
    for (size_t k = 0; k < 3; k++) {
        draw(record, (bf_graph_style){.loss = losses[k], .keep = 1}, "f.png");
        picture p = read_png(path_of("f.png"));
        assert_in_range(p.width, 500, 8000);
        assert_in_range(p.height, 300, 4000);
        free(p.rgb);
        draw(record, (bf_graph_style){.loss = losses[k]}, "f.pdf");
        bf_buf pdf = read_all(path_of("f.pdf"));
        assert_memory_equal(pdf.data, "%PDF-", 5);
        for (size_t b = 0; b + 6 < pdf.len; b++)
            assert_memory_not_equal(pdf.data + b, "/Type3", 6);
        bf_buf_free(&pdf);
        draw(record, (bf_graph_style){.loss = losses[k]}, "f.SVG");
        bf_buf svg = read_all(path_of("f.SVG"));
        assert_true(is_xml(svg.data));
        bf_buf_free(&svg);
    }
    bf_record_free(record);
}

/* Without edges and shares, attention * flow at z stands beside the flow at resid_mid. */
static void graph__without_edges_guesses_from_norms_and_says_so(void **state)
{
    (void)state;
    bf_record *record = new_record();
    bf_flow f;
    const bf_graph_style style = {.loss = 11, .keep = 0.8};
    assert_int_equal(bf_flow_read(&f, record, &style, NULL), BF_OK);
    assert_true(f.basis == BF_GRAPH_NORMS && f.mean_loss == 11.5);
    const double *z = doubles(record, "flow.z.grad_norm"), *attn = doubles(record, "attn");
    const double *mid = doubles(record, "flow.resid_mid.grad_norm");
    for (size_t e = 0; e < f.n; e++) {
        const bf_flow_edge *x = &f.edge[e];
        const size_t at = ((size_t)x->level * N + 11) * N + x->to;
        double sum = mid[at], mine = 0;
        for (size_t r = x->to + 1; r <= 11; r++)
            for (size_t h = 0; h < H; h++) {
                const size_t head = (size_t)x->level * H + h;
                const double w = attn[(head * N + r) * N + x->to] * z[(head * N + 11) * N + r];
                sum += w;
                mine += r == x->from ? w : 0;
            }
        assert_true(x->head == -1 && !x->against);
        assert_int_equal(x->path, x->from == x->to ? BF_GRAPH_OWN : BF_GRAPH_V);
        assert_true(fabs(x->flow - f.node[x->level * f.positions + x->to] *
                                       (x->from == x->to ? mid[at] : mine) / sum) < 1e-12);
    }
    bf_flow_free(&f);
    draw(record, style, "norms.svg");
    bf_buf svg = read_all(path_of("norms.svg"));
    assert_non_null(strstr(svg.data, "A rough guide, from norms"));
    assert_null(strstr(svg.data, "Measured"));
    bf_buf_free(&svg);
    bf_record_free(record);
}

enum { EDGES = 9 };

/* Loss 3 of one layer, with edges of two heads. */
static bf_record *new_edges(void)
{
    const bf_tensor specs[] = {spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, 4, 4, 0),
                               spec("edge.index", BF_I64, 2, EDGES, 6, 0, 0),
                               spec("edge.value", BF_F64, 1, EDGES, 0, 0, 0)};
    static const int64_t index[EDGES][6] = {
        {2, 0, 0, 2, 1, 1}, {3, 0, 0, 3, 0, 0}, {3, 0, 0, 3, 1, 1},
        {3, 0, 0, 3, 2, 0}, {3, 0, 0, 3, 3, 1}, {3, 0, 1, 3, 0, 0},
        {3, 0, 1, 3, 0, 1}, {3, 0, 1, 3, 1, 1}, {3, 0, 1, 3, 2, 0}};
    static const double value[EDGES] = {100, 5, 1, 100, 50, -7, 1, 3, 2};
    bf_record *record;
    assert_int_equal(bf_record_new(&record, specs, 3, NULL), BF_OK);
    memcpy(bf_record_find(record, "edge.index")->data, index, sizeof index);
    memcpy(doubles(record, "edge.value"), value, sizeof value);
    const double norm[] = {-1, 4, 102, 60};
    for (size_t j = 0; j < 4; j++)
        doubles(record, "flow.resid_pre.grad_norm")[12 + j] = fabs(norm[j]);
    return record;
}

/* Heads and paths are edges of their own, told apart by colour and dash; a tip tells the sign. */
static void graph__draws_heads_and_paths_apart(void **state)
{
    (void)state;
    static const struct {
        const char *key, *color, *style, *tip, *tooltip;
    } want[] = {
        {"k0", "#0072b2", "dashed", "none", "layer 0, head 0 by k, 3 to 0: "},
        {"k1", "#0072b2", "dashed", "tee", "layer 0, head 1 by k, 3 to 0: "},
        {"v1", "#d55e00", "solid", "none", "layer 0, head 1 by v, 3 to 0: "},
    };
    bf_record *record = new_edges();
    draw(record, (bf_graph_style){.loss = 3, .keep = 1}, "heads.dot");
    bf_buf dot = read_all(path_of("heads.dot"));
    Agraph_t *g = agmemread(dot.data);
    char from[] = "l1_p3", to[] = "l0_p0";
    double x[3] = {0};
    for (size_t k = 0; k < 3; k++) {
        char key[8], color[] = "color", style[] = "style", tip[] = "arrowhead",
                     tooltip[] = "tooltip";
        char pos[] = "pos";
        snprintf(key, sizeof key, "%s", want[k].key);
        Agedge_t *e = agedge(g, agnode(g, from, 0), agnode(g, to, 0), key, 0);
        assert_non_null(e);
        assert_memory_equal(agget(e, color), want[k].color, 7);
        assert_string_equal(agget(e, style), want[k].style);
        assert_string_equal(agget(e, tip), want[k].tip);
        assert_memory_equal(agget(e, tooltip), want[k].tooltip, strlen(want[k].tooltip));
        assert_true(!!strstr(agget(e, tooltip), "against the rest") == (k == 1));
        assert_int_equal(sscanf(strncmp(agget(e, pos), "e,", 2) ? agget(e, pos)
                                                                : strchr(agget(e, pos), ' ') + 1,
                                "%lf", &x[k]), 1);
        assert_true(!k || x[k] > x[k - 1] + 0.2); /* side by side */
    }
    agclose(g);
    bf_buf_free(&dot);
    draw(record, (bf_graph_style){.loss = 3, .label_heads = true}, "heads.svg");
    bf_buf svg = read_all(path_of("heads.svg"));
    assert_non_null(strstr(svg.data, ">0k<"));
    assert_non_null(strstr(svg.data, "xlink:title=\"layer 0, head 0 by k, 3 to 2: "));
    assert_non_null(strstr(svg.data, "Measured: edge.value"));
    bf_buf_free(&svg);
    ((int64_t *)bf_record_find(record, "edge.index")->data)[6 + 3] = 9; /* r beyond the loss */
    bf_error err;
    assert_int_equal(
        bf_render_graph(record, &(bf_graph_style){.loss = 3}, path_of("bad.svg"), &err),
        BF_EFORMAT);
    assert_false(exists(path_of("bad.svg")));
    bf_record_free(record);
}

/* Read with cgraph and written again, it is the same file. */
static void graph__dot_round_trips(void **state)
{
    (void)state;
    bf_record *hostile_one = new_record(), *edges = new_edges();
    const size_t losses[] = {3, 9, N - 1};
    for (int k = 0; k < 2; k++) {
        if (k)
            draw(edges, (bf_graph_style){.loss = 3, .label_heads = true}, "one.dot");
        else
            draw(hostile_one, (bf_graph_style){.losses = losses, .n_losses = 3}, "one.dot");
        bf_buf one = read_all(path_of("one.dot"));
        Agraph_t *g = agmemread(one.data);
        assert_non_null(g);
        FILE *f = fopen(path_of("two.dot"), "w");
        assert_non_null(f);
        assert_int_equal(agwrite(g, f), 0);
        fclose(f);
        agclose(g);
        bf_buf two = read_all(path_of("two.dot"));
        assert_int_equal(one.len, two.len);
        assert_memory_equal(one.data, two.data, one.len);
        bf_buf_free(&one);
        bf_buf_free(&two);
    }
    bf_record_free(hostile_one);
    bf_record_free(edges);
}

/* No curve leaves the rows that it joins, and no label stands between rows. */
static void graph__edges_keep_clear_of_labels(void **state)
{
    (void)state;
    bf_record *record = new_record();
    draw(record, (bf_graph_style){.loss = N - 1, .keep = 1}, "clear.dot");
    bf_buf dot = read_all(path_of("clear.dot"));
    Agraph_t *g = agmemread(dot.data);
    double x, bottom, top;
    place_of(g, "l0_p0", &x, &bottom);
    place_of(g, "loss", &x, &top);
    const double upper = bottom + 62 * L;
    char pos[] = "pos";
    size_t edges = 0, labels = 0;
    for (Agnode_t *n = agfstnode(g); n; n = agnxtnode(g, n)) {
        double y;
        char name[32];
        snprintf(name, sizeof name, "%s", agnameof(n));
        place_of(g, name, &x, &y);
        if (!strncmp(name, "token", 5) || !strncmp(name, "legend", 6)) {
            assert_true(y < bottom - 10);
            labels++;
        }
        for (Agedge_t *e = agfstout(g, n); e; e = agnxtout(g, e)) {
            double p[8];
            if (!strncmp(name, "legend", 6) || !strcmp(name, "loss"))
                continue;
            assert_int_equal(sscanf(agget(e, pos), "%lf,%lf %lf,%lf %lf,%lf %lf,%lf", p, p + 1,
                                    p + 2, p + 3, p + 4, p + 5, p + 6, p + 7),
                             8);
            for (int k = 0; k < 4; k++)
                assert_true(p[2 * k + 1] > bottom - 0.1 && p[2 * k + 1] < upper + 0.1);
            edges++;
        }
    }
    assert_true(edges > 300 && labels > N);
    agclose(g);
    bf_buf_free(&dot);
    bf_record_free(record);
}

static void expect_failure(const bf_record *record, bf_graph_style style, const char *name,
                           bf_code code, const char *words)
{
    bf_error err = {0};
    assert_int_equal(bf_render_graph(record, &style, path_of(name), &err), code);
    if (!strstr(err.msg, words))
        fail_msg("\"%s\" does not say \"%s\"", err.msg, words);
    assert_false(exists(path_of(name)));
}

static void graph__what_cannot_be_drawn_is_said_and_leaves_nothing(void **state)
{
    (void)state;
    bf_record *record = new_record();
    const bf_graph_style good = {.loss = 4};
    expect_failure(record, (bf_graph_style){.loss = N}, "x.svg", BF_EARG, "does not hold loss 25");
    expect_failure(record, (bf_graph_style){.loss = (size_t)-1}, "x.svg", BF_EARG,
                   "does not hold loss");
    expect_failure(record, (bf_graph_style){.keep = -0.1}, "x.svg", BF_EARG, "keep is -0.1");
    expect_failure(record, (bf_graph_style){.keep = NAN}, "x.svg", BF_EARG, "keep is");
    expect_failure(record, good, "x.jpg", BF_EARG, ".svg, .pdf, .png or .dot");
    expect_failure(record, good, "none/x.svg", BF_EIO, "none/x.svg");
    doubles(record, "attn")[3 * N + 2] = NAN;
    expect_failure(record, good, "x.svg", BF_ENONFINITE, "query 3, key 2");
    doubles(record, "flow.resid_pre.grad_norm")[4 * N + 2] = INFINITY;
    expect_failure(record, good, "x.svg", BF_ENONFINITE, "flow.resid_pre.grad_norm is inf");
    bf_record_free(record);
    const bf_tensor bare[] = {spec("flow.resid_pre.grad_norm", BF_F64, 3, 1, 4, 4, 0),
                              spec("flow.resid_mid.grad_norm", BF_F64, 3, 1, 4, 5, 0)};
    assert_int_equal(bf_record_new(&record, bare + 1, 1, NULL), BF_OK);
    expect_failure(record, good, "x.svg", BF_EARG, "no tensor flow.resid_pre.grad_norm");
    bf_record_free(record);
    assert_int_equal(bf_record_new(&record, bare, 2, NULL), BF_OK);
    expect_failure(record, (bf_graph_style){0}, "x.svg", BF_ESHAPE, "axis 2 of 5");
    bf_record_free(record);
    assert_int_equal(bf_record_new(&record, bare, 1, NULL), BF_OK);
    draw(record, (bf_graph_style){.loss = 3}, "bare.svg"); /* zeros, no tokens, no attention */
    bf_record_free(record);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(graph__svg_shows_every_token_as_it_is),
        cmocka_unit_test(graph__dot_survives_dot),
        cmocka_unit_test(graph__positions_are_columns_and_layers_are_rows),
        cmocka_unit_test(graph__every_format_comes_out),
        cmocka_unit_test(graph__without_edges_guesses_from_norms_and_says_so),
        cmocka_unit_test(graph__draws_heads_and_paths_apart),
        cmocka_unit_test(graph__dot_round_trips),
        cmocka_unit_test(graph__edges_keep_clear_of_labels),
        cmocka_unit_test(graph__what_cannot_be_drawn_is_said_and_leaves_nothing),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
