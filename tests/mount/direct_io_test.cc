#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"
#include "tests/lib/mount.h"

// Files opened O_DIRECT by way of the daemon: their reads and writes go beside the kernel's pages, and beside each other.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 20'000;
constexpr size_t kBlock = 4096;

struct Free {
  void operator()(char* block) const { std::free(block); }
};
std::unique_ptr<char, Free> block_of(char letter) {
  std::unique_ptr<char, Free> block(static_cast<char*>(std::aligned_alloc(kBlock, kBlock)));
  std::memset(block.get(), letter, kBlock);
  return block;
}

class DirectIo : public testing::TestWithParam<const char*> {
 protected:
  MountedVolume volume_{1};
  const std::string path_ = volume_.mount(GetParam()) / "file";

  unique_fd open(int flags) const { return unique_fd(::open(path_.c_str(), flags | O_CLOEXEC, 0644)); }
  char letter_at(int fd, size_t index) const {
    const auto block = block_of(0);
    EXPECT_EQ(::pread(fd, block.get(), kBlock, static_cast<off_t>(index * kBlock)), static_cast<ssize_t>(kBlock));
    return *block;
  }
};
INSTANTIATE_TEST_SUITE_P(All, DirectIo, testing::Values("passthrough=off", "transport=tcp"),
                         [](const auto& info) { return std::string(info.index == 0 ? "Local" : "Tcp"); });

TEST_P(DirectIo, WritesOfOneFile_AreUnderWayAtOnce) {
  constexpr size_t kWriters = 4;
  const unique_fd fd = open(O_CREAT | O_RDWR | O_DIRECT);
  ASSERT_TRUE(fd);
  ASSERT_EQ(::ftruncate(fd.get(), kWriters * kBlock), 0);
  const uint64_t before = volume_.requests(0, "write");
  ASSERT_EQ(::kill(volume_.brick(0).pid(), SIGSTOP), 0);
  std::vector<std::thread> writers;
  for (size_t i = 0; i < kWriters; ++i)
    writers.emplace_back([&, i] {
      const auto block = block_of(static_cast<char>('a' + i));
      EXPECT_EQ(::pwrite(fd.get(), block.get(), kBlock, static_cast<off_t>(i * kBlock)), static_cast<ssize_t>(kBlock));
    });
  // None of them is answered.
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return volume_.requests(0, "write") == before + kWriters; })) << volume_.logs();
  ASSERT_EQ(::kill(volume_.brick(0).pid(), SIGCONT), 0);
  for (std::thread& writer : writers) writer.join();
  for (size_t i = 0; i < kWriters; ++i) EXPECT_EQ(letter_at(fd.get(), i), static_cast<char>('a' + i));
}

TEST_P(DirectIo, BesidePagesAndMappings_AllSeeTheSame) {
  const unique_fd direct = open(O_CREAT | O_RDWR | O_DIRECT), cached = open(O_RDWR);
  ASSERT_TRUE(direct && cached);
  ASSERT_EQ(::ftruncate(cached.get(), 2 * kBlock), 0);
  void* const at = ::mmap(nullptr, 2 * kBlock, PROT_READ | PROT_WRITE, MAP_SHARED, direct.get(), 0);
  ASSERT_NE(at, MAP_FAILED);
  auto* const mapped = static_cast<volatile char*>(at);
  for (char letter = 'a'; letter <= 'z'; ++letter) {
    const auto block = block_of(letter);
    ASSERT_EQ(::pwrite(direct.get(), block.get(), kBlock, 0), static_cast<ssize_t>(kBlock));
    EXPECT_EQ(letter_at(cached.get(), 0), letter);
    EXPECT_EQ(mapped[0], letter);
    EXPECT_EQ(letter_at(open(O_RDONLY).get(), 0), letter);
    mapped[kBlock] = letter;  // a dirty page
    EXPECT_EQ(letter_at(direct.get(), 1), letter);
    EXPECT_EQ(letter_at(open(O_RDONLY | O_DIRECT).get(), 1), letter);
    ASSERT_EQ(::pwrite(cached.get(), block.get(), kBlock, kBlock), static_cast<ssize_t>(kBlock));
    EXPECT_EQ(letter_at(direct.get(), 1), letter);
  }
  ::munmap(at, 2 * kBlock);
}

}  // namespace
}  // namespace voldfs::test
