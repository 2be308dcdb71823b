#pragma once

#include "brick/store/directories.h"

namespace voldfs::store {

// Counts the names in the directory that lead to directories anew, by reading all of it: after a kill between a change and its
// count. Nobody changes the directory meanwhile.
Result<void> recount_subdirectories(Directory& dir);

}  // namespace voldfs::store
