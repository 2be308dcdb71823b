#pragma once

#include <optional>
#include <string>

#include "brick/base/result.h"
#include "brick/store/directories.h"

// A directory's name may lead, at its authority, to a home on another brick. A stub says so, or, where the directory has a copy
// on the authority's brick too, the copy itself: stub and copy have the same path, and files lie under their own names. Such a
// copy is a stub to everybody who asks for the name (FORMAT.md, "Named copies"). Callers hold the name's lock.
namespace voldfs::store {

class Store;

// The brick of home, if the directory's copy at DIR/NAME is what the name leads to; `dir_id`: of DIR.
Result<std::optional<Id>> read_named_copy_at(int dir, const char* name, const Id& dir_id);

// The copy at FROM_DIR/FROM_NAME, which is no part of the tree, takes the place of the stub at TO/NAME that leads to it, in one
// rename(2).
Result<void> take_stubs_name(int from_dir, const std::string& from_name, const Directory& to, const std::string& name,
                             const Id& home_brick);

// The other way round, before a named copy goes: the name is a stub again, and the copy lies in .voldfs/tmp under its id.
Result<void> give_name_to_stub(Store& store, const Directory& dir, const std::string& name, const Id& copy,
                               const Id& home_brick);

}  // namespace voldfs::store
