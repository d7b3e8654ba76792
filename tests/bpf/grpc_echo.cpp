// SPDX-License-Identifier: Apache-2.0
// gRPC for the live probe tests and tools/bench/telemetry.sh: ballast_test_grpc server PORT, or client
// PORT KIND CALLS [A_SECOND [THREADS]], where KIND is once, collect, repeat, converse, fail (every call
// ends with UNAVAILABLE) or watched (once, beside 500 streams of the same connection that had one message,
// wait for more and are cancelled in the end) and A_SECOND 0 is as fast as can be. The client exits with 0
// when every call ended as it should, and prints the seconds that they took.
#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "echo.grpc.pb.h"

namespace {

using ballast::testing::Echo;
using ballast::testing::Text;

constexpr int kMessages = 5;
constexpr int kWatches = 500;

class Service final : public Echo::Service {
  grpc::Status Once(grpc::ServerContext*, const Text* in, Text* out) override {
    if (in->text() == "fail") {
      return {grpc::StatusCode::UNAVAILABLE, "as asked"};
    }
    out->set_text(in->text());
    return grpc::Status::OK;
  }
  grpc::Status Collect(grpc::ServerContext*, grpc::ServerReader<Text>* reader, Text* out) override {
    Text in;
    while (reader->Read(&in)) {
      out->set_text(out->text() + in.text());
    }
    return grpc::Status::OK;
  }
  grpc::Status Repeat(grpc::ServerContext*, const Text* in, grpc::ServerWriter<Text>* writer) override {
    for (int i = 0; i < kMessages; ++i) {
      writer->Write(*in);
    }
    return grpc::Status::OK;
  }
  grpc::Status Converse(grpc::ServerContext*, grpc::ServerReaderWriter<Text, Text>* stream) override {
    Text in;
    while (stream->Read(&in)) {
      stream->Write(in);
    }
    return grpc::Status::OK;
  }
};

int serve(const std::string& address) {
  Service service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return 1;
  }
  server->Wait();
  return 0;
}

bool call(Echo::Stub& stub, const std::string& kind) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  Text in;
  Text out;
  in.set_text(kind);
  if (kind == "collect") {
    const auto writer = stub.Collect(&context, &out);
    for (int i = 0; i < kMessages; ++i) {
      writer->Write(in);
    }
    writer->WritesDone();
    return writer->Finish().ok();
  }
  if (kind == "repeat") {
    const auto reader = stub.Repeat(&context, in);
    int got = 0;
    while (reader->Read(&out)) {
      ++got;
    }
    return reader->Finish().ok() && got == kMessages;
  }
  if (kind == "converse") {
    const auto stream = stub.Converse(&context);
    bool same = true;
    for (int i = 0; i < kMessages; ++i) {
      same = same && stream->Write(in) && stream->Read(&out) && out.text() == in.text();
    }
    stream->WritesDone();
    return stream->Finish().ok() && same;
  }
  const grpc::Status status = stub.Once(&context, in, &out);
  return kind == "fail" ? status.error_code() == grpc::StatusCode::UNAVAILABLE : status.ok();
}

bool drive(Echo::Stub& stub, const std::string& kind, int calls, double a_second, int threads) {
  const auto start = std::chrono::steady_clock::now();
  std::atomic<int> begun{0};
  std::atomic<bool> all_well{true};
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back([&] {
      for (int mine = begun++; mine < calls; mine = begun++) {
        if (a_second > 0) {
          std::this_thread::sleep_until(start + std::chrono::duration<double>(mine / a_second));
        }
        if (!call(stub, kind)) {
          all_well = false;
        }
      }
    });
  }
  for (std::thread& worker : workers) {
    worker.join();
  }
  std::printf("%.6f\n", std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  return all_well;
}

struct Watch {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<Text, Text>> stream;
};

bool drive_watched(Echo::Stub& stub, int calls, double a_second, int threads) {
  Text message;
  std::vector<Watch> watches(kWatches);
  bool all_well = true;
  for (Watch& watch : watches) {
    watch.stream = stub.Converse(&watch.context);
    all_well = watch.stream->Write(message) && watch.stream->Read(&message) && all_well;
  }
  all_well = drive(stub, "once", calls, a_second, threads) && all_well;
  for (Watch& watch : watches) {
    watch.context.TryCancel();
    all_well = watch.stream->Finish().error_code() == grpc::StatusCode::CANCELLED && all_well;
  }
  return all_well;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 2 ? argv[1] : "";
  const std::string address = argc > 2 ? std::string("127.0.0.1:") + argv[2] : "";
  if (mode == "server") {
    return serve(address);
  }
  if (mode != "client" || argc < 5) {
    return 2;
  }
  const double a_second = argc > 5 ? std::atof(argv[5]) : 0;
  const int threads = argc > 6 ? std::atoi(argv[6]) : 1;
  const auto stub = Echo::NewStub(grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  const std::string kind = argv[3];
  const int calls = std::atoi(argv[4]);
  const bool all_well = kind == "watched" ? drive_watched(*stub, calls, a_second, threads)
                                          : drive(*stub, kind, calls, a_second, threads);
  return all_well ? 0 : 1;
}
