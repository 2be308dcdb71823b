#pragma once

#include "dht/volume_impl.h"

namespace voldfs::dht {

// What a name's authority says of it, marks and transactions resolved.
struct Resolved {
  uint16_t authority = 0;      // who answered
  uint16_t brick = 0;          // where the object is; a directory's home
  bool stub = false;           // the authority has a stub only
  bool marked = false;         // the name is marked by a transaction that is not decided
  wire::ObjectType type{};
  wire::ObjectRef object{};
  Id pending;                  // a stub whose transaction is not cleaned up
  Grant grant;                 // of the authority's answer
  wire::EntryBody body{};      // with attributes and record, when the object is at the authority

  bool is_directory() const { return type == wire::ObjectType::kDirectory; }
};

// A name's authority has the object itself.
Resolved resolved_from(const wire::EntryBody& body, uint16_t asked);

// Whether a directory's backup may answer in the place of a name's authority that is down: to go on along a path. It may not have
// heard of the last changes, so that nothing is changed on its word.
enum class StandIn : uint8_t { kWillNotDo, kWillDo };

// One round trip to the authority, when nothing is in the way. ENOENT: the name does not exist.
Result<Resolved> resolve(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller,
                         StandIn stand_in = StandIn::kWillNotDo, Grant* missing = nullptr);

// The object behind a stub, with attributes, from its brick. ESTALE: it is not where the stub leads.
Result<wire::EntryBody> object_behind(Volume::Impl& volume, const NodePtr& dir, std::string_view name,
                                      const Resolved& name_is, const Caller& caller, Grant* grant = nullptr);

// A whole lookup result of what resolve() found.
Result<Entry> entry_of(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Resolved& found,
                       const Caller& caller);

// A name that is in somebody's transaction (EBUSY, kLeaving): settles what can be settled, otherwise waits a little.
// `tries` counts; EBUSY after kBusyRetriesMax.
Result<void> wait_for_name(Volume::Impl& volume, const NodePtr& dir, std::string_view name, int& tries,
                           const Caller& caller);

// For what is busy without a name of its own (a directory being removed, the volume's lock).
Result<void> wait_busy(int& tries, const Caller& caller);

}  // namespace voldfs::dht
