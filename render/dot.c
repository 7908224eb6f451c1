/* dot.c -- cgraph for the graph, gvc for its pictures.
 *
 * The engine nop2 keeps all places as they are given, edges included; the graph names it in its
 * attribute `layout`, so that `dot` draws a written DOT file the same way. */
#include "render/dot.h"

#include <ctype.h>
#include <graphviz/cgraph.h>
#include <graphviz/gvc.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static const double TIP = 2; /* points from a curve's end to its tip */

struct bf_dot {
    Agraph_t *graph;
    bool failed; /* out of memory */
};

/* Graphviz is full of globals and remembers, from one picture to the next, a font name that belongs
 * to its context (plugin pango, 2.43: freed memory is read if the context goes). So there is one
 * context for as long as the process lives, and one thread at a time: from bf_dot_new to
 * bf_dot_free. */
static struct {
    pthread_mutex_t lock;
    GVC_t *context;
} graphviz = {.lock = PTHREAD_MUTEX_INITIALIZER};

bf_code bf_dot_new(bf_dot **out, bf_error *err)
{
    char name[] = "flow";
    bf_dot *dot = calloc(1, sizeof *dot);
    pthread_mutex_lock(&graphviz.lock);
    if (!graphviz.context)
        graphviz.context = gvContext();
    if (dot && graphviz.context)
        dot->graph = agopen(name, Agdirected, NULL);
    if (!dot || !dot->graph) {
        pthread_mutex_unlock(&graphviz.lock);
        free(dot);
        return bf_fail(err, BF_ENOMEM, "cannot make a graph");
    }
    *out = dot;
    return BF_OK;
}

void bf_dot_free(bf_dot *dot)
{
    if (!dot)
        return;
    agclose(dot->graph);
    pthread_mutex_unlock(&graphviz.lock);
    free(dot);
}

bf_dot_thing *bf_dot_graph(bf_dot *dot)
{
    return dot->graph;
}

/* Older headers of cgraph take char * for strings that they only read. */
static void set(bf_dot *dot, bf_dot_thing *thing, const char *attribute, const char *value)
{
    char none[] = "";
    if (thing && !dot->failed)
        agsafeset(thing, (char *)attribute, (char *)value, none);
}

bf_dot_thing *bf_dot_node(bf_dot *dot, const char *name, double x, double y)
{
    Agnode_t *node = agnode(dot->graph, (char *)name, 1);
    dot->failed = dot->failed || !node;
    bf_dot_set(dot, node, "pos", "%.2f,%.2f", x, y);
    return node;
}

bf_dot_thing *bf_dot_edge(bf_dot *dot, bf_dot_thing *from, bf_dot_thing *to, const char *key,
                          const double p[8], bool tip)
{
    Agedge_t *edge = from && to ? agedge(dot->graph, from, to, (char *)key, 1) : NULL;
    char end[48] = "";
    dot->failed = dot->failed || !edge;
    if (tip)
        snprintf(end, sizeof end, "e,%.2f,%.2f ", p[6], p[7]);
    bf_dot_set(dot, edge, "pos", "%s%.2f,%.2f %.2f,%.2f %.2f,%.2f %.2f,%.2f", end, p[0], p[1], p[2],
               p[3], p[4], p[5], p[6], tip ? p[7] + TIP : p[7]);
    if (tip)
        bf_dot_set(dot, edge, "arrowhead", "tee");
    return edge;
}

void bf_dot_set(bf_dot *dot, bf_dot_thing *thing, const char *attribute, const char *format, ...)
{
    char value[400];
    va_list args;
    va_start(args, format);
    vsnprintf(value, sizeof value, format, args);
    va_end(args);
    set(dot, thing, attribute, value);
}

void bf_dot_set_default(bf_dot *dot, bool of_edges, const char *attribute, const char *value)
{
    agattr(dot->graph, of_edges ? AGEDGE : AGNODE, (char *)attribute, (char *)value);
}

/* Does text, which starts with '&', look like an entity: "&amp;", "&#38;", "&#x26;"? */
static bool is_entity(const char *text)
{
    size_t n = 1;
    while (isalnum((unsigned char)text[n]) || text[n] == '#')
        n++;
    return n > 1 && text[n] == ';';
}

/* Backslashes are doubled. Graphviz replaces entities when it reads a label and leaves them alone
 * when it writes SVG, so no escape survives both: an invisible U+2060 (word joiner) breaks
 * them up. */
void bf_dot_show(bf_dot *dot, bf_dot_thing *thing, const char *attribute, const char *text,
                 char justify)
{
    bf_buf value = {0};
    for (const char *c = text; *c; c++) {
        if (*c == '\n')
            bf_buf_printf(&value, "\\%c", justify);
        else if (*c == '\\')
            bf_buf_text(&value, "\\\\");
        else
            bf_buf_bytes(&value, c, 1);
        if (*c == '&' && is_entity(c))
            bf_buf_text(&value, "\xE2\x81\xA0");
    }
    if (value.failed)
        dot->failed = true;
    else
        set(dot, thing, attribute, value.data ? value.data : "");
    bf_buf_free(&value);
}

static int keep_quiet(char *message)
{
    (void)message; /* the library never prints; what matters comes back as a failure */
    return 0;
}

static bf_code draw(bf_buf *out, bf_dot *dot, const char *format, bf_error *err)
{
    GVC_t *gvc = graphviz.context;
    char *bytes = NULL;
    unsigned len = 0;
    bf_code rc = BF_OK;
    if (gvLayout(gvc, dot->graph, "nop2"))
        rc = bf_fail(err, BF_EUNSUPPORTED,
                     "Graphviz has no layout engine nop2; is the package graphviz "
                     "installed?");
    else if (gvRenderData(gvc, dot->graph, format, &bytes, &len) || !bytes || !len)
        rc = bf_fail(err, BF_EUNSUPPORTED,
                     "Graphviz cannot write %s; is the package graphviz installed?", format);
    else
        bf_buf_bytes(out, bytes, len);
    gvFreeRenderData(bytes);
    gvFreeLayout(gvc, dot->graph);
    return !rc && out->failed ? bf_fail(err, BF_ENOMEM, "cannot hold %u bytes of %s", len, format)
                              : rc;
}

bf_code bf_dot_save(bf_dot *dot, bf_format format, const char *path, const bf_stamp *stamp,
                    bf_error *err)
{
    static const char *const names[] = {
        [BF_FORMAT_PNG] = "png:cairo", [BF_FORMAT_SVG] = "svg:svg", [BF_FORMAT_PDF] = "pdf:cairo",
        [BF_FORMAT_DOT] = "dot",
    };
    bf_buf bytes = {0};
    if (dot->failed)
        return bf_fail(err, BF_ENOMEM, "cannot hold the graph");
    set(dot, dot->graph, "layout", "nop2");
    const agerrlevel_t level = agseterr(AGMAX);
    const agusererrf report = agseterrf(keep_quiet);
    bf_code rc = draw(&bytes, dot, names[format], err);
    agseterrf(report);
    agseterr(level);
    if (!rc)
        rc = bf_stamp_write(path, &bytes, format, stamp, err);
    bf_buf_free(&bytes);
    return rc;
}
