/* Names of statuses, and the version. */
#include <qrobust/status.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *qrb_status_name(qrb_status status)
{
    static const char *const names[] = {
        "QRB_OK",           "QRB_E_INVALID_ARG", "QRB_E_SHAPE",
        "QRB_E_NOT_FINITE", "QRB_E_NO_MEMORY",   "QRB_E_CALLBACK",
        "QRB_E_CANCELLED",  "QRB_E_REENTRANT",   "QRB_E_STATE",
        "QRB_E_IO",         "QRB_E_FORMAT",      "QRB_E_UNSUPPORTED",
    };

    if (status < 0 || (size_t)status >= sizeof names / sizeof *names)
        return "QRB_E_?";
    return names[status];
}

uint32_t qrb_version(void)
{
    return QRB_VERSION_MAJOR * 10000 + QRB_VERSION_MINOR * 100 +
           QRB_VERSION_PATCH;
}

const char *qrb_version_string(void)
{
    return TEXT(QRB_VERSION_MAJOR) "." TEXT(QRB_VERSION_MINOR) "." TEXT(
        QRB_VERSION_PATCH);
}
