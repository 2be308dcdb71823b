#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "dht/housework.h"
#include "dht/volume.h"

namespace voldfs::dht {

// Looks after one brick, as a client of the volume beside it (DESIGN 4: "a maintenance client in voldbrick"): a thread of low
// priority that asks the brick now and then whether there is something to do. Only then does it mount the volume; with nothing
// to do for a while it leaves it again. It needs other bricks and does without them: what cannot be done is tried again.
//
// start() and stop() are one thread's.
class Maintenance {
 public:
  // What there is to do, as the brick tells.
  struct Chores {
    bool unclean = false, adopted = false, overdue = false;
    uint64_t clients_died = 0;
  };
  struct Brick {
    uint16_t ordinal = 0;
    std::function<Chores()> chores;
    std::function<std::string()> map;      // the newest that the brick has met
    std::vector<uint8_t> secret;
    std::function<void()> adopted_done;    // called before everything that was met is gone through
    std::function<void()> scrubbed;
  };
  struct Options {
    uint32_t look_ms = 2'000;              // between two looks
    uint32_t settle_after_ms = 10'000;     // a client that has not ended its work after so long is dead
    uint32_t again_ms = 30'000;            // after what could not be done
    uint32_t leave_ms = 60'000;            // with nothing to do for so long, the volume is left
    client::ClientOptions client;
  };

  Maintenance(Brick brick, Options options);
  ~Maintenance() { stop(); }
  Maintenance(const Maintenance&) = delete;
  Maintenance& operator=(const Maintenance&) = delete;

  // Begins nothing any more. Returns at once.
  void ask_to_stop();
  // Returns when the thread has ended: a request on its way to a brick that is frozen takes as long as that brick's lease.
  void stop();

  bool has_mounted() const { return mounted_.load(); }  // at the moment; for tests

 private:
  using Clock = std::chrono::steady_clock;

  void run();
  bool sleep(uint32_t milliseconds);
  void look();
  Explained<void> mount();
  void leave();
  Result<void> work(Housework& housework, const Chores& chores);
  Result<void> look_for_orphans(Housework& housework, uint64_t clients_died);

  const Brick brick_;
  const Options options_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::atomic<bool> stop_ = false;
  std::atomic<bool> mounted_ = false;

  // The thread's own.
  std::unique_ptr<Volume> volume_;
  Clock::time_point idle_since_{}, not_before_{};
  uint64_t deaths_seen_ = 0;               // clients whose orphans were looked for
  std::vector<Housework::Orphan> orphans_; // found, to be looked at again
  Clock::time_point park_at_{};
  std::thread thread_;
};

}  // namespace voldfs::dht
