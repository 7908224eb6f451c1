/* report_data.c -- the head of the page's data, and the small tensors. */
#include "render/report_data.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "render/matrix.h"
#include "render/palette.h"
#include "render/report_html.h"
#include "render/report_pack.h"
#include "render/text.h"

void bf_report_open(bf_buf *out, const char *id, size_t number)
{
    bf_buf_printf(out, "<script type=\"application/octet-stream;base64\" id=\"%s", id);
    if (number != (size_t)-1)
        bf_buf_printf(out, "%zu", number);
    bf_buf_text(out, "\">");
}

void bf_report_close(bf_buf *out)
{
    bf_buf_text(out, "</script>\n");
}

void bf_report_number(bf_buf *out, double value)
{
    if (isfinite(value))
        bf_buf_printf(out, "%.6g", value);
    else
        bf_buf_text(out, "null");
}

/* ---- own and future */

static bf_code put_own(bf_buf *out, bf_buf *head, const bf_report_source *s, bf_error *err)
{
    static const char *const names[] = {"own.grad_norm", "future.grad_norm", "own_future.cosine"};
    const bf_tensor *t[3];
    for (size_t k = 0; k < 3; k++) {
        t[k] = bf_record_find(s->record, names[k]);
        if (!t[k] || t[k]->rank != 2 || t[k]->dim[1] != s->N || t[k]->dim[0] != t[0]->dim[0])
            return BF_OK;
    }
    const size_t n = bf_tensor_count(t[0]);
    double *value = n <= SIZE_MAX / 3 / sizeof *value ? malloc(3 * n * sizeof *value) : NULL;
    if (!value)
        return bf_fail(err, BF_ENOMEM, "cannot hold own and future of %zu positions", s->N);
    for (size_t k = 0; k < 3 * n; k++)
        value[k] = bf_tensor_value(t[k / n], k % n);
    bf_report_open(out, "own", (size_t)-1);
    const bf_code rc = bf_pack_floats(out, value, 3 * n, err);
    bf_report_close(out);
    bf_buf_printf(head, ",\"own\":%zu", t[0]->dim[0]);
    free(value);
    return rc;
}

/* ---- the head's small tables */

static void put_string(bf_buf *out, const char *key, const char *value)
{
    if (!value)
        return;
    bf_buf visible = {0};
    bf_html_visible(&visible, value);
    bf_buf_printf(out, ",\"%s\":", key);
    if (visible.failed || bf_json_quote(out, visible.data ? visible.data : ""))
        out->failed = true;
    bf_buf_free(&visible);
}

/* Labels as a reader should see them, and of each raw token where the text breaks: " " a space
 * before it, "\n" a newline in it. */
static void put_tokens(bf_buf *out, const bf_report_source *s)
{
    const size_t strings = bf_record_token_count(s->record);
    bf_buf_text(out, ",\"tokens\":[");
    for (size_t k = 0; k <= s->N; k++) {
        bf_buf label = {0};
        bf_text_label(&label, s->record, k, 0);
        bf_buf_text(out, k ? "," : "");
        if (label.failed || bf_json_quote(out, label.data ? label.data : ""))
            out->failed = true;
        bf_buf_free(&label);
    }
    bf_buf_text(out, "],\"breaks\":\"");
    for (size_t k = 0; k <= s->N; k++) {
        const char *raw = k < strings ? bf_record_token(s->record, k) : " ";
        bf_buf_text(out, strchr(raw, '\n') ? "n" : *raw == ' ' ? "s" : "-");
    }
    bf_buf_text(out, "\"");
}

static void put_losses(bf_buf *out, const bf_report_source *s)
{
    const bf_tensor *loss = bf_record_find(s->record, "loss");
    bf_buf_text(out, ",\"losses\":[");
    for (size_t r = 0; r < s->rows; r++)
        bf_buf_printf(out, "%s%zu", r ? "," : "", s->i[r]);
    bf_buf_text(out, "],\"loss\":[");
    for (size_t k = 0; loss && k < s->N; k++) {
        bf_buf_text(out, k ? "," : "");
        bf_report_number(out, bf_tensor_value(loss, k));
    }
    bf_buf_text(out, "]");
}

static bf_code put_layers(bf_buf *out, const bf_report_source *s, bf_error *err)
{
    bf_code rc = BF_OK;
    bf_buf_text(out, ",\"layers\":[");
    for (size_t k = 0; k < s->layers && !rc; k++) {
        size_t layer = 0;
        rc = bf_matrix_layer(&layer, s->record, k, s->layers, err);
        bf_buf_printf(out, "%s%zu", k ? "," : "", layer);
    }
    bf_buf_text(out, "]");
    return rc;
}

static void put_palettes(bf_buf *out)
{
    static const char *const names[] = {"cividis", "vik"};
    for (size_t k = 0; k < 2; k++) {
        bf_buf_printf(out, ",\"%s\":\"", names[k]);
        for (size_t x = 0; x < 256; x++)
            bf_buf_printf(out, "%06x", bf_palette_find(names[k])->stops[x]);
        bf_buf_text(out, "\"");
    }
}

static void put_checks(bf_buf *out, const bf_record *record)
{
    bf_buf_text(out, ",\"checks\":[");
    bool any = false;
    for (size_t k = 0; k < bf_record_meta_count(record); k++) {
        const char *key = bf_record_meta_key(record, k);
        if (strncmp(key, "check.", 6) != 0)
            continue;
        const char *value = bf_record_meta(record, key), *open;
        char *end;
        const double residual = strtod(value, &end);
        bf_buf_text(out, any ? ",{\"name\":" : "{\"name\":");
        if (bf_json_quote(out, key + 6))
            out->failed = true;
        put_string(out, "what", bf_report_identity(key + 6));
        bf_buf_text(out, ",\"residual\":");
        bf_report_number(out, residual);
        bf_buf_text(out, ",\"tolerance\":");
        open = strstr(end, "(tolerance ");
        bf_report_number(out, open ? strtod(open + strlen("(tolerance "), NULL) : NAN);
        bf_buf_text(out, "}");
        any = true;
    }
    bf_buf_text(out, "]");
}

static void put_words(bf_buf *out, const bf_report_source *s)
{
    static const char *const keys[] = {"model",   "model_family", "model_sha256", "precision",
                                       "threads", "version",      "target",       "command",
                                       "pruned",  "mask"};
    const char *model = s->extras && s->extras->model ? s->extras->model
                                                      : bf_record_meta(s->record, "model");
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        put_string(out, keys[k], bf_record_meta(s->record, keys[k]));
    put_string(out, "model_name", model);
    put_string(out, "text_name", s->extras ? s->extras->text_name : NULL);
    put_string(out, "stem", s->extras ? s->extras->stem : NULL);
}

bf_code bf_report_put_data(bf_buf *out, const bf_report_source *s, bf_error *err)
{
    bf_buf head = {0};
    bf_buf_printf(&head, "{\"N\":%zu,\"full\":%s,\"step\":%.17g,\"decades\":%d", s->N,
                  s->full ? "true" : "false", BF_PACK_STEP, BF_PACK_DECADES);
    put_words(&head, s);
    put_tokens(&head, s);
    put_losses(&head, s);
    put_palettes(&head);
    put_checks(&head, s->record);
    bf_code rc = put_layers(&head, s, err);
    if (!rc)
        rc = bf_report_put_matrices(out, &head, s, err);
    if (!rc)
        rc = put_own(out, &head, s, err);
    if (!rc)
        rc = bf_report_put_carry(out, &head, s, err);
    if (!rc)
        rc = bf_report_put_edges(out, &head, s, err);
    if (!rc)
        rc = bf_report_put_trust(&head, s, err);
    if (!rc) {
        bf_buf_text(out, "<script type=\"application/json\" id=\"head\">");
        bf_buf_text(out, head.data ? head.data : "");
        bf_buf_text(out, "}</script>\n");
    }
    if (!rc && (head.failed || out->failed))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the page's data");
    bf_buf_free(&head);
    return rc;
}
