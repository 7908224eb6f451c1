/* train_setup.c -- what the fields of a CONFIG.json come to: a data source, a config.json for the
 * model, and the settings of bf_train. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "backflow/train.h"
#include "base/buf.h"
#include "model/data.h"
#include "model/files.h"
#include "model/train_config.h"

struct bf_training {
    bf_json *json;      /* the file; its texts are borrowed by `file` */
    bf_train_file file;
    char *folder;       /* of the file, or "" */
    char *path[2 * BF_TEXTS_MOST + 2]; /* paths that were joined with it */
    size_t n_paths;
    bf_data *data;
    bf_buf model, identity;
    bf_train_config config;
};

static const size_t largest_config = (size_t)1 << 20;

static bf_code no_memory(bf_error *err)
{
    return bf_fail(err, BF_ENOMEM, "no memory to read a config");
}

/* ---- paths ---- */

static bf_code split_folder(bf_training *t, const char *path, bf_error *err)
{
    const char *slash = strrchr(path, '/');
    const size_t n = slash ? (size_t)(slash - path) + (slash == path) : 0;
    t->folder = calloc(n + 1, 1);
    if (!t->folder)
        return no_memory(err);
    memcpy(t->folder, path, n);
    return BF_OK;
}

/* *out: path as seen from here; owned by t. NULL stays NULL. */
static bf_code place(const char **out, bf_training *t, const char *path, bf_error *err)
{
    *out = path;
    if (!path || *path == '/' || !*t->folder)
        return BF_OK;
    char *joined = bf_path_join(t->folder, path);
    if (!joined)
        return no_memory(err);
    t->path[t->n_paths++] = joined;
    *out = joined;
    return BF_OK;
}

/* ---- data ---- */

static bf_code check_sources(const bf_train_file *f, bf_error *err)
{
    const int n = (f->data.text.n > 0) + (f->data.tokens.n > 0) + f->has_task;
    if (n != 1)
        return bf_fail(err, BF_EFORMAT,
                       "field \"data\" has %d of text, tokens and task, wanted one", n);
    if (f->data.text.n && !f->data.tokenizer && !f->data.vocabulary)
        return bf_fail(
            err, BF_EFORMAT,
            "field \"data.vocabulary\" is missing, wanted the size of the tokenizer to learn "
            "(256 and the special tokens: bytes), or \"data.tokenizer\"");
    if (f->data.text.n && f->data.tokenizer && (f->data.vocabulary || f->data.special.n))
        return bf_fail(err, BF_EFORMAT,
                       "field \"data.%s\" beside \"data.tokenizer\", wanted one of them",
                       f->data.vocabulary ? "vocabulary" : "special");
    if (f->data.tokens.n && !f->data.tokenizer && !f->data.vocabulary)
        return bf_fail(err, BF_EFORMAT,
                       "field \"data.vocabulary\" is missing, wanted the number of token ids");
    if (f->data.tokens.n && (f->data.separator || f->data.special.n || f->held_out.every))
        return bf_fail(err, BF_EFORMAT, "field \"data.%s\" is for text, found token files",
                       f->data.separator   ? "separator"
                       : f->data.special.n ? "special"
                                           : "held_out.every");
    if (f->has_task && (f->has_held_out || f->data.vocabulary || f->data.tokenizer))
        return bf_fail(err, BF_EFORMAT, "field \"data.%s\" beside \"data.task\", which has its own",
                       f->has_held_out      ? "held_out"
                       : f->data.vocabulary ? "vocabulary"
                                            : "tokenizer");
    if (f->data.start > 0.0 && !f->data.separator)
        return bf_fail(err, BF_EFORMAT,
                       "field \"data.start\" is %g, but there is no data.separator", f->data.start);
    return BF_OK;
}

static bf_code check_masked(const bf_train_file *f, bf_error *err)
{
    if (f->has_masked != f->mask.bidirectional)
        return bf_fail(err, BF_EFORMAT,
                       f->has_masked
                           ? "field \"mask.bidirectional\" is false, wanted true: masked tokens "
                             "are read from both sides"
                           : "field \"data.masked\" is missing, wanted with mask.bidirectional: "
                             "the next token would stand in plain sight");
    if (f->has_masked && f->data.text.n && !f->masked.token)
        return bf_fail(err, BF_EFORMAT,
                       "field \"data.masked.token\" is missing, wanted the mask token");
    return BF_OK;
}

static void fill_data(bf_data_config *c, const bf_train_file *f)
{
    *c = (bf_data_config){
        .kind = f->has_task ? BF_DATA_TASK : f->data.text.n ? BF_DATA_TEXT : BF_DATA_TOKENS,
        .document = (bf_document)f->data.documents,
        .token_bytes = f->data.token_type ? 4 : 2,
        .vocabulary = f->data.vocabulary,
        .special = f->data.special.text,
        .n_special = f->data.special.n,
        .separator = f->data.separator,
        .start_share = f->data.start,
        .held_out_every = f->held_out.every,
        .held_out_share = f->held_out.share,
        .repeat_steps = f->mix.steps,
        .repeat_least = f->mix.least,
        .repeat_most = f->mix.most,
        .repeat_uniform = f->mix.uniform,
        .repeat_symbols = f->mix.symbols,
        .mask_token = f->has_masked && f->data.text.n ? f->masked.token : NULL,
        .mask_id = f->masked.id,
        .task = {.kind = (bf_task_kind)f->task.kind,
                 .p = f->task.p,
                 .factor = f->task.factor,
                 .terms = f->task.terms,
                 .symbols = f->task.symbols,
                 .least = f->task.least,
                 .most = f->task.most,
                 .queries = f->task.queries,
                 .answers_only = f->task.answers_only}};
    if (f->has_mix) {
        c->repeat_first = f->mix.first;
        c->repeat_last = f->mix.last;
    }
    if (f->has_masked) {
        c->mask_rate = f->masked.rate;
        c->mask_random = f->masked.random;
        c->mask_keep = f->masked.keep;
    }
}

static bf_code open_data(bf_training *t, bf_error *err)
{
    const bf_train_file *f = &t->file;
    const bf_texts *from = f->data.text.n ? &f->data.text : &f->data.tokens;
    const char *files[BF_TEXTS_MOST];
    bf_data_config c;
    fill_data(&c, f);
    bf_code rc = place(&c.tokenizer, t, f->data.tokenizer, err);
    for (size_t k = 0; k < from->n && !rc; k++)
        rc = place(&files[k], t, from->text[k], err);
    c.files = files;
    c.n_files = from->n;
    return rc ? rc
              : bf_data_open(&t->data, &c, f->batch, f->context, f->objective.heads, f->seed, err);
}

/* ---- config.json ---- */

static const char *choice(char buf[32], size_t at, size_t k)
{
    return bf_choice_text(buf, bf_train_field_at(at)->choices, k);
}
#define CHOSEN(buf, file, member) choice(buf, offsetof(bf_train_file, member), (file)->member)

static bf_code check_model(const bf_train_file *f, bool gpt2, bf_error *err)
{
    const size_t H = f->model.heads;
    if (gpt2 &&
        ((f->model.kv_heads && f->model.kv_heads != H) || f->model.head_width || f->model.biases))
        return bf_fail(err, BF_EFORMAT, "field \"model.%s\" is not for gpt2",
                       f->model.biases       ? "biases"
                       : f->model.head_width ? "head_width"
                                             : "kv_heads");
    if ((gpt2 || !f->model.head_width) && f->model.width % H)
        return bf_fail(err, BF_EFORMAT,
                       "field \"model.width\" is the number %zu, wanted a multiple of "
                       "model.heads, %zu",
                       f->model.width, H);
    if (f->model.biases && f->model.family != 1)
        return bf_fail(err, BF_EFORMAT,
                       "field \"model.biases\" is true, wanted false: it is for llama");
    if (f->model.positions && f->model.positions < f->context)
        return bf_fail(err, BF_EFORMAT,
                       "field \"model.positions\" is the number %zu, wanted at least "
                       "context, %zu",
                       f->model.positions, f->context);
    return BF_OK;
}

/* In digits that read back to the same number, and never as a whole number. */
static void put_share(bf_buf *out, const char *key, double share)
{
    char text[32];
    snprintf(text, sizeof text, "%.15g", share);
    if (strtod(text, NULL) != share)
        snprintf(text, sizeof text, "%.17g", share);
    bf_buf_printf(out, "  \"%s\": %s,\n", key, share > 0 ? text : "0.0");
}

static void put_gpt2(bf_buf *out, const bf_train_file *f, size_t positions)
{
    char act[32];
    bf_buf_printf(
        out,
        "  \"architectures\": [\"GPT2LMHeadModel\"],\n  \"model_type\": \"gpt2\",\n"
        "  \"n_layer\": %zu,\n  \"n_embd\": %zu,\n  \"n_head\": %zu,\n  \"n_inner\": %zu,\n"
        "  \"n_positions\": %zu,\n  \"activation_function\": \"%s\",\n"
        "  \"layer_norm_epsilon\": %.15g,\n",
        f->model.layers, f->model.width, f->model.heads,
        f->model.mlp ? f->model.mlp : 4 * f->model.width, positions,
        f->model.activation ? CHOSEN(act, f, model.activation) : "gelu_new", f->model.norm_epsilon);
    put_share(out, "attn_pdrop", f->dropout.attention);
    put_share(out, "embd_pdrop", f->dropout.embedding);
    put_share(out, "resid_pdrop", f->dropout.residual);
}

static void put_llama(bf_buf *out, const bf_train_file *f, size_t positions)
{
    static const char *const classes[] = {"", "Llama", "Mistral", "Qwen2"};
    char act[32], family[32];
    const size_t D = f->model.width, H = f->model.heads, mlp = (8 * D / 3 + 31) / 32 * 32;
    bf_buf_printf(out,
                  "  \"architectures\": [\"%sForCausalLM\"],\n  \"model_type\": \"%s\",\n"
                  "  \"num_hidden_layers\": %zu,\n  \"hidden_size\": %zu,\n"
                  "  \"num_attention_heads\": %zu,\n  \"num_key_value_heads\": %zu,\n"
                  "  \"head_dim\": %zu,\n  \"intermediate_size\": %zu,\n"
                  "  \"max_position_embeddings\": %zu,\n  \"hidden_act\": \"%s\",\n"
                  "  \"rms_norm_eps\": %.15g,\n  \"rope_theta\": %.15g,\n",
                  classes[f->model.family], CHOSEN(family, f, model.family), f->model.layers, D, H,
                  f->model.kv_heads ? f->model.kv_heads : H,
                  f->model.head_width ? f->model.head_width : D / H,
                  f->model.mlp ? f->model.mlp : mlp, positions,
                  f->model.activation ? CHOSEN(act, f, model.activation) : "silu",
                  f->model.norm_epsilon, f->model.rope_theta);
    if (f->model.family == 1)
        bf_buf_printf(out, "  \"attention_bias\": %s,\n  \"mlp_bias\": %s,\n",
                      f->model.biases ? "true" : "false", f->model.biases ? "true" : "false");
    if (f->model.family == 2)
        bf_buf_text(out, "  \"sliding_window\": null,\n");
    if (f->dropout.attention > 0)
        put_share(out, "attention_dropout", f->dropout.attention);
}

static void put_extras(bf_buf *out, const bf_training *t)
{
    const bf_train_file *f = &t->file;
    char detach[32];
    const int32_t mask = bf_data_mask_token(t->data);
    if (!f->has_mask && mask < 0)
        return;
    bf_buf_text(out, "  \"backflow\": {");
    if (f->has_mask) {
        const struct {
            const char *name;
            size_t value;
        } size[] = {{"window", f->mask.window},
                    {"sink", f->mask.sink},
                    {"segment", f->mask.segment},
                    {"memory", f->mask.memory}};
        bf_buf_text(out, "\"mask\": {");
        for (size_t k = 0; k < 4; k++)
            if (size[k].value)
                bf_buf_printf(out, "\"%s\": %zu, ", size[k].name, size[k].value);
        if (f->mask.compressive > 0.0)
            bf_buf_printf(out, "\"compressive\": %.17g, ", f->mask.compressive);
        if (f->mask.gate)
            bf_buf_text(out, "\"gate\": \"learnt\", ");
        if (f->mask.update)
            bf_buf_text(out, "\"update\": \"delta\", ");
        bf_buf_printf(out, "\"detach\": \"%s\", \"bidirectional\": %s}",
                      CHOSEN(detach, f, mask.detach), f->mask.bidirectional ? "true" : "false");
    }
    if (mask >= 0)
        bf_buf_printf(out, "%s\"mask_token\": %ld", f->has_mask ? ", " : "", (long)mask);
    bf_buf_text(out, "},\n");
}

static bf_code make_model(bf_training *t, bf_error *err)
{
    static const char *const types[] = {"float32", "bfloat16", "float64"};
    const bf_train_file *f = &t->file;
    const bool gpt2 = f->model.family == 0, real = bf_data_channels(t->data) > 0;
    const bool tied = f->model.tied ? f->model.tied == 1 : !real;
    const int32_t separator = bf_data_separator(t->data);
    bf_buf_text(&t->model, "{\n");
    (gpt2 ? put_gpt2 : put_llama)(&t->model, f,
                                  f->model.positions ? f->model.positions : f->context);
    bf_buf_printf(&t->model, "  \"vocab_size\": %zu,\n  \"tie_word_embeddings\": %s,\n",
                  real ? bf_data_channels(t->data) + 1 : bf_data_vocabulary(t->data),
                  tied ? "true" : "false");
    if (separator >= 0)
        bf_buf_printf(&t->model, "  \"bos_token_id\": %ld,\n  \"eos_token_id\": %ld,\n",
                      (long)separator, (long)separator);
    put_extras(&t->model, t);
    bf_buf_printf(&t->model, "  \"initializer_range\": %.15g,\n  \"torch_dtype\": \"%s\"\n}\n",
                  f->model.deviation, types[f->store]);
    return t->model.failed ? no_memory(err) : BF_OK;
}

/* ---- the rest ---- */

/* Every field that changes what is learnt, and the tokens. */
static bf_code make_identity(bf_training *t, bf_error *err)
{
    static const char *const others[] = {"$schema", "about", "threads", "checkpoint", "measure",
                                         "measure_batches"};
    bf_buf *out = &t->identity;
    out->len = 0;
    for (size_t k = 0; k < bf_train_field_count; k++) {
        const bf_train_field *f = &bf_train_fields[k];
        const void *at = (const char *)&t->file + f->at;
        bool other = false;
        for (size_t o = 0; o < sizeof others / sizeof *others; o++)
            other = other || (!*f->section && !strcmp(f->name, others[o]));
        if (other)
            continue;
        bf_buf_printf(out, "%s.%s=", f->section, f->name);
        if (f->kind == BF_FIELD_NUMBER)
            bf_buf_printf(out, "%.17g", *(const double *)at);
        else if (f->kind == BF_FIELD_SIZE || f->kind == BF_FIELD_CHOICE)
            bf_buf_printf(out, "%zu", *(const size_t *)at);
        else if (f->kind == BF_FIELD_BOOL || f->kind == BF_FIELD_OBJECT)
            bf_buf_text(out, *(const bool *)at ? "1" : "0");
        else if (f->kind == BF_FIELD_TEXT && *(const char *const *)at)
            bf_buf_text(out, *(const char *const *)at);
        for (size_t i = 0; f->kind == BF_FIELD_TEXTS && i < ((const bf_texts *)at)->n; i++)
            bf_buf_printf(out, "%s,", ((const bf_texts *)at)->text[i]);
        bf_buf_text(out, ";");
    }
    bf_buf_printf(out, "tokens=%016llx", (unsigned long long)bf_data_fingerprint(t->data));
    t->config.identity = out->data;
    return out->failed ? no_memory(err) : BF_OK;
}

static bf_objective objective_of(const bf_training *t)
{
    return bf_data_channels(t->data)   ? BF_OBJECTIVE_REAL
           : t->file.objective.heads > 1 ? BF_OBJECTIVE_HEADS
           : t->file.has_joint           ? BF_OBJECTIVE_JOINT
                                         : BF_OBJECTIVE_TOKENS;
}

static bf_code fill_config(bf_training *t, bf_error *err)
{
    static const bf_dtype stores[] = {BF_F32, BF_BF16, BF_F64};
    const bf_train_file *f = &t->file;
    const size_t held = bf_data_held_out(t->data);
    if (f->has_joint && (f->objective.heads > 1 || bf_data_channels(t->data)))
        return bf_fail(err, BF_EFORMAT, "field \"objective.joint\" beside %s, wanted one of them",
                       f->objective.heads > 1 ? "objective.heads" : "a task of real numbers");
    t->config = (bf_train_config){
        .model = t->model.data,
        .seed = f->seed,
        .objective = objective_of(t),
        .cut = (bf_cut)f->objective.cut,
        .heads = f->objective.heads,
        .joint = {f->joint.n, f->joint.prefixes, f->joint.samples, f->joint.keep, f->joint.random,
                  f->joint.weight, f->joint.context, f->joint.alone},
        .dropout = {f->dropout.embedding, f->dropout.attention, f->dropout.residual},
        .steps = f->steps,
        .accumulate = f->optimizer.accumulate,
        .warmup = f->optimizer.warmup,
        .fall = f->optimizer.fall,
        .rate = f->optimizer.rate,
        .least_rate = f->optimizer.least_rate,
        .constant_rate = f->optimizer.constant,
        .beta1 = f->optimizer.beta1,
        .beta2 = f->optimizer.beta2,
        .epsilon = f->optimizer.epsilon,
        .decay = f->optimizer.decay,
        .clip = f->optimizer.clip,
        .deviation = f->model.deviation,
        .held_out = held < f->measure_batches ? held : f->measure_batches,
        .measure = f->measure,
        .checkpoint = f->checkpoint,
        .f64 = f->precision == 1,
        .bf16 = f->precision == 2,
        .store = stores[f->store],
        .threads = f->threads};
    const bf_code rc = place(&t->config.start, t, f->start, err);
    return rc ? rc : make_identity(t, err);
}

static bf_code read_training(bf_training *t, const char *path, bf_error *err)
{
    bf_code rc = bf_json_read(&t->json, path, largest_config, err);
    if (rc)
        return rc; /* starts with the path already */
    rc = bf_train_file_read(&t->file, t->json, err);
    if (!rc)
        rc = check_sources(&t->file, err);
    if (!rc)
        rc = check_masked(&t->file, err);
    if (!rc)
        rc = check_model(&t->file, t->file.model.family == 0, err);
    if (!rc)
        rc = split_folder(t, path, err);
    if (!rc)
        rc = open_data(t, err);
    if (!rc)
        rc = make_model(t, err);
    if (!rc)
        rc = fill_config(t, err);
    return rc ? bf_error_prefix(err, rc, path) : BF_OK;
}

bf_code bf_training_open(bf_training **out, const char *path, bf_error *err)
{
    bf_training *t = calloc(1, sizeof *t);
    const bf_code rc = t ? read_training(t, path, err) : no_memory(err);
    if (rc)
        bf_training_free(t);
    else
        *out = t;
    return rc;
}

void bf_training_free(bf_training *t)
{
    if (!t)
        return;
    bf_json_free(t->json);
    for (size_t k = 0; k < t->n_paths; k++)
        free(t->path[k]);
    free(t->folder);
    bf_data_free(t->data);
    bf_buf_free(&t->model);
    bf_buf_free(&t->identity);
    free(t);
}

bf_code bf_training_steps(bf_training *t, size_t steps, bf_error *err)
{
    t->file.steps = t->config.steps = steps;
    return make_identity(t, err);
}

bf_code bf_training_seed(bf_training *t, uint64_t seed, bf_error *err)
{
    t->file.seed = t->config.seed = seed;
    bf_data_seed(t->data, seed);
    return make_identity(t, err);
}

bf_train_config *bf_training_config(bf_training *t)
{
    return &t->config;
}

bf_data *bf_training_data(const bf_training *t)
{
    return t->data;
}

const char *bf_training_identity(const bf_training *t)
{
    return t->identity.data;
}

bf_training_data_facts bf_training_facts(const bf_training *t)
{
    return (bf_training_data_facts){t->file.batch, t->file.context, bf_data_vocabulary(t->data),
                                    bf_data_tokens(t->data), bf_data_held_out(t->data)};
}
