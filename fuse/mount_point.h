#pragma once

#include <cstdint>
#include <string>

#include "brick/base/result.h"
#include "brick/base/unique_fd.h"

namespace voldfs::fuse {

struct MountPointOptions {
  std::string source;            // as /proc/mounts shows it
  unsigned long flags = 0;       // MS_*
  bool allow_other = true;
  std::string contexts;          // security contexts for the kernel: "context=...,rootcontext=..."
};

// A directory with the file system mounted on it. One thread.
class MountPoint {
 public:
  // Mounts a new /dev/fuse, which nobody serves yet.
  static Explained<MountPoint> mount(const std::string& directory, const MountPointOptions& options);

  // The device; once.
  unique_fd take_device() { return std::move(device_); }
  const std::string& directory() const { return directory_; }
  // What the kernel reads ahead; best effort. REQUIRES: the mount is served.
  void set_readahead(unsigned kib) const;
  // Waits until a stat of the mounted root is answered. REQUIRES: the mount is served by other threads.
  Explained<void> check() const;
  // Takes the mount away, also from under processes that are in it: what they wrote through mappings is written
  // first; from then on they get ENOTCONN.
  void unmount() const;

 private:
  std::string directory_;
  unique_fd device_;
};

// Whether something of ours is mounted on the directory already.
bool is_mounted(const std::string& directory);

}  // namespace voldfs::fuse
