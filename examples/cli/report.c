/* Figures for programs: one JSON object with stable keys. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

json_t *cli_json_number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
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
