/* dlopen() by a prefix, and dlsym(). */
#include "open_library.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fail(const char *what)
{
    fprintf(stderr, "peer: %s\n", what);
    exit(EXIT_FAILURE);
}

void *open_library(const char *directory, const char *name)
{
    DIR *entries = opendir(directory);
    const struct dirent *entry;
    void *library = NULL;
    char path[4096];

    while (entries != NULL && library == NULL &&
           (entry = readdir(entries)) != NULL) {
        if (strncmp(entry->d_name, name, strlen(name)) != 0 ||
            entry->d_name[strlen(name)] != '.' ||
            strstr(entry->d_name, ".so") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        library = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
        if (library == NULL)
            fail(dlerror());
    }
    if (entries != NULL)
        closedir(entries);
    if (library == NULL)
        fail(name);
    return library;
}

void *find_symbol(const char *name)
{
    void *symbol = dlsym(RTLD_DEFAULT, name);

    if (symbol == NULL)
        fail(name);
    return symbol;
}
