// SPDX-License-Identifier: Apache-2.0
// The differential target: a stream cut at arbitrary packet borders gives what the uncut one gives.
// Where the uncut one is in order to its end, which holds for every stream that the generator makes.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "frames.h"
#include "http1_driver.h"
#include "http2_driver.h"

namespace {

namespace frame = ballast::bpf::frame;

std::string make_http1(FuzzedDataProvider& input, bool answers) {
  std::string out;
  for (int i = input.ConsumeIntegralInRange(1, 6); i > 0; --i) {
    out += answers ? "HTTP/1.1 " + std::to_string(input.PickValueInArray({200, 201, 302, 404, 500, 503})) +
                         " x\r\n"
                   : input.PickValueInArray({"GET /", "POST /", "HEAD /", "OPTIONS *"}) +
                         std::string(input.ConsumeIntegralInRange(0, 300), 'p') + " HTTP/1.1\r\n";
    for (int fields = input.ConsumeIntegralInRange(0, 4); fields > 0; --fields) {
      out += input.PickValueInArray({"Host", "Cookie", "TE", "Content-Type", "Transfer-Encodin"}) +
             std::string(": ") + std::string(input.ConsumeIntegralInRange(0, 200), 'v') + "\r\n";
    }
    const std::size_t body = input.ConsumeIntegralInRange<std::size_t>(0, 600);
    if (input.ConsumeBool()) {
      out += "Content-Length: " + std::to_string(body) + "\r\n\r\n" + std::string(body, 'b');
      continue;
    }
    out += "Transfer-Encoding: chunked\r\n\r\n";
    if (body > 0) {
      char size[32];
      std::snprintf(size, sizeof size, "%zx", body);
      out +=
          size + std::string(input.ConsumeBool() ? ";ext=1" : "") + "\r\n" + std::string(body, 'c') + "\r\n";
    }
    out += input.ConsumeBool() ? "0\r\n\r\n" : "0\r\nTrailer: Content-Length: 9\r\n\r\n";
  }
  return out;
}

std::string block(FuzzedDataProvider& input) {
  std::string out = input.PickValueInArray({"\x82\x86\x84", "\x83\x87\x84", "\x88", "\x8d"});
  for (int i = input.ConsumeIntegralInRange(0, 5); i > 0; --i) {
    switch (input.ConsumeIntegralInRange(0, 4)) {
      case 0:
        out += frame::field(0x48, "", input.PickValueInArray({"503", "201", "429"}));
        break;
      case 1:
        out += frame::field(0x40, "grpc-status", input.PickValueInArray({"0", "14", "x"}));
        break;
      case 2:
        out += frame::field(0x5f, "", "application/grpc");
        break;
      case 3:
        out += static_cast<char>(0x80 | input.ConsumeIntegralInRange(62, 70));
        break;
      default:
        out += frame::field(0, "x-name", std::string(input.ConsumeIntegralInRange(0, 100), 'v'));
    }
  }
  return out;
}

std::string make_http2(FuzzedDataProvider& input) {
  std::string out = (input.ConsumeBool() ? frame::kPreface : "") + frame::settings();
  for (int i = input.ConsumeIntegralInRange(1, 12); i > 0; --i) {
    const auto id = static_cast<std::uint32_t>(2 * input.ConsumeIntegralInRange(0, 50) + 1);
    const bool end = input.ConsumeBool();
    switch (input.ConsumeIntegralInRange(0, 5)) {
      case 0:
        out += frame::data(id, std::string(input.ConsumeIntegralInRange(0, 700), 'd'), end);
        break;
      case 1:
        out += frame::make(HTTP2_RST_STREAM, 0, id, std::string(4, '\0'));
        break;
      case 2:
        out += frame::make(HTTP2_GOAWAY, 0, 0, frame::number(id, 4) + std::string(4, '\0'));
        break;
      case 3: {
        const std::string fields = block(input);
        const std::size_t at = input.ConsumeIntegralInRange<std::size_t>(0, fields.size());
        out += frame::make(HTTP2_HEADERS, HTTP2_PADDED | (end ? HTTP2_END_STREAM : 0), id,
                           "\3" + fields.substr(0, at) + std::string(3, '\0')) +
               frame::make(HTTP2_CONTINUATION, HTTP2_END_HEADERS, id, fields.substr(at));
        break;
      }
      default:
        out += frame::headers(id, block(input), end);
    }
  }
  return out;
}

template <typename Driver>
void feed_cut(Driver& driver, const std::string& stream, const std::vector<std::uint8_t>& cuts) {
  std::size_t at = 0;
  std::size_t next = 0;
  while (at < stream.size()) {
    const std::size_t n = cuts.empty() ? 1 : 1U + cuts[next++ % cuts.size()];
    driver.packet(std::string_view(stream).substr(at, n));
    at += n;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  const int kind = input.ConsumeIntegralInRange(0, 5);
  const auto cuts = input.ConsumeBytes<std::uint8_t>(input.ConsumeIntegralInRange(0, 16));
  if (kind < 3) {
    const bool made = kind != 2;
    const std::string stream = made ? make_http1(input, kind == 1) : input.ConsumeRemainingBytesAsString();
    ballast::bpf::Http1Driver whole;
    ballast::bpf::Http1Driver cut;
    whole.packet(stream);
    feed_cut(cut, stream, cuts);
    if ((made && whole.bad() != 0) ||
        (whole.bad() == 0 && (cut.bad() != 0 || cut.messages() != whole.messages()))) {
      std::abort();
    }
    return 0;
  }
  const bool made = kind != 5;
  const std::string stream = made ? make_http2(input) : input.ConsumeRemainingBytesAsString();
  ballast::bpf::Http2Driver whole;
  ballast::bpf::Http2Driver cut;
  whole.packet(stream);
  feed_cut(cut, stream, cuts);
  if ((made && whole.bad() != 0) ||
      (whole.bad() == 0 && (cut.bad() != 0 || cut.events() != whole.events()))) {
    std::abort();
  }
  return 0;
}
