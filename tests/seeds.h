/* Files that break the rules of reading, and some that keep them: the tests
 * of the rules open each, and the fuzzers start from them. */
#ifndef TESTS_SEEDS_H
#define TESTS_SEEDS_H

#include <stddef.h>
#include <stdint.h>

#include <qrobust/status.h>

struct seed {
    unsigned rule;      /* 1 to 20; 0: a file that breaks none */
    const char *target; /* the reader: "safetensors", "index", ... */
    const char *name;
    qrb_status status;
    const char *words; /* of the message */
    unsigned char *bytes;
    size_t size;
};

/* All of them, made anew; *count_out of them.  Release with seeds_free(). */
struct seed *seeds_make(size_t *count_out);
/* Those of GGUF files and of layers of codes. */
void seeds_add_gguf(struct seed *seeds, size_t *count);
void seeds_free(struct seed *seeds, size_t count);

#endif
