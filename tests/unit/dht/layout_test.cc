#include "dht/layout.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <cstring>
#include <filesystem>
#include <string>

#include "dht/hash.h"

namespace voldfs::dht {
namespace {

struct KeyVector {
  int parent;
  const char* name;
  uint64_t key;
};
struct CostVector {
  uint64_t hash, cost;
};
struct RankVector {
  int set, parent;
  const char* name;
  uint16_t best[3];  // 0: there is none
};
struct PlaceVector {
  int set;
  uint64_t digest;  // of the places of 2,000 names
};

#include "tests/unit/dht/layout_golden.inc"

// As in placement_reference.py.
const std::vector<Id>& parents() {
  static const std::vector<Id> ids = {kRootId, *Id::parse("6f6c6456-2d73-4661-b7be-000102030405"),
                                      *Id::parse("000102030405060708090a0b0c0d0e0f"),
                                      *Id::parse("ffffffffffffffffffffffffffffffff")};
  return ids;
}
const std::vector<std::vector<uint32_t>>& weight_sets() {
  static const std::vector<std::vector<uint32_t>> sets = {
      {100},        {100, 100},      {100, 100, 100},
      std::vector<uint32_t>(8, 100), {1, 2, 3, 4},
      {100, 0, 50}, {1, 4294967295}, std::vector<uint32_t>(4, 4294967295),
      std::vector<uint32_t>(100, 100), {10, 20, 40, 80, 160, 320, 640, 1280}};
  return sets;
}
Id brick_id(size_t n) {
  Id id;
  for (size_t half = 0; half < 2; ++half) {
    const std::string text = "brick " + std::to_string(n) + (half == 0 ? " a" : " b");
    const uint64_t hash = XXH3_64bits(text.data(), text.size());
    std::memcpy(id.bytes.data() + 8 * half, &hash, 8);
  }
  return id;
}
Layout layout_of(const std::vector<uint32_t>& weights) {
  std::vector<Target> targets;
  for (size_t i = 0; i < weights.size(); ++i) {
    targets.push_back({static_cast<uint16_t>(i + 1), brick_id(i + 1), weights[i]});
  }
  return Layout(1, HashRule::kXxh3Rendezvous1, targets);
}
std::string effective(std::string_view name) {
  return std::string(effective_name(HashRule::kXxh3Rendezvous1, name));
}

// The golden tests may get more rows; a row that fails means that volumes in use would lose their files.
TEST(Layout_Golden, NameKeys_Frozen) {
  for (const auto& [parent, name, key] : kKeys) {
    EXPECT_EQ(name_key(HashRule::kXxh3Rendezvous1, parents()[static_cast<size_t>(parent)], name), key) << name;
  }
}

TEST(Layout_Golden, Costs_Frozen) {
  for (const auto& [hash, cost] : kCosts) EXPECT_EQ(rendezvous_cost(hash), cost) << hash;
}

TEST(Layout_Golden, Ranks_Frozen) {
  for (const auto& [set, parent, name, best] : kRanks) {
    const Layout layout = layout_of(weight_sets()[static_cast<size_t>(set)]);
    const Id& dir = parents()[static_cast<size_t>(parent)];
    std::vector<uint16_t> expected;
    for (uint16_t ordinal : best) {
      if (ordinal != 0) expected.push_back(ordinal);
    }
    EXPECT_EQ(layout.rank(dir, name, 3), expected) << set << " " << name;
    EXPECT_EQ(layout.place(dir, name), best[0]) << set << " " << name;
  }
}

TEST(Layout_Golden, ManyPlaces_Frozen) {
  for (const auto& [set, digest] : kPlaces) {
    const Layout layout = layout_of(weight_sets()[static_cast<size_t>(set)]);
    uint64_t seen = 0;
    for (size_t n = 0; n < 2000; ++n) {
      seen = seen * 1031 + layout.place(parents()[n % parents().size()], "name-" + std::to_string(n));
    }
    EXPECT_EQ(seen, digest) << set;
  }
}

TEST(Layout_EffectiveName, TemporaryNames_HashAsWhatTheyBecome) {
  const std::pair<const char*, const char*> cases[] = {
      {".README.md.a8Xk2Q", "README.md"},   // rsync of README.md
      {".bashrc.Zx81pq", "bashrc"},         // rsync of .bashrc, which adds no second dot
      {".bashrc", "bashrc"},
      {"..x", "x"},
      {"README.md~", "README.md"},
      {"index.lock", "index"},              // git
      {"pgstat.stat.tmp", "pgstat.stat"},
      {"movie.mkv.part", "movie.mkv"},
      {"movie.mkv.1a2b3c4d.partial", "movie.mkv"},  // rclone
      {"movie.mkv.partial", "movie.mkv"},
      {"passwd.new", "passwd"},
      {"a.bak", "a"},
      {"a.old", "a"},
      {"object.o.tmp.Ab12Cd", "object.o"},  // ccache
      {"a.txt.tmp.4711", "a.txt"},
      {".a.tmp", "a"},
      {".a.tmp.AbCd12", "a"},
      {"a.old.AbCdEf", "a.old.AbCdEf"},     // without the dot in front it is no rsync's
      {".a.old.AbCdEf", "a"},               // rsync of a.old, which is a's itself
      {"a~~", "a"},
  };
  for (const auto& [name, expected] : cases) EXPECT_EQ(effective(name), expected) << name;
}

TEST(Layout_EffectiveName, OrdinaryNames_Themselves) {
  for (const char* name : {"a", "README.md", "a.tar.gz", "archive.sqlite", "photo.ABC123", "IMG_0001.JPG", "~", "tmp",
                           "a.tmp.", "a.tmp.x-y", "a.", "a..", "part.000001", "a.TMP", "a.old2", "Größe", " "}) {
    EXPECT_EQ(effective(name), name);
  }
  EXPECT_EQ(effective(".profile.config"), "profile.config");  // a word, not mkstemp's
  EXPECT_EQ(effective(".cache.000001"), "cache.000001");      // a number
  EXPECT_EQ(effective(".cache.ABCDE"), "cache.ABCDE");
  EXPECT_EQ(effective(".cache.ABCDEFG"), "cache.ABCDEFG");
}

TEST(Layout_EffectiveName, NothingButMarks_NeverEmpty) {
  EXPECT_EQ(effective("..."), ".");
  EXPECT_EQ(effective("~~~"), "~");
  EXPECT_EQ(effective(".tmp"), "tmp");
  EXPECT_EQ(effective("..AbCdE1"), "AbCdE1");
  EXPECT_EQ(effective(".~"), "~");
  EXPECT_EQ(effective(""), "");
  EXPECT_EQ(effective(".x.AbCdE1"), "x");
}

// Whatever a file is called: where rsync, an editor's backup or git put it first is where it stays.
TEST(Layout_EffectiveName, TemporaryOfAnyName_SameAsTheName) {
  for (std::string name : {"a", ".a", "..a", "a.tmp", "a~", ".a.lock", "x.y.z", "a.tmp.1", "x.config", "a.old.bak"}) {
    const std::string expected = effective(name);
    const std::string hidden = name.front() == '.' ? name : "." + name;  // rsync's get_tmpname()
    EXPECT_EQ(effective(hidden + ".aB3dE9"), expected) << name;
    EXPECT_EQ(effective(name + "~"), expected) << name;
    EXPECT_EQ(effective(name + ".lock"), expected) << name;
    EXPECT_EQ(effective(name + ".tmp.123"), expected) << name;
  }
}

TEST(Layout_Place, NoWeightedTarget_None) {
  EXPECT_EQ(layout_of({}).place(kRootId, "a"), 0);
  EXPECT_EQ(layout_of({0, 0}).place(kRootId, "a"), 0);
  EXPECT_TRUE(layout_of({0, 0}).rank(kRootId, "a", 2).empty());
}

TEST(Layout_Place, OrderOfTargets_DoesNotMatter) {
  const Layout layout = layout_of({100, 200, 300, 400});
  std::vector<Target> reversed(layout.targets().rbegin(), layout.targets().rend());
  const Layout other(1, HashRule::kXxh3Rendezvous1, reversed);
  for (int i = 0; i < 1000; ++i) {
    const std::string name = "file" + std::to_string(i);
    EXPECT_EQ(layout.rank(kRootId, name, 4), other.rank(kRootId, name, 4));
  }
}

// 100,000 different (directory, name) of this machine's /usr; made up where there are fewer.
const std::vector<std::pair<Id, std::string>>& real_names() {
  static const auto names = [] {
    constexpr size_t kCount = 100'000;
    std::vector<std::pair<Id, std::string>> found;
    std::error_code error;
    auto walk = std::filesystem::recursive_directory_iterator(
        "/usr", std::filesystem::directory_options::skip_permission_denied, error);
    for (; !error && walk != std::filesystem::end(walk) && found.size() < kCount; walk.increment(error)) {
      const std::string dir = walk->path().parent_path();
      const XXH128_hash_t hash = XXH3_128bits(dir.data(), dir.size());
      found.emplace_back(Id::from_bytes(&hash), walk->path().filename());
    }
    for (size_t i = 0; found.size() < kCount; ++i) found.emplace_back(kRootId, "IMG_" + std::to_string(i) + ".JPG");
    return found;
  }();
  return names;
}

std::vector<size_t> spread(const Layout& layout) {
  std::vector<size_t> counts(layout.targets().size() + 1);
  for (const auto& [dir, name] : real_names()) ++counts[layout.place(dir, name)];
  return counts;
}

void expect_balanced(const std::vector<uint32_t>& weights) {
  const std::vector<size_t> counts = spread(layout_of(weights));
  double sum = 0;
  for (uint32_t weight : weights) sum += weight;
  for (size_t i = 0; i < weights.size(); ++i) {
    const double expected = static_cast<double>(real_names().size()) * weights[i] / sum;
    EXPECT_NEAR(static_cast<double>(counts[i + 1]), expected, 0.05 * expected) << "brick " << i + 1;
  }
}

TEST(Layout_Balance, EightEqualBricks_Within5Percent) { expect_balanced(std::vector<uint32_t>(8, 100)); }
TEST(Layout_Balance, EightUnequalBricks_Within5Percent) { expect_balanced({100, 100, 100, 100, 200, 200, 200, 200}); }

// One directory with a million of names that differ in a number alone.
TEST(Layout_Balance, NumberedNames_Within5Percent) {
  const Layout layout = layout_of(std::vector<uint32_t>(8, 100));
  std::vector<size_t> counts(9);
  for (int i = 0; i < 1'000'000; ++i) ++counts[layout.place(kRootId, "f" + std::to_string(i))];
  for (size_t ordinal = 1; ordinal <= 8; ++ordinal) EXPECT_NEAR(static_cast<double>(counts[ordinal]), 125'000, 6'250);
}

TEST(Layout_Growth, NinthBrick_TakesItsShareFromAllAndMovesNothingElse) {
  const Layout before = layout_of(std::vector<uint32_t>(8, 100)), after = layout_of(std::vector<uint32_t>(9, 100));
  size_t moved = 0;
  for (const auto& [dir, name] : real_names()) {
    const uint16_t from = before.place(dir, name), to = after.place(dir, name);
    if (from == to) continue;
    ++moved;
    ASSERT_EQ(to, 9) << name;
  }
  const double expected = static_cast<double>(real_names().size()) / 9;
  EXPECT_NEAR(static_cast<double>(moved), expected, 0.05 * expected);
}

TEST(Layout_Growth, WeightToZero_MovesItsNamesAlone) {
  std::vector<uint32_t> weights(8, 100);
  const Layout before = layout_of(weights);
  weights[2] = 0;
  const Layout after = layout_of(weights);
  for (const auto& [dir, name] : real_names()) {
    const uint16_t from = before.place(dir, name), to = after.place(dir, name);
    ASSERT_NE(to, 3);
    if (from != 3) {
      ASSERT_EQ(from, to) << name;
    } else {
      ASSERT_EQ(to, before.rank(dir, name, 2)[1]) << name;  // where its backup was
    }
  }
}

}  // namespace
}  // namespace voldfs::dht
