#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <thread>

namespace voldfs::dht {

// Fetches a newer map when a brick has told of one: a thread of its own, for the threads that hear of it must not wait, and
// a mount without a request in sight is to learn of it too. Any thread.
class MapWatch {
 public:
  // False: that brick does not answer; it is asked again later, unless another one tells meanwhile.
  using Fetch = std::function<bool(uint16_t ordinal)>;

  explicit MapWatch(Fetch fetch);
  ~MapWatch() { stop(); }

  void behind(uint16_t ordinal);
  void stop();

 private:
  void run();

  const Fetch fetch_;
  std::mutex mutex_;
  std::condition_variable changed_;
  uint16_t ordinal_ = 0;             // guarded by mutex_; of the brick to ask; 0: none
  bool told_ = false;                // guarded by mutex_; since the last attempt
  bool stopping_ = false;            // guarded by mutex_
  std::thread thread_;
};

}  // namespace voldfs::dht
