#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <string>

#include "brick/base/unique_fd.h"

namespace voldfs::store {

// A directory of the test's own on a real file system (tmpfs has no trusted attributes on old kernels), removed
// at the end.
class ScratchDirectory {
 public:
  ScratchDirectory() {
    const char* const base = std::getenv("TMPDIR");
    path_ = std::string(base ? base : "/var/tmp") + "/voldfs-unit-XXXXXX";
    if (!::mkdtemp(path_.data())) std::abort();
    fd_.reset(::open(path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }
  ~ScratchDirectory() {
    std::error_code ignored;  // the test has ended; what is left lies in the temporary directory
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_.get(); }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  unique_fd make_file(const char* name, mode_t mode = 0644) const {
    unique_fd fd(::openat(fd_.get(), name, O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    EXPECT_TRUE(fd.valid());
    EXPECT_EQ(0, ::fchmod(fd.get(), mode));
    return fd;
  }
  unique_fd open_path(const char* name) const {
    return unique_fd(::openat(fd_.get(), name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
  }

 private:
  std::string path_;
  unique_fd fd_;
};

}  // namespace voldfs::store
