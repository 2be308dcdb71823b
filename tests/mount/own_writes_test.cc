#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"
#include "tests/lib/mount.h"

// What one process has written it reads again, whatever others of the same mount do with the file meanwhile.
namespace voldfs::test {
namespace {

class OwnWrites : public testing::TestWithParam<const char*> {};

TEST_P(OwnWrites, FileOpenedByOthersAllTheTime_AreReadBack) {
  constexpr size_t kBlock = 4096 / sizeof(uint64_t);
  constexpr uint64_t kBlocks = 16;
  MountedVolume volume;
  const std::string path = volume.mount(GetParam()) / "file";
  const unique_fd fd(::open(path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644));
  ASSERT_TRUE(fd);
  ASSERT_EQ(::ftruncate(fd.get(), kBlocks * kBlock * sizeof(uint64_t)), 0);
  std::atomic<bool> stop = false;
  std::thread opener([&] {
    struct alignas(4096) Block {
      uint64_t words[kBlock];
    };
    std::vector<Block> all(kBlocks);
    for (int flags = O_RDONLY | O_CLOEXEC; !stop; flags ^= O_DIRECT) {
      const unique_fd other(::open(path.c_str(), flags));
      EXPECT_EQ(::pread(other.get(), all.data(), all.size() * sizeof all[0], 0), static_cast<ssize_t>(all.size() * sizeof all[0]));
    }
  });
  uint64_t written = 0, old = 0;
  std::vector<uint64_t> block(kBlock);
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  for (; std::chrono::steady_clock::now() < end; ++written) {
    const off_t at = static_cast<off_t>(written % kBlocks * kBlock * sizeof(uint64_t));
    block.assign(kBlock, written);
    EXPECT_EQ(::pwrite(fd.get(), block.data(), kBlock * sizeof block[0], at), static_cast<ssize_t>(kBlock * sizeof block[0]));
    EXPECT_EQ(::pread(fd.get(), block.data(), kBlock * sizeof block[0], at), static_cast<ssize_t>(kBlock * sizeof block[0]));
    old += block.front() != written || block.back() != written;
  }
  stop = true;
  opener.join();
  EXPECT_EQ(old, 0u) << "of " << written;
}

std::string name_of(const testing::TestParamInfo<const char*>& info) {
  const char* const names[] = {"Local", "ByTheDaemon", "Tcp"};
  return names[info.index];
}
INSTANTIATE_TEST_SUITE_P(Mounts, OwnWrites, testing::Values("", "passthrough=off", "transport=tcp"), name_of);

}  // namespace
}  // namespace voldfs::test
