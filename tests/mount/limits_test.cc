#include <dirent.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <limits.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "brick/base/unique_fd.h"
#include "brick/client/connection.h"
#include "dht/volume_map.h"
#include "tests/lib/files.h"
#include "tests/lib/mount.h"

// How large, how many, how much memory; and clients and bricks that do not answer.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr uint64_t kMib = 1024;  // in KiB, as memory is counted here
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;  // with memory of its own
#else
constexpr bool kSanitized = false;
#endif

dht::VolumeMap map_of(const MountedVolume& volume) {
  std::ifstream text(volume.map_file());
  auto map = dht::VolumeMap::parse(std::string(std::istreambuf_iterator<char>(text), {}));
  EXPECT_TRUE(map);
  return map ? *map : dht::VolumeMap{};
}

client::ClientOptions options_of(const MountedVolume& volume) {
  client::ClientOptions options;
  options.volume = map_of(volume).volume;
  options.client = Id::random();
  options.secret = *dht::read_secret(volume.map_file().string() + ".secret");
  options.use_unix_sockets = false;
  return options;
}

class Limits : public testing::Test {};
class LimitsFault : public testing::Test {};
class LimitsSlow : public testing::Test {};

TEST_F(LimitsFault, FrozenClient_ChangeOfAnotherWaitsForItsLeaseAndNoLonger) {
  constexpr int kLeaseMs = 2'000, kFiles = 8;
  MountedVolume volume(MountedVolume::Options{2, {"--lease_ms=" + std::to_string(kLeaseMs)}, {}});
  const fs::path frozen = volume.mount("transport=tcp"), other = volume.mount();
  const auto name = [](const char* kind, int i) { return kind + std::to_string(i); };
  struct stat stat{};
  std::vector<unique_fd> open;  // by way of the daemon, with pages
  for (int i = 0; i < kFiles; ++i) {
    ASSERT_EQ(write_file(other / name("f", i), 10), 0);
    ASSERT_EQ(fails(::stat((frozen / name("f", i)).c_str(), &stat)), 0);
    open.emplace_back(::open((frozen / name("f", i)).c_str(), O_RDONLY | O_CLOEXEC));
    char byte = 0;
    ASSERT_EQ(::pread(open.back().get(), &byte, 1, 0), 1);
  }
  ASSERT_EQ(::kill(volume.client(0).pid(), SIGSTOP), 0);
  const auto begin = Clock::now();
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_EQ(write_file(other / name("f", i), 20), 0) << i;
    EXPECT_EQ(fails(::rename((other / name("f", i)).c_str(), (other / name("g", i)).c_str())), 0);
  }
  // The first changes wait; then its session has ended, and nobody waits for it any more.
  EXPECT_LT(Clock::now() - begin, std::chrono::milliseconds(6 * kLeaseMs));
  ASSERT_EQ(::kill(volume.client(0).pid(), SIGCONT), 0);
  // From the first call on: what the kernel was told has ended with the lease.
  for (int i = 0; i < kFiles; ++i) {
    EXPECT_EQ(fails(::stat((frozen / name("f", i)).c_str(), &stat)), ENOENT) << i;
    ASSERT_EQ(fails(::stat((frozen / name("g", i)).c_str(), &stat)), 0) << i;
    EXPECT_EQ(stat.st_size, 20);
    char content[32];
    EXPECT_EQ(::pread(open[static_cast<size_t>(i)].get(), content, sizeof content, 0), 20) << i;
  }
}

TEST_F(LimitsFault, BrickStaysDown_CostsItsOwnFilesAlone) {
  MountedVolume volume(2);
  const fs::path mount = volume.mount("on-brick-down=error");
  constexpr int kDirs = 8, kFiles = 8;
  const auto dir = [&](int d) { return "d" + std::to_string(d); };
  for (int d = 0; d < kDirs; ++d) {
    ASSERT_EQ(fails(::mkdir((mount / dir(d)).c_str(), 0755)), 0);
    for (int i = 0; i < kFiles; ++i) ASSERT_EQ(write_file(mount / dir(d) / ("f" + std::to_string(i)), 10), 0);
  }
  volume.kill_brick(0);
  int lost = 0, there = 0, made = 0, refused = 0;
  struct stat stat{};
  for (int d = 0; d < kDirs; ++d) {
    EXPECT_EQ(fails(::stat((mount / dir(d)).c_str(), &stat)), 0) << dir(d);  // also those whose home is down
    for (int i = 0; i < kFiles; ++i) {
      const fs::path name = fs::path(dir(d)) / ("f" + std::to_string(i));
      const bool on_other = fs::exists(volume.brick_path(1) / name);
      EXPECT_EQ(fails(::stat((mount / name).c_str(), &stat)), on_other ? 0 : EIO) << name;
      ++(on_other ? there : lost);
      const int missing = fails(::stat((mount / dir(d) / ("none" + std::to_string(i))).c_str(), &stat));
      EXPECT_TRUE(missing == ENOENT || missing == EIO) << std::strerror(missing);
      const int created = write_file(mount / dir(d) / ("new" + std::to_string(i)), 10);
      EXPECT_TRUE(created == 0 || created == EIO) << std::strerror(created);
      ++(created == 0 ? made : refused);
    }
  }
  EXPECT_TRUE(lost > 0 && there > 0 && made > 0 && refused > 0) << lost << " " << there << " " << made << " " << refused;
  volume.start_brick(0);
  for (int d = 0; d < kDirs; ++d)
    for (int i = 0; i < kFiles; ++i) {
      const fs::path name = mount / dir(d) / ("f" + std::to_string(i));
      EXPECT_TRUE(wait_until(20'000, [&] { return ::stat(name.c_str(), &stat) == 0; })) << name;
    }
}

TEST_F(LimitsFault, Brick_IdleAndWithAThousandConnections_StaysSmall) {
  MountedVolume volume(1);
  const pid_t brick = volume.brick(0).pid();
  const uint64_t idle = resident_kib(brick);
  RecordProperty("idle_kib", std::to_string(idle));
  ASSERT_GT(idle, 0u);
  if (!kSanitized) {
    EXPECT_LT(idle, 10 * kMib);
  }
  constexpr size_t kConnections = 1000, kOfASession = 60;
  const auto map = map_of(volume);
  auto options = options_of(volume);
  client::BrickAddress address;
  address.brick = map.bricks[0].id, address.ordinal = 1, address.host = "127.0.0.1", address.port = map.bricks[0].port;
  std::vector<std::unique_ptr<client::Connection>> connections;
  uint64_t session = 0;
  for (size_t i = 0; i < kConnections; ++i) {
    if (i % kOfASession == 0) options.client = Id::random(), session = 0;
    auto connection = client::Connection::open(address, options, client::ConnectionKind::kRequests, session);
    ASSERT_TRUE(connection) << i << ": " << connection.error().code;
    session = (*connection)->welcome().session;
    connections.push_back(std::move(*connection));
  }
  // All of them are served, the first one too, and a mount beside them.
  for (const size_t i : {size_t{0}, kConnections / 2, kConnections - 1}) {
    wire::Request request(wire::Op::kStatfs);
    request.header().session = connections[i]->welcome().session;
    request.header().slot = static_cast<uint16_t>(i % kOfASession);
    request.header().sequence = 1;
    ASSERT_TRUE(connections[i]->send(request)) << i;
    wire::Reply reply;
    ASSERT_TRUE(connections[i]->receive(reply, {})) << i;
    EXPECT_EQ(reply.header.status, 0) << i;
  }
  const fs::path mount = volume.mount();
  EXPECT_EQ(write_file(mount / "file", 1000), 0);
  const uint64_t connected = resident_kib(brick);
  RecordProperty("connected_kib", std::to_string(connected));
  if (!kSanitized) {
    EXPECT_LT(connected, 64 * kMib);
  }
}

TEST_F(LimitsFault, Brick_UnderLoad_StaysSmall) {
  MountedVolume volume(1);
  const fs::path mount = volume.mount("transport=tcp");
  constexpr size_t kSize = 4u << 20;
  std::atomic<bool> stop = false;
  std::atomic<int> errors = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      for (int i = 0; !stop; ++i) {
        const fs::path file = mount / ("t" + std::to_string(t) + "-" + std::to_string(i % 4));
        errors += write_file(file, kSize) != 0;
        std::ifstream in(file, std::ios::binary);
        std::vector<char> content(kSize);
        errors += !in.read(content.data(), static_cast<std::streamsize>(content.size()));
      }
    });
  uint64_t most = 0;
  wait_until(3'000, [&] { return most = std::max(most, resident_kib(volume.brick(0).pid())), false; });
  stop = true;
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(errors, 0);
  RecordProperty("loaded_kib", std::to_string(most));
  if (!kSanitized) {
    EXPECT_LT(most, 64 * kMib);
  }
}

TEST_F(LimitsFault, MapPort_TellsTheMapToWhoHasTheSecret_AndNothingElse) {
  // Derived from the process, so that tests at once do not share it.
  const uint16_t port = static_cast<uint16_t>(20'000 + ::getpid() % 4'000);
  MountedVolume volume(MountedVolume::Options{2, {"--map_port=" + std::to_string(port)}, {}});
  client::BrickAddress address;
  address.host = "127.0.0.1", address.port = port;
  const auto told = client::ask(address, options_of(volume), wire::Op::kMapGet);
  ASSERT_TRUE(told) << told.error().code;
  auto heard = dht::VolumeMap::parse({reinterpret_cast<const char*>(told->data()), told->size()});
  ASSERT_TRUE(heard);
  EXPECT_EQ(heard->volume, map_of(volume).volume);
  auto stranger = options_of(volume);
  stranger.secret.assign(stranger.secret.size(), 0);
  EXPECT_FALSE(client::ask(address, stranger, wire::Op::kMapGet));
  auto refused = client::Connection::open(address, options_of(volume), client::ConnectionKind::kRequests, 0);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EPERM);
}

TEST_F(Limits, Names_Of255Bytes_AndNoLonger) {
  MountedVolume volume(2);
  const fs::path mount = volume.mount();
  struct stat stat{};
  for (int i = 0; i < 16; ++i) {
    const std::string longest = std::string(1, static_cast<char>('a' + i)) + std::string(NAME_MAX - 1, 'n');
    const std::string other = std::string(1, static_cast<char>('a' + i)) + std::string(NAME_MAX - 1, 'o');
    EXPECT_EQ(write_file(mount / longest, 10), 0);
    EXPECT_EQ(fails(::rename((mount / longest).c_str(), (mount / other).c_str())), 0);
    EXPECT_EQ(fails(::link((mount / other).c_str(), (mount / longest).c_str())), 0);
    EXPECT_EQ(fails(::stat((mount / longest).c_str(), &stat)), 0);
    EXPECT_EQ(stat.st_nlink, 2u);
    EXPECT_EQ(fails(::unlink((mount / other).c_str())), 0);
    EXPECT_EQ(fails(::mkdir((mount / other).c_str(), 0755)), 0);
    EXPECT_EQ(write_file(mount / other / longest, 10), 0);
    EXPECT_EQ(write_file(mount / (longest + "x"), 10), ENAMETOOLONG);
    EXPECT_EQ(fails(::mkdir((mount / (longest + "x")).c_str(), 0755)), ENAMETOOLONG);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(mount), fs::directory_iterator()), 32);
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

// Down to a path of some `length` bytes below `root`, each component of 200 at most.
void descend(const fs::path& root, size_t length, std::string& path, std::vector<unique_fd>& dirs) {
  dirs.emplace_back(::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  path = root.string();
  while (path.size() + 2 < length) {
    const std::string name(std::min<size_t>(200, length - path.size() - 2), static_cast<char>('a' + dirs.size() % 26));
    ASSERT_EQ(fails(::mkdirat(dirs.back().get(), name.c_str(), 0755)), 0) << path.size();
    dirs.emplace_back(::openat(dirs.back().get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(dirs.back()) << path.size();
    path += "/" + name;
  }
}

TEST_F(Limits, Paths_OfPathMaxAndBeyond) {
  MountedVolume volume(2);
  const fs::path mount = volume.mount();
  std::string path;
  std::vector<unique_fd> dirs;
  ASSERT_NO_FATAL_FAILURE(descend(mount, PATH_MAX - 4, path, dirs));
  path += "/" + std::string(PATH_MAX - 1 - path.size() - 1, 'f');
  ASSERT_EQ(path.size(), size_t{PATH_MAX - 1});
  struct stat stat{};
  EXPECT_EQ(write_file(path, 10), 0);
  EXPECT_EQ(fails(::stat(path.c_str(), &stat)), 0);
  EXPECT_EQ(stat.st_size, 10);
  std::string renamed = path;
  renamed.back() = 'g';
  EXPECT_EQ(fails(::rename(path.c_str(), renamed.c_str())), 0);
  EXPECT_EQ(fails(::stat((renamed + "x").c_str(), &stat)), ENAMETOOLONG);
  // Three times as deep, by descriptors: as on a local file system, no path leads there.
  for (int i = 0; i < 40; ++i) {
    const std::string name(200, static_cast<char>('A' + i % 26));
    ASSERT_EQ(fails(::mkdirat(dirs.back().get(), name.c_str(), 0755)), 0) << i;
    ASSERT_EQ(fails(::mkdirat(dirs.back().get(), "beside", 0755)), 0) << i;
    unique_fd file(::openat(dirs.back().get(), "file", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    ASSERT_TRUE(file) << i << ": " << std::strerror(errno);
    EXPECT_EQ(::write(file.get(), "deep", 4), 4) << i;
    dirs.emplace_back(::openat(dirs.back().get(), name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    ASSERT_TRUE(dirs.back()) << i << ": " << std::strerror(errno);
  }
  dirs.clear();
  EXPECT_EQ(std::system(("rm -r " + (mount / std::string(200, 'b')).string()).c_str()), 0);  // rm(1) goes by descriptors too
  EXPECT_TRUE(fs::is_empty(mount));
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

TEST_F(Limits, SparseFile_OfEightTebibytes) {
  MountedVolume volume(MountedVolume::Options{1, {}, {64}});
  const fs::path mounts[] = {volume.mount(), volume.mount("transport=tcp")};
  constexpr off_t kSize = off_t{8} << 40;
  const std::string text = "at the end";
  for (const fs::path& mount : mounts) {
    const fs::path path = mount / "sparse";
    unique_fd fd(::open(path.c_str(), O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0644));
    ASSERT_TRUE(fd);
    ASSERT_EQ(fails(::ftruncate(fd.get(), kSize)), 0);
    const off_t at = kSize - static_cast<off_t>(text.size());
    ASSERT_EQ(::pwrite(fd.get(), text.data(), text.size(), at), static_cast<ssize_t>(text.size()));
    struct stat stat{};
    ASSERT_EQ(fails(::stat(path.c_str(), &stat)), 0);
    EXPECT_EQ(stat.st_size, kSize);
    EXPECT_LT(stat.st_blocks, 64);
    EXPECT_EQ(::lseek(fd.get(), 0, SEEK_DATA), at & ~off_t{4095});
    EXPECT_EQ(::lseek(fd.get(), at, SEEK_HOLE), kSize);
    std::string found(text.size(), 0);
    unique_fd again(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_EQ(::pread(again.get(), found.data(), found.size(), at), static_cast<ssize_t>(text.size()));
    EXPECT_EQ(found, text);
    EXPECT_EQ(::pread(again.get(), found.data(), 1, kSize / 2), 1);
    EXPECT_EQ(found[0], 0);
  }
}

// ext4's own limit is 65,000.
TEST_F(LimitsSlow, HardLinks_AsManyAsTheDiskAllows) {
  constexpr int kLinks = 65'000;
  MountedVolume volume(MountedVolume::Options{2, {}, {512, 512}});
  const fs::path mount = volume.mount();
  ASSERT_EQ(fails(::mkdir((mount / "d").c_str(), 0755)), 0);
  ASSERT_EQ(write_file(mount / "d/file", 10), 0);
  const auto begin = Clock::now();
  const auto name = [&](int i) { return mount / "d" / ("link" + std::to_string(i)); };
  int links = 1, error = 0;
  while (links <= kLinks && (error = fails(::link((mount / "d/file").c_str(), name(links).c_str()))) == 0) ++links;
  const auto took = [&begin] { return std::to_string(std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin).count()); };
  RecordProperty("link_ms", took());
  EXPECT_EQ(error, EMLINK);
  EXPECT_EQ(links, kLinks);
  struct stat stat{};
  for (const int i : {1, links / 2, links - 1}) {
    ASSERT_EQ(fails(::stat(name(i).c_str(), &stat)), 0) << i;
    EXPECT_EQ(stat.st_nlink, static_cast<nlink_t>(links)) << i;
  }
  EXPECT_EQ(fails(::stat(name(links).c_str(), &stat)), ENOENT);
  for (int i = 1; i < links; ++i) ASSERT_EQ(fails(::unlink(name(i).c_str())), 0) << i;
  RecordProperty("with_unlink_ms", took());
  ASSERT_EQ(fails(::stat((mount / "d/file").c_str(), &stat)), 0);
  EXPECT_EQ(stat.st_nlink, 1u);
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

}  // namespace
}  // namespace voldfs::test
