// SPDX-License-Identifier: Apache-2.0
//
// Clients that mean no good, over a real socket: what each is told, what is counted, and that the
// others go on.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <cmath>

#include "ballast_sync.grpc.pb.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/wire/wire.h"
#include "served.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;
using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::ServerMessage>;

class HostileStream : public Served {
 protected:
  void serve(const ServerOptions& options = {}) {
    Served::serve(options);
    channel_ = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
    stub_ = v1::GlobalNetwork::NewStub(channel_);
  }
  static v1::WorkerMessage message(const std::string& id = "w") {
    v1::WorkerMessage out;
    out.set_worker_id(id);
    return out;
  }
  v1::WorkerMessage push(const std::string& id = "w", float value = 1) const {
    Gradient gradient{network_->version(), 20, std::abs(static_cast<double>(value)),
                      std::vector<float>(spec::kParameters, 0.0F)};
    gradient.values[5] = value;
    auto out = message(id);
    *out.mutable_gradient() = to_wire(gradient);
    return out;
  }
  // The status with which the stream ends after this one message.
  grpc::Status ends(const v1::WorkerMessage& first) {
    grpc::ClientContext context;
    const auto stream = stub_->Sync(&context);
    v1::ServerMessage answer;
    stream->Write(first);
    EXPECT_FALSE(stream->Read(&answer)) << answer.ShortDebugString().substr(0, 200);
    return stream->Finish();
  }
  v1::ServerMessage answered(Stream& stream, const v1::WorkerMessage& question) {
    v1::ServerMessage answer;
    EXPECT_TRUE(stream.Write(question));
    EXPECT_TRUE(stream.Read(&answer));
    return answer;
  }
  void expect_others_go_on() {
    grpc::ClientContext context;
    const auto stream = stub_->Sync(&context);
    EXPECT_EQ(answered(*stream, push("honest", 2)).verdict(), v1::ServerMessage::ACCEPTED);
    context.TryCancel();
    stream->Finish();
  }

  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GlobalNetwork::Stub> stub_;
};

TEST_F(HostileStream, NamesWhatIsWrongWithAnIdentity) {
  serve();
  for (const std::string& id : {std::string(), std::string(300, 'x'), std::string("new\nline")}) {
    const auto status = ends(message(id));
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
    EXPECT_NE(status.error_message().find("worker_id"), std::string::npos);
  }
  EXPECT_EQ(ended(Ended::kMalformed), 3U);
  grpc::ClientContext context;
  const auto stream = stub_->Sync(&context);
  answered(*stream, message("one"));
  stream->Write(message("another"));
  v1::ServerMessage answer;
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), grpc::INVALID_ARGUMENT);
  expect_others_go_on();
}

TEST_F(HostileStream, AnswersABadGradientWithVerdictStatusAndReasonAndGoesOn) {
  serve();
  grpc::ClientContext context;
  const auto stream = stub_->Sync(&context);
  auto torn = push();
  torn.mutable_gradient()->mutable_values()->pop_back();
  auto answer = answered(*stream, torn);
  EXPECT_EQ(answer.verdict(), v1::ServerMessage::REJECTED_SHAPE);
  EXPECT_EQ(answer.status(), static_cast<unsigned>(grpc::INVALID_ARGUMENT));
  auto typed = push();
  typed.mutable_gradient()->set_type(static_cast<v1::Gradient::Type>(7));
  answer = answered(*stream, typed);
  EXPECT_EQ(answer.verdict(), v1::ServerMessage::REJECTED_TYPE);
  EXPECT_NE(answer.reason().find("float32"), std::string::npos);
  auto former = push();
  former.mutable_gradient()->mutable_acted()->set_epoch(2);
  answer = answered(*stream, former);
  EXPECT_EQ(answer.verdict(), v1::ServerMessage::REJECTED_EPOCH);
  EXPECT_EQ(answer.status(), static_cast<unsigned>(grpc::FAILED_PRECONDITION));
  EXPECT_EQ(answered(*stream, push()).verdict(), v1::ServerMessage::ACCEPTED);
  const auto stats = network_->stats();
  EXPECT_EQ(stats.verdicts[static_cast<std::size_t>(Verdict::kShape)], 1U);
  EXPECT_EQ(stats.verdicts[static_cast<std::size_t>(Verdict::kType)], 1U);
  context.TryCancel();
  stream->Finish();
}

TEST_F(HostileStream, GarbageIsMalformed) {
  serve();
  grpc::GenericStub generic(channel_);
  grpc::CompletionQueue queue;
  for (const std::string& bytes : {std::string("\xff\xff\xff\xff garbage"), std::string("\x1a\x7f short")}) {
    grpc::ClientContext context;
    auto stream = generic.PrepareCall(&context, "/ballast.sync.v1.GlobalNetwork/Sync", &queue);
    const grpc::Slice slice(bytes);
    grpc::ByteBuffer answer;
    grpc::Status status;
    const auto wait = [&] {
      void* tag = nullptr;
      bool ok = false;
      queue.Next(&tag, &ok);
    };
    stream->StartCall(nullptr);
    wait();
    stream->Write(grpc::ByteBuffer(&slice, 1), nullptr);
    wait();
    stream->Finish(&status, nullptr);
    wait();
    EXPECT_EQ(status.error_code(), grpc::INVALID_ARGUMENT) << status.error_message();
  }
  EXPECT_EQ(ended(Ended::kMalformed), 2U);
  expect_others_go_on();
}

TEST_F(HostileStream, AMessageTooLargeIsExhausted) {
  serve();
  auto large = push();
  large.mutable_gradient()->mutable_values()->resize(40'000);
  auto status = ends(large);
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(ended(Ended::kTooLarge), 1U);
  large.mutable_gradient()->mutable_values()->resize(20'000'000);
  status = ends(large);
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
  expect_others_go_on();
}

TEST_F(HostileStream, OneWorkerTooManyIsToldSo) {
  serve({.most_workers = 2});
  grpc::ClientContext contexts[2];
  std::unique_ptr<Stream> streams[2];
  for (int i = 0; i < 2; ++i) {
    streams[i] = stub_->Sync(&contexts[i]);
    answered(*streams[i], message("w" + std::to_string(i)));
  }
  const auto status = ends(message("one more"));
  EXPECT_EQ(status.error_code(), grpc::RESOURCE_EXHAUSTED) << status.error_message();
  EXPECT_EQ(ended(Ended::kTooMany), 1U);
  EXPECT_EQ(answered(*streams[0], push("w0")).verdict(), v1::ServerMessage::ACCEPTED);
  for (int i = 0; i < 2; ++i) {
    contexts[i].TryCancel();
    streams[i]->Finish();
  }
}

TEST_F(HostileStream, ASilentStreamEnds) {
  serve({.hello = 50ms, .idle = 100ms});
  grpc::ClientContext context;
  const auto mute = stub_->Sync(&context);
  v1::ServerMessage answer;
  EXPECT_FALSE(mute->Read(&answer));
  EXPECT_EQ(mute->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  grpc::ClientContext second;
  const auto stream = stub_->Sync(&second);
  answered(*stream, message());
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), grpc::DEADLINE_EXCEEDED);
  EXPECT_EQ(ended(Ended::kSilent), 2U);
}

TEST_F(HostileStream, AClientThatNeverReadsIsCutAndHoldsNobodyUp) {
  serve({.write = 200ms});
  grpc::ClientContext context;
  const auto stream = stub_->Sync(&context);
  std::jthread writer([&] {  // asks for 31 kB each time; the answers fill the window and are not read
    while (stream->Write(message())) {
    }
  });
  EXPECT_TRUE(eventually([&] { return ended(Ended::kNeverReads) == 1; }));
  expect_others_go_on();
  context.TryCancel();
  writer.join();
  stream->Finish();
  EXPECT_TRUE(eventually([&] { return server_->workers() == 0; }));
}

TEST_F(HostileStream, AServerThatStopsSaysSo) {
  serve();
  grpc::ClientContext context;
  const auto stream = stub_->Sync(&context);
  answered(*stream, push());
  server_.reset();
  v1::ServerMessage answer;
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), grpc::UNAVAILABLE);
}

}  // namespace
}  // namespace ballast::sync
