/* The index of a sharded directory, beside two shards that are right. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fuzz.h"

static char directory[64];

static void put(const char *name, const void *bytes, size_t size)
{
    char path[128];
    FILE *file;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "wb");
    FUZZ_CHECK(file != NULL);
    FUZZ_CHECK(fwrite(bytes, 1, size, file) == size);
    FUZZ_CHECK(fclose(file) == 0);
}

static void remove_directory(void)
{
    static const char *const names[] = { "one.safetensors", "two.safetensors",
                                         "model.safetensors.index.json" };
    char path[128];

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static void make_directory(void)
{
    static const char *const tensors[] = { "a", "b" };
    static const char *const files[] = { "one.safetensors", "two.safetensors" };

    strcpy(directory, access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    strcat(directory, "/qrobust-fuzz-XXXXXX");
    FUZZ_CHECK(mkdtemp(directory) != NULL);
    atexit(remove_directory);
    for (int i = 0; i < 2; i++) {
        char shard[128] = "";
        const int length = snprintf(
            shard + 8, sizeof shard - 8,
            "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}",
            tensors[i]);

        shard[0] = (char)length; /* the other seven are zero */
        put(files[i], shard, 8 + (size_t)length + 4);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    qrb_context *ctx = fuzz_context();
    qrb_safetensors *file;
    qrb_status status;

    if (directory[0] == '\0')
        make_directory();
    put("model.safetensors.index.json",
        bytes == NULL ? (const void *)"" : bytes, size);
    status = qrb_safetensors_open_directory(ctx, directory, &file);
    if (status == QRB_OK) {
        const size_t count = qrb_safetensors_count(file);

        FUZZ_CHECK(count == 1 || count == 2);
    } else {
        FUZZ_CHECK(file == NULL);
        fuzz_check_refusal(ctx, status);
    }
    qrb_safetensors_close(file);
    qrb_context_destroy(ctx);
    return 0;
}
