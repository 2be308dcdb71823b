#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <thread>
#include <vector>

#include "tests/lib/crash_shared.h"
#include "tests/lib/mount.h"

// Two mounts add to one number under a lock: each sees what the other has written, through whichever caches.
namespace voldfs::test {
namespace {

// By hand, for longer: VOLDFS_NUMBER_SECONDS.
std::chrono::seconds time_to_run() {
  const char* const text = std::getenv("VOLDFS_NUMBER_SECONDS");
  return std::chrono::seconds(text ? std::strtol(text, nullptr, 10) : 3);
}

struct Ways {
  const char* name;
  const char *one, *other;  // options of the mounts
  bool cuts = false;        // their connections are, all the time
  bool noise = false;       // each mount writes elsewhere in the file too, all the time and under no lock
};

// Its own page, through the mount: the kernel ignores answers that a write of its own has overtaken.
void make_noise(const std::filesystem::path& mount, std::chrono::steady_clock::time_point end) {
  constexpr off_t kAt = 64 << 10;
  const int fd = ::open((mount / "number").c_str(), O_RDWR | O_CLOEXEC);
  for (char byte = 0; std::chrono::steady_clock::now() < end; byte++) EXPECT_EQ(::pwrite(fd, &byte, 1, kAt), 1) << std::strerror(errno);
  ::close(fd);
}

class SharedNumber : public testing::TestWithParam<Ways> {};

TEST_P(SharedNumber, AddedToUnderALock_NothingIsLost) {
  MountedVolume volume;
  const std::vector<std::filesystem::path> mounts{volume.mount(GetParam().one), volume.mount(GetParam().other)};
  CrashShared::begin(mounts[0]);
  std::vector<std::unique_ptr<CrashShared>> clients;
  for (const auto& mount : mounts) clients.push_back(std::make_unique<CrashShared>(mount, "client" + std::to_string(clients.size())));
  const auto end = std::chrono::steady_clock::now() + time_to_run();
  size_t cut = 0;
  std::vector<std::thread> threads;
  for (auto& client : clients)
    threads.emplace_back([&client, end] {
      while (std::chrono::steady_clock::now() < end && client->step()) {
      }
    });
  if (GetParam().noise)
    for (const auto& mount : mounts) threads.emplace_back([&mount, end] { make_noise(mount, end); });
  while (GetParam().cuts && std::chrono::steady_clock::now() < end) volume.cut_connections(cut++ % 2);
  for (std::thread& thread : threads) thread.join();
  CrashShared::check(mounts[0], clients);
  clients.clear();
  if (HasFailure()) FAIL() << volume.logs();
}

INSTANTIATE_TEST_SUITE_P(Mounts, SharedNumber,
                         testing::Values(Ways{"Local", "", ""}, Ways{"ByTheDaemon", "passthrough=off", "passthrough=off"},
                                         Ways{"Remote", "transport=tcp", "transport=tcp"}, Ways{"LocalAndRemote", "", "transport=tcp"},
                                         Ways{"RemoteCut", "transport=tcp", "transport=tcp", true},
                                         Ways{"RemoteNoise", "transport=tcp", "transport=tcp", false, true},
                                         Ways{"LocalAndRemoteNoise", "", "transport=tcp", false, true},
                                         Ways{"DirectCut", "transport=tcp,direct-io-mode=on", "transport=tcp,direct-io-mode=on", true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace voldfs::test
