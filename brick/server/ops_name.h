#pragma once

#include "brick/server/operation.h"
#include "brick/store/directories.h"
#include "brick/store/names_create.h"

// Operations on names in directories. The directories themselves: ops_directory.h.
namespace voldfs::server {

Result<void> op_lookup(Call& call);
Result<void> op_create(Call& call);
Result<void> op_mknod(Call& call);
Result<void> op_symlink(Call& call);
Result<void> op_unlink(Call& call);
Result<void> op_rename(Call& call);
Result<void> op_link(Call& call);
Result<void> op_tmpfile(Call& call);
Result<void> op_readdir(Call& call);
Result<void> op_park(Call& call);
Result<void> op_settle(Call& call);

// For the handlers of names, directories and transactions.

// The directory of a request, admitted. Refused for its age, the reply's body says how it is now.
Result<store::DirectoryPtr> enter(Call& call, const wire::DirRef& ref, bool reading = false);
// The reply's body that explains a refusal, where status.h gives one; then the refusal itself.
tl::unexpected<Error> refuse(Call& call, Error error, const wire::EntryBody& met);
// Writes the slot's intent when the change is about to happen.
store::ChangeNote note_change(Call& call, const Id& dir, const Id& dir2, uint32_t flags);
store::Maker maker_of(const Call& call);

}  // namespace voldfs::server
