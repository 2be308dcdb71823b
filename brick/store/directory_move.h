#pragma once

#include "brick/store/directories.h"

namespace voldfs::store {

class ChangeNote;
class Store;

// Brings a directory to the path that its name has, if its parent is here and nothing with a better claim lies there;
// otherwise it stays where it is, for paths of directories are a convenience. Times of both parents stay. False: the parent is not here, or lies
// below the directory by the paths that they have here; once it is at its own place, this can be done again.
// `note` (may be null, where there is no rename): is told before the old name goes. `txn`: of the rename; an entry that is marked as leaving by it was the old name's, which is gone then.
Result<bool> move_directory(Store& store, const DirectoryPtr& dir, const Id& parent, const std::string& name, const Id& txn,
                            const ChangeNote* note);

// Whether it lies under a name that leads to it there, another than this one, which the transaction has not marked: a rename has come
// since, and the directory must not follow this one any more.
Result<bool> has_another_name(Store& store, const Directory& dir, const Id& parent, const std::string& name, const Id& txn);

// Notes at home whether the directory's name is a stub on another brick: its entry here is no name then and is not counted.
Result<void> note_off_hash(Directory& dir, bool off_hash);

// By the paths here, which need not be the volume's, `below` lies in `above`, in which it is not: one directory on the way that does
// not lie under its name is parked. EINVAL: there is none.
Result<void> untangle(Store& store, const Directory& above, const DirectoryPtr& below);

}  // namespace voldfs::store
