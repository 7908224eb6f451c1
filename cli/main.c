/* main.c -- the table of commands, and what is done before and after any of them. */
#include "cli/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static const cli_command commands[] = {
    {"report", cmd_report, "MODEL (--text T | --file F | --tokens 1,2,..) [-o FOLDER]",
     "trace a text and make a page of pictures and numbers of it"},
    {"trace", cmd_trace, "MODEL (--text T | --file F | --tokens 1,2,..) [-o FILE | --show]",
     "record where every loss sends its gradient"},
    {"heatmap", cmd_heatmap, "RECORD --site S [--score C] -o FILE",
     "draw a tensor of a record: losses down, positions across"},
    {"profile", cmd_profile, "RECORD... [--parts A,B] -o FILE",
     "draw flow against distance, position and layer"},
    {"figure", cmd_figure, "KIND RECORD -o FILE", "draw the tinted sentence, or all heads at once"},
    {"graph", cmd_graph, "RECORD --loss I [--top N | --keep P] [-o FILE]",
     "list and draw the ways that losses take back through the layers"},
    {"diff", cmd_diff, "RECORD RECORD [--tolerance E]",
     "compare two records, tensor by tensor"},
    {"trust", cmd_trust, "RECORD MODEL [-o FILE]",
     "hold a record against what really happens when vectors are moved"},
    {"find", cmd_find, "MODEL FILE... [-o FIGURE]",
     "rank heads by what they carry to earlier tokens, and name them"},
    {"verify", cmd_verify, "[C1 .. C13 | CLAIM.json ...] [MODEL] [--full]",
     "decide claims about gradient flow, and show the evidence"},
    {"train", cmd_train, "CONFIG.json -o FOLDER [--resume]",
     "train a small model from scratch, for a question"},
    {"info", cmd_info, "MODEL|RECORD", "say what a model or a record is"},
    {"redo", cmd_redo, "FIGURE [-o FILE]", "draw a figure again by the command that it carries"},
    {"tokenize", cmd_tokenize, "MODEL|TOKENIZER (--text T | --file F)",
     "show the tokens that a model makes of a text"},
};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int print_help(void)
{
    printf("backflow " BF_VERSION " -- see how later tokens' losses flow back to earlier tokens\n\n"
           "usage: backflow COMMAND ...\n\n");
    for (size_t k = 0; k < COMMANDS; k++)
        printf("  %-9s %s\n  %-9s %s\n", commands[k].name, commands[k].args, "",
               commands[k].summary);
    printf("\nMODEL is a Hugging Face folder (config.json, safetensors, tokenizer.json) or the\n"
           "name of a bundled model. RECORD is a file that trace wrote.\n\n"
           "backflow COMMAND --help explains one command, backflow --version says which this is.\n"
           "Exit: 0 done, 1 a check failed, 2 misused, bad input or failed, 130 interrupted.\n");
    return CLI_DONE;
}

static int no_command(const char *found)
{
    fprintf(stderr, "backflow: ");
    if (found) {
        fprintf(stderr, "unknown %s \"", found[0] == '-' ? "option" : "command");
        cli_print_visible(stderr, found);
        fprintf(stderr, "\", wanted one of");
    } else {
        fprintf(stderr, "no command, wanted one of");
    }
    for (size_t k = 0; k < COMMANDS; k++)
        fprintf(stderr, "%s %s", k ? "," : "", commands[k].name);
    fprintf(stderr, " (backflow --help)\n");
    return CLI_FAILED;
}

static int dispatch(int argc, char **argv)
{
    if (argc < 2)
        return no_command(NULL);
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help();
    if (strcmp(argv[1], "--version") == 0) {
        printf("backflow %s\n", BF_VERSION);
        return CLI_DONE;
    }
    for (size_t k = 0; k < COMMANDS; k++)
        if (strcmp(argv[1], commands[k].name) == 0)
            return commands[k].run(&commands[k], argc - 2, argv + 2);
    return no_command(argv[1]);
}

/* A file must not be opened as descriptor 1 or 2: it would get our words. If one is closed, put
 * something there that refuses to be written. */
static void fill_descriptors(void)
{
    int fd;
    do
        fd = open("/dev/null", O_RDONLY);
    while (fd >= 0 && fd <= 2);
    if (fd > 2)
        close(fd);
}

/* Output that could not be written is a failure, whatever the command said. */
static int finish(int code)
{
    const bool failed = ferror(stdout) != 0;
    errno = 0;
    if (fflush(stdout) == 0 && !failed)
        return code;
    fprintf(stderr, "backflow: standard output: cannot write%s%s\n", errno ? ": " : "",
            errno ? strerror(errno) : "");
    return code == CLI_INTERRUPTED ? code : CLI_FAILED;
}

int main(int argc, char **argv)
{
    fill_descriptors();
    cli_signals_start();
    return finish(dispatch(argc, argv));
}
