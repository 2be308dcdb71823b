#pragma once

#include <atomic>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "brick/server/brick_server.h"
#include "dht/volume.h"
#include "dht/volume_impl.h"

namespace voldfs::test {

// A volume of several bricks and any number of mounts of it, in the test's process: real servers on kernel-chosen ports of
// 127.0.0.1, bricks in a private directory that goes with the cluster. One thread.
class Cluster {
 public:
  struct Options {
    size_t bricks = 2;
    uint32_t dir_copies = 2;
    uint32_t grace_ms = 500;           // a restarted brick waits so long for clients
    uint32_t down_timeout_ms = 10'000; // requests to a brick that is down fail after this
    uint32_t lease_ms = 10'000;
    bool adopt = false;                // the bricks have files already (epoch 0); see brick_path()
  };

  // Ends the process with a message if the cluster cannot be had: there is nothing to test then.
  explicit Cluster(const Options& options);
  ~Cluster();
  Cluster(const Cluster&) = delete;
  Cluster& operator=(const Cluster&) = delete;

  // A client of its own: another mount.
  std::unique_ptr<dht::Volume> mount();
  std::unique_ptr<dht::Volume> mount(client::OnBrickDown on_down, uint32_t down_timeout_ms);
  const dht::VolumeMap& map() const { return map_; }

  // Bricks are named by ordinal, 1 to count().
  uint16_t count() const { return static_cast<uint16_t>(bricks_.size()); }
  server::BrickServer& brick(uint16_t ordinal);
  std::filesystem::path brick_path(uint16_t ordinal) const;
  void stop(uint16_t ordinal);
  void kill(uint16_t ordinal);
  void restart(uint16_t ordinal);  // on the port that it had
  // The brick's host goes down while it serves, and comes back. (What a disk would have lost is there still.)
  void reboot_host(uint16_t ordinal);
  const std::vector<uint8_t>& secret() const { return secret_; }
  // With Options::adopt: called once the test has put its files into the bricks' directories.
  void start_all();
  // Requests of this kind at the brick answer the errno instead; 0: no more.
  void fail_operation(uint16_t ordinal, wire::Op op, int error);
  void delay_operation(uint16_t ordinal, wire::Op op, uint32_t delay_ms);

  // Stops the bricks and has voldcheck read them. Empty: nothing is wrong; otherwise what it says.
  std::string check();

  // A name in the directory of which the brick is the authority: "PREFIX0", "PREFIX1", ...
  std::string name_at(uint16_t ordinal, const dht::NodePtr& dir, const std::string& prefix = "n") const;

 private:
  struct Brick {
    std::filesystem::path path;
    uint16_t port = 0;
    Id boot;                           // none: the machine's
    std::unique_ptr<server::BrickServer> server;
  };
  void start(uint16_t ordinal, bool init);

  const Options options_;
  std::filesystem::path directory_;
  std::vector<Brick> bricks_;
  dht::VolumeMap map_;
  std::vector<uint8_t> secret_;
};

// Makes a mount's client die after it has sent `requests` more: the last one's answer is lost too, and nothing is sent any more.
void die_after(dht::Volume& volume, int requests);
// Counts the requests that a mount sends on this thread: not what it does behind an operation.
class RequestCount {
 public:
  explicit RequestCount(dht::Volume& volume);
  ~RequestCount();
  int count() const { return *count_; }

 private:
  dht::Volume& volume_;
  std::shared_ptr<std::atomic<int>> count_;
};

}  // namespace voldfs::test
