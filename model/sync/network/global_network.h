// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/spec/spec.h"
#include "model/policy/parameters.h"
#include "model/sync/network/robust.h"
#include "model/sync/network/worker_table.h"

namespace ballast::sync {

/// Orders parameters: first by the leader that made them, then by the gradients applied.
struct Version {
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  auto operator<=>(const Version&) const = default;
};

/// The global networks, in the order of the protocol's enum.
enum class Network { kActorCritic, kForecast, kGains };

/// What a worker pushes.
struct Gradient {
  Version acted;  ///< the parameters at which it was taken
  std::uint32_t steps = 0;
  double norm = 0;            ///< L2, as the worker computed it
  std::vector<float> values;  ///< order of core/spec
  /// Mean reward a step of the rollouts behind it; NaN where the worker does not tell.
  double objective = std::numeric_limits<double>::quiet_NaN();
  LearnedFrom learned_from = {};
};

/// In the order of the protocol's enum.
enum class Verdict {
  kAccepted,
  kShape,        ///< another count of numbers than the network has
  kNotFinite,    ///< NaN or infinity
  kNorm,         ///< the numbers have another norm than the worker says, or one beyond all measure
  kEpoch,        ///< taken at another leader's parameters
  kVersion,      ///< taken at a version that does not exist yet
  kStale,        ///< taken too many versions ago
  kReplay,       ///< this worker pushed the very same gradient before
  kQuarantined,  ///< the worker is shut out for a while
  kRate,         ///< the worker pushes too fast
  kType,         ///< numbers of a type that this build does not read
};
inline constexpr std::size_t kVerdicts = 11;
const char* to_string(Verdict verdict);

/// Shared RMSProp without centring and without momentum (Mnih et al. 2016, section 4).
struct RmsProp {
  double learning_rate = 7e-4;
  double alpha = 0.99;    ///< decay of the mean square
  double epsilon = 1e-5;  ///< inside the root
};

struct GlobalOptions {
  RmsProp rms_prop;
  double clip_norm = 40;  ///< of one worker's gradient
  /// Versions that a gradient may lag behind. With N workers that never wait the lag settles
  /// near N - 1; A3C still learned at 63 and lost seeds at 255 in our CartPole runs.
  std::uint64_t staleness_limit = 64;
  /// The rules beyond Mnih's A3C: batches of K = max(1, N / 16) gradients with a trimmed mean, clips
  /// by the median norm, weights by staleness. Off: clip_norm and staleness_limit alone.
  bool robust = true;
  double trim = 0.2;  ///< share of a batch left out at either end of each coordinate
  /// K is never more. 5,000 workers that sync every 5 s make 8 versions a second with it, so that a
  /// gradient is 39 versions old when it comes; with 64 it would be beyond staleness_limit.
  std::size_t batch_most = 128;
  std::chrono::milliseconds batch_age{2000};  ///< a batch that waits longer is applied as it is
  /// Numbers in the network. Another count than this build's is for measuring the server alone.
  std::size_t parameters = spec::kParameters;
  /// That no parameter goes beyond.
  double bound = std::numeric_limits<double>::infinity();
  WorkerRules workers;
};

/// All that has to survive a restart.
struct GlobalState {
  policy::Parameters parameters;
  std::vector<float> mean_square;  ///< RMSProp's, one a parameter, shared by all workers

  bool operator==(const GlobalState&) const = default;
};

/// The file of one version (policy::file_of); shared, never changed.
struct Snapshot {
  Version version;
  std::string bytes;
  std::vector<float> theta = {};
};

/// Lags of accepted gradients, in versions: kTauBounds[i] and fewer, and more than all.
inline constexpr std::array<std::uint64_t, 9> kTauBounds = {0, 1, 2, 4, 8, 16, 32, 64, 128};

struct GlobalStats {
  Version version;
  std::array<std::uint64_t, kVerdicts> verdicts{};
  std::array<std::uint64_t, kTauBounds.size() + 1> tau{};
  std::uint64_t tau_sum = 0;
  double tau_median = 0;
  double norm_median = 0;
  std::uint64_t clipped = 0;  ///< accepted, but shortened
  std::size_t batch = 1;      ///< K of the batch that fills
  std::size_t buffered = 0;   ///< gradients in it
  double batch_age_s = 0;     ///< of the oldest of them
  double version_age_s = 0;   ///< since the last version was made
  std::size_t workers = 0;    ///< that pushed lately: N
  std::size_t quarantined = 0;
  std::uint64_t quarantines = 0;  ///< since the start
};

/// The global network of A3C without its doors: parameters, optimiser, and the judge of what
/// workers push. Thread-safe.
///
/// A gradient that passes is scaled by min(1, (median tau + 1) / (tau + 1)), clipped to clip_norm
/// and to four times the median norm, and put into a batch of K; a full batch becomes one step of
/// RMSProp along its trimmed mean, and one version.
class GlobalNetwork {
 public:
  using Time = WorkerTable::Time;
  /// Fails when the parameters are not `options.parameters` finite numbers, or there is not one
  /// finite, non-negative mean square a parameter.
  static Result<std::unique_ptr<GlobalNetwork>> create(GlobalState state, const GlobalOptions& options);

  /// Takes the gradient in, or changes nothing and says why in the verdict and, for people, in `why`.
  Verdict push(const std::string& worker, Gradient gradient, std::string* why = nullptr);
  Verdict push(Gradient gradient) { return push({}, std::move(gradient)); }
  /// Counts a push of `worker` that could not even be read as one.
  void refuse(const std::string& worker, Verdict verdict, const std::string& why);
  /// Applies a batch that has waited for batch_age. To be called now and then.
  void tick();
  /// Applies what waits, whatever its age: before the last checkpoint.
  void flush();

  /// Goes back to these parameters, as a new version. What waits in the batch is dropped, and gradients
  /// taken at the versions between are soon too stale. Fails where they are not of this network's size.
  Status give_back(const std::vector<float>& theta);

  /// What a checkpoint holds in the place of the newest parameters, while canaries try those; null: the
  /// newest.
  void keep(std::shared_ptr<const Snapshot> released);

  Version version() const;
  /// To be saved: with kept parameters, where there are, under the newest version.
  GlobalState state() const;
  std::shared_ptr<const Snapshot> snapshot() const;
  /// Bytes of the parameters file of the current version, and which that is.
  std::pair<Version, std::string> parameters() const;
  /// How often push() gave each verdict.
  std::array<std::uint64_t, kVerdicts> verdicts() const;
  GlobalStats stats() const;
  std::vector<WorkerRecord> worst_workers(std::size_t most) const;
  std::size_t size() const { return options_.parameters; }

 private:
  struct Look {
    double norm = 0;
    std::uint64_t fingerprint = 0;  ///< of the numbers' bits; 0 for all zero
    bool finite = true;
  };
  using Batch = std::vector<std::vector<float>>;

  GlobalNetwork(GlobalState state, const GlobalOptions& options);
  static Look look(const std::vector<float>& values);
  void apply(Batch batch);  // one step and one version, or nothing for an empty batch
  void apply_older_than(std::chrono::milliseconds age);
  // REQUIRE mutex_:
  Verdict judge(const std::string& worker, const Gradient& gradient, const Look& look, Time now,
                std::string* why);
  Verdict admit(const std::string& worker, Time now, std::string* why);
  void take_in(Gradient gradient, double norm, Time now);
  void count_bad(const std::string& worker, Verdict verdict, const std::string& why, Time now);

  const GlobalOptions options_;
  mutable std::mutex mutex_;
  GlobalState state_;
  mutable std::shared_ptr<const Snapshot> snapshot_;  // of state_; null until somebody asks
  std::shared_ptr<const Snapshot> kept_;
  Batch batch_;
  std::size_t batch_size_ = 1;
  Time batch_began_{}, version_made_{};
  RunningMedian norms_, taus_;
  WorkerTable workers_;
  GlobalStats counts_;  // the counters of it
};

}  // namespace ballast::sync
