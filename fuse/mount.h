#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "dht/later.h"
#include "dht/volume.h"
#include "fuse/backing_files.h"
#include "fuse/fresh_creates.h"
#include "fuse/interrupts.h"
#include "fuse/kept_opens.h"
#include "fuse/kernel_caches.h"
#include "fuse/mount_metrics.h"
#include "fuse/mount_status.h"

struct fuse_session;

namespace voldfs::fuse {

// Requests over io_uring: kAuto where kernel and setting allow it.
enum class OverIoUring : uint8_t { kAuto, kOff };
enum class DirectIo : uint8_t { kAuto, kOn, kOff };

// What the operations need to know of how it is mounted.
struct MountBehaviour {
  // Seconds, when the user has fixed them; otherwise what the bricks' leases allow.
  std::optional<double> attribute_timeout_s, entry_timeout_s, negative_timeout_s;
  DirectIo direct_io = DirectIo::kAuto;
  OverIoUring over_io_uring = OverIoUring::kAuto;
  bool passthrough = true;  // of files on this host's bricks, where kernel and privileges allow it
};

// A mounted volume, as every operation finds it. Set up before the first request, constant from then on; any thread.
struct Mount {
  std::unique_ptr<KernelCaches> caches;  // before the volume, whose threads call it to the end
  std::unique_ptr<KeptOpens> kept_opens; // the same; closed before the volume ends
  std::unique_ptr<dht::Volume> volume;
  dht::NodePtr root;              // of the volume, or the directory that is mounted
  MountBehaviour behaviour;
  fuse_session* session = nullptr;  // for notifications
  bool kernel_passes_through = false, over_io_uring = false;  // agreed upon by INIT
  std::unique_ptr<BackingFiles> backings;  // null: no passthrough
  dht::Later later;
  FreshCreates fresh_creates;
  Interrupts interrupts;
  RequestCounts requests;
  MountMetrics metrics;             // changes all the time
};

}  // namespace voldfs::fuse
