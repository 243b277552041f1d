/* Names of the files that make up a model. */
#include <string.h>

#include "io/config.h"
#include "io/model_directory.h"
#include "io/safetensors.h"

/* Move behind digits, of which there is one at least. */
static bool skip_digits(const char **text)
{
    const size_t count = strspn(*text, "0123456789");

    *text += count;
    return count > 0;
}

static bool skip(const char **text, const char *part)
{
    const size_t length = strlen(part);

    if (strncmp(*text, part, length) != 0)
        return false;
    *text += length;
    return true;
}

/* model-00001-of-00002.safetensors */
static bool is_shard(const char *name)
{
    return skip(&name, "model-") && skip_digits(&name) && skip(&name, "-of-") &&
           skip_digits(&name) && strcmp(name, ".safetensors") == 0;
}

static bool is_file(const char *name, bool tokenizer)
{
    return strcmp(name, QRB__CONFIG_FILE) == 0 ||
           strcmp(name, QRB__SAFETENSORS_FILE) == 0 ||
           strcmp(name, QRB__SAFETENSORS_INDEX) == 0 || is_shard(name) ||
           (tokenizer && strcmp(name, QRB__TOKENIZER_FILE) == 0);
}

bool qrb__model_file(const char *name, bool tokenizer)
{
    static const char partial[] = ".qrb-part";
    const size_t tail = sizeof partial - 1;
    const size_t length = strlen(name);
    char inner[64];

    if (name[0] == '.' && length > tail + 1 &&
        strcmp(name + length - tail, partial) == 0 &&
        length - tail - 1 < sizeof inner) {
        memcpy(inner, name + 1, length - tail - 1);
        inner[length - tail - 1] = '\0';
        return is_file(inner, tokenizer);
    }
    return is_file(name, tokenizer);
}
