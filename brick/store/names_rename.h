#pragma once

#include "brick/store/names_entry.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// rename(2) of a name to another, both of which this brick is the authority of (kRename): files, stubs, directories that are
// home here. What the new name led to is removed as by unlink or rmdir.
//
// A stub, or a directory to another parent, is renamed only if `expected` names its object; otherwise kStub, kOtherId with `met`.
// A stub is replaced only if `expected_target` names its object (the client removes that then); otherwise kStub with `met`. A
// directory is replaced if its set is this brick alone or if its removal has begun in phases; otherwise kOtherId with `met`.
// ENOENT, EEXIST, EISDIR, ENOTDIR, ENOTEMPTY, EINVAL, kOtherId, kLeaving.
Result<wire::RenameReply> rename_name(Store& store, const DirectoryPtr& from, const std::string& old_name,
                                      const DirectoryPtr& to, const std::string& new_name, const wire::RenameBody& body,
                                      const ChangeNote& note, wire::EntryBody& met);

// What is left to do after the entry was renamed, done again after a crash: the record of a moved directory, the
// tombstone of a replaced one. `replaced`: none, or a directory's id.
Result<void> finish_rename(Store& store, const DirectoryPtr& to, const wire::EntryBody& moved, const Id& replaced_dir);

}  // namespace voldfs::store
