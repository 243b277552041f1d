/* Bytes of the host: a safetensors file that is read through a callback. */
#include "snippet.h"

#include <string.h>

/* [begin read_at] */
struct bytes {
    const unsigned char *at;
    size_t size;
};

/* The library asks for ranges inside the size that it was told. */
static int read_at(uint64_t offset, void *out, size_t size, void *user)
{
    const struct bytes *bytes = user;

    memcpy(out, bytes->at + offset, size);
    return 0; /* anything else: QRB_E_CALLBACK */
}
/* [end read_at] */

int main(int argc, char **argv)
{
    static unsigned char buffer[4096];
    qrb_context *ctx;
    FILE *stream;
    struct bytes bytes = { buffer, 0 };

    if (argc != 2)
        return 2;
    must(NULL, qrb_context_create(NULL, &ctx));
    /* [begin write] */
    float w[2][3] = { { 1, 2, 3 }, { 4, 5, 6 } };
    qrb_tensor_options shape = QRB_TENSOR_OPTIONS_INIT;
    qrb_tensor *matrix;

    shape.memory = w;
    shape.rank = 2;
    shape.shape[0] = 2;
    shape.shape[1] = 3;
    must(ctx, qrb_tensor_create(ctx, &shape, &matrix));
    must(ctx, qrb_safetensors_write(ctx, argv[1],
                                    &(qrb_named_tensor){ "fc1", matrix }, 1,
                                    NULL, 0));
    /* [end write] */
    stream = fopen(argv[1], "rb");
    if (stream == NULL)
        return 1;
    bytes.size = fread(buffer, 1, sizeof buffer, stream);
    fclose(stream);
    memset(w, 0, sizeof w);

    /* [begin read] */
    qrb_source source = QRB_SOURCE_INIT;
    qrb_safetensors *file;

    source.read_at = read_at;
    source.read_at_user = &bytes;
    source.size = bytes.size;
    must(ctx, qrb_safetensors_open(ctx, &source, &file));
    must(ctx, qrb_safetensors_read(file, qrb_safetensors_find(file, "fc1"),
                                   matrix));
    qrb_safetensors_close(file);
    printf("fc1[1][2] = %g\n", (double)w[1][2]);

    /* Files are hostile until they are checked. */
    source.size -= 1;
    qrb_status status = qrb_safetensors_open(ctx, &source, &file);
    printf("%s: %s\n", qrb_status_name(status), qrb_context_message(ctx));
    /* [end read] */
    qrb_tensor_destroy(matrix);
    qrb_context_destroy(ctx);
    return 0;
}
