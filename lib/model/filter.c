/* Which parameters a filter means: by role and by a glob over the name.
 * O(length of the name * length of the glob) at worst, no memory. */
#include "model/model.h"

#include <string.h>

#define BIT(role) (UINT64_C(1) << (role))

static const uint64_t matrices_in_blocks =
    BIT(QRB_ROLE_Q) | BIT(QRB_ROLE_K) | BIT(QRB_ROLE_V) | BIT(QRB_ROLE_QKV) |
    BIT(QRB_ROLE_O) | BIT(QRB_ROLE_GATE) | BIT(QRB_ROLE_UP) |
    BIT(QRB_ROLE_DOWN) | BIT(QRB_ROLE_FC1) | BIT(QRB_ROLE_FC2) |
    BIT(QRB_ROLE_CONV);

/* On a mismatch the last star takes one more character and matching goes on
 * behind it; earlier stars never need to be tried again. */
static bool glob_matches(const char *glob, const char *name)
{
    const char *after_star = NULL;
    const char *star_end = NULL;

    while (*name != '\0') {
        if (*glob == '*') {
            after_star = ++glob;
            star_end = name;
        } else if (*glob == '?' || *glob == *name) {
            glob++;
            name++;
        } else if (after_star != NULL) {
            glob = after_star;
            name = ++star_end;
        } else {
            return false;
        }
    }
    while (*glob == '*')
        glob++;
    return *glob == '\0';
}

qrb_status qrb__filter_check(qrb_context *ctx, const qrb_filter *filter)
{
    qrb_filter known = QRB_FILTER_INIT;

    return qrb__options_copy(ctx, filter, sizeof known, "filter", &known);
}

qrb_status qrb__filter_count(qrb_model *model, const qrb_filter *filter,
                             size_t *out)
{
    qrb_filter known = QRB_FILTER_INIT;
    size_t count = 0;
    qrb_status status;

    status = qrb__options_copy(model->ctx, filter, sizeof known, "filter",
                               &known);
    if (status != QRB_OK)
        return status;
    for (size_t i = 0; i < model->count; i++)
        count += qrb__filter_selects(filter, model->parameters[i]);
    if (count == 0)
        return qrb__fail(model->ctx, QRB_E_INVALID_ARG,
                         "the filter selects none of the model's %zu "
                         "parameters%s",
                         model->count,
                         known.roles == 0
                             ? "; without roles it selects matrices of the "
                               "roles Q to CONV, so register them with theirs"
                             : "");
    *out = count;
    return QRB_OK;
}

bool qrb__filter_selects(const qrb_filter *filter,
                         const struct qrb__parameter *parameter)
{
    qrb_filter known = QRB_FILTER_INIT;

    /* An older caller's struct ends earlier. */
    if (filter != NULL)
        memcpy(&known, filter,
               filter->struct_size < sizeof known ? filter->struct_size
                                                  : sizeof known);
    if (known.roles == 0) {
        if ((matrices_in_blocks & BIT(parameter->role)) == 0 ||
            parameter->weight.rank < 2)
            return false;
    } else if ((known.roles & BIT(parameter->role)) == 0) {
        return false;
    }
    return known.name == NULL || glob_matches(known.name, parameter->name);
}
