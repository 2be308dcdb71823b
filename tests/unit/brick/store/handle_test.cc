#include "brick/store/handle.h"

#include <sys/stat.h>

#include <array>
#include <chrono>

#include "brick/store/xattr.h"
#include "brick/wire/status.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

using wire::ObjectType;

constexpr std::array<uint8_t, 32> kKey{1, 2, 3};
constexpr std::array<uint8_t, 32> kOtherKey{3, 2, 1};

class HandleTest : public testing::Test {
 protected:
  // The reference that a brick would give out for the entry.
  wire::ObjectRef refer(const char* name, ObjectType type, const Id& id) {
    EXPECT_TRUE(set_id_at(dir_.fd(), name, id).has_value());
    auto handle = handles_.make_at(dir_.fd(), name, id, type);
    EXPECT_TRUE(handle.has_value());
    return {id, *handle};
  }
  int open_error(const wire::ObjectRef& ref) {
    auto fd = handles_.open(ref, O_RDONLY);
    return fd ? 0 : fd.error().code;
  }

  ScratchDirectory dir_;
  Handles handles_{dir_.fd(), kKey};
};

TEST_F(HandleTest, Open_File_IsTheSameInode) {
  auto file = dir_.make_file("file");
  auto opened = handles_.open(refer("file", ObjectType::kFile, Id::random()), O_RDWR);
  ASSERT_TRUE(opened.has_value());
  struct stat a, b;
  ASSERT_EQ(0, ::fstat(file.get(), &a));
  ASSERT_EQ(0, ::fstat(opened->get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
  EXPECT_EQ(O_RDWR, ::fcntl(opened->get(), F_GETFL) & O_ACCMODE);
}

TEST_F(HandleTest, Make_FromDescriptorAndFromName_AreEqual) {
  auto file = dir_.make_file("file");
  const wire::ObjectRef by_name = refer("file", ObjectType::kFile, Id::random());
  auto by_fd = handles_.make(file.get(), by_name.id, ObjectType::kFile);
  ASSERT_TRUE(by_fd.has_value());
  EXPECT_EQ(0, std::memcmp(&*by_fd, &by_name.handle, sizeof by_name.handle));
  EXPECT_EQ(ObjectType::kFile, Handles::type_of(*by_fd));
}

TEST_F(HandleTest, Open_FifoDeviceAndSymlink_TouchesNothing) {
  ASSERT_EQ(0, ::mkfifoat(dir_.fd(), "fifo", 0600));
  ASSERT_EQ(0, ::mknodat(dir_.fd(), "device", S_IFCHR | 0600, 0));
  ASSERT_EQ(0, ::symlinkat("nowhere", dir_.fd(), "link"));
  for (auto [name, type] : {std::pair("fifo", ObjectType::kFifo), std::pair("device", ObjectType::kCharDevice),
                            std::pair("link", ObjectType::kSymlink)}) {
    auto opened = handles_.open(refer(name, type, Id::random()), O_RDWR);
    ASSERT_TRUE(opened.has_value()) << name;
    EXPECT_TRUE(::fcntl(opened->get(), F_GETFL) & O_PATH) << name;
  }
}

TEST_F(HandleTest, Open_AnyBitChanged_IsStale) {
  dir_.make_file("file");
  const wire::ObjectRef good = refer("file", ObjectType::kFile, Id::random());
  ASSERT_EQ(0, open_error(good));
  for (size_t bit = 0; bit < 8 * sizeof(good); ++bit) {
    wire::ObjectRef forged = good;
    auto* const bytes = reinterpret_cast<uint8_t*>(&forged);
    bytes[bit / 8] = static_cast<uint8_t>(bytes[bit / 8] ^ 1u << bit % 8);
    // Bytes of the handle behind its size say nothing, and are not looked at.
    const size_t at = bit / 8 - offsetof(wire::ObjectRef, handle) - offsetof(wire::Handle, bytes);
    if (at < sizeof good.handle.bytes && at >= good.handle.size) continue;
    EXPECT_EQ(wire::kStaleHandle, open_error(forged)) << "bit " << bit;
  }
}

TEST_F(HandleTest, Open_SizeBeyondTheField_IsStale) {
  wire::ObjectRef ref{};
  ref.id = Id::random();
  for (int size : {0, 33, 255}) {
    ref.handle.size = static_cast<uint8_t>(size);
    EXPECT_EQ(wire::kStaleHandle, open_error(ref));
  }
}

TEST_F(HandleTest, Open_OfAnotherBricksKey_IsStale) {
  auto file = dir_.make_file("file");
  wire::ObjectRef ref = refer("file", ObjectType::kFile, Id::random());
  ref.handle = *Handles(dir_.fd(), kOtherKey).make(file.get(), ref.id, ObjectType::kFile);
  EXPECT_EQ(wire::kStaleHandle, open_error(ref));
}

TEST_F(HandleTest, Open_RemovedFile_IsStale) {
  dir_.make_file("file");
  const wire::ObjectRef ref = refer("file", ObjectType::kFile, Id::random());
  ASSERT_EQ(0, ::unlinkat(dir_.fd(), "file", 0));
  EXPECT_EQ(wire::kStaleHandle, open_error(ref));
}

TEST_F(HandleTest, Open_IdOnDiskIsAnother_IsStale) {
  dir_.make_file("file");
  const wire::ObjectRef ref = refer("file", ObjectType::kFile, Id::random());
  ASSERT_TRUE(set_id_at(dir_.fd(), "file", Id::random()).has_value());
  EXPECT_EQ(wire::kStaleHandle, open_error(ref));
  ASSERT_TRUE(remove_xattr_at(dir_.fd(), "file", kXattrId).has_value());
  EXPECT_EQ(wire::kStaleHandle, open_error(ref));
}

TEST_F(HandleTest, Open_WithTruncate_LeavesTheContent) {
  auto file = dir_.make_file("file");
  ASSERT_EQ(4, ::write(file.get(), "data", 4));
  ASSERT_TRUE(handles_.open(refer("file", ObjectType::kFile, Id::random()), O_RDWR | O_TRUNC).has_value());
  struct stat attr;
  ASSERT_EQ(0, ::fstat(file.get(), &attr));
  EXPECT_EQ(4, attr.st_size);
}

TEST_F(HandleTest, IndexText_OfADirectory_LeadsBackToIt) {
  ASSERT_EQ(0, ::mkdirat(dir_.fd(), "sub", 0700));
  unique_fd sub(::openat(dir_.fd(), "sub", O_RDONLY | O_DIRECTORY));
  auto text = handles_.index_text(sub.get());
  ASSERT_TRUE(text.has_value());
  auto opened = handles_.open_index_text(*text, O_RDONLY | O_DIRECTORY);
  ASSERT_TRUE(opened.has_value());
  struct stat a, b;
  ASSERT_EQ(0, ::fstat(sub.get(), &a));
  ASSERT_EQ(0, ::fstat(opened->get(), &b));
  EXPECT_EQ(a.st_ino, b.st_ino);
}

TEST_F(HandleTest, OpenIndexText_Malformed_IsRefused) {
  for (const char* text : {"", ":", "1", "1:", "1:0", "1:0g", "x:00", "1:+1", "99999999999:00", "1 :00",
                           "1:0000000000000000000000000000000000000000000000000000000000000000ff"}) {
    auto opened = handles_.open_index_text(text, O_RDONLY);
    ASSERT_FALSE(opened.has_value()) << text;
    EXPECT_EQ(EINVAL, opened.error().code) << text;
  }
}

}  // namespace
}  // namespace voldfs::store
