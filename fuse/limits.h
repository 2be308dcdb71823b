#pragma once

#include <cstddef>
#include <cstdint>

// Every bound of the kernel side.
namespace voldfs::fuse {

inline constexpr size_t kPayloadMax = 1u << 20;       // of one read, write or page of a directory
inline constexpr double kNameTimeoutS = 1;            // of names, where the kernel cannot take them back
inline constexpr unsigned kBackgroundMax = 64;        // read-ahead and asynchronous direct requests in flight
inline constexpr unsigned kReadaheadKib = 1024;       // of the mount, when its sysfs file can be written

// Workers. A request that waits for a brick that is down keeps its worker, so the bound is generous; beyond it
// requests wait in the kernel. A worker costs a stack of some 20 KiB, and the buffer pages that it has used.
inline constexpr unsigned kWorkersMax = 1000;
inline constexpr unsigned kIdleWorkersMax = 4;        // more than these waiting for work: one goes
inline constexpr size_t kWorkerStackBytes = 1u << 20; // address space; sanitizers and regular expressions of libraries need some

inline constexpr int kGroupsMax = 65'536;             // of a process: the kernel's NGROUPS_MAX

inline constexpr uint32_t kUnmountWaitMs = 10'000;    // for requests in flight, after SIGTERM
inline constexpr int kSyncWaitMs = 30'000;            // for pages of mappings to be written, before that
inline constexpr uint32_t kMountWaitMs = 30'000;      // for the bricks, when mounting
inline constexpr uint32_t kMountWaitCopyMs = 5'000;   // the same, of a map that may be out of date
inline constexpr int kMapAskTries = 64;               // at one address, where bricks of several volumes answer
inline constexpr uint32_t kMapAskMs = 3'000;          // for one server's answer with the map

}  // namespace voldfs::fuse
