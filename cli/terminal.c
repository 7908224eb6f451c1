#include "cli/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bf_code cli_parse_color(void *target, const char *value, bf_error *err)
{
    static const char *const names[] = {
        [CLI_COLOR_AUTO] = "auto", [CLI_COLOR_ALWAYS] = "always", [CLI_COLOR_NEVER] = "never"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++)
        if (strcmp(value, names[k]) == 0) {
            *(cli_color *)target = (cli_color)k;
            return BF_OK;
        }
    return bf_fail(err, BF_EARG, "\"%.100s\" is unknown, wanted auto, always or never", value);
}

size_t cli_show_options(cli_option *to, bool *show, cli_color *color)
{
    to[0] = (cli_option){"show", NULL, show, NULL,
                         "show a small heatmap and the tinted text in the\n"
                         "terminal"};
    to[1] = (cli_option){"color", cli_parse_color, color, "WHEN",
                         "of --show: auto, always or never (default: auto;\n"
                         "NO_COLOR and CLICOLOR_FORCE are obeyed)"};
    return 2;
}

static bool is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value;
}

static bool wants_colours(cli_color color)
{
    const char *term = getenv("TERM"), *force = getenv("CLICOLOR_FORCE");
    if (color != CLI_COLOR_AUTO)
        return color == CLI_COLOR_ALWAYS;
    if (is_set("NO_COLOR"))
        return false;
    if (is_set("CLICOLOR_FORCE") && strcmp(force, "0") != 0)
        return true;
    return isatty(STDOUT_FILENO) == 1 && term && *term && strcmp(term, "dumb") != 0;
}

static bf_terminal_colours colours(cli_color color)
{
    const char *depth = getenv("COLORTERM");
    if (!wants_colours(color))
        return BF_TERMINAL_PLAIN;
    return depth && (strcmp(depth, "truecolor") == 0 || strcmp(depth, "24bit") == 0)
               ? BF_TERMINAL_TRUE
               : BF_TERMINAL_256;
}

static size_t columns(void)
{
    struct winsize size = {0};
    const char *wanted = getenv("COLUMNS");
    size_t n = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col)
        return size.ws_col;
    return wanted && !cli_parse_count(&n, wanted, NULL) ? n : 80;
}

bf_code cli_show(const bf_record *record, cli_color color, bf_error *err)
{
    const bf_terminal_style style = {columns(), colours(color)};
    char *text = NULL;
    const bf_code rc = bf_render_terminal(&text, record, &style, err);
    if (!rc)
        fputs(text, stdout);
    free(text);
    return rc;
}
