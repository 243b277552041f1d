/* The learning rate over the steps: a linear warm-up, then constant or a
 * half cosine.
 *
 * Step t < warmup uses lr (t + 1) / warmup: the first step moves the weights
 * already and step warmup - 1 has the peak.  The cosine is at the peak there
 * too and reaches lr_end * lr at the very last step. */
#include "train/schedule.h"

#include <math.h>

double qrb__schedule_lr(const qrb_trainer_options *options, uint64_t step)
{
    const double pi = 3.14159265358979323846;
    double way;

    if (step < options->warmup)
        return options->lr * (double)(step + 1) / (double)options->warmup;
    if (options->schedule != QRB_SCHEDULE_COSINE)
        return options->lr;
    way = (double)(step + 1 - options->warmup) /
          (double)(options->steps - options->warmup);
    return options->lr * (options->lr_end + (1.0 - options->lr_end) * 0.5 *
                                                (1.0 + cos(pi * way)));
}
