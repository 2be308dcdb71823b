#pragma once

#include <span>

#include "brick/store/names_create.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// mkdir at the directory's home, or of the copy that a backup or the first member holds from the start (kMkdir): `body.record`
// says what it is to be here. The same id at the name already: that one. EEXIST with `met`, kLeaving, kDirRemoved.
Result<wire::EntryBody> make_directory(Store& store, const DirectoryPtr& parent, const std::string& name,
                                       const wire::MkdirBody& body, std::span<const std::byte> xattrs, const Maker& maker,
                                       const ChangeNote& note, wire::EntryBody& met);

// Makes a copy of a directory that is home elsewhere, member or skeleton, under a parent that is here (kMaterialize). Where its
// path is taken by something with a better claim it is made in .voldfs/parked. If it is here already, it
// becomes what the record says beside what it is. The parent's times stay.
Result<wire::EntryBody> materialize(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                    std::span<const std::byte> xattrs);
// Brings a copy up to a newer record and its attributes (kDirRefresh). kDirAbsent.
Result<wire::EntryBody> refresh_directory(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                          std::span<const std::byte> xattrs);
// Home's record of a directory that was renamed, and its place here (kDirUpdate). kTxnUnknown: it lies
// under its name here, and that is another: it has been renamed since.
Result<wire::EntryBody> update_directory(Store& store, const wire::DirUpdateBody& body, const std::string& name,
                                         const ChangeNote& note);
// The set gets a brick (kSetGrow). kDirAbsent: this is neither home nor backup; kDirRemoved: it is going.
Result<wire::EntryBody> grow_set(Store& store, const wire::SetGrowBody& body);

// For adoption.h: a new copy, complete, in .voldfs/tmp; from there to its place, or to .voldfs/parked where that is taken;
// and the attributes of one that is here (its times stay).
Result<DirectoryPtr> build_copy(Store& store, const wire::MaterializeBody& body, std::span<const std::byte> xattrs);
// `met`: what lies at the name; its own stub gives way to the copy.
Result<void> place_copy(Store& store, const Directory& parent, const std::string& name, const Id& id, const wire::EntryBody& met);
Result<void> take_over_attributes(const Directory& dir, wire::Attr attr, std::span<const std::byte> xattrs);

// A directory as the wire says it: record and attributes.
Result<wire::EntryBody> describe_directory(const Directory& dir);

}  // namespace voldfs::store
