#include <fcntl.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "brick/base/unique_fd.h"

// The main function of tests with whole nodes in them: each runs in namespaces of its own (mounts, network, processes), so
// that it has every address of 127.0.0.0/8 with all its ports, /etc/voldfs and the like, and /sbin/mount.voldfs to itself, and
// so that nothing of it is left, whichever way it ends: with the first process of the namespace the kernel ends all others.

namespace {

constexpr char kBase[] = "/var/tmp", kPrefix[] = "voldfs-sandbox.";
constexpr char kInside[] = "VOLDFS_TEST_SANDBOX";

[[noreturn]] void die(const char* what) {
  std::fprintf(stderr, "sandbox: %s: %s\n", what, std::strerror(errno));
  std::exit(1);
}

// What a test that was killed has left: nobody holds its lock any more. (A minute's grace for who has none yet.)
void sweep() {
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(kBase, ignored)) {
    struct stat st{};
    const voldfs::unique_fd old(::open(entry.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    const bool ours = entry.path().filename().string().starts_with(kPrefix) && old && ::fstat(old.get(), &st) == 0;
    if (ours && st.st_ctime + 60 < ::time(nullptr) && ::flock(old.get(), LOCK_EX | LOCK_NB) == 0) std::filesystem::remove_all(entry.path(), ignored);
  }
}

[[noreturn]] void enter(int argc, char** argv) {
  sweep();
  std::string directory = std::string(kBase) + "/" + kPrefix + "XXXXXX";
  if (!::mkdtemp(directory.data())) die("mkdtemp");
  // Kept by all that runs in the sandbox.
  const int held = ::open(directory.c_str(), O_RDONLY | O_DIRECTORY);
  if (held < 0 || ::flock(held, LOCK_SH) != 0) die("flock");
  ::setenv(kInside, directory.c_str(), 1);
  const std::string self = std::filesystem::read_symlink("/proc/self/exe");
  std::vector<std::string> words = {"unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc", self};
  words.insert(words.end(), argv + 1, argv + argc);
  std::vector<char*> arguments;
  for (std::string& word : words) arguments.push_back(word.data());
  arguments.push_back(nullptr);
  ::execvp(arguments[0], arguments.data());
  die("unshare");
}

void bring_up_loopback() {
  const voldfs::unique_fd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  if (::ioctl(fd.get(), SIOCSIFFLAGS, &request) < 0) die("bring up lo");
}

// What is written there is this test's alone, and gone with it.
void make_private(const std::string& directory, const std::string& path) {
  const std::string own = directory + "/overlay" + std::string(1, '-') + path.substr(path.rfind('/') + 1);
  std::filesystem::create_directories(own + "/upper");
  std::filesystem::create_directories(own + "/work");
  const std::string options = "lowerdir=" + path + ",upperdir=" + own + "/upper,workdir=" + own + "/work";
  if (::mount("overlay", path.c_str(), "overlay", 0, options.c_str()) < 0) die(("overlay on " + path).c_str());
}

// The first process of the namespace buries orphans, as a real system's does, and ends all others with itself.
void become_init() {
  const pid_t tests = ::fork();
  if (tests < 0) die("fork");
  if (tests == 0) return;
  for (;;) {
    int status = 0;
    const pid_t ended = ::wait(&status);
    if (ended == tests) ::_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::vector<std::string> given(argv, argv + argc);
  testing::InitGoogleTest(&argc, argv);
  const char* inside = std::getenv(kInside);
  if (testing::GTEST_FLAG(list_tests)) return RUN_ALL_TESTS();
  if (!inside) {
    std::vector<char*> arguments;
    for (const std::string& word : given) arguments.push_back(const_cast<char*>(word.c_str()));
    enter(static_cast<int>(arguments.size()), arguments.data());
  }
  become_init();
  bring_up_loopback();
  const std::string directory = inside;
  const std::vector<std::string> paths = {"/etc", "/run", "/usr/sbin", "/var/lib", "/var/log"};
  for (const std::string& path : paths) make_private(directory, path);
  // As on a machine without voldfs, whatever is installed on this one.
  for (const char* installed : {"/etc/voldfs", "/run/voldfs", "/usr/sbin/mount.voldfs", "/var/lib/voldfs", "/var/log/voldfs"}) std::filesystem::remove_all(installed);
  const int result = RUN_ALL_TESTS();
  for (const std::string& path : paths) ::umount2(path.c_str(), MNT_DETACH);
  std::error_code ignored;
  std::filesystem::remove_all(directory, ignored);
  return result;
}
