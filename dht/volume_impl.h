#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "dht/chores.h"
#include "dht/map_watch.h"
#include "dht/releases.h"
#include "dht/volume.h"

// Set on the thread that reclaims: its requests are for the brick that has come back, and wait for no other.
inline thread_local bool reclaiming = false;

// What the files that implement Volume share: the map, the bricks, the nodes, and the ways to ask a brick that mend
// what can be mended on the way. Not for anybody outside dht/.
namespace voldfs::dht {

class LockWaits;  // volume_lock.cc
class LookAhead;
class RecentNames;

// Bounds of everything that is tried again.
inline constexpr int kRetriesMax = 16;            // answers that tell the client to learn something and ask again
inline constexpr int kBusyRetriesMax = 200;       // a name in somebody else's transaction: about 10 s, then EBUSY
inline constexpr uint32_t kBusyDelayMs = 1;       // doubled up to
inline constexpr uint32_t kBusyDelayMaxMs = 64;
inline constexpr uint32_t kRestartMs = 3'000;     // a brick that is down for less has been restarted: nobody stands in for it
inline constexpr size_t kAncestorsMax = 4096;     // PATH_MAX; a longer chain of parents is a loop

// Something that a brick holds for this mount and may forget: an open file, a lock.
class Reclaimable {
 public:
  virtual ~Reclaimable() = default;
  // The brick has restarted (`lost`: and forgot the session). Called on the thread that reconnected, before other
  // requests go on; must not wait for anything but requests to this brick. False: it went away before it had answered.
  virtual bool reclaim(uint16_t ordinal, bool lost) = 0;
};

// For what another brick can answer too, or what can be made good later: not while a brick is merely restarted, for what
// its stand-ins say may be older than what it has said itself.
inline Caller unless_down(Caller caller) {
  caller.only_if_up = true;
  caller.patience_ms = kRestartMs;
  return caller;
}

// The request may have been carried out or not: its answer is lost (a session that has ended, a brick that is down), or the brick's disk
// has failed in it. Whoever looks afterwards cannot tell its doing from somebody else's, so that this is what the operation ends with.
inline bool is_unknown(const Error& error) {
  switch (error.code) {
    case wire::kUnsettled: case EIO: case EINTR: case EHOSTDOWN: case ENOTCONN: return true;
    default: return false;
  }
}

// A brick's answer among several.
struct Answer {
  uint16_t ordinal = 0;
  Result<void> status;
  wire::Reply reply;      // also of a refusal
};

using MakeDirRequest = std::function<wire::Request(const wire::DirRef& dir)>;
using MakeObjectRequest = std::function<wire::Request(const wire::ObjectRef& object)>;
using MakeBrickRequest = std::function<wire::Request(uint16_t ordinal)>;

// What a brick's word that it does not hold the directory means for an operation.
enum class IfAbsent {
  kNoEntry,      // no name of it exists there: ENOENT
  kMaterialize,  // the operation makes a name: the directory is to be made there first
};

// For tests: looks at each request before it is sent, and may refuse it. Set and called by any thread.
class BeforeRequest {
 public:
  using Hook = std::function<Result<void>(uint16_t ordinal, const wire::Request&)>;

  void operator=(Hook hook) {
    std::lock_guard lock(mutex_);
    is_set_ = hook != nullptr;
    hook_ = std::make_shared<const Hook>(std::move(hook));
  }
  Result<void> operator()(uint16_t ordinal, const wire::Request& request) const {
    if (!is_set_.load(std::memory_order_relaxed)) return {};
    std::shared_ptr<const Hook> hook;
    {
      std::lock_guard lock(mutex_);
      hook = hook_;
    }
    return *hook ? (*hook)(ordinal, request) : Result<void>{};
  }

 private:
  std::atomic<bool> is_set_ = false;
  mutable std::mutex mutex_;
  std::shared_ptr<const Hook> hook_;  // guarded by mutex_
};

// Any thread.
struct Volume::Impl {
  explicit Impl(VolumeOptions options_in);
  ~Impl();
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // --- Map and bricks (volume.cc) ---
  std::shared_ptr<const VolumeMap> map() const;
  // Null: the map knows no such brick. Valid until the volume is closed.
  client::BrickClient* brick(uint16_t ordinal) const;
  uint16_t ordinal_of(const Id& brick) const;       // 0: the map knows no such brick
  Id brick_id(uint16_t ordinal) const;              // none: the same
  bool is_up(uint16_t ordinal) const;
  std::vector<uint16_t> all_ordinals() const;       // of bricks that are not gone, ascending
  // Takes a newer map (a notification, a refusal): new bricks get clients, save_map is told.
  Result<void> adopt_map(std::string_view json);
  Result<void> fetch_map(uint16_t ordinal);
  Explained<void> reach_root(uint32_t wait_ms);

  // --- Asking bricks (volume_call.cc) ---
  // One request. kMapOld is resolved here. The other calls below end in this one or in ask().
  Result<wire::Reply> call(uint16_t ordinal, wire::Request request, const Caller& caller,
                           wire::Reply* refusal = nullptr, std::span<std::byte> data_into = {});
  // One request to each brick, sent before the first is awaited; in ascending order, so that threads which hold some bricks'
  // connections while they wait for others' never wait in a circle. For the same reason nobody
  // keeps a PendingCall across calls.
  std::vector<Answer> ask(std::vector<uint16_t> ordinals, const MakeBrickRequest& make, const Caller& caller);
  // A request to one brick about a directory: kDirBehind is resolved by a refresh, kDirAbsent as `absent` says, kEpochOld is
  // noted in the node and returned.
  Result<wire::Reply> call_dir(uint16_t ordinal, const NodePtr& dir, IfAbsent absent, const MakeDirRequest& make,
                               const Caller& caller, wire::Reply* refusal = nullptr);
  // The same, to the authority of a name; kEpochOld is resolved too. `asked`: who answered.
  Result<wire::Reply> call_name(const NodePtr& dir, std::string_view name, IfAbsent absent,
                                const MakeDirRequest& make, const Caller& caller, uint16_t* asked = nullptr,
                                wire::Reply* refusal = nullptr);
  // A request about an object, sent to where it is: a file's brick, a directory's home. kStaleHandle, kMoved and kDirAbsent are
  // resolved by looking the node's {parent, name} up again; ESTALE when the name leads to another object now.
  // `asked`: the brick that answered.
  Result<wire::Reply> call_object(const NodePtr& node, const MakeObjectRequest& make, const Caller& caller,
                                  wire::Reply* refusal = nullptr, std::span<std::byte> data_into = {},
                                  uint16_t* asked = nullptr);

  // --- Placement and nodes (volume_call.cc) ---
  uint16_t hashed(const NodePtr& dir, std::string_view name) const;  // authority in the directory's epoch
  uint16_t hashed(const wire::DirRecord& dir, std::string_view name) const;
  wire::DirRef dir_ref(const NodePtr& dir) const;
  wire::ObjectRef object_ref(const NodePtr& node) const;             // id and handle; of a directory the id alone
  // Ordinals of the bricks that a directory is materialized on; home first.
  std::vector<uint16_t> set_of(const NodePtr& dir) const;
  // What a reply's EntryBody of an object tells: the node, with location, name and record noted, and attributes. `dir` may be
  // null (no name is known). `grant`: of the reply (grant_of); counts for the name only if its authority gave it. EPROTO: it is none (a stub, no id).
  Result<Entry> entry_from(const wire::EntryBody& body, const NodePtr& dir, std::string_view name, uint16_t ordinal,
                           const Grant& grant = {});
  // Looks a node up again by its name. ESTALE: the name leads elsewhere, or is gone.
  Result<void> relocate(const NodePtr& node, const Caller& caller);

  // --- Names (volume_lookup.cc) ---
  // This mount is about to make the name, or to change what it is: what is remembered of it goes.
  void will_make(const NodePtr& dir, std::string_view name);
  Result<Entry> lookup(const NodePtr& dir, std::string_view name, const Caller& caller, Grant* missing = nullptr);
  // A directory's attributes and record from its home (from the backup while home is down), merged over its set.
  Result<Entry> stat_directory(const NodePtr& dir, const Caller& caller);

  // --- Directories over bricks (materialize.cc, volume_lookup.cc) ---
  // Makes the directory at the brick: home's set grows (the backup is told), missing ancestors come along as skeletons.
  Result<void> materialize(const NodePtr& dir, uint16_t ordinal, const Caller& caller);
  // Makes the directory at the brick only as a way to something below it.
  Result<void> make_skeleton(const NodePtr& dir, uint16_t ordinal, const Caller& caller);
  // The node of a directory by its id alone; asks all bricks when it is not known here. ENOENT.
  Result<NodePtr> directory(const Id& id, const Caller& caller);
  // Brings a brick's copy of the directory up to home's record and attributes.
  Result<void> refresh(const NodePtr& dir, uint16_t ordinal, const Caller& caller);
  // After a directory's name has changed: home's record and its place, then the copies'. A copy that is down, or has
  // something in the way, keeps its old path: it is found by id.
  Result<void> move_directory(const Id& id, const NodePtr& to, std::string_view name, const Id& txn,
                              const Caller& caller);
  void move_copies(const NodePtr& dir, const NodePtr& to, std::string_view name, const Id& txn, const Caller& caller);
  // The directory's id is refused by a brick. 0: it lives, ask again; ENOENT: it is removed.
  Result<void> revive(const NodePtr& dir, uint16_t ordinal, int& tries, const Caller& caller);
  // Takes what no name leads to out of the way of one that has a claim.
  // `expected`: its id; none: whatever it is.
  Result<void> park(uint16_t ordinal, const NodePtr& dir, std::string_view name, const Id& expected, const Caller& caller);
  // The record as home (or, while it is down, the backup) has it now, noted in the node.
  Result<wire::DirRecord> fetch_record(const NodePtr& dir, const Caller& caller);
  // As home has it: for decisions that a record which has missed a change would make wrong.
  Result<wire::DirRecord> home_record(const NodePtr& dir, const Caller& caller);
  // Attributes of a directory over its set: latest times, link count by the sum of subdirectories. `home`: what home (or
  // the backup) answered. Costs nothing when home is the whole set.
  // `grants` gets the members' permissions beside home's.
  Result<wire::Attr> merge_directory(const NodePtr& dir, const wire::EntryBody& home, const Caller& caller,
                                     std::vector<Grant>& grants);

  // --- What bricks may forget, and tell ---
  void hold(std::shared_ptr<Reclaimable> what);     // kept weakly, until drop()
  void drop(const Reclaimable* what);
  // The reply to an open of a file that was there brought its descriptor.
  void opened_for_mapping(uint16_t ordinal, const wire::Reply& reply, const Id& file, uint32_t flags);
  void set_lock_granted(std::function<void(const wire::LockBody&)> take);

  uint32_t dir_copies() const;                      // of a directory's record, home's included
  // After this long a transaction's driver counts as dead, and whoever meets the transaction ends it.
  std::atomic<uint32_t> settle_after_ms = 10'000;

  // Tests: called before each request; an error ends it unsent. A client that dies after its n-th request.
  BeforeRequest before_request;

  const VolumeOptions options;
  std::shared_ptr<const client::ClientOptions> client_options;
  NodeTable nodes;
  Grants grants;
  DeliveredPages delivered_pages;
  std::atomic<Caches*> caches = nullptr;
  NodePtr root;
  Chores chores;                                    // their requests do not wait for bricks that are down
  bool tell_released(uint16_t ordinal, const std::vector<uint32_t>& opens);  // volume_open.cc
  Releases releases{[this](uint16_t brick, const std::vector<uint32_t>& opens) { return tell_released(brick, opens); }};
  const std::unique_ptr<RecentNames> recent_names;
  const std::unique_ptr<LookAhead> look_ahead;
  std::shared_ptr<LockWaits> lock_waits;            // made on first use (volume_lock.cc)
  std::once_flag lock_waits_made;

 private:
  void connect_bricks(const VolumeMap& map);        // REQUIRES: mutex_
  void heed_options(const VolumeMap& map);          // REQUIRES: mutex_
  bool ask_for_map(uint16_t ordinal);
  Result<void> fetch_root(uint16_t ordinal);
  void note_directories(const wire::Reply& reply);
  Result<void> stamp(uint16_t ordinal, wire::Request& request);  // before_request, map version
  client::Notifications notifications(uint16_t ordinal);
  void take_back(uint16_t ordinal, const wire::RecallBody& recall, bool by_other = false);
  bool reclaim_all(uint16_t ordinal, bool lost);

  mutable std::mutex mutex_;                        // leaf: never held across a request or a callback
  std::shared_ptr<const VolumeMap> map_;            // guarded by mutex_
  std::unordered_map<uint16_t, std::unique_ptr<client::BrickClient>> bricks_;  // guarded by mutex_; only grows
  std::unordered_map<const Reclaimable*, std::weak_ptr<Reclaimable>> held_;    // guarded by mutex_
  std::function<void(const wire::LockBody&)> lock_granted_;                    // guarded by mutex_

  std::unique_ptr<MapWatch> map_watch_;             // made by open(), ended before the clients

  friend class Volume;
};

}  // namespace voldfs::dht
