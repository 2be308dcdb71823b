#include "mgmt/voter_io.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "mgmt/fault_point.h"

namespace voldfs::mgmt {

// An append or a snapshot on its way to the disk.
template <class Request, class Callback>
struct VoterIo::Write {
  Request own{};
  Request* original = nullptr;
  Callback done = nullptr;
  VoterIo* owner = nullptr;
  uint64_t last = 0;
};

void VoterIo::wrap() {
  inner_ = *this;
  load = [](raft_io* io, raft_term* term, raft_id* vote, raft_snapshot** snapshot, raft_index* start, raft_entry** entries, size_t* n) {
    return of(io).load_checked(term, vote, snapshot, start, entries, n);
  };
  set_term = [](raft_io* io, raft_term term) {
    VoterIo& self = of(io);
    fault_point("log.term");
    if (const int failed = self.inner_.set_term(io, term)) return failed;
    if (term != self.promise_.term) self.promise_.vote = 0;
    self.promise_.term = term;
    self.note();
    return 0;
  };
  set_vote = [](raft_io* io, raft_id vote) {
    VoterIo& self = of(io);
    fault_point("log.vote");
    if (const int failed = self.inner_.set_vote(io, vote)) return failed;
    self.promise_.vote = vote;
    self.note();
    return 0;
  };
  truncate = [](raft_io* io, raft_index index) {
    VoterIo& self = of(io);
    self.appended_ = index - 1;
    self.promise_.last_index = std::min<uint64_t>(self.promise_.last_index, index - 1);
    self.note();
    fault_point("log.truncate");
    return self.inner_.truncate(io, index);
  };
  send = [](raft_io* io, raft_io_send* request, const raft_message* message, raft_io_send_cb done) {
    VoterIo& self = of(io);
    const bool entries = message->type == RAFT_APPEND_ENTRIES && message->append_entries.n_entries > 0;
    if (!self.options_.cut_off || !self.options_.cut_off(message->server_id, entries)) return self.inner_.send(io, request, message, done);
    // An error of the call itself would tell libraft that something is wrong with this end.
    self.options_.later([request, done] { done(request, RAFT_NOCONNECTION); });
    return 0;
  };
  append = append_noted;
  snapshot_put = snapshot_put_noted;
}

int VoterIo::append_noted(raft_io* io, raft_io_append* request, const raft_entry* entries, unsigned n, raft_io_append_cb done) {
  using AppendWrite = Write<raft_io_append, raft_io_append_cb>;
  VoterIo& self = of(io);
  auto write = std::make_unique<AppendWrite>(AppendWrite{{}, request, done, &self, self.appended_ + n});
  write->own.data = write.get();
  fault_point("log.append");
  const int failed = self.inner_.append(io, &write->own, entries, n, [](raft_io_append* own, int status) {
    const std::unique_ptr<AppendWrite> finished(static_cast<AppendWrite*>(own->data));
    VoterIo& owner = *finished->owner;
    fault_point("log.appended");
    if (status == 0) {
      owner.promise_.last_index = std::max(owner.promise_.last_index, std::min(finished->last, owner.appended_));
      owner.note();  // before anyone is told that the entries are durable
    }
    fault_point("log.noted");
    finished->done(finished->original, status);
  });
  if (failed) return failed;
  self.appended_ = write->last;
  self.last_term_ = entries[n - 1].term;
  static_cast<void>(write.release());  // its callback has it
  return 0;
}

int VoterIo::snapshot_put_noted(raft_io* io, unsigned trailing, raft_io_snapshot_put* request, const raft_snapshot* snapshot,
                                raft_io_snapshot_put_cb done) {
  using SnapshotWrite = Write<raft_io_snapshot_put, raft_io_snapshot_put_cb>;
  VoterIo& self = of(io);
  auto write = std::make_unique<SnapshotWrite>(SnapshotWrite{{}, request, done, &self, snapshot->index});
  write->own.data = write.get();
  if (trailing == 0) {  // installed from the leader: the log starts anew behind it
    self.appended_ = snapshot->index;
    self.last_term_ = snapshot->term;
    self.promise_.last_index = std::min<uint64_t>(self.promise_.last_index, snapshot->index);
    self.note();
  }
  fault_point("log.snapshot");
  const int failed = self.inner_.snapshot_put(io, trailing, &write->own, snapshot, [](raft_io_snapshot_put* own, int status) {
    const std::unique_ptr<SnapshotWrite> finished(static_cast<SnapshotWrite*>(own->data));
    VoterIo& owner = *finished->owner;
    fault_point("log.snapshotted");
    if (status == 0) {
      owner.promise_.last_index = std::max(owner.promise_.last_index, finished->last);
      owner.note();
      if (owner.options_.snapshot_written) owner.options_.snapshot_written();
    }
    finished->done(finished->original, status);
  });
  if (failed) return failed;
  static_cast<void>(write.release());
  return 0;
}

int VoterIo::load_checked(raft_term* term, raft_id* vote, raft_snapshot** snapshot, raft_index* start, raft_entry** entries, size_t* n) {
  const int failed = inner_.load(this, term, vote, snapshot, start, entries, n);
  if (failed) return failed;
  const uint64_t in_snapshot = *snapshot ? (*snapshot)->index : 0;
  appended_ = std::max<uint64_t>(*start + *n - 1, in_snapshot);
  last_term_ = *n > 0 ? (*entries)[*n - 1].term : *snapshot ? (*snapshot)->term : 0;
  promise_ = {options_.cluster, options_.voter, *term, *vote, appended_};
  if (!check_promise()) {
    forgotten_ = true;
    std::snprintf(errmsg, sizeof errmsg, "the log knows less than this voter has promised");
  } else {
    note();
  }
  return 0;
}

bool VoterIo::check_promise() const {
  const auto promised = memory_.load();
  if (promised) return !VoterMemory::forgotten(*promised, promise_);
  // No second copy: the log itself counts, unless there is none either and there should be one.
  return !(options_.must_exist && promise_.term == 0 && promise_.last_index == 0);
}

void VoterIo::note() {
  if (!forgotten_) memory_.save(promise_);  // a log that lost something must not hide it
}

}  // namespace voldfs::mgmt
