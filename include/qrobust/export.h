/* Visibility, deprecation and version of the interface. */
#ifndef QROBUST_EXPORT_H
#define QROBUST_EXPORT_H

#include <stddef.h>
#include <stdint.h>

/** Version of the header; a change here breaks callers. */
#define QRB_VERSION_MAJOR 0
/** Something was added. */
#define QRB_VERSION_MINOR 1
/** Something was mended. */
#define QRB_VERSION_PATCH 0

#if !defined(__GNUC__)
/** A name that the library exports. */
#define QRB_API
/** A name that goes with the next soname; the message says what to use. */
#define QRB_DEPRECATED(message)
/** A function that formats as printf does. */
#define QRB_PRINTF(text_at, first_at)
#else
#define QRB_API __attribute__((visibility("default")))
#define QRB_DEPRECATED(message) __attribute__((deprecated(message)))
#define QRB_PRINTF(text_at, first_at) \
    __attribute__((format(printf, text_at, first_at)))
#endif

#if !defined(__cplusplus)
/** Opens declarations that C++ is to take as C. */
#define QRB_BEGIN_DECLS
/** Closes what QRB_BEGIN_DECLS opened. */
#define QRB_END_DECLS
#else
#define QRB_BEGIN_DECLS extern "C" {
#define QRB_END_DECLS }
#endif

#endif
