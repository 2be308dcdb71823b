#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

namespace voldfs::dht {

// One thread that does small things which nobody waits for, at their time. Started by the first. Any thread.
class Later {
 public:
  Later() = default;
  ~Later() { stop(); }
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  void run(std::chrono::milliseconds after, std::function<void()> task);
  void stop();  // what has not begun is dropped; joins

 private:
  using Clock = std::chrono::steady_clock;
  void loop();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::multimap<Clock::time_point, std::function<void()>> tasks_;  // guarded by mutex_
  bool stopped_ = false;                                           // guarded by mutex_
  std::thread thread_;                                             // guarded by mutex_
};

}  // namespace voldfs::dht
