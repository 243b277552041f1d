/* What a call came to, and the version of the library that answered. */
#ifndef QROBUST_STATUS_H
#define QROBUST_STATUS_H

#include <qrobust/export.h>

QRB_BEGIN_DECLS

/** One of the codes of enum qrb_status_code; fixed width, for the ABI. */
typedef int32_t qrb_status;

/** Pinned values: none is ever changed or reused. */
enum qrb_status_code {
    QRB_OK = 0,
    QRB_E_INVALID_ARG = 1, /**< NULL or outside its documented range */
    QRB_E_SHAPE = 2,       /**< dimensions that do not fit each other */
    QRB_E_NOT_FINITE = 3,  /**< NaN or infinity where none may be */
    QRB_E_NO_MEMORY = 4,   /**< the context's allocator returned NULL */
    QRB_E_CALLBACK = 5,    /**< a callback of the host asked to stop */
    QRB_E_CANCELLED = 6,   /**< the progress or cancel callback said so */
    QRB_E_REENTRANT = 7,   /**< a call from inside a callback */
    QRB_E_STATE = 8,       /**< calls in an order that makes no sense */
    QRB_E_IO = 9,          /**< the system could not read or write */
    QRB_E_FORMAT = 10,     /**< the bytes are not what they claim to be */
    QRB_E_UNSUPPORTED = 11 /**< well-formed, but not built or not known */
};

/**
 * What a callback returns when a call of this library has failed inside it:
 * the call that ran the callback ends with that status and with its message,
 * instead of QRB_E_CALLBACK.  The status is an error, not QRB_OK.
 */
#define QRB_CALLBACK_STATUS(status) (INT32_MIN + (int32_t)(status))

/**
 * The name of a status, such as "QRB_E_SHAPE".
 *
 * @param status any value
 * @return a static string; "QRB_E_?" for a value that is no status
 */
QRB_API const char *qrb_status_name(qrb_status status);

/** Version of the library at run time: major * 10000 + minor * 100 + patch;
 * QRB_VERSION_MAJOR and its like are those of the header. */
QRB_API uint32_t qrb_version(void);

/** The same as text, such as "0.1.0"; a static string. */
QRB_API const char *qrb_version_string(void);

QRB_END_DECLS

#endif
