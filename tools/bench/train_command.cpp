// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/train_command.h"

#include <fmt/format.h>

#include <cstdio>

#include "core/base/file.h"
#include "model/policy/parameters.h"
#include "model/policy/shipped.h"

namespace ballast::bench {

Status run_train(const train::TrainOptions& options) {
  const auto report = [](const train::CurvePoint& point) {
    fmt::print(
        stderr, "steps {:>9}  episodes {:>6}  training {:>9.2f}  evaluation {:>9.2f}  entropy {:.3f}\n",
        point.steps, point.episodes, point.training_return, point.evaluation_return, point.progress.entropy);
  };
  const auto result = train::run(options, report);
  if (!result) {
    return result.error();
  }
  fmt::print("final return {:.2f} (best parameters), {:.2f} (last) over {} episodes; {:.0f} steps/s\n",
             result->final_return, result->last_return, options.final_episodes, result->steps_per_s);
  return ok();
}

Status run_lighten(const LightenOptions& options) {
  const auto bytes =
      options.parameters.empty() ? std::string(policy::shipped()) : read_file(options.parameters);
  if (!bytes) {
    return bytes.error();
  }
  const auto parsed = policy::parse(*bytes);
  if (!parsed) {
    return parsed.error().in(options.parameters);
  }
  const std::string light = policy::serialize_light(*parsed);
  fmt::print("{} bytes from {}\n", light.size(), bytes->size());
  return write_file_atomic(options.output, light);
}

}  // namespace ballast::bench
