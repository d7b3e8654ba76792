// SPDX-License-Identifier: Apache-2.0
// HPACK against the encoder of nghttp2: what it encodes is what we read.
#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "frames.h"

namespace ballast::bpf {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

class Encoder {
 public:
  explicit Encoder(std::size_t table = 4096) {
    nghttp2_hd_deflater* made = nullptr;
    EXPECT_EQ(::nghttp2_hd_deflate_new(&made, table), 0);
    deflater_.reset(made);
  }
  void resize(std::size_t table) { ::nghttp2_hd_deflate_change_table_size(deflater_.get(), table); }
  std::string encode(const Fields& fields) {
    std::vector<nghttp2_nv> list;
    for (const auto& [name, value] : fields) {
      list.push_back({reinterpret_cast<std::uint8_t*>(const_cast<char*>(name.data())),
                      reinterpret_cast<std::uint8_t*>(const_cast<char*>(value.data())), name.size(),
                      value.size(), NGHTTP2_NV_FLAG_NONE});
    }
    std::string out(::nghttp2_hd_deflate_bound(deflater_.get(), list.data(), list.size()), '\0');
    const auto n = ::nghttp2_hd_deflate_hd(deflater_.get(), reinterpret_cast<std::uint8_t*>(out.data()),
                                           out.size(), list.data(), list.size());
    EXPECT_GE(n, 0);
    out.resize(static_cast<std::size_t>(n));
    return out;
  }

 private:
  struct Delete {
    void operator()(nghttp2_hd_deflater* d) const { ::nghttp2_hd_deflate_del(d); }
  };
  std::unique_ptr<nghttp2_hd_deflater, Delete> deflater_;
};

// One block alone, handed over in pieces of `size`.
void read(hpack_decoder& decoder, const std::string& block, std::size_t size) {
  hpack_begin(&decoder);
  for (std::size_t at = 0; at < block.size();) {
    const std::size_t n = std::min(size, block.size() - at);
    u8 bytes[HTTP1_WINDOW + 16] = {};
    ASSERT_LE(n, static_cast<std::size_t>(HTTP1_WINDOW));
    std::memcpy(bytes, block.data() + at, n);
    for (u32 pos = 0; pos < n;) {
      pos += hpack_step(&decoder, bytes, pos, static_cast<u32>(n) - pos);
    }
    at += n;
  }
  hpack_end(&decoder);
}

TEST(Hpack, EveryStatus) {
  for (const std::size_t size : {1U, 3U, 256U}) {
    Encoder encoder;
    hpack_decoder decoder{};
    for (int status = 100; status < 600; ++status) {
      read(decoder, encoder.encode({{":status", std::to_string(status)}}), size);
      EXPECT_EQ(decoder.status, status);
    }
    for (int round = 0; round < 3; ++round) {  // from the dynamic table
      for (int status = 501; status < 511; ++status) {
        read(decoder, encoder.encode({{":status", std::to_string(status)}, {"server", "x"}}), size);
        EXPECT_EQ(decoder.status, status);
        EXPECT_EQ(decoder.side, HPACK_RESPONSE);
      }
    }
    for (const int status : {200, 204, 206, 304, 400, 404, 500}) {
      read(decoder, encoder.encode({{":status", std::to_string(status)}}), size);
      EXPECT_EQ(decoder.status, status);
    }
  }
}

TEST(Hpack, GrpcStatusInTrailers) {
  for (const std::size_t size : {1U, 256U}) {
    Encoder encoder;
    hpack_decoder decoder{};
    for (int round = 0; round < 3; ++round) {
      for (int status = 0; status <= 16; ++status) {
        read(decoder, encoder.encode({{"grpc-status", std::to_string(status)}, {"grpc-message", ""}}), size);
        EXPECT_EQ(decoder.grpc_status, status);
        EXPECT_EQ(decoder.side, HPACK_NO_SIDE);
      }
    }
    for (const char* odd : {"17", "99", "x", "", "123", "1x", "/"}) {
      read(decoder, encoder.encode({{"grpc-status", odd}}), size);
      EXPECT_EQ(decoder.grpc_status, HPACK_GRPC_UNKNOWN) << odd;
    }
    read(decoder, encoder.encode({{"grpc-statuz", "0"}, {"sync-status", "0"}}), size);
    EXPECT_EQ(decoder.grpc_status, HPACK_GRPC_UNKNOWN);
  }
}

TEST(Hpack, GrpcByContentType) {
  for (const std::size_t size : {1U, 7U, 256U}) {
    Encoder encoder;
    hpack_decoder decoder{};
    const auto grpc = [&](const std::string& type) {
      read(decoder,
           encoder.encode(
               {{":method", "POST"}, {":path", "/a.B/c"}, {"content-type", type}, {"te", "trailers"}}),
           size);
      return decoder.grpc != 0;
    };
    for (int round = 0; round < 3; ++round) {
      EXPECT_TRUE(grpc("application/grpc"));
      EXPECT_TRUE(grpc("application/grpc+proto"));
      EXPECT_TRUE(grpc("application/grpc;charset=utf-8"));
      for (const char* web :
           {"application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"}) {
        EXPECT_FALSE(grpc(web)) << "its status is in the body";
      }
      EXPECT_FALSE(grpc("application/json"));
      EXPECT_FALSE(grpc("application/grp"));
      EXPECT_FALSE(grpc("text/plain"));
    }
  }
}

// gRPC's own encoder spells names out that the static table has.
TEST(Hpack, NamesSpeltOut) {
  for (const std::size_t size : {1U, 256U}) {
    hpack_decoder decoder{};
    const std::string block = frame::field(0x40, ":status", "503") + frame::field(0, "grpc-status", "14") +
                              frame::field(0x10, "content-type", "application/grpc");
    read(decoder, block, size);
    EXPECT_EQ(decoder.status, 503);
    EXPECT_EQ(decoder.grpc_status, 14);
    EXPECT_EQ(decoder.grpc, 1);
    EXPECT_EQ(decoder.side, HPACK_RESPONSE);
    // ":status" and "content-type", Huffman-coded.
    const std::string coded = std::string("\x00\x85\xb8\x84\x8d\x36\xa3\x03", 8) + "404" +
                              std::string("\x00\x89\x21\xea\x49\x6a\x4a\xc9\xf5\x59\x7f\x10", 12) +
                              "application/grpc";
    read(decoder, coded, size);
    EXPECT_EQ(decoder.status, 404);
    EXPECT_EQ(decoder.grpc, 1);
  }
}

// The table turns over, shrinks and grows: an ordinal names an entry all the same.
TEST(Hpack, FollowsTheDynamicTable) {
  std::mt19937 random(7);
  Encoder encoder;
  hpack_decoder decoder{};
  for (int round = 0; round < 5000; ++round) {
    if (random() % 100 == 0) {
      encoder.resize(std::vector<std::size_t>{0, 64, 300, 4096}[random() % 4]);
    }
    const int status = std::vector<int>{200, 201, 302, 404, 429, 500, 502, 503}[random() % 8];
    const int grpc = static_cast<int>(random() % 17);
    Fields fields{{":status", std::to_string(status)}};
    for (std::size_t i = random() % 4; i > 0; --i) {
      fields.push_back({"x-" + std::to_string(random() % 50), std::string(random() % 200, 'v')});
    }
    if (random() % 2 == 0) {
      fields.push_back({"content-type", "application/grpc"});
    }
    fields.push_back({"grpc-status", std::to_string(grpc)});
    read(decoder, encoder.encode(fields), 1 + random() % 256);
    // Thirty-two entries are remembered; one that was pushed out is unknown, never wrong.
    EXPECT_TRUE(decoder.status == status || decoder.status == 0) << round;
    EXPECT_TRUE(decoder.grpc_status == grpc || decoder.grpc_status == HPACK_GRPC_UNKNOWN) << round;
    EXPECT_LE(decoder.grpc != 0, fields[fields.size() - 2].first == "content-type") << round;
  }
}

TEST(Hpack, MetInMidLifeItKnowsWhatComesAfter) {
  Encoder encoder;
  encoder.encode({{":status", "503"}, {"grpc-status", "14"}});
  hpack_decoder decoder{};
  read(decoder, encoder.encode({{":status", "503"}, {"grpc-status", "14"}}), 256);
  EXPECT_EQ(decoder.status, 0) << "inserted before we came";
  EXPECT_EQ(decoder.grpc_status, HPACK_GRPC_UNKNOWN);
  for (int round = 0; round < 2; ++round) {
    read(decoder, encoder.encode({{":status", "502"}, {"grpc-status", "4"}}), 256);
    EXPECT_EQ(decoder.status, 502);
    EXPECT_EQ(decoder.grpc_status, HPACK_GRPC_UNKNOWN) << "its name was inserted before we came";
  }
}

TEST(Hpack, ABlockThatWasMissedIsForgotten) {
  Encoder encoder;
  hpack_decoder decoder{};
  read(decoder, encoder.encode({{":status", "503"}}), 256);
  encoder.encode({{":status", "502"}});  // lost
  hpack_forget(&decoder);
  read(decoder, encoder.encode({{":status", "503"}}), 256);
  EXPECT_EQ(decoder.status, 0) << "503 now lies where 502 would be";
}

TEST(Hpack, NoiseIsUnknown) {
  std::mt19937 random(3);
  for (int round = 0; round < 2000; ++round) {
    std::string noise(random() % 300, '\0');
    for (char& c : noise) {
      c = static_cast<char>(random());
    }
    hpack_decoder decoder{};
    read(decoder, noise, 1 + random() % 256);
    EXPECT_LE(decoder.status, 999);
    EXPECT_LE(decoder.grpc_status, HPACK_GRPC_UNKNOWN);
  }
}

}  // namespace
}  // namespace ballast::bpf
