/* backflow train: a CONFIG.json to a model. */
#include "cli/cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/train.h"

static const char notes[] =
    "CONFIG.json says model, data and objective; docs/training.md explains its fields, and\n"
    "docs/train.schema.json lets editors check and complete them. Paths in it count from its "
    "folder.\n"
    "FOLDER gets the model (config.json, model.safetensors, tokenizer.json), "
    "checkpoint.safetensors,\n"
    "log.jsonl, a line a step, and loss.svg. An interrupt saves; the run goes on with --resume, "
    "and\n"
    "ends with the same bits as one that was not interrupted.\n"
    "\n"
    "examples:\n"
    "  backflow train examples/train/copy.json -o copy\n"
    "  backflow train examples/train/copy.json -o copy --resume\n"
    "  backflow train examples/train/sine.json --dry-run\n";

typedef struct {
    const char *config, *folder;
    long seed;
    size_t threads, steps;
    bool resume, dry_run, quiet, json;
} request;

/* ---- the live line ---- */

typedef struct {
    bool tty;
    double last;
    size_t width;
} live_line;

static void say_progress(void *context, const bf_train_state *s)
{
    live_line *live = context;
    char line[160], left[32], held[32] = "";
    const double t = cli_now();
    if (t - live->last < (live->tty ? 0.2 : 10.0) && s->step < s->steps)
        return;
    live->last = t;
    if (isfinite(s->held_out))
        snprintf(held, sizeof held, ", held out %.4f", s->held_out);
    const int n = snprintf(
        line, sizeof line, "step %zu of %zu, loss %.4f%s, %.0f tokens/s, %s left", s->step,
        s->steps, s->loss, held, s->tokens_per_second, cli_time_words(left, s->seconds_left));
    if (live->tty)
        fprintf(stderr, "\r%-*s", (int)live->width, line);
    else
        fprintf(stderr, "backflow: %s\n", line);
    fflush(stderr);
    live->width = n > 0 && n < (int)sizeof line ? (size_t)n : 0;
}

static void end_line(const live_line *live)
{
    if (live->tty && live->width)
        fprintf(stderr, "\n");
}

/* ---- words ---- */

static void print_plan_json(const bf_train_plan *p, const bf_training_data_facts *d)
{
    printf(
        "{\"parameters\": %zu, \"extra_parameters\": %zu, \"tokens_a_step\": %zu, \"bytes\": %zu, "
        "\"flops_a_step\": ",
        p->parameters, p->extra_parameters, p->tokens, p->bytes);
    cli_print_json_number(p->flops);
    printf(", \"batch\": %zu, \"context\": %zu, \"vocabulary\": %zu, \"tokens\": %zu, "
           "\"held_out_batches\": ", d->batch, d->context, d->vocabulary, d->tokens);
    if (d->held_out == SIZE_MAX)
        printf("null}\n");
    else
        printf("%zu}\n", d->held_out);
}

static void print_plan(const bf_train_plan *p, const bf_training_data_facts *d)
{
    char words[32];
    printf("parameters   %zu", p->parameters);
    if (p->extra_parameters)
        printf(", and %zu of further heads", p->extra_parameters);
    printf("\nbatch        %zu sequences of %zu positions\n", d->batch, d->context);
    printf("tokens       %zu a step\n", p->tokens);
    if (d->vocabulary)
        printf("vocabulary   %zu\n", d->vocabulary);
    if (d->tokens)
        printf("data         %zu tokens to train on, %zu batches held out\n", d->tokens,
               d->held_out);
    else
        printf("data         a task, without end\n");
    printf("memory       %s\n", cli_size_words(words, p->bytes));
    printf("work         %.3g GFLOP a step\n", p->flops * 1e-9);
}

static bf_code print_done(const request *r, const bf_train_state *s, double seconds, bf_error *err)
{
    char words[32];
    if (r->json) {
        printf("{\"folder\": ");
        const bf_code rc = cli_print_json_string(r->folder, err);
        printf(", \"steps\": %zu, \"loss\": ", s->step);
        cli_print_json_number(s->loss);
        printf(", \"held_out\": ");
        cli_print_json_number(s->held_out);
        printf(", \"right\": ");
        cli_print_json_number(s->right);
        printf(", \"seconds\": ");
        cli_print_json_number(seconds);
        printf("}\n");
        return rc;
    }
    if (r->quiet)
        return BF_OK;
    fprintf(stderr, "backflow: %zu steps in %s, loss %.4f", s->step, cli_time_words(words, seconds),
            s->loss);
    if (isfinite(s->held_out))
        fprintf(stderr, ", held out %.4f", s->held_out);
    if (isfinite(s->right))
        fprintf(stderr, " (%.1f %% right)", 100 * s->right);
    fprintf(stderr, ": ");
    cli_print_visible(stderr, r->folder);
    fprintf(stderr, "\n");
    return BF_OK;
}

/* ---- work ---- */

static bf_code open_training(bf_training **out, const request *r, bf_error *err)
{
    bf_training *t = NULL;
    bf_code rc = bf_training_open(&t, r->config, err);
    if (!rc && r->seed >= 0)
        rc = bf_training_seed(t, (uint64_t)r->seed, err);
    if (!rc && r->steps)
        rc = bf_training_steps(t, r->steps, err);
    if (!rc && r->threads)
        bf_training_config(t)->threads = r->threads;
    if (rc)
        bf_training_free(t);
    else
        *out = t;
    return rc;
}

static bf_code train(const request *r, bf_training *t, bf_error *err)
{
    bf_train_state state = {.loss = NAN, .held_out = NAN, .right = NAN};
    live_line live = {.tty = isatty(STDERR_FILENO) == 1, .last = cli_now()};
    const double start = cli_now();
    bf_code rc = r->resume ? bf_training_may_resume(t, r->folder, err) : BF_OK;
    if (rc)
        return rc;
    cli_patient(true);
    rc = bf_train(r->folder, bf_training_config(t), bf_training_data(t), r->resume, &state,
                  r->quiet ? NULL : say_progress, &live, cli_stop(), err);
    cli_patient(false);
    end_line(&live);
    if (rc == BF_EINTERRUPTED) {
        const bf_code described = bf_training_describe(t, r->folder, NULL);
        return bf_fail(err, BF_EINTERRUPTED,
                       "interrupted after step %zu of %zu, saved%s: go on with "
                       "--resume",
                       state.step, state.steps, described ? " without tokenizer_config.json" : "");
    }
    if (!rc)
        rc = bf_training_describe(t, r->folder, err);
    if (!rc)
        rc = cli_draw_training(r->folder, err);
    return rc ? rc : print_done(r, &state, cli_now() - start, err);
}

static bf_code run(const request *r, bf_error *err)
{
    bf_training *t = NULL;
    bf_train_plan plan;
    bf_code rc = open_training(&t, r, err);
    if (!rc &&
        (rc = bf_train_check(&plan, bf_training_config(t), bf_training_data(t), err)) != BF_OK)
        bf_error_prefix(err, rc, r->config);
    if (!rc && r->dry_run) {
        const bf_training_data_facts facts = bf_training_facts(t);
        (r->json ? print_plan_json : print_plan)(&plan, &facts);
    } else if (!rc) {
        rc = train(r, t, err);
    }
    bf_training_free(t);
    return rc;
}

int cmd_train(const cli_command *self, int argc, char **argv)
{
    request r = {.seed = -1};
    const cli_option options[] = {
        {"o", cli_parse_text, &r.folder, "FOLDER",
         "where the model goes: a new or an empty folder"},
        {"resume", NULL, &r.resume, NULL, "go on from FOLDER's checkpoint, if there is one"},
        {"threads", cli_parse_count, &r.threads, "N",
         "default: as the config says, or all;\n"
         "the number changes no bit of the result"},
        {"seed", cli_parse_index, &r.seed, "S", "of weights and data, instead of the config's"},
        {"steps", cli_parse_count, &r.steps, "N", "instead of the config's"},
        {"dry-run", NULL, &r.dry_run, NULL, "check config and data, print size and work"},
        {"quiet", NULL, &r.quiet, NULL, "no progress, no summary"},
        {"json", NULL, &r.json, NULL, "print plan or result as JSON"},
    };
    const cli_syntax syntax = {options, sizeof options / sizeof *options, "CONFIG.json", &r.config,
                               notes};
    const int code = cli_read(self, &syntax, argc, argv);
    if (code != CLI_GO)
        return code;
    if (!r.folder && !r.dry_run)
        return cli_misuse(self, "no -o FOLDER given, wanted a place for the model");
    bf_error err = {0};
    return run(&r, &err) ? cli_fail(&err) : CLI_DONE;
}
