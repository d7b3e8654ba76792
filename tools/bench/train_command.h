// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/result.h"
#include "model/train/train.h"

namespace ballast::bench {

/// `ballast-bench train`: one learner in one environment. A line a look on stderr, the verdict on stdout.
Status run_train(const train::TrainOptions& options);

/// `ballast-bench lighten`: the lighter form (model/policy/parameters.h) of a parameters file.
struct LightenOptions {
  std::string parameters;  ///< empty: the shipped ones
  std::string output;
};
Status run_lighten(const LightenOptions& options);

}  // namespace ballast::bench
