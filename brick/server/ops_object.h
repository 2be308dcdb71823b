#pragma once

#include "brick/server/operation.h"

// Operations on objects by id, handle or open number, their data and extended attributes aside.
namespace voldfs::server {

Result<void> op_getattr(Call& call);
Result<void> op_getattr_many(Call& call);
Result<void> op_setattr(Call& call);
Result<void> op_readlink(Call& call);
Result<void> op_open(Call& call);
Result<void> op_release(Call& call);
// Closes the session's opens of these numbers, u32 each. kOpenUnknown: of one of them, when the others have been closed.
Result<void> release_all(Call& call, std::span<const std::byte> numbers);
Result<void> op_flags_get(Call& call);
Result<void> op_flags_set(Call& call);
Result<void> op_statfs(Call& call);

}  // namespace voldfs::server
