#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <string>

#include "tests/lib/files.h"
#include "tests/lib/mount.h"

// Bricks that are full, or nearly.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

class FullDiskFault : public testing::Test {};

TEST_F(FullDiskFault, BrickBelowMinFree_NewFilesGoToAnother_OldOnesWork) {
  MountedVolume volume(MountedVolume::Options{2, {"--min_free=20"}, {64, 256}});
  const fs::path mount = volume.mount();
  ASSERT_EQ(fails(::mkdir((mount / "d").c_str(), 0755)), 0);
  ASSERT_EQ(write_file(mount / "d/before", 4096), 0);
  // Behind voldfs's back, so that it is this brick.
  ASSERT_EQ(write_file(volume.brick_path(0) / ".voldfs/fill", 46u << 20), 0);
  int probes = 0;
  ASSERT_TRUE(wait_until(20'000, [&] {  // what is free is looked at now and then
    const std::string name = "probe" + std::to_string(probes++);
    EXPECT_EQ(write_file(mount / "d" / name, 10), 0);
    return fs::exists(volume.brick_path(0) / "d" / name) && fs::exists(volume.brick_path(1) / "d" / name);
  }));
  for (int i = 0; i < 40; ++i) ASSERT_EQ(write_file(mount / "d" / ("f" + std::to_string(i)), 10'000), 0) << i;
  int spilled = 0;
  for (int i = 0; i < 40; ++i) {
    const fs::path name = fs::path("d") / ("f" + std::to_string(i));
    struct stat stat{};
    ASSERT_EQ(::stat((volume.brick_path(1) / name).c_str(), &stat), 0) << name;
    if (fs::exists(volume.brick_path(0) / name)) {
      ++spilled;
      EXPECT_EQ(fs::file_size(volume.brick_path(0) / name), 0u);  // a stub
    }
    ASSERT_EQ(::stat((mount / name).c_str(), &stat), 0);
    EXPECT_EQ(stat.st_size, 10'000);
  }
  EXPECT_GT(spilled, 0);
  EXPECT_EQ(fails(::mkdir((mount / "d/sub").c_str(), 0755)), 0);
  EXPECT_EQ(fails(::rename((mount / "d/before").c_str(), (mount / "d/after").c_str())), 0);
  EXPECT_EQ(fails(::symlink("x", (mount / "d/link").c_str())), 0);
  for (int i = 0; i < 40; ++i) EXPECT_EQ(fails(::unlink((mount / "d" / ("f" + std::to_string(i))).c_str())), 0);
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

// From large to small, until there is nothing.
void fill(const fs::path& brick) {
  for (size_t size = 4u << 20; size >= 4096; size /= 2)
    for (int n = 0; n < 1000; ++n)
      if (write_file(brick / ".voldfs" / ("fill" + std::to_string(size) + "-" + std::to_string(n)), size) != 0) break;
}

void make_room(const fs::path& brick) {
  for (const auto& entry : fs::directory_iterator(brick / ".voldfs"))
    if (entry.path().filename().string().starts_with("fill")) fs::remove(entry.path());
}

bool happened_or_not(int error) { return error == 0 || error == ENOSPC; }

// What does not fit has not happened; what is there stays as it is.
void try_all(const fs::path& dir, const std::string& n) {
  struct stat stat{};
  EXPECT_PRED1(happened_or_not, write_file(dir / ("new" + n), 100'000));
  const int made = fails(::mkdir((dir / ("dir" + n)).c_str(), 0755));
  EXPECT_PRED1(happened_or_not, made);
  EXPECT_EQ(fails(::stat((dir / ("dir" + n)).c_str(), &stat)), made == 0 ? 0 : ENOENT);
  const int linked = fails(::symlink(std::string(2000, 't').c_str(), (dir / ("sym" + n)).c_str()));
  EXPECT_PRED1(happened_or_not, linked);
  EXPECT_EQ(fails(::lstat((dir / ("sym" + n)).c_str(), &stat)), linked == 0 ? 0 : ENOENT);
  const fs::path old = dir / ("old" + n), renamed = dir / ("renamed" + n);
  const int moved = fails(::rename(old.c_str(), renamed.c_str()));
  EXPECT_PRED1(happened_or_not, moved);
  const fs::path now = moved == 0 ? renamed : old;
  EXPECT_EQ(fails(::stat((moved == 0 ? old : renamed).c_str(), &stat)), ENOENT);
  EXPECT_EQ(fails(::stat(now.c_str(), &stat)), 0) << now;
  EXPECT_EQ(stat.st_size, 1000);
  const std::string value(3000, 'v');
  EXPECT_PRED1(happened_or_not, fails(::setxattr(now.c_str(), "user.big", value.data(), value.size(), 0)));
  const int hard = fails(::link(now.c_str(), (dir / ("hard" + n)).c_str()));
  EXPECT_PRED1(happened_or_not, hard);
  EXPECT_EQ(fails(::stat((dir / ("hard" + n)).c_str(), &stat)), hard == 0 ? 0 : ENOENT);
}

// A brick that starts on its full disk serves what it has, however it has ended.
void restart(MountedVolume& volume, const fs::path& dir) {
  volume.kill_brick(0);
  EXPECT_EQ(volume.brick(1).terminate(20'000), 0);
  volume.start_brick(0), volume.start_brick(1);
  struct stat stat{};
  EXPECT_EQ(fails(::stat(dir.c_str(), &stat)), 0);
  EXPECT_GE(std::distance(fs::directory_iterator(dir), fs::directory_iterator()), 20);
}

// `fill` leaves no room on a brick; `does_not_fit` then writes a file that cannot be written.
void fill_and_try(const std::function<void(const fs::path& brick)>& fill, const std::function<int(const fs::path& dir)>& does_not_fit) {
  MountedVolume volume(MountedVolume::Options{2, {"--min_free=0"}, {32, 32}});
  const fs::path mount = volume.mount();
  ASSERT_EQ(fails(::mkdir((mount / "d").c_str(), 0755)), 0);
  for (int i = 0; i < 20; ++i) ASSERT_EQ(write_file(mount / "d" / ("old" + std::to_string(i)), 1000), 0);
  for (size_t i = 0; i < 2; ++i) fill(volume.brick_path(i));
  for (int i = 0; i < 20; ++i) try_all(mount / "d", std::to_string(i));
  EXPECT_EQ(does_not_fit(mount / "d"), ENOSPC);
  restart(volume, mount / "d");
  for (size_t i = 0; i < 2; ++i) make_room(volume.brick_path(i));
  ASSERT_EQ(write_file(mount / "d/again", 100'000), 0);
  std::error_code error;
  fs::remove_all(mount / "d", error);
  EXPECT_FALSE(error) << error.message();
  volume.unmount(0);
  EXPECT_EQ(volume.check_bricks(), 0) << volume.logs();
}

TEST_F(FullDiskFault, FullToTheLastBlock_ENOSPC_NothingIsTorn) {
  fill_and_try(fill, [](const fs::path& dir) { return write_file(dir / "large", 1u << 20); });
}

// No inode is left, but blocks are.
TEST_F(FullDiskFault, NoInodeLeft_ENOSPC_NothingIsTorn) {
  const auto use_all_inodes = [](const fs::path& brick) {
    for (int n = 0; write_file(brick / ".voldfs" / ("fill" + std::to_string(n)), 0) == 0; ++n) ASSERT_LT(n, 100'000);
  };
  fill_and_try(use_all_inodes, [](const fs::path& dir) { return write_file(dir / "another", 1); });
}

TEST(FullDisk, BricksOnOneFileSystem_CountOnce) {
  MountedVolume volume(MountedVolume::Options{3, {}, {0, 0, 64}});
  const fs::path mount = volume.mount();
  struct statvfs of_volume{}, of_shared{}, of_own{};
  ASSERT_EQ(::statvfs(mount.c_str(), &of_volume), 0);
  ASSERT_EQ(::statvfs(volume.brick_path(0).c_str(), &of_shared), 0);
  ASSERT_EQ(::statvfs(volume.brick_path(2).c_str(), &of_own), 0);
  const auto bytes = [](const struct statvfs& stat) { return double(stat.f_blocks) * double(stat.f_frsize); };
  EXPECT_NEAR(bytes(of_volume), bytes(of_shared) + bytes(of_own), 2.0 * double(of_volume.f_frsize));
}

}  // namespace
}  // namespace voldfs::test
