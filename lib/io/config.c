/* Reading config.json: a table of sizes with their bounds, a list of keys that
 * must be absent or harmless, and what is left. */
#include "io/config.h"

#include <string.h>

#include "io/config_keys.h"
#include "io/json.h"

const struct qrb__config_size qrb__config_sizes[QRB__CONFIG_SIZES] = {
    { "vocab_size", offsetof(qrb_engine_config, vocab), 1 << 24 },
    { "hidden_size", offsetof(qrb_engine_config, dim), 1 << 20 },
    { "intermediate_size", offsetof(qrb_engine_config, hidden), 1 << 24 },
    { "num_hidden_layers", offsetof(qrb_engine_config, layers), 1 << 14 },
    { "num_attention_heads", offsetof(qrb_engine_config, heads), 1 << 16 },
    { "num_key_value_heads", offsetof(qrb_engine_config, kv_heads), 1 << 16 },
    { "head_dim", offsetof(qrb_engine_config, head_dim), 1 << 16 },
    { "max_position_embeddings", offsetof(qrb_engine_config, context),
      1 << 24 },
};

const struct qrb__config_family qrb__config_families[QRB__CONFIG_FAMILIES] = {
    { "llama", "LlamaForCausalLM", 2048, QRB_ARCH_LLAMA, 0 },
    { "qwen2", "Qwen2ForCausalLM", 32768, QRB_ARCH_QWEN2, 1 },
};

enum { MAX_BYTES = 1 << 20, MAX_DEPTH = 16 };

static const struct qrb__json_limits limits = { MAX_BYTES, MAX_DEPTH, 1 };

/* True here means a network that is not built. */
static const char *const must_be_false[] = { "mlp_bias", "use_sliding_window" };

/* Anything but null here means weights or code that are not known. */
static const char *const must_be_absent[] = { "quantization_config",
                                              "auto_map" };

static size_t *field(qrb_engine_config *config, size_t i)
{
    return (size_t *)(void *)((char *)config + qrb__config_sizes[i].offset);
}

static bool in_range(double value, double min, double max)
{
    return value >= min && value <= max; /* false for NaN */
}

qrb_status qrb__config_complete(qrb_context *ctx, qrb_engine_config *config,
                                const char *name)
{
    if (config->head_dim == 0 && config->heads > 0) {
        if (config->dim % config->heads != 0)
            return qrb__fail(ctx, QRB_E_FORMAT,
                             "%s: hidden_size %zu is no multiple of "
                             "num_attention_heads %zu",
                             name, config->dim, config->heads);
        config->head_dim = config->dim / config->heads;
    }
    for (size_t i = 0; i < QRB__CONFIG_SIZES; i++) {
        const size_t value = *field(config, i);

        if (value < 1 || value > qrb__config_sizes[i].max)
            return qrb__fail(
                ctx, QRB_E_FORMAT, "%s: %s is %zu; 1 to %zu are allowed", name,
                qrb__config_sizes[i].key, value, qrb__config_sizes[i].max);
    }
    if (config->heads % config->kv_heads != 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: num_attention_heads %zu is no multiple of "
                         "num_key_value_heads %zu",
                         name, config->heads, config->kv_heads);
    if (config->head_dim % 2 != 0)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: head_dim is %zu; rotary pairs need an even one",
                         name, config->head_dim);
    if (!in_range(config->rms_epsilon, 1e-30, 1))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: rms_norm_eps is %g; 1e-30 to 1 are allowed", name,
                         config->rms_epsilon);
    if (!in_range(config->rope_theta, 1, 1e15))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: rope_theta is %g; 1 to 1e15 are allowed", name,
                         config->rope_theta);
    if (config->rotary > QRB_ROTARY_INTERLEAVED || config->tied_head > 1 ||
        config->qkv_bias > 1 ||
        (config->architecture != QRB_ARCH_LLAMA &&
         config->architecture != QRB_ARCH_QWEN2))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: architecture %u, rotary %u, tied_head %u, "
                         "qkv_bias %u are not all known",
                         name, config->architecture, config->rotary,
                         config->tied_head, config->qkv_bias);
    return QRB_OK;
}

/* The value of a key, or NULL where there is none or null. */
static json_t *look_up(json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);

    return json_is_null(value) ? NULL : value;
}

static qrb_status read_flag(qrb_context *ctx, json_t *root, const char *key,
                            const char *name, bool otherwise, bool *out)
{
    const json_t *value = look_up(root, key);

    *out = value == NULL ? otherwise : json_is_true(value);
    if (value != NULL && !json_is_boolean(value))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: %s is not true or false", name,
                         key);
    return QRB_OK;
}

static qrb_status read_number(qrb_context *ctx, json_t *object, const char *key,
                              const char *name, double otherwise, double *out)
{
    const json_t *value = look_up(object, key);

    *out = otherwise;
    if (value != NULL && !qrb__json_get_number(value, out))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: %s is not a number", name,
                         key);
    return QRB_OK;
}

static qrb_status read_sizes(qrb_context *ctx, json_t *root, const char *name,
                             const struct qrb__config_family *family,
                             qrb_engine_config *out)
{
    for (size_t i = 0; i < QRB__CONFIG_SIZES; i++) {
        const char *key = qrb__config_sizes[i].key;
        const json_t *value = look_up(root, key);
        uint64_t size;

        if (value != NULL) {
            if (!qrb__json_get_integer(value, 1, qrb__config_sizes[i].max,
                                       &size))
                return qrb__fail(ctx, QRB_E_FORMAT,
                                 "%s: %s: expected an integer from 1 to %zu",
                                 name, key, qrb__config_sizes[i].max);
            *field(out, i) = (size_t)size;
        }
    }
    if (out->kv_heads == 0)
        out->kv_heads = out->heads;
    if (out->context == 0)
        out->context = family->context;
    for (size_t i = 0; i < QRB__CONFIG_SIZES; i++)
        if (*field(out, i) == 0 && qrb__config_sizes[i].offset !=
                                       offsetof(qrb_engine_config, head_dim))
            return qrb__fail(ctx, QRB_E_FORMAT, "%s: %s is missing", name,
                             qrb__config_sizes[i].key);
    return QRB_OK;
}

/* model_type or the name of the class say the family; they agree if both are
 * there. */
static qrb_status read_family(qrb_context *ctx, json_t *root, const char *name,
                              const struct qrb__config_family **out)
{
    const json_t *type = look_up(root, "model_type");
    const json_t *classes = look_up(root, "architectures");
    const char *type_name = json_string_value(type);
    const char *class_name = json_string_value(json_array_get(classes, 0));

    if ((type != NULL && type_name == NULL) ||
        (classes != NULL &&
         (json_array_size(classes) != 1 || class_name == NULL)))
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: model_type is no string, or architectures is "
                         "not an array of one",
                         name);
    if (type == NULL && classes == NULL)
        return qrb__fail(ctx, QRB_E_FORMAT,
                         "%s: model_type and architectures are missing", name);
    for (size_t i = 0; i < QRB__CONFIG_FAMILIES; i++) {
        *out = &qrb__config_families[i];
        if ((type_name == NULL || strcmp(type_name, (*out)->type) == 0) &&
            (class_name == NULL || strcmp(class_name, (*out)->name) == 0))
            return QRB_OK;
    }
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "%s: model_type %.40s with architectures %.60s; known "
                     "are llama (LlamaForCausalLM) and qwen2 "
                     "(Qwen2ForCausalLM)",
                     name, type_name == NULL ? "missing" : type_name,
                     class_name == NULL ? "missing" : class_name);
}

static qrb_status fail_value(qrb_context *ctx, const char *name,
                             const char *key, const char *allowed)
{
    return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                     "%s: %s has a value that is not supported; %s", name, key,
                     allowed);
}

/* Rotary angles: plain ones only, of one theta. */
static qrb_status read_rotary(qrb_context *ctx, json_t *root, const char *name,
                              qrb_engine_config *out)
{
    static const char *const keys[] = { "rope_scaling", "rope_parameters" };
    double factor;
    qrb_status status =
        read_number(ctx, root, "rope_theta", name, 10000.0, &out->rope_theta);

    for (size_t i = 0; i < 2 && status == QRB_OK; i++) {
        json_t *object = look_up(root, keys[i]);
        const char *type;

        if (object == NULL)
            continue;
        if (!json_is_object(object))
            return qrb__fail(ctx, QRB_E_FORMAT, "%s: %s is not an object", name,
                             keys[i]);
        type = json_string_value(look_up(object, "rope_type"));
        if (type == NULL)
            type = json_string_value(look_up(object, "type"));
        if (type == NULL || strcmp(type, "default") != 0)
            return fail_value(ctx, name, keys[i],
                              "its type has to be \"default\"");
        status = read_number(ctx, object, "rope_theta", name, out->rope_theta,
                             &out->rope_theta);
    }
    if (status == QRB_OK)
        status =
            read_number(ctx, root, "partial_rotary_factor", name, 1, &factor);
    if (status == QRB_OK && factor != 1)
        return fail_value(ctx, name, "partial_rotary_factor", "1 is allowed");
    return status;
}

static qrb_status check_layer_types(qrb_context *ctx, json_t *root,
                                    const char *name)
{
    const json_t *types = look_up(root, "layer_types");
    const json_t *type;
    size_t i;

    if (types != NULL && !json_is_array(types))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: layer_types is not an array",
                         name);
    json_array_foreach (types, i, type)
        if (!json_is_string(type) ||
            strcmp(json_string_value(type), "full_attention") != 0)
            return fail_value(ctx, name, "layer_types",
                              "every one has to be \"full_attention\"");
    return QRB_OK;
}

/* What would change results and is not built. */
static qrb_status check_unsupported(qrb_context *ctx, json_t *root,
                                    const char *name,
                                    const struct qrb__config_family *family)
{
    const bool bias = family->qkv_bias != 0;
    const json_t *activation = look_up(root, "hidden_act");
    bool flag;
    qrb_status status;

    for (size_t i = 0; i < sizeof must_be_false / sizeof *must_be_false; i++) {
        status = read_flag(ctx, root, must_be_false[i], name, false, &flag);
        if (status != QRB_OK)
            return status;
        if (flag)
            return fail_value(ctx, name, must_be_false[i], "false is allowed");
    }
    for (size_t i = 0; i < sizeof must_be_absent / sizeof *must_be_absent; i++)
        if (look_up(root, must_be_absent[i]) != NULL)
            return fail_value(ctx, name, must_be_absent[i], "null is allowed");
    /* In Llama this key adds a bias to the output projection as well. */
    status = read_flag(ctx, root, "attention_bias", name, bias, &flag);
    if (status != QRB_OK)
        return status;
    if (flag != bias)
        return fail_value(ctx, name, "attention_bias",
                          bias ? "true is allowed in this family"
                               : "false is allowed in this family");
    if (activation != NULL && !json_is_string(activation))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s: hidden_act is not a string",
                         name);
    if (activation != NULL &&
        strcmp(json_string_value(activation), "silu") != 0)
        return fail_value(ctx, name, "hidden_act", "silu is allowed");
    return check_layer_types(ctx, root, name);
}

static qrb_status read_root(qrb_context *ctx, json_t *root, const char *name,
                            qrb_engine_config *out)
{
    const struct qrb__config_family *family;
    bool tied = false;
    qrb_status status;

    if (!json_is_object(root))
        return qrb__fail(ctx, QRB_E_FORMAT, "%s is not an object", name);
    status = read_family(ctx, root, name, &family);
    if (status == QRB_OK)
        status = check_unsupported(ctx, root, name, family);
    if (status == QRB_OK)
        status = read_sizes(ctx, root, name, family, out);
    if (status == QRB_OK)
        status = read_number(ctx, root, "rms_norm_eps", name, 1e-6,
                             &out->rms_epsilon);
    if (status == QRB_OK)
        status = read_rotary(ctx, root, name, out);
    if (status == QRB_OK)
        status =
            read_flag(ctx, root, "tie_word_embeddings", name, false, &tied);
    if (status != QRB_OK)
        return status;
    out->architecture = family->architecture;
    out->qkv_bias = family->qkv_bias;
    out->tied_head = tied;
    out->rotary = QRB_ROTARY_HALF;
    return qrb__config_complete(ctx, out, name);
}

qrb_status qrb__config_read(qrb_context *ctx, const struct qrb__source *source,
                            qrb_engine_config *out)
{
    qrb_engine_config config = QRB_ENGINE_CONFIG_INIT;
    const char *name = qrb__source_name(source);
    json_t *root = NULL;
    char *text = NULL;
    size_t size;
    qrb_status status = qrb__source_load(source, MAX_BYTES, &text, &size);

    if (status == QRB_OK)
        status = qrb__json_parse(ctx, text, size, &limits, name, &root);
    if (status == QRB_OK)
        status = read_root(ctx, root, name, &config);
    if (status == QRB_OK)
        *out = config;
    json_decref(root);
    qrb__free(ctx, text);
    return status;
}
