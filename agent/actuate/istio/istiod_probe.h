// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "agent/kube/client.h"
#include "core/base/result.h"

/// Does a ServiceEntry of a Service's own host take? That istiod puts our endpoints before the Service's own
/// rests on the order of its implementation, not on a promise. So it is asked what it tells a sidecar, over
/// the same protocol (EDS by ADS, as a client without a listener): seen, not believed.
namespace ballast::actuate::istio {

struct ProbedEndpoint {
  std::string address;
  std::uint16_t port = 0;
  std::uint32_t weight = 0;
};

/// The endpoints of one cluster (outbound|80||HOST), in istiod's order, as a sidecar in namespace `ns` gets
/// them. `istiod`: HOST:PORT of its plain xDS port (15010). Errors: kFailed, when no answer came within the
/// time.
Result<std::vector<ProbedEndpoint>> ask_istiod(const std::string& istiod, const std::string& ns,
                                               const std::string& cluster, std::chrono::milliseconds timeout);

enum class Takes { kUnknown, kYes, kNo };

/// What of a ServiceEntry's weights a proxy would use. Envoy keeps the first of two endpoints of one address:
/// kNo where that is the plain Service's; kUnknown where weights are of an earlier write.
Takes compare(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen);

/// Looks again and again, in a thread of its own: an istiod that is away must not hold up writes.
class IstiodProbe {
 public:
  /// An entry that has stood a while, {"ns", "spec"} and what is of use to the asker, or null. Asked before
  /// each look.
  using Sample = std::function<kube::Json()>;
  struct Options {
    std::string istiod;
    std::chrono::milliseconds timeout{1500};
    std::chrono::milliseconds pause{1000};
    std::chrono::milliseconds again{10'000};  ///< the pause after a look that told something
    /// So many in a row, a pause apart: an istiod that lost its API server for a while knows less than we.
    int refutations = 20;
  };
  /// `told` hears of each verdict, kYes or kNo, with what was looked at, from the probe's thread.
  IstiodProbe(Options options, Sample sample, std::function<void(const kube::Json&, Takes)> told);
  ~IstiodProbe();
  IstiodProbe(const IstiodProbe&) = delete;
  IstiodProbe& operator=(const IstiodProbe&) = delete;

 private:
  void run();
  const Options options_;
  const Sample sample_;
  const std::function<void(const kube::Json&, Takes)> told_;
  std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ballast::actuate::istio
