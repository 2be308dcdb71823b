#pragma once

#include <functional>

#include "dht/open_file.h"
#include "dht/volume_impl.h"

namespace voldfs::dht {

using MakeFileRequest = std::function<wire::Request(const wire::ObjectRef& object, uint32_t open)>;

// A request through an open, to the brick that it is at. kOpenUnknown: opened again, once, and repeated; kGrace: asked again
// until the brick serves. The reply's verifier is noted (`wrote`: as a write's).
Result<wire::Reply> call_file(Volume::Impl& volume, const OpenFilePtr& file, bool wrote, const MakeFileRequest& make,
                              const Caller& caller, std::span<std::byte> data_into = {});

// What a reply with an EntryBody says of a node that is known.
Result<Entry> entry_of_node(Volume::Impl& volume, const NodePtr& node, const Result<wire::Reply>& reply, uint16_t brick);

// A change of an object's attributes, flags or xattrs, for `make`, which gets the object and the change counter to send
// along. A file: at its brick. A directory: at home, which counts it, then at the other bricks that hold it, at once; one that
// is down or behind is brought up to date when it is asked next. The reply is the file's brick's, or home's.
Result<wire::Reply> change_object(Volume::Impl& volume, const NodePtr& node,
                                  const std::function<wire::Request(const wire::ObjectRef& object, uint64_t change)>& make,
                                  const Caller& caller, uint16_t* asked);

}  // namespace voldfs::dht
