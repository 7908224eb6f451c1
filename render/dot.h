/* dot.h -- the one door to Graphviz: nodes and edges at fixed places, into one file.
 *
 * Places are in points, y upwards. Nothing fails on the way: bf_dot_save reports the first trouble.
 * One graph at a time: bf_dot_new waits until another thread's graph was freed, and a thread that
 * has one must not ask for a second. */
#ifndef BF_RENDER_DOT_H
#define BF_RENDER_DOT_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/error.h"
#include "render/stamp.h"

typedef struct bf_dot bf_dot;
typedef void bf_dot_thing; /* the graph, a node or an edge; owned by the graph */

/* out  owned by the caller (bf_dot_free); untouched on failure.  BF_ENOMEM. */
bf_code bf_dot_new(bf_dot **out, bf_error *err);
void bf_dot_free(bf_dot *dot); /* NULL-safe */

bf_dot_thing *bf_dot_graph(bf_dot *dot);
/* A node of a name that is plain ASCII and not used yet, with its middle at (x,y). */
bf_dot_thing *bf_dot_node(bf_dot *dot, const char *name, double x, double y);
/* A curve with the end points (p[0],p[1]) and (p[6],p[7]) and the control points between. Edges
 * that join the same nodes need keys that differ (plain ASCII). With tip, a short bar ends it. */
bf_dot_thing *bf_dot_edge(bf_dot *dot, bf_dot_thing *from, bf_dot_thing *to, const char *key,
                          const double p[8], bool tip);

/* Set an attribute; Graphviz reads escapes in those that are shown. */
#if defined(__GNUC__)
__attribute__((format(printf, 4, 5)))
#endif
void bf_dot_set(bf_dot *dot, bf_dot_thing *thing, const char *attribute, const char *format, ...);
/* What nodes (or edges) have that do not say otherwise; before the first of them is made. */
void bf_dot_set_default(bf_dot *dot, bool of_edges, const char *attribute, const char *value);
/* Set an attribute to text that is shown as it is: backslashes and entities mean nothing. Its lines
 * end with '\n'; justify is 'l', 'r' or 'n' (middle). */
void bf_dot_show(bf_dot *dot, bf_dot_thing *thing, const char *attribute, const char *text,
                 char justify);

/* Draw, stamp and write. BF_EUNSUPPORTED Graphviz lacks a plugin; BF_EIO; BF_ENOMEM. */
bf_code bf_dot_save(bf_dot *dot, bf_format format, const char *path, const bf_stamp *stamp,
                    bf_error *err);

#endif
