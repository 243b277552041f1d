/* The byte-level alphabet of GPT-2 (Radford et al., 2019): the 188 bytes that
 * print stand for the characters of Latin-1 that they are, the other 68 for
 * U+0100 to U+0143 in order. */
#include "io/tokenizer.h"

enum { OTHERS_BEGIN = 0x100, OTHERS = 68 };

static int prints(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

uint32_t qrb__byte_to_character(unsigned char byte)
{
    if (prints(byte))
        return byte;
    if (byte <= 0x20)
        return OTHERS_BEGIN + byte; /* the first 33 */
    if (byte == 0xad)
        return OTHERS_BEGIN + OTHERS - 1; /* the last one */
    return OTHERS_BEGIN + 33u + (byte - 0x7fu);
}

int qrb__character_to_byte(uint32_t code)
{
    if (code < OTHERS_BEGIN)
        return prints(code) ? (int)code : -1;
    if (code >= OTHERS_BEGIN + OTHERS)
        return -1;
    code -= OTHERS_BEGIN;
    if (code < 33)
        return (int)code;
    return code == OTHERS - 1 ? 0xad : (int)(code - 33 + 0x7f);
}
