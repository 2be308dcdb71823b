#pragma once

#include "brick/server/operation.h"

// Operations on extended attributes, ACLs among them.
namespace voldfs::server {

Result<void> op_getxattr(Call& call);
Result<void> op_setxattr(Call& call);
Result<void> op_listxattr(Call& call);
Result<void> op_removexattr(Call& call);

}  // namespace voldfs::server
