/* Text files, whole, and their tokens. */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "cli.h"

char *cli_read_text(struct cli *cli, const char *path, size_t *size_out)
{
    FILE *file = fopen(path, "rb");
    struct stat stat;
    char *text = NULL;
    size_t size;

    if (file == NULL || fstat(fileno(file), &stat) != 0) {
        cli_error(cli, "%s: %s", path, strerror(errno));
        goto out;
    }
    if (!S_ISREG(stat.st_mode) || stat.st_size == 0) {
        cli_error(cli, "%s: found %s, expected a text file", path,
                  S_ISREG(stat.st_mode) ? "an empty file" : "no plain file");
        goto out;
    }
    size = (size_t)stat.st_size;
    text = cli_alloc(cli, size, 1);
    if (text == NULL) {
        cli_error(cli, "%s: no memory for %zu bytes", path, size);
        goto out;
    }
    if (fread(text, 1, size, file) != size) {
        cli_error(cli, "%s: could not read all of its %zu bytes", path, size);
        cli_free(cli, text);
        text = NULL;
        goto out;
    }
    *size_out = size;
out:
    if (file != NULL)
        fclose(file);
    return text;
}

int cli_tokenize(struct cli *cli, const qrb_tokenizer *tokenizer,
                 const char *path, struct cli_tokens *out)
{
    size_t size = 0;
    char *text = cli_read_text(cli, path, &size);
    qrb_status status;

    if (text == NULL)
        return CLI_FAILED;
    qrb_sha256_hex(text, size, out->digest);
    status = qrb_tokenizer_encode_document(tokenizer, text, size, &out->ids,
                                           &out->count);
    cli_free(cli, text);
    if (status != QRB_OK)
        return cli_library_error(cli, path);
    if (out->count < 2)
        return cli_error(cli, "%s: found %zu tokens, expected at least 2",
                         path, out->count);
    return CLI_OK;
}
