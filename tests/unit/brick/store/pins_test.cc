#include "brick/store/pins.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/mman.h>

#include <array>
#include <atomic>
#include <thread>

#include "brick/store/handle.h"
#include "brick/store/xattr.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

constexpr std::array<uint8_t, 32> kKey{1, 2, 3};

class PinsTest : public testing::Test {
 protected:
  PinsTest() {
    dir_.make_file("file");
    EXPECT_TRUE(set_id_at(dir_.fd(), "file", ref_.id).has_value());
    auto handle = handles_.make_at(dir_.fd(), "file", ref_.id, wire::ObjectType::kFile);
    EXPECT_TRUE(handle.has_value());
    ref_.handle = *handle;
  }
  int open(int flags) { return ::openat(dir_.fd(), "file", flags | O_CLOEXEC); }

  ScratchDirectory dir_;
  Handles handles_{dir_.fd(), kKey};
  int freed_ = 0;
  Pins pins_{handles_, [this](const Id&) {
               EXPECT_TRUE(pins_.is_pinned(ref_.id));  // until nobody can be told of it as it was
               freed_++;
             }};
  wire::ObjectRef ref_{Id::random(), {}};
};

TEST_F(PinsTest, Reader_HoldsTheFileInPlace_AndPinsNothing) {
  pins_.add(ref_, false);
  EXPECT_TRUE(pins_.is_handed_out(ref_.id));
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
  pins_.remove(ref_.id, O_RDONLY, true);
  EXPECT_FALSE(pins_.is_handed_out(ref_.id));
  EXPECT_EQ(freed_, 0);
}

TEST_F(PinsTest, LastWriterReleased_Frees) {
  pins_.add(ref_, true);
  pins_.add(ref_, true);
  pins_.remove(ref_.id, O_WRONLY, true);
  EXPECT_TRUE(pins_.is_pinned(ref_.id));
  pins_.remove(ref_.id, O_WRONLY, true);
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
  EXPECT_FALSE(pins_.is_handed_out(ref_.id));
  EXPECT_EQ(freed_, 1);
  EXPECT_EQ(pins_.pinned(), 0u);
  EXPECT_EQ(pins_.handed_out(), 0u);
}

TEST_F(PinsTest, MappedBeyondItsRelease_IsFreedWhenUnmapped) {
  pins_.add(ref_, true);
  unique_fd fd(open(O_RDWR));
  ASSERT_EQ(::ftruncate(fd.get(), 4096), 0);
  void* const memory = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  ASSERT_NE(memory, MAP_FAILED);
  fd.reset();
  pins_.remove(ref_.id, O_RDWR, true);
  pins_.sweep();
  EXPECT_TRUE(pins_.is_pinned(ref_.id));
  EXPECT_EQ(freed_, 0);
  ::munmap(memory, 4096);
  pins_.sweep();
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
  EXPECT_EQ(freed_, 1);
}

TEST_F(PinsTest, SessionLost_ApplicationStillHasIt_IsFreedWhenItCloses) {
  pins_.add(ref_, true);
  unique_fd application(open(O_WRONLY));
  pins_.remove(ref_.id, O_WRONLY, false);
  pins_.sweep();
  EXPECT_TRUE(pins_.is_pinned(ref_.id));
  application.reset();
  pins_.sweep();
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
}

TEST_F(PinsTest, FileGone_IsFreed) {
  pins_.add(ref_, true);
  ASSERT_EQ(::unlinkat(dir_.fd(), "file", 0), 0);
  pins_.remove(ref_.id, O_RDWR, false);
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
}

// The kernel is asked by a lease, which must be in nobody's way.
TEST_F(PinsTest, OpensForWriting_WhileTheKernelIsAsked_GoThrough) {
  unique_fd writer(open(O_RDWR));
  pins_.add(ref_, true);
  pins_.remove(ref_.id, O_RDWR, false);
  writer.reset();
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> opens = 0;
  std::thread opener([&] {
    while (!stop) {
      const auto fd = handles_.open(ref_, O_RDWR);
      ASSERT_TRUE(fd.has_value()) << fd.error().code;
      opens++;
    }
  });
  for (int i = 0; i < 2000 || opens < 100; i++) {
    pins_.add(ref_, true);
    pins_.remove(ref_.id, O_RDWR, true);
    pins_.sweep();
  }
  stop = true;
  opener.join();
  pins_.sweep();
  EXPECT_FALSE(pins_.is_pinned(ref_.id));
  EXPECT_EQ(pins_.handed_out(), 0u);
}

}  // namespace
}  // namespace voldfs::store
