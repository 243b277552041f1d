/* Runs files, or all files of directories, through a fuzz target without
 * libFuzzer: the ordinary tests replay the corpus with it. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "fuzz.h"

static int replay_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint8_t *bytes = NULL;
    long size = -1;
    int failed = 1;

    if (file == NULL) {
        perror(path);
        return 1;
    }
    if (fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    /* Of the very size, so that AddressSanitizer sees a byte too far. */
    if (size >= 0)
        bytes = malloc(size == 0 ? 1 : (size_t)size);
    rewind(file);
    if (bytes != NULL && fread(bytes, 1, (size_t)size, file) == (size_t)size) {
        LLVMFuzzerTestOneInput(bytes, (size_t)size);
        failed = 0;
    } else {
        fprintf(stderr, "%s: cannot be read\n", path);
    }
    free(bytes);
    fclose(file);
    return failed;
}

static int replay(const char *path, size_t *files)
{
    struct stat status;
    struct dirent *entry;
    DIR *directory;
    int failed = 0;

    if (stat(path, &status) != 0) {
        perror(path);
        return 1;
    }
    if (!S_ISDIR(status.st_mode)) {
        (*files)++;
        return replay_file(path);
    }
    directory = opendir(path);
    if (directory == NULL) {
        perror(path);
        return 1;
    }
    while ((entry = readdir(directory)) != NULL && !failed) {
        char inner[4096];

        if (entry->d_name[0] == '.')
            continue;
        snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name);
        (*files)++;
        failed = replay_file(inner);
    }
    closedir(directory);
    return failed;
}

int main(int argc, char **argv)
{
    size_t files = 0;
    int failed = 0;

    for (int i = 1; i < argc && !failed; i++)
        failed = replay(argv[i], &files);
    if (files == 0) {
        fprintf(stderr, "usage: %s FILE|DIRECTORY...\n", argv[0]);
        return 1;
    }
    printf("%zu files replayed\n", files);
    return failed;
}
