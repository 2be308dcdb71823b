#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstring>
#include <fstream>
#include <new>
#include <string>

#include "tests/lib/mount.h"

// Signals that come for a process while a call waits for a brick.
namespace voldfs::test {
namespace {

constexpr int kDeadlineMs = 30'000;

// Shared by a test and its child.
struct Shared {
  std::atomic<uint64_t> calls{0};
  std::atomic<bool> stop{false};
  std::array<char, 128> trouble{};
};
Shared* shared = nullptr;

void take_signal(int) {}

bool has_failed(int result, const char* call) {
  if (result >= 0) return false;
  std::snprintf(shared->trouble.data(), shared->trouble.size(), "%s: %s", call, std::strerror(errno));
  return true;
}

// One round of calls, each of which a local file system carries through whatever signals come. False: one failed.
bool call_all(const std::string& directory, int file) {
  char byte = 0;
  const std::string one = directory + "/one", other = directory + "/other";
  struct stat stat{};
  const auto ok = [](int result, const char* call) { return shared->calls++, !has_failed(result, call); };
  if (!ok(static_cast<int>(::pwrite(file, "x", 1, 0)), "pwrite")) return false;
  if (!ok(::fdatasync(file), "fdatasync")) return false;
  if (!ok(static_cast<int>(::lseek(file, 0, SEEK_END)), "lseek")) return false;
  if (!ok(static_cast<int>(::lseek(file, 0, SEEK_HOLE)), "lseek(SEEK_HOLE)")) return false;
  if (!ok(::ftruncate(file, 10), "ftruncate")) return false;
  if (!ok(static_cast<int>(::pread(file, &byte, 1, 0)), "pread")) return false;
  if (!ok(::fstat(file, &stat), "fstat")) return false;
  const int made = ::open(one.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  if (!ok(made, "open(O_CREAT)") || !ok(::close(made), "close")) return false;
  if (!ok(::rename(one.c_str(), other.c_str()), "rename")) return false;
  if (!ok(::chmod(other.c_str(), 0600), "chmod")) return false;
  if (!ok(::link(other.c_str(), one.c_str()), "link")) return false;
  DIR* const listing = ::opendir(directory.c_str());
  if (!ok(listing ? 0 : -1, "opendir")) return false;
  errno = 0;
  while (::readdir(listing)) {
  }
  const int listed = errno == 0 ? 0 : -1;
  ::closedir(listing);
  return ok(listed, "readdir") && ok(::unlink(one.c_str()), "unlink") && ok(::unlink(other.c_str()), "unlink");
}

// Of proc(5); D: asleep, and not to be woken by a signal that it handles.
char state_of(pid_t process) {
  std::string pid, name;
  char state = 0;
  std::ifstream("/proc/" + std::to_string(process) + "/stat") >> pid >> name >> state;
  return state;
}

class SignalFault : public testing::Test {
 protected:
  SignalFault() {
    void* const memory = ::mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) std::abort();
    shared = new (memory) Shared;
  }
  ~SignalFault() override { ::munmap(shared, sizeof(Shared)); }

  MountedVolume volume_;
  const std::string mount_ = volume_.mount();
};

// The processes get a signal every few milliseconds, as PostgreSQL's do.
TEST_F(SignalFault, Handled_WhileABrickIsDown_NoCallFails) {
  const std::string directory = mount_ + "/d";
  ASSERT_EQ(::mkdir(directory.c_str(), 0755), 0);
  std::array<int, 4> files;
  for (size_t i = 0; i < files.size(); i++)  // some on either brick
    ASSERT_GE(files[i] = ::open((directory + "/f" + std::to_string(i)).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0644), 0);
  Child child([&] {
    struct sigaction action{};
    action.sa_handler = take_signal;  // and no SA_RESTART
    ::sigaction(SIGALRM, &action, nullptr);
    const itimerval every{{0, 5'000}, {0, 5'000}};
    ::setitimer(ITIMER_REAL, &every, nullptr);
    while (!shared->stop)
      for (const int file : files)
        if (!call_all(directory, file)) return 1;
    return 0;
  });
  for (size_t round = 0; round < 6 && shared->trouble[0] == 0; round++) {
    const uint64_t calls = shared->calls;
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return shared->calls > calls + 20 || shared->trouble[0] != 0; })) << volume_.logs();
    volume_.kill_brick(round % 2);
    // A signal has come while a call waited: from then on the kernel waits for the answer, and the handler with it.
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return state_of(child.pid()) == 'D' || shared->trouble[0] != 0; }));
    volume_.start_brick(round % 2);
  }
  shared->stop = true;
  EXPECT_EQ(child.wait(kDeadlineMs), 0) << shared->trouble.data();
  for (const int file : files) ::close(file);
}

TEST_F(SignalFault, Deadly_WhileABrickIsDown_TheProcessGoes) {
  ASSERT_EQ(::mkdir((mount_ + "/d").c_str(), 0755), 0);
  for (size_t brick = 0; brick < 2; brick++) volume_.kill_brick(brick);
  for (const int signal : {SIGTERM, SIGQUIT, SIGKILL}) {
    Child child([&] {
      struct stat stat{};
      ::stat((mount_ + "/d/missing" + std::to_string(signal)).c_str(), &stat);
      return 1;
    });
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return state_of(child.pid()) == 'S' || state_of(child.pid()) == 'D'; }));
    child.signal(signal);
    EXPECT_EQ(child.wait(kDeadlineMs), 256) << strsignal(signal);
  }
}

}  // namespace
}  // namespace voldfs::test
