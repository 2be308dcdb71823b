#pragma once

#include "brick/base/result.h"

// What Store::init and Store::open share.
namespace voldfs::store {

// Removes everything below a directory of voldfs's own (`.voldfs/tmp`).
Result<void> empty_folder(int dir);
bool has_files(int dir);  // of an open directory; -1: no

}  // namespace voldfs::store
