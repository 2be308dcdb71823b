#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"
#include "brick/wire/types.h"

namespace voldfs::store {

class Handles;

// A directory that is on this brick: an open descriptor and its record, decoded. Found by id through
// Directories; lives as long as somebody holds it, also when it has been removed meanwhile (system calls on
// it then answer ENOENT, admit() kDirRemoved). Any thread.
class Directory {
 public:
  Directory(const Id& id, unique_fd fd, const wire::DirRecord& record);

  const Id& id() const { return id_; }
  bool is_root() const { return id_ == kRootId; }
  int fd() const { return fd_.get(); }  // O_RDONLY | O_DIRECTORY

  wire::DirRecord record() const;

  // Whether a request that knows the directory as `ref` says may go on: kDirBehind, kEpochOld, kDirRemoved (also
  // while it is being removed: nothing may be added to it then; `reading` asks for less).
  Result<void> admit(const wire::DirRef& ref, bool reading = false) const;

  // Changes the record: `edit` gets a copy and may refuse; what it leaves is written to the disk, then
  // becomes what record() tells. The directory's times stay as they are.
  Result<wire::DirRecord> update(const std::function<Result<void>(wire::DirRecord&)>& edit);
  // The number of names that lead to directories and whose authority this brick is.
  Result<void> count_subdirectory(int difference);

  // Held shared by operations that add or change names in this directory, exclusively by what ends it (removal) or moves
  // its times back (EntriesGuard; name_lock.h has the order).
  std::shared_mutex& entries() { return entries_; }

  // Takes in that the directory is gone: admit() refuses from now on.
  void set_removed();
  bool removed() const;

 private:
  const Id id_;
  const unique_fd fd_;
  std::shared_mutex entries_;
  mutable std::mutex mutex_;
  wire::DirRecord record_;  // guarded by mutex_
  bool removed_ = false;    // guarded by mutex_
};
using DirectoryPtr = std::shared_ptr<Directory>;

// Locks Directory::entries() of several directories in the order of their ids. One that is given twice is
// locked once, exclusively if either wants that. Null pointers are left out.
class [[nodiscard]] EntriesGuard {
 public:
  struct Want {
    DirectoryPtr directory;
    bool exclusive = false;
  };
  EntriesGuard(std::initializer_list<Want> wants);
  ~EntriesGuard();
  EntriesGuard(const EntriesGuard&) = delete;
  EntriesGuard& operator=(const EntriesGuard&) = delete;

 private:
  std::vector<Want> held_;
};

// All directories of the brick by id: a bounded cache of open ones over the index in `.voldfs/index`
// (FORMAT.md). Any thread.
class Directories {
 public:
  struct Options {
    Id volume;
    uint16_t ordinal = 0;
    size_t open_max = 4096;  // descriptors held; least recently used ones go first
  };
  // Borrows handles and descriptors: of the brick's directory and of `.voldfs`.
  Directories(int root_fd, int dot_fd, const Handles& handles, const Options& options);
  ~Directories();
  // Opens the root, which stays open; before any other call.
  Result<DirectoryPtr> load_root();

  // The directory. kDirAbsent: it is not here. kDirRemoved: it never will be again.
  Result<DirectoryPtr> find(const Id& id);
  // As find(), and admitted (Directory::admit).
  Result<DirectoryPtr> find(const wire::DirRef& ref, bool reading = false);
  // The directory if it is open now, which one that was just used is; null otherwise.
  DirectoryPtr cached(const Id& id);

  // Takes in a directory that was met or made under `name` in `parent`: reads its id and record, gives it both
  // if it has none (adoption, FORMAT.md rule 3), and sees to its index entry. Under the name's lock.
  Result<DirectoryPtr> take(const Id& parent, int parent_fd, const std::string& name);
  // Gives a new directory its record and id, in this order, and puts it into the index.
  Result<DirectoryPtr> establish(unique_fd fd, const wire::DirRecord& record);

  // It is gone from the disk: out of cache and index. `tombstone`: and its id never comes back.
  Result<void> forget(const Id& id, bool tombstone);
  bool has_tombstone(const Id& id) const;
  Result<void> make_tombstone(const Id& id);    // of one that is not here
  Result<void> remove_tombstone(const Id& id);  // the removal was given up
  // Tombstones older than 24 hours go. Called at start and now and then.
  void sweep_tombstones();

  // Reads the whole tree and writes the index anew: after a restore, when handles lead nowhere.
  Result<void> rebuild_index();
  Result<void> index_root();  // of a brick that has nothing else to index

  // Ids of directories that are here, those above `after` in their order, at most `max` of them; none: there are no more.
  Result<std::vector<Id>> list(const Id& after, size_t max) const;

  size_t open_count() const;

  // Whether a directory of epoch 0 whose home this brick is, or that it found, was met since forget_adopted().
  bool has_adopted() const { return has_adopted_.load(std::memory_order_relaxed); }
  void forget_adopted() { has_adopted_.store(false, std::memory_order_relaxed); }

 private:
  struct Cached {
    DirectoryPtr directory;
    std::list<Id>::iterator used;
  };
  DirectoryPtr insert(DirectoryPtr directory);
  Result<DirectoryPtr> open_indexed(const Id& id);
  Result<void> write_index(const Id& id, int fd);
  Result<void> bury(const Id& id);
  Result<DirectoryPtr> load(unique_fd fd, const Id& expected);
  Result<void> adopt(int fd, const Id& id, const Id& parent);
  Result<void> index_below(int dir, unsigned depth);

  const int root_fd_;
  const Handles& handles_;
  const Options options_;
  unique_fd index_, tombs_;
  DirectoryPtr root_;                         // keeps it from being evicted
  std::array<std::mutex, 64> loading_;        // by id: outside of mutex_, held while a directory is opened
  mutable std::mutex mutex_;
  std::unordered_map<Id, Cached> cache_;  // guarded by mutex_
  std::list<Id> used_;                    // guarded by mutex_; most recently used first
  std::atomic<bool> has_adopted_ = false;
};

}  // namespace voldfs::store
