#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::mgmt {

// Who holds which lock, as the kernel told at one moment. Looking only, it disturbs no brick that is just starting.
class HeldLocks {
 public:
  static HeldLocks look();  // at /proc/locks
  // The process that holds a brick directory's lock; none: nobody serves it.
  std::optional<pid_t> brick_server(const std::string& brick_path) const;

 private:
  std::unordered_map<std::string, pid_t> holders_;  // by device and inode, as the kernel writes them
};

std::optional<pid_t> brick_server(const std::string& brick_path);  // with a look of its own

// The file that a brick which voldmgmt started itself logs to.
std::string brick_log(const std::string& log_dir, const Id& brick);

// Starts and stops the processes of this node's bricks. Bricks outlive it: it finds them by the lock on their
// directory, never by what it remembers. One thread.
class Supervisor {
 public:
  struct Options {
    std::string program = "voldbrick";
    std::string log_dir;
    bool systemd = false;  // voldbrick@ID.service; else a session of their own
  };
  explicit Supervisor(Options options) : options_(std::move(options)) {}

  // Brings the brick up if it is down and not backing off. A sentence: why it is down.
  Explained<void> keep_up(const Id& brick, std::optional<pid_t> server, const std::string& path, const std::string& conf);
  // Asks it to end; a brick that is gone is gone. False: it is still there.
  bool bring_down(const Id& brick, std::optional<pid_t> server, const std::string& path);
  // What the brick is to log to; empty: the journal.
  std::string log_of(const Id& brick) const { return options_.systemd ? "" : brick_log(options_.log_dir, brick); }
  // Puts the brick's log aside and has the brick begin a new one. Where the old one is now. Any thread.
  Explained<std::string> rotate_log(const Id& brick, const std::string& path) const;

 private:
  struct Brick {
    pid_t child = 0;             // ours, not reaped yet
    int64_t next_try_ms = 0, delay_ms = 0;
    int64_t asked_ms = 0;        // to end; 0: not asked
    std::string last_error;
  };
  void reap(Brick& brick);
  Explained<pid_t> spawn(const std::vector<std::string>& arguments, const std::string& log);

  const Options options_;
  std::map<Id, Brick> bricks_;
};

}  // namespace voldfs::mgmt
