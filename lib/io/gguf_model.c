/* Two tables: names of tensors, and keys of the configuration. */
#include "io/gguf_model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/config.h"

enum { KEY = 64 };

static const char layers[] = "model.layers.";
static const char blocks[] = "blk.";

/* Names outside of blocks. */
static const struct {
    const char *parameter;
    const char *name;
} whole_names[] = {
    { "model.embed_tokens.weight", "token_embd.weight" },
    { "model.norm.weight", "output_norm.weight" },
    { "lm_head.weight", "output.weight" },
};

/* Names within a block, without ".weight" and ".bias". */
static const struct {
    const char *parameter;
    const char *name;
} block_names[] = {
    { "input_layernorm", "attn_norm" },
    { "self_attn.q_proj", "attn_q" },
    { "self_attn.k_proj", "attn_k" },
    { "self_attn.v_proj", "attn_v" },
    { "self_attn.o_proj", "attn_output" },
    { "post_attention_layernorm", "ffn_norm" },
    { "mlp.gate_proj", "ffn_gate" },
    { "mlp.up_proj", "ffn_up" },
    { "mlp.down_proj", "ffn_down" },
};

static const struct {
    uint32_t architecture;
    bool interleaves;
    const char *name;
} families[] = { { QRB_ARCH_LLAMA, true, "llama" },
                 { QRB_ARCH_QWEN2, false, "qwen2" } };
enum { FAMILIES = sizeof families / sizeof *families };

/* A size of the configuration. */
static const struct {
    const char *key; /* behind the architecture */
    size_t offset;
    bool optional;
} sizes[] = {
    { "block_count", offsetof(qrb_engine_config, layers), false },
    { "context_length", offsetof(qrb_engine_config, context), false },
    { "embedding_length", offsetof(qrb_engine_config, dim), false },
    { "feed_forward_length", offsetof(qrb_engine_config, hidden), false },
    { "attention.head_count", offsetof(qrb_engine_config, heads), false },
    { "attention.head_count_kv", offsetof(qrb_engine_config, kv_heads), true },
    { "attention.key_length", offsetof(qrb_engine_config, head_dim), true },
};
enum { SIZES = sizeof sizes / sizeof *sizes };

static size_t *field(qrb_engine_config *config, size_t i)
{
    return (size_t *)(void *)((char *)config + sizes[i].offset);
}

/* Behind "model.layers." or "blk.": the layer's number, as it stands there,
 * and what comes behind its dot. */
static const char *split_layer(const char *name, const char *begin,
                               char layer[12])
{
    const size_t length = strlen(begin);
    size_t digits;

    if (strncmp(name, begin, length) != 0)
        return NULL;
    digits = strspn(name + length, "0123456789");
    if (digits == 0 || digits > 9 || name[length + digits] != '.')
        return NULL;
    memcpy(layer, name + length, digits);
    layer[digits] = '\0';
    return name + length + digits + 1;
}

/* ".weight" or ".bias" where `name` begins with `base`, else NULL. */
static const char *kind_of(const char *name, const char *base)
{
    const size_t length = strlen(base);

    if (strncmp(name, base, length) != 0 ||
        (strcmp(name + length, ".weight") != 0 &&
         strcmp(name + length, ".bias") != 0))
        return NULL;
    return name + length;
}

bool qrb__gguf_name(const char *parameter, char out[QRB__GGUF_NAME_MAX + 1])
{
    char layer[12];
    const char *rest = split_layer(parameter, layers, layer);

    for (size_t i = 0; i < sizeof whole_names / sizeof *whole_names; i++)
        if (strcmp(parameter, whole_names[i].parameter) == 0) {
            strcpy(out, whole_names[i].name);
            return true;
        }
    for (size_t i = 0;
         rest != NULL && i < sizeof block_names / sizeof *block_names; i++) {
        const char *kind = kind_of(rest, block_names[i].parameter);

        if (kind != NULL) {
            snprintf(out, QRB__GGUF_NAME_MAX + 1, "%s%s.%s%s", blocks, layer,
                     block_names[i].name, kind);
            return true;
        }
    }
    return false;
}

bool qrb__gguf_parameter(const char *name, char out[QRB__PARAMETER_NAME])
{
    char layer[12];
    const char *rest = split_layer(name, blocks, layer);

    for (size_t i = 0; i < sizeof whole_names / sizeof *whole_names; i++)
        if (strcmp(name, whole_names[i].name) == 0) {
            strcpy(out, whole_names[i].parameter);
            return true;
        }
    for (size_t i = 0;
         rest != NULL && i < sizeof block_names / sizeof *block_names; i++) {
        const char *kind = kind_of(rest, block_names[i].name);

        if (kind != NULL) {
            snprintf(out, QRB__PARAMETER_NAME, "%s%s.%s%s", layers, layer,
                     block_names[i].parameter, kind);
            return true;
        }
    }
    return false;
}

bool qrb__gguf_interleaves(uint32_t architecture)
{
    for (size_t i = 0; i < FAMILIES; i++)
        if (families[i].architecture == architecture)
            return families[i].interleaves;
    return false;
}

static const char *key_of(const char *family, const char *key, char out[KEY])
{
    snprintf(out, KEY, "%s.%s", family, key);
    return out;
}

static qrb_status fail_key(const struct qrb__gguf *file, const char *key,
                           const char *allowed)
{
    return qrb__fail(file->ctx, QRB_E_UNSUPPORTED,
                     "%s: %s has a value that is not supported; %s",
                     qrb__source_name(file->source), key, allowed);
}

/* A number that changes results unless it is `plain` or not there. */
static qrb_status check_plain(const struct qrb__gguf *file, const char *family,
                              const char *name, double plain)
{
    char key[KEY];
    char allowed[64];
    double value = plain;
    const qrb_status status =
        qrb__gguf_get_real(file, key_of(family, name, key), &value);

    if (status != QRB_OK || value == plain)
        return status;
    snprintf(allowed, sizeof allowed, "%g is allowed", plain);
    return fail_key(file, key, allowed);
}

/* What would change results and is not built. */
static qrb_status check_unsupported(const struct qrb__gguf *file,
                                    const char *family,
                                    const qrb_engine_config *config)
{
    const struct {
        const char *key;
        double plain;
    } plain[] = {
        { "rope.dimension_count", (double)config->head_dim },
        { "attention.value_length", (double)config->head_dim },
        { "rope.scale_linear", 1 },
        { "rope.scaling.factor", 1 },
        { "attention.sliding_window", 0 },
        { "expert_count", 0 },
    };
    char scaling[32] = "none";
    char key[KEY];
    qrb_status status = QRB_OK;

    for (size_t i = 0; status == QRB_OK && i < sizeof plain / sizeof *plain;
         i++)
        status = check_plain(file, family, plain[i].key, plain[i].plain);
    if (status == QRB_OK)
        status = qrb__gguf_get_text(
            file, key_of(family, "rope.scaling.type", key), sizeof scaling,
            scaling);
    if (status == QRB_OK && strcmp(scaling, "none") != 0)
        return fail_key(file, key, "\"none\" is allowed");
    return status;
}

static qrb_status read_sizes(const struct qrb__gguf *file, const char *family,
                             qrb_engine_config *out)
{
    char key[KEY];

    for (size_t i = 0; i < SIZES; i++) {
        uint64_t value = 0;
        const qrb_status status = qrb__gguf_get_count(
            file, key_of(family, sizes[i].key, key), UINT32_MAX, &value);

        if (status != QRB_OK)
            return status;
        if (value == 0 && !sizes[i].optional)
            return qrb__fail(file->ctx, QRB_E_FORMAT, "%s: %s is missing or 0",
                             qrb__source_name(file->source), key);
        *field(out, i) = (size_t)value;
    }
    if (out->kv_heads == 0)
        out->kv_heads = out->heads;
    return QRB_OK;
}

/* A real of the configuration.  Where the file has a float, the shortest
 * decimal that is that float: 1e-5 rounded to a float means 1e-5. */
static qrb_status read_real(const struct qrb__gguf *file, const char *key,
                            double *out)
{
    const struct qrb__gguf_value *value = qrb__gguf_find(file, key);
    const qrb_status status = qrb__gguf_get_real(file, key, out);
    const float real = (float)*out;

    if (status != QRB_OK || value == NULL || value->type != QRB__GGUF_FLOAT)
        return status;
    for (int digits = 1; digits <= 9; digits++) {
        char text[32];
        double decimal;

        snprintf(text, sizeof text, "%.*e", digits - 1, (double)real);
        decimal = strtod(text, NULL);
        if ((float)decimal == real) {
            *out = decimal;
            break;
        }
    }
    return QRB_OK;
}

/* What the tensors say. */
static qrb_status look_at_tensors(const struct qrb__gguf *file,
                                  qrb_engine_config *out)
{
    const struct qrb__gguf_tensor *embedding =
        qrb__gguf_find_tensor(file, "token_embd.weight");

    if (embedding == NULL || embedding->rank != 2)
        return qrb__fail(file->ctx, QRB_E_FORMAT,
                         "%s: token_embd.weight is missing or no matrix",
                         qrb__source_name(file->source));
    out->vocab = embedding->shape[0];
    out->tied_head = qrb__gguf_find_tensor(file, "output.weight") == NULL;
    out->qkv_bias = qrb__gguf_find_tensor(file, "blk.0.attn_q.bias") != NULL;
    return QRB_OK;
}

qrb_status qrb__gguf_config(const struct qrb__gguf *file,
                            qrb_engine_config *out)
{
    const qrb_engine_config initial = QRB_ENGINE_CONFIG_INIT;
    const char *source = qrb__source_name(file->source);
    char family[32] = "";
    char key[KEY];
    size_t i = 0;
    qrb_status status = qrb__gguf_get_text(file, "general.architecture",
                                           sizeof family, family);

    if (status != QRB_OK)
        return status;
    while (i < FAMILIES && strcmp(family, families[i].name) != 0)
        i++;
    if (i == FAMILIES)
        return qrb__fail(file->ctx, QRB_E_UNSUPPORTED,
                         "%s: general.architecture is \"%s\"; known are llama "
                         "and qwen2",
                         source, family);
    *out = initial;
    out->architecture = families[i].architecture;
    out->rotary = families[i].interleaves ? QRB_ROTARY_INTERLEAVED
                                          : QRB_ROTARY_HALF;
    status = read_sizes(file, family, out);
    if (status == QRB_OK)
        status = read_real(
            file, key_of(family, "attention.layer_norm_rms_epsilon", key),
            &out->rms_epsilon);
    if (status == QRB_OK)
        status = read_real(file, key_of(family, "rope.freq_base", key),
                           &out->rope_theta);
    if (status == QRB_OK)
        status = look_at_tensors(file, out);
    if (status == QRB_OK)
        status = qrb__config_complete(file->ctx, out, source);
    if (status == QRB_OK)
        status = check_unsupported(file, family, out);
    return status;
}

qrb_status qrb__gguf_put_config(qrb_context *ctx,
                                struct qrb__gguf_writer *writer,
                                const qrb_engine_config *config)
{
    qrb_engine_config complete = *config;
    const char *family = NULL;
    char key[KEY];

    for (size_t i = 0; i < FAMILIES; i++)
        if (families[i].architecture == config->architecture)
            family = families[i].name;
    if (family == NULL || (config->architecture == QRB_ARCH_QWEN2 &&
                           !config->qkv_bias))
        return qrb__fail(ctx, QRB_E_UNSUPPORTED,
                         "GGUF has no name for architecture %u %s biases of "
                         "q, k and v",
                         config->architecture,
                         config->qkv_bias ? "with" : "without");
    qrb__gguf_put_text(writer, "general.architecture", family);
    for (size_t i = 0; i < SIZES; i++)
        qrb__gguf_put_u32(writer, key_of(family, sizes[i].key, key),
                          (uint32_t)*field(&complete, i));
    qrb__gguf_put_u32(writer, key_of(family, "attention.value_length", key),
                      (uint32_t)config->head_dim);
    qrb__gguf_put_u32(writer, key_of(family, "rope.dimension_count", key),
                      (uint32_t)config->head_dim);
    qrb__gguf_put_u32(writer, key_of(family, "vocab_size", key),
                      (uint32_t)config->vocab);
    qrb__gguf_put_float(
        writer, key_of(family, "attention.layer_norm_rms_epsilon", key),
        (float)config->rms_epsilon);
    qrb__gguf_put_float(writer, key_of(family, "rope.freq_base", key),
                        (float)config->rope_theta);
    return QRB_OK;
}
