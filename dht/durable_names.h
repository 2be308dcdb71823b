#pragma once

#include "dht/volume_impl.h"

namespace voldfs::dht {

// Behind an fsync of a file, or of a directory: what leads to it from other bricks is made durable too, so that its path leads to it after
// a power failure, as it does on a local file system with a journal: the stub at its name's authority, the records and
// names of the directories above it at their homes. What a brick's own disk needs beside the object comes with the object's fsync, whose
// journal holds what was done before. Each is asked once for a name and, of a directory, for a change of its record: as a rule
// nobody.
Result<void> make_name_durable(Volume::Impl& volume, const NodePtr& node, const Caller& caller);

}  // namespace voldfs::dht
