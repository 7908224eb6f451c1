/* stamp.h -- what a figure's file says about itself, put into finished bytes and read back.
 *
 *   PNG   iTXt chunks after the header: Title, Description, Software, and "backflow"
 *   SVG   <title>, <desc> and <metadata id="backflow"> first in the <svg>
 *   PDF   an incremental update with a new Info dictionary: Title, Subject, Keywords, Creator
 *
 * The provenance stands in "backflow", <metadata>, Keywords. It works for files of Cairo's, of ours
 * and of Graphviz's; dates of creation are blanked, so that the same figure is the same bytes. */
#ifndef BF_RENDER_STAMP_H
#define BF_RENDER_STAMP_H

#include "backflow/error.h"
#include "base/buf.h"

typedef enum {
    BF_FORMAT_NONE, BF_FORMAT_PNG, BF_FORMAT_SVG, BF_FORMAT_PDF, BF_FORMAT_DOT
} bf_format;

/* By the path's ending, in any case; BF_FORMAT_NONE if it is none of them. */
bf_format bf_format_of(const char *path);

/* All borrowed, any may be NULL. */
typedef struct {
    const char *title;
    const char *about;      /* a sentence: what is drawn */
    const char *provenance; /* bf_look */
} bf_stamp;

/* Stamp the bytes (which change; of BF_FORMAT_DOT they do not) and write them to path.
 * BF_EIO; BF_ENOMEM; BF_EFORMAT bytes that are no such file. */
bf_code bf_stamp_write(const char *path, bf_buf *bytes, bf_format format, const bf_stamp *stamp,
                       bf_error *err);

/* Append text as XML's character data: & < > and quotes escaped, what XML forbids as U+FFFD. */
void bf_stamp_escape(bf_buf *out, const char *text, size_t len);

#endif
