#include <fcntl.h>
#include <gmock/gmock.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/lib/managed_volume.h"

// The field's second note, step by step: every management daemon is dead, and everything but changes goes on; then they are
// back, and nobody has noticed.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr auto kReadMax = std::chrono::seconds(4);  // of a loaded machine; a second otherwise

// An application that writes, reads back and syncs all the time, in a process of its own; whatever fails is its exit status.
class Application {
 public:
  explicit Application(const fs::path& directory) : pid_(::fork()) {
    if (pid_ != 0) return;
    for (int i = 0;; ++i) {
      const std::string path = directory / ("app" + std::to_string(i % 50)), text = std::to_string(i);
      const int fd = ::open(path.c_str(), O_CREAT | O_RDWR | O_TRUNC, 0600);
      char back[16] = {};
      if (fd < 0 || ::write(fd, text.data(), text.size()) != static_cast<ssize_t>(text.size()) || ::fsync(fd) != 0) ::_exit(errno);
      if (::pread(fd, back, sizeof back, 0) != static_cast<ssize_t>(text.size()) || back != text || ::close(fd) != 0) ::_exit(errno ? errno : 200);
    }
  }
  ~Application() { static_cast<void>(end()); }
  // 0: it was at work until now, without an error.
  int end() {
    if (pid_ <= 0) return 0;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
      status = 0;
    }
    pid_ = -1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 0;
  }

 private:
  pid_t pid_;
};

size_t files_on(const fs::path& brick) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(brick)) count += entry.path().filename().string().starts_with("file");
  return count;
}

class WithoutManagementFault : public ManagedVolume {
 protected:
  WithoutManagementFault() { make_and_mount(); }
  void kill_all_daemons() {
    for (size_t node = 0; node < cluster_.count(); ++node) cluster_.kill_daemon(node);
  }
};

TEST_F(WithoutManagementFault, FieldNotes_InputAndOutputAndReads_GoOn) {
  const pid_t before[] = {pid(0), pid(1)};
  ASSERT_TRUE(before[0] && before[1]) << cluster_.logs();
  Application application(mnt_);
  kill_all_daemons();

  EXPECT_EQ(shell("touch " + mnt_.string() + "/file{1..100}").code, 0);
  const Output listed = shell("ls " + mnt_.string() + " | grep -c ^file");
  EXPECT_EQ(listed.out, "100\n") << listed;
  const Output df = shell("df " + mnt_.string());
  EXPECT_EQ(df.code, 0) << df;
  EXPECT_THAT(df.out, HasSubstr(mnt_.string()));
  EXPECT_GT(files_on(cluster_.brick(0, "vol")), 20u);
  EXPECT_EQ(files_on(cluster_.brick(0, "vol")) + files_on(cluster_.brick(1, "vol")), 100u);

  // Every verb that only reads answers, and says how it knows.
  const std::pair<std::vector<std::string>, std::string> reads[] = {
      {{"volume", "info", "vol"}, "Status: Started"}, {{"volume", "list"}, "vol"}, {{"volume", "status", "vol"}, " Y "},
      {{"volume", "get", "vol", "all"}, "client.on-brick-down"}, {{"peer", "status"}, "127.0.0.3"}, {{"pool", "list"}, "127.0.0.3"},
      {{"get-state"}, "\"online\": true"}, {{"volume", "map", "vol"}, "layouts"}};
  for (const auto& [arguments, wanted] : reads) {
    const Output read = cluster_.ctl(0, arguments);
    EXPECT_EQ(read.code, 3) << arguments[1] << read;
    EXPECT_THAT(read.out, HasSubstr(wanted)) << read;
    EXPECT_THAT(read.err, HasSubstr("voldmgmt does not run")) << read;
    EXPECT_LT(read.took, kReadMax) << arguments[1];
  }
  // And every one that changes says at once that it cannot.
  const Output change = cluster_.ctl(0, {"volume", "stop", "vol"});
  EXPECT_EQ(change.code, 1);
  EXPECT_THAT(change.err, HasSubstr("Nothing was changed"));
  EXPECT_LT(change.took, kReadMax);

  // The daemons find the bricks that run, and adopt them.
  for (size_t node = 0; node < 2; ++node) cluster_.start_daemon(node);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return cluster_.ctl(0, {"volume", "status", "vol"}).code == 0; }));
  EXPECT_EQ(pid(0), before[0]);
  EXPECT_EQ(pid(1), before[1]);
  EXPECT_EQ(application.end(), 0) << cluster_.logs();
  cluster_.run(1, {"volume", "set", "vol", "user.back", "yes"});
}

TEST_F(WithoutManagementFault, NewMount_CacheOrMapPort_Works) {
  std::ofstream(mnt_ / "hello") << "hello";
  kill_all_daemons();
  const fs::path again = cluster_.mount("vol");
  EXPECT_EQ(read_text(again / "hello"), "hello");
  // A machine that has never seen the volume: the map comes from a brick, at its node's map port.
  const fs::path fresh = cluster_.mount("vol", "", "empty-cache");
  EXPECT_EQ(read_text(fresh / "hello"), "hello");
  EXPECT_TRUE(fs::exists(cluster_.directory() / "empty-cache/vol.json"));
  // And from the second server, where the first one's bricks are down.
  ::kill(pid(0), SIGKILL);
  const fs::path where = cluster_.directory() / "other";
  fs::create_directories(where);
  fs::create_directories(cluster_.directory() / "cache3");
  const Output mounted = cluster_.try_mount("127.0.0.2,127.0.0.3:/vol", where,
                                            "secret=" + (cluster_.state(0) / "maps/vol.json.secret").string() + ",map-cache=" + (cluster_.directory() / "cache3").string());
  EXPECT_EQ(mounted.code, 0) << mounted;
  EXPECT_TRUE(fs::exists(cluster_.directory() / "cache3/vol.json"));
  EXPECT_EQ(shell("umount " + where.string()).code, 0);
}

TEST_F(WithoutManagementFault, KilledBrick_StartedByHand_MountsGoOn) {
  Application application(mnt_);
  kill_all_daemons();
  const pid_t before = pid(0);
  ::kill(before, SIGKILL);
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return pid(0) == 0; }));
  const Output down = cluster_.ctl(1, {"volume", "status", "vol"});
  EXPECT_THAT(down.out, HasSubstr(" N ")) << down;
  EXPECT_THAT(down.out, HasSubstr(" Y ")) << down;
  // As the manual page says.
  const Output started = cluster_.ctl(0, {"brick", "start", cluster_.brick(0, "vol"), "--conf-dir=" + cluster_.conf(0).string()});
  EXPECT_EQ(started.code, 0) << started;
  ASSERT_TRUE(wait_until(kDeadlineMs, [&] { return pid(0) != 0 && pid(0) != before; })) << cluster_.logs();
  for (int i = 0; i < 20; ++i) std::ofstream(mnt_ / ("after" + std::to_string(i))) << "x";
  EXPECT_EQ(shell("ls " + mnt_.string() + " | grep -c ^after").out, "20\n");
  EXPECT_EQ(application.end(), 0) << cluster_.logs();
  // Not twice.
  const Output twice = cluster_.ctl(0, {"brick", "start", cluster_.brick(0, "vol"), "--conf-dir=" + cluster_.conf(0).string()});
  EXPECT_EQ(twice.code, 0);
  EXPECT_THAT(twice.out, HasSubstr("is served already"));
}

TEST_F(WithoutManagementFault, CutConnections_ComeBack) {
  // Not the unix socket, which only the host's own mounts have.
  for (size_t node = 0; node < 2; ++node) fs::remove(fs::path(cluster_.directory(node) / "run" / (cluster_.brick_id(node, "vol") + ".socket")));
  const fs::path mnt = cluster_.mount("vol");
  Application application(mnt);
  kill_all_daemons();
  for (int round = 0; round < 3; ++round) {
    const size_t written = files_on(cluster_.brick(0, "vol"));
    const Output cut = shell("ss -Kt dport = :24200");
    EXPECT_THAT(cut.out, HasSubstr(":24200")) << cut;
    EXPECT_EQ(shell("touch " + mnt.string() + "/file" + std::to_string(round) + "{1..20}").code, 0);
    EXPECT_GT(files_on(cluster_.brick(0, "vol")), written);
  }
  EXPECT_EQ(application.end(), 0) << cluster_.logs();
}

}  // namespace
}  // namespace voldfs::test
