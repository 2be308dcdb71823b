#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "dht/volume_map.h"
#include "tests/lib/files.h"
#include "tests/lib/mount.h"

// File systems that cannot hold a brick are refused with a sentence that says why.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;

dht::BrickEntry first_brick(const MountedVolume& volume) {
  std::ifstream text(volume.map_file());
  auto map = dht::VolumeMap::parse(std::string(std::istreambuf_iterator<char>(text), {}));
  EXPECT_TRUE(map);
  return map ? map->bricks[0] : dht::BrickEntry{};
}

class RefusedDiskFault : public testing::Test {
 protected:
  // What voldbrick says when it does not start.
  std::string refusal(const MountedVolume& volume, const std::vector<std::string>& arguments) {
    const fs::path log = volume.directory() / "refused.log";
    Process brick("voldbrick", arguments, log);
    EXPECT_TRUE(wait_until(20'000, [&brick] { return !brick.is_running(); }));
    EXPECT_EQ(brick.terminate(1'000), 1);
    std::stringstream said;
    said << std::ifstream(log).rdbuf();
    return said.str();
  }
};

TEST_F(RefusedDiskFault, ReadOnly_IsRefused) {
  MountedVolume volume(MountedVolume::Options{1, {}, {32}});
  volume.kill_brick(0);
  ASSERT_EQ(fails(::mount(nullptr, volume.brick_path(0).c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr)), 0);
  const std::string said = refusal(volume, {"--path=" + volume.brick_path(0).string(), "--listen=127.0.0.1:0"});
  EXPECT_NE(said.find("is on a read-only file system: mount it writable"), std::string::npos) << said;
}

TEST_F(RefusedDiskFault, WithoutAttributes_IsRefused) {
  MountedVolume volume(1);
  const fs::path plain = volume.directory() / "plain";
  fs::create_directory(plain);
  // The kernel's oldest: ramfs has no extended attributes.
  ASSERT_EQ(fails(::mount("none", plain.c_str(), "ramfs", 0, nullptr)), 0);
  const std::string said = refusal(volume, {"--path=" + plain.string(), "--init", "--map=" + volume.map_file().string(),
                                            "--brick=" + first_brick(volume).id.uuid(), "--listen=127.0.0.1:0"});
  EXPECT_NE(said.find("attributes"), std::string::npos) << said;
  EXPECT_EQ(fails(::umount(plain.c_str())), 0);
}

TEST_F(RefusedDiskFault, Copy_IsRefused_AndServesWhenToldTo) {
  MountedVolume volume(1);
  const fs::path mount = volume.mount();
  ASSERT_EQ(fails(::mkdir((mount / "d").c_str(), 0755)), 0);
  ASSERT_EQ(write_file(mount / "d/file", 1000), 0);
  volume.unmount(0);
  volume.brick(0).terminate(10'000);
  const fs::path copy = volume.directory() / "copy", image = volume.directory() / "copy.img", brick = copy / "brick";
  fs::create_directory(copy);
  const std::string make = "truncate -s 32M " + image.string() + " && mkfs.ext4 -q -F -b 4096 " + image.string() + " && mount -o loop " +
                           image.string() + " " + copy.string() + " && mkdir " + brick.string() + " && cp -a --preserve=all " +
                           volume.brick_path(0).string() + "/. " + brick.string();
  ASSERT_EQ(std::system(make.c_str()), 0);
  const std::string said = refusal(volume, {"--path=" + brick.string(), "--listen=127.0.0.1:0"});
  EXPECT_NE(said.find("is a copy"), std::string::npos) << said;
  {
    // The original is gone for good.
    const std::string listen = "--listen=127.0.0.1:" + std::to_string(first_brick(volume).port);
    Process serving("voldbrick", {"--path=" + brick.string(), "--init", listen}, volume.directory() / "copy.log");
    const fs::path again = volume.mount();
    struct stat stat{};
    EXPECT_EQ(fails(::stat((again / "d/file").c_str(), &stat)), 0);
    EXPECT_EQ(stat.st_size, 1000);
    volume.unmount(1);
    serving.terminate(10'000);
  }
  EXPECT_EQ(fails(::umount2(copy.c_str(), MNT_DETACH)), 0);
}

}  // namespace
}  // namespace voldfs::test
