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
Result<void> op_flags_get(Call& call);
Result<void> op_flags_set(Call& call);
Result<void> op_statfs(Call& call);

}  // namespace voldfs::server
