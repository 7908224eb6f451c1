/* report_matrices.c -- which maps the page holds: the most telling first, until it is full. */
#include <stdlib.h>
#include <string.h>

#include "render/matrix.h"
#include "render/report_data.h"
#include "render/report_pack.h"

/* Room for maps, in bytes of the page, at up to 512 positions; more grows with N^2, to the limit. */
enum { ROOM = 9 << 20, ROOM_LIMIT = 40 << 20, ROOM_POSITIONS = 512 };

/* Maps that come or stay away together: one site and score, all heads as one, or each. */
typedef struct {
    const char *site, *score;
    bool each_head;
} group;

static const group order[] = {
    {"resid_pre", "grad_norm", false},   {"resid_final", "grad_norm", false},
    {"resid_pre", "grad_x_act", false},  {"v", "grad_norm", false},
    {"z", "grad_norm", false},           {"resid_mid", "grad_norm", false},
    {"v", "grad_norm", true},            {"attn", "", false},
    {"attn", "", true},                  {"k", "grad_norm", false},
    {"q", "grad_norm", false},           {"attn_out", "grad_norm", false},
    {"mlp_out", "grad_norm", false},     {"v", "grad_x_act", false},
    {"z", "grad_x_act", false},          {"z", "grad_norm", true},
    {"k", "grad_norm", true},            {"q", "grad_norm", true},
    {"resid_mid", "grad_x_act", false},  {"resid_final", "grad_x_act", false},
    {"attn_out", "grad_x_act", false},   {"mlp_out", "grad_x_act", false},
    {"k", "grad_x_act", false},          {"q", "grad_x_act", false},
    {"v", "grad_x_act", true},           {"z", "grad_x_act", true},
    {"k", "grad_x_act", true},           {"q", "grad_x_act", true},
};

static const bf_tensor *find_tensor(const bf_report_source *s, const group *g)
{
    bf_buf name = {0};
    if (*g->score)
        bf_buf_printf(&name, "flow.%s.%s", g->site, g->score);
    else
        bf_buf_text(&name, g->site);
    const bf_tensor *t = name.failed ? NULL : bf_record_find(s->record, name.data);
    bf_buf_free(&name);
    return t;
}

/* One map: its element, and its line in the head's table. */
static bf_code put_map(bf_buf *out, bf_buf *head, const bf_report_source *s, const group *g,
                       long layer, long head_number, size_t id, bf_error *err)
{
    const bf_heatmap_style style = {
        .site = g->site, .score = *g->score ? g->score : NULL, .layer = layer, .head = head_number};
    bf_matrix m = {0};
    double top = 0.0;
    bf_code rc = bf_matrix_select(&m, s->record, &style, err);
    if (!rc && (m.cols != s->N || (*g->score && m.rows != s->rows)))
        rc = bf_fail(err, BF_ESHAPE, "tensor %s is of %zu losses and %zu positions, wanted %zu, %zu",
                     m.tensor, m.rows, m.cols, s->rows, s->N);
    if (!rc) {
        bf_report_open(out, "m", id);
        rc = bf_pack_matrix(out, &top, &m, s->full, err);
        bf_report_close(out);
    }
    bf_buf_printf(head, "%s[\"%s\",\"%s\",%ld,%ld,", id ? "," : "", g->site, g->score, layer,
                  head_number);
    bf_report_number(head, top);
    bf_buf_printf(head, ",%d]", m.is_signed);
    bf_matrix_free(&m);
    return rc;
}

/* All maps of a group, from number *id on; *fits is false, and nothing was kept, if the room of
 * `left` bytes does not hold them. */
static bf_code put_group(bf_buf *out, bf_buf *head, size_t *id, bool *fits,
                         const bf_report_source *s, const group *g, size_t left, bf_error *err)
{
    const bf_tensor *t = find_tensor(s, g);
    const size_t layers = t->rank > 2 ? t->dim[0] : 1;
    const size_t heads = g->each_head ? t->dim[1] : 1;
    const size_t out_mark = out->len, head_mark = head->len, id_mark = *id;
    bf_code rc = BF_OK;
    *fits = true;
    for (size_t k = 0; k < layers * heads && *fits && !rc; k++) {
        size_t layer = 0;
        if (t->rank > 2)
            rc = bf_matrix_layer(&layer, s->record, k / heads, layers, err);
        if (!rc)
            rc = put_map(out, head, s, g, t->rank > 2 ? (long)layer : -1,
                         g->each_head ? (long)(k % heads) : -1, (*id)++, err);
        const size_t one = out->len - out_mark;
        *fits = one <= left && (k || one <= left / (layers * heads) || g == order);
    }
    if (!*fits && !rc && out->data && head->data) {
        out->data[out->len = out_mark] = '\0';
        head->data[head->len = head_mark] = '\0';
        *id = id_mark;
    }
    return rc;
}

static size_t room(const bf_report_source *s)
{
    size_t bytes = ROOM;
    if (s->N > ROOM_POSITIONS)
        bytes = (size_t)((double)ROOM * (double)s->N * (double)s->N / ROOM_POSITIONS /
                         ROOM_POSITIONS);
    return bytes < ROOM_LIMIT ? bytes : ROOM_LIMIT;
}

bf_code bf_report_put_matrices(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err)
{
    const size_t start = out->len;
    bf_buf missing = {0};
    size_t id = 0, left = room(s);
    bf_code rc = BF_OK;
    bf_buf_text(head, ",\"matrices\":[");
    for (size_t k = 0; k < sizeof order / sizeof *order && !rc; k++) {
        const group *g = &order[k];
        const bf_tensor *t = find_tensor(s, g);
        const size_t used = out->len - start;
        bool fits = true;
        if (!t || t->rank < 2 || (g->each_head && (t->rank != 4 || t->dim[1] < 2)))
            continue;
        rc = put_group(out, head, &id, &fits, s, g, k == 0 ? SIZE_MAX : left > used ? left - used : 0,
                       err);
        if (!fits)
            bf_buf_printf(&missing, "%s[\"%s\",\"%s\",%d]", missing.len ? "," : "", g->site,
                          g->score, g->each_head);
    }
    bf_buf_printf(head, "],\"missing\":[%s]", missing.data ? missing.data : "");
    head->failed = head->failed || missing.failed;
    bf_buf_free(&missing);
    return rc;
}
