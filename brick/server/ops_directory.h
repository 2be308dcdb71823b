#pragma once

#include "brick/server/operation.h"

// Operations on directories themselves: making, removing, copies on other bricks, records.
namespace voldfs::server {

Result<void> op_mkdir(Call& call);
Result<void> op_rmdir(Call& call);
Result<void> op_dir_get(Call& call);
Result<void> op_dir_export(Call& call);
Result<void> op_set_grow(Call& call);
Result<void> op_materialize(Call& call);
Result<void> op_dir_refresh(Call& call);
Result<void> op_dir_update(Call& call);
Result<void> op_dir_list(Call& call);
Result<void> op_dir_unite(Call& call);
Result<void> op_dir_epoch(Call& call);
Result<void> op_stub_make(Call& call);

}  // namespace voldfs::server
