/* A GGUF file of a Llama model with random float weights and no tokenizer. */
#ifndef BENCH_GGUF_RANDOM_H
#define BENCH_GGUF_RANDOM_H

#include "subject.h"

/* Exits when the file cannot be written. */
void gguf_random(const struct shape *shape, const char *path);

#endif
