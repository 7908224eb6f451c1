/* describe.h -- in words: what a tensor holds, with its unit, and what a figure shows. */
#ifndef BF_RENDER_DESCRIBE_H
#define BF_RENDER_DESCRIBE_H

#include "backflow/render.h"
#include "base/buf.h"
#include "render/matrix.h"

/* Append the short name with its unit, "grad_norm (nats per unit)", and the formula in words.
 * Either may be NULL. */
void bf_describe_values(bf_buf *quantity, bf_buf *words, const bf_matrix *m,
                        const bf_record *record, const bf_heatmap_style *style);

/* Append "resid_pre · grad_norm" of a flow, else the tensor's name. */
void bf_describe_tensor(bf_buf *out, const bf_matrix *m);

/* Append " · layer 3 · head 1", or how the heads were put together. */
void bf_describe_place(bf_buf *out, const bf_matrix *m);

/* Append "kjv-1m · " if the record names its model. */
void bf_describe_model(bf_buf *out, const bf_record *record);

/* "loss", or "target" where the record has another one. */
const char *bf_describe_loss(const bf_record *record);
/* "nats", or "logits". */
const char *bf_describe_unit(const bf_record *record);

/* Write the LaTeX figure block beside a figure that bf_canvas_open agreed to: its path with the
 * ending .tex. The caption is
 * title, words (one sentence each), then model, N and the beginning of the text. All of it is
 * escaped; characters beyond ASCII are spelled so that any LaTeX sets them.
 * width  of the figure, points
 * BF_EIO; BF_ENOMEM. */
bf_code bf_describe_caption(const char *figure, double width, const char *title, const char *words,
                            const bf_record *record, bf_error *err);

#endif
