// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/base/result.h"
#include "model/train/train.h"

namespace ballast::bench {

/// `ballast-bench train`: one learner in one environment. A line a look on stderr, the verdict on stdout.
Status run_train(const train::TrainOptions& options);

}  // namespace ballast::bench
