#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "dht/volume.h"

struct fuse_session;

namespace voldfs::fuse {

// Requests over io_uring: kAuto where kernel and setting allow it.
enum class OverIoUring : uint8_t { kAuto, kOff };
enum class DirectIo : uint8_t { kAuto, kOn, kOff };

// What the operations need to know of how it is mounted.
struct MountBehaviour {
  double attribute_timeout_s = 1, entry_timeout_s = 1, negative_timeout_s = 0;
  DirectIo direct_io = DirectIo::kAuto;
  OverIoUring over_io_uring = OverIoUring::kAuto;
};

// A mounted volume, as every operation finds it. Set up before the first request, constant from then on; any thread.
struct Mount {
  std::unique_ptr<dht::Volume> volume;
  dht::NodePtr root;              // of the volume, or the directory that is mounted
  MountBehaviour behaviour;
  fuse_session* session = nullptr;  // for notifications
};

}  // namespace voldfs::fuse
