#pragma once

#include "brick/store/names_entry.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// Bits of UnlinkBody::flags.
inline constexpr uint32_t kUnlinkStub = 1;
inline constexpr uint32_t kUnlinkOffHash = 2;
inline constexpr uint32_t kParkLedTo = 1;

// Removes a name that is no directory's (kUnlink); a stub, also of a directory, if the flags say so. A file that is open
// keeps on in .voldfs/open. What the name led to, its link count as it is now. EISDIR, kStub, kOtherId, kLeaving.
Result<wire::EntryBody> unlink_name(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::UnlinkBody& body, const ChangeNote& note, wire::EntryBody& met);

// Takes away DIR/NAME, a name of the file `entry`, under the locks of name and object: unlinks it, or keeps it for those who have it
// open. `attr_after`: null, or gets the attributes of the file then.
Result<void> drop_name(Store& store, int dir, const std::string& name, const wire::EntryBody& entry, wire::Attr* attr_after);

// Moves a file to the path that its name has (kSettle, FORMAT.md "Transactions").
Result<wire::EntryBody> settle_object(Store& store, const wire::SettleBody& body, const std::string& old_name,
                                      const std::string& new_name, wire::EntryBody& met);

// Takes an entry out of the tree (kPark) that nothing leads to, or, as the flags say, that only waits for its place. `expected`: its id;
// none: whatever it is. Of a file that has other links nothing leads to a link that is one too many, and would be counted: it
// goes. kOtherId, kLeaving.
Result<void> park_name(Store& store, const DirectoryPtr& dir, const std::string& name, const wire::UnlinkBody& body,
                       const ChangeNote& note, wire::EntryBody& met);

}  // namespace voldfs::store
