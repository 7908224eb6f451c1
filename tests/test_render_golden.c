/* Figures against golden pictures, coarsely: other fonts' versions must pass, other figures not. */
#include "figure_record.h"

enum { TILES = 12 };

/* Mean colours of a grid of tiles: other versions of fonts and libraries change them little. */
static void tile(double out[TILES * TILES][3], const picture *p)
{
    for (size_t t = 0; t < TILES * TILES; t++) {
        const size_t x0 = t % TILES * p->width / TILES, x1 = (t % TILES + 1) * p->width / TILES,
                     y0 = t / TILES * p->height / TILES, y1 = (t / TILES + 1) * p->height / TILES;
        for (int c = 0; c < 3; c++) {
            double sum = 0;
            for (size_t y = y0; y < y1; y++)
                for (size_t x = x0; x < x1; x++)
                    sum += p->rgb[y * p->width + x] >> (8 * c) & 255;
            out[t][c] = sum / (double)((x1 - x0) * (y1 - y0));
        }
    }
}

/* Root mean square over tiles and channels, of 255; or 255 where the sizes differ by over 6 %. */
static double distance(const char *a, const char *b)
{
    double x[TILES * TILES][3], y[TILES * TILES][3], sum = 0;
    picture p = read_png(a), q = read_png(b);
    const double wide = (double)p.width / (double)q.width,
                 high = (double)p.height / (double)q.height;
    tile(x, &p);
    tile(y, &q);
    for (size_t t = 0; t < TILES * TILES; t++)
        for (int c = 0; c < 3; c++)
            sum += (x[t][c] - y[t][c]) * (x[t][c] - y[t][c]);
    free(p.rgb);
    free(q.rgb);
    return fabs(wide - 1) > 0.06 || fabs(high - 1) > 0.06 ? 255 : sqrt(sum / (TILES * TILES * 3));
}

static void draw_golden(const bf_record *r, int which, const char *palette, const char *path)
{
    const bf_look look = {.dpi = 72, .palette = palette, .width_mm = which == 2 ? 183 : 89};
    bf_error err = {0};
    bf_code rc;
    if (which == 0) {
        bf_heatmap_style style = style_of("resid_pre");
        style.score = "grad_x_act";
        style.look = look;
        rc = bf_render_heatmap(r, &style, path, &err);
    } else if (which == 1) {
        bf_heatmap_style style = style_of("resid_pre");
        style.all_layers = true;
        style.scale = BF_SCALE_LOG;
        style.look = look;
        rc = bf_render_heatmap(r, &style, path, &err);
    } else if (which == 2) {
        const bf_profile_style style = {.layer = -1, .look = look};
        rc = bf_render_profile(&r, 1, &style, path, &err);
    } else {
        const bf_strip_style style = {.head = -1, .loss = 5, .source = -1, .look = look};
        rc = bf_render_strip(r, &style, path, &err);
    }
    if (rc)
        fail_msg("%s", err.msg);
}

/* With BACKFLOW_GOLDENS=write in the environment they are made anew. */
static void figures__look_like_the_golden_ones(void **state)
{
    (void)state;
    static const char *const names[] = {"signed", "panels", "profile", "strip"};
    const char *write = getenv("BACKFLOW_GOLDENS");
    bf_record *r = new_record(1);
    for (int k = 0; k < 4; k++) {
        char golden[64];
        snprintf(golden, sizeof golden, "tests/goldens/figures/%s.png", names[k]);
        if (write && !strcmp(write, "write"))
            draw_golden(r, k, NULL, golden);
        draw_golden(r, k, NULL, path_of("now.png"));
        const double d = distance(golden, path_of("now.png"));
        if (d > 6)
            fail_msg("%s: %.1f of 255 away from its golden picture", names[k], d);
        draw_golden(r, k, "magma", path_of("now.png")); /* the comparison can fail */
        assert_true(distance(golden, path_of("now.png")) > (k == 2 ? 1 : 6));
    }
    bf_record_free(r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(figures__look_like_the_golden_ones)};
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
