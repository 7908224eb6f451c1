#include "cli/figure.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

bf_code cli_parse_length(void *target, const char *value, bf_error *err)
{
    static const struct {
        const char *name;
        double mm;
    } unit[] = {{"mm", 1}, {"", 1}, {"cm", 10}, {"in", 25.4}, {"pt", 25.4 / 72}};
    const size_t digits = strspn(value, "0123456789.");
    const double number = digits && digits < 20 ? strtod(value, NULL) : 0;
    char *end = NULL;
    if (digits)
        (void)strtod(value, &end);
    for (size_t k = 0; k < sizeof unit / sizeof *unit; k++)
        if (digits && end == value + digits && strcmp(end, unit[k].name) == 0 && number > 0) {
            *(double *)target = number * unit[k].mm;
            return BF_OK;
        }
    return bf_fail(err, BF_EARG, "\"%s\" is no length, wanted for example 89mm, 3.5in or 252pt",
                   value);
}

bf_code cli_parse_scale(void *target, const char *value, bf_error *err)
{
    static const char *const names[] = {
        [BF_SCALE_LINEAR] = "linear", [BF_SCALE_LOG] = "log", [BF_SCALE_RANK] = "rank"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strcmp(value, names[k]) == 0) {
            *(bf_scale *)target = (bf_scale)k;
            return BF_OK;
        }
    return bf_fail(err, BF_EARG, "\"%s\" is no scale, wanted linear, log or rank", value);
}

size_t cli_figure_options(cli_option *to, cli_figure *f)
{
    const cli_option options[CLI_FIGURE_OPTIONS] = {
        {"o", cli_parse_text, &f->path, "FILE", "where the picture goes: .png, .svg or .pdf"},
        {"width", cli_parse_length, &f->width_mm, "W", "of the figure: 89mm, 3.5in, 252pt"},
        {"columns", cli_parse_count, &f->columns, "N",
         "width of 1 or 2 columns of a journal: 89 or 183 mm"},
        {"font", cli_parse_text, &f->font, "NAME", "an installed family (default: Noto Sans)"},
        {"palette", cli_parse_text, &f->palette, "P", "viridis, cividis, magma or vik"},
        {"dpi", cli_parse_count, &f->dpi, "N", "dots an inch of PNG (default: 300)"},
        {"title", cli_parse_any_text, &f->title, "T", "default: what is drawn; \"\": none"},
        {"caption", NULL, &f->caption, NULL,
         "write FILE with the ending .tex, too: a LaTeX figure\n"
         "block that says what is shown"},
    };
    memcpy(to, options, sizeof options);
    return CLI_FIGURE_OPTIONS;
}

bool cli_wants_json(const char *path)
{
    const char *dot = path ? strrchr(path, '.') : NULL;
    return dot && strcmp(dot, ".json") == 0;
}

int cli_figure_misused(const cli_command *self, const cli_figure *f)
{
    if (!f->path)
        return cli_misuse(self, "no -o FILE given, wanted a name that ends in .png, .svg or .pdf");
    if (f->columns > 2)
        return cli_misuse(self, "--columns: %zu is too many, wanted 1 or 2", f->columns);
    if (f->columns && f->width_mm > 0)
        return cli_misuse(self, "--columns and --width are both given, wanted one of them");
    if (f->dpi > 2400)
        return cli_misuse(self, "--dpi: %zu is too many, wanted 20 to 2400", f->dpi);
    return CLI_GO;
}

/* ---- provenance */

/* A JSON string in ASCII: bf_json_quote with what is beyond it as \u escapes. */
static bf_code quote(bf_buf *out, const char *text, bf_error *err)
{
    static const unsigned char first[] = {0, 0x7f, 0x1f, 0x0f, 0x07};
    bf_buf json = {0};
    bf_code rc = bf_json_quote(&json, text);
    for (size_t k = 0, n; !rc && k < json.len; k += n) {
        n = bf_utf8_length(json.data + k, json.len - k);
        unsigned c = (unsigned char)json.data[k] & first[n];
        for (size_t b = 1; b < n; b++)
            c = c << 6 | ((unsigned char)json.data[k + b] & 0x3fu);
        if (n == 1)
            bf_buf_bytes(out, json.data + k, 1);
        else if (c < 0x10000)
            bf_buf_printf(out, "\\u%04x", c);
        else
            bf_buf_printf(out, "\\u%04x\\u%04x", 0xd800 + ((c - 0x10000) >> 10),
                          0xdc00 + ((c - 0x10000) & 0x3ff));
    }
    bf_buf_free(&json);
    return rc ? bf_fail(err, rc, "cannot hold the provenance") : BF_OK;
}

/* Does this argument say where output goes, and how many arguments does that take? The file's own
 * name is left out: the same figure is the same bytes under any name, with a caption or without. */
static int is_output(const char *arg, bool ended)
{
    if (ended)
        return 0;
    return strncmp(arg, "-o", 2) == 0 ? arg[2] ? 1 : 2 : strcmp(arg, "--caption") == 0;
}

static bf_code put_arguments(bf_buf *out, const cli_command *self, int argc, char **argv,
                             bf_error *err)
{
    bool ended = false;
    bf_code rc = quote(out, self->name, err);
    for (int k = 0; k < argc && !rc; k++) {
        const int skip = is_output(argv[k], ended);
        ended = ended || strcmp(argv[k], "--") == 0;
        if (skip) {
            k += skip - 1;
            continue;
        }
        bf_buf_text(out, ",");
        rc = quote(out, argv[k], err);
    }
    return rc;
}

static bf_code put_field(bf_buf *out, const char *key, const char *value, bf_error *err)
{
    if (!value)
        return BF_OK;
    bf_buf_printf(out, ",\"%s\":", key);
    return quote(out, value, err);
}

static bf_code put_input(bf_buf *out, const cli_input *in, bf_error *err)
{
    char sha[65];
    bf_code rc = in->sha256 ? BF_OK : bf_file_sha256(sha, in->path, err);
    bf_buf_printf(out, "{\"kind\":\"%s\"", in->kind);
    if (!rc)
        rc = put_field(out, "path", in->path, err);
    if (!rc)
        rc = put_field(out, "sha256", in->sha256 ? in->sha256 : sha, err);
    if (!rc && in->record)
        rc = put_field(out, "model", bf_record_meta(in->record, "model"), err);
    if (!rc && in->record)
        rc = put_field(out, "model_sha256", bf_record_meta(in->record, "model_sha256"), err);
    bf_buf_text(out, "}");
    return rc;
}

bf_code cli_provenance(bf_buf *out, const cli_command *self, int argc, char **argv,
                       const cli_input *inputs, size_t n, bf_error *err)
{
    bf_buf_text(out, "{\"backflow\":\"" BF_VERSION "\",\"argv\":[");
    bf_code rc = put_arguments(out, self, argc, argv, err);
    bf_buf_text(out, "],\"inputs\":[");
    for (size_t k = 0; k < n && !rc; k++) {
        bf_buf_text(out, k ? "," : "");
        rc = put_input(out, &inputs[k], err);
    }
    bf_buf_text(out, "]}");
    return !rc && out->failed ? bf_fail(err, BF_ENOMEM, "cannot hold the provenance") : rc;
}

bf_code cli_figure_look(bf_look *look, cli_figure *f, const cli_command *self, int argc,
                        char **argv, const cli_input *inputs, size_t n, bf_error *err)
{
    const bf_code rc = cli_provenance(&f->provenance, self, argc, argv, inputs, n, err);
    *look = (bf_look){.width_mm = f->columns == 1 ? 89 : f->columns == 2 ? 183 : f->width_mm,
                      .dpi = (int)f->dpi,
                      .font = f->font,
                      .palette = f->palette,
                      .title = f->title,
                      .provenance = f->provenance.data,
                      .caption = f->caption};
    return rc;
}

void cli_figure_end(cli_figure *f)
{
    bf_buf_free(&f->provenance);
}

/* ---- info */

bool cli_is_figure(const char *path)
{
    static const char *const starts[] = {"\x89PNG", "%PDF", "<?xml", "<svg"};
    char bytes[8] = "";
    FILE *file = fopen(path, "rb");
    const size_t n = file ? fread(bytes, 1, sizeof bytes - 1, file) : 0;
    if (file)
        fclose(file);
    for (size_t k = 0; n && k < sizeof starts / sizeof *starts; k++)
        if (strncmp(bytes, starts[k], strlen(starts[k])) == 0)
            return true;
    return false;
}

static void print_string(const char *name, const bf_json *value)
{
    printf("%-13s ", name);
    cli_print_visible(stdout, bf_json_string(value) ? bf_json_string(value) : "?");
    printf("\n");
}

/* The command as a shell would take it. */
static bf_code print_command(const bf_json *provenance, bf_error *err)
{
    const bf_json *list = bf_json_get(provenance, "argv"), *arg = bf_json_first(list);
    char **argv = calloc(list ? bf_json_count(list) + 1 : 1, sizeof *argv);
    bf_buf line = {0};
    int argc = 0;
    for (; argv && arg; arg = bf_json_next(arg))
        argv[argc++] = (char *)(bf_json_string(arg) ? bf_json_string(arg) : "?"); /* only read */
    const cli_command command = {.name = argc ? argv[0] : "?"};
    if (argv)
        cli_command_line(&line, &command, argc > 0 ? argc - 1 : 0, argv + (argc > 0));
    free(argv);
    if (!argv || line.failed || !line.data)
        return bf_fail(err, BF_ENOMEM, "cannot hold the command line");
    printf("%-13s ", "command");
    cli_print_visible(stdout, line.data);
    printf("\n");
    bf_buf_free(&line);
    return BF_OK;
}

bf_code cli_info_figure(const char *path, bool json, bf_error *err)
{
    char *text = NULL;
    bf_json *provenance = NULL;
    bf_code rc = bf_figure_provenance(&text, path, err);
    if (!rc)
        rc = bf_json_parse(&provenance, text, strlen(text), err);
    if (!rc && bf_json_kind(provenance) != BF_JSON_OBJECT)
        rc = bf_fail(err, BF_EFORMAT, "%.300s: the provenance is no JSON object", path);
    if (!rc && json) {
        printf("{\"kind\": \"figure\", \"provenance\": ");
        fwrite(text, 1, strlen(text), stdout); /* JSON to the letter: it was parsed */
        printf("}\n");
    } else if (!rc) {
        printf("a figure of backflow's\n\n");
        print_string("version", bf_json_get(provenance, "backflow"));
        rc = print_command(provenance, err);
        for (const bf_json *in = bf_json_first(bf_json_get(provenance, "inputs")); in;
             in = bf_json_next(in)) {
            const char *kind = bf_json_string(bf_json_get(in, "kind"));
            print_string(kind && strcmp(kind, "model") == 0 ? "of the model"
                         : kind && strcmp(kind, "record") == 0 ? "of the record" : "of the file",
                         bf_json_get(in, "path"));
            print_string("  SHA-256", bf_json_get(in, "sha256"));
            if (bf_json_get(in, "model"))
                print_string("  model", bf_json_get(in, "model"));
            if (bf_json_get(in, "model_sha256"))
                print_string("  its SHA-256", bf_json_get(in, "model_sha256"));
        }
    }
    bf_json_free(provenance);
    free(text);
    return rc;
}
