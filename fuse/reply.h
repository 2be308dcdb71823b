#pragma once

#include "brick/base/result.h"

namespace voldfs::fuse {

// The errno that the kernel is told: the one place where an Error becomes one. An answer of a brick that the dht
// layer should have resolved is EIO and a warning, at most one a second.
int to_errno(Error error);

}  // namespace voldfs::fuse
