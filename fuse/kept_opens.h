#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dht/later.h"
#include "fuse/handles.h"

namespace voldfs::fuse {

struct Mount;

// Deferred close: the last open for reading of a file outlives its close(2) for a while, and serves the next one of the same user
// without asking the brick. It does so only while the brick's grant of the attributes holds that came with the open, so nothing
// that anybody else has done could have changed its outcome; the kernel checks permissions before it asks us. It ends when the brick
// asks for the file back, before this mount takes the file's name away, and after kKeptMs.
// Any thread. mutex_ is a leaf lock.
class KeptOpens {
 public:
  // The mount's volume and backing files outlive close_all().
  explicit KeptOpens(const Mount& mount) : mount_(mount) {}

  // A handle whose last descriptor has gone, and whose locks are dropped. True: it is taken, and is released later.
  bool keep(std::unique_ptr<FileHandle>& handle, const dht::Caller& who);
  // Null: the brick has to be asked.
  std::unique_ptr<FileHandle> take(const dht::Node& node, uint32_t flags, const dht::Caller& who);
  // The file's name is about to go: released at once, so that the brick does not have to keep the file.
  void end_name(const dht::Node& dir, std::string_view name);
  // Not used from here on, and released soon. Never waits: called while a brick waits for us.
  void drop(const Id& file);
  void drop_all();
  // Releases everything; nothing is kept after it.
  void close_all();

 private:
  struct Kept {
    std::unique_ptr<FileHandle> handle;
    uint32_t uid, gid;
    int64_t end_ms;       // CLOCK_BOOTTIME
    size_t name;          // its key in by_name_
  };
  using List = std::list<Kept>;
  static constexpr size_t kKeptMax = 16'384;  // at a brick those of all mounts are as many as its leases at most
  static constexpr int64_t kKeptMs = 5'000;
  static constexpr std::chrono::milliseconds kSweep{1'000};

  bool is_granted(const dht::OpenFile& file) const;
  static size_t key_of(const Id& dir, std::string_view name);
  void remove(List::iterator at, List& removed);  // REQUIRES: mutex_
  void schedule_sweep();                          // REQUIRES: mutex_
  void sweep();
  void release(List ended);
  void release_soon(List ended);

  const Mount& mount_;
  std::mutex mutex_;
  List kept_;                                           // guarded by mutex_; the oldest first
  std::unordered_map<Id, List::iterator> by_file_;      // guarded by mutex_
  std::unordered_map<size_t, Id> by_name_;              // guarded by mutex_; of two names with one key the last one's
  // The kernel tells of a close when it comes to it: the name may have gone by then. The last few that went; mutex_.
  std::array<size_t, 64> ended_names_{};
  size_t next_ended_ = 0;                               // guarded by mutex_
  bool sweeping_ = false, closed_ = false;              // guarded by mutex_
  dht::Later later_;
};

}  // namespace voldfs::fuse
