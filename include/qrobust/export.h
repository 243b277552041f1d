/* Visibility, deprecation and version of the interface. */
#ifndef QROBUST_EXPORT_H
#define QROBUST_EXPORT_H

#include <stddef.h>
#include <stdint.h>

#define QRB_VERSION_MAJOR 0
#define QRB_VERSION_MINOR 1
#define QRB_VERSION_PATCH 0

#if defined(__GNUC__)
#define QRB_API __attribute__((visibility("default")))
#define QRB_DEPRECATED(message) __attribute__((deprecated(message)))
#define QRB_PRINTF(text_at, first_at) \
    __attribute__((format(printf, text_at, first_at)))
#else
#define QRB_API
#define QRB_DEPRECATED(message)
#define QRB_PRINTF(text_at, first_at)
#endif

#if defined(__cplusplus)
#define QRB_BEGIN_DECLS extern "C" {
#define QRB_END_DECLS }
#else
#define QRB_BEGIN_DECLS
#define QRB_END_DECLS
#endif

#endif
