#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"
#include "tests/lib/files.h"
#include "tests/lib/mount.h"

// A directory of very many files. By hand with another number of them: VOLDFS_ENTRIES.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

constexpr int kThreads = 4;

class ScaleSlow : public testing::Test {
 protected:
  // Each of the names [begin, end) by `each`, several at once; says how long it took.
  template <class Each>
  void for_all(const char* what, int begin, int end, const Each& each) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int i = begin + t; i < end && !HasFailure(); i += kThreads) EXPECT_EQ(each("file" + std::to_string(i)), 0) << what << " " << i;
      });
    for (auto& thread : threads) thread.join();
    tell(what, end - begin, start);
  }
  void tell(const char* what, int count, std::chrono::steady_clock::time_point start) {
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    std::printf("%s: %d in %.1f s, %.0f/s\n", what, count, took.count(), count / took.count());
    RecordProperty(what, std::to_string(took.count()));
  }
  // Every name once, and no other.
  void list(const fs::path& dir, int count) {
    const auto start = std::chrono::steady_clock::now();
    std::unique_ptr<DIR, int (*)(DIR*)> stream(::opendir(dir.c_str()), ::closedir);
    std::vector<bool> seen(static_cast<size_t>(count));
    int found = 0;
    while (const dirent* const entry = ::readdir(stream.get())) {
      const std::string name = entry->d_name;
      if (name == "." || name == "..") continue;
      const size_t i = std::strtoul(name.substr(4).c_str(), nullptr, 10);
      ASSERT_LT(i, seen.size()) << name;
      ASSERT_FALSE(seen[i]) << name;
      seen[i] = true;
      ++found;
    }
    EXPECT_EQ(found, count);
    tell("list", count, start);
  }
};

TEST_F(ScaleSlow, Directory_OfAMillionEntries) {
  constexpr int kKnown = 100'000;
  const char* const text = std::getenv("VOLDFS_ENTRIES");
  const int count = text ? std::atoi(text) : 1'000'000;
  MountedVolume volume(MountedVolume::Options{2, {}, {12 << 10, 12 << 10}});  // sparse, for the inodes' sake
  const fs::path mount = volume.mount(), dir = mount / "d";
  ASSERT_EQ(fails(::mkdir(dir.c_str(), 0755)), 0);
  const unique_fd at(::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const auto create = [&](const std::string& name) {
    const unique_fd fd(::openat(at.get(), name.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
    return fd ? 0 : errno;
  };
  const auto look = [&](const std::string& name) {
    struct stat stat{};
    return fails(::fstatat(at.get(), name.c_str(), &stat, 0));
  };
  const pid_t client = volume.client(0).pid();
  for_all("create_first", 0, kKnown, create);
  for_all("stat_first", 0, kKnown, look);
  std::printf("client with %d known files: %.1f MiB\n", kKnown, double(resident_kib(client)) / 1024);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_LT(resident_kib(client), 64u << 10);
#endif
  for_all("create", kKnown, count, create);
  list(dir, count);
  for_all("stat", 0, count, look);
  std::printf("client with %d: %.1f MiB; bricks %.1f and %.1f MiB\n", count, double(resident_kib(client)) / 1024,
              double(resident_kib(volume.brick(0).pid())) / 1024, double(resident_kib(volume.brick(1).pid())) / 1024);
  for_all("unlink", 0, count, [&](const std::string& name) { return fails(::unlinkat(at.get(), name.c_str(), 0)); });
  EXPECT_EQ(fails(::rmdir(dir.c_str())), 0);
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

}  // namespace
}  // namespace voldfs::test
