/* libqrobust: neural networks that survive low-bit quantization, noise and
 * attack.  This header includes all the others. */
#ifndef QROBUST_QROBUST_H
#define QROBUST_QROBUST_H

#include <qrobust/context.h>
#include <qrobust/engine.h>
#include <qrobust/export.h>
#include <qrobust/generate.h>
#include <qrobust/metric.h>
#include <qrobust/model.h>
#include <qrobust/noise.h>
#include <qrobust/observer.h>
#include <qrobust/pass.h>
#include <qrobust/quantizer.h>
#include <qrobust/recipe.h>
#include <qrobust/source.h>
#include <qrobust/status.h>
#include <qrobust/tensor.h>
#include <qrobust/tokenizer.h>
#include <qrobust/train.h>

#endif
