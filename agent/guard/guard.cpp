// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/guard.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <tuple>

#include "agent/guard/bounds.h"
#include "agent/guard/share_watch.h"
#include "agent/guard/trip.h"

namespace ballast::guard {

namespace {

constexpr double kUnit = GuardedWeights::kWeightScale;

/// Greatest weight, relative to fair share, of an endpoint whose count cannot be held against anything
/// (hold_claims): it alone is measured, or it has too little traffic.
constexpr double kUncheckedCap = 2;

using Key = std::tuple<std::string, std::string, std::uint16_t>;
Key key_of(const EndpointView& e) {
  return {e.id.pod, e.address, e.port};
}

/// Age that counts: an endpoint that was never measured, or whose age is not a number, is as old as can be.
double age_of(const EndpointView& e) {
  return e.known && !std::isnan(e.age_s) ? e.age_s : std::numeric_limits<double>::infinity();
}

/// What the service should have, before step and deadband.
struct Target {
  std::vector<double> weights;         ///< relative to fair share
  std::vector<std::uint32_t> reasons;  ///< by endpoint
  bool neutral = true;
  bool at_once = false;  ///< neutral for cause: the step bound does not hold
  std::string why;
};

Target neutral_target(std::size_t n, std::uint32_t reason, bool at_once, std::string why) {
  return {std::vector<double>(n, 1.0), std::vector<std::uint32_t>(n, reason), true, at_once, std::move(why)};
}

bool is_garbage(const ServiceView& view) {
  double sum = 0;
  for (const EndpointView& e : view.endpoints) {
    if (!std::isfinite(e.share) || e.share < 0 || !std::isfinite(e.offset)) {
      return true;
    }
    sum += e.share;
  }
  return !(sum > 0) || !std::isfinite(sum);
}

/// Relative weights of a view that is not garbage. Stale endpoints lose their offset: what a
/// policy said about a pod that nobody measures any more is not worth following.
/// `claims`: the part of a share that its endpoint's traffic bears out.
std::vector<double> relative_weights(const ServiceView& view, const GuardOptions& options,
                                     const std::vector<ShareWatch::Verdict>& claims,
                                     std::vector<std::uint32_t>& reasons) {
  constexpr double kBound = spec::kMaxOffset;
  const double total = [&] {
    double sum = 0;
    for (const EndpointView& e : view.endpoints) {
      sum += e.share;
    }
    return sum;
  }();
  std::vector<double> weights(view.endpoints.size());
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const EndpointView& e = view.endpoints[i];
    weights[i] = e.share / total * claims[i].factor;
    reasons[i] |= claims[i].factor < 1 ? kUnproven : 0U;
    if (age_of(e) > options.stale_after_s) {
      weights[i] *= std::exp(-std::clamp(e.offset, -kBound, kBound));
      reasons[i] |= kStale;
    }
    sum += weights[i];
  }
  for (double& w : weights) {
    w *= static_cast<double>(weights.size()) / sum;
  }
  return weights;
}

std::vector<double> within(const std::vector<double>& weights, double floor, double cap) {
  return water_fill(weights, std::vector<Bound>(weights.size(), {floor, cap}));
}

}  // namespace

const char* to_string(Outcome outcome) {
  static constexpr const char* kNames[] = {"none",      "written",    "acknowledged",
                                           "held_back", "not_leader", "refused"};
  const auto i = static_cast<std::size_t>(outcome);
  return i < std::size(kNames) ? kNames[i] : "unknown";
}

struct Guard::State {
  struct Service {
    std::vector<WeightedEndpoint> endpoints;  ///< in force
    std::map<Key, std::uint32_t> weights;     ///< in force, by endpoint
    bool neutral = true;                      ///< in force
    Mode mode = Mode::kOff;
    bool asked_neutral = false;
    TripWatch trip;
    ShareWatch shares;
  };

  explicit State(const GuardOptions& o) : options(o) {}

  std::optional<Target> forbidden(const ServiceView& view, const TripWatch& trip, bool tripped,
                                  const GuardOptions& o) const;
  static bool excused(const ServiceView& view, const Service& service,
                      const std::vector<ShareWatch::Verdict>& claims);
  static std::vector<ShareWatch::Verdict> held(const ServiceView& view, Service& service, MonotonicNs now);
  static Target wanted(const ServiceView& view, const std::vector<ShareWatch::Verdict>& claims,
                       const GuardOptions& o);
  static bool bound_step(const ServiceView& view, const Service& service, Target& target,
                         const GuardOptions& o);
  static std::vector<std::uint32_t> units_of(Target& target, const GuardOptions& o);

  GuardOptions options;
  std::map<spec::ServiceId, Service> services;
};

/// The weights in force cannot be what makes the service slow: the slowest endpoint above its fair share is
/// no slower than the slowest below it. Of who counts more than can be, what its callers saw is believed.
bool Guard::State::excused(const ServiceView& view, const Service& service,
                           const std::vector<ShareWatch::Verdict>& claims) {
  double above = 0;
  double below = 0;
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const EndpointView& e = view.endpoints[i];
    const auto in_force = service.weights.find(key_of(e));
    if (in_force == service.weights.end() || !std::isfinite(e.p99_ns)) {
      continue;
    }
    double& slowest = in_force->second > GuardedWeights::kWeightScale ? above : below;
    slowest = std::max({slowest, e.p99_ns, claims[i].factor < 1 ? e.seen_p99_ns : 0});
  }
  return above > 0 && above <= below;
}

std::vector<ShareWatch::Verdict> Guard::State::held(const ServiceView& view, Service& service,
                                                    MonotonicNs now) {
  std::vector<ShareWatch::Claim> claims;
  for (const EndpointView& e : view.endpoints) {
    const auto in_force = service.weights.find(key_of(e));
    claims.push_back({.key = key_of(e),
                      .known = e.known,
                      .requests = e.requests,
                      .success = e.success,
                      .in_flight = e.in_flight,
                      .answered = e.answered,
                      .weight = in_force == service.weights.end() ? 1.0 : in_force->second / kUnit,
                      .answers_per_s = e.answers_per_s,
                      .seen_per_s = e.seen_per_s});
  }
  return service.shares.update(claims, service.neutral, now);
}

/// What the policy wants, made safe: garbage, staleness, claims without proof, blend, floor and cap.
Target Guard::State::wanted(const ServiceView& view, const std::vector<ShareWatch::Verdict>& claims,
                            const GuardOptions& o) {
  const std::size_t n = view.endpoints.size();
  const auto old = std::count_if(view.endpoints.begin(), view.endpoints.end(),
                                 [&](const auto& e) { return age_of(e) > o.neutral_after_s; });
  if (2 * static_cast<std::size_t>(old) > n) {
    return neutral_target(n, kStale, true, "neutral: most endpoints have no recent telemetry");
  }
  if (view.neutral) {
    return neutral_target(n, kNeutral, false, view.why);
  }
  if (is_garbage(view)) {
    return neutral_target(n, kGarbage, true,
                          "neutral: the proposal is not usable (NaN, infinite, negative or zero)");
  }
  Target target{.reasons = std::vector<std::uint32_t>(n, 0), .neutral = false, .why = view.why};
  target.weights = relative_weights(view, o, claims, target.reasons);
  std::vector<Bound> bounds(n);
  for (std::size_t i = 0; i < n; ++i) {
    if (o.blend < 1) {
      target.weights[i] = 1 + o.blend * (target.weights[i] - 1);
      target.reasons[i] |= kBlend;
    }
    bounds[i] = {o.floor, claims[i].held ? o.cap : std::min(o.cap, kUncheckedCap)};
  }
  target.weights = water_fill(target.weights, bounds);
  for (std::size_t i = 0; i < n; ++i) {
    target.reasons[i] |= target.weights[i] <= o.floor ? kFloor : 0U;
    target.reasons[i] |= target.weights[i] >= bounds[i].high ? kCap : 0U;
  }
  return target;
}

/// Why nothing the policy says may be followed now; nullopt when it may.
std::optional<Target> Guard::State::forbidden(const ServiceView& view, const TripWatch& trip, bool tripped,
                                              const GuardOptions& o) const {
  const std::size_t n = view.endpoints.size();
  const std::string said = view.word.why.empty() ? "" : " (" + view.word.why + ")";
  if (view.word.released) {
    return neutral_target(n, kKillSwitch, true, "neutral: released by hand" + said);
  }
  if (o.mode != Mode::kActive) {
    const std::string mode = o.mode == Mode::kShadow ? "mode shadow, nothing is acted on" : "mode off";
    return neutral_target(n, 0, true, "neutral: " + mode + (o.mode == options.mode ? "" : said));
  }
  if (tripped) {
    return neutral_target(n, kTripped, true, trip.why());
  }
  if (trip.measuring()) {
    return neutral_target(n, kNeutral, true, trip.why());
  }
  if (o.blend <= 0) {
    return neutral_target(n, kBlend, true, "neutral: blend is 0");
  }
  return std::nullopt;
}

/// Bounds the step against the weights in force. True when the members have changed.
bool Guard::State::bound_step(const ServiceView& view, const Service& service, Target& target,
                              const GuardOptions& o) {
  const std::size_t n = view.endpoints.size();
  std::vector<double> base(n, 1.0);
  bool same = n == service.weights.size();
  for (std::size_t i = 0; i < n; ++i) {
    const auto in_force = service.weights.find(key_of(view.endpoints[i]));
    same &= in_force != service.weights.end();
    base[i] = in_force == service.weights.end() ? 1.0 : in_force->second / kUnit;
  }
  if (target.at_once) {
    return !same;
  }
  // What those who left had is shared out first; afterwards the step bound holds from there.
  base = within(base, o.floor, o.cap);
  std::vector<Bound> bounds(n);
  for (std::size_t i = 0; i < n; ++i) {
    bounds[i].low = std::max(o.floor, base[i] * std::exp(-o.max_step));
    bounds[i].high = std::min(o.cap, base[i] * std::exp(o.max_step));
  }
  const std::vector<double> bounded = water_fill(target.weights, bounds);
  for (std::size_t i = 0; i < n; ++i) {
    if (std::abs(bounded[i] - target.weights[i]) > 1e-3 * target.weights[i]) {
      target.reasons[i] |= kStep;
      target.neutral = false;
    }
  }
  target.weights = target.neutral ? std::vector<double>(n, 1.0) : bounded;
  return !same;
}

std::vector<std::uint32_t> Guard::State::units_of(Target& target, const GuardOptions& o) {
  std::vector<std::uint32_t> units = to_units(target.weights, GuardedWeights::kWeightScale);
  const auto equal = [&] {
    return std::all_of(units.begin(), units.end(), [&](auto u) { return u == units[0]; });
  };
  if (target.neutral || !equal()) {
    return units;
  }
  // Equal weights would be read as none. A unit moves from the least to the greatest weight, if
  // there are two and the floor leaves room; else the service is neutral, whatever was asked for.
  const auto [least, greatest] = std::minmax_element(target.weights.begin(), target.weights.end());
  const auto from = least - target.weights.begin();
  const auto to =
      greatest == least ? static_cast<std::ptrdiff_t>(units.size()) - 1 : greatest - target.weights.begin();
  const bool room = units.size() > 1 && o.floor * kUnit <= kUnit - 1 && o.cap > 1;
  if (!room || from == to) {
    target.neutral = true;
    return units;
  }
  --units[static_cast<std::size_t>(from)];
  ++units[static_cast<std::size_t>(to)];
  return units;
}

Guard::Guard(const options::Checked<GuardOptions>& options) : state_(std::make_unique<State>(*options)) {}
Guard::~Guard() = default;

GuardedWeights Guard::apply(const ServiceView& given, MonotonicNs now) {
  ServiceView view = given;
  std::set<Key> seen;
  std::erase_if(view.endpoints, [&](const auto& e) { return !seen.insert(key_of(e)).second; });

  GuardedWeights out;
  out.service_ = view.service;
  if (view.endpoints.empty()) {
    out.changed_ = state_->services.erase(view.service) > 0;
    out.why_ = "no endpoints";
    return out;
  }
  GuardOptions o = state_->options;
  o.mode = std::min(o.mode, view.word.mode.value_or(o.mode));
  const bool first = !state_->services.contains(view.service);
  State::Service& service = state_->services[view.service];
  const std::vector<ShareWatch::Verdict> claims =
      o.hold_claims ? State::held(view, service, now)
                    : std::vector<ShareWatch::Verdict>(view.endpoints.size(), {.factor = 1, .held = true});
  const bool tripped = service.trip.update(view.p99_ns, view.error_rate, view.qps, service.neutral, now,
                                           {.ratio = o.trip_ratio,
                                            .error_margin = kTripErrorMargin,
                                            .windows = o.trip_windows,
                                            .window_s = o.window_s,
                                            .hold_s = kTripHoldS,
                                            .max_hold_s = kTripMaxHoldS},
                                           State::excused(view, service, claims));
  Target target = State::wanted(view, claims, o);
  const std::vector<double> guarded = target.weights;
  if (auto forbidden = state_->forbidden(view, service.trip, tripped, o)) {
    target = std::move(*forbidden);
  }
  const bool members_changed = State::bound_step(view, service, target, o);
  const std::vector<std::uint32_t> units = State::units_of(target, o);

  const std::size_t n = view.endpoints.size();
  double moved = 0;
  for (std::size_t i = 0; i < n && !members_changed; ++i) {
    const auto in_force = service.weights.at(key_of(view.endpoints[i]));
    moved = std::max(moved, std::abs(std::log(static_cast<double>(units[i]) / in_force)));
  }
  out.changed_ = first || members_changed || target.neutral != service.neutral ||
                 (!target.neutral && moved > 0 && moved >= o.deadband);
  out.neutral_ = target.neutral;
  out.why_ = target.why;
  out.mode_ = service.mode = o.mode;
  out.blend_ = o.blend;
  out.asked_neutral_ = service.asked_neutral = view.neutral;
  out.endpoints_.reserve(n);
  for (std::size_t i = 0; i < n; ++i) {
    const EndpointView& e = view.endpoints[i];
    const std::uint32_t weight = out.changed_ ? units[i] : service.weights.at(key_of(e));
    const std::uint32_t held = weight != units[i] ? kDeadband : 0U;
    out.endpoints_.push_back({e.id, e.address, e.port, weight, target.reasons[i] | held,
                              std::isfinite(e.share) ? e.share : 0, guarded[i] / static_cast<double>(n)});
  }
  service.endpoints = out.endpoints_;
  service.neutral = out.neutral_;
  service.weights.clear();
  for (std::size_t i = 0; i < n; ++i) {
    service.weights[key_of(view.endpoints[i])] = out.endpoints_[i].weight;
  }
  return out;
}

GuardedWeights Guard::release(const spec::ServiceId& id) {
  GuardedWeights out;
  out.service_ = id;
  out.why_ = "shutdown: equal weights";
  const auto it = state_->services.find(id);
  if (it == state_->services.end()) {
    return out;
  }
  State::Service& service = it->second;
  out.changed_ = !service.neutral;
  for (WeightedEndpoint& e : service.endpoints) {
    e.weight = GuardedWeights::kWeightScale;
    e.reasons = kShutdown;
  }
  for (auto& [key, weight] : service.weights) {
    weight = GuardedWeights::kWeightScale;
  }
  service.neutral = true;
  out.mode_ = service.mode;
  out.asked_neutral_ = service.asked_neutral;
  out.blend_ = state_->options.blend;
  out.endpoints_ = service.endpoints;
  return out;
}

std::vector<spec::ServiceId> Guard::services() const {
  std::vector<spec::ServiceId> out;
  for (const auto& [id, service] : state_->services) {
    out.push_back(id);
  }
  return out;
}

}  // namespace ballast::guard
