#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/store/identity.h"
#include "brick/wire/types.h"

// One brick's directory, as brick/FORMAT.md describes it. The operations on it are in files of their own
// (names_*.cc, directory_*.cc, object_*.cc, txn_*.cc), as free functions that take a Store.
namespace voldfs::store {

class Directories;  // directories.h: from id to open directory and record; index; cache
class Handles;      // handle.h: file handles with their MAC; opening by handle
class NameLocks;    // name_lock.h: striped locks of (directory, name) and of objects
class OpenFiles;    // open_files.h: opens of all sessions; who holds an id open; unlinked files
class SettledTxns;  // settled_txns.h: repeated cleanups
class VolumeLock;   // volume_lock.h: the lease that serializes renames of directories

struct StoreOptions {
  std::string path;              // of the brick's directory
  bool init = false;             // make it a brick if it is none
  std::string map_file;          // for init, and to learn of a newer map
  Id brick;                      // for init: which of the map's bricks this is; none: found by path in the map
  uint32_t min_free_percent = 1; // new files are refused (ENOSPC) below this much free space or inodes; the map's brick.min-free wins
  uint32_t grace_ms = 20'000;    // after a start, how long clients may reclaim
  Id boot;                       // of the host; none: what the kernel says. Tests reboot hosts by it
};

// Lives as long as the process serves the brick. Any thread.
class Store {
 public:
  // Makes the directory a brick: `.voldfs/` and the root's attributes. Refuses, with a sentence that says what to do: not a
  // directory, another volume's or brick's, read-only, full, no extended attributes or file handles.
  static Explained<void> init(const StoreOptions& options);
  // Locks and opens a brick; settles nothing yet. Refuses as init does, and a brick that another process serves.
  static Explained<std::unique_ptr<Store>> open(const StoreOptions& options);
  ~Store();
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;

  const Identity& identity() const;
  const std::vector<uint8_t>& secret() const;
  int root() const;        // O_RDONLY descriptor of the brick's directory
  int dot() const;         // of .voldfs
  int tmp() const;         // of .voldfs/tmp
  int open_dir() const;    // of .voldfs/open
  int parked() const;      // of .voldfs/parked
  int txn() const;         // of .voldfs/txn
  // By how much this file system's directory positions are shifted to fit into 53 bits (readdir.h).
  unsigned position_shift() const;
  // ENOSPC when the file system has less than min_free_percent left: no new files then. What is free is asked at
  // most once in kRoomCheckMs.
  Result<void> check_room();
  uint32_t min_free_percent() const;
  bool unclean() const;    // the host went down while the brick served, and no scrub has been here since
  void set_clean();        // one has
  void abandon();          // its end is to look like that of a process that was killed; for tests
  const Id& boot() const;  // of the host
  // Clients may still reclaim: unlinked files are kept, locks are not given out. From the start until end_grace(), which whoever
  // serves the store calls when all have or grace_ms are over: others wait for that.
  bool in_grace() const;
  void end_grace();
  uint64_t verifier() const;  // boot id and file system's mount, hashed: differs when unsynced writes may be lost
  std::string map() const;    // the newest map document
  // Takes a map document if it is newer and of this volume (version and incarnation rules of dht/README.md). EINVAL, ESTALE.
  Result<void> put_map(std::string_view document);
  uint64_t map_version() const;
  std::map<std::string, std::string> map_options() const;

  Directories& directories();
  Handles& handles();
  NameLocks& name_locks();
  OpenFiles& open_files();
  VolumeLock& volume_lock();
  SettledTxns& settled_txns();

 private:
  struct Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::store
