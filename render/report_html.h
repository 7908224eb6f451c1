/* report_html.h -- small pieces of HTML: everything that comes from a record is escaped here. */
#ifndef BF_RENDER_REPORT_HTML_H
#define BF_RENDER_REPORT_HTML_H

#include <stddef.h>

#include "backflow/record.h"
#include "base/buf.h"

/* Text as it is, for content and attributes: <, >, &, quotes as entities; controls and direction
 * marks as what they are called; bytes that are no UTF-8 as U+FFFD. */
void bf_html_text(bf_buf *out, const char *text);
/* Controls and direction marks as what they are called, bytes that are no UTF-8 as U+FFFD, and
 * nothing escaped: for text that is quoted in another way. */
void bf_html_visible(bf_buf *out, const char *text);
/* The label of token k (render/text.h) inside <bdi>, so that it turns nothing around it. */
void bf_html_token(bf_buf *out, const bf_record *record, size_t k);
/* The same for an attribute: no element, but the isolating characters U+2068 and U+2069. */
void bf_html_token_attribute(bf_buf *out, const bf_record *record, size_t k);
/* The class "aNN", NN 0 to 20, of a tint as deep as x, 0 to 1. */
int bf_html_tint(double x);
/* A number in three digits; a part of a whole as "12 %". */
void bf_html_number(bf_buf *out, double value);
void bf_html_percent(bf_buf *out, double part);

#endif
