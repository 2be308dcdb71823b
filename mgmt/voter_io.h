#pragma once

#include <functional>
#include <string>

#include "mgmt/libraft.h"
#include "mgmt/voter_memory.h"

namespace voldfs::mgmt {

// libraft's access to the disk and the network, with this project's own between it and libraft: what becomes durable is noted a
// second time (VoterMemory), after the log for what is added, before the log for what is taken away, and before libraft
// is told. The log's thread alone; must outlive the raft that uses it.
class VoterIo : public raft_io {
 public:
  struct Options {
    std::string memory_path;
    Id cluster;
    uint64_t voter = 0;
    bool must_exist = true;                        // there is a log, and an empty directory has lost it
    std::function<bool(uint64_t voter, bool entries)> cut_off;  // null: nobody is. Messages to such a voter (entries: with new entries of the log) are lost, as on a network that is cut
    std::function<void(std::function<void()>)> later;  // does it on the log's thread, soon; with cut_off
    std::function<void()> snapshot_written;        // a snapshot is on the disk; null: nobody is told
  };
  explicit VoterIo(Options options) : raft_io{}, options_(std::move(options)), memory_(options_.memory_path) {}
  VoterIo(const VoterIo&) = delete;
  VoterIo& operator=(const VoterIo&) = delete;

  // When raft_uv_init() and raft_init() have filled this in.
  void wrap();
  // Loading has found less than what was promised.
  bool forgotten() const { return forgotten_; }
  // Of the log's last entry: who has the higher one knows more (Raft, 5.4.1).
  uint64_t last_term() const { return last_term_; }

 private:
  template <class Request, class Callback>
  struct Write;

  static VoterIo& of(raft_io* io) { return *static_cast<VoterIo*>(io); }
  static int append_noted(raft_io* io, raft_io_append* request, const raft_entry* entries, unsigned n, raft_io_append_cb done);
  static int snapshot_put_noted(raft_io* io, unsigned trailing, raft_io_snapshot_put* request, const raft_snapshot* snapshot,
                                raft_io_snapshot_put_cb done);
  int load_checked(raft_term* term, raft_id* vote, raft_snapshot** snapshot, raft_index* start, raft_entry** entries, size_t* n);
  bool check_promise() const;
  void note();

  const Options options_;
  raft_io inner_{};
  VoterMemory memory_;
  VoterMemory::Promise promise_;
  uint64_t appended_ = 0;  // last index handed to the disk
  uint64_t last_term_ = 0; // of that entry
  bool forgotten_ = false;
};

}  // namespace voldfs::mgmt
