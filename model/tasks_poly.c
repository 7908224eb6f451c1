/* tasks_poly.c -- F7[X]/(X^5): arithmetic, and expressions with their value:
 *
 *     <s> ( 1 0 0 2 6 * ( - 0 3 0 0 1 ) ) = c0 c1 c2 c3 c4
 *
 * A polynomial is its five coefficients, X^0 first. "f o g" is f(g), f taken as the polynomial of
 * degree < 5 that stands for its class. */
#include "model/tasks_parts.h"

enum { PRIME = 7, TERMS = 5 };

bf_poly bf_poly_negate(bf_poly a)
{
    for (size_t k = 0; k < TERMS; k++)
        a.c[k] = (uint8_t)((PRIME - a.c[k]) % PRIME);
    return a;
}

bf_poly bf_poly_add(bf_poly a, bf_poly b)
{
    for (size_t k = 0; k < TERMS; k++)
        a.c[k] = (uint8_t)((a.c[k] + b.c[k]) % PRIME);
    return a;
}

bf_poly bf_poly_times(bf_poly a, bf_poly b)
{
    bf_poly product = {{0}};
    for (size_t i = 0; i < TERMS; i++)
        for (size_t j = 0; i + j < TERMS; j++)
            product.c[i + j] = (uint8_t)((product.c[i + j] + a.c[i] * b.c[j]) % PRIME);
    return product;
}

/* Horner's rule. */
bf_poly bf_poly_compose(bf_poly f, bf_poly g)
{
    bf_poly value = {{0}};
    for (size_t k = TERMS; k-- > 0;) {
        value = bf_poly_times(value, g);
        value.c[0] = (uint8_t)((value.c[0] + f.c[k]) % PRIME);
    }
    return value;
}

static void put_poly(bf_tape *tape, bf_poly a, bool answer)
{
    for (size_t k = 0; k < TERMS; k++)
        bf_tape_put(tape, (size_t)BF_POLY_DIGIT + a.c[k], answer);
}

/* An expression with so many operations, each as likely as the others; the operands of a binary one
 * share out the rest evenly. Recursive: at most BF_POLY_MOST deep. */
static bf_poly put_expression(bf_tape *tape, size_t operations, bf_random *random)
{
    if (operations == 0) {
        bf_poly a;
        for (size_t k = 0; k < TERMS; k++)
            a.c[k] = (uint8_t)bf_random_below(random, PRIME);
        put_poly(tape, a, false);
        return a;
    }
    const size_t which = (size_t)BF_POLY_NEGATE + (size_t)bf_random_below(random, 4);
    bf_tape_put(tape, BF_POLY_OPEN, false);
    bf_poly value;
    if (which == BF_POLY_NEGATE) {
        bf_tape_put(tape, which, false);
        value = bf_poly_negate(put_expression(tape, operations - 1, random));
    } else {
        const size_t left = (size_t)bf_random_below(random, operations);
        const bf_poly a = put_expression(tape, left, random);
        bf_tape_put(tape, which, false);
        const bf_poly b = put_expression(tape, operations - 1 - left, random);
        value = which == BF_POLY_PLUS    ? bf_poly_add(a, b)
                : which == BF_POLY_TIMES ? bf_poly_times(a, b)
                                         : bf_poly_compose(a, b);
    }
    bf_tape_put(tape, BF_POLY_CLOSE, false);
    return value;
}

void bf_poly_put(bf_tape *tape, const bf_task_config *t, bf_random *random)
{
    const size_t operations = t->least + (size_t)bf_random_below(random, t->most - t->least + 1);
    bf_tape_put(tape, BF_WORD_START, false);
    const bf_poly value = put_expression(tape, operations, random);
    bf_tape_put(tape, BF_POLY_EQUALS, false);
    put_poly(tape, value, true);
}
