#include "render/describe.h"

#include <string.h>

#include "base/utf8.h"
#include "render/text.h"

static const size_t NONE = (size_t)-1;

const char *bf_describe_loss(const bf_record *record)
{
    return bf_record_meta(record, "target") ? "target" : "loss";
}

const char *bf_describe_unit(const bf_record *record)
{
    const char *target = bf_record_meta(record, "target");
    const bool logit = target && (!strncmp(target, "logit ", 6) || !strncmp(target, "logit-diff", 10));
    return logit ? "logits" : "nats";
}

/* What a tensor's values are, by the beginning and the end of its name: {site}, {loss} and {unit}
 * are filled in. The first row that fits counts. */
static const struct {
    const char *begin, *end, *quantity, *words;
} kinds[] = {
    {"flow.", ".grad_norm", "grad_norm ({unit} per unit)",
     "norm of the gradient of {loss} i with respect to {site} at position j"},
    {"flow.", ".grad_x_act", "grad_x_act ({unit})",
     "gradient of {loss} i with respect to {site} at position j, times {site}"},
    {"attn", "", "attention (weight)", "weight of position j in the attention of query i"},
    {"share.", "", "share of what arrives",
     "part of the gradient of {loss} i at the input of the layer at position j that came by "
     "{site}; all parts of a node sum to 1"},
    {"param.", ".grad_norm", "grad_norm ({unit} per unit of {site})",
     "norm of the gradient of {loss} i for the weights {site} through position j alone"},
    {"overview.", ".grad_x_act", "grad_x_act ({unit})",
     "gradient times {site} at position j, summed over a block of losses"},
    {"overview.", "", "grad_norm ({unit} per unit)",
     "root of the sum over a block of losses of the squared norm of the gradient with respect to "
     "{site} at position j, estimated"},
    {"own_future.", "cosine", "cosine",
     "cosine between the gradient of a position's own {loss} and that of all later ones, at the "
     "input of each layer"},
    {"own.", "", "grad_norm ({unit} per unit)",
     "norm of the gradient of a position's own {loss} at the input of each layer"},
    {"future.", "", "grad_norm ({unit} per unit)",
     "norm of the gradient of all later losses together at the input of each layer"},
    {"weight.", "cosine", "cosine", "{name}"},
    {"weight.", "", "grad_norm ({unit} per unit of {site})", "{name}"},
    {"loss", "", "loss (nats)", "-log p of the next token"},
    {"target", "", "target ({unit})", "the value that was walked back"},
    {"", "", "{name}", "{name}"},
};

/* The part of a tensor's name between the first and the second dot; all of it without dots. */
static void put_site(bf_buf *out, const char *name)
{
    const char *dot = strchr(name, '.'), *end = dot ? strchr(dot + 1, '.') : NULL;
    if (!dot)
        bf_text_token(out, name, 60);
    else
        bf_buf_printf(out, "%.*s", end ? (int)(end - dot - 1) : (int)strlen(dot + 1), dot + 1);
}

static void fill(bf_buf *out, const char *words, const char *name, const bf_record *record)
{
    for (const char *c = words; *c; c++) {
        if (!strncmp(c, "{site}", 6))
            put_site(out, name);
        else if (!strncmp(c, "{loss}", 6))
            bf_buf_text(out, bf_describe_loss(record));
        else if (!strncmp(c, "{unit}", 6))
            bf_buf_text(out, bf_describe_unit(record));
        else if (!strncmp(c, "{name}", 6))
            bf_text_token(out, name, 60);
        else
            bf_buf_bytes(out, c, 1);
        if (*c == '{')
            c += 5;
    }
}

void bf_describe_values(bf_buf *quantity, bf_buf *words, const bf_matrix *m,
                        const bf_record *record, const bf_heatmap_style *style)
{
    const size_t len = strlen(m->tensor);
    size_t k = 0;
    while (strncmp(m->tensor, kinds[k].begin, strlen(kinds[k].begin)) ||
           len < strlen(kinds[k].end) ||
           strcmp(m->tensor + len - strlen(kinds[k].end), kinds[k].end))
        k++;
    if (quantity && style->by_row)
        bf_buf_text(quantity, "part of its row");
    else if (quantity)
        fill(quantity, kinds[k].quantity, m->tensor, record);
    if (quantity && style->minus)
        bf_buf_text(quantity, ", difference");
    if (!words)
        return;
    fill(words, kinds[k].words, m->tensor, record);
    if (style->by_row)
        bf_buf_text(words, ", divided by the sum of the magnitudes in its row");
    if (style->minus) {
        const char *other = bf_record_meta(style->minus, "model");
        bf_buf_text(words, ", minus the same of ");
        bf_text_token(words, other && *other ? other : "the other record", 60);
    }
}

void bf_describe_tensor(bf_buf *out, const bf_matrix *m)
{
    const size_t site = strncmp(m->tensor, "flow.", 5) ? 0 : strcspn(m->tensor + 5, ".");
    if (m->is_attn)
        bf_buf_text(out, "attention");
    else if (site && m->tensor[5 + site])
        bf_buf_printf(out, "%.*s · %s", (int)site, m->tensor + 5, m->tensor + 6 + site);
    else
        bf_text_token(out, m->tensor, 70);
}

void bf_describe_place(bf_buf *out, const bf_matrix *m)
{
    static const char *const together[] = {
        [BF_TOGETHER_NORM] = "norm over all", [BF_TOGETHER_SUM] = "sum over all",
        [BF_TOGETHER_MEAN] = "mean over all"};
    if (m->layer != NONE)
        bf_buf_printf(out, " · layer %zu", m->layer);
    if (m->head != NONE)
        bf_buf_printf(out, " · head %zu", m->head);
    else if (m->heads)
        bf_buf_printf(out, " · %s %zu heads", together[m->together], m->heads);
}

void bf_describe_model(bf_buf *out, const bf_record *record)
{
    const char *model = bf_record_meta(record, "model");
    if (model && *model) {
        bf_text_token(out, model, 60);
        bf_buf_text(out, " · ");
    }
}

/* ---- captions */

/* What LaTeX sets in place of characters that are no ASCII, or that mean something to it. */
static const struct {
    const char *text, *tex;
} spelled[] = {
    {"\\", "\\textbackslash{}"}, {"{", "\\{"}, {"}", "\\}"}, {"$", "\\$"}, {"&", "\\&"},
    {"#", "\\#"}, {"%", "\\%"}, {"_", "\\_"}, {"^", "\\textasciicircum{}"},
    {"~", "\\textasciitilde{}"}, {"<", "\\textless{}"}, {">", "\\textgreater{}"},
    {"|", "\\textbar{}"}, {"\"", "\\char34{}"}, {"`", "\\char96{}"},
    {"-", "-{}"}, {"'", "'{}"}, {"·", "$\\cdot$"}, {"−", "$-$"}, {"×", "$\\times$"},
    {"±", "$\\pm$"}, {"≤", "$\\le$"}, {"≥", "$\\ge$"}, {"→", "$\\to$"},
    {"–", "--"}, {"…", "\\ldots{}"},
    {"“", "``"}, {"”", "''"}, {"’", "'"}, {"↵", "$\\hookleftarrow$"}, {"␣", "\\textvisiblespace{}"},
    {"⁰", "$^0$"}, {"¹", "$^1$"}, {"²", "$^2$"}, {"³", "$^3$"}, {"⁴", "$^4$"}, {"⁵", "$^5$"},
    {"⁶", "$^6$"}, {"⁷", "$^7$"}, {"⁸", "$^8$"}, {"⁹", "$^9$"}, {"⁻", "$^-$"},
    {"⟨", "$\\langle$"}, {"⟩", "$\\rangle$"}, {"\xE2\x81\xA8", ""}, {"\xE2\x81\xA9", ""},
};

static void put_tex(bf_buf *out, const char *text)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    for (size_t n; *text; text += n) {
        size_t k = 0;
        const size_t known = sizeof spelled / sizeof *spelled;
        n = bf_utf8_length(text, strnlen(text, 4));
        n = n ? n : 1;
        while (k < known && (strlen(spelled[k].text) != n || memcmp(spelled[k].text, text, n)))
            k++;
        if (k < known) {
            bf_buf_text(out, spelled[k].tex);
        } else if (n == 1) {
            bf_buf_bytes(out, (unsigned char)*text < 0x20 || *text & 0x80 ? "?" : text, 1);
        } else {
            unsigned c = (unsigned char)*text & first[n];
            for (size_t b = 1; b < n; b++)
                c = c << 6 | ((unsigned char)text[b] & 0x3fu);
            bf_buf_printf(out, "{\\small[U+%04X]}", c);
        }
    }
}

/* The first 120 columns or so of the text that was read. */
static void put_excerpt(bf_buf *out, const bf_record *record)
{
    bf_buf text = {0};
    const size_t n = bf_record_token_count(record);
    size_t k = 0;
    for (; k < n && text.len < 120; k++) {
        bf_buf token = {0};
        const char *raw = bf_record_token(record, k);
        bf_text_token(&token, raw, 40);
        if (raw[0] == ' ' && text.len)
            bf_buf_text(&text, " ");
        bf_buf_text(&text, token.data ? token.data : "");
        bf_buf_free(&token);
    }
    if (n) {
        bf_buf_text(out, " Text: “");
        bf_buf_text(out, text.data ? text.data : "");
        bf_buf_text(out, k < n ? " …”." : "”.");
    }
    out->failed = out->failed || text.failed;
    bf_buf_free(&text);
}

static void put_run(bf_buf *out, const bf_record *record)
{
    const char *model = bf_record_meta(record, "model");
    const char *sha = bf_record_meta(record, "model_sha256");
    const char *target = bf_record_meta(record, "target");
    const bf_tensor *tokens = bf_record_find(record, "tokens");
    if (model && *model) {
        bf_buf_text(out, " Model: ");
        bf_text_token(out, model, 60);
        if (sha && strlen(sha) == 64)
            bf_buf_printf(out, " (SHA-256 %.12s…)", sha);
        bf_buf_text(out, ".");
    }
    if (target) {
        bf_buf_text(out, " Target: ");
        bf_text_token(out, target, 60);
        bf_buf_text(out, ".");
    }
    if (tokens && bf_tensor_count(tokens) > 1)
        bf_buf_printf(out, " N = %zu positions.", bf_tensor_count(tokens) - 1);
    put_excerpt(out, record);
}

bf_code bf_describe_caption(const char *figure, double width, const char *title, const char *words,
                            const bf_record *record, bf_error *err)
{
    const char *slash = strrchr(figure, '/'), *name = slash ? slash + 1 : figure;
    const size_t stem = (size_t)(strrchr(name, '.') - name);
    bf_buf plain = {0}, tex = {0}, path = {0};
    const bool svg = !strcmp(name + stem, ".svg");
    bf_buf_printf(&plain, "%s. %c%s.", title, *words >= 'a' && *words <= 'z' ? *words - 32 : *words,
                  *words ? words + 1 : "");
    put_run(&plain, record);
    bf_buf_printf(&tex,
                  "\\begin{figure}\n  \\centering\n  \\include%s[width=%.1fmm]{%s}%s\n  \\caption{",
                  svg ? "svg" : "graphics", width * 25.4 / 72, name,
                  svg ? "  % of the package svg" : "");
    put_tex(&tex, plain.data ? plain.data : "");
    bf_buf_printf(&tex, "}\n  \\label{fig:%.*s}\n\\end{figure}\n", (int)stem, name);
    bf_buf_printf(&path, "%.*s.tex", (int)(name - figure + (long)stem), figure);
    bf_code rc = plain.failed || tex.failed || path.failed
        ? bf_fail(err, BF_ENOMEM, "cannot hold the caption of %.300s", figure)
        : bf_file_write(path.data, tex.data, tex.len, err);
    bf_buf_free(&plain);
    bf_buf_free(&tex);
    bf_buf_free(&path);
    return rc;
}
