/* Well-formed UTF-8, one character at a time. */
#ifndef QRB_IO_UTF8_H
#define QRB_IO_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that text begins with, 1 to 4; 0 when the bytes
 * there are not well-formed (overlong forms, surrogates and values beyond
 * U+10FFFF included) or size is 0. */
size_t qrb__utf8_length(const char *text, size_t size);

/* The character of a well-formed sequence of `length` bytes. */
uint32_t qrb__utf8_decode(const char *text, size_t length);

/* Write a character, at most U+10FFFF: the number of bytes, 1 to 4. */
size_t qrb__utf8_encode(uint32_t code, char *out);

/* Bytes of the well-formed text that text begins with, at most size. */
size_t qrb__utf8_valid(const char *text, size_t size);

#endif
