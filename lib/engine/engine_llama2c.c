/* Weights out of a llama2.c checkpoint, by the last part of their names. */
#include <string.h>

#include "engine/engine.h"
#include "io/llama2c.h"

/* Names within a block, and outside of blocks. */
static const struct {
    const char *name;
    enum qrb__llama2c_weight weight;
} names[] = {
    { "model.embed_tokens.weight", QRB__LLAMA2C_EMBEDDING },
    { "input_layernorm.weight", QRB__LLAMA2C_ATTENTION_NORM },
    { "self_attn.q_proj.weight", QRB__LLAMA2C_Q },
    { "self_attn.k_proj.weight", QRB__LLAMA2C_K },
    { "self_attn.v_proj.weight", QRB__LLAMA2C_V },
    { "self_attn.o_proj.weight", QRB__LLAMA2C_O },
    { "post_attention_layernorm.weight", QRB__LLAMA2C_FFN_NORM },
    { "mlp.gate_proj.weight", QRB__LLAMA2C_GATE },
    { "mlp.down_proj.weight", QRB__LLAMA2C_DOWN },
    { "mlp.up_proj.weight", QRB__LLAMA2C_UP },
    { "model.norm.weight", QRB__LLAMA2C_FINAL_NORM },
    { "lm_head.weight", QRB__LLAMA2C_HEAD },
};

qrb_status qrb__engine_read_llama2c(const struct qrb__llama2c *checkpoint,
                                    const struct qrb__engine_parameter *p,
                                    const struct qrb__view *target)
{
    const size_t length = strlen(p->name);
    size_t i = 0;

    /* The last of a name decides; every parameter of Llama is in the table. */
    for (;; i++) {
        const size_t end = strlen(names[i].name);

        if (end <= length && strcmp(p->name + length - end, names[i].name) == 0)
            break;
    }
    return qrb__llama2c_read(checkpoint, names[i].weight,
                             p->layer < 0 ? 0 : (size_t)p->layer, target);
}
