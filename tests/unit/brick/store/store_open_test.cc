#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include <fstream>

#include "brick/store/credentials.h"
#include "brick/store/directories.h"
#include "brick/store/store.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

using ::testing::HasSubstr;

class StoreOpen : public ::testing::Test {
 protected:
  StoreOpen() {
    options_.path = make_directory("brick");
    options_.map_file = write_map("map.json", volume_, brick_, 1);
    options_.min_free_percent = 0;
  }
  std::string make_directory(const std::string& name) {
    EXPECT_EQ(0, ::mkdir((scratch_ / name).c_str(), 0755));
    return scratch_ / name;
  }
  std::string write_map(const std::string& name, const Id& volume, const Id& brick, int version) {
    const std::string path = scratch_ / name;
    std::ofstream(path) << map_text(volume, brick, version);
    std::ofstream(path + ".secret") << std::string(64, 'a') << "\n";
    return path;
  }
  std::string map_text(const Id& volume, const Id& brick, int version) {
    return R"({"format": 1, "volume": {"id": ")" + volume.uuid() + R"(", "name": "test"}, "incarnation": ")" +
           incarnation_.uuid() + R"(", "version": )" + std::to_string(version) + R"(, "root_home": 1, "bricks": [{"id": ")" +
           brick.uuid() + R"(", "ordinal": 1, "path": ")" + (scratch_ / "brick") + R"("}, {"id": ")" + Id{}.uuid() +
           R"(", "ordinal": 2, "path": "/nowhere"}]})";
  }
  std::string refusal(const StoreOptions& options) {
    auto store = Store::open(options);
    return store ? "opened" : store.error();
  }

  ScratchDirectory scratch_;
  const Id volume_ = Id::random(), brick_ = Id::random(), incarnation_ = Id::random();
  StoreOptions options_;
};

TEST_F(StoreOpen, NotABrick_SaysHowToMakeOne) { EXPECT_THAT(refusal(options_), HasSubstr("voldctl brick init")); }

TEST_F(StoreOpen, NoSuchDirectory_SaysSo) {
  options_.path = scratch_ / "none";
  options_.init = true;
  EXPECT_THAT(refusal(options_), HasSubstr("No such file or directory"));
}

TEST_F(StoreOpen, EmptyDirectory_BecomesABrickOfTheNewestEpoch) {
  ASSERT_TRUE(Store::init(options_).has_value());
  ASSERT_TRUE(Store::init(options_).has_value());  // is one already
  auto store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  const auto root = (*store)->directories().find(kRootId);
  ASSERT_TRUE(root.has_value());
  EXPECT_EQ(1u, (*root)->record().epoch);
  EXPECT_EQ(wire::kRoleHome | wire::kRoleMember, (*root)->record().role);
  EXPECT_EQ(2, (*root)->record().backup);
  EXPECT_TRUE((*root)->record().set.has(1) && (*root)->record().set.has(2));
  EXPECT_EQ(32u, (*store)->secret().size());
  EXPECT_FALSE((*store)->unclean());
}

TEST_F(StoreOpen, DirectoryWithFiles_IsAdoptedAsEpoch0) {
  std::ofstream(options_.path + "/file") << "here before";
  options_.init = true;
  auto store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  EXPECT_EQ(0u, (*(*store)->directories().find(kRootId))->record().epoch);
}

TEST_F(StoreOpen, ServedAlready_NamesTheProcess) {
  options_.init = true;
  auto store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  EXPECT_THAT(refusal(options_), HasSubstr("served already, by process " + std::to_string(::getpid())));
  store->reset();
  EXPECT_EQ("opened", refusal(options_));
}

TEST_F(StoreOpen, OtherVolume_IsRefused) {
  ASSERT_TRUE(Store::init(options_).has_value());
  options_.map_file = write_map("other.json", Id::random(), brick_, 1);
  EXPECT_THAT(refusal(options_), HasSubstr("belongs to the volume " + volume_.uuid()));
  EXPECT_FALSE(Store::init(options_).has_value());
  options_.map_file = write_map("without.json", volume_, Id::random(), 1);
  EXPECT_THAT(refusal(options_), HasSubstr("is not in the volume map"));
}

TEST_F(StoreOpen, CopyWithoutAttributes_IsRefused) {
  ASSERT_TRUE(Store::init(options_).has_value());
  ASSERT_EQ(0, ::removexattr(options_.path.c_str(), "trusted.voldfs.id"));
  EXPECT_THAT(refusal(options_), HasSubstr("has lost its extended attributes"));
}

TEST_F(StoreOpen, FileSystemWithoutHandlesOrAttributes_IsRefused) {
  options_.path = "/proc";
  options_.init = true;
  options_.brick = brick_;
  EXPECT_NE("opened", refusal(options_));
}

TEST_F(StoreOpen, NewerFormat_IsRefused) {
  ASSERT_TRUE(Store::init(options_).has_value());
  std::ofstream(options_.path + "/.voldfs/brick.json") << R"({"format": 2})";
  EXPECT_THAT(refusal(options_), HasSubstr("newer format"));
  std::ofstream(options_.path + "/.voldfs/brick.json") << R"({"format": 1, "incompat": 4})";
  EXPECT_THAT(refusal(options_), HasSubstr("newer format"));
  std::ofstream(options_.path + "/.voldfs/brick.json") << "not JSON";
  EXPECT_THAT(refusal(options_), HasSubstr("damaged"));
}

TEST_F(StoreOpen, UncleanShutdownOfTheHost_IsRemembered) {
  ASSERT_TRUE(Store::init(options_).has_value());
  std::ofstream(options_.path + "/.voldfs/state") << "unclean 00000000-0000-0000-0000-000000000000";
  for (int start = 0; start < 2; ++start) {  // until a scrub
    auto store = Store::open(options_);
    ASSERT_TRUE(store.has_value()) << store.error();
    EXPECT_TRUE((*store)->unclean());
  }
}

TEST_F(StoreOpen, PutMap_TakesNewerOnesOfItsVolumeAlone) {
  options_.init = true;
  auto store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  EXPECT_TRUE((*store)->put_map(map_text(volume_, brick_, 3)).has_value());
  EXPECT_EQ(3u, (*store)->map_version());
  EXPECT_EQ(ESTALE, (*store)->put_map(map_text(volume_, brick_, 2)).error().code);
  EXPECT_EQ(EINVAL, (*store)->put_map(map_text(Id::random(), brick_, 9)).error().code);
  EXPECT_EQ(EINVAL, (*store)->put_map("{").error().code);
  store->reset();
  store = Store::open(options_);
  EXPECT_EQ(3u, (*store)->map_version());
}

TEST_F(StoreOpen, IndexThatLeadsNowhere_IsRebuilt) {
  options_.init = true;
  auto store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  ASSERT_EQ(0, ::mkdir((options_.path + "/dir").c_str(), 0755));
  auto root = (*store)->directories().find(kRootId);
  auto dir = (*store)->directories().take(kRootId, (*root)->fd(), "dir");
  ASSERT_TRUE(dir.has_value());
  const Id id = (*dir)->id();
  root = fail(EIO), dir = fail(EIO);
  store->reset();
  std::filesystem::remove_all(options_.path + "/.voldfs/index");
  store = Store::open(options_);
  ASSERT_TRUE(store.has_value()) << store.error();
  EXPECT_TRUE((*store)->directories().find(id).has_value());
}

}  // namespace
}  // namespace voldfs::store
