#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "brick/base/unique_fd.h"

namespace voldfs::store {

// An open of a session. The descriptor lives as long as somebody uses it, also when it was closed meanwhile.
struct OpenFile {
  uint64_t session = 0;
  uint32_t number = 0;      // of the session's opens, never 0
  int flags = 0;            // O_* that the client asked for
  Id id;
  unique_fd fd;             // O_RDONLY or O_RDWR; reads may come also through an O_WRONLY open
  std::atomic<bool> failed = false;  // an fsync failed: EIO until reopened
  std::atomic<bool> handed_out = false;  // its client has the descriptor (pins.h)
};

// The opens of all sessions, and the files that have no name any more but are kept for them in
// `.voldfs/open/`. Any thread. The hot path (find) takes one of many mutexes, never for a system call.
//
// Whoever takes away the last name of a file holds the object's lock over is_open() and what follows; an open
// of an object holds it over opening and insert(). So no open ever slips in between.
class OpenFiles {
 public:
  // `open_dir`: descriptor of .voldfs/open, outlives this. `grace`: opens of an earlier life may be reclaimed
  // until end_grace(); till then every file counts as open, and what lies in open_dir stays.
  OpenFiles(int open_dir, bool grace);
  // Learns what lies in open_dir; before any other call. Without grace it is removed.
  Result<void> load();

  // A new open. `wanted`: the number of a reclaimed one, 0 otherwise; asking again for a number that the
  // session has on the same file gives that open. kStaleHandle: the file is being removed; kOpenUnknown: the
  // number is another file's.
  Result<std::shared_ptr<OpenFile>> insert(uint64_t session, const Id& id, unique_fd fd, int flags,
                                           uint32_t wanted = 0);
  std::shared_ptr<OpenFile> find(uint64_t session, uint32_t number) const;  // null: not known
  // What was closed; its descriptor goes with the last reference. kOpenUnknown.
  Result<std::shared_ptr<OpenFile>> close(uint64_t session, uint32_t number);
  std::vector<std::shared_ptr<OpenFile>> close_session(uint64_t session);

  // Whether the file is open, or may be (grace): if its last name goes, keep() it.
  bool is_open(const Id& id) const;
  // Whether the file has no name (it is in open/): its link count is one less than the inode's.
  bool is_nameless(const Id& id) const;

  // Opens a file that has no name by its id. `flags`: of open(2). kStaleHandle: there is none.
  Result<unique_fd> open_nameless(const Id& id, int flags) const;

  // Takes the file's last name DIR/NAME away by renaming it to open/ID.
  Result<void> keep(int dir, const char* name, const Id& id);
  // Puts a new nameless file (O_TMPFILE) into open/ID, so that it survives a restart. After insert().
  Result<void> keep_new(int fd, const Id& id);
  // The nameless file got a name (it was linked to DIR/NAME before the call): open/ID goes.
  Result<void> named(const Id& id);

  void end_grace();         // removes the nameless files that nobody reclaimed
  uint64_t count() const;   // of opens
  uint64_t nameless_count() const;

 private:
  struct Key {
    uint64_t session;
    uint32_t number;
    bool operator==(const Key&) const = default;
  };
  struct KeyHash {
    size_t operator()(const Key& key) const {
      return (key.session * 0x9e3779b97f4a7c15u) ^ (key.number * 0xc2b2ae3d27d4eb4fu);
    }
  };
  struct Object {           // a file that is open or nameless
    uint32_t opens = 0;
    bool nameless = false;
    bool removing = false;  // open/ID is being unlinked: nobody may open it any more
  };
  static constexpr size_t kShards = 64;
  struct NumberShard {
    mutable std::mutex mutex;
    std::unordered_map<Key, std::shared_ptr<OpenFile>, KeyHash> files;  // guarded by mutex
  };
  struct ObjectShard {
    mutable std::mutex mutex;
    std::unordered_map<Id, Object> objects;                             // guarded by mutex
  };

  NumberShard& shard(const Key& key) const;
  ObjectShard& shard(const Id& id) const;
  Result<void> hold(const Id& id);      // one more open
  void release(const Id& id);           // one less; removes a nameless file after its last
  void set_nameless(const Id& id, bool nameless);
  void remove_if_unused(const Id& id);

  const int open_dir_;
  std::atomic<bool> grace_;
  std::atomic<uint32_t> next_number_;
  std::atomic<uint64_t> nameless_ = 0;  // so that is_nameless() is free while there are none
  mutable std::array<NumberShard, kShards> numbers_;
  mutable std::array<ObjectShard, kShards> objects_;
};

}  // namespace voldfs::store
