/* embed.c -- files as C arrays, each with its SHA-256 as a Content-Security-Policy wants it.
 *
 *     embed NAME=FILE ... >assets.c        NAME becomes `const bf_page_asset bf_page_NAME`
 *
 * Run by the Makefile. A file that would end the element it is put into is refused. */
#include <openssl/sha.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char *read_file(const char *path, size_t *n)
{
    FILE *f = fopen(path, "rb");
    char *bytes = NULL;
    long end = -1;
    if (f && !fseek(f, 0, SEEK_END) && (end = ftell(f)) >= 0 && (bytes = malloc((size_t)end + 1))) {
        rewind(f);
        *n = fread(bytes, 1, (size_t)end, f);
        bytes[*n] = '\0';
    }
    if (f)
        fclose(f);
    return end >= 0 && bytes && *n == (size_t)end ? bytes : NULL;
}

static void print_base64(const unsigned char *b, size_t n)
{
    static const char set[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t k = 0; k < n; k += 3) {
        const unsigned v = (unsigned)b[k] << 16 | (k + 1 < n ? (unsigned)b[k + 1] << 8 : 0u) |
                           (k + 2 < n ? (unsigned)b[k + 2] : 0u);
        putchar(set[v >> 18]);
        putchar(set[v >> 12 & 63]);
        putchar(k + 1 < n ? set[v >> 6 & 63] : '=');
        putchar(k + 2 < n ? set[v & 63] : '=');
    }
}

/* Would the file, as an element's content, end that element or begin a comment in it? */
static int breaks_out(const char *name, const char *text)
{
    const char *what = strstr(name, "js") ? "</script" : strstr(name, "css") ? "</style" : NULL;
    return what && (strstr(text, what) || strstr(text, "<!--"));
}

static int embed(const char *name, const char *path)
{
    unsigned char hash[SHA256_DIGEST_LENGTH];
    size_t n = 0;
    char *text = read_file(path, &n);
    if (!text || strlen(text) != n || breaks_out(name, text)) {
        fprintf(stderr, "embed: %s: %s\n", path,
                text ? "holds a NUL, the end of its element, or <!--" : "cannot read");
        free(text);
        return 1;
    }
    SHA256((const unsigned char *)text, n, hash);
    printf("static const char %s[] = {", name);
    for (size_t k = 0; k < n; k++)
        printf("%s%d,", k % 20 ? "" : "\n", (signed char)text[k]);
    printf("0};\nconst bf_page_asset bf_page_%s = {%s, %zu, \"", name, name, n);
    print_base64(hash, sizeof hash);
    printf("\"};\n");
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;
    printf("#include \"render/page_assets.h\"\n");
    for (int k = 1; k < argc && !failed; k++) {
        char *eq = strchr(argv[k], '=');
        if (!eq)
            return 1;
        *eq = '\0';
        failed = embed(argv[k], eq + 1);
    }
    return failed;
}
