#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "backflow/model.h"
#include "model/files.h"

/* The one file of ours that sees OpenSSL. */
static bool finish(char out[65], EVP_MD_CTX *context)
{
    static const char hex[] = "0123456789abcdef";
    unsigned char digest[EVP_MAX_MD_SIZE];
    unsigned len = 0;
    if (EVP_DigestFinal_ex(context, digest, &len) != 1 || len != 32)
        return false;
    for (size_t k = 0; k < len; k++) {
        out[2 * k] = hex[digest[k] >> 4];
        out[2 * k + 1] = hex[digest[k] & 15];
    }
    out[64] = '\0';
    return true;
}

bf_code bf_files_sha256(char out[65], bf_safetensors *const *file, size_t n_files, bf_error *err)
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (size_t k = 0; k < n_files && ok; k++) {
        size_t n;
        const void *bytes = bf_safetensors_bytes(file[k], &n);
        ok = EVP_DigestUpdate(context, bytes, n) == 1;
    }
    ok = ok && finish(out, context);
    EVP_MD_CTX_free(context);
    return ok ? BF_OK : bf_fail(err, BF_ENOMEM, "cannot compute the SHA-256 of the weights");
}

bf_code bf_file_sha256(char out[65], const char *path, bf_error *err)
{
    unsigned char bytes[16384];
    struct stat st;
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return bf_fail(err, BF_EIO, "%.300s: no plain file", path); /* a pipe might never end */
    FILE *file = fopen(path, "rb");
    if (!file)
        return bf_fail(err, BF_EIO, "%.300s: cannot open: %s", path, strerror(errno));
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool ok = context && EVP_DigestInit_ex(context, EVP_sha256(), NULL) == 1;
    for (size_t n; ok && (n = fread(bytes, 1, sizeof bytes, file)) > 0;)
        ok = EVP_DigestUpdate(context, bytes, n) == 1;
    const bool broken = ferror(file) != 0;
    ok = ok && finish(out, context);
    EVP_MD_CTX_free(context);
    fclose(file);
    if (broken)
        return bf_fail(err, BF_EIO, "%.300s: cannot read: %s", path, strerror(errno));
    return ok ? BF_OK : bf_fail(err, BF_ENOMEM, "%.300s: cannot compute its SHA-256", path);
}
