#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <mutex>

#include "brick/base/id.h"

namespace voldfs::dht {

// Pages of a directory's entries with validity that the kernel has been given, and may not have made names of yet. It dates names when it links
// them, not when it asked (fs/fuse/readdir.c, fuse_direntplus_link): who takes a directory's names back waits for the pages on their way, and
// takes them back once more. A page is linked before its descriptor is read on or closed, which ends it. Any thread.
class DeliveredPages {
 public:
  // The last page of a descriptor. One thread at a time.
  class Page {
   public:
    Page() = default;
    ~Page() { end(); }
    Page(const Page&) = delete;
    Page& operator=(const Page&) = delete;

    // It is about to be delivered. Under Grants::Delivery: who takes names back either sees it, or it has no validity. `all` outlives this.
    void begin(DeliveredPages& all, const Id& directory);
    void end();

   private:
    DeliveredPages* all_ = nullptr;
    uint64_t number_ = 0;
  };

  // Waits for the directory's pages that have been delivered by now, for each of them until kLinkedWithin after its delivery at most: the kernel
  // may have to wait for a lookup before it can link a name, and that for us. False: there were none.
  bool wait(const Id& directory);

  static constexpr std::chrono::milliseconds kLinkedWithin{20};

 private:
  struct Delivered {
    Id directory;
    std::chrono::steady_clock::time_point at;
  };

  std::mutex mutex_;  // leaf
  std::condition_variable ended_;
  uint64_t last_ = 0;                    // guarded by mutex_
  std::map<uint64_t, Delivered> pages_;  // guarded by mutex_; by number, the oldest first
};

}  // namespace voldfs::dht
