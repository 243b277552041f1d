/* A prompt suite: JSON object of category -> list of texts. */
#include <string.h>

#include "quickstart.h"

/* Appends one prompt's tokens, with a beginning token where there is one. */
static int append(struct cli *cli, const qrb_tokenizer *tokenizer,
                  const char *text, size_t *used, size_t capacity,
                  struct prompts *prompts)
{
    int32_t *ids = NULL;
    size_t count = 0;

    if (qrb_tokenizer_encode_document(tokenizer, text, strlen(text), &ids,
                                      &count) != QRB_OK)
        return cli_library_error(cli, "prompt");
    if (count > capacity - *used) {
        qrb_free(cli->ctx, ids);
        return cli_error(cli, "prompts: more than %zu tokens", capacity);
    }
    memcpy(prompts->tokens + *used, ids, count * sizeof *ids);
    qrb_free(cli->ctx, ids);
    prompts->lengths[prompts->count++] = count;
    *used += count;
    return CLI_OK;
}

/* Bytes and number of all prompts; a token is at least a byte, and each
 * prompt may gain one in front. */
static int count_prompts(struct cli *cli, const char *path, json_t *suite,
                         size_t *prompts_out, size_t *tokens_out)
{
    const char *category;
    const json_t *list;
    const json_t *text;
    size_t i;

    *prompts_out = 0;
    *tokens_out = 0;
    json_object_foreach(suite, category, list) {
        json_array_foreach(list, i, text) {
            if (!json_is_string(text))
                return cli_error(cli, "%s: %s[%zu] is no text", path,
                                 category, i);
            *tokens_out += json_string_length(text) + 2;
            ++*prompts_out;
        }
    }
    if (*prompts_out == 0)
        return cli_error(cli, "%s: found no prompts, expected an object of "
                              "lists of texts",
                         path);
    return CLI_OK;
}

int prompts_open(struct cli *cli, const qrb_tokenizer *tokenizer,
                 const char *path, struct prompts *out)
{
    struct prompts made = { NULL, NULL, 0 };
    json_error_t error;
    json_t *suite = json_load_file(path, JSON_REJECT_DUPLICATES, &error);
    const char *category;
    const json_t *list;
    const json_t *text;
    size_t prompts = 0;
    size_t capacity = 0;
    size_t used = 0;
    size_t i;
    int status;

    if (suite == NULL)
        return cli_error(cli, "%s: line %d: %s", path, error.line,
                         error.text);
    status = count_prompts(cli, path, suite, &prompts, &capacity);
    if (status != CLI_OK)
        goto out;
    made.tokens = cli_alloc(cli, capacity, sizeof *made.tokens);
    made.lengths = cli_alloc(cli, prompts, sizeof *made.lengths);
    if (made.tokens == NULL || made.lengths == NULL) {
        status = cli_error(cli, "no memory for %zu prompts", prompts);
        goto out;
    }
    json_object_foreach(suite, category, list) {
        json_array_foreach(list, i, text) {
            status = append(cli, tokenizer, json_string_value(text), &used,
                            capacity, &made);
            if (status != CLI_OK)
                goto out;
        }
    }
    *out = made;
    memset(&made, 0, sizeof made);
out:
    json_decref(suite);
    prompts_close(cli, &made);
    return status;
}

void prompts_close(struct cli *cli, struct prompts *prompts)
{
    cli_free(cli, prompts->tokens);
    cli_free(cli, prompts->lengths);
}
