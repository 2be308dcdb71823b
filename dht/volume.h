#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "brick/client/brick_client.h"
#include "dht/delivered_pages.h"
#include "dht/grants.h"
#include "dht/node.h"
#include "dht/volume_map.h"

// A volume as one tree: the operations of a file system over bricks. What the kernel side (fuse/) calls; blocking;
// any thread. Implemented in dht/volume_*.cc, one file per family of operations.
namespace voldfs::dht {

using client::Caller;

struct VolumeOptions {
  client::ClientOptions client;          // volume, secret and client id are filled in by open()
  // What this mount has fixed; otherwise the volume's options say, and where they do not, `client`.
  std::optional<client::OnBrickDown> on_brick_down;
  std::optional<uint32_t> down_timeout_ms;
  std::function<void(std::string_view map_json)> save_map;  // a newer map was met; may be empty
  std::function<void(const VolumeMap&)> heed_map;           // the map in use, at first and when a newer one was met; may be empty
};

struct Entry {
  NodePtr node;
  wire::Attr attr{};
  // What of it may be cached, subject to Grants::Delivery: the name, by its directory's id; the attributes, by the
  // node's id, of a directory by each brick of its set. None: must not be.
  Id directory;
  Grant name_grant;
  std::vector<Grant> attr_grants;
  // Somebody on the brick's host changes the file without a request (WIRE.md, "Descriptors"): neither attributes nor data are to be kept.
  // But owner and permissions, which only requests change, are told of (by the node's id), and with them the name may be kept.
  bool pinned = false;
  Grant owner_grant;
};

class OpenFile;    // open_file.h: an open of a file on its brick, reopened by handle when the brick comes back
class DirStream;   // dir_stream.h: a directory being read
using OpenFilePtr = std::shared_ptr<OpenFile>;

struct Created {
  Entry entry;
  OpenFilePtr file;
};

// One directory entry as readdir gives it.
struct ListedEntry {
  std::string name;
  uint64_t cookie = 0;                   // telldir position behind it: {ordinal 10 bits, position 53 bits}; 1 and 2: "." and ".."
  uint64_t inode = 0;
  wire::ObjectType type{};
  bool has_attr = false;                 // with attributes: `entry` is a whole lookup result
  Entry entry;
};

// What keeps answers of the volume, and gives them up when a brick wants them back. Called on the threads that take the
// bricks' notifications; must not block on anything but the kernel's own short locks.
class Caches {
 public:
  virtual ~Caches() = default;
  virtual void drop_attributes(const NodePtr& node) = 0;  // and by them a file's pages; a directory's listing
  virtual void drop_open(const NodePtr& node) = 0;        // that is kept for the next one, if there is one
  virtual void drop_names(const Id& directory) = 0;
  virtual void drop_all(uint16_t brick) = 0;
};

// A brick as this mount uses it.
struct BrickUse {
  uint16_t ordinal = 0;
  bool up = false;
  uint64_t round_trips = 0;
};

class Volume {
 public:
  // Connects to the bricks. Fails with a sentence when no copy of the root can be reached within
  // `wait_ms`.
  static Explained<std::unique_ptr<Volume>> open(VolumeMap map, std::vector<uint8_t> secret, VolumeOptions options, uint32_t wait_ms);
  ~Volume();

  NodePtr root();
  NodeTable& nodes();
  std::shared_ptr<const VolumeMap> map() const;
  Grants& grants();
  DeliveredPages& delivered_pages();
  std::vector<BrickUse> brick_use() const;
  // Whoever caches for the mount: the kernel, through fuse/. Set before the first request.
  void set_caches(Caches* caches);

  // Names (volume_lookup.cc, volume_create.cc, volume_remove.cc, volume_rename.cc, volume_link.cc)
  // `missing`, if not null, gets the permission to cache that the name is missing (ENOENT), by the directory's id.
  Result<Entry> lookup(const NodePtr& dir, std::string_view name, const Caller& caller, Grant* missing = nullptr);
  Result<Created> create(const NodePtr& dir, std::string_view name, uint32_t mode, uint32_t flags, const Caller& caller);
  Result<Created> tmpfile(const NodePtr& dir, uint32_t mode, uint32_t flags, const Caller& caller);
  Result<Entry> mknod(const NodePtr& dir, std::string_view name, uint32_t mode, uint64_t rdev, const Caller& caller);
  Result<Entry> symlink(const NodePtr& dir, std::string_view name, std::string_view target, const Caller& caller);
  Result<Entry> mkdir(const NodePtr& dir, std::string_view name, uint32_t mode, const Caller& caller);
  Result<void> unlink(const NodePtr& dir, std::string_view name, const Caller& caller);
  Result<void> rmdir(const NodePtr& dir, std::string_view name, const Caller& caller);
  // flags: RENAME_NOREPLACE, RENAME_EXCHANGE; others EINVAL.
  Result<void> rename(const NodePtr& from, std::string_view name, const NodePtr& to, std::string_view to_name, uint32_t flags, const Caller& caller);
  Result<Entry> link(const NodePtr& node, const NodePtr& dir, std::string_view name, const Caller& caller);

  // Objects (volume_attr.cc, volume_xattr.cc, volume_open.cc). `file` may be null.
  Result<Entry> getattr(const NodePtr& node, const OpenFilePtr& file, const Caller& caller);
  Result<Entry> setattr(const NodePtr& node, const OpenFilePtr& file, const wire::Attr& attr, uint32_t valid, const Caller& caller);
  Result<std::string> readlink(const NodePtr& node, const Caller& caller);
  Result<std::vector<std::byte>> getxattr(const NodePtr& node, std::string_view name, const Caller& caller);
  Result<void> setxattr(const NodePtr& node, std::string_view name, std::span<const std::byte> value, uint32_t flags, const Caller& caller);
  Result<std::vector<std::byte>> listxattr(const NodePtr& node, const Caller& caller);
  Result<void> removexattr(const NodePtr& node, std::string_view name, const Caller& caller);
  Result<OpenFilePtr> open(const NodePtr& node, uint32_t flags, const Caller& caller);
  Result<wire::StatfsReply> statfs(const Caller& caller);  // summed; a file system shared by bricks counts once

  // Open files (volume_io.cc)
  void release(const OpenFilePtr& file, const Caller& caller);
  void drop_locks_of_open(const OpenFilePtr& file, const Caller& caller);  // a part of release()
  // At each close(2): EIO when writes through this mount are known to be lost. No round trip.
  Result<void> flush(const OpenFilePtr& file);
  Result<size_t> read(const OpenFilePtr& file, uint64_t offset, std::span<std::byte> into, const Caller& caller);
  Result<wire::WriteReply> write(const OpenFilePtr& file, uint64_t offset, std::span<const std::byte> data, uint32_t io_flags, const Caller& caller);
  Result<void> fsync(const OpenFilePtr& file, bool data_only, const Caller& caller);
  Result<void> fsync_directory(const NodePtr& dir, const Caller& caller);
  Result<Entry> fallocate(const OpenFilePtr& file, uint32_t mode, uint64_t offset, uint64_t length, const Caller& caller);
  Result<uint64_t> lseek(const OpenFilePtr& file, uint64_t offset, uint32_t whence, const Caller& caller);
  Result<wire::WriteReply> copy_range(const OpenFilePtr& from, uint64_t offset_from, const OpenFilePtr& to, uint64_t offset_to, uint64_t size, const Caller& caller);
  Result<uint32_t> get_flags(const NodePtr& node, const Caller& caller);
  Result<void> set_flags(const NodePtr& node, uint32_t flags, const Caller& caller);

  // Directories (dir_stream.cc). Pages come from all bricks of the set; `cookie` 0 is the start.
  Result<std::shared_ptr<DirStream>> open_directory(const NodePtr& dir, const Caller& caller);
  // Whether the directory's names are what they were when it was last read from its start.
  bool is_listing_current(const NodePtr& dir) const;
  // Calls `take` for entries behind the cookie until it returns false (the reply is full) or there are none, or, with attributes,
  // when it has had some. `attr_room`: bytes of the reply, for attributes too; 0: names alone.
  Result<void> read_directory(DirStream& stream, uint64_t cookie, uint32_t attr_room, const Caller& caller,
                              const std::function<bool(const ListedEntry&)>& take);

  // Locks (volume_lock.cc). A wait does not block: `granted` is called once, from another thread or before this returns,
  // with 0, EINTR after cancel_lock(), EDEADLK, or what else went wrong.
  struct LockRequest {
    wire::LockKind kind;
    wire::LockType type;
    uint64_t owner, start, end;          // bytes, both inside
    uint32_t pid;
  };
  void lock(const OpenFilePtr& file, const LockRequest& request, bool wait, const Caller& caller,
            uint64_t ticket, std::function<void(int error)> granted);
  void cancel_lock(uint64_t ticket);
  uint64_t next_ticket();
  Result<LockRequest> test_lock(const OpenFilePtr& file, const LockRequest& request, const Caller& caller);  // F_GETLK
  void drop_locks(const OpenFilePtr& file, wire::LockKind kind, uint64_t owner, const Caller& caller);      // flush, release

  // What the implementation files share (volume_impl.h).
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  Volume();
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::dht
