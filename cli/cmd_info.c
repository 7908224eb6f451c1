/* backflow info: what a model or a record is. */
#include "cli/figure.h"
#include "cli/terminal.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static const char notes[] =
    "A file is read as a record (any safetensors file will do) or a figure of backflow's, a folder\n"
    "or a bundled name as a model.\n"
    "\n"
    "examples:\n"
    "  backflow info kjv-1m\n"
    "  backflow info run.safetensors --json\n"
    "  backflow info flow.png\n"
    "  backflow info run.safetensors --show\n";

/* ---- records */

static void print_shape(const bf_tensor *t, const char *between)
{
    printf("[");
    for (size_t k = 0; k < t->rank; k++)
        printf("%s%zu", k ? between : "", t->dim[k]);
    printf("]");
}

static void print_tensors(const bf_record *record)
{
    char words[32];
    printf("%-28s %-5s %12s  %s\n", "tensor", "type", "size", "shape");
    for (size_t k = 0; k < bf_record_count(record); k++) {
        const bf_tensor *t = bf_record_at(record, k);
        cli_print_visible(stdout, t->name);
        const size_t width = cli_visible_width(t->name);
        printf("%*s %-5s %12s  ", width < 28 ? (int)(28 - width) : 0, "", bf_dtype_name(t->dtype),
               cli_size_words(words, bf_tensor_count(t) * bf_dtype_size(t->dtype)));
        print_shape(t, ",");
        printf("\n");
    }
}

/* Strings, cut where a line gets long; the list of tokens is long by nature. */
static void print_meta(const bf_record *record)
{
    enum { LONGEST = 160 };
    for (size_t k = 0; k < bf_record_meta_count(record); k++) {
        const char *key = bf_record_meta_key(record, k), *value = bf_record_meta(record, key);
        char start[LONGEST + 1];
        const size_t n = strnlen(value, LONGEST + 1);
        size_t cut = n > LONGEST ? LONGEST : n;
        while (n > LONGEST && cut && ((unsigned char)value[cut] & 0xc0) == 0x80)
            cut--;
        memcpy(start, value, cut);
        start[cut] = '\0';
        cli_print_visible(stdout, key);
        const size_t width = cli_visible_width(key);
        printf("%*s ", width < 28 ? (int)(28 - width) : 0, "");
        cli_print_visible(stdout, start);
        printf("%s\n", n > LONGEST ? " ..." : "");
    }
}

static bf_code print_record_json(const bf_record *record, bf_error *err)
{
    bf_code rc = BF_OK;
    printf("{\"kind\": \"%s\", \"tensors\": [",
           bf_record_meta(record, "backflow_record") ? "record" : "safetensors");
    for (size_t k = 0; k < bf_record_count(record) && !rc; k++) {
        const bf_tensor *t = bf_record_at(record, k);
        printf("%s{\"name\": ", k ? ", " : "");
        rc = cli_print_json_string(t->name, err);
        printf(", \"dtype\": \"%s\", \"shape\": ", bf_dtype_name(t->dtype));
        print_shape(t, ", ");
        printf("}");
    }
    printf("], \"metadata\": {");
    for (size_t k = 0; k < bf_record_meta_count(record) && !rc; k++) {
        const char *key = bf_record_meta_key(record, k);
        printf("%s", k ? ", " : "");
        rc = cli_print_json_string(key, err);
        printf(": ");
        if (!rc)
            rc = cli_print_json_string(bf_record_meta(record, key), err);
    }
    printf("}}\n");
    return rc;
}

static bf_code info_record(const char *path, bool json, bf_error *err)
{
    bf_record *record = NULL;
    bf_code rc = bf_record_open(&record, path, err);
    if (!rc && json) {
        rc = print_record_json(record, err);
    } else if (!rc) {
        printf("%s\n\n", bf_record_meta(record, "backflow_record")
                             ? "a record of backflow's"
                             : "a safetensors file, no record");
        print_meta(record);
        printf("%s", bf_record_meta_count(record) ? "\n" : "");
        print_tensors(record);
    }
    bf_record_free(record);
    return rc;
}

static bf_code show_record(const char *path, cli_color color, bf_error *err)
{
    bf_record *record = NULL;
    bf_code rc = bf_record_open(&record, path, err);
    if (!rc)
        rc = cli_show(record, color, err);
    bf_record_free(record);
    return rc;
}

/* ---- models */

typedef struct {
    const bf_dims *dims;
    const char *sha256;            /* NULL: not asked for, it reads all weights */
    const bf_tokenizer *tokenizer; /* NULL: none */
} model_facts;

static void print_model(const model_facts *f)
{
    const bf_dims *d = f->dims;
    char words[32];
    printf("model           ");
    cli_print_visible(stdout, d->name);
    printf("\nfamily          %s\n", d->family);
    printf("layers          L %zu\n", d->L);
    printf("width           D %zu\n", d->D);
    printf("heads           H %zu query, G %zu key/value, K %zu wide\n", d->H, d->G, d->K);
    printf("MLP width       F %zu\n", d->F);
    printf("vocabulary      V %zu\n", d->V);
    if (d->P)
        printf("positions       P %zu\n", d->P);
    else
        printf("positions       no limit\n");
    printf("parameters      %zu%s\n", d->parameters, d->tied ? ", the head is the embedding" : "");
    printf("weights         %s, %s\n", d->dtypes, cli_size_words(words, d->weight_bytes));
    if (f->sha256)
        printf("SHA-256         %s\n", f->sha256);
    if (f->tokenizer)
        printf("tokenizer       %zu ids\n", bf_tokenizer_size(f->tokenizer));
    else
        printf("tokenizer       none: --tokens only\n");
}

static bf_code print_model_json(const model_facts *f, bf_error *err)
{
    const bf_dims *d = f->dims;
    printf("{\"kind\": \"model\", \"name\": ");
    bf_code rc = cli_print_json_string(d->name, err);
    printf(", \"family\": ");
    if (!rc)
        rc = cli_print_json_string(d->family, err);
    printf(
        ", \"layers\": %zu, \"width\": %zu, \"heads\": %zu, \"kv_heads\": %zu, \"head_width\": "
        "%zu, \"mlp_width\": %zu, \"vocabulary\": %zu, ",
        d->L, d->D, d->H, d->G, d->K, d->F, d->V);
    if (d->P)
        printf("\"positions\": %zu, ", d->P);
    else
        printf("\"positions\": null, ");
    printf("\"tied\": %s, \"parameters\": %zu, \"weight_bytes\": %zu, \"dtypes\": \"%s\", ",
           d->tied ? "true" : "false", d->parameters, d->weight_bytes, d->dtypes);
    if (f->sha256)
        printf("\"sha256\": \"%s\", ", f->sha256);
    printf("\"tokenizer_ids\": ");
    if (f->tokenizer)
        printf("%zu}\n", bf_tokenizer_size(f->tokenizer));
    else
        printf("null}\n");
    return rc;
}

/* What of a model's folder is read. */
static int is_model_file(const struct dirent *entry)
{
    static const char *const names[] = {"config.json", "tokenizer.json",
                                        "model.safetensors.index.json"};
    const char *ending = strrchr(entry->d_name, '.');
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strcmp(entry->d_name, names[k]) == 0)
            return 1;
    return ending && strcmp(ending, ".safetensors") == 0;
}

/* The folder's files and their sizes; nothing if path is a bundled model's name. */
static void print_files(const char *path)
{
    struct dirent **entry = NULL;
    const int n = scandir(path, &entry, is_model_file, alphasort);
    for (int k = 0; k < n; k++) {
        struct stat st;
        bf_buf file = {0};
        char words[32];
        bf_buf_printf(&file, "%s/%s", path, entry[k]->d_name);
        const bool known = !file.failed && stat(file.data, &st) == 0;
        printf("%-15s ", k ? "" : "files");
        cli_print_visible(stdout, entry[k]->d_name);
        printf("%s%s\n", known ? ", " : "", known ? cli_size_words(words, (size_t)st.st_size) : "");
        bf_buf_free(&file);
        free(entry[k]);
    }
    free(entry);
}

static bf_code info_model(const char *path, bool json, bool sha256, bf_error *err)
{
    bf_model *model = NULL;
    model_facts facts = {0};
    bf_code rc = bf_model_open(&model, path, err);
    if (!rc && sha256)
        rc = bf_model_sha256(&facts.sha256, model, err);
    if (!rc)
        rc = bf_model_tokenizer(&facts.tokenizer, model, err);
    if (!rc) {
        facts.dims = bf_model_dims(model);
        if (json)
            rc = print_model_json(&facts, err);
        else
            print_model(&facts);
        if (!json)
            print_files(path);
    }
    bf_model_free(model);
    return rc;
}

int cmd_info(const cli_command *self, int argc, char **argv)
{
    const char *path = NULL;
    bool json = false, sha256 = false, show = false;
    cli_color color = CLI_COLOR_AUTO;
    struct stat st;
    cli_option options[4] = {
        {"json", NULL, &json, NULL, "print it as JSON"},
        {"sha256", NULL, &sha256, NULL, "of a model: the weights' SHA-256, too (reads them all)"}};
    const size_t n = 2 + cli_show_options(options + 2, &show, &color);
    const cli_syntax syntax = {options, n, "MODEL, RECORD or FIGURE", &path, notes};
    const int code = cli_read(self, &syntax, argc, argv);
    if (code != CLI_GO)
        return code;
    bf_error err = {0};
    const bool file = stat(path, &st) == 0 && !S_ISDIR(st.st_mode);
    if (show && (json || !file))
        return cli_misuse(self, json ? "--show and --json are both given, wanted one of them"
                                     : "--show needs a RECORD, found a folder or a name");
    if (show)
        return show_record(path, color, &err) ? cli_fail(&err) : CLI_DONE;
    const bf_code rc = !file                 ? info_model(path, json, sha256, &err)
                       : cli_is_figure(path) ? cli_info_figure(path, json, &err)
                                             : info_record(path, json, &err);
    return rc ? cli_fail(&err) : CLI_DONE;
}
