#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include "tests/lib/mount.h"

// Two mounts of one volume are as two processes on one machine; and bricks come back.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 20'000;

struct flock whole(short type) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

// The signal does nothing else.
void let_end_waits(int signal) {
  struct sigaction action{};
  action.sa_handler = [](int) {};
  ::sigaction(signal, &action, nullptr);
}

std::string read_all(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

// The options of either mount: on the bricks' host, or as on another one.
struct Pair {
  const char *name, *a, *b;
};
constexpr const char* kTcp = "transport=tcp";
const Pair kPairs[] = {{"Local", "", ""}, {"LocalAndTcp", "", kTcp}, {"Tcp", kTcp, kTcp}};

class TwoMounts : public testing::TestWithParam<Pair> {
 protected:
  MountedVolume volume_;
  const std::string a_ = volume_.mount(GetParam().a), b_ = volume_.mount(GetParam().b);
};
INSTANTIATE_TEST_SUITE_P(All, TwoMounts, testing::ValuesIn(kPairs), [](const auto& info) { return std::string(info.param.name); });

TEST_P(TwoMounts, RecordLock_HeldThroughOne_RefusedThroughTheOther) {
  const int a = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR, 0600), b = ::open((b_ + "/f").c_str(), O_RDWR);
  ASSERT_GE(b, 0) << volume_.logs();
  auto lock = whole(F_WRLCK);
  ASSERT_EQ(::fcntl(a, F_SETLK, &lock), 0) << std::strerror(errno);
  Child other([&] {
    auto probe = whole(F_WRLCK);
    if (::fcntl(b, F_SETLK, &probe) == 0 || errno != EAGAIN) return 1;
    probe = whole(F_RDLCK);
    if (::fcntl(b, F_GETLK, &probe) != 0) return 2;
    return probe.l_type == F_WRLCK && probe.l_pid == ::getppid() ? 0 : 3;
  });
  EXPECT_EQ(other.wait(kDeadlineMs), 0);
  ::close(a);  // and with it the lock
  Child after([&] {
    auto probe = whole(F_WRLCK);
    return ::fcntl(b, F_SETLK, &probe);
  });
  EXPECT_EQ(after.wait(kDeadlineMs), 0) << volume_.logs();
}

TEST_P(TwoMounts, WaitForLock_Unlocked_IsGranted) {
  const int a = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR, 0600), b = ::open((b_ + "/f").c_str(), O_RDWR);
  ASSERT_EQ(::flock(a, LOCK_EX), 0);
  Child waiter([&] { return ::flock(b, LOCK_EX); });
  EXPECT_EQ(waiter.wait(300), -1);  // it waits
  EXPECT_EQ(::mkdir((b_ + "/meanwhile").c_str(), 0700), 0);
  ASSERT_EQ(::flock(a, LOCK_UN), 0);
  EXPECT_EQ(waiter.wait(kDeadlineMs), 0) << volume_.logs();
}

TEST_P(TwoMounts, WaitForLock_Signal_EndsWithEintr) {
  const int a = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR, 0600), b = ::open((b_ + "/f").c_str(), O_RDWR);
  auto lock = whole(F_WRLCK);
  ASSERT_EQ(::fcntl(a, F_SETLK, &lock), 0);
  Child waiter([&] {
    let_end_waits(SIGUSR1);
    auto wanted = whole(F_WRLCK);
    return ::fcntl(b, F_SETLKW, &wanted) == 0 ? 1 : errno == EINTR ? 0 : 2;
  });
  EXPECT_EQ(waiter.wait(300), -1);
  waiter.signal(SIGUSR1);
  EXPECT_EQ(waiter.wait(kDeadlineMs), 0) << volume_.logs();
}

// So soon after the wait has begun that the kernel's INTERRUPT may overtake it.
TEST_P(TwoMounts, WaitsForLock_SignalsAllTheTime_EachEndsWithEintr) {
  const int a = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR, 0600), b = ::open((b_ + "/f").c_str(), O_RDWR);
  auto lock = whole(F_WRLCK);
  ASSERT_EQ(::fcntl(a, F_SETLK, &lock), 0);
  Child waiter([&] {
    let_end_waits(SIGALRM);
    for (int i = 0; i < 100; i++) {
      auto wanted = whole(F_WRLCK);
      // Where the first signal comes before the wait, the next one ends it; where it is lost, none does, for the kernel asks once.
      const itimerval soon{{0, 2'000}, {0, 1 + i % 150}};  // us
      ::setitimer(ITIMER_REAL, &soon, nullptr);
      if (::fcntl(b, F_SETLKW, &wanted) == 0) return 1;
      if (errno != EINTR) return 2;
    }
    return 0;
  });
  EXPECT_EQ(waiter.wait(kDeadlineMs), 0) << volume_.logs();
}

TEST_P(TwoMounts, FlockAfterReopen_OldCloseTakesNothingAway) {
  for (int i = 0; i < 200; i++) {
    int a = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_EQ(::flock(a, LOCK_SH), 0);
    ::close(a);
    a = ::open((a_ + "/f").c_str(), O_RDWR | O_CLOEXEC);  // and the kernel tells of the close only now
    ASSERT_EQ(::flock(a, LOCK_EX), 0);
    const int b = ::open((b_ + "/f").c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_EQ(::flock(b, LOCK_EX | LOCK_NB), -1) << i;
    ::close(b), ::close(a);
  }
}

TEST_P(TwoMounts, FlockWithoutWaiting_AfterTheHoldersClose_IsGranted) {
  for (int i = 0; i < 200; i++) {
    const int fd = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    ASSERT_EQ(::flock(fd, LOCK_EX | LOCK_NB), 0) << i << " " << std::strerror(errno);
    ::close(fd);
  }
}

TEST_P(TwoMounts, CycleOfWaits_OverFilesOfAllBricks_IsEdeadlk) {
  // Enough pairs that some lie on different bricks.
  for (int i = 0; i < 4; i++) {
    const std::string one = "/one" + std::to_string(i), two = "/two" + std::to_string(i);
    const int a1 = ::open((a_ + one).c_str(), O_CREAT | O_RDWR, 0600), a2 = ::open((a_ + two).c_str(), O_CREAT | O_RDWR, 0600);
    const int b1 = ::open((b_ + one).c_str(), O_RDWR), b2 = ::open((b_ + two).c_str(), O_RDWR);
    int ready[2];
    ASSERT_EQ(::pipe(ready), 0);
    auto lock = whole(F_WRLCK);
    ASSERT_EQ(::fcntl(a1, F_SETLK, &lock), 0);
    Child other([&] {
      auto mine = whole(F_WRLCK);
      if (::fcntl(b2, F_SETLK, &mine) != 0 || ::write(ready[1], "x", 1) != 1) return 1;
      mine = whole(F_WRLCK);
      return ::fcntl(b1, F_SETLKW, &mine) == 0 ? 0 : errno == EDEADLK ? 35 : 2;
    });
    char byte;
    ASSERT_EQ(::read(ready[0], &byte, 1), 1);
    lock = whole(F_WRLCK);
    const int mine = ::fcntl(a2, F_SETLKW, &lock) == 0 ? 0 : errno;
    for (const int fd : {a1, a2}) ::close(fd);
    const int theirs = other.wait(kDeadlineMs);
    EXPECT_TRUE(mine == EDEADLK || theirs == EDEADLK) << "mine " << mine << " theirs " << theirs;
    for (const int fd : {b1, b2, ready[0], ready[1]}) ::close(fd);
  }
}

TEST_P(TwoMounts, Appends_FromBoth_AllArrive) {
  constexpr int kLines = 200;
  const auto append = [](const std::string& path, char letter) {
    const int fd = ::open(path.c_str(), O_CREAT | O_WRONLY | O_APPEND, 0600);
    const std::string line(99, letter);
    for (int i = 0; i < kLines; i++)
      if (::write(fd, (line + "\n").data(), 100) != 100) return 1;
    return 0;
  };
  Child one([&] { return append(a_ + "/log", 'a'); }), two([&] { return append(b_ + "/log", 'b'); });
  EXPECT_EQ(one.wait(kDeadlineMs), 0);
  EXPECT_EQ(two.wait(kDeadlineMs), 0);
  const std::string all = read_all(a_ + "/log");
  EXPECT_EQ(all.size(), 2u * kLines * 100);
  std::istringstream lines(all);
  int count_a = 0, count_b = 0;
  for (std::string line; std::getline(lines, line);) {
    count_a += line == std::string(99, 'a');
    count_b += line == std::string(99, 'b');
  }
  EXPECT_EQ(count_a, kLines);
  EXPECT_EQ(count_b, kLines);
}

// All names, or "errno N".
std::string list_of(const std::string& path) {
  char names[256];
  const ssize_t size = ::listxattr(path.c_str(), names, sizeof names);
  return size < 0 ? "errno " + std::to_string(errno) : std::string(names, static_cast<size_t>(size));
}

// A mount that knows of a file that it has no extended attributes does not ask; and learns when it has.
// Two processes append under a lock, behind what they take for the end; a third one writes elsewhere.
TEST_P(TwoMounts, EndOfFile_UnderALock_IsBehindWhatTheOtherHasWritten) {
  constexpr auto kTime = std::chrono::seconds(2);
  ASSERT_EQ(std::ofstream(a_ + "/f", std::ios::binary).write(std::string(8'192, 0).data(), 8'192).good(), true);
  std::atomic<off_t> size = 8'192;  // changed under the lock
  std::atomic<bool> stop = false;
  std::atomic<int> wrong = 0, appended[2] = {};
  const auto lock = [](int fd, short type, off_t byte) {
    struct flock range = whole(type);
    range.l_start = byte, range.l_len = 1;
    return ::fcntl(fd, F_OFD_SETLKW, &range);
  };
  const auto append = [&](const std::string& mount, std::atomic<int>& count) {
    const int fd = ::open((mount + "/f").c_str(), O_RDWR | O_CLOEXEC);
    EXPECT_GE(fd, 0);
    for (; !stop; ++count) {
      EXPECT_EQ(lock(fd, F_WRLCK, 0), 0);
      const off_t end = ::lseek(fd, 0, SEEK_END);
      struct stat stat{};
      EXPECT_EQ(::fstat(fd, &stat), 0);
      if (end != size || stat.st_size != size) wrong++;
      EXPECT_EQ(::pwrite(fd, "line\n", 5, size), 5);
      size += 5;
      EXPECT_EQ(lock(fd, F_UNLCK, 0), 0);
    }
    ::close(fd);
  };
  std::thread first([&] { append(a_, appended[0]); }), second([&] { append(b_, appended[1]); });
  std::thread elsewhere([&] {
    const int fd = ::open((a_ + "/f").c_str(), O_RDWR | O_CLOEXEC);
    for (off_t at = 0; !stop; at = (at + 8) % 8'192) EXPECT_EQ(::pwrite(fd, "12345678", 8, at), 8);
    ::close(fd);
  });
  const auto until = std::chrono::steady_clock::now() + kTime;
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return std::chrono::steady_clock::now() >= until; }));
  stop = true;
  for (std::thread* each : {&first, &second, &elsewhere}) each->join();
  EXPECT_EQ(wrong, 0) << "of " << appended[0] << " and " << appended[1];
  EXPECT_GT(appended[0], 0);
  EXPECT_GT(appended[1], 0);
}

TEST_P(TwoMounts, Xattrs_OfAFileWithoutAny_AreNotAskedForUntilThereAreSome) {
  const std::string in_a = a_ + "/f", in_b = b_ + "/f", user = std::string("user.x") + '\0';
  std::ofstream(in_a) << "text";
  const auto asked = [&] {
    uint64_t count = 0;
    for (size_t brick = 0; brick < 2; ++brick) {
      const auto operations = volume_.brick_status(brick)["operations"];
      for (const char* const each : {"listxattr", "getxattr"})
        if (operations.contains(each)) count += operations[each]["count"].get<uint64_t>();
    }
    return count;
  };
  const auto costs = [&](const std::string& path) {
    const uint64_t before = asked();
    struct stat attributes;
    EXPECT_EQ(::stat(path.c_str(), &attributes), 0);
    EXPECT_EQ(list_of(path), "");
    EXPECT_EQ(::getxattr(path.c_str(), "user.x", nullptr, 0), -1);
    EXPECT_EQ(errno, ENODATA);
    return asked() != before;
  };
  // The brick vouches for nothing until it has heard that the writer is gone.
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return !costs(in_b); })) << volume_.logs();
  ASSERT_EQ(::setxattr(in_a.c_str(), "user.x", "1", 1, 0), 0);
  EXPECT_EQ(list_of(in_a), user);
  EXPECT_EQ(list_of(in_b), user);
  EXPECT_EQ(::getxattr(in_b.c_str(), "user.x", nullptr, 0), 1);
  ASSERT_EQ(::removexattr(in_b.c_str(), "user.x"), 0);
  EXPECT_EQ(list_of(in_a), "");
  ASSERT_EQ(::setxattr(in_b.c_str(), "user.x", "22", 2, 0), 0);
  EXPECT_EQ(list_of(in_a), user);
  EXPECT_EQ(::getxattr(in_a.c_str(), "user.x", nullptr, 0), 2);
}

TEST_P(TwoMounts, Acl_InheritedByANewFile_IsThere) {
  const std::string dir = a_ + "/dir";
  ASSERT_EQ(::mkdir(dir.c_str(), 0755), 0);
  // Version 2; user::rwx, user:1:r--, group::r-x, mask::r-x, other::---.
  const uint32_t acl[] = {2, 0x70001, UINT32_MAX, 0x40002, 1, 0x50004, UINT32_MAX, 0x50010, UINT32_MAX, 0x00020, UINT32_MAX};
  ASSERT_EQ(::setxattr(dir.c_str(), "system.posix_acl_default", acl, sizeof acl, 0), 0) << std::strerror(errno);
  for (const std::string& mount : {a_, b_}) {
    const std::string name = mount + "/dir/of-" + (mount == a_ ? "a" : "b");
    const int fd = ::open(name.c_str(), O_CREAT | O_EXCL | O_RDWR, 0666);
    ASSERT_GE(fd, 0) << std::strerror(errno);
    EXPECT_EQ(::fgetxattr(fd, "system.posix_acl_access", nullptr, 0), static_cast<ssize_t>(sizeof acl)) << std::strerror(errno);
    EXPECT_EQ(list_of(name), std::string("system.posix_acl_access") + '\0');
    ::close(fd);
  }
}

TEST_P(TwoMounts, OpenAfterWriteThroughTheOther_ReadsTheNew) {
  std::ofstream(a_ + "/f") << "old";
  EXPECT_EQ(read_all(b_ + "/f"), "old");
  std::ofstream(a_ + "/f") << "new";
  EXPECT_EQ(read_all(b_ + "/f"), "new");
  const int fd = ::open((a_ + "/f").c_str(), O_WRONLY);
  ASSERT_EQ(::pwrite(fd, "xyz", 3, 0), 3);  // the same size
  ::close(fd);
  EXPECT_EQ(read_all(b_ + "/f"), "xyz");
}

class BrickRestartFault : public testing::TestWithParam<Pair> {
 protected:
  MountedVolume volume_{1};
  const std::string a_ = volume_.mount(GetParam().a);
};
INSTANTIATE_TEST_SUITE_P(All, BrickRestartFault, testing::ValuesIn(kPairs), [](const auto& info) { return std::string(info.param.name); });

TEST_P(BrickRestartFault, OpenFiles_KilledBrick_GoOnWhenItIsBack) {
  const int kept = ::open((a_ + "/kept").c_str(), O_CREAT | O_RDWR, 0600);
  const int gone = ::open((a_ + "/gone").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::write(kept, "before", 6), 6);
  ASSERT_EQ(::write(gone, "unlinked", 8), 8);
  ASSERT_EQ(::unlink((a_ + "/gone").c_str()), 0);
  volume_.kill_brick(0);
  volume_.start_brick(0);
  char buffer[20] = {};
  EXPECT_EQ(::pread(gone, buffer, sizeof buffer, 0), 8) << std::strerror(errno) << volume_.logs();
  EXPECT_STREQ(buffer, "unlinked");
  EXPECT_EQ(::write(gone, "more", 4), 4);
  EXPECT_EQ(::pwrite(kept, "after!", 6, 6), 6) << std::strerror(errno);
  EXPECT_EQ(::fsync(kept), 0) << std::strerror(errno);
  ::close(gone), ::close(kept);
  EXPECT_EQ(read_all(a_ + "/kept"), "beforeafter!");
}

TEST_P(BrickRestartFault, Locks_KilledBrick_AreStillHeld) {
  const std::string b = volume_.mount(GetParam().b);
  const int fd = ::open((a_ + "/f").c_str(), O_CREAT | O_RDWR, 0600), other = ::open((b + "/f").c_str(), O_RDWR);
  auto lock = whole(F_WRLCK);
  ASSERT_EQ(::fcntl(fd, F_SETLK, &lock), 0);
  Child waiter([&] {
    auto wanted = whole(F_WRLCK);
    return ::fcntl(other, F_SETLKW, &wanted) == 0 ? 0 : errno;
  });
  EXPECT_EQ(waiter.wait(300), -1);
  volume_.kill_brick(0);
  volume_.start_brick(0);
  Child probe([&] {
    auto wanted = whole(F_WRLCK);
    return ::fcntl(other, F_SETLK, &wanted) == 0 ? 1 : errno == EAGAIN ? 0 : 2;
  });
  EXPECT_EQ(probe.wait(60'000), 0) << volume_.logs();
  EXPECT_EQ(waiter.wait(100), -1) << "got the lock that another holds";
  ::close(fd);
  EXPECT_EQ(waiter.wait(60'000), 0) << volume_.logs();
}

TEST(MountCommand, Sigterm_WhileBusy_UnmountsAndEndsClean) {
  MountedVolume volume;
  const std::string path = volume.mount();
  const int fd = ::open((path + "/f").c_str(), O_CREAT | O_RDWR, 0600);
  EXPECT_EQ(::write(fd, "x", 1), 1);
  EXPECT_EQ(volume.client(0).terminate(kDeadlineMs), 0) << volume.logs();
  EXPECT_FALSE(std::filesystem::exists(path + "/f"));
  ::close(fd);
}

// Asked to end, it has the kernel write what was changed through mappings, which takes a brick that is down.
TEST(MountCommand, KilledWhileItEnds_ABrickDown_IsGone) {
  MountedVolume volume;
  const std::string path = volume.mount();
  const int fd = ::open((path + "/f").c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  ASSERT_GE(fd, 0);
  for (size_t brick = 0; brick < 2; brick++) volume.kill_brick(brick);
  const pid_t client = volume.client(0).pid();
  const auto is_asking = [client] {  // by a process of its own
    for (const auto& task : std::filesystem::directory_iterator("/proc/" + std::to_string(client) + "/task"))
      if (!read_all(task.path() / "children").empty()) return true;
    return false;
  };
  ASSERT_EQ(::kill(client, SIGTERM), 0);
  EXPECT_TRUE(wait_until(kDeadlineMs, is_asking)) << volume.logs();
  ASSERT_EQ(::kill(client, SIGKILL), 0);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return !volume.client(0).is_running(); }));
  struct stat stat{};
  EXPECT_NE(::fstat(fd, &stat), 0);
  ::close(fd);
}

TEST(MountCommand, Remount_InodeNumbers_Stay) {
  MountedVolume volume;
  const std::string first = volume.mount(), second = volume.mount();
  std::ofstream(first + "/f") << "x";
  struct stat a{}, b{};
  ASSERT_EQ(::stat((first + "/f").c_str(), &a), 0);
  ASSERT_EQ(::stat((second + "/f").c_str(), &b), 0);
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST(MountCommand, Subdirectory_IsTheRoot) {
  MountedVolume volume;
  const std::string whole_volume = volume.mount();
  ASSERT_EQ(::mkdir((whole_volume + "/sub").c_str(), 0750), 0);
  std::ofstream(whole_volume + "/sub/f") << "inside";
  const std::string sub = volume.mount("subdir-mount=sub");
  EXPECT_EQ(read_all(sub + "/f"), "inside");
  struct stat root{};
  ASSERT_EQ(::stat(sub.c_str(), &root), 0);
  EXPECT_EQ(root.st_mode & 07777, 0750u);
}

}  // namespace
}  // namespace voldfs::test
