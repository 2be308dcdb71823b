#pragma once

#include "brick/server/operation.h"

// Operations on the data of files.
namespace voldfs::server {

Result<void> op_read(Call& call);
Result<void> op_write(Call& call);
Result<void> op_fsync(Call& call);
Result<void> op_fallocate(Call& call);
Result<void> op_lseek(Call& call);
Result<void> op_copy_range(Call& call);

}  // namespace voldfs::server
