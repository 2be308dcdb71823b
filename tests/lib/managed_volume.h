#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <string>

#include "tests/lib/managed.h"

namespace voldfs::test {

// Two nodes with a volume "vol", which the test makes, and perhaps a mount of it.
class ManagedVolume : public testing::Test {
 protected:
  static constexpr int kDeadlineMs = 60'000;

  void make_and_mount() {
    cluster_.make_volume("vol");
    mnt_ = cluster_.mount("vol");
  }
  pid_t pid(size_t node) const { return cluster_.brick_pid(node, "vol"); }
  bool both_up() const { return pid(0) != 0 && pid(1) != 0; }

  // The errno of creating the file, which is removed again.
  static int create_error(const std::filesystem::path& file) {
    const int fd = ::open(file.c_str(), O_CREAT | O_EXCL | O_WRONLY, 0600);
    const int error = fd < 0 ? errno : 0;
    if (fd >= 0) ::close(fd);
    ::unlink(file.c_str());
    return error;
  }

  ManagedCluster cluster_;
  std::filesystem::path mnt_;
};

}  // namespace voldfs::test
