#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "brick/base/clock.h"
#include "brick/base/id.h"
#include "brick/wire/types.h"
#include "dht/data_stamp.h"
#include "dht/grant.h"
#include "dht/kernel_pages.h"
#include "dht/known_names.h"

namespace voldfs::dht {

// The inode number of an object: from its id, so it survives rename, migration and remount. The root's is 1.
uint64_t inode_number(const Id& id);

class Durability;  // open_file.h: whether what was written to a file is safe
class Node;
using NodePtr = std::shared_ptr<Node>;

// What a mount knows of one file or directory. Made by the first lookup, shared by everyone who works on the
// object, gone when the kernel has forgotten it and nobody holds it. Any thread: everything that changes is
// guarded by mutex_, which is a leaf lock: held for copies only, never across a request.
class Node : public std::enable_shared_from_this<Node> {
 public:
  Node(const Id& id, wire::ObjectType type) : id_(id), type_(type) {}

  const Id& id() const { return id_; }
  wire::ObjectType type() const { return type_; }
  bool is_file() const { return type_ == wire::ObjectType::kFile; }
  bool is_directory() const { return type_ == wire::ObjectType::kDirectory; }

  // Where the object is: ordinal of its brick (a directory's home) and its handle there.
  struct Location {
    uint16_t brick = 0;
    wire::Handle handle{};
  };
  Location location() const;
  void set_location(const Location& location);

  // A name that leads here: the last one that was looked up. A directory's only one. Root: parent null.
  struct Name {
    NodePtr parent;
    std::string name;
  };
  Name name() const;
  void set_name(NodePtr parent, std::string_view name);

  // Directories: the newest record known (by change counter; epoch and set included).
  wire::DirRecord record() const;
  void update_record(const wire::DirRecord& record);  // ignores an older one

  // Directories: their attributes as each brick has told them last, kept while its word holds (Grants): a stat merges them
  // without asking. Afterwards they are what is last known, and count while the brick is down. What is older than what is
  // known is ignored: answers overtake each other.
  struct BrickAttr {
    Grant grant;               // sequence orders those of one brick
    wire::Attr attr{};
    uint32_t subdirectories = 0;
    uint32_t times_change = 0; // as in the record
  };
  void note_attr(const BrickAttr& told);
  // What the brick has told before is out of date.
  void forget_attr(Grant since);
  // What all have told is: a change of the directory itself, of which no brick tells the outcome.
  void forget_attrs();
  std::optional<BrickAttr> attr_of(uint16_t brick) const;

  // Whether what these grants tell of the directory may be kept: nothing newer is known, and no change by this mount is on its
  // way. The kernel would take an answer that a change has overtaken for the newer one.
  bool may_keep(std::span<const Grant> grants) const;

  // Whether a power failure may still take its name from it (dht/durable_names.h). `change`: of a directory's record, whose
  // growth counts too; 0 for others.
  bool is_name_durable(uint64_t change) const {
    std::lock_guard guard(mutex_);
    return durable_change_ > change;
  }
  void set_name_durable(uint64_t change) {
    std::lock_guard guard(mutex_);
    durable_change_ = change + 1;
  }

  // Directories: removed through this mount, with these attributes at last: what a descriptor of it still shows. Ids do not
  // come back, so it stays so.
  void set_removed(const wire::Attr& last);
  std::optional<wire::Attr> removed() const;

  // Files: shared by all opens of the file; made on first use (open_file.cc).
  std::shared_ptr<Durability> durability();
  // One of them has ended, with what it had from durability(): what tells nothing any more goes.
  void end_open(std::shared_ptr<Durability> used);

  // Files: as they were last opened.
  DataStamp exchange_data_stamp(const DataStamp& stamp) {
    std::lock_guard guard(mutex_);
    return std::exchange(as_file().data_stamp, stamp);
  }

  // Files: null until one is opened by way of the daemon.
  KernelPages* kernel_pages() const { return kernel_pages_.load(std::memory_order_acquire); }
  KernelPages& make_kernel_pages();

  // Files: the kernel is being told that it may keep the attributes for so long.
  void note_kept(double seconds);
  int64_t told_to_keep_ms() const { return told_to_keep_ms_.load(std::memory_order_acquire); }  // when it was last, CLOCK_BOOTTIME
  bool may_be_kept() const { return boottime_ms() < kept_until_ms_.load(std::memory_order_acquire); }
  // It is about to be told to keep them no longer. What it may keep from now on counts anew. REQUIRES: between deliveries.
  bool end_kept() { return boottime_ms() < kept_until_ms_.exchange(0, std::memory_order_acq_rel); }

  // Directories: what was listed last, as each brick had it, and after how many changes by this mount. The kernel may go on with
  // what it keeps of that listing while all of it still holds.
  struct Listing {
    std::vector<Grant> grants;  // empty: nothing that could be kept
    uint64_t changes = 0;
  };
  void note_listing(Listing listing);
  Listing listing() const;

  // Directories: which names may be in them (known_names.h). Each operation that makes a name says so first.
  void will_have(std::string_view name) {
    use_known_names([name](KnownNames& known) { known.will_have(name); });
  }
  // `use` is called under the node's lock: it takes no other.
  void use_known_names(const std::function<void(KnownNames&)>& use);
  // The grants by which the name is known to be missing; empty: it is not known.
  std::vector<Grant> grants_of_missing(std::string_view name) const;

  // Of the directory by this mount; begins where no other node's has been, also one's of the same directory that was forgotten.
  std::atomic<uint64_t> changes = 0;

  std::atomic<uint32_t> lookups_asked = 0;  // that bricks were asked for, since LookAhead has last fetched it

  // Changes of the directory by this mount that the kernel has not heard the end of (Changing).
  std::atomic<int> changing = 0;

  // Files: a close(2) through this mount has just begun, whose end the kernel may still have to tell of.
  void note_close() { closed_ms_.store(boottime_ms(), std::memory_order_relaxed); }
  bool was_closed_lately() const { return boottime_ms() - closed_ms_.load(std::memory_order_relaxed) < kCloseTakes_ms; }

  // Files: while the grant holds there is no security.capability, which the kernel asks for before it writes.
  void note_no_capability(const Grant& grant);
  Grant no_capability() const;

  // Not of directories: while the grant holds there are no extended attributes that a client can see.
  void note_no_xattrs(const Grant& grant);
  // This mount has changed them, as of the grant, which says no more than when; what was told before is void.
  void note_xattrs_changed(const Grant& when);
  Grant no_xattrs() const;

  // The kernel's lookup count; fuse/ alone uses it, under the NodeTable's shard lock.
  uint64_t kernel_lookups = 0;

 private:
  static constexpr int64_t kCloseTakes_ms = 100;
  std::atomic<int64_t> closed_ms_ = -kCloseTakes_ms;
  const Id id_;
  const wire::ObjectType type_;
  mutable std::mutex mutex_;
  Location location_;                         // guarded by mutex_
  Name name_;                                 // guarded by mutex_
  uint64_t durable_change_ = 0;               // guarded by mutex_: one above the change that is durable; 0: the name is not
  Grant no_xattrs_, no_capability_;           // guarded by mutex_; not of directories

  // A mount knows very many files and has few of them open: what most nodes do not need is made when it is.
  struct AsDirectory {
    std::optional<wire::DirRecord> record;
    std::vector<BrickAttr> brick_attrs;       // by no order
    Listing listing;
    std::unique_ptr<KnownNames> known_names;
    std::optional<wire::Attr> removed;
  };
  struct AsFile {
    std::shared_ptr<Durability> durability;
    DataStamp data_stamp;
    Grant xattrs_changed;
    std::unique_ptr<KernelPages> kernel_pages;
  };
  AsDirectory& as_directory() { return *(as_directory_ ? as_directory_ : as_directory_ = std::make_unique<AsDirectory>()); }  // REQUIRES: mutex_
  AsFile& as_file() { return *(as_file_ ? as_file_ : as_file_ = std::make_unique<AsFile>()); }                                  // REQUIRES: mutex_
  std::unique_ptr<AsDirectory> as_directory_;  // guarded by mutex_; null until needed
  std::unique_ptr<AsFile> as_file_;            // guarded by mutex_; null until needed
  std::atomic<KernelPages*> kernel_pages_ = nullptr;
  std::atomic<int64_t> kept_until_ms_ = 0, told_to_keep_ms_ = 0;
};

// From before a request that changes a directory, or names in it, until the kernel has its answer.
class [[nodiscard]] Changing {
 public:
  explicit Changing(NodePtr node) : node_(std::move(node)) { node_->changing.fetch_add(1); }
  ~Changing() { node_->changing.fetch_sub(1); }
  Changing(const Changing&) = delete;
  Changing& operator=(const Changing&) = delete;

 private:
  const NodePtr node_;
};

// All nodes of a mount, by id: two lookups of one object (hard links, a rename) find the same node. Sharded; any
// thread. Nodes are kept while the kernel counts them or somebody holds them (weak references otherwise).
class NodeTable {
 public:
  NodePtr get(const Id& id, wire::ObjectType type);  // finds or makes
  NodePtr find(const Id& id);                        // null: not known
  // fuse/: the kernel got (n > 0) or forgot lookups of the node; a counted node is held by the table.
  void count(const NodePtr& node, uint64_t n);
  void forget(Node* node, uint64_t n);
  size_t size() const;
  uint64_t forgotten() const { return forgotten_.load(); }  // nodes that the kernel has forgotten, so far
  // Of each node that is there now; without a lock during the calls.
  void for_each(const std::function<void(const NodePtr&)>& visit);

 private:
  static constexpr size_t kShards = 64;
  static constexpr size_t kSweepMin = 256;
  struct Entry {
    std::weak_ptr<Node> node;
    NodePtr held;  // not null while kernel_lookups > 0
  };
  struct Shard {
    mutable std::mutex mutex;
    std::unordered_map<Id, Entry> nodes;  // guarded by mutex
    size_t sweep_at = kSweepMin;          // guarded by mutex: when so many are there, ended ones are taken out
  };
  Shard& shard(const Id& id);
  std::atomic<uint64_t> forgotten_ = 0;
  std::array<Shard, kShards> shards_;
  static constexpr int kChangesBits = 32;  // of one node while the kernel knows it
  std::atomic<uint64_t> made_ = 0;
};

}  // namespace voldfs::dht
