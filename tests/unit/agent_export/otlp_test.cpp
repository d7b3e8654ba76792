// SPDX-License-Identifier: Apache-2.0
// Spans to a collector: a small HTTP server that reads OTLP's JSON as a collector does.
#include "agent/export/otlp.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <spdlog/sinks/ostream_sink.h>
#include <sys/socket.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "core/base/log.h"
#include "core/base/unique_fd.h"
#include "eventually.h"

namespace ballast::telemetry {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using ::testing::Not;

/// Answers every POST with the status that is set, and keeps the bodies.
class Collector {
 public:
  Collector() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    EXPECT_EQ(::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
  }
  ~Collector() {
    stop_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  void start() {
    EXPECT_EQ(::listen(listener_.get(), 8), 0);
    thread_ = std::thread([this] { serve(); });
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<std::string> requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  std::atomic<int> status = 200;

 private:
  void serve() {
    while (!stop_) {
      pollfd wait{listener_.get(), POLLIN, 0};
      if (::poll(&wait, 1, 10) <= 0) {
        continue;
      }
      const UniqueFd fd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      std::string text;
      char bytes[65536];
      std::size_t whole = std::string::npos;
      while (text.size() < whole) {
        const ssize_t n = ::recv(fd.get(), bytes, sizeof bytes, 0);
        if (n <= 0) {
          break;
        }
        text.append(bytes, static_cast<std::size_t>(n));
        const std::size_t head = text.find("\r\n\r\n");
        const std::size_t length = text.find("Content-Length: ");
        if (head != std::string::npos && length < head) {
          whole = head + 4 + std::strtoul(text.c_str() + length + 16, nullptr, 10);
        }
      }
      const std::lock_guard lock(mutex_);
      requests_.push_back(text);
      const std::string reply = "HTTP/1.1 " + std::to_string(status) + " x\r\nContent-Length: 2\r\n\r\n{}";
      ::send(fd.get(), reply.data(), reply.size(), MSG_NOSIGNAL);
    }
  }

  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  mutable std::mutex mutex_;
  std::vector<std::string> requests_;
  std::thread thread_;
};

ExportSpan one_span() {
  ExportSpan out;
  out.span.role = BALLAST_ROLE_SERVER;
  out.span.status = 503;
  out.span.start = 1000;
  out.span.first_byte = 1500;
  out.span.end = 3000;
  out.span.local = "10.0.0.1:8080";
  out.span.peer = "[fd00::2]:40000";
  out.span.head.method = "GET";
  out.span.head.target = "/items/17?x=\xff";
  out.span.id = {1, 2, 3, 4, 5, 6, 7, 8};
  out.span.parent = sample::SpanId{8, 7, 6, 5, 4, 3, 2, 1};
  out.span.trace = {0xab};
  out.pod.pod = "web-0";
  out.pod.ns = "shop";
  out.pod.service = "web";
  out.pod.cgroup = "/lab/web-0";
  out.unix_start_ns = 1'700'000'000'000'000'000ULL;
  return out;
}

std::string attribute(const json& attributes, const std::string& key) {
  for (const json& each : attributes) {
    if (each["key"] == key) {
      return each["value"].begin().value();
    }
  }
  return "";
}

TEST(OtlpJson, AsTheProtocolSpellsIt) {
  const json body = json::parse(otlp_json({one_span()}));
  const json& resource = body["resourceSpans"][0];
  EXPECT_EQ(attribute(resource["resource"]["attributes"], "service.name"), "web");
  EXPECT_EQ(attribute(resource["resource"]["attributes"], "k8s.pod.name"), "web-0");
  const json& span = resource["scopeSpans"][0]["spans"][0];
  EXPECT_EQ(span["traceId"], "ab000000000000000000000000000000");
  EXPECT_EQ(span["spanId"], "0102030405060708");
  EXPECT_EQ(span["parentSpanId"], "0807060504030201");
  EXPECT_EQ(span["kind"], 2);
  EXPECT_EQ(span["name"], "GET /items/{id}");
  EXPECT_EQ(span["startTimeUnixNano"], "1700000000000000000");
  EXPECT_EQ(span["endTimeUnixNano"], "1700000000000002000");
  EXPECT_EQ(span["status"]["code"], 2);
  EXPECT_EQ(attribute(span["attributes"], "http.response.status_code"), "503");
  EXPECT_EQ(attribute(span["attributes"], "server.port"), "8080");
  EXPECT_EQ(attribute(span["attributes"], "network.peer.address"), "fd00::2");
}

TEST(OtlpExporterTest, SpansArriveAtTheCollector) {
  Collector collector;
  collector.start();
  auto exporter = OtlpExporter::start({.endpoint = collector.url()});
  ASSERT_TRUE(exporter.ok()) << exporter.error().message;
  (*exporter)->offer({one_span(), one_span()});
  ASSERT_TRUE(eventually([&] { return (*exporter)->counts().exported == 2; }));
  const std::string request = collector.requests()[0];
  EXPECT_THAT(request, HasSubstr("POST /v1/traces HTTP/1.1"));
  EXPECT_THAT(request, HasSubstr("Content-Type: application/json"));
  const json body = json::parse(request.substr(request.find("\r\n\r\n") + 4));
  EXPECT_EQ(body["resourceSpans"][0]["scopeSpans"][0]["spans"].size(), 2U);
  EXPECT_EQ((*exporter)->counts().dropped, 0U);
}

TEST(OtlpExporterTest, ACollectorThatIsDownCostsABoundedQueue) {
  Collector collector;  // bound, not listening: connections are refused
  auto exporter = OtlpExporter::start(
      {.endpoint = collector.url(), .queue = 10, .batch = 4, .retry = std::chrono::milliseconds(20)});
  ASSERT_TRUE(exporter.ok());
  (*exporter)->offer(std::vector<ExportSpan>(25, one_span()));
  EXPECT_EQ((*exporter)->counts().dropped, 15U);
  ASSERT_TRUE(eventually([&] { return (*exporter)->counts().failures >= 2; }));
  EXPECT_EQ((*exporter)->counts().waiting, 10U);
  collector.start();
  ASSERT_TRUE(eventually([&] { return (*exporter)->counts().exported == 10; }));
  EXPECT_EQ((*exporter)->counts().dropped, 15U);
}

TEST(OtlpExporterTest, ACollectorThatRefusesIsNotAskedAgain) {
  Collector collector;
  collector.status = 400;
  collector.start();
  auto exporter = OtlpExporter::start({.endpoint = collector.url()});
  ASSERT_TRUE(exporter.ok());
  (*exporter)->offer({one_span()});
  ASSERT_TRUE(eventually([&] { return (*exporter)->counts().dropped == 1; }));
  collector.status = 503;
  (*exporter)->offer({one_span()});
  ASSERT_TRUE(eventually([&] { return collector.requests().size() >= 2; }));
  collector.status = 200;
  ASSERT_TRUE(eventually([&] { return (*exporter)->counts().exported == 1; }));
}

TEST(OtlpExporterTest, WhatItsUrlKeepsSecretIsSentAndNotLogged) {
  Collector collector;
  collector.status = 503;
  collector.start();
  std::ostringstream log;
  const auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  const std::string port = collector.url().substr(collector.url().rfind(':'));
  {
    auto exporter =
        OtlpExporter::start({.endpoint = "http://me:hush@127.0.0.1" + port + "/v1/traces?key=mute"});
    ASSERT_TRUE(exporter.ok());
    (*exporter)->offer({one_span()});
    ASSERT_TRUE(eventually([&] { return (*exporter)->counts().failures >= 1; }));
  }
  spdlog::set_default_logger(before);
  EXPECT_THAT(collector.requests()[0], HasSubstr("Authorization: Basic"));
  EXPECT_THAT(collector.requests()[0], HasSubstr("key=mute"));
  EXPECT_THAT(log.str(), HasSubstr("127.0.0.1" + port));
  EXPECT_THAT(log.str(), Not(HasSubstr("hush")));
  EXPECT_THAT(log.str(), Not(HasSubstr("mute")));
  EXPECT_THAT(OtlpExporter::start({.endpoint = "me:hush@collector"}).error().message, Not(HasSubstr("hush")));
}

TEST(OtlpExporterTest, AnAddressThatIsNoUrlIsRefused) {
  const auto exporter = OtlpExporter::start({.endpoint = "collector:4318"});
  ASSERT_FALSE(exporter.ok());
  EXPECT_EQ(exporter.error().kind, Error::Kind::kUsage);
}

}  // namespace
}  // namespace ballast::telemetry
