#include "mgmt/options.h"

#include <gtest/gtest.h>

namespace voldfs::mgmt {
namespace {

TEST(OptionsTest, Table_EveryDefault_IsAValidValueAndSorted) {
  std::string_view before;
  for (const OptionInfo& option : option_table()) {
    const auto value = check_option(option.key, option.default_value);
    ASSERT_TRUE(value) << value.error();
    EXPECT_EQ(*value, option.default_value);
    EXPECT_LT(before, option.key);
    EXPECT_FALSE(range_of(option).empty());
    before = option.key;
  }
}

TEST(OptionsTest, Check_UnknownKey_SuggestsTheNearest) {
  const auto value = check_option("client.on-brick-dwon", "wait");
  ASSERT_FALSE(value);
  EXPECT_NE(value.error().find("client.on-brick-down"), std::string::npos);
}

TEST(OptionsTest, Check_OutOfRange_NamesTheRange) {
  for (const char* bad : {"51", "-1", "x", "", "1x", "nan", "1e1"}) {
    const auto value = check_option("brick.min-free", bad);
    ASSERT_FALSE(value) << bad;
    EXPECT_NE(value.error().find("0 to 50"), std::string::npos) << value.error();
  }
  EXPECT_FALSE(check_option("volume.dir-copies", "1.5"));
}

TEST(OptionsTest, Check_UserKey_TakesAnyText) {
  EXPECT_EQ(check_option("user.owner", "any text").value(), "any text");
  EXPECT_FALSE(check_option("user.", "x"));
  EXPECT_FALSE(check_option("user.with space", "x"));
}

}  // namespace
}  // namespace voldfs::mgmt
