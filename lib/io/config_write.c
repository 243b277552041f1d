/* Writing config.json, keys in order. */
#include <string.h>

#include "io/config.h"
#include "io/config_keys.h"
#include "io/text.h"
#include "io/writer.h"

static const char *torch_name(uint32_t dtype)
{
    switch (dtype) {
    case QRB_F64:
        return "float64";
    case QRB_F32:
        return "float32";
    case QRB_F16:
        return "float16";
    case QRB_BF16:
        return "bfloat16";
    default:
        return NULL;
    }
}

static const struct qrb__config_family *find_family(
    const qrb_engine_config *config)
{
    for (size_t i = 0; i < QRB__CONFIG_FAMILIES; i++)
        if (qrb__config_families[i].architecture == config->architecture)
            return &qrb__config_families[i];
    return NULL;
}

static qrb_status check_expressible(qrb_context *ctx, const char *path,
                                    const qrb_engine_config *config,
                                    uint32_t dtype)
{
    if (torch_name(dtype) == NULL)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: weights of type %s have no name there", path,
                         qrb_dtype_name(dtype));
    if (config->rotary != QRB_ROTARY_HALF)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: only the half-split rotary order can be written",
                         path);
    if (find_family(config)->qkv_bias != config->qkv_bias)
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "%s: %s %s biases of q, k and v", path,
                         find_family(config)->name,
                         config->qkv_bias ? "has no" : "always has");
    return QRB_OK;
}

static void print_size(struct qrb__text *text, const char *key, size_t value)
{
    qrb__text_print(text, "  \"%s\": %zu,\n", key, value);
}

static void print_number(struct qrb__text *text, const char *key, double value)
{
    qrb__text_print(text, "  \"%s\": ", key);
    qrb__text_json_number(text, value);
    qrb__text_print(text, ",\n");
}

static void print_config(struct qrb__text *text,
                         const qrb_engine_config *config, uint32_t dtype)
{
    const struct qrb__config_family *family = find_family(config);

    qrb__text_print(text, "{\n  \"architectures\": [\n    \"%s\"\n  ],\n",
                    family->name);
    if (family->qkv_bias == 0)
        qrb__text_print(text, "  \"attention_bias\": false,\n");
    print_size(text, "head_dim", config->head_dim);
    qrb__text_print(text, "  \"hidden_act\": \"silu\",\n");
    print_size(text, "hidden_size", config->dim);
    print_size(text, "intermediate_size", config->hidden);
    print_size(text, "max_position_embeddings", config->context);
    qrb__text_print(text, "  \"model_type\": \"%s\",\n", family->type);
    print_size(text, "num_attention_heads", config->heads);
    print_size(text, "num_hidden_layers", config->layers);
    print_size(text, "num_key_value_heads", config->kv_heads);
    print_number(text, "rms_norm_eps", config->rms_epsilon);
    print_number(text, "rope_theta", config->rope_theta);
    qrb__text_print(text, "  \"tie_word_embeddings\": %s,\n",
                    config->tied_head ? "true" : "false");
    qrb__text_print(text, "  \"torch_dtype\": \"%s\",\n", torch_name(dtype));
    qrb__text_print(text, "  \"vocab_size\": %zu\n}\n", config->vocab);
}

qrb_status qrb__config_write(qrb_context *ctx, const char *path,
                             const qrb_engine_config *config, uint32_t dtype)
{
    struct qrb__text text = { .ctx = ctx };
    qrb_engine_config complete = *config;
    qrb_status status = qrb__config_complete(ctx, &complete, path);

    if (status == QRB_OK)
        status = check_expressible(ctx, path, &complete, dtype);
    if (status != QRB_OK)
        return status;
    print_config(&text, &complete, dtype);
    status = qrb__text_status(&text, path);
    if (status == QRB_OK)
        status = qrb__write_file(ctx, path, text.bytes, text.size);
    qrb__text_release(&text);
    return status;
}
