#include "dht/chores.h"

#include <utility>

namespace voldfs::dht {

void Chores::add(std::function<void()> chore) {
  {
    std::lock_guard lock(mutex_);
    if (!finishing_ && chores_.size() < kWaitingMax) {
      chores_.push_back(std::move(chore));
      if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
      changed_.notify_all();
      return;
    }
  }
  chore();
}

void Chores::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return finishing_ || !chores_.empty(); });
    if (chores_.empty()) return;
    const std::function<void()> chore = chores_.front();
    lock.unlock();
    chore();
    lock.lock();
    chores_.pop_front();
    changed_.notify_all();
  }
}

void Chores::wait() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return chores_.empty(); });
}

void Chores::finish() {
  std::thread thread;
  {
    std::lock_guard lock(mutex_);
    finishing_ = true;
    thread = std::move(thread_);
    changed_.notify_all();
  }
  if (thread.joinable()) thread.join();
}

}  // namespace voldfs::dht
