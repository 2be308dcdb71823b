#pragma once

#include "brick/base/result.h"

namespace voldfs {

// Makes room for many descriptors: raises the soft limit to the hard one, and has the kernel make its table of them large at once. Later a
// thread that outgrows the table waits for all CPUs to leave it (fs/file.c, expand_fdtable), some 10 ms each time. Before a process
// starts its threads. An errno: the limit stays what it was.
Result<void> make_room_for_descriptors();

}  // namespace voldfs
