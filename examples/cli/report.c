/* Figures for programs: one JSON object with stable keys. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

size_t cli_character(const char *bytes)
{
    const unsigned char *text = (const unsigned char *)bytes;
    const unsigned char lead = text[0];
    const size_t size = lead < 0x80                   ? 1
                        : lead >= 0xc2 && lead < 0xe0 ? 2
                        : lead >= 0xe0 && lead < 0xf0 ? 3
                        : lead >= 0xf0 && lead < 0xf5 ? 4
                                                      : 0;

    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    /* Longer than needed, a surrogate, or beyond the last code point. */
    if ((lead == 0xe0 && text[1] < 0xa0) || (lead == 0xed && text[1] > 0x9f) ||
        (lead == 0xf0 && text[1] < 0x90) || (lead == 0xf4 && text[1] > 0x8f))
        return 0;
    return size;
}

json_t *cli_json_bytes(const char *text, size_t length)
{
    static const char replacement[] = "\xef\xbf\xbd";
    size_t used = 0;
    char *valid;
    json_t *string;

    if (length > (SIZE_MAX - 1) / 3)
        return NULL;
    valid = malloc(3 * length + 1);
    if (valid == NULL)
        return NULL;
    for (size_t i = 0; i < length;) {
        const size_t size = text[i] == '\0' ? 0 : cli_character(text + i);

        memcpy(valid + used, size > 0 ? text + i : replacement,
               size > 0 ? size : 3);
        used += size > 0 ? size : 3;
        i += size > 0 ? size : 1;
    }
    string = json_stringn(valid, used);
    free(valid);
    return string;
}

json_t *cli_json_text(const char *text)
{
    return cli_json_bytes(text, strlen(text));
}

int cli_report(struct cli *cli, json_t *object)
{
    char *text = NULL;
    size_t length;
    int status = CLI_OK;

    if (object == NULL)
        return cli_error(cli, "no memory for the report");
    if (cli->json != NULL) {
        text = json_dumps(object, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
        length = text == NULL ? 0 : strlen(text);
        if (text != NULL)
            text[length] = '\n'; /* a file ends with a line end */
        if (text == NULL)
            status = cli_error(cli, "no memory for the report");
        else if (qrb_file_write(cli->ctx, cli->json, text, length + 1) !=
                 QRB_OK)
            status = cli_library_error(cli, cli->json);
    }
    free(text);
    json_decref(object);
    return status;
}
