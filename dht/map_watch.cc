#include "dht/map_watch.h"

#include <signal.h>

#include <algorithm>
#include <chrono>

namespace voldfs::dht {

namespace {

constexpr std::chrono::milliseconds kRetryFirst{100}, kRetryLast{5'000};

}  // namespace

MapWatch::MapWatch(Fetch fetch) : fetch_(std::move(fetch)) {
  // Signals are the application's: none is to land on this thread.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  thread_ = std::thread([this] { run(); });
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void MapWatch::behind(uint16_t ordinal) {
  {
    const std::lock_guard lock(mutex_);
    ordinal_ = ordinal;
    told_ = true;
  }
  changed_.notify_all();
}

void MapWatch::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

void MapWatch::run() {
  ::pthread_setname_np(::pthread_self(), "map_watch");
  std::chrono::milliseconds retry = kRetryFirst;
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto due = [this] { return stopping_ || told_; };
    if (ordinal_ == 0) {
      changed_.wait(lock, due);
    } else {
      changed_.wait_for(lock, retry, due);  // somebody else's word comes first
    }
    if (stopping_) return;
    if (told_) retry = kRetryFirst;
    told_ = false;
    const uint16_t ordinal = ordinal_;
    lock.unlock();
    const bool fetched = fetch_(ordinal);
    lock.lock();
    if (fetched && !told_) ordinal_ = 0;
    retry = fetched ? kRetryFirst : std::min(retry * 2, kRetryLast);
  }
}

}  // namespace voldfs::dht
