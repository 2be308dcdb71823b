#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "fuse/transport.h"

namespace voldfs::fuse {

// What a worker brings along: room for a request and for a reply's payload. Pages are used only once touched.
class WorkerBuffers {
 public:
  WorkerBuffers();
  ~WorkerBuffers();
  WorkerBuffers(const WorkerBuffers&) = delete;
  WorkerBuffers& operator=(const WorkerBuffers&) = delete;

  // Begins where a write's data falls on a page.
  std::span<std::byte> request();
  std::span<std::byte> payload();  // kPayloadMax bytes, on a page; of the channel, where it has room

  // Of the worker that this thread is. REQUIRES: it is one.
  static WorkerBuffers& current();

 private:
  friend class Workers;
  std::byte* memory_;
  std::span<std::byte> channel_room_;
  inline static thread_local WorkerBuffers* current_ = nullptr;
};

// The threads that serve the mount. Each takes a request from a channel of its own, does what it asks, blocking,
// and answers it. There is always one more waiting for the next request than there are at work, up to
// kWorkersMax; when more than kIdleWorkersMax wait, they go one by one. Any thread.
class Workers {
 public:
  using Process = std::function<void(std::span<std::byte> request)>;

  Workers(Transport& transport, Process process);
  ~Workers();  // REQUIRES: the mount has ended
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  Result<void> start();
  // Until the mount has ended and the last worker is gone; false after `timeout_ms` (0: without end).
  bool wait(uint32_t timeout_ms);
  // Until the mount has ended.
  void wait_over();
  unsigned count() const { return live_.load(std::memory_order_relaxed); }

 private:
  struct Thread;
  Result<void> spawn();
  void run(const std::shared_ptr<Channel>& channel);
  bool begin_request();    // false: a further worker was wanted and could not be made
  bool end_request();      // false: the worker is to go
  Result<std::shared_ptr<Channel>> take_channel();
  void ended();

  Transport& transport_;
  const Process process_;
  std::atomic<unsigned> idle_ = 0;
  std::atomic<unsigned> live_ = 0;
  std::atomic<bool> over_ = false;

  std::mutex mutex_;
  std::condition_variable changed_;
  unsigned threads_ = 0;                             // guarded by mutex_
  std::vector<std::shared_ptr<Channel>> channels_;   // guarded by mutex_: of workers that have gone
};

}  // namespace voldfs::fuse
