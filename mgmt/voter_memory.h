#pragma once

#include <cstdint>
#include <string>

#include "brick/base/id.h"
#include "brick/base/result.h"

namespace voldfs::mgmt {

// What a voter has promised: the second copy, outside the log's directory. A log that knows less has lost something;
// its node may have voted, or acknowledged an entry, and not know of it, so it must not vote (Raft's safety rests on a
// voter's memory). One thread.
class VoterMemory {
 public:
  struct Promise {
    Id cluster;
    uint64_t voter = 0;
    uint64_t term = 0, vote = 0, last_index = 0;
    bool operator==(const Promise&) const = default;
  };

  explicit VoterMemory(std::string path) : path_(std::move(path)) {}

  // ENOENT: there is none. EBADMSG: damaged.
  Result<Promise> load() const;
  // The copy may be behind the log, when it cannot be written; it is a second net, and never the reason to stop.
  void save(const Promise& promise);

  // Whether a log with this in it has forgotten something that was promised.
  static bool forgotten(const Promise& promised, const Promise& log);

 private:
  const std::string path_;
  Promise saved_;
  bool warned_ = false;
};

}  // namespace voldfs::mgmt
