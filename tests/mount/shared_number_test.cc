#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "tests/lib/crash_shared.h"
#include "tests/lib/mount.h"

// Two mounts add to one number under a lock: each sees what the other has written, through whichever caches.
namespace voldfs::test {
namespace {

constexpr auto kTime = std::chrono::seconds(3);

struct Ways {
  const char* name;
  const char *one, *other;  // options of the mounts
  bool cuts = false;        // their connections are, all the time
};

class SharedNumber : public testing::TestWithParam<Ways> {};

TEST_P(SharedNumber, AddedToUnderALock_NothingIsLost) {
  MountedVolume volume;
  const std::vector<std::filesystem::path> mounts{volume.mount(GetParam().one), volume.mount(GetParam().other)};
  CrashShared::begin(mounts[0]);
  std::vector<std::unique_ptr<CrashShared>> clients;
  for (const auto& mount : mounts) clients.push_back(std::make_unique<CrashShared>(mount, "client" + std::to_string(clients.size())));
  const auto end = std::chrono::steady_clock::now() + kTime;
  size_t cut = 0;
  std::vector<std::thread> threads;
  for (auto& client : clients)
    threads.emplace_back([&client, end] {
      while (std::chrono::steady_clock::now() < end && client->step()) {
      }
    });
  while (GetParam().cuts && std::chrono::steady_clock::now() < end) volume.cut_connections(cut++ % 2);
  for (std::thread& thread : threads) thread.join();
  CrashShared::check(mounts[0], clients);
  clients.clear();
  if (HasFailure()) FAIL() << volume.logs();
}

INSTANTIATE_TEST_SUITE_P(Mounts, SharedNumber,
                         testing::Values(Ways{"Local", "", ""}, Ways{"ByTheDaemon", "passthrough=off", "passthrough=off"},
                                         Ways{"Remote", "transport=tcp", "transport=tcp"}, Ways{"LocalAndRemote", "", "transport=tcp"},
                                         Ways{"DirectCut", "transport=tcp,direct-io-mode=on", "transport=tcp,direct-io-mode=on", true}),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace voldfs::test
