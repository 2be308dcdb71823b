#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "brick/base/unique_fd.h"
#include "tests/lib/mount.h"

// A directory that is read in parts, while it changes between them.
namespace voldfs::test {
namespace {

constexpr int kFiles = 2000;       // more than one part
constexpr size_t kPart = 32 << 10; // what readdir(3) asks for

class Listing : public testing::TestWithParam<const char*> {
 protected:
  MountedVolume volume_{2};
  const std::string mount_ = volume_.mount(GetParam());
  const std::string dir_ = mount_ + "/dir";

  void SetUp() override {
    ASSERT_EQ(::mkdir(dir_.c_str(), 0755), 0);
    for (int i = 0; i < kFiles; ++i) {
      std::ofstream out(path("f" + std::to_string(i)));
      out << "ten bytes.";
      ASSERT_TRUE(out.flush()) << i << volume_.logs();
    }
  }
  std::string path(const std::string& name) const { return dir_ + "/" + name; }
  bool exists(const std::string& name) const { return ::access(path(name).c_str(), F_OK) == 0; }
  off_t size_of(const std::string& name) const {
    struct stat attributes;
    return ::stat(path(name).c_str(), &attributes) == 0 ? attributes.st_size : -1;
  }
  // Empty: that was the end. Dots are left out.
  static std::vector<std::string> next_part(int fd) {
    alignas(8) char buffer[kPart];
    std::vector<std::string> names;
    const long size = ::syscall(SYS_getdents64, fd, buffer, sizeof buffer);
    EXPECT_GE(size, 0);
    for (long at = 0; at < size;) {
      const auto* const entry = reinterpret_cast<const dirent64*>(buffer + at);
      if (entry->d_name[0] != '.') names.emplace_back(entry->d_name);
      at += entry->d_reclen;
    }
    return names;
  }
};
INSTANTIATE_TEST_SUITE_P(All, Listing, testing::Values("", "transport=tcp"),
                         [](const auto& info) { return std::string(info.param).empty() ? "Local" : "Tcp"; });

TEST_P(Listing, ReadOn_AfterChangesByThisMount_BringsNothingOlder) {
  const unique_fd fd(::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  std::vector<std::string> part = next_part(fd.get());
  ASSERT_FALSE(part.empty());
  std::set<std::string> unread;
  for (int i = 0; i < kFiles; ++i) unread.insert("f" + std::to_string(i));
  for (const std::string& name : part) unread.erase(name);
  std::vector<std::string> truncated, moved, gone;
  for (auto name = unread.begin(); name != unread.end() && truncated.size() < 50;) {
    truncated.push_back(*name++), moved.push_back(*name++), gone.push_back(*name++);
    ASSERT_EQ(::truncate(path(truncated.back()).c_str(), 3), 0);
    std::ofstream(path(gone.back()), std::ios::app) << "more";
    ASSERT_EQ(::rename(path(gone.back()).c_str(), path(moved.back()).c_str()), 0);
  }
  size_t read = part.size();
  for (; !part.empty(); read += part.size()) {
    // Who looks at what was listed has the rest listed with attributes.
    for (const std::string& name : part) static_cast<void>(exists(name));
    part = next_part(fd.get());
  }
  EXPECT_GE(read, kFiles - gone.size());
  EXPECT_LE(read, size_t{kFiles});
  for (const std::string& name : truncated) EXPECT_EQ(size_of(name), 3) << name;
  for (const std::string& name : moved) EXPECT_EQ(size_of(name), 14) << name;
  for (const std::string& name : gone) EXPECT_FALSE(exists(name)) << name;
}

}  // namespace
}  // namespace voldfs::test
