#pragma once

#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <thread>

#include "mgmt/brick_link.h"
#include "mgmt/files.h"
#include "mgmt/node.h"
#include "mgmt/supervisor.h"

namespace voldfs::mgmt {

// Brings this node to the state of the cluster: derived files and bricks' processes. Idempotent; runs after every change
// and once a second, so that a file that was removed or edited is back by itself. What does not work is tried again.
//
//   STATE/state.json                 the state, for readers when no daemon runs
//   STATE/maps/VOLUME.json[.secret]  for mounts and bricks of this node
//   CONF/authority.pem               what programs trust the cluster's nodes by (tls.h)
//   CONF/bricks/ID.conf              flags of voldbrick
//   CONF/bricks/ID.prepared          which directory was found or made for a brick that is to be made in it
class Reconciler {
 public:
  Reconciler(Node& node, Supervisor::Options supervisor);
  ~Reconciler();
  void wake();
  // Of this node's bricks: what is in the way of one. Any thread.
  std::map<Id, std::string> troubles() const;
  Explained<std::string> rotate_log(const Id& brick, const std::string& path) const { return supervisor_.rotate_log(brick, path); }

 private:
  struct Signature {
    ino_t inode = 0;
    int64_t size = 0, changed_ns = 0;
    bool operator==(const Signature&) const = default;
  };
  // Which map a running brick was handed last, and how that went.
  struct Told {
    pid_t pid = 0;
    uint64_t source = 0;    // of the map, as source_of() has it
    bool done = false;
    int64_t at_ms = 0;
    bool elsewhere = false; // it listens where its node was before
  };
  struct Derived {
    Signature signature;
    uint64_t source = 0;  // version that it was made from
  };

  using Volumes = std::map<std::string, VolumePtr, std::less<>>;

  void run();
  void pass();
  Volumes changed_volumes(const ClusterState& state) const;
  void write_derived(const std::string& path, uint64_t source, mode_t mode, const std::function<std::string()>& content);
  void flush_derived();
  void write_maps(const Volumes& volumes);
  void write_confs(const Volumes& volumes);
  void write_state(const ClusterState& state);
  void write_authority();
  void run_bricks(const Volumes& volumes);
  void run_brick(const Volume& volume, const dht::BrickEntry& brick);
  std::string bring_up(const Volume& volume, const dht::BrickEntry& brick);
  std::string prepare(const dht::BrickEntry& brick);
  void bring_down(const Volume& volume, const dht::BrickEntry& brick);
  std::string conf_text(const Volume& volume, const dht::BrickEntry& brick) const;
  void tell_bricks(const Volumes& volumes);
  static bool listens_elsewhere(const BrickContact& contact);
  void remove_strays(const ClusterState& state);
  std::string conf_path(const Id& brick) const;
  std::string prepared_path(const Id& brick) const;
  static std::optional<Signature> signature_of(const std::string& path);

  Node& node_;
  Supervisor supervisor_;                     // the thread's
  HeldLocks locks_;                           // the thread's, of this pass
  std::map<std::string, Derived> derived_;    // the thread's
  FileBatch batch_;                           // the thread's
  std::vector<std::pair<std::string, uint64_t>> in_batch_;  // the thread's: path and source of what is being written
  std::map<Id, Told> told_;                   // the thread's
  std::map<Id, int64_t> stopping_since_ms_;   // the thread's
  Volumes seen_;                              // the thread's, of the last pass
  std::set<std::string, std::less<>> unsettled_;  // the thread's: volumes that the last pass has not brought to an end
  int64_t all_next_ms_ = 0, state_next_ms_ = 0;   // the thread's: when everything is looked at; when state.json may be written
  mutable std::mutex mutex_;
  std::condition_variable wake_;              // with mutex_
  bool changed_ = true, stopping_ = false;    // guarded by mutex_
  std::map<Id, std::string> troubles_;        // guarded by mutex_
  std::thread thread_;
};

}  // namespace voldfs::mgmt
