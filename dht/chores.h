#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace voldfs::dht {

// What is left to do behind an operation that has happened, and that nobody waits for: one thread, started by the first. Who
// comes when too much is waiting does his own. Any thread.
class Chores {
 public:
  Chores() = default;
  ~Chores() { finish(); }
  Chores(const Chores&) = delete;
  Chores& operator=(const Chores&) = delete;

  void add(std::function<void()> chore);
  void wait();    // until all that was added before is done
  void finish();  // does what is left, and takes no more but at once

 private:
  static constexpr size_t kWaitingMax = 64;
  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> chores_;  // guarded by mutex_; the first one is being done
  bool finishing_ = false;                    // guarded by mutex_
  std::thread thread_;                        // guarded by mutex_
};

}  // namespace voldfs::dht
