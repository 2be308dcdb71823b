#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "brick/base/operation_metrics.h"

namespace voldfs::fuse {

// Of the kernel's requests; an operation's place here is its index.
inline constexpr std::string_view kOperationNames[] = {
    "lookup", "forget", "forget_multi", "mknod", "mkdir", "symlink", "unlink", "rmdir", "rename", "link", "getattr", "setattr",
    "readlink", "open", "create", "tmpfile", "flush", "release", "read", "write", "fsync", "fallocate", "lseek", "copy_file_range",
    "opendir", "readdir", "readdirplus", "releasedir", "fsyncdir", "setxattr", "getxattr", "listxattr", "removexattr", "getlk",
    "setlk", "flock", "statfs", "ioctl"};

// Of a name in the list above; another does not compile.
consteval size_t operation_index(std::string_view name) {
  for (size_t i = 0; i < std::size(kOperationNames); ++i) {
    if (kOperationNames[i] == name) return i;
  }
  throw "no such operation";
}

// What a mount has done. Always on. Any thread.
struct MountMetrics {
  std::array<OperationMetrics, std::size(kOperationNames)> operations;
  std::atomic<uint64_t> bytes_read{0}, bytes_written{0};  // what passes by this process: not the data of passthrough

  // `labels` of every sample, as Exposition takes them.
  std::string prometheus(const std::string& labels) const;
};

}  // namespace voldfs::fuse
