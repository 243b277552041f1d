/* Checked access to what is optional nearly everywhere. */
#include "io/tokenizer_field.h"

#include <string.h>

const char *qrb__field_type(const json_t *part)
{
    const char *type;

    if (part == NULL || json_is_null(part))
        return "null";
    type = json_string_value(json_object_get(part, "type"));
    return type == NULL ? "?" : type;
}

qrb_status qrb__field_bool(qrb_context *ctx, const json_t *part,
                           const char *where, const char *name, bool *out)
{
    const json_t *value = json_object_get(part, name);

    if (value == NULL || json_is_null(value))
        return QRB_OK;
    if (!json_is_boolean(value))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s.%s: expected true or false",
                         where, name);
    *out = json_is_true(value);
    return QRB_OK;
}

qrb_status qrb__field_string(qrb_context *ctx, const json_t *part,
                             const char *where, const char *name,
                             const char **out)
{
    const json_t *value = json_object_get(part, name);

    if (value == NULL || json_is_null(value))
        return QRB_OK;
    if (!json_is_string(value))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s.%s: expected a string", where,
                         name);
    *out = json_string_value(value);
    return QRB_OK;
}

qrb_status qrb__field_sequence(qrb_context *ctx, const json_t *part,
                               const char *where, const char *name, size_t max,
                               size_t *count_out)
{
    const json_t *list = json_object_get(part, name);

    *count_out = 0;
    if (part == NULL || json_is_null(part))
        return QRB_OK;
    if (!json_is_object(part))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: expected an object or null",
                         where);
    *count_out = 1;
    if (strcmp(qrb__field_type(part), "Sequence") != 0)
        return QRB_OK;
    if (!json_is_array(list))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s.%s: expected a list", where,
                         name);
    if (json_array_size(list) > max)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s.%s has %zu parts, at most %zu are supported",
                         where, name, json_array_size(list), max);
    for (size_t i = 0; i < json_array_size(list); i++)
        if (strcmp(qrb__field_type(json_array_get(list, i)), "Sequence") == 0)
            return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                             "%s.%s[%zu]: a sequence in a sequence", where,
                             name, i);
    *count_out = json_array_size(list);
    return QRB_OK;
}

const json_t *qrb__field_sequence_part(const json_t *part, const char *name,
                                       size_t index)
{
    return strcmp(qrb__field_type(part), "Sequence") == 0
               ? json_array_get(json_object_get(part, name), index)
               : part;
}

qrb_status qrb__field_unsupported(qrb_context *ctx, const json_t *part,
                                  const char *where)
{
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "%s: a part of type \"%.60s\" with these settings is "
                     "not supported",
                     where, qrb__field_type(part));
}
