#include "fuse/workers.h"

#include <pthread.h>
#include <spdlog/spdlog.h>
#include <sys/mman.h>

#include <chrono>
#include <cstring>
#include <new>

#include "fuse/fuse_protocol.h"
#include "fuse/limits.h"

namespace voldfs::fuse {
namespace {

constexpr size_t kPage = 4096;
// The page that ends with a request's headers, its payload, and the reply's payload.
constexpr size_t kBytes = kPage + kPayloadMax + kPage + kPayloadMax;

}  // namespace

WorkerBuffers::WorkerBuffers() {
  void* memory = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<std::byte*>(memory);
}

WorkerBuffers::~WorkerBuffers() { ::munmap(memory_, kBytes); }

std::span<std::byte> WorkerBuffers::request() {
  const size_t start = kPage - protocol::kWriteHeaderSize;
  return {memory_ + start, kBytes - kPayloadMax - start};
}

std::span<std::byte> WorkerBuffers::payload() {
  if (!channel_room_.empty()) return channel_room_;
  return {memory_ + kBytes - kPayloadMax, kPayloadMax};
}

WorkerBuffers& WorkerBuffers::current() { return *current_; }

Workers::Workers(Transport& transport, Process process) : transport_(transport), process_(std::move(process)) {}

Workers::~Workers() { wait(0); }

Result<void> Workers::start() { return spawn(); }

bool Workers::wait(uint32_t timeout_ms) {
  std::unique_lock lock(mutex_);
  const auto over = [this] { return threads_ == 0; };
  if (timeout_ms == 0) {
    changed_.wait(lock, over);
    return true;
  }
  return changed_.wait_for(lock, std::chrono::milliseconds(timeout_ms), over);
}

void Workers::wait_over() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return over_.load(); });
}

Result<std::shared_ptr<Channel>> Workers::take_channel() {
  {
    std::lock_guard lock(mutex_);
    if (!channels_.empty()) {
      auto channel = std::move(channels_.back());
      channels_.pop_back();
      return channel;
    }
  }
  return transport_.open_channel();
}

struct Workers::Thread {
  Workers* workers;
  std::shared_ptr<Channel> channel;

  static void* start(void* argument) {
    std::unique_ptr<Thread> self(static_cast<Thread*>(argument));
    Workers* const workers = self->workers;
    workers->run(self->channel);
    {
      std::lock_guard lock(workers->mutex_);
      if (!workers->over_) workers->channels_.push_back(std::move(self->channel));
    }
    self.reset();
    workers->ended();
    return nullptr;
  }
};

void Workers::ended() {
  std::lock_guard lock(mutex_);
  live_.fetch_sub(1, std::memory_order_relaxed);
  if (--threads_ == 0) changed_.notify_all();  // under the lock: who waits may destroy this right after
}

Result<void> Workers::spawn() {
  auto channel = take_channel();
  if (!channel) return fail(channel.error());
  auto thread = std::make_unique<Thread>(Thread{this, std::move(*channel)});
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setstacksize(&attributes, kWorkerStackBytes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  {
    std::lock_guard lock(mutex_);
    threads_++;
  }
  live_.fetch_add(1, std::memory_order_relaxed);
  idle_.fetch_add(1);
  pthread_t id;
  const int error = ::pthread_create(&id, &attributes, &Thread::start, thread.get());
  ::pthread_attr_destroy(&attributes);
  if (error != 0) {
    idle_.fetch_sub(1);
    ended();
    return fail(error);
  }
  thread.release();
  return {};
}

// The last idle worker, before it turns to its request, sees to it that another one waits for the next.
bool Workers::begin_request() {
  if (idle_.fetch_sub(1) > 1 || live_.load(std::memory_order_relaxed) >= kWorkersMax) return true;
  return spawn().has_value();
}

bool Workers::end_request() {
  unsigned idle = idle_.load(std::memory_order_relaxed);
  do {
    if (idle >= kIdleWorkersMax && transport_.channels_are_reusable()) return false;
  } while (!idle_.compare_exchange_weak(idle, idle + 1));
  return true;
}

void Workers::run(const std::shared_ptr<Channel>& channel) {
  ::pthread_setname_np(::pthread_self(), "voldfs-worker");
  WorkerBuffers buffers;
  WorkerBuffers::current_ = &buffers;
  for (;;) {
    const auto request = channel->receive(buffers.request());
    if (!request || request->empty()) {
      if (!request) spdlog::error("fuse.receive failed error=\"{}\"", std::strerror(request.error().code));
      {
        std::lock_guard lock(mutex_);
        over_ = true;
      }
      changed_.notify_all();
      idle_.fetch_sub(1);
      break;
    }
    if (!begin_request()) spdlog::warn("fuse.workers no further thread workers={}", count());
    {
      ReplyChannel reply_through(channel);
      buffers.channel_room_ = channel->payload_room();
      process_(*request);
      buffers.channel_room_ = {};
    }
    channel->finish();
    if (!end_request()) break;
  }
  WorkerBuffers::current_ = nullptr;
}

}  // namespace voldfs::fuse
