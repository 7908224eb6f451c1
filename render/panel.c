#include "render/panel.h"

#include <math.h>
#include <stdlib.h>

#include "render/bar.h"

enum { MAX_BOXES = 64 * 64 };       /* beyond, cells are one image */
static const double DASH_FROM = 3.0; /* points of a cell that has room for a dash */
static const double HATCH = 2.6, SHORTEST = 1.0; /* between lines; of a line that is drawn */
static const double VISIBLE = 0.04; /* of a scale: from there on a colour can be told from 0's */
static const uint32_t EDGE = 0x8a8a8a;

static uint32_t colour(const bf_panel *p, size_t r, size_t j)
{
    return bf_bar_rgb(p->range, p->palette, p->matrix->value[r * p->matrix->cols + j]);
}

/* Each box reaches half a cell under the next ones to its right and below, which cover it: where
 * two edges only met, viewers that smooth edges would let the ground shine through. */
static void draw_boxes(bf_canvas *canvas, const bf_panel *p)
{
    const bf_matrix *m = p->matrix;
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j <= m->i[r] && j < m->cols; j++) {
            const bool right = j < m->i[r] && j + 1 < m->cols;
            const bool below = r + 1 < m->rows && j <= m->i[r + 1];
            bf_canvas_box(canvas, p->x + (double)j * p->cell_w, p->y + (double)r * p->cell_h,
                          p->cell_w * (right ? 1.5 : 1), p->cell_h * (below ? 1.5 : 1),
                          colour(p, r, j));
        }
}

static bf_code draw_image(bf_canvas *canvas, const bf_panel *p, bf_error *err)
{
    const bf_matrix *m = p->matrix;
    uint32_t *rgb = calloc(m->rows * m->cols, sizeof *rgb);
    if (!rgb)
        return bf_fail(err, BF_ENOMEM, "cannot hold %zu by %zu cells", m->rows, m->cols);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j < m->cols; j++)
            rgb[r * m->cols + j] = j <= m->i[r] ? colour(p, r, j) : 0xffffff;
    bf_canvas_image(canvas, p->x, p->y, p->cell_w * (double)m->cols, p->cell_h * (double)m->rows,
                    rgb, m->rows, m->cols);
    free(rgb);
    return BF_OK;
}

/* The edge between what causality allows and what it does not: two points a row. */
static bf_code draw_edge(bf_canvas *canvas, const bf_panel *panel, bf_error *err)
{
    const bf_matrix *m = panel->matrix;
    double *p = calloc(2 * m->rows + 2, 2 * sizeof *p), *at = p;
    if (!p)
        return bf_fail(err, BF_ENOMEM, "cannot hold the outline of %zu rows", m->rows);
    *at++ = panel->x;
    *at++ = panel->y;
    for (size_t r = 0; r < m->rows; r++) {
        const double right = panel->x + (double)(m->i[r] + 1) * panel->cell_w;
        *at++ = right;
        *at++ = panel->y + (double)r * panel->cell_h;
        *at++ = right;
        *at++ = panel->y + (double)(r + 1) * panel->cell_h;
    }
    *at++ = panel->x;
    *at++ = panel->y + panel->cell_h * (double)m->rows;
    bf_canvas_lines(canvas, p, 2 * m->rows + 2, true,
                    fmin(0.35, fmax(0.15, 0.12 * panel->cell_w)), EDGE);
    free(p);
    return BF_OK;
}

/* ---- values below 0 */

/* Pieces of line in black and in white ink. */
typedef struct {
    bf_buf pieces[2];
} marks;

static void add_piece(marks *m, uint32_t rgb, double x0, double y0, double x1, double y1)
{
    const double piece[] = {x0, y0, x1, y1};
    bf_buf_bytes(&m->pieces[bf_palette_ink(rgb) == 0xffffff], piece, sizeof piece);
}

static bool is_below(const bf_panel *p, size_t r, size_t j)
{
    return p->matrix->value[r * p->matrix->cols + j] < 0;
}

/* Hatching what is next to nothing would look like something. */
static bool is_visibly_below(const bf_panel *p, size_t r, size_t j)
{
    const double v = p->matrix->value[r * p->matrix->cols + j];
    return v < 0 && bf_range_place(p->range, v) < 0.5 - VISIBLE;
}

static void add_dashes(marks *out, const bf_panel *p)
{
    const bf_matrix *m = p->matrix;
    const double half = 0.24 * fmin(fmin(p->cell_w, p->cell_h), 12);
    for (size_t r = 0; r < m->rows; r++)
        for (size_t j = 0; j <= m->i[r] && j < m->cols; j++)
            if (is_below(p, r, j)) {
                const double x = p->x + ((double)j + 0.5) * p->cell_w,
                             y = p->y + ((double)r + 0.5) * p->cell_h;
                add_piece(out, colour(p, r, j), x - half, y, x + half, y);
            }
}

/* One line of the hatching, x + y = c from the panel's corner, downwards from cell to cell: a piece
 * for each stretch of cells below 0 that take the same ink. */
static void add_hatch_line(marks *out, const bf_panel *p, double c)
{
    const bf_matrix *m = p->matrix;
    const double w = p->cell_w, h = p->cell_h, right = w * (double)m->cols;
    double y = fmax(0, c - right), from = -1;
    uint32_t rgb = 0;
    size_t r = (size_t)(y / h), j = (size_t)fmax(0, fmin((double)m->cols, ceil((c - y) / w)) - 1);
    for (;;) {
        const bool inside = r < m->rows && j < m->cols;
        const bool below = inside && j <= m->i[r] && is_visibly_below(p, r, j);
        const uint32_t here = below ? colour(p, r, j) : 0;
        if (from >= 0 && (!below || bf_palette_ink(here) != bf_palette_ink(rgb))) {
            if (y - from >= SHORTEST)
                add_piece(out, rgb, p->x + c - from, p->y + from, p->x + c - y, p->y + y);
            from = -1;
        }
        if (!inside)
            return;
        if (below && from < 0) {
            from = y;
            rgb = here;
        }
        const double down = (double)(r + 1) * h, left = c - (double)j * w;
        y = fmin(down, left);
        if (down <= left)
            r++;
        else if (j-- == 0)
            j = m->cols; /* out on the left */
    }
}

bool bf_panel_hatches(double cell_w, double cell_h)
{
    return fmin(cell_w, cell_h) < DASH_FROM;
}

static bf_code draw_marks(bf_canvas *canvas, const bf_panel *p, bf_error *err)
{
    const bool dashes = !bf_panel_hatches(p->cell_w, p->cell_h);
    marks found = {0};
    const double end = p->cell_w * (double)p->matrix->cols + p->cell_h * (double)p->matrix->rows;
    if (dashes)
        add_dashes(&found, p);
    for (double c = HATCH; !dashes && c < end; c += HATCH)
        add_hatch_line(&found, p, c);
    const bool failed = found.pieces[0].failed || found.pieces[1].failed;
    for (int white = 0; white < 2; white++) {
        if (!failed && found.pieces[white].len)
            bf_canvas_strokes(canvas, (const double *)(const void *)found.pieces[white].data,
                              found.pieces[white].len / (4 * sizeof(double)), dashes ? 0.5 : 0.3,
                              white ? 0xffffff : 0x000000);
        bf_buf_free(&found.pieces[white]);
    }
    return failed ? bf_fail(err, BF_ENOMEM, "cannot hold the marks of values below 0") : BF_OK;
}

bf_code bf_panel_draw(bf_canvas *canvas, const bf_panel *panel, bf_error *err)
{
    const bf_matrix *m = panel->matrix;
    bf_code rc = BF_OK;
    if (m->rows <= MAX_BOXES / m->cols)
        draw_boxes(canvas, panel);
    else
        rc = draw_image(canvas, panel, err);
    if (!rc && m->is_signed)
        rc = draw_marks(canvas, panel, err);
    return rc ? rc : draw_edge(canvas, panel, err);
}
