/* Growing text: appending is O(1) amortised. */
#include "io/text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/growing.h"

void qrb__text_append(struct qrb__text *text, const char *bytes, size_t size)
{
    size_t needed;
    char *grown = NULL;

    if (text->failed)
        return;
    if (qrb__add_size(text->size, size, &needed) &&
        qrb__add_size(needed, 1, &needed))
        grown = qrb__grow(text->ctx, text->bytes, &text->capacity, text->size,
                          needed, 1);
    if (grown == NULL) {
        text->failed = true;
        return;
    }
    text->bytes = grown;
    if (size > 0)
        memcpy(text->bytes + text->size, bytes, size);
    text->size += size;
    text->bytes[text->size] = '\0';
}

void qrb__text_print(struct qrb__text *text, const char *format, ...)
{
    char piece[256];
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof piece)
        text->failed = true;
    else
        qrb__text_append(text, piece, (size_t)length);
}

void qrb__text_json_string(struct qrb__text *text, const char *bytes,
                           size_t size)
{
    size_t plain = 0; /* begin of what needs no escape */

    qrb__text_append(text, "\"", 1);
    for (size_t i = 0; i < size; i++) {
        const unsigned char c = (unsigned char)bytes[i];

        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        qrb__text_append(text, bytes + plain, i - plain);
        plain = i + 1;
        if (c == '"' || c == '\\')
            qrb__text_print(text, "\\%c", c);
        else if (c == '\n')
            qrb__text_append(text, "\\n", 2);
        else
            qrb__text_print(text, "\\u%04x", c);
    }
    qrb__text_append(text, bytes + plain, size - plain);
    qrb__text_append(text, "\"", 1);
}

void qrb__text_json_number(struct qrb__text *text, double value)
{
    char printed[64];
    char number[72];
    size_t length = 0;

    if (value == floor(value) && fabs(value) < 1e15) {
        snprintf(printed, sizeof printed, "%.1f", value);
    } else {
        for (int digits = 1; digits <= 17; digits++) {
            snprintf(printed, sizeof printed, "%.*g", digits, value);
            if (strtod(printed, NULL) == value)
                break;
        }
    }
    /* What is neither digit, sign nor exponent is the locale's point, which
     * may have several bytes. */
    for (const char *c = printed; *c != '\0'; c++) {
        const bool point = strchr("0123456789+-e", *c) == NULL;

        if (point && length > 0 && number[length - 1] == '.')
            continue;
        number[length++] = point ? '.' : *c;
    }
    qrb__text_append(text, number, length);
}

qrb_status qrb__text_status(const struct qrb__text *text, const char *what)
{
    if (text->failed)
        return qrb__fail(text->ctx, QRB_E_NO_MEMORY, "text of %s", what);
    return QRB_OK;
}

void qrb__text_release(struct qrb__text *text)
{
    qrb__free(text->ctx, text->bytes);
    *text = (struct qrb__text){ .ctx = text->ctx };
}
