#pragma once

#include "brick/store/credentials.h"
#include "brick/store/names_entry.h"
#include "brick/wire/ops.h"

namespace voldfs::store {

// Who asks for something new.
struct Maker {
  uint64_t session = 0;
  Credentials caller;
};

// Makes a file and opens it, or opens the one that is there (kCreate). Of an open by name only the flags that open_file()
// knows count. kStub, kLeaving, EEXIST, EISDIR; ESTALE: the name is neither, the client's kernel is to look it up again. `met`:
// what the name led to, where the status says so (status.h).
Result<wire::EntryBody> create_file(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::CreateBody& body, const Maker& maker, const ChangeNote& note,
                                    wire::EntryBody& met);

// Fifo, socket, device, regular file (kMknod), or with a target symbolic link (kSymlink).
Result<wire::EntryBody> make_node(Store& store, const DirectoryPtr& dir, const std::string& name,
                                  const wire::MakeBody& body, const std::string& target, const Maker& maker,
                                  const ChangeNote& note, wire::EntryBody& met);

// A file without a name, open (kTmpfile). It inherits from the directory what a named one would.
Result<wire::EntryBody> make_tmpfile(Store& store, const DirectoryPtr& dir, const wire::CreateBody& body,
                                     const Maker& maker, const ChangeNote& note);

// A further name for an object of this brick (kLink); the first one of a file without any.
Result<wire::EntryBody> link_object(Store& store, const DirectoryPtr& dir, const std::string& name,
                                    const wire::LinkBody& body, const ChangeNote& note, wire::EntryBody& met);

// Makes room for a name: a mere copy of a directory that lies there is parked. EEXIST with `met`, kLeaving.
Result<void> vacate(Store& store, const Directory& dir, const std::string& name, wire::EntryBody& met);

}  // namespace voldfs::store
