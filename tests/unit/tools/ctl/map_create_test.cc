#include "tools/ctl/map_create.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tools/ctl/command.h"

namespace voldfs::ctl {
namespace {

class MapCreate : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "voldfs-map-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    dir_ = name, file_ = dir_ / "vol.json";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }
  static int voldctl(std::vector<const char*> arguments) {
    arguments.insert(arguments.begin(), "voldctl");
    return run(static_cast<int>(arguments.size()), arguments.data());
  }
  std::filesystem::path dir_, file_;
};

NewVolume volume_of(std::vector<BrickSpec> bricks) {
  NewVolume volume;
  volume.name = "vol";
  volume.bricks = std::move(bricks);
  return volume;
}

TEST_F(MapCreate, Ports_LowestFreeOfEachHost) {
  const auto map = make_map(volume_of({{"127.0.0.2", "/a", 0}, {"127.0.0.2", "/b", 0}, {"127.0.0.2", "/c", 24201},
                                       {"127.0.0.3", "/a", 0}}));
  ASSERT_TRUE(map) << map.error();
  EXPECT_EQ(map->bricks[0].port, 24200);
  EXPECT_EQ(map->bricks[1].port, 24202);
  EXPECT_EQ(map->bricks[2].port, 24201);
  EXPECT_EQ(map->bricks[3].port, 24200);
}

TEST_F(MapCreate, NoPortLeft_Refused) {
  NewVolume volume = volume_of({{"127.0.0.2", "/a", 0}, {"127.0.0.2", "/b", 0}});
  volume.port_base = 65535;
  EXPECT_FALSE(make_map(volume));
}

TEST_F(MapCreate, SamePathTwice_Refused) {
  EXPECT_FALSE(make_map(volume_of({{"127.0.0.2", "/a", 0}, {"127.0.0.2", "/a", 0}})));
}

TEST_F(MapCreate, LongSocketDirectory_Refused) {
  NewVolume volume = volume_of({{"127.0.0.2", "/a", 0}});
  volume.unix_dir = '/' + std::string(80, 'x');
  const auto map = make_map(volume);
  ASSERT_FALSE(map);
  EXPECT_NE(map.error().find("socket"), std::string::npos);
}

TEST_F(MapCreate, Written_ReadBackWithPrivateSecret) {
  const auto map = make_map(volume_of({{"127.0.0.2", "/a", 0}}));
  ASSERT_TRUE(map);
  ASSERT_TRUE(write_map_and_secret(*map, file_));
  const auto read = read_map(file_);
  ASSERT_TRUE(read) << read.error();
  EXPECT_EQ(read->to_json(), map->to_json());
  struct stat st;
  ASSERT_EQ(::stat((file_.string() + ".secret").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600u);
}

TEST_F(MapCreate, SecretIsThere_NothingWritten) {
  std::ofstream(file_.string() + ".secret") << "precious";
  const auto map = make_map(volume_of({{"127.0.0.2", "/a", 0}}));
  EXPECT_FALSE(write_map_and_secret(*map, file_));
  EXPECT_FALSE(std::filesystem::exists(file_));
}

TEST_F(MapCreate, DirectoryIsMissing_NoSecretLeft) {
  const auto map = make_map(volume_of({{"127.0.0.2", "/a", 0}}));
  EXPECT_FALSE(write_map_and_secret(*map, dir_ / "none" / "vol.json"));
  EXPECT_TRUE(std::filesystem::is_empty(dir_));
}

TEST_F(MapCreate, CommandLine_ExitCodes) {
  const std::string out = "--out=" + file_.string();
  EXPECT_EQ(voldctl({}), kExitUsage);
  EXPECT_EQ(voldctl({"map", "create", "vol"}), kExitUsage);
  EXPECT_EQ(voldctl({"map", "create", "--port-base=0", out.c_str(), "vol", "127.0.0.2:/a"}), kExitUsage);
  EXPECT_EQ(voldctl({"map", "create", out.c_str(), "vol", "127.0.0.2"}), kExitFailed);
  EXPECT_EQ(voldctl({"map", "create", out.c_str(), "vol", "127.0.0.2:/a"}), kExitDone);
  EXPECT_EQ(voldctl({"map", "create", out.c_str(), "vol", "127.0.0.2:/a"}), kExitFailed) << "it exists";
  EXPECT_EQ(voldctl({"map", "--help"}), kExitDone);
}

TEST_F(MapCreate, JsonBehindTheVerb_IsTheMap) {
  ASSERT_EQ(voldctl({"map", "create", ("--out=" + file_.string()).c_str(), "vol", "127.0.0.2:/a"}), kExitDone);
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(voldctl({"map", "show", file_.c_str(), "--json"}), kExitDone);
  const auto shown = dht::VolumeMap::parse(::testing::internal::GetCapturedStdout());
  ASSERT_TRUE(shown) << shown.error();
  EXPECT_EQ(shown->to_json(), read_map(file_)->to_json());
}

TEST_F(MapCreate, JsonOfAnError_OneObject) {
  ::testing::internal::CaptureStdout();
  ASSERT_EQ(voldctl({"--json", "map", "show", file_.c_str()}), kExitFailed);
  EXPECT_TRUE(nlohmann::json::parse(::testing::internal::GetCapturedStdout())["error"].is_string());
}

}  // namespace
}  // namespace voldfs::ctl
