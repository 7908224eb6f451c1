/* backflow trust: a record held against what really happens. */
#include "cli/figure.h"
#include "cli/trust.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const char notes[] =
    "Gradients are first-order. Vectors of the text that RECORD was traced on are moved, by parts "
    "t\n"
    "of the whole way, MODEL is run again in double, and the change of each loss is held against\n"
    "what the record predicts. scaled: towards nothing (t = 1 is zeroed). gradient, random: by t\n"
    "times the vector's length, uphill or anywhere. mean, swap: towards the mean over positions, "
    "or\n"
    "another position's vector. path: uphill, but seen by one path only (of recorded shares and\n"
    "edges). The row -> 0 compares derivatives: where it fails the record is wrong; a range that\n"
    "ends early says that the flow is right but does not reach far. Exit 1 if the record is "
    "wrong.\n"
    "\n"
    "examples:\n"
    "  backflow trust run.safetensors kjv-1m -o trust.svg\n"
    "  backflow trust run.safetensors ./gpt2 --losses 40:44 --sites resid_pre,z --json\n";

typedef struct {
    const char *record, *model, *losses, *path;
    bf_trust_query query;
    size_t seed;
    bool json, points, quiet;
    const cli_command *self; /* for the figure's provenance */
    int argc;
    char **argv;
} job;

static bool is_picture(const char *path)
{
    static const char *const endings[] = {".png", ".svg", ".pdf"};
    const char *dot = strrchr(path, '.');
    for (size_t k = 0; dot && k < sizeof endings / sizeof *endings; k++)
        if (strcasecmp(dot, endings[k]) == 0)
            return true;
    return false;
}

/* The record's number of losses bounds what --losses may name. */
static bf_code choose_losses(size_t **out, job *j, const bf_record *record, bf_error *err)
{
    const bf_tensor *tokens = bf_record_find(record, "tokens");
    if (!j->losses)
        return BF_OK;
    if (!tokens || bf_tensor_count(tokens) < 2)
        return bf_fail(err, BF_ESHAPE, "%.300s: no tokens, so no losses either", j->record);
    const bf_code rc = cli_parse_ranges(out, &j->query.n_losses, j->losses,
                                        bf_tensor_count(tokens) - 1, "loss", err);
    j->query.losses = *out;
    return rc ? bf_error_prefix(err, rc, "--losses") : BF_OK;
}

static bf_code measure(bf_trust **out, job *j, const bf_record *record, bf_model *model,
                       bf_error *err)
{
    cli_meter meter;
    cli_meter_start(&meter);
    j->query.seed = j->seed;
    j->query.stop = cli_stop();
    if (!j->quiet) {
        j->query.progress = cli_meter_say;
        j->query.progress_context = &meter;
    }
    cli_patient(true);
    const bf_code rc = bf_trust_measure(out, record, model, &j->query, err);
    cli_patient(false);
    cli_meter_clear(&meter);
    return rc;
}

static bf_code draw(const bf_trust *trust, const job *j, const bf_record *record, bf_model *model,
                    bf_error *err)
{
    cli_input inputs[] = {{"record", j->record, NULL, record}, {"model", j->model, NULL, NULL}};
    bf_buf provenance = {0};
    bf_code rc = bf_model_sha256(&inputs[1].sha256, model, err);
    if (!rc)
        rc = cli_provenance(&provenance, j->self, j->argc, j->argv, inputs, 2, err);
    if (!rc)
        rc = cli_draw_trust(trust, record, &(bf_look){.provenance = provenance.data}, j->path, err);
    bf_buf_free(&provenance);
    return rc;
}

static bf_code show(const bf_trust *trust, const job *j, const bf_record *record, bf_model *model,
                    bf_error *err)
{
    bf_code rc = j->path ? draw(trust, j, record, model, err) : BF_OK;
    if (!rc && j->json)
        rc = cli_print_trust_json(trust, record, j->points, err);
    else if (!rc)
        cli_print_trust(trust, record);
    return rc;
}

static int run(job *j)
{
    bf_error err = {0};
    bf_record *record = NULL;
    bf_model *model = NULL;
    bf_trust *trust = NULL;
    size_t *losses = NULL;
    bf_code rc = bf_record_open(&record, j->record, &err);
    if (!rc)
        rc = choose_losses(&losses, j, record, &err);
    if (!rc)
        rc = bf_model_open(&model, j->model, &err);
    if (!rc) {
        rc = measure(&trust, j, record, model, &err);
        if (rc && rc != BF_EINTERRUPTED)
            bf_error_prefix(&err, rc, j->record);
    }
    if (!rc)
        rc = show(trust, j, record, model, &err);
    const bool holds = trust && trust->holds;
    bf_trust_free(trust);
    bf_model_free(model);
    bf_record_free(record);
    free(losses);
    if (rc)
        return cli_fail(&err);
    if (!holds)
        fprintf(stderr, "backflow: the record cannot be trusted\n");
    return holds ? CLI_DONE : CLI_REFUTED;
}

int cmd_trust(const cli_command *self, int argc, char **argv)
{
    job j = {.self = self, .argc = argc, .argv = argv};
    const cli_option options[] = {
        {"pairs", cli_parse_count, &j.query.pairs, "N",
         "pairs of a loss and a vector a row (default: 2000)"},
        {"losses", cli_parse_text, &j.losses, "3,10:20",
         "these losses only, curves of each (default: all,\n"
         "curves and directions of eight)"},
        {"sites", cli_parse_sites, &j.query.sites, "A,B",
         "sites that are scaled (default: resid_pre,\n"
         "resid_mid, attn_out, mlp_out, z)"},
        {"no-curves", NULL, &j.query.no_curves, NULL, "leave out deletion and insertion"},
        {"seed", cli_parse_size, &j.seed, "N", "of what is drawn at random (default: 0)"},
        {"memory", cli_parse_bytes, &j.query.memory, "M", "room for activations (default: 4G)"},
        {"threads", cli_parse_count, &j.query.threads, "N", "default: as many as the machine has"},
        {"json", NULL, &j.json, NULL, "print everything as JSON"},
        {"points", NULL, &j.points, NULL, "with --json: every pair, too"},
        {"quiet", NULL, &j.quiet, NULL, "no progress on standard error"},
        {"o", cli_parse_text, &j.path, "FILE", "draw it: .png, .svg or .pdf"},
    };
    const cli_syntax syntax = {options, sizeof options / sizeof *options, "RECORD", &j.record,
                               notes};
    const int code = cli_read_two(self, &syntax, "MODEL", &j.model, argc, argv);
    if (code != CLI_GO)
        return code;
    if (j.path && !is_picture(j.path))
        return cli_misuse(
            self, "-o: \"%.200s\" is no picture, wanted a name that ends in .png, .svg or .pdf",
            j.path);
    if (j.points && !j.json)
        return cli_misuse(self, "--points is given without --json");
    return run(&j);
}
