#include <gmock/gmock.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "tests/lib/managed.h"

// The field's first note, in its variants: files of one node's state are removed, cut off or edited, the daemon restarted or not,
// and then the volume is deleted, stopped, changed or started through the other node or the same. Whatever it is: it
// happens on all nodes, or on none with a reason, and the files are back.
namespace voldfs::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr int kDeadlineMs = 60'000;

struct Damage {
  const char* name;
  void (*apply)(const ManagedCluster& cluster, size_t node);
};

// At one stroke: the daemon that runs puts files back into a directory while it is being emptied.
void take_away(const fs::path& path) {
  const fs::path gone = path.parent_path().string() + ".gone";
  fs::rename(path, gone);
  fs::remove_all(gone);
}
void truncate_file(const fs::path& path) { fs::resize_file(path, fs::file_size(path) / 2); }
void edit_file(const fs::path& path) {
  std::string text = read_text(path);
  const size_t at = text.find("vol");
  text.replace(at == std::string::npos ? 0 : at, 3, "XXX");
  std::ofstream(path, std::ios::trunc) << text;
}

const Damage kDamages[] = {
    {"the volume's files removed", [](const ManagedCluster& c, size_t n) { take_away(c.state(n) / "maps"); }},
    {"the volume's map cut off", [](const ManagedCluster& c, size_t n) { truncate_file(c.state(n) / "maps/vol.json"); }},
    {"the volume's map edited", [](const ManagedCluster& c, size_t n) { edit_file(c.state(n) / "maps/vol.json"); }},
    {"the state's copy removed", [](const ManagedCluster& c, size_t n) { fs::remove(c.state(n) / "state.json"); }},
    {"the state's copy edited", [](const ManagedCluster& c, size_t n) { edit_file(c.state(n) / "state.json"); }},
    {"the log removed", [](const ManagedCluster& c, size_t n) { take_away(c.state(n) / "log"); }},
    {"the log cut off", [](const ManagedCluster& c, size_t n) {
       for (const auto& entry : fs::directory_iterator(c.state(n) / "log"))
         if (entry.file_size() > 1000) truncate_file(entry.path());
     }},
    {"the log damaged", [](const ManagedCluster& c, size_t n) {
       for (const auto& entry : fs::directory_iterator(c.state(n) / "log")) {
         if (entry.file_size() < 1000 || entry.path().extension() == ".meta") continue;
         std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
         file.seekp(500);
         file << "damage";
       }
     }},
    {"the second copy of the promises removed", [](const ManagedCluster& c, size_t n) { fs::remove(c.conf(n) / "voter.json"); }},
    {"everything removed", [](const ManagedCluster& c, size_t n) {
       for (const auto& entry : fs::directory_iterator(c.state(n)))
         if (entry.path().filename() != "lock") take_away(entry.path());
     }},
    {"the identity removed", [](const ManagedCluster& c, size_t n) { fs::remove(c.conf(n) / "node.json"); }},
    {"the bricks' flags removed", [](const ManagedCluster& c, size_t n) { take_away(c.conf(n) / "bricks"); }},
};

// The whole state, as each node's daemon tells it; equal, or "" and they differ.
std::string common_state(const ManagedCluster& cluster) {
  std::string common;
  for (size_t node = 0; node < cluster.count(); ++node) {
    const Output read = cluster.ctl(node, {"get-state", "--json"});
    if (read.code != 0) return "";
    const std::string state = read.json()["state"].dump();
    if (node > 0 && state != common) return "";
    common = state;
  }
  return common;
}

class StateLossFaultSlow : public testing::TestWithParam<int> {
 protected:
  // The node that is damaged, whether it is restarted, and the node that the command is given to.
  bool restart() const { return GetParam() & 1; }
  size_t victim() const { return (GetParam() >> 1) & 1; }
  size_t speaker() const { return (GetParam() >> 2) & 1; }

  void damage(const Damage& damage) {
    if (restart()) cluster_.kill_daemon(victim());
    damage.apply(cluster_, victim());
    if (restart()) cluster_.start_daemon(victim());
  }
  // The command happens in the end: what the damage has cost for a while, the cluster mends by itself.
  void expect_done(const std::vector<std::string>& arguments, const std::string& already) {
    Output last;
    const bool done = wait_until(kDeadlineMs, [&] {
      last = cluster_.ctl(speaker(), arguments);
      // A try that failed has said why, and the next one may find that it has happened after all.
      return last.code == 0 || (last.code == 1 && last.err.find(already) != std::string::npos);
    });
    EXPECT_TRUE(done) << arguments[1] << last << cluster_.logs();
  }
  void expect_all_equal() {
    std::string common;
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return !(common = common_state(cluster_)).empty(); })) << cluster_.logs();
  }
  void expect_files_back() {
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] {
      const std::string map = read_text(cluster_.state(victim()) / "maps/vol.json");
      return !map.empty() && map == read_text(cluster_.state(1 - victim()) / "maps/vol.json") &&
             fs::exists(cluster_.brick_conf(victim(), "vol")) && fs::exists(cluster_.conf(victim()) / "node.json");
    })) << cluster_.logs();
  }
  bool bricks_are(bool up) {
    for (size_t node = 0; node < 2; ++node)
      if ((cluster_.brick_pid(node, "vol") != 0) != up) return false;
    return true;
  }

  ManagedCluster cluster_;
};

TEST_P(StateLossFaultSlow, EachDamage_SetStopStartDelete_HoldEverywhere) {
  cluster_.make_volume("vol");
  const fs::path mnt = cluster_.mount("vol");
  std::ofstream(mnt / "kept") << "kept";
  const pid_t bricks[] = {cluster_.brick_pid(0, "vol"), cluster_.brick_pid(1, "vol")};
  int round = 0;
  for (const Damage& each : kDamages) {
    SCOPED_TRACE(each.name);
    damage(each);
    expect_files_back();
    const std::string value = std::to_string(++round);
    expect_done({"volume", "set", "vol", "user.round", value}, "no such error");
    expect_all_equal();
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] {  // the damaged one is back among the others
      const Output got = cluster_.ctl(1 - speaker(), {"volume", "get", "vol", "user.round"});
      return got.code == 0 && got.out.find(value) != std::string::npos;
    })) << cluster_.logs();
    // Nothing of it has touched a brick or the mount.
    EXPECT_EQ(cluster_.brick_pid(0, "vol"), bricks[0]);
    EXPECT_EQ(cluster_.brick_pid(1, "vol"), bricks[1]);
    EXPECT_EQ(read_text(mnt / "kept"), "kept");
  }
  damage(kDamages[0]);
  expect_done({"volume", "stop", "vol"}, "is not started");
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return bricks_are(false); })) << cluster_.logs();
  damage(*std::ranges::find(kDamages, std::string_view("everything removed"), &Damage::name));
  expect_done({"volume", "start", "vol"}, "is already started");
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return bricks_are(true); })) << cluster_.logs();
  // The mount hears of the start after the bricks.
  EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return read_text(mnt / "kept") == "kept"; })) << cluster_.logs();
  cluster_.unmount(mnt);
  expect_done({"volume", "stop", "vol"}, "is not started");
  damage(kDamages[0]);
  expect_done({"volume", "delete", "vol"}, "does not exist");
  expect_all_equal();
  // And it stays so, whoever is restarted first.
  for (size_t node : {victim(), 1 - victim()}) cluster_.kill_daemon(node);
  for (size_t node : {victim(), 1 - victim()}) cluster_.start_daemon(node);
  expect_all_equal();
  for (size_t node = 0; node < 2; ++node) {
    EXPECT_EQ(cluster_.run(node, {"volume", "list"}), "No volumes present in cluster\n");
    EXPECT_TRUE(wait_until(kDeadlineMs, [&] { return !fs::exists(cluster_.state(node) / "maps/vol.json"); }));
    EXPECT_TRUE(fs::is_empty(cluster_.conf(node) / "bricks"));
  }
}

std::string variant(const testing::TestParamInfo<int>& info) {
  return std::string(info.param & 2 ? "Second" : "First") + "Damaged" + (info.param & 1 ? "Restarted" : "Running") +
         (((info.param >> 1) & 1) == ((info.param >> 2) & 1) ? "AndAsked" : "OtherAsked");
}
INSTANTIATE_TEST_SUITE_P(Variants, StateLossFaultSlow, testing::Range(0, 8), variant);

}  // namespace
}  // namespace voldfs::test
