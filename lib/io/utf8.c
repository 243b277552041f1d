/* Table 3-7 of the Unicode standard: which bytes may follow which.  O(1) a
 * character. */
#include "io/utf8.h"

size_t qrb__utf8_length(const char *text, size_t size)
{
    const unsigned char *b = (const unsigned char *)text;
    unsigned low = 0x80;
    unsigned high = 0xbf;
    size_t length;

    if (size == 0)
        return 0;
    if (b[0] < 0x80)
        return 1;
    if (b[0] < 0xc2 || b[0] > 0xf4)
        return 0;
    length = b[0] < 0xe0 ? 2 : b[0] < 0xf0 ? 3 : 4;
    if (length > size)
        return 0;
    if (b[0] == 0xe0)
        low = 0xa0;
    else if (b[0] == 0xed)
        high = 0x9f;
    else if (b[0] == 0xf0)
        low = 0x90;
    else if (b[0] == 0xf4)
        high = 0x8f;
    if (b[1] < low || b[1] > high)
        return 0;
    for (size_t i = 2; i < length; i++)
        if ((b[i] & 0xc0) != 0x80)
            return 0;
    return length;
}

uint32_t qrb__utf8_decode(const char *text, size_t length)
{
    const unsigned char *b = (const unsigned char *)text;
    uint32_t code = b[0];

    if (length > 1)
        code &= 0x7fu >> length;
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (b[i] & 0x3fu);
    return code;
}

size_t qrb__utf8_encode(uint32_t code, char *out)
{
    const size_t length = code < 0x80      ? 1
                          : code < 0x800   ? 2
                          : code < 0x10000 ? 3
                                           : 4;
    static const unsigned char lead[5] = { 0, 0, 0xc0, 0xe0, 0xf0 };

    for (size_t i = length - 1; i > 0; i--) {
        out[i] = (char)(0x80 | (code & 0x3f));
        code >>= 6;
    }
    out[0] = (char)(lead[length] | code);
    return length;
}

size_t qrb__utf8_valid(const char *text, size_t size)
{
    size_t at = 0;

    while (at < size) {
        const size_t length = qrb__utf8_length(text + at, size - at);

        if (length == 0)
            break;
        at += length;
    }
    return at;
}
