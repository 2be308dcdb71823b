#include "dht/volume_map.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>

#include "dht/secret.h"

namespace voldfs::dht {
namespace {

using nlohmann::json;

VolumeMap sample() {
  VolumeMap map;
  map.volume = *Id::parse("6f6c6456-2d73-4661-b7be-000102030405");
  map.name = "vol";
  map.incarnation = *Id::parse("11111111-2222-4333-8444-555555555555");
  map.version = 7;
  for (uint16_t ordinal : {1, 2, 5}) {
    BrickEntry brick;
    brick.id.bytes.fill(static_cast<uint8_t>(ordinal));
    brick.ordinal = ordinal;
    brick.node = "node" + std::to_string(ordinal);
    brick.host = "127.0.0." + std::to_string(ordinal + 1);
    brick.port = static_cast<uint16_t>(24200 + ordinal);
    brick.unix_socket = ordinal == 1 ? "" : "/run/voldfs/" + std::to_string(ordinal);
    brick.path = "/brick" + std::to_string(ordinal);
    brick.weight = 100u * ordinal;
    map.bricks.push_back(brick);
  }
  map.bricks[1].state = BrickState::kLeaving;
  std::vector<Target> targets;
  for (const BrickEntry& brick : map.bricks) targets.push_back({brick.ordinal, brick.id, brick.weight});
  map.layouts.emplace_back(1, HashRule::kXxh3Rendezvous1, std::vector<Target>{targets[0], targets[1]});
  map.layouts.emplace_back(3, HashRule::kXxh3Rendezvous1, targets);
  map.root_home = 2;
  map.options["min-free"] = "1%";
  return map;
}

// The sentence with which the document is refused when it was changed, and its checksum was not.
std::string refusal(const std::function<void(json&)>& change) {
  json document = json::parse(sample().to_json());
  change(document);
  const auto read = VolumeMap::parse(document.dump());
  EXPECT_FALSE(read.has_value());
  return read ? "" : read.error();
}

TEST(VolumeMap_Json, WrittenAndRead_SameMap) {
  const VolumeMap map = sample();
  const auto read = VolumeMap::parse(map.to_json());
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->to_json(), map.to_json());
  EXPECT_EQ(read->volume, map.volume);
  EXPECT_EQ(read->version, 7u);
  EXPECT_EQ(read->bricks[1].state, BrickState::kLeaving);
  EXPECT_EQ(read->bricks[2].unix_socket, "/run/voldfs/5");
  EXPECT_EQ(read->layouts[1].targets()[2].brick, map.bricks[2].id);
  EXPECT_EQ(read->options.at("min-free"), "1%");
}

TEST(VolumeMap_Json, Stopped_IsKept) {
  VolumeMap map = sample();
  EXPECT_TRUE(VolumeMap::parse(map.to_json())->started);
  map.started = false;
  const auto read = VolumeMap::parse(map.to_json());
  ASSERT_TRUE(read) << read.error();
  EXPECT_FALSE(read->started);
}

TEST(VolumeMap_Json, EndsWithNewline) { EXPECT_EQ(sample().to_json().back(), '\n'); }

// The document's bytes are a format: this one was read by programs that are out there.
TEST(VolumeMap_Json, Checksum_Frozen) {
  EXPECT_EQ(json::parse(sample().to_json())["checksum"], "3a05da168fe1a2b7e9146338a4d71c41491e479d7b64780b65f7317cd2a05237");
}

TEST(VolumeMap_Json, EveryByteChanged_RefusedOrSame) {
  const std::string good = sample().to_json();
  for (size_t i = 0; i < good.size(); ++i) {
    for (char replacement : {'x', '0', '"'}) {
      std::string bad = good;
      bad[i] = replacement;
      const auto map = VolumeMap::parse(bad);
      ASSERT_TRUE(!map || map->to_json() == good) << i;  // a space outside of a string at most
    }
  }
}

TEST(VolumeMap_Json, CutOff_Refused) {
  const std::string good = sample().to_json();
  for (size_t size = 0; size + 2 < good.size(); ++size) ASSERT_FALSE(VolumeMap::parse(good.substr(0, size))) << size;
}

TEST(VolumeMap_Json, NotAMap_Refused) {
  for (const char* text : {"", "[]", "7", "null", "{}", "\"x\"", "{\"format\":1}", "{\"format\":-1}", "{\"format\":1.0}"}) {
    EXPECT_FALSE(VolumeMap::parse(text)) << text;
  }
  EXPECT_FALSE(VolumeMap::parse(std::string(100'000, '[')));
  EXPECT_FALSE(VolumeMap::parse(std::string(2u << 20, ' ')));
}

TEST(VolumeMap_Json, NewerFormat_RefusedWithAdvice) {
  EXPECT_NE(refusal([](json& d) { d["format"] = 2; }).find("Update"), std::string::npos);
}

TEST(VolumeMap_Json, Edited_RefusedByChecksum) {
  EXPECT_NE(refusal([](json& d) { d["bricks"][0]["port"] = 1; }).find("checksum"), std::string::npos);
}

// What to_json() writes of a map that is not right, parse() refuses with a sentence about it.
std::string flaw_of(const std::function<void(VolumeMap&)>& change) {
  VolumeMap map = sample();
  change(map);
  const auto read = VolumeMap::parse(map.to_json());
  EXPECT_FALSE(read.has_value());
  return read ? "" : read.error();
}

TEST(VolumeMap_Validation, EachFlaw_SentenceNamesIt) {
  const std::pair<std::function<void(VolumeMap&)>, const char*> flaws[] = {
      {[](VolumeMap& m) { m.volume = {}; }, "\"id\" is all zero"},
      {[](VolumeMap& m) { m.name = ""; }, "\"name\""},
      {[](VolumeMap& m) { m.name = "a/b"; }, "\"name\""},
      {[](VolumeMap& m) { m.name = "-o"; }, "\"name\""},
      {[](VolumeMap& m) { m.name = std::string(65, 'a'); }, "\"name\""},
      {[](VolumeMap& m) { m.incarnation = {}; }, "\"incarnation\""},
      {[](VolumeMap& m) { m.version = 0; }, "\"version\""},
      {[](VolumeMap& m) { m.bricks.clear(); }, "no bricks"},
      {[](VolumeMap& m) { m.bricks[0].ordinal = 0; }, "\"ordinal\""},
      {[](VolumeMap& m) { m.bricks[2].ordinal = 1024; }, "\"ordinal\""},
      {[](VolumeMap& m) { m.bricks[1].ordinal = 1; }, "order of their ordinals"},
      {[](VolumeMap& m) { m.bricks[1].id = m.bricks[0].id; }, "have the id"},
      {[](VolumeMap& m) { m.bricks[0].host = "localhost"; }, "\"host\""},
      {[](VolumeMap& m) { m.bricks[0].port = 0; }, "\"port\""},
      {[](VolumeMap& m) { m.bricks[0].path = "brick"; }, "\"path\""},
      {[](VolumeMap& m) { m.bricks[0].path = std::string("/a\0b", 4); }, "zero byte"},
      {[](VolumeMap& m) { m.bricks[0].unix_socket = '/' + std::string(107, 'a'); }, "107 bytes"},
      {[](VolumeMap& m) { m.bricks[0].unix_socket = "x"; }, "\"unix\""},
      {[](VolumeMap& m) { m.bricks[0].host = m.bricks[1].host, m.bricks[0].port = m.bricks[1].port; }, "port 24202"},
      {[](VolumeMap& m) { m.bricks[0].host = m.bricks[1].host, m.bricks[0].path = m.bricks[1].path; }, "path /brick2"},
      {[](VolumeMap& m) { m.root_home = 3; }, "\"root_home\""},
      {[](VolumeMap& m) { m.bricks[1].state = BrickState::kGone; }, "\"root_home\""},
      {[](VolumeMap& m) { m.layouts.clear(); }, "epoch 1"},
      {[](VolumeMap& m) { m.layouts.erase(m.layouts.begin()); }, "epoch 1"},
      {[](VolumeMap& m) { std::swap(m.layouts[0], m.layouts[1]); }, "order of their epochs"},
      {[](VolumeMap& m) { m.layouts[0] = Layout(1, HashRule{9}, m.layouts[0].targets()); }, "hash rule 9"},
      {[](VolumeMap& m) { m.layouts[0] = Layout(1, HashRule{1}, {}); }, "no target"},
      {[](VolumeMap& m) { m.layouts[0] = Layout(1, HashRule{1}, {{1, m.bricks[0].id, 0}}); }, "no target"},
      {[](VolumeMap& m) { m.layouts[0] = Layout(1, HashRule{1}, {{4, {}, 1}}); }, "of no brick"},
      {[](VolumeMap& m) { m.layouts[0] = Layout(1, HashRule{1}, {{1, {}, 1}, {1, {}, 1}}); }, "twice"},
  };
  size_t n = 0;
  for (const auto& [change, sentence] : flaws) {
    const std::string found = flaw_of(change);
    EXPECT_NE(found.find(sentence), std::string::npos) << n << ": " << found;
    EXPECT_EQ(found.back(), '.');
    ++n;
  }
}

TEST(VolumeMap_Validation, GoneBrick_KeepsNothingBusy) {
  VolumeMap map = sample();
  map.bricks[2].state = BrickState::kGone;
  map.bricks[2].host = map.bricks[0].host, map.bricks[2].path = map.bricks[0].path;
  EXPECT_TRUE(VolumeMap::parse(map.to_json()));
}

TEST(VolumeMap_Find, BricksAndLayouts) {
  const VolumeMap map = sample();
  EXPECT_EQ(map.brick(uint16_t{5})->path, "/brick5");
  EXPECT_EQ(map.brick(map.bricks[1].id)->ordinal, 2);
  EXPECT_EQ(map.brick(uint16_t{3}), nullptr);
  EXPECT_EQ(map.brick(Id{}), nullptr);
  EXPECT_EQ(map.layout(0)->epoch(), 1u);
  EXPECT_EQ(map.layout(3)->epoch(), 3u);
  EXPECT_EQ(map.layout(2), nullptr);
  EXPECT_EQ(map.layout(4), nullptr);
  EXPECT_EQ(map.newest_layout().epoch(), 3u);
}

TEST(VolumeMap_Compare, Lineage) {
  const VolumeMap have = sample();
  VolumeMap found = have;
  EXPECT_EQ(compare_maps(have, found), MapOrder::kSame);
  found.version = 8;
  EXPECT_EQ(compare_maps(have, found), MapOrder::kNewer);
  EXPECT_EQ(compare_maps(found, have), MapOrder::kOlder);
  VolumeMap child = have;
  child.incarnation = Id::random(), child.parent_incarnation = have.incarnation, child.version = 1;
  EXPECT_EQ(compare_maps(have, child), MapOrder::kNewer);
  EXPECT_EQ(compare_maps(child, have), MapOrder::kOlder);
  VolumeMap sibling = child;
  sibling.incarnation = Id::random();
  EXPECT_EQ(compare_maps(child, sibling), MapOrder::kSibling);
  found.volume = Id::random();
  EXPECT_EQ(compare_maps(have, found), MapOrder::kOtherVolume);
}

TEST(VolumeMap_Json, NestedWithoutEnd_RefusedAndNotFollowed) {
  constexpr size_t depth = (1 << 20) - 100;  // as large as a map may be
  EXPECT_FALSE(VolumeMap::parse(std::string(depth, '[')));
  EXPECT_FALSE(VolumeMap::parse("{\"x\":" + std::string(depth / 2, '[') + std::string(depth / 2, ']') + "}"));
}


class SecretFile : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "voldfs-secret-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name, path_ = dir_ / "vol.json.secret";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  void write(const std::string& text) {
    std::ofstream(path_) << text;
    ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  }
  std::filesystem::path dir_, path_;
};
using VolumeMap_Secret = SecretFile;

TEST_F(VolumeMap_Secret, Made_PrivateAndReadBack) {
  ASSERT_TRUE(make_secret(path_));
  struct stat st;
  ASSERT_EQ(::stat(path_.c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 07777, 0600u);
  const auto secret = read_secret(path_);
  ASSERT_TRUE(secret) << secret.error();
  EXPECT_EQ(secret->size(), kSecretSize);
  EXPECT_FALSE(make_secret(path_)) << "an existing secret must stay";
  EXPECT_EQ(*read_secret(path_), *secret);
}

TEST_F(VolumeMap_Secret, ReadableByOthers_Refused) {
  ASSERT_TRUE(make_secret(path_));
  ASSERT_EQ(::chmod(path_.c_str(), 0640), 0);
  EXPECT_NE(read_secret(path_).error().find("chmod 600"), std::string::npos);
}

TEST_F(VolumeMap_Secret, NotASecret_Refused) {
  EXPECT_FALSE(read_secret(path_)) << "missing";
  const std::string good(64, 'a');
  write(good);
  EXPECT_TRUE(read_secret(path_));
  for (const std::string& bad : {std::string(), good.substr(1), good + "a", good + "\n\n", std::string(64, 'g'),
                                 std::string(63, 'a') + "-", good.substr(1) + "\n"}) {
    write(bad);
    EXPECT_FALSE(read_secret(path_)) << bad;
  }
  std::filesystem::remove(path_);
  ASSERT_EQ(::mkfifo(path_.c_str(), 0600), 0);
  EXPECT_FALSE(read_secret(path_)) << "a fifo";
}

}  // namespace
}  // namespace voldfs::dht
