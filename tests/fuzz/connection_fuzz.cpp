// SPDX-License-Identifier: Apache-2.0
// The stateful target: the http probe itself, in a kernel of one socket, sees whole connections, both
// directions, cut anywhere. HTTP/1 is made here; HTTP/2 is spoken by two sessions of nghttp2. What holds,
// always: no latency is ever another request's, and in flight returns to zero. Where no packet was lost,
// doubled or out of order all requests are counted and timed.
#include <fuzzer/FuzzedDataProvider.h>
#include <nghttp2/nghttp2.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "bpf/wire/wire.h"
#include "kernel/kernel.h"

namespace {

void require(bool holds, const char* what) {
  if (!holds) {
    std::fprintf(stderr, "connection: %s\n", what);
    std::abort();
  }
}

constexpr std::uint32_t kHeader = 40;  // IPv4 and TCP, without options
enum Flag : unsigned char { kFin = 1, kRst = 4 };

/// The wire at the server's socket, and its clock.
class Wire {
 public:
  explicit Wire(FuzzedDataProvider& input) : input_(input) { kernel_reset(); }

  // One packet; the time at which it passed. `seq` counts the direction's bytes from 0.
  std::uint64_t packet(bool ingress, std::uint32_t seq, const std::string& bytes, unsigned char flags = 0) {
    // No two latencies are alike by chance: 12 % to the next bucket, and so does each step.
    now_ += 1'000 + static_cast<std::uint64_t>(input_.ConsumeIntegralInRange<std::uint32_t>(0, 200'000'000));
    kernel_time(now_);
    kernel_tcp(received_, acked_, kFirst + received_);
    const std::string header = head(ingress, kFirst + seq, flags);
    unsigned char* memory = kernel_memory(header.size() + bytes.size());
    std::memcpy(memory, header.data(), header.size());
    std::memcpy(memory + header.size(), bytes.data(), bytes.size());
    require(kernel_packet(memory, static_cast<unsigned>(header.size() + bytes.size()), ingress ? 1 : 0) == 1,
            "a packet was dropped");
    const std::uint32_t end = seq + static_cast<std::uint32_t>(bytes.size());
    std::uint32_t& known = ingress ? received_ : acked_;
    if (!ingress || seq <= known) {
      known = std::max(known, end);
    }
    return now_;
  }
  void lose(std::uint32_t received) { received_ = std::max(received_, received); }

 private:
  static constexpr std::uint32_t kFirst = 0xfffff000;  // sequence numbers wrap soon

  static std::string head(bool ingress, std::uint32_t seq, unsigned char flags) {
    std::string out(kHeader, '\0');
    out[0] = 0x45;
    out[9] = 6;
    out[ingress ? 12 : 16] = 1;  // the peer's address
    out[ingress ? 16 : 12] = 2;
    out[ingress ? 20 : 22] = 3;  // its port
    out[ingress ? 22 : 20] = 4;
    for (int i = 0; i < 4; ++i) {
      out[static_cast<std::size_t>(24 + i)] = static_cast<char>(seq >> (24 - 8 * i));
    }
    out[32] = 0x50;
    out[33] = static_cast<char>(0x10 | flags);
    return out;
  }

  FuzzedDataProvider& input_;
  std::uint64_t now_ = 1'000'000'000;
  std::uint32_t received_ = 0;
  std::uint32_t acked_ = 0;
};

/// Where in a direction's bytes something begins or ends that is timed.
struct Mark {
  std::size_t at = 0;  ///< the byte that counts
  int request = 0;
  enum Kind { kBegins, kFirstByte, kLastByte } kind = kBegins;
};

struct Truth {
  std::uint64_t begins = 0;
  std::uint64_t first_byte = 0;
  std::uint64_t last_byte = 0;
};

/// One direction: what is to be sent, and what of it is timed.
struct Direction {
  std::string bytes;
  std::deque<Mark> marks;
  std::size_t sent = 0;
};

/// A connection as the server's socket sees it, packet by packet.
class Connection {
 public:
  explicit Connection(FuzzedDataProvider& input) : input_(input), wire_(input) {}

  Direction requests;
  Direction answers;
  std::map<int, Truth> truth;
  bool exact = true;

  // The next piece of a direction. Gives what passed.
  std::string pass(bool ingress, bool may_hurt) {
    Direction& d = ingress ? requests : answers;
    const std::size_t left = d.bytes.size() - d.sent;
    if (left == 0) {
      return "";
    }
    const std::size_t size = std::min<std::size_t>(
        left, input_.ConsumeBool() ? input_.ConsumeIntegralInRange<std::size_t>(1, 40)
                                   : input_.ConsumeIntegralInRange<std::size_t>(1, 40'000));
    const std::string piece = d.bytes.substr(d.sent, size);
    const auto seq = static_cast<std::uint32_t>(d.sent);
    std::uint64_t now = 0;
    std::uint64_t early = 0;  // when its second half passed, where that came first
    std::size_t half = size;
    const int hurt = may_hurt ? input_.ConsumeIntegralInRange(0, 15) : 0;
    if (hurt == 1 && ingress &&
        d.sent > 0) {  // never seen, though TCP has it; whose first bytes are is adopted
      exact = false;
      wire_.lose(seq + static_cast<std::uint32_t>(size));
    } else if (hurt == 2 && ingress && size > 1 && d.sent > 0) {  // its second half comes first
      exact = false;
      half = size / 2;
      early = wire_.packet(true, seq + static_cast<std::uint32_t>(half), piece.substr(half));
      now = wire_.packet(true, seq, piece.substr(0, half));
      wire_.lose(seq + static_cast<std::uint32_t>(size));
    } else {
      now = wire_.packet(ingress, seq, piece);
    }
    if (hurt == 3) {  // again
      wire_.packet(ingress, seq, piece);
    } else if (hurt == 4 && ingress) {  // somebody else's
      wire_.packet(true, seq + 100'000, "", input_.ConsumeBool() ? kFin : kRst);
    }
    d.sent += size;
    for (; !d.marks.empty() && d.marks.front().at < d.sent; d.marks.pop_front()) {
      Truth& one = truth[d.marks.front().request];
      (d.marks.front().kind == Mark::kBegins      ? one.begins
       : d.marks.front().kind == Mark::kFirstByte ? one.first_byte
                                                  : one.last_byte) =
          d.marks.front().at >= d.sent - size + half ? early : now;
    }
    return piece;
  }

  void end() {
    const int how = input_.ConsumeIntegralInRange(0, 4);
    const auto seq = [](const Direction& d) { return static_cast<std::uint32_t>(d.sent); };
    if (how == 1 || how == 2) {
      wire_.packet(true, seq(requests), "", how == 1 ? kFin : kRst);
    }
    if (how <= 1 || how == 3) {
      wire_.packet(false, seq(answers), "", kFin);
    }
    kernel_close();
  }

  // `protocols`: those that the connection spoke.
  void check(const std::vector<std::uint8_t>& protocols) const {
    std::multiset<std::uint32_t> first;
    std::multiset<std::uint32_t> last;
    std::uint64_t answered = 0;
    std::uint64_t ended = 0;  // those too whose requests were never seen
    for (const auto& [id, one] : truth) {
      ended += one.last_byte != 0 ? 1 : 0;
      if (one.begins != 0 && one.first_byte != 0) {
        first.insert(ballast_hist_bucket(one.first_byte - one.begins));
      }
      if (one.begins != 0 && one.last_byte != 0) {
        last.insert(ballast_hist_bucket(one.last_byte - one.begins));
        ++answered;
      }
    }
    std::uint64_t requests_seen = 0;
    std::uint64_t responses_seen = 0;
    std::uint64_t timed = 0;
    for (const std::uint8_t protocol : protocols) {
      ballast_request_key key{};
      key.cgroup_id = 7;
      key.role = BALLAST_ROLE_SERVER;
      key.protocol = protocol;
      const auto* row = static_cast<const ballast_request_value*>(kernel_value("requests", &key));
      key.role = BALLAST_ROLE_CLIENT;
      require(kernel_value("requests", &key) == nullptr, "a server was taken for a client");
      if (row == nullptr) {
        continue;
      }
      std::uint64_t responses = 0;
      for (const auto count : row->status) {
        responses += count;
      }
      requests_seen += row->requests;
      responses_seen += responses;
      require(row->in_flight + static_cast<std::int64_t>(row->requests - responses) == 0,
              "in flight does not return to zero");
      require(row->abandoned + row->no_answer <= row->requests - responses, "more were lost than were out");
      for (std::uint32_t bucket = 0; bucket < BALLAST_HIST_BUCKETS; ++bucket) {
        for (std::uint64_t i = 0; i < row->first_byte.buckets[bucket]; ++i) {
          const auto found = first.find(bucket);
          require(found != first.end(), "a latency to the first byte is another request's");
          first.erase(found);
        }
        for (std::uint64_t i = 0; i < row->last_byte.buckets[bucket]; ++i) {
          const auto found = last.find(bucket);
          require(found != last.end(), "a latency to the last byte is another request's");
          last.erase(found);
          ++timed;
        }
      }
    }
    require(responses_seen <= requests_seen, "more answers than requests");
    require(responses_seen <= ended, "more answers than were sent");
    // Those too whose heads were never seen: an answer to one of them counts for both.
    require(requests_seen <= truth.size(), "more requests than were sent");
    if (exact) {
      require(responses_seen == answered, "an answer is not counted");
      require(timed == answered, "an answer is not timed");
    }
    const std::uint32_t none = 0;
    const auto* followed = static_cast<const ballast_followed_value*>(kernel_value("followed", &none));
    require(followed == nullptr || followed->kb == 0, "storage is not taken off");
  }

 private:
  FuzzedDataProvider& input_;
  Wire wire_;
};

std::string chunks(FuzzedDataProvider& input) {
  std::string out = "Transfer-Encoding: chunked\r\n\r\n";
  for (int i = input.ConsumeIntegralInRange(0, 40); i > 0; --i) {
    char size[16];
    const int bytes = input.ConsumeIntegralInRange(1, 30);
    std::snprintf(size, sizeof size, "%x\r\n", static_cast<unsigned>(bytes));
    out += size + std::string(static_cast<std::size_t>(bytes), input.ConsumeBool() ? '\n' : 'c') + "\r\n";
  }
  return out + "0\r\n\r\n";
}

// Messages in a body are its bytes. Nobody can tell them from messages once a head was never seen.
std::string length(FuzzedDataProvider& input, bool messages) {
  const auto size = input.ConsumeIntegralInRange<std::size_t>(0, 900);
  const std::string lines =
      messages ? "GET / HTTP/1.1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" : "a body\r\n\r\nof lines\r\n\r\n";
  std::string body;
  while (body.size() < size) {
    body += lines;
  }
  return "Content-Length: " + std::to_string(size) + "\r\n\r\n" + body.substr(0, size);
}

void http1(FuzzedDataProvider& input) {
  Connection connection(input);
  const bool may_hurt = input.ConsumeBool();
  const bool pipelines = input.ConsumeBool();
  const std::size_t deep = pipelines ? 8 : 1;
  if (input.ConsumeBool()) {
    connection.requests.bytes =
        input.ConsumeBool() ? "PROXY TCP6 ::1 ::1 1 2\r\n"
                            : std::string("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c", 16) + std::string(12, 'p');
  }
  std::deque<std::pair<std::size_t, std::string>> waiting;  // end of the request's head, answer to it
  const int count = input.ConsumeIntegralInRange(1, 12);
  int made = 0;
  int answered = 0;
  std::size_t out = 0;
  while (true) {
    const bool said = connection.requests.sent == connection.requests.bytes.size();
    const bool heard = connection.answers.sent == connection.answers.bytes.size();
    if (made < count && out < deep && said && (pipelines || heard)) {
      const std::string method =
          input.PickValueInArray({"GET", "POST", "HEAD", "PROPFIND", "VERSION-CONTROL", "X"});
      connection.requests.marks.push_back({connection.requests.bytes.size(), made, Mark::kBegins});
      std::string head = method + " /" + std::string(input.ConsumeIntegralInRange<std::size_t>(0, 300), 'p') +
                         " HTTP/1.1\r\nHost: x\r\n";
      const bool refused = !pipelines && input.ConsumeIntegralInRange(0, 3) == 0;
      if (refused) {  // and the body is kept back
        head += "Expect: 100-continue\r\nContent-Length: 1234\r\n\r\n";
      } else {
        head += input.ConsumeBool() ? "\r\n" : input.ConsumeBool() ? length(input, !may_hurt) : chunks(input);
      }
      connection.requests.bytes += head;
      std::string answer =
          !refused && input.ConsumeIntegralInRange(0, 3) == 0 ? "HTTP/1.1 100 Continue\r\n\r\n" : "";
      const std::size_t interim = answer.size();
      answer += "HTTP/1.1 " +
                std::string(refused               ? "417 no"
                            : input.ConsumeBool() ? "200 OK"
                                                  : "503 no") +
                "\r\n";
      answer += method == "HEAD"      ? "Content-Length: 99\r\n\r\n"
                : input.ConsumeBool() ? length(input, !may_hurt)
                                      : chunks(input);
      waiting.emplace_back(interim, answer);
      ++made;
      ++out;
    }
    const bool can_ask = connection.requests.sent < connection.requests.bytes.size();
    const bool can_answer = !heard;
    if (can_ask && (!can_answer || input.ConsumeBool())) {
      connection.pass(true, may_hurt);
    } else if (can_answer) {
      connection.pass(false, may_hurt);
    } else if (!waiting.empty()) {  // the requests are there whole
      Direction& d = connection.answers;
      const auto& [interim, answer] = waiting.front();
      d.marks.push_back({d.bytes.size() + interim, answered, Mark::kFirstByte});
      d.bytes += answer;
      d.marks.push_back({d.bytes.size() - 1, answered, Mark::kLastByte});
      waiting.pop_front();
      ++answered;
      --out;
    } else if (made >= count) {
      break;
    }
    if (input.remaining_bytes() == 0 && made > 0 && input.ConsumeBool()) {
      break;
    }
  }
  connection.end();
  connection.check({BALLAST_PROTOCOL_HTTP1});
}

// A client that waits for its answers and a server, of which each says what it said before: GET and HEAD
// have the same head for an answer, and one of them a body behind it.
void repeats(FuzzedDataProvider& input) {
  Connection connection(input);
  const bool may_hurt = input.ConsumeBool();
  const int count = input.ConsumeIntegralInRange(1, 40);
  const std::size_t body = input.PickValueInArray<std::size_t>({0, 6, 99});
  const std::string answer = "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body) + "\r\n\r\n";
  for (int i = 0; i < count; ++i) {
    const int what = input.ConsumeIntegralInRange(0, 7);
    const bool head = what == 1;
    Direction& requests = connection.requests;
    Direction& answers = connection.answers;
    requests.marks.push_back({requests.bytes.size(), i, Mark::kBegins});
    requests.bytes +=
        std::string(head ? "HEAD" : "GET") + (what == 2 ? " /two" : " /one") + " HTTP/1.1\r\n\r\n";
    while (requests.sent < requests.bytes.size()) {
      connection.pass(true, may_hurt);
    }
    answers.marks.push_back({answers.bytes.size(), i, Mark::kFirstByte});
    answers.bytes += what == 3 ? "HTTP/1.1 404 no\r\nContent-Length: 0\r\n\r\n" : answer;
    const bool bodied = !head && what != 3 && body > 0;
    if (what == 4 && bodied) {  // the head in packets of its own
      while (answers.sent < answers.bytes.size()) {
        connection.pass(false, may_hurt);
      }
    }
    answers.bytes += bodied ? std::string(body, 'b') : "";
    answers.marks.push_back({answers.bytes.size() - 1, i, Mark::kLastByte});
    while (answers.sent < answers.bytes.size()) {
      connection.pass(false, may_hurt);
    }
  }
  connection.end();
  connection.check({BALLAST_PROTOCOL_HTTP1});
}

/// One end of an HTTP/2 connection, by nghttp2.
class Session {
 public:
  Session(bool server, Connection& connection) : server_(server), connection_(connection) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, received);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, sent);
    if (server) {
      nghttp2_session_server_new(&session_, callbacks, this);
    } else {
      nghttp2_session_client_new(&session_, callbacks, this);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  }
  ~Session() { nghttp2_session_del(session_); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // What it wants to say goes into its direction.
  void write() {
    const std::uint8_t* bytes = nullptr;
    for (ssize_t n = nghttp2_session_mem_send(session_, &bytes); n > 0;
         n = nghttp2_session_mem_send(session_, &bytes)) {
      Direction& d = direction();
      d.bytes.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(n));
      flush();
    }
    flush();
  }
  void read(const std::string& bytes) {
    require(nghttp2_session_mem_recv(session_, reinterpret_cast<const std::uint8_t*>(bytes.data()),
                                     bytes.size()) >= 0,
            "nghttp2 does not understand itself");
  }
  void ask(FuzzedDataProvider& input) {
    const std::string pad(input.ConsumeIntegralInRange<std::size_t>(0, 400), 'x');
    const char* type = input.ConsumeBool() ? "application/grpc+proto" : "text/plain";
    const std::vector<nghttp2_nv> head = {field(":method", "POST"),    field(":scheme", "http"),
                                          field(":path", "/a"),        field(":authority", "x"),
                                          field("content-type", type), field("x-pad", pad)};
    nghttp2_submit_request(session_, nullptr, head.data(), head.size(), nullptr, nullptr);
  }
  void answer(std::int32_t stream, FuzzedDataProvider& input) {
    const std::vector<nghttp2_nv> head = {field(":status", input.ConsumeBool() ? "200" : "503")};
    const bool body = input.ConsumeBool();
    left_[stream] = input.ConsumeIntegralInRange<std::size_t>(0, 3000);
    nghttp2_data_provider data{};
    data.source.ptr = &left_[stream];
    data.read_callback = [](nghttp2_session*, std::int32_t, std::uint8_t* buffer, std::size_t size,
                            std::uint32_t* flags, nghttp2_data_source* source, void*) -> ssize_t {
      auto& left = *static_cast<std::size_t*>(source->ptr);
      const std::size_t n = std::min(size, left);
      std::memset(buffer, 'd', n);
      left -= n;
      *flags = left == 0 ? NGHTTP2_DATA_FLAG_EOF : 0U;
      return static_cast<ssize_t>(n);
    };
    nghttp2_submit_response(session_, stream, head.data(), head.size(), body ? &data : nullptr);
  }
  void reset(std::int32_t stream) { nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, 8); }

  std::deque<std::int32_t> asked;  ///< streams whose request came whole

 private:
  static nghttp2_nv field(const std::string& name, const std::string& value) {
    static std::deque<std::string> kept;  // until the frame is made
    if (kept.size() > 4096) {
      kept.erase(kept.begin(), kept.begin() + 2048);
    }
    const std::string& n = kept.emplace_back(name);
    const std::string& v = kept.emplace_back(value);
    return {reinterpret_cast<std::uint8_t*>(const_cast<char*>(n.data())),
            reinterpret_cast<std::uint8_t*>(const_cast<char*>(v.data())), n.size(), v.size(),
            NGHTTP2_NV_FLAG_NONE};
  }
  Direction& direction() { return server_ ? connection_.answers : connection_.requests; }
  static int received(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    auto* self = static_cast<Session*>(user);
    if (self->server_ && frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
      self->asked.push_back(frame->hd.stream_id);
    }
    return 0;
  }
  static int sent(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    auto* self = static_cast<Session*>(user);
    self->frames_.push_back({frame->hd.length, frame->hd.type,
                             (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0, frame->hd.stream_id});
    return 0;
  }
  // Frames that were sent stand in the direction one after the other, from `placed_` on.
  void flush() {
    Direction& d = direction();
    if (!server_ && placed_ == 0 && d.bytes.size() >= 24) {
      placed_ = start_ + 24;
    }
    while (!frames_.empty() && placed_ + 9 + frames_.front().length <= d.bytes.size()) {
      const Frame frame = frames_.front();
      frames_.pop_front();
      const std::size_t begin = placed_;
      placed_ += 9 + frame.length;
      // A block that goes on in CONTINUATION frames is one frame to nghttp2: those are not made here.
      if (!server_ && frame.type == NGHTTP2_HEADERS) {
        d.marks.push_back({begin, frame.stream, Mark::kBegins});
      } else if (server_ && frame.type == NGHTTP2_HEADERS) {
        d.marks.push_back({begin, frame.stream, Mark::kFirstByte});
      }
      if (server_ && frame.end && (frame.type == NGHTTP2_HEADERS || frame.type == NGHTTP2_DATA)) {
        d.marks.push_back({placed_ - 1, frame.stream, Mark::kLastByte});
      }
    }
  }

  struct Frame {
    std::size_t length;
    std::uint8_t type;
    bool end;
    std::int32_t stream;
  };
  bool server_;
  Connection& connection_;
  nghttp2_session* session_ = nullptr;
  std::map<std::int32_t, std::size_t> left_;
  std::deque<Frame> frames_;
  std::size_t placed_ = 0;
  std::size_t start_ = 0;
};

void http2(FuzzedDataProvider& input) {
  Connection connection(input);
  const bool may_hurt = input.ConsumeBool();
  Session client(false, connection);
  Session server(true, connection);
  const bool many = input.ConsumeBool();
  int left = many ? 400 : input.ConsumeIntegralInRange(1, 20);
  std::deque<std::int32_t> out;
  for (int step = 0; step < 3000; ++step) {
    client.write();
    server.write();
    const int what = input.ConsumeIntegralInRange(0, 7);
    if (what == 0 && left > 0) {
      for (int burst = many ? 50 : 1; burst > 0 && left > 0; --burst, --left) {
        client.ask(input);
      }
    } else if (what == 1 && !server.asked.empty()) {
      const std::size_t which = input.ConsumeIntegralInRange<std::size_t>(0, server.asked.size() - 1);
      server.answer(server.asked[which], input);
      server.asked.erase(server.asked.begin() + static_cast<std::ptrdiff_t>(which));
    } else if (what == 2 && !server.asked.empty() && input.ConsumeIntegralInRange(0, 7) == 0) {
      (input.ConsumeBool() ? client : server).reset(server.asked.front());
      server.asked.pop_front();
    } else if (what <= 4) {
      server.read(connection.pass(true, may_hurt));
    } else {
      client.read(connection.pass(false, may_hurt));
    }
    if (input.remaining_bytes() == 0) {
      break;
    }
  }
  connection.end();
  connection.check({BALLAST_PROTOCOL_HTTP1, BALLAST_PROTOCOL_HTTP2, BALLAST_PROTOCOL_GRPC});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  FuzzedDataProvider input(data, size);
  // Inputs that were kept mean what they meant when there were two kinds.
  const auto kind = input.ConsumeIntegral<std::uint8_t>();
  if (kind / 32 == 6) {
    repeats(input);
  } else if (kind % 2 == 1) {
    http1(input);
  } else {
    http2(input);
  }
  return 0;
}
