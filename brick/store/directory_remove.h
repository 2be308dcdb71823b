#pragma once

#include "brick/store/names_entry.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// rmdir, whole or in phases (kRmdir; wire::RemovePhase). A directory is empty here if nothing but skeletons and mere copies of
// directories lies in it: these are removed or parked (FORMAT.md rule 8).
//
//   kWhole   home: it goes if the set is home alone. Otherwise as kBegin, which met.dir.state says.
//   kBegin   home: from now on nothing is added. Taken over from another transaction that began and did not end.
//   kMember  the set and the backup: it goes here, and leaves a tombstone.
//   kCommit  home: it goes. kTxnDecided: another transaction has taken over.
//   kCancel  home: it lives on. Elsewhere: the tombstone goes, a copy is made anew when needed.
//
// All can be repeated.
Result<void> remove_directory(Store& store, const DirectoryPtr& parent, const std::string& name,
                              const wire::RmdirBody& body, const ChangeNote& note, wire::EntryBody& met);

// Removes skeletons from a directory and parks mere copies. ENOTEMPTY: there is something else. entries() is
// held exclusively.
Result<void> clear_copies(Store& store, const Directory& dir);

// An empty directory that is here only as a way to something below it. True: it is gone.
Result<bool> drop_empty_skeleton(Store& store, const DirectoryPtr& dir);

// Whether nothing at all lies in it. ENOTEMPTY.
Result<void> check_empty(const Directory& dir);

// Where a directory lies, by its descriptor.
struct PhysicalPlace {
  unique_fd parent;
  std::string name;
};
Result<PhysicalPlace> find_place(const Directory& dir);
bool is_parked(const Store& store, const PhysicalPlace& place);

// Whether the set has nobody but this brick.
bool is_alone(const wire::DirRecord& record, uint16_t ordinal);

}  // namespace voldfs::store
