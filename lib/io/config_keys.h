/* Keys of config.json that its reader and its writer share. */
#ifndef QRB_IO_CONFIG_KEYS_H
#define QRB_IO_CONFIG_KEYS_H

#include <stddef.h>
#include <stdint.h>

enum { QRB__CONFIG_SIZES = 8, QRB__CONFIG_FAMILIES = 2 };

/* A size, 1 to max, at an offset of qrb_engine_config. */
struct qrb__config_size {
    const char *key;
    size_t offset;
    size_t max;
};

struct qrb__config_family {
    const char *type; /* model_type */
    const char *name; /* of the class, in architectures */
    size_t context;   /* where max_position_embeddings is missing */
    uint32_t architecture;
    uint32_t qkv_bias;
};

extern const struct qrb__config_size qrb__config_sizes[QRB__CONFIG_SIZES];
extern const struct qrb__config_family
    qrb__config_families[QRB__CONFIG_FAMILIES];

#endif
