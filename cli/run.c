/* run.c -- from a model and a text to a record: what trace and report have in common. */
#include "cli/cli.h"

#include <stdlib.h>
#include <string.h>

enum { TEXT_LIMIT = 64 << 20 };

size_t cli_run_options(cli_option *to, cli_run *run)
{
    const cli_option options[] = {
        {"text", cli_parse_any_text, &run->text, "T", "trace this text"},
        {"file", cli_parse_text, &run->file, "F",
         "trace the text of this file (-: standard input)"},
        {"tokens", cli_parse_text, &run->tokens, "1,2,..",
         "trace these token ids; needs no tokenizer"},
        {"losses", cli_parse_text, &run->losses, "3,10:20",
         "only these losses; 10:20 means 10 to 19\n"
         "(default: all)"},
        {"layers", cli_parse_text, &run->layers, "0,4:6",
         "record these layers only (default: all)"},
        {"sites", cli_parse_sites, &run->sites, "A,B",
         "record these only: resid_pre, resid_mid,\n"
         "resid_final, attn_out, mlp_out, q, k, v, z\n"
         "(default: all)"},
        {"scores", cli_parse_scores, &run->scores, "A,B",
         "grad_norm, grad_x_act, own (and future, and their\n"
         "cosine), share (of each path into a node), param\n"
         "(a weight's gradient through one position), weight\n"
         "(its whole gradient, own and future), all; and edge\n"
         "(by which head, from where; needs --losses)\n"
         "(default: grad_norm,grad_x_act)"},
        {"target", cli_parse_target, &run->target, "T",
         "walk this back in place of the loss: logit[:A],\n"
         "logprob[:A], logit-diff:A,B, entropy; A, B are\n"
         "token ids (default A: the token that follows);\n"
         "kl:RECORD: the divergence from what that run, made\n"
         "with --logprobs, predicted at the same position\n"
         "(kl-text:RECORD: in another text as long)"},
        {"mask", cli_parse_text, &run->masked, "3,7",
         "of a bidirectional model: it reads its mask token\n"
         "at these positions, and the losses are of the\n"
         "tokens that stand there"},
        {"detach", cli_parse_detach, &run->detach, "D",
         "keys and values that pass no gradient: none,\n"
         "memory (before the query's own segment), myopic (all\n"
         "but the query's own); losses stay what they are\n"
         "(default: as config.json says, else none)"},
        {"sum", NULL, &run->sum, NULL,
         "walk the chosen losses, neighbours, as their sum"},
        {"precision", cli_parse_precision, &run->precision, "P",
         "f32, f64, or bf16 for the walk's weight products\n"
         "(needs avx512_bf16; default: f32)"},
        {"blocks", cli_parse_count, &run->blocks, "B",
         "an overview of B blocks of losses, much cheaper\n"
         "than all of them; --losses opens some beside it"},
        {"probes", cli_parse_count, &run->probes, "K",
         "random signs that estimate a block's grad_norm\n"
         "(default: 8)"},
        {"tolerance", cli_parse_positive, &run->tolerance, "E",
         "drop rows below E times their loss's largest, and\n"
         "say how much was dropped (default: drop nothing)"},
        {"no-fold", NULL, &run->no_fold, NULL,
         "no short cuts: neither an MLP's whole Jacobian at a\n"
         "position nor, if gated, two weights as one, nor\n"
         "sums over heads in the place of q's, k's and v's"},
        {"memory", cli_parse_bytes, &run->memory, "M",
         "room for activations and gradients: 512M, 1.5G\n"
         "(default: 4G); weights and record come on top"},
        {"threads", cli_parse_count, &run->threads, "N",
         "default: as many as the machine has;\n"
         "the numbers are the same for any"},
        {"no-attn", NULL, &run->no_attn, NULL, "leave the attention patterns out of the record"},
        {"logprobs", NULL, &run->logprobs, NULL,
         "record what is predicted at every position, too:\n"
         "log p of all tokens, for --target kl"},
        {"dry-run", NULL, &run->dry_run, NULL, "print what it would take, and stop"},
        {"json", NULL, &run->json, NULL, "print tables as JSON"},
        {"quiet", NULL, &run->quiet, NULL, "no plan, progress or summary on standard error"},
    };
    memcpy(to, options, sizeof options);
    return sizeof options / sizeof *options;
}

int cli_run_misused(const cli_command *self, const cli_run *run)
{
    const int inputs = (run->text != NULL) + (run->file != NULL) + (run->tokens != NULL);
    if (inputs == 0)
        return cli_misuse(self, "nothing to trace, wanted --text, --file or --tokens");
    if (inputs > 1)
        return cli_misuse(self, "%s and %s both given, wanted one of --text, --file, --tokens",
                          run->text ? "--text" : "--file", run->tokens ? "--tokens" : "--file");
    return CLI_GO;
}

/* Where the tokens come from, for messages. */
static const char *source_name(const cli_run *run)
{
    if (run->file)
        return strcmp(run->file, "-") == 0 ? "standard input" : run->file;
    return run->text ? "--text" : "--tokens";
}

bf_code cli_read_text(bf_buf *out, const char *text, const char *file, bf_error *err)
{
    bf_code rc = BF_OK;
    if (text)
        bf_buf_text(out, text);
    else
        rc = bf_file_read(out, strcmp(file, "-") == 0 ? "/dev/stdin" : file, TEXT_LIMIT, err);
    if (!rc && out->failed)
        rc = bf_fail(err, BF_ENOMEM, "cannot hold the text");
    else if (!rc && out->len == 0)
        rc = bf_fail(err, BF_EARG, "%s: the text is empty", text ? "--text" : file);
    return rc;
}

/* Ids of the text: run->ids and query.n_tokens. */
static bf_code encode_text(cli_run *run, bf_error *err)
{
    const bf_tokenizer *tokenizer = NULL;
    bf_buf text = {0};
    bf_token *token = NULL;
    size_t n = 0;
    bf_code rc = cli_read_text(&text, run->text, run->file, err);
    if (!rc)
        rc = bf_model_tokenizer(&tokenizer, run->model, err);
    if (!rc && !tokenizer)
        rc = bf_fail(err, BF_EARG,
                     "%s: no tokenizer.json in the model's folder, wanted --tokens with ids",
                     bf_model_dims(run->model)->name);
    if (!rc) {
        rc = bf_tokenizer_encode(&token, &n, tokenizer, text.data, text.len, err);
        if (rc)
            bf_error_prefix(err, rc, source_name(run));
    }
    if (!rc && !(run->ids = malloc((n ? n : 1) * sizeof *run->ids)))
        rc = bf_fail(err, BF_ENOMEM, "cannot hold %zu tokens", n);
    for (size_t k = 0; k < n && !rc; k++)
        run->ids[k] = token[k].id;
    run->query.n_tokens = n;
    free(token);
    bf_buf_free(&text);
    return rc;
}

/* Put layer 0 before the others. There is room: a list without it has fewer than all L. */
static void add_base_layer(size_t *layer, size_t *n)
{
    if (layer[0] == 0)
        return;
    memmove(layer + 1, layer, *n * sizeof *layer);
    layer[0] = 0;
    ++*n;
}

/* Losses and layers, once it is known how many there are. */
static bf_code choose(cli_run *run, bf_error *err)
{
    bf_query *q = &run->query;
    const size_t N = q->n_tokens - !q->masked;
    bf_code rc = BF_OK;
    if (run->losses) {
        rc = cli_parse_ranges(&run->loss, &q->n_losses, run->losses, N, "loss", err);
        if (rc)
            return bf_error_prefix(err, rc, "--losses");
        q->losses = run->loss;
    } else if (q->masked) {
        q->losses = q->masked;
        q->n_losses = q->n_masked;
    }
    if (run->layers) {
        rc = cli_parse_ranges(&run->layer, &q->n_layers, run->layers, bf_model_dims(run->model)->L,
                              "layer", err);
        if (rc)
            return bf_error_prefix(err, rc, "--layers");
        if (run->base_layer)
            add_base_layer(run->layer, &q->n_layers);
        q->layers = run->layer;
    }
    return rc;
}

/* The record that --target compares with; here, so that messages name it. */
static bf_code open_reference(cli_run *run, bf_error *err)
{
    const char *path = run->target.reference;
    const bf_query *q = &run->query;
    const bf_tensor *logprobs;
    if (!path)
        return BF_OK;
    bf_code rc = bf_record_open(&run->reference, path, err);
    if (rc)
        return rc;
    bf_target target = run->target.what;
    target.reference = run->reference;
    rc = bf_target_reference(&logprobs, &target, run->ids, q->n_tokens, q->n_tokens - !q->masked,
                             bf_model_dims(run->model)->V, err);
    return rc ? bf_error_prefix(err, rc, path) : BF_OK;
}

static void fill_query(cli_run *run)
{
    bf_query *q = &run->query;
    q->tokens = run->ids;
    q->sites = run->sites;
    q->scores = run->scores;
    q->precision = run->precision;
    q->memory = run->memory;
    q->threads = run->threads;
    q->target = run->target.what;
    q->target.reference = run->reference;
    q->detach = run->detach;
    q->sum = run->sum;
    q->blocks = run->blocks;
    q->probes = run->probes;
    q->tolerance = run->tolerance;
    q->no_fold = run->no_fold;
    q->no_attn = run->no_attn;
    q->logprobs = run->logprobs;
    q->check = run->check;
    q->stop = cli_stop();
}

bf_code cli_run_open(cli_run *run, const char *model, bf_error *err)
{
    bf_code rc = bf_model_open(&run->model, model, err);
    if (rc)
        return rc;
    if (run->tokens) {
        rc = cli_parse_ids(&run->ids, &run->query.n_tokens, run->tokens, err);
        if (rc)
            return bf_error_prefix(err, rc, "--tokens");
    } else {
        rc = encode_text(run, err);
    }
    if (rc)
        return rc;
    if (run->query.n_tokens < 2)
        return bf_fail(err, BF_EARG,
                       "%.300s: %zu %s, at least 2 are wanted (one to read, one to predict)",
                       source_name(run), run->query.n_tokens,
                       run->query.n_tokens == 1 ? "token" : "tokens");
    rc = run->masked ? cli_parse_ranges(&run->hidden, &run->query.n_masked, run->masked,
                                        run->query.n_tokens, "position", err) : BF_OK;
    if (rc)
        return bf_error_prefix(err, rc, "--mask");
    run->query.masked = run->hidden;
    rc = open_reference(run, err);
    if (rc)
        return rc;
    fill_query(run);
    rc = choose(run, err);
    if (rc)
        return rc;
    return bf_trace_plan(&run->plan, run->model, &run->query, err);
}

void cli_run_end(cli_run *run)
{
    bf_model_free(run->model);
    bf_record_free(run->reference);
    free(run->ids);
    free(run->hidden);
    free(run->loss);
    free(run->layer);
}

double cli_mean_loss(const bf_record *record)
{
    const bf_tensor *loss = bf_record_find(record, "loss"),
                    *chosen = bf_record_find(record, "losses");
    const size_t n = bf_tensor_count(chosen ? chosen : loss);
    double sum = 0.0;
    for (size_t k = 0; k < n; k++)
        sum += bf_tensor_value(loss, chosen ? (size_t)bf_tensor_value(chosen, k) : k);
    return sum / (double)n;
}
