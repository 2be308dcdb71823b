#pragma once

#include "brick/store/credentials.h"
#include "brick/store/object.h"

namespace voldfs::store {

struct Opened {
  Object object;
  uint32_t number;
};

// Opens a file for a session. `flags` are open(2)'s: the access mode and O_TRUNC count here (O_TRUNC under the
// caller's credentials: it takes suid and sgid away), O_APPEND and O_(D)SYNC at each write; O_DIRECT is the
// client's affair, the brick's page cache serves. `reclaim`: the number that the open had before the brick
// restarted, 0 otherwise. EISDIR, ELOOP (a symbolic link), ENXIO (what a client's kernel opens itself), ENFILE: the brick is out of descriptors.
Result<Opened> open_file(Store& store, uint64_t session, const wire::ObjectRef& ref, uint32_t flags, uint32_t reclaim,
                         const Credentials& caller);

}  // namespace voldfs::store
