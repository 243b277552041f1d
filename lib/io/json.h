/* The gate in front of jansson, and exact values out of it. */
#ifndef QRB_IO_JSON_H
#define QRB_IO_JSON_H

#include <jansson.h>

#include "core/context.h"

struct qrb__json_limits {
    size_t size;  /* bytes of text */
    size_t depth; /* of nested objects and arrays */
    /* Bytes of text for each object or array, at least, beyond the first 16
     * of them.  A parsed object weighs some 200 bytes, so that megabytes of
     * "{}" would become gigabytes. */
    size_t bytes_per_container;
};

/* Depth 8 and 100 MB, as for the header of a safetensors file. */
extern const struct qrb__json_limits qrb__json_header_limits;

/* Parse text after its size, its depth and its number of containers have been
 * checked, so that no input makes jansson recurse deeply.  Duplicate keys, NUL
 * in keys and strings, bad UTF-8, numbers beyond int64 or double and anything
 * behind the value are errors.
 *
 * `name` is for messages.  Release the value with json_decref().
 * Returns QRB_OK; QRB_E_FORMAT (says where); QRB_E_NO_MEMORY. */
qrb_status qrb__json_parse(qrb_context *ctx, const char *text, size_t size,
                           const struct qrb__json_limits *limits,
                           const char *name, json_t **out);

/* An exact integer between the bounds: false for 1.0, true, "1" and NULL. */
bool qrb__json_get_integer(const json_t *value, uint64_t min, uint64_t max,
                           uint64_t *out);

/* A finite number, with or without fraction. */
bool qrb__json_get_number(const json_t *value, double *out);

#endif
