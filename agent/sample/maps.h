// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/sample.h"
#include "bpf/wire/wire.h"
#include "core/base/feature.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::sample {

struct RequestRow {
  ballast_request_key key{};
  ballast_request_value value{};
};

/// How the requests of a row ended, of those that did not end well.
struct Outcomes {
  std::uint64_t failed = 0;     ///< answered: 5xx, or a gRPC status that is the server's failure
  std::uint64_t unknown = 0;    ///< answered, by what status was not seen
  std::uint64_t abandoned = 0;  ///< given up by the end that asked, before an answer began
  std::uint64_t no_answer = 0;  ///< closed or reset by the end that was asked
};
/// REQUIRES: a row of PinnedMaps::requests().
Outcomes outcomes_of(const RequestRow& row);

struct DecisionRow {
  ballast_decision_key key{};
  ballast_decision_value value{};
};

struct CoverageRow {
  ballast_coverage_key key{};
  ballast_coverage_value value{};
};

struct SpanRow {
  std::uint32_t cpu = 0;
  ballast_span_value value{};
};

/// A pod where its traffic enters.
struct PodAddress {
  std::string address;  ///< IP:PORT, [IP]:PORT for IPv6
  std::string ns;
  std::string service;
  std::string pod;
};

class RecordFile;

/// The pinned maps of one bpffs folder, typed. Needs no ballastd and no BTF: ballastctl reads a
/// dead agent's maps with it. Reading a map while the kernel writes gives each value as it was at
/// some moment of the read; a value is never half old and half new per 8-byte word.
class PinnedMaps {
 public:
  /// Refuses a folder without maps, or with maps of another wire version or size, naming both.
  static Result<PinnedMaps> open(const std::filesystem::path& bpffs);
  /// For who measures nothing: files of a folder that is no bpffs, meta and decisions alone. open() opens
  /// them like maps, in which nothing was measured.
  static Result<PinnedMaps> create_files(const std::filesystem::path& folder);

  PinnedMaps(PinnedMaps&&) noexcept;
  PinnedMaps& operator=(PinnedMaps&&) noexcept;
  PinnedMaps(const PinnedMaps&) = delete;
  PinnedMaps& operator=(const PinnedMaps&) = delete;
  ~PinnedMaps();

  Result<ballast_meta> meta() const;
  Result<std::vector<RequestRow>> requests() const;
  Result<std::vector<std::pair<CgroupId, ballast_connection_value>>> connections() const;
  Result<std::vector<std::pair<CgroupId, ballast_cpu_value>>> cpu() const;
  Result<std::vector<ballast_running_value>> running() const;                 ///< by CPU
  Result<std::array<ballast_loss_value, BALLAST_LOSS_REASONS>> loss() const;  ///< summed over CPUs
  Result<std::vector<std::pair<CgroupId, ballast_identity_value>>> identity() const;
  Result<std::vector<DecisionRow>> decisions() const;
  Result<std::vector<CallRow>> calls() const;
  /// What of a cgroup is not measured.
  Result<std::vector<CoverageRow>> coverage() const;
  /// The endpoints that were decided about. More names of peers are not in the maps.
  Result<std::vector<PodAddress>> addresses() const;
  /// What is in the slots now, by CPU; a slot that is being written may be of two spans.
  Result<std::vector<SpanRow>> spans() const;
  /// Edges of the call graph that saw no answer since `then`.
  Status forget_calls_before(MonotonicNs then) const;
  /// Erases these edges, and counts them in the coverage of their callers.
  Status crowd_out_calls(const std::vector<ballast_call_key>& keys, MonotonicNs now) const;
  /// Empty where an older ballastd made the folder.
  Result<std::vector<Feature>> features() const;

  Status put_meta(const ballast_meta& meta) const;
  /// Replaces all. Those beyond BALLAST_MAX_FEATURES and texts beyond their field's size are cut.
  Status put_features(const std::vector<Feature>& features) const;
  Status put_identity(CgroupId id, const ballast_identity_value& value) const;
  Status erase_identity(CgroupId id) const;
  Status put_decision(const DecisionRow& row) const;
  Status erase_decision(const ballast_decision_key& key) const;
  /// Makes room after cgroups were removed: their requests, calls, coverage, connections, CPU rows and
  /// shares. Only for cgroups that are gone: the kernel adds to a row without looking again. The calls are
  /// read once for all of them, however many went at a time. Tries all; the first failure.
  Status forget_cgroups(const std::vector<CgroupId>& gone) const;

 private:
  Status forget_cgroup(CgroupId id) const;
  template <typename Stale>
  Status forget_calls(Stale stale) const;
  PinnedMaps();
  UniqueFd meta_, requests_, connections_, cpu_, running_, loss_, identity_, decisions_, calls_, spans_,
      coverage_, features_, cpu_share_;
  std::shared_ptr<RecordFile> meta_file_, decision_file_;  ///< in the place of maps
};

/// The published name of a loss reason, e.g. "pipeline_overflow".
const char* loss_reason_name(ballast_loss_reason reason);

/// The published name of a gap in the coverage, e.g. "tls".
const char* coverage_name(ballast_coverage_kind kind);

}  // namespace ballast::sample
