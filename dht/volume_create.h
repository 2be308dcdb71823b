#pragma once

#include "dht/volume_lookup.h"

namespace voldfs::dht {

// A name that a brick says is taken. 0: only by a directory's copy, which has been parked: try again; EEXIST: it exists.
Result<void> clear_copy(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller);

// Something new of which a name's authority says that it has no room: made on another brick, with a stub at the authority.
// `make`: the request that makes it. The brick that has it is left in `brick`. ENOSPC: nobody has room.
Result<wire::Reply> place_elsewhere(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id,
                                    wire::ObjectType type, const MakeDirRequest& make, const Caller& caller,
                                    uint16_t& brick);

}  // namespace voldfs::dht
