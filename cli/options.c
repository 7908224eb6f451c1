/* options.c -- argv against a command's list of options, and help made of the same list. */
#include "cli/cli.h"

#include <stdarg.h>
#include <string.h>

static const char *dashes(const cli_option *o)
{
    return o->name[1] ? "--" : "-";
}

int cli_misuse(const cli_command *self, const char *format, ...)
{
    char message[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    fprintf(stderr, "backflow: %s: ", self->name);
    cli_print_visible(stderr, message);
    fprintf(stderr, "\n");
    return CLI_FAILED;
}

/* ---- help */

static void print_option(const cli_option *o)
{
    char left[64];
    snprintf(left, sizeof left, "%s%s%s%s", dashes(o), o->name, o->value ? " " : "",
             o->value ? o->value : "");
    printf("  %-20s", left);
    if (strlen(left) > 20)
        printf("\n  %-20s", "");
    for (const char *line = o->help; line;) {
        const char *end = strchr(line, '\n');
        printf("  %.*s\n", end ? (int)(end - line) : (int)strlen(line), line);
        line = end ? end + 1 : NULL;
        if (line)
            printf("  %-20s", "");
    }
}

static int print_help(const cli_command *self, const cli_syntax *syntax)
{
    printf("usage: backflow %s %s\n\n%s\n\noptions:\n", self->name, self->args, self->summary);
    for (size_t k = 0; k < syntax->n_options; k++)
        print_option(&syntax->options[k]);
    printf("\n%s", syntax->notes);
    return CLI_DONE;
}

/* ---- reading */

bf_code cli_parse_again(void *target, const char *value, bf_error *err)
{
    const cli_again *again = target;
    return again->add(again->target, value, err);
}

/* The option that arg names and where its attached value starts (NULL: none), or NULL. */
static const cli_option *find_option(const cli_syntax *syntax, const char *arg,
                                     const char **attached)
{
    *attached = NULL;
    for (size_t k = 0; k < syntax->n_options; k++) {
        const cli_option *o = &syntax->options[k];
        const size_t n = strlen(o->name), skip = strlen(dashes(o));
        if (strncmp(arg, dashes(o), skip) != 0 || strncmp(arg + skip, o->name, n) != 0)
            continue;
        const char *rest = arg + skip + n;
        if (*rest == '\0')
            return o;
        if (skip == 1 || *rest == '=') {
            *attached = *rest == '=' ? rest + 1 : rest;
            return o;
        }
    }
    return NULL;
}

static bool is_option(const char *arg)
{
    return arg[0] == '-' && arg[1] != '\0';
}

/* Take option o at argv[*k]; *k moves over a value that stands apart. */
static int take_option(const cli_command *self, const cli_syntax *syntax, const cli_option *o,
                       const char *attached, int *k, int argc, char **argv)
{
    bf_error err = {0};
    const char *other;
    if (!o->parse) {
        if (attached)
            return cli_misuse(self, "%s%s takes no value, found \"%s\"", dashes(o), o->name,
                              attached);
        *(bool *)o->target = true;
        return CLI_GO;
    }
    if (!attached) {
        if (*k + 1 >= argc)
            return cli_misuse(self, "%s%s needs a value: %s", dashes(o), o->name, o->value);
        attached = argv[++*k];
        if (is_option(attached) && find_option(syntax, attached, &other))
            return cli_misuse(self, "%s%s needs a value (%s), found the option %s", dashes(o),
                              o->name, o->value, attached);
    }
    if (o->parse(o->target, attached, &err))
        return cli_misuse(self, "%s%s: %s", dashes(o), o->name, err.msg);
    return CLI_GO;
}

static int take_positional(const cli_command *self, const cli_syntax *syntax, const char *arg)
{
    if (*syntax->value)
        return cli_misuse(self, "unexpected argument \"%s\" after %s \"%s\"", arg,
                          syntax->positional, *syntax->value);
    if (!*arg)
        return cli_misuse(self, "%s is empty", syntax->positional);
    *syntax->value = arg;
    return CLI_GO;
}

/* second: NULL, or a syntax of which only the positional counts, for the argument after the first.
 * list: NULL, or where all positionals after the first go. */
static int read_arguments(const cli_command *self, const cli_syntax *syntax, const cli_syntax *second,
                          cli_list *list, int argc, char **argv)
{
    bool seen[CLI_MAX_OPTIONS] = {false}, ended = false;
    int rc = CLI_GO;
    for (int k = 0; k < argc && rc == CLI_GO; k++) {
        const char *arg = argv[k], *attached;
        if (!ended && strcmp(arg, "--") == 0) {
            ended = true;
        } else if ((ended || !is_option(arg)) && list && *syntax->value && *arg) {
            list->item[list->n++] = arg;
        } else if (ended || !is_option(arg)) {
            rc = take_positional(self, second && *syntax->value ? second : syntax, arg);
        } else if (strcmp(arg, "--help") == 0 || strcmp(arg, "-h") == 0) {
            return print_help(self, syntax);
        } else {
            const cli_option *o = find_option(syntax, arg, &attached);
            if (!o)
                return cli_misuse(self, "unknown option \"%s\" (backflow %s --help)", arg,
                                  self->name);
            bool *again = &seen[o - syntax->options];
            rc = *again && o->parse != cli_parse_again
                     ? cli_misuse(self, "%s%s is given twice", dashes(o), o->name)
                     : take_option(self, syntax, o, attached, &k, argc, argv);
            *again = true;
        }
    }
    if (rc == CLI_GO && (!*syntax->value || (second && !*second->value)))
        return cli_misuse(self, "no %s given (backflow %s --help)",
                          (*syntax->value ? second : syntax)->positional, self->name);
    return rc;
}

int cli_read(const cli_command *self, const cli_syntax *syntax, int argc, char **argv)
{
    return read_arguments(self, syntax, NULL, NULL, argc, argv);
}

int cli_read_list(const cli_command *self, const cli_syntax *syntax, cli_list *list, int argc,
                  char **argv)
{
    return read_arguments(self, syntax, NULL, list, argc, argv);
}

int cli_read_two(const cli_command *self, const cli_syntax *syntax, const char *positional,
                 const char **value, int argc, char **argv)
{
    const cli_syntax second = {NULL, 0, positional, value, NULL};
    return read_arguments(self, syntax, &second, NULL, argc, argv);
}
