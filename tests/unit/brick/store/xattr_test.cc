#include "brick/store/xattr.h"

#include <sys/stat.h>
#include <sys/xattr.h>

#include "brick/wire/message.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

std::span<const std::byte> bytes(std::string_view text) { return std::as_bytes(std::span(text)); }
std::string text(const Result<std::vector<std::byte>>& value) {
  return value ? std::string(reinterpret_cast<const char*>(value->data()), value->size()) : "none";
}

// The three ways to an object: its descriptor, one with O_PATH, and its name.
class XattrTest : public testing::Test {
 protected:
  ScratchDirectory dir_;
  unique_fd file_ = dir_.make_file("file");
  unique_fd path_ = dir_.open_path("file");
};

TEST_F(XattrTest, Set_ByEachWay_IsSeenByTheOthers) {
  ASSERT_TRUE(set_xattr(file_.get(), "user.a", bytes("1")).has_value());
  ASSERT_TRUE(set_xattr(path_.get(), "user.b", bytes("2")).has_value());
  ASSERT_TRUE(set_xattr_at(dir_.fd(), "file", "user.c", bytes("3")).has_value());
  for (auto [name, value] : {std::pair("user.a", "1"), std::pair("user.b", "2"), std::pair("user.c", "3")}) {
    EXPECT_EQ(value, text(read_xattr(file_.get(), name)));
    EXPECT_EQ(value, text(read_xattr(path_.get(), name)));
    EXPECT_EQ(value, text(read_xattr_at(dir_.fd(), "file", name)));
  }
  ASSERT_TRUE(remove_xattr(file_.get(), "user.b").has_value());
  ASSERT_TRUE(remove_xattr(path_.get(), "user.c").has_value());
  ASSERT_TRUE(remove_xattr_at(dir_.fd(), "file", "user.a").has_value());
  EXPECT_EQ("", list_xattrs(file_.get()).value());
}

TEST_F(XattrTest, Read_LargeValue_ComesWhole) {
  const std::string large(3000, 'x');
  ASSERT_TRUE(set_xattr(file_.get(), "user.large", bytes(large)).has_value());
  EXPECT_EQ(large, text(read_xattr(file_.get(), "user.large")));
  EXPECT_EQ(large.size(), get_xattr(file_.get(), "user.large", {}).value());
  std::byte small[10];
  EXPECT_EQ(ERANGE, get_xattr(file_.get(), "user.large", small).error().code);
}

TEST_F(XattrTest, OfASymlink_IsItsOwn) {
  ASSERT_EQ(0, ::symlinkat("file", dir_.fd(), "link"));
  const Id id = Id::random();
  ASSERT_TRUE(set_id_at(dir_.fd(), "link", id).has_value());
  EXPECT_EQ(id, get_id(dir_.open_path("link").get()).value());
  EXPECT_EQ(ENODATA, get_id(file_.get()).error().code);
}

TEST_F(XattrTest, GetId_OfAnotherSize_IsUnclean) {
  ASSERT_TRUE(set_xattr(file_.get(), kXattrId, bytes("short")).has_value());
  EXPECT_EQ(EUCLEAN, get_id(file_.get()).error().code);
  ASSERT_TRUE(set_xattr(file_.get(), kXattrId, bytes("more than sixteen bytes")).has_value());
  EXPECT_EQ(EUCLEAN, get_id_at(dir_.fd(), "file").error().code);
}

TEST_F(XattrTest, ExportAndReplace_LeaveVoldfssOwnAlone) {
  const Id id = Id::random();
  ASSERT_TRUE(set_id(file_.get(), id).has_value());
  ASSERT_TRUE(set_xattr(file_.get(), "user.keep", bytes("1")).has_value());
  ASSERT_TRUE(set_xattr(file_.get(), "trusted.other", bytes("2")).has_value());
  auto list = export_xattrs(file_.get());
  ASSERT_TRUE(list.has_value());
  auto parsed = wire::parse_xattrs(*list);
  ASSERT_TRUE(parsed.has_value());
  ASSERT_EQ(2u, parsed->size());

  auto copy = dir_.make_file("copy");
  ASSERT_TRUE(set_xattr(copy.get(), "user.gone", bytes("3")).has_value());
  const Id copy_id = Id::random();
  ASSERT_TRUE(set_id(copy.get(), copy_id).has_value());
  ASSERT_TRUE(replace_xattrs(copy.get(), *parsed).has_value());
  EXPECT_EQ("1", text(read_xattr(copy.get(), "user.keep")));
  EXPECT_EQ("2", text(read_xattr(copy.get(), "trusted.other")));
  EXPECT_EQ("none", text(read_xattr(copy.get(), "user.gone")));
  EXPECT_EQ(copy_id, get_id(copy.get()).value());
}

TEST_F(XattrTest, Replace_WithVoldfssOwn_IsRefused) {
  const wire::XattrView forged[] = {{kXattrId, bytes("0123456789abcdef")}};
  EXPECT_EQ(EPERM, replace_xattrs(file_.get(), forged).error().code);
  EXPECT_EQ(ENODATA, get_id(file_.get()).error().code);
}

}  // namespace
}  // namespace voldfs::store
