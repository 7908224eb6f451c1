/* matrix.h -- one layer and head of a tensor as a matrix: for flows loss down, position across. */
#ifndef BF_RENDER_MATRIX_H
#define BF_RENDER_MATRIX_H

#include <stdbool.h>
#include <stddef.h>

#include "backflow/record.h"
#include "backflow/render.h"

/* What an axis counts. */
typedef enum {
    BF_AXIS_LOSS,     /* number: the loss */
    BF_AXIS_QUERY,    /* the query's position */
    BF_AXIS_BLOCK,    /* the block of losses */
    BF_AXIS_LAYER,    /* of `layers` */
    BF_AXIS_LEVEL,    /* inputs of all layers, then the final norm's */
    BF_AXIS_POSITION,
    BF_AXIS_HEAD,
    BF_AXIS_LAG,      /* the lags of record-format.md's weight.W.lag */
    BF_AXIS_NUMBER    /* nothing that is known here */
} bf_axis;

/* How heads were put together. */
typedef enum { BF_TOGETHER_NORM, BF_TOGETHER_SUM, BF_TOGETHER_MEAN } bf_together;

typedef struct {
    size_t rows, cols;
    double *value;      /* [rows,cols]; finite, and 0 where j > i[row] */
    size_t *i;          /* [rows] the last column that a row can reach: of a causal model's loss
                           its own number */
    size_t *number;     /* [rows] which loss, query, block, layer a row is */
    bf_axis down, across;
    bool is_attn;       /* rows are queries, not losses */
    bool is_signed;     /* holds values below 0, or may */
    bool is_causal;     /* j > i[row] is empty */
    char tensor[BF_NAME_MAX];
    size_t shift;       /* the token that loss i is about is i + shift: 1, or 0 for masked tokens */
    size_t layer, head; /* the model's; (size_t)-1 if there is none, or for all heads as one */
    size_t heads;       /* that were put together; 0 if there is no such axis */
    bf_together together;
} bf_matrix;

/* Read what style selects as one matrix: layer, head, minus, by_row; lists of layers and heads are
 * not looked at. Everything about the tensors' shapes is checked.
 * out  filled; the caller frees with bf_matrix_free, also after a failure
 * BF_EARG no such tensor, layer or head (the message lists what there is), or records that cannot
 * be compared; BF_ESHAPE; BF_EFORMAT a value above the diagonal; BF_ENONFINITE; BF_ENOMEM. */
bf_code bf_matrix_select(bf_matrix *out, const bf_record *record, const bf_heatmap_style *style,
                         bf_error *err);
void bf_matrix_free(bf_matrix *matrix);

/* Matrices of equal shape, for small multiples. */
typedef struct {
    size_t layers, heads; /* 1 where style asks for one */
    bf_matrix *m;         /* [layers,heads] */
} bf_matrices;

/* The same for the lists of layers and heads. At most 1024, and 2^26 values.
 * out  bf_matrices_free, also after a failure.  Codes as above. */
bf_code bf_matrices_select(bf_matrices *out, const bf_record *record,
                           const bf_heatmap_style *style, bf_error *err);
void bf_matrices_free(bf_matrices *matrices);

/* The row of `i` values for a tensor whose loss axis has rows entries: from tensor `losses`, or
 * 0 to N-1.
 * i  [rows] out.  BF_ESHAPE, BF_EFORMAT. */
bf_code bf_matrix_losses(size_t *i, const bf_record *record, size_t rows, size_t N, bf_error *err);

/* The model's number of the k-th recorded layer of count (tensor `layers`). k < count.
 * BF_ESHAPE, BF_EFORMAT. */
bf_code bf_matrix_layer(size_t *layer, const bf_record *record, size_t k, size_t count,
                        bf_error *err);

#endif
