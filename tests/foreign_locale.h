/* Locales whose decimal point is no point, for tests that nothing which is
 * read or written depends on the host's. */
#ifndef TESTS_FOREIGN_LOCALE_H
#define TESTS_FOREIGN_LOCALE_H

#include <locale.h>
#include <stdbool.h>

#include "harness.h"

/* German writes a comma, Pashto a character of two bytes. */
static const char *const foreign_locales[] = { "de_DE", "ps_AF" };
enum { FOREIGN_LOCALES = 2 };

/* Enter a locale: one that is installed, or one that localedef makes in the
 * directory.  False: neither; a line says that the test is skipped.  Leave it
 * with setlocale(LC_ALL, "C"). */
static inline bool enter_foreign_locale(const char *name,
                                        const char *directory)
{
    char full[64];
    char command[512];

    snprintf(full, sizeof full, "%s.UTF-8", name);
    if (setlocale(LC_ALL, full) == NULL) {
        /* Its warnings about the rest of the locale are not ours. */
        snprintf(command, sizeof command,
                 "localedef -i %s -f UTF-8 '%s/%s' >/dev/null 2>&1", name,
                 directory, full);
        if (system(command) == -1 || setenv("LOCPATH", directory, 1) != 0 ||
            setlocale(LC_ALL, full) == NULL) {
            printf("SKIP: no locale %s, and it cannot be made\n", full);
            return false;
        }
    }
    ck_assert_str_ne(localeconv()->decimal_point, ".");
    return true;
}

#endif
