#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/lib/managed_volume.h"

// Bricks' processes, as voldmgmt starts, finds, supervises and stops them.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

using BrickLifeFault = ManagedVolume;

TEST_F(BrickLifeFault, Stop_EndsBricksAndMountsSayNotConnected_StartBringsAllBack) {
  cluster_.make_volume("vol");
  // With passthrough, the kernel goes on with an open file of this host without asking anybody.
  const fs::path mnt = cluster_.mount("vol", "passthrough=off");
  const int open_file = ::open((mnt / "open").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::write(open_file, "before", 6), 6);
  cluster_.run(0, {"volume", "stop", "vol"});
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return pid(0) == 0 && pid(1) == 0; }));
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return cluster_.run(1, {"volume", "info", "vol"}).find("Status: Stopped") != std::string::npos; }));
  // Nobody waits for a volume that is stopped.
  EXPECT_EQ(::open((mnt / "new").c_str(), O_CREAT | O_WRONLY, 0600), -1);
  EXPECT_EQ(errno, ENOTCONN);
  EXPECT_EQ(::pwrite(open_file, "x", 1, 0), -1);
  EXPECT_EQ(errno, ENOTCONN);
  const fs::path other = cluster_.directory() / "other";
  fs::create_directories(other);
  const Output refused = cluster_.try_mount("127.0.0.2:/vol", other, "secret=" + (cluster_.state(0) / "maps/vol.json.secret").string() + ",map-cache=" + (cluster_.directory() / "cache").string());
  EXPECT_NE(refused.code, 0);
  EXPECT_THAT(refused.err, HasSubstr("is stopped")) << refused;

  cluster_.run(1, {"volume", "start", "vol"});
  ASSERT_TRUE(both_up()) << cluster_.logs();  // it waits for them
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return ::pwrite(open_file, "after", 5, 6) == 5; })) << cluster_.logs();
  EXPECT_EQ(::close(open_file), 0);
  EXPECT_EQ(read_text(mnt / "open"), "beforeafter");
  cluster_.unmount(mnt);

  cluster_.run(0, {"volume", "stop", "vol"});
  cluster_.run(0, {"volume", "delete", "vol"});
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return cluster_.run(1, {"volume", "list"}) == "No volumes present in cluster\n"; }));
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return fs::is_empty(cluster_.conf(0) / "bricks") && fs::is_empty(cluster_.conf(1) / "bricks"); }));
  // The files stay, and their directory is not taken for a new brick unasked.
  EXPECT_EQ(fs::exists(cluster_.brick(0, "vol") / "open") + fs::exists(cluster_.brick(1, "vol") / "open"), 1);
  const Output again = cluster_.ctl(0, {"volume", "create", "vol", cluster_.spec(0, "vol"), "force"});
  EXPECT_THAT(again.err, HasSubstr("already part of a volume")) << again;
}

TEST_F(BrickLifeFault, KilledBrick_ComesBackAlone_MountWaits) {
  cluster_.make_volume("vol");
  const fs::path mnt = cluster_.mount("vol");
  const pid_t first = pid(0), other = pid(1);
  ::kill(first, SIGKILL);
  for (int i = 0; i < 20; ++i) std::ofstream(mnt / ("f" + std::to_string(i))) << "x";  // waits for it
  EXPECT_NE(pid(0), first);
  EXPECT_NE(pid(0), 0);
  EXPECT_EQ(pid(1), other);
  EXPECT_EQ(shell("ls " + mnt.string() + " | wc -l").out, "20\n");
}

TEST_F(BrickLifeFault, DaemonRestarted_AdoptsAndStartsNothingTwice) {
  cluster_.make_volume("vol");
  const pid_t before[] = {pid(0), pid(1)};
  for (int round = 0; round < 3; ++round) {
    cluster_.kill_daemon(0);
    cluster_.start_daemon(0);
    // A change has been brought to the brick: the new daemon has looked at it.
    cluster_.run(1, {"volume", "set", "vol", "user.round", std::to_string(round)});
    ASSERT_TRUE(wait_until(kDeadlineMs, [&] {
      return read_text(cluster_.brick(0, "vol") / ".voldfs/map.json").find("\"user.round\": \"" + std::to_string(round)) != std::string::npos;
    })) << cluster_.logs();
  }
  EXPECT_EQ(pid(0), before[0]);
  EXPECT_EQ(pid(1), before[1]);
  EXPECT_EQ(shell("pgrep -cx voldbrick").out, "2\n");
  // An adopted brick that dies is started again.
  ::kill(before[0], SIGKILL);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return pid(0) != 0 && pid(0) != before[0]; })) << cluster_.logs();
}

TEST_F(BrickLifeFault, MissingDirectory_IsSaidAndNotMade) {
  cluster_.make_volume("vol");
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return read_text(cluster_.brick_conf(0, "vol")).find("--init") == std::string::npos; }));
  const fs::path brick = cluster_.brick(0, "vol"), away = brick.string() + ".away";
  ::kill(pid(0), SIGKILL);
  fs::rename(brick, away);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] {
    return cluster_.ctl(1, {"volume", "status", "vol"}).out.find("is missing. Is its disk mounted?") != std::string::npos;
  })) << cluster_.ctl(1, {"volume", "status", "vol"});
  EXPECT_FALSE(fs::exists(brick));
  // The mount point of a disk that is not mounted is there, and empty. (What is said of it depends on whether the cluster knew already
  // that the brick had been made.)
  fs::create_directory(brick);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] {
    const std::string said = cluster_.ctl(1, {"volume", "status", "vol"}).out;
    return said.find("is missing") == std::string::npos && said.find("Is its disk mounted?") != std::string::npos;
  })) << cluster_.ctl(1, {"volume", "status", "vol"});
  EXPECT_TRUE(fs::is_empty(brick));
  fs::remove(brick);
  fs::rename(away, brick);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return both_up(); })) << cluster_.logs();
}

// The address is changed in the cluster first, then the node moves there. Its brick follows it; nobody else's work ends.
TEST_F(BrickLifeFault, NodeMoves_BrickFollowsAndMountsGoOn) {
  cluster_.make_volume("vol");
  const fs::path tcp = cluster_.mount("vol", "transport=tcp"), local = cluster_.mount("vol");
  const int open_file = ::open((tcp / "open").c_str(), O_CREAT | O_RDWR, 0600);
  ASSERT_EQ(::write(open_file, "before", 6), 6);
  const pid_t before[] = {pid(0), pid(1)};
  cluster_.run(1, {"peer", "set-address", cluster_.address(1), "127.0.1.3"});
  cluster_.move(1, "127.0.1.3");
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return shell("ss -ltnH src 127.0.1.3:24200").out.find("LISTEN") != std::string::npos; })) << cluster_.logs();
  EXPECT_EQ(shell("ss -ltnH src 127.0.0.3:24200").out, "");
  EXPECT_EQ(pid(0), before[0]);
  EXPECT_NE(pid(1), before[1]);
  for (const fs::path& mnt : {tcp, local}) {
    EXPECT_EQ(shell("touch " + (mnt / mnt.filename()).string() + "{1..40}").code, 0);
    EXPECT_EQ(shell("cat " + mnt.string() + "/mnt* && ls " + mnt.string() + " | grep -c " + mnt.filename().string()).out, "40\n");
  }
  EXPECT_EQ(::pwrite(open_file, "after", 5, 6), 5);
  EXPECT_EQ(::close(open_file), 0);
  EXPECT_EQ(read_text(local / "open"), "beforeafter");
  // It stays where it is.
  const pid_t now = pid(1);
  cluster_.run(0, {"volume", "set", "vol", "user.moved", "yes"});
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return read_text(cluster_.brick(1, "vol") / ".voldfs/map.json").find("user.moved") != std::string::npos; }));
  EXPECT_EQ(pid(1), now);
}

TEST_F(BrickLifeFault, PortIsTaken_IsSaidAndTriedAgain) {
  const Output taken = shell("python3 -c 'import socket,os,sys,time\ns=socket.socket(); s.bind((\"127.0.0.2\",24200)); s.listen()\nif os.fork(): os._exit(0)\nos.setsid(); [os.close(i) for i in range(3)]; time.sleep(600)'; pgrep -f 24200");
  const pid_t holder = std::stoi(taken.out);
  cluster_.run(0, {"volume", "create", "vol", cluster_.spec(0, "vol"), cluster_.spec(1, "vol"), "force"});
  const Output started = cluster_.ctl(1, {"volume", "start", "vol"});
  EXPECT_THAT(started.err, HasSubstr("not up yet")) << started;
  EXPECT_THAT(started.err, HasSubstr(cluster_.brick(0, "vol").string()));
  ::kill(holder, SIGKILL);
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return both_up() && cluster_.run(0, {"volume", "status", "vol"}).find(" N ") == std::string::npos; })) << cluster_.logs();
}

TEST_F(BrickLifeFault, SeveralVolumes_EachIsFoundAtTheMapPort) {
  for (const char* name : {"one", "two", "three"}) cluster_.make_volume(name);
  for (const char* name : {"three", "one", "two"}) {
    const fs::path mnt = cluster_.mount(name, "", std::string("cache-") + name);
    std::ofstream(mnt / "name") << name;
    EXPECT_EQ(fs::exists(cluster_.brick(0, name) / "name") + fs::exists(cluster_.brick(1, name) / "name"), 1);
  }
}

}  // namespace
}  // namespace voldfs::test
