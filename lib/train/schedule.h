/* The learning rate of a step. */
#ifndef QRB_TRAIN_SCHEDULE_H
#define QRB_TRAIN_SCHEDULE_H

#include <qrobust/train.h>

/* Learning rate of step `step`, which is below options->steps. */
double qrb__schedule_lr(const qrb_trainer_options *options, uint64_t step);

#endif
