#pragma once

#include <span>

#include "brick/store/directory_make.h"
#include "brick/store/names_entry.h"
#include "brick/wire/ops.h"

// What was on a brick before voldfs (FORMAT.md, rules 3 and 4): a client brings its parts together, and leads to them.
namespace voldfs::store {

// Makes what this brick has of an adopted directory (or what it is to have) its part of the whole: home, member or backup, as the
// record says (kDirUnite). A home that is no longer marked as found stays what it is. EEXIST: something else has the name
// that home is to have; kDirAbsent: the parent is not here.
Result<wire::EntryBody> unite_directory(Store& store, const wire::MaterializeBody& body, const std::string& name,
                                        std::span<const std::byte> xattrs);

// Home's epoch of a directory, 0 or 1, for both place names alike (kDirEpoch). kDirBehind: home's record has changed since
// `ref.change`; kDirAbsent: this is not its home.
Result<wire::EntryBody> set_epoch(Store& store, const wire::DirRef& ref);

// Puts a stub where no name is, to an object that was there before it (kStubMake). EEXIST with `met`, unless that is the same stub.
Result<wire::EntryBody> make_stub(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::Link& link,
                                  const ChangeNote& note, wire::EntryBody& met);

}  // namespace voldfs::store
