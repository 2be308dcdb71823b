#pragma once

#include "dht/volume_lookup.h"

// Removal of directories in phases (DESIGN 4, "rmdir"), for rmdir and for the rename that replaces a directory.
namespace voldfs::dht {

// Flags of UnlinkBody.
inline constexpr uint32_t kUnlinkStub = 1;     // also a stub
inline constexpr uint32_t kUnlinkOffHash = 2;  // an object's own path, after the stub that led to it has gone

inline constexpr uint32_t kParkLedTo = 1;      // of kPark: it waits for its place

// What a stub has led to goes, after the stub: from the path of its name on its brick. That it is gone already is success.
// `txn`: behind which this cleans up, once; kTxnUnknown: that has been done.
Result<void> remove_object(Volume::Impl& volume, uint16_t brick, const NodePtr& dir, std::string_view name,
                           const wire::ObjectRef& object, const Caller& caller, const Id& txn = {});

// Home stops the directory's growth, and all of its set find that it is empty. From here on nothing can be added to it.
// ENOTEMPTY: cancelled again, everywhere. EBUSY: somebody else removes it. `name` in `parent` leads to it.
Result<void> begin_removal(Volume::Impl& volume, const NodePtr& victim, const NodePtr& parent, std::string_view name,
                           const Id& txn, const Caller& caller);
// Home forgets it. Whoever committed the loss of its name calls this, or anybody after him.
Result<void> finish_removal(Volume::Impl& volume, const NodePtr& victim, const NodePtr& parent, std::string_view name,
                            const Id& txn, const Caller& caller);
// As before begin_removal(). Nothing to cancel is success.
Result<void> cancel_removal(Volume::Impl& volume, const Id& victim, const Id& txn, const Caller& caller);

// Takes out of a brick's copy of the directory what no name leads to. ENOTEMPTY: there are names.
Result<void> park_orphans(Volume::Impl& volume, const NodePtr& dir, uint16_t ordinal, const Caller& caller);

}  // namespace voldfs::dht
