/* Shared libraries of another build, by the beginning of their names. */
#ifndef BENCH_OPEN_LIBRARY_H
#define BENCH_OPEN_LIBRARY_H

/* Open `directory`/`name`.so or `name`.<anything>.so, for all to see its
 * symbols; exits with a message if it is not there. */
void *open_library(const char *directory, const char *name);

/* A symbol of any library that is open; exits if there is none. */
void *find_symbol(const char *name);

#endif
