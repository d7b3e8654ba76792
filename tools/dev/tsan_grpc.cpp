// SPDX-License-Identifier: Apache-2.0
//
// Preloaded by tools/dev/tsan.sh: tells ThreadSanitizer of the locks and queues inside gRPC. Debian's gRPC
// was not built with it, and what orders its threads (abseil's mutexes, gRPC's queues and call combiners) are
// atomics and futexes, which the sanitizer sees only in code that it instrumented: without this each
// hand-over of an object through gRPC looks like a race. The names are those of Debian 12's build; where
// there is no such name the sanitizer reports more, never less.
#include <dlfcn.h>
#include <grpc/grpc.h>

#include <cstdint>

extern "C" {
void __tsan_acquire(void* at);
void __tsan_release(void* at);
}

namespace {

template <typename Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

// absl::Duration, and absl::Time around one, as the x86-64 and arm64 ABIs pass them.
struct Duration {
  std::int64_t seconds;
  std::uint32_t ticks;
};

}  // namespace

extern "C" {

// absl::Mutex::Lock() and so on.
void _ZN4absl7debian35Mutex4LockEv(void* mutex) {
  static auto* const real = next<void(void*)>("_ZN4absl7debian35Mutex4LockEv");
  real(mutex);
  __tsan_acquire(mutex);
}

void _ZN4absl7debian35Mutex6UnlockEv(void* mutex) {
  static auto* const real = next<void(void*)>("_ZN4absl7debian35Mutex6UnlockEv");
  __tsan_release(mutex);
  real(mutex);
}

bool _ZN4absl7debian35Mutex7TryLockEv(void* mutex) {
  static auto* const real = next<bool(void*)>("_ZN4absl7debian35Mutex7TryLockEv");
  const bool held = real(mutex);
  if (held) {
    __tsan_acquire(mutex);
  }
  return held;
}

void _ZN4absl7debian37CondVar4WaitEPNS0_5MutexE(void* changed, void* mutex) {
  static auto* const real = next<void(void*, void*)>("_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE");
  __tsan_release(mutex);
  real(changed, mutex);
  __tsan_acquire(mutex);
}

bool _ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE(void* changed, void* mutex,
                                                                          Duration timeout) {
  static auto* const real = next<bool(void*, void*, Duration)>(
      "_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE");
  __tsan_release(mutex);
  const bool out = real(changed, mutex, timeout);
  __tsan_acquire(mutex);
  return out;
}

bool _ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE(void* changed, void* mutex,
                                                                       Duration deadline) {
  static auto* const real =
      next<bool(void*, void*, Duration)>("_ZN4absl7debian37CondVar16WaitWithDeadlineEPNS0_5MutexENS0_4TimeE");
  __tsan_release(mutex);
  const bool out = real(changed, mutex, deadline);
  __tsan_acquire(mutex);
  return out;
}

// grpc_core::MultiProducerSingleConsumerQueue.
bool _ZN9grpc_core32MultiProducerSingleConsumerQueue4PushEPNS0_4NodeE(void* queue, void* node) {
  static auto* const real =
      next<bool(void*, void*)>("_ZN9grpc_core32MultiProducerSingleConsumerQueue4PushEPNS0_4NodeE");
  __tsan_release(queue);
  return real(queue, node);
}

void* _ZN9grpc_core32MultiProducerSingleConsumerQueue15PopAndCheckEndEPb(void* queue, bool* empty) {
  static auto* const real =
      next<void*(void*, bool*)>("_ZN9grpc_core32MultiProducerSingleConsumerQueue15PopAndCheckEndEPb");
  void* const node = real(queue, empty);
  __tsan_acquire(queue);
  return node;
}

// grpc_core::CallCombiner: a lock around each call, whose waiters are closures.
void _ZN9grpc_core12CallCombiner5StartEP12grpc_closureN4absl7debian36StatusEPKciS7_(
    void* combiner, void* closure, void* error, const char* file, int line, const char* reason) {
  static auto* const real = next<void(void*, void*, void*, const char*, int, const char*)>(
      "_ZN9grpc_core12CallCombiner5StartEP12grpc_closureN4absl7debian36StatusEPKciS7_");
  __tsan_release(combiner);
  __tsan_acquire(combiner);
  real(combiner, closure, error, file, line, reason);
}

void _ZN9grpc_core12CallCombiner4StopEPKciS2_(void* combiner, const char* file, int line,
                                              const char* reason) {
  static auto* const real =
      next<void(void*, const char*, int, const char*)>("_ZN9grpc_core12CallCombiner4StopEPKciS2_");
  __tsan_release(combiner);
  __tsan_acquire(combiner);
  real(combiner, file, line, reason);
}

// A batch of operations hands its tag over to whoever takes it out of the completion queue.
grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t count, void* tag,
                                      void* reserved) {
  static auto* const real = next<decltype(grpc_call_start_batch)>("grpc_call_start_batch");
  __tsan_release(tag);
  return real(call, ops, count, tag, reserved);
}

grpc_event grpc_completion_queue_next(grpc_completion_queue* queue, gpr_timespec deadline, void* reserved) {
  static auto* const real = next<decltype(grpc_completion_queue_next)>("grpc_completion_queue_next");
  const grpc_event event = real(queue, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) {
    __tsan_acquire(event.tag);
  }
  return event;
}

grpc_event grpc_completion_queue_pluck(grpc_completion_queue* queue, void* tag, gpr_timespec deadline,
                                       void* reserved) {
  static auto* const real = next<decltype(grpc_completion_queue_pluck)>("grpc_completion_queue_pluck");
  const grpc_event event = real(queue, tag, deadline, reserved);
  if (event.type == GRPC_OP_COMPLETE) {
    __tsan_acquire(tag);
  }
  return event;
}

// grpc::internal::ServerCallbackCall::ScheduleOnDone(bool): called when the last reaction is over, which a
// count behind the table of virtual functions and another count tells.
void _ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb(void* call, bool here) {
  static auto* const real =
      next<void(void*, bool)>("_ZN4grpc8internal18ServerCallbackCall14ScheduleOnDoneEb");
  __tsan_acquire(static_cast<char*>(call) + sizeof(void*) + sizeof(int));
  real(call, here);
}

}  // extern "C"
