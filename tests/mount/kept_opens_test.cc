#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "tests/lib/mount.h"

// A file that was open for reading is opened again without its brick, as long as nobody could see that.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 20'000;
constexpr uid_t kUser = 1234;

class KeptOpens : public testing::TestWithParam<const char*> {
 protected:
  MountedVolume volume_{1};
  const std::string a_ = volume_.mount(GetParam()), b_ = volume_.mount("transport=tcp");

  void write(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::trunc);
    out << text;
    ASSERT_TRUE(out.flush()) << path << volume_.logs();
  }
  // "errno N": it cannot be opened.
  static std::string read(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return "errno " + std::to_string(errno);
    char text[256];
    const ssize_t got = ::read(fd, text, sizeof text);
    ::close(fd);
    return got < 0 ? "read errno " + std::to_string(errno) : std::string(text, static_cast<size_t>(got));
  }
  // And nothing is open any more: the kernel tells of a close after close(2) has returned.
  std::string read_to_the_end(const std::string& path) {
    const std::string text = read(path);
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] {
      return volume_.requests(0, "release") == volume_.requests(0, "open") + volume_.requests(0, "create");
    }));
    return text;
  }
  uint64_t opens_asked() const {
    const auto operations = volume_.brick_status(0)["operations"];
    return operations.contains("open") ? operations["open"]["count"].get<uint64_t>() : 0;
  }
  uint64_t open_files() const { return volume_.brick_status(0)["open_files"].get<uint64_t>(); }
  bool nothing_is_kept_without_a_name() const { return std::filesystem::is_empty(volume_.brick_path(0) / ".voldfs/open"); }
};
INSTANTIATE_TEST_SUITE_P(All, KeptOpens, testing::Values("", "passthrough=off", "transport=tcp"), [](const auto& info) {
  const std::string options = info.param;
  return options.empty() ? std::string("Passthrough") : options == "transport=tcp" ? "Tcp" : "Local";
});

TEST_P(KeptOpens, OpenedAgain_AsksNobody) {
  write(a_ + "/f", "text");
  const auto costs_an_open = [&] {
    const uint64_t before = opens_asked();
    EXPECT_EQ(read_to_the_end(a_ + "/f"), "text");
    return opens_asked() != before;
  };
  // The brick vouches for nothing until it has heard that the writer is gone.
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return !costs_an_open(); })) << volume_.logs();
  for (int i = 0; i < 10; ++i) EXPECT_FALSE(costs_an_open()) << i;
}

TEST_P(KeptOpens, ChangedByAnyone_IsSeen) {
  write(a_ + "/f", "0");
  for (int i = 1; i < 10; ++i) {
    EXPECT_EQ(read(a_ + "/f"), std::to_string(i - 1));
    write((i % 3 == 0 ? a_ : b_) + "/f", std::to_string(i));
    EXPECT_EQ(read(a_ + "/f"), std::to_string(i));
  }
}

TEST_P(KeptOpens, ReplacedByAnyone_NameLeadsToTheNewFile) {
  for (const std::string& mount : {a_, b_}) {
    write(a_ + "/f", "old");
    EXPECT_EQ(read(a_ + "/f"), "old");
    write(mount + "/g", "new");
    ASSERT_EQ(::rename((mount + "/g").c_str(), (mount + "/f").c_str()), 0) << std::strerror(errno);
    EXPECT_EQ(read(a_ + "/f"), "new");
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return nothing_is_kept_without_a_name(); }));
  }
}

TEST_P(KeptOpens, RemovedByAnyone_BrickKeepsNothing) {
  for (const std::string& mount : {a_, b_}) {
    write(a_ + "/f", "text");
    const uint64_t closes = volume_.requests(0, "release");
    EXPECT_EQ(read_to_the_end(a_ + "/f"), "text");
    ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return volume_.requests(0, "release") > closes; }));  // close(2) does not wait for it
    ASSERT_EQ(::unlink((mount + "/f").c_str()), 0) << std::strerror(errno);
    if (mount == a_) {
      EXPECT_TRUE(nothing_is_kept_without_a_name());  // the brick heard first that it is not open
    }
    EXPECT_EQ(read(a_ + "/f"), "errno " + std::to_string(ENOENT));
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return nothing_is_kept_without_a_name(); }));
  }
}

TEST_P(KeptOpens, AnotherUser_OpensByHisOwnRights) {
  write(a_ + "/f", "text");
  ASSERT_EQ(::chmod((a_ + "/f").c_str(), 0600), 0);
  EXPECT_EQ(read(a_ + "/f"), "text");
  Child user([&] {
    if (::setresgid(kUser, kUser, kUser) != 0 || ::setresuid(kUser, kUser, kUser) != 0) return 2;
    return read(a_ + "/f") == "errno " + std::to_string(EACCES) ? 0 : 1;
  });
  EXPECT_EQ(user.wait(kDeadlineMs), 0);
}

TEST_P(KeptOpens, RightsTakenAway_AreGone) {
  for (const std::string& mount : {a_, b_}) {
    write(a_ + "/f", "text");
    ASSERT_EQ(::chmod((a_ + "/f").c_str(), 0644), 0);
    int ready[2];
    ASSERT_EQ(::pipe2(ready, O_CLOEXEC), 0);
    Child user([&] {
      if (::setresgid(kUser, kUser, kUser) != 0 || ::setresuid(kUser, kUser, kUser) != 0) return 2;
      if (read(a_ + "/f") != "text") return 3;
      char byte;
      if (::read(ready[0], &byte, 1) != 1) return 4;
      return read(a_ + "/f") == "errno " + std::to_string(EACCES) ? 0 : 1;
    });
    EXPECT_EQ(user.wait(200), -1);
    ASSERT_EQ(::chmod((mount + "/f").c_str(), 0600), 0);
    ASSERT_EQ(::write(ready[1], "x", 1), 1);
    EXPECT_EQ(user.wait(kDeadlineMs), 0) << mount;
    for (const int fd : ready) ::close(fd);
  }
}

TEST_P(KeptOpens, LocksOfTheOpen_EndWithItsClose) {
  write(a_ + "/f", "text");
  const int a = ::open((a_ + "/f").c_str(), O_RDONLY | O_CLOEXEC), b = ::open((b_ + "/f").c_str(), O_RDONLY | O_CLOEXEC);
  ASSERT_EQ(::flock(a, LOCK_EX), 0);
  EXPECT_EQ(::flock(b, LOCK_EX | LOCK_NB), -1);
  ::close(a);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return ::flock(b, LOCK_EX | LOCK_NB) == 0; }));
  EXPECT_EQ(read(a_ + "/f"), "text");
  ::close(b);
}

TEST_P(KeptOpens, BrickRestarted_IsOpenedAnew) {
  write(a_ + "/f", "text");
  EXPECT_EQ(read(a_ + "/f"), "text");
  volume_.kill_brick(0);
  volume_.start_brick(0);
  EXPECT_EQ(read(a_ + "/f"), "text") << volume_.logs();
  write(b_ + "/f", "other");
  EXPECT_EQ(read(a_ + "/f"), "other") << volume_.logs();
}

TEST_P(KeptOpens, NotOpenedAgain_EndsByItself) {
  write(a_ + "/f", "text");
  EXPECT_EQ(read(a_ + "/f"), "text");
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return open_files() == 0; }));
}

}  // namespace
}  // namespace voldfs::test
