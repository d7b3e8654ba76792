// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/telemetry/capture.h"

#include <pcap/pcap.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <memory>
#include <vector>

namespace ballast::bench {

namespace {

constexpr int kSnapLength = 96;
constexpr int kBufferBytes = 256 << 20;
constexpr std::size_t kEthernet = 14;
constexpr int kTurnMs = 50;
/// The kernel hands packets over in blocks, the last one only after its time-out.
constexpr int kTurnsAfterEnd = 4;

struct PcapDeleter {
  void operator()(pcap_t* handle) const { ::pcap_close(handle); }
};
using Pcap = std::unique_ptr<pcap_t, PcapDeleter>;

struct Pairs {
  std::uint16_t server_port = 0;
  std::array<std::uint64_t, 65536> asked_ns{};  ///< by client port; 0: nothing is asked
  std::vector<std::uint64_t> latencies;
};

std::uint16_t port_at(const u_char* bytes) {
  return static_cast<std::uint16_t>(bytes[0] << 8 | bytes[1]);
}

void on_packet(u_char* user, const pcap_pkthdr* header, const u_char* bytes) {
  auto& pairs = *reinterpret_cast<Pairs*>(user);
  if (header->caplen < kEthernet + 40) {
    return;
  }
  const u_char* tcp = bytes + kEthernet + static_cast<std::size_t>(bytes[kEthernet] & 0xf) * 4;
  // With nanosecond precision libpcap keeps nanoseconds in tv_usec.
  const std::uint64_t now = static_cast<std::uint64_t>(header->ts.tv_sec) * 1'000'000'000ULL +
                            static_cast<std::uint64_t>(header->ts.tv_usec);
  const std::uint16_t from = port_at(tcp);
  const std::uint16_t to = port_at(tcp + 2);
  if (to == pairs.server_port) {
    pairs.asked_ns[from] = pairs.asked_ns[from] == 0 ? now : pairs.asked_ns[from];
  } else if (pairs.asked_ns[to] != 0) {
    pairs.latencies.push_back(now - std::min<std::uint64_t>(now, pairs.asked_ns[to]));
    pairs.asked_ns[to] = 0;
  }
}

Result<Pcap> open_capture(const CaptureOptions& options) {
  std::array<char, PCAP_ERRBUF_SIZE> error{};
  Pcap handle(::pcap_create(options.interface.c_str(), error.data()));
  if (handle == nullptr) {
    return Error::failed("capturing on " + options.interface + ": " + error.data());
  }
  ::pcap_set_snaplen(handle.get(), kSnapLength);
  ::pcap_set_buffer_size(handle.get(), kBufferBytes);
  ::pcap_set_timeout(handle.get(), kTurnMs);
  ::pcap_set_tstamp_precision(handle.get(), PCAP_TSTAMP_PRECISION_NANO);
  if (const int status = ::pcap_activate(handle.get()); status < 0) {
    const std::string why = "capturing on " + options.interface + ": " + ::pcap_geterr(handle.get());
    return status == PCAP_ERROR_PERM_DENIED ? Error::privilege(why + " (needs CAP_NET_RAW)")
                                            : Error::failed(why);
  }
  std::array<char, PCAP_ERRBUF_SIZE> reason{};
  if (::pcap_setnonblock(handle.get(), 1, reason.data()) != 0) {
    return Error::failed("capturing on " + options.interface + ": " + reason.data());
  }
  if (::pcap_datalink(handle.get()) != DLT_EN10MB) {
    return Error::usage("capturing on " + options.interface + ": not an Ethernet interface");
  }
  // Packets with a payload: the IP length less both headers.
  const std::string filter = "tcp port " + std::to_string(options.port) +
                             " and (ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2)) != 0";
  bpf_program program{};
  if (::pcap_compile(handle.get(), &program, filter.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0) {
    return Error::failed("compiling \"" + filter + "\": " + ::pcap_geterr(handle.get()));
  }
  const int set = ::pcap_setfilter(handle.get(), &program);
  ::pcap_freecode(&program);
  if (set != 0) {
    return Error::failed("setting the capture's filter: " + std::string(::pcap_geterr(handle.get())));
  }
  return handle;
}

// false: standard input ended. Waits a turn for either; libpcap's own wait may outlast its time-out.
bool wait_for_packets(int capture, bool input_open) {
  std::array<pollfd, 2> both = {{{capture, POLLIN, 0}, {input_open ? STDIN_FILENO : -1, POLLIN, 0}}};
  char byte = 0;
  ::poll(both.data(), both.size(), kTurnMs);
  return both[1].revents == 0 || ::read(STDIN_FILENO, &byte, 1) > 0;
}

double quantile(const std::vector<std::uint64_t>& sorted, double q) {
  if (sorted.empty()) {
    return 0;
  }
  const auto rank = static_cast<std::size_t>(std::ceil(q * static_cast<double>(sorted.size())));
  return static_cast<double>(sorted[std::max<std::size_t>(rank, 1) - 1]);
}

}  // namespace

Result<CaptureReport> run_capture(const CaptureOptions& options) {
  auto opened = open_capture(options);
  if (!opened) {
    return opened.error();
  }
  const Pcap handle = std::move(*opened);
  const auto pairs = std::make_unique<Pairs>();
  pairs->server_port = options.port;
  std::puts("ready");
  std::fflush(stdout);
  const int fd = ::pcap_get_selectable_fd(handle.get());
  int quiet_turns = 0;
  for (bool more = true; more || quiet_turns < kTurnsAfterEnd;) {
    const bool asked_on = wait_for_packets(fd, more);
    const int taken = ::pcap_dispatch(handle.get(), -1, on_packet, reinterpret_cast<u_char*>(pairs.get()));
    if (taken < 0) {
      return Error::failed("capturing on " + options.interface + ": " + ::pcap_geterr(handle.get()));
    }
    quiet_turns = more || taken > 0 ? 0 : quiet_turns + 1;
    more = more && asked_on;
  }
  pcap_stat stats{};
  ::pcap_stats(handle.get(), &stats);
  std::sort(pairs->latencies.begin(), pairs->latencies.end());
  const auto at = [&](double q) { return quantile(pairs->latencies, q); };
  return CaptureReport{
      pairs->latencies.size(), stats.ps_drop + stats.ps_ifdrop, at(0.5), at(0.9), at(0.99), at(0.999)};
}

}  // namespace ballast::bench
