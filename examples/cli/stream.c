/* Text of tokens as they come, in whole characters.  What a token adds is what
 * the text of the last few tokens is longer by: decoders join and strip at the
 * beginning of what they are given. */
#include <string.h>

#include "cli.h"

/* Whether more bytes may make a character of what the text ends with. */
static bool may_become_one(const char *text, size_t left)
{
    const unsigned char lead = (unsigned char)text[0];
    const size_t size = lead >= 0xf0   ? 4
                        : lead >= 0xe0 ? 3
                        : lead >= 0xc2 ? 2
                                       : 1;

    for (size_t i = 1; i < left; i++)
        if (((unsigned char)text[i] & 0xc0) != 0x80)
            return false;
    return left < size;
}

/* Room for `count` bytes more and an end. */
static int make_room(struct cli_stream *stream, size_t count)
{
    const size_t wanted = 2 * (stream->size + count) + 64;
    char *grown;

    if (stream->size + count < stream->capacity)
        return CLI_OK;
    grown = cli_alloc(stream->cli, wanted, 1);
    if (grown == NULL)
        return cli_error(stream->cli, "no memory for the text");
    if (stream->size > 0)
        memcpy(grown, stream->text, stream->size);
    cli_free(stream->cli, stream->text);
    stream->text = grown;
    stream->capacity = wanted;
    return CLI_OK;
}

/* Print whole characters, and U+FFFD for a byte that is no part of one. */
static void print(struct cli_stream *stream, bool end)
{
    while (stream->printed < stream->size) {
        const char *at = stream->text + stream->printed;
        const size_t left = stream->size - stream->printed;
        const size_t size = cli_character(at);

        if (size == 0 && !end && may_become_one(at, left))
            break;
        if (stream->out != NULL)
            fwrite(size > 0 ? at : "\xef\xbf\xbd", 1, size > 0 ? size : 3,
                   stream->out);
        stream->printed += size > 0 ? size : 1;
    }
    if (stream->out != NULL)
        fflush(stream->out);
}

static int take(struct cli_stream *stream, const char *bytes, size_t count)
{
    const int status = make_room(stream, count);

    if (status != CLI_OK)
        return status;
    memcpy(stream->text + stream->size, bytes, count);
    stream->size += count;
    stream->text[stream->size] = '\0';
    print(stream, false);
    return CLI_OK;
}

int cli_stream_add(struct cli_stream *stream, const int32_t *ids, size_t count)
{
    char *text = NULL;
    size_t size = 0;
    size_t own = 0;
    int status;

    if (qrb_tokenizer_decode(stream->tokenizer, ids + stream->anchor,
                             count - stream->anchor, &text, &size) != QRB_OK)
        return cli_library_error(stream->cli, "text of the tokens");
    status = take(stream, text + stream->shown, size - stream->shown);
    qrb_free(stream->cli->ctx, text);
    stream->shown = size;
    if (status != CLI_OK)
        return status;
    /* The next text begins with this token, if it has a text of its own. */
    if (qrb_tokenizer_decode(stream->tokenizer, ids + count - 1, 1, &text,
                             &own) != QRB_OK)
        return cli_library_error(stream->cli, "text of the tokens");
    qrb_free(stream->cli->ctx, text);
    if (own > 0) {
        stream->anchor = count - 1;
        stream->shown = own;
    }
    return CLI_OK;
}

void cli_stream_end(struct cli_stream *stream)
{
    print(stream, true);
    if (stream->out != NULL && stream->size > 0 &&
        stream->text[stream->size - 1] != '\n')
        fputc('\n', stream->out);
}

void cli_stream_release(struct cli_stream *stream)
{
    cli_free(stream->cli, stream->text);
    stream->text = NULL;
}
