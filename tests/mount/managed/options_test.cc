#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/lib/managed_volume.h"

// Every option that there is takes effect on bricks that run and on mounts that are mounted, within moments.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

class OptionsFault : public ManagedVolume {
 protected:
  OptionsFault() { make_and_mount(); }
  void set(const std::string& key, const std::string& value) { cluster_.run(1, {"volume", "set", "vol", key, value}); }
  std::string brick_log(size_t node) { return read_text(cluster_.directory(node) / "log" / ("brick-" + cluster_.brick_id(node, "vol") + ".log")); }
  std::string mount_log() { return read_text(cluster_.directory() / (mnt_.filename().string() + ".log")); }
  // A name whose brick is on this node.
  std::string name_on(size_t node) {
    for (int i = 0;; ++i) {
      const std::string name = "probe" + std::to_string(i);
      std::ofstream(mnt_ / name) << "x";
      const bool there = fs::exists(cluster_.brick(node, "vol") / name);
      fs::remove(mnt_ / name);
      if (there) return name;
    }
  }
};

TEST_F(OptionsFault, BrickLogLevel_IsHeededByRunningBricks) {
  set("brick.log-level", "error");
  for (size_t node = 0; node < 2; ++node) set("user.nothing", std::to_string(node));
  set("brick.log-level", "debug");
  for (size_t node = 0; node < 2; ++node)
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return brick_log(node).find("log_level level=debug") != std::string::npos; })) << brick_log(node);
}

TEST_F(OptionsFault, BrickMinFree_IsHeededByRunningBricks) {
  // Of a disk of which less is free than asked for, wherever the test runs: one of its own.
  const fs::path disk = cluster_.directory() / "disk";
  fs::create_directories(disk);
  ASSERT_EQ(shell("truncate -s 64M " + disk.string() + ".img && mkfs.ext4 -q -m 0 " + disk.string() + ".img && mount -o loop " + disk.string() + ".img " + disk.string() +
                  " && fallocate -l 40M " + disk.string() + "/ballast").code, 0);
  cluster_.run(0, {"volume", "create", "small", cluster_.address(0) + ":" + (disk / "brick").string()});
  cluster_.run(0, {"volume", "start", "small"});
  const fs::path mnt = cluster_.mount("small");
  const auto create = [&] { return create_error(mnt / "f"); };
  EXPECT_EQ(create(), 0);
  cluster_.run(0, {"volume", "set", "small", "brick.min-free", "50"});
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return create() == ENOSPC; }));
  cluster_.run(0, {"volume", "reset", "small", "brick.min-free"});
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return create() == 0; }));
  cluster_.unmount(mnt);
  cluster_.run(0, {"volume", "stop", "small"});
  EXPECT_EQ(shell("umount " + disk.string()).code, 0);
}

TEST_F(OptionsFault, ClientLogLevel_IsHeededByMounts) {
  const std::string quiet = mount_log();
  set("client.log-level", "debug");
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return mount_log().find("log_level level=debug") != std::string::npos; })) << mount_log();
  EXPECT_EQ(quiet.find("log_level level=debug"), std::string::npos);
}

TEST_F(OptionsFault, ClientOnBrickDownAndTimeout_AreHeededByMounts) {
  const std::string name = name_on(1);
  const auto cached = [&] { return read_text(cluster_.directory() / "cache/vol.json"); };
  // A brick whose disk has gone is not started again.
  const fs::path brick = cluster_.brick(1, "vol"), away = brick.string() + ".away";
  fs::rename(brick, away);
  ::kill(cluster_.brick_pid_at(away), SIGKILL);
  set("client.brick-down-timeout", "2");
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return cached().find("\"client.brick-down-timeout\": \"2\"") != std::string::npos; }));
  const Output waited = shell("touch " + (mnt_ / name).string());
  EXPECT_THAT(waited.err, HasSubstr("Input/output error")) << waited;
  EXPECT_GE(waited.took.count(), 2000);

  // Who waits already, without end, heeds it too.
  cluster_.run(0, {"volume", "reset", "vol"});
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return cached().find("brick-down-timeout") == std::string::npos; }));
  std::thread later([&] { set("client.on-brick-down", "error"); });
  const Output failed = shell("touch " + (mnt_ / name).string());
  later.join();
  EXPECT_THAT(failed.err, HasSubstr("Input/output error")) << failed;
  fs::rename(away, brick);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return create_error(mnt_ / name) == 0; }));
}

TEST_F(OptionsFault, VolumeDirCopies_IsHeededByMounts) {
  const auto copies = [&](const std::string& name) {
    fs::create_directory(mnt_ / name);
    return fs::exists(cluster_.brick(0, "vol") / name) + fs::exists(cluster_.brick(1, "vol") / name);
  };
  EXPECT_EQ(copies("two"), 2);
  set("volume.dir-copies", "1");
  int n = 0;
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return copies("one" + std::to_string(n++)) == 1; }));
}

TEST_F(OptionsFault, WithoutManagement_AnyBrickTells) {
  // A brick that has met a newer map hands it on at the next request, also when the client has slept through the news.
  const std::string before = read_text(cluster_.directory() / "cache/vol.json");
  const Output pid = shell("pgrep -x voldfs");
  ASSERT_EQ(pid.code, 0);
  const pid_t mount = std::stoi(pid.out);
  ::kill(mount, SIGSTOP);
  set("client.on-brick-down", "error");
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return read_text(cluster_.brick(0, "vol") / ".voldfs/map.json").find("on-brick-down") != std::string::npos; }));
  cluster_.kill_daemon(0);
  cluster_.kill_daemon(1);
  ::kill(mount, SIGCONT);
  EXPECT_EQ(shell("ls " + mnt_.string()).code, 0);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return read_text(cluster_.directory() / "cache/vol.json").find("on-brick-down") != std::string::npos; }));
}

}  // namespace
}  // namespace voldfs::test
