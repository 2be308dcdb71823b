#include "brick/store/open_files.h"

#include <sys/stat.h>

#include <thread>

#include "brick/wire/status.h"
#include "tests/unit/brick/store/scratch_directory.h"

namespace voldfs::store {
namespace {

class OpenFilesTest : public testing::Test {
 protected:
  OpenFilesTest() {
    EXPECT_EQ(0, ::mkdirat(dir_.fd(), "open", 0700));
    kept_.reset(::openat(dir_.fd(), "open", O_RDONLY | O_DIRECTORY));
    start(false);
  }
  void start(bool grace) {
    files_ = std::make_unique<OpenFiles>(kept_.get(), grace);
    ASSERT_TRUE(files_->load().has_value());
  }
  bool is_kept(const Id& id) const { return ::faccessat(kept_.get(), id.hex().c_str(), F_OK, 0) == 0; }
  bool exists(const char* name) const { return ::faccessat(dir_.fd(), name, F_OK, 0) == 0; }
  std::shared_ptr<OpenFile> open(uint64_t session, const char* name, const Id& id, uint32_t wanted = 0) {
    auto file = files_->insert(session, id, dir_.make_file(name), O_RDWR, wanted);
    EXPECT_TRUE(file.has_value());
    return file ? *file : nullptr;
  }

  ScratchDirectory dir_;
  unique_fd kept_;
  std::unique_ptr<OpenFiles> files_;
  const Id id_ = Id::random();
};

TEST_F(OpenFilesTest, Find_ByTheSessionThatOpened_AndNoOther) {
  auto file = open(1, "file", id_);
  EXPECT_EQ(file, files_->find(1, file->number));
  EXPECT_EQ(nullptr, files_->find(2, file->number));
  EXPECT_EQ(nullptr, files_->find(1, file->number + 1));
  EXPECT_TRUE(files_->is_open(id_));
  ASSERT_TRUE(files_->close(1, file->number).has_value());
  EXPECT_EQ(wire::kOpenUnknown, files_->close(1, file->number).error().code);
  EXPECT_FALSE(files_->is_open(id_));
  EXPECT_EQ(0u, files_->count());
}

TEST_F(OpenFilesTest, LastClose_OfANamelessFile_RemovesIt) {
  auto one = open(1, "file", id_), two = open(2, "file", id_);
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  EXPECT_FALSE(exists("file"));
  EXPECT_TRUE(files_->is_nameless(id_));
  ASSERT_TRUE(files_->close(1, one->number).has_value());
  EXPECT_TRUE(is_kept(id_));
  files_->close_session(2);
  EXPECT_FALSE(is_kept(id_));
  EXPECT_FALSE(files_->is_nameless(id_));
  EXPECT_EQ(0u, files_->nameless_count());
}

TEST_F(OpenFilesTest, Keep_AfterTheLastClose_LeavesNothing) {
  auto file = open(1, "file", id_);
  ASSERT_TRUE(files_->close(1, file->number).has_value());
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  EXPECT_FALSE(is_kept(id_));
  EXPECT_EQ(0u, files_->nameless_count());
}

TEST_F(OpenFilesTest, Keep_WhenItIsKeptAlready_TakesTheNameAway) {
  auto file = open(1, "file", id_);
  ASSERT_EQ(0, ::linkat(dir_.fd(), "file", kept_.get(), id_.hex().c_str(), 0));
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  EXPECT_FALSE(exists("file"));
  EXPECT_TRUE(is_kept(id_));
}

TEST_F(OpenFilesTest, Named_AfterItGotAName_OutlivesItsLastClose) {
  unique_fd temporary(::openat(dir_.fd(), ".", O_TMPFILE | O_RDWR, 0600));
  auto file = files_->insert(1, id_, unique_fd(::dup(temporary.get())), O_RDWR);
  ASSERT_TRUE(file.has_value());
  ASSERT_TRUE(files_->keep_new(temporary.get(), id_).has_value());
  EXPECT_TRUE(is_kept(id_));
  ASSERT_EQ(0, ::linkat(kept_.get(), id_.hex().c_str(), dir_.fd(), "name", 0));
  ASSERT_TRUE(files_->named(id_).has_value());
  EXPECT_FALSE(files_->is_nameless(id_));
  ASSERT_TRUE(files_->close(1, (*file)->number).has_value());
  EXPECT_FALSE(is_kept(id_));
  EXPECT_TRUE(exists("name"));
}

TEST_F(OpenFilesTest, Restart_WithGrace_KeepsWhatIsReclaimedAndRemovesTheRest) {
  const Id other = Id::random();
  const uint32_t number = open(1, "file", id_)->number;
  open(1, "other", other);
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  ASSERT_TRUE(files_->keep(dir_.fd(), "other", other).has_value());

  start(true);
  EXPECT_TRUE(files_->is_nameless(id_));
  EXPECT_TRUE(files_->is_open(Id::random())) << "in the grace period every file may be open";
  auto fd = files_->open_nameless(id_, O_RDWR);
  ASSERT_TRUE(fd.has_value());
  auto again = files_->insert(1, id_, std::move(*fd), O_RDWR, number);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(number, (*again)->number);
  files_->end_grace();
  EXPECT_TRUE(is_kept(id_));
  EXPECT_FALSE(is_kept(other));
  EXPECT_EQ(wire::kStaleHandle, files_->open_nameless(other, O_RDWR).error().code);
  ASSERT_TRUE(files_->close(1, number).has_value());
  EXPECT_FALSE(is_kept(id_));
}

TEST_F(OpenFilesTest, Close_DuringGrace_LeavesItToItsEnd) {
  auto file = open(1, "file", id_);
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  start(true);
  auto again = files_->insert(1, id_, *files_->open_nameless(id_, O_RDWR), O_RDWR, file->number);
  ASSERT_TRUE(files_->close(1, (*again)->number).has_value());
  EXPECT_TRUE(is_kept(id_)) << "another session may come back for it";
  files_->end_grace();
  EXPECT_FALSE(is_kept(id_));
}

TEST_F(OpenFilesTest, Restart_WithoutGrace_RemovesNamelessFiles) {
  open(1, "file", id_);
  ASSERT_TRUE(files_->keep(dir_.fd(), "file", id_).has_value());
  start(false);
  EXPECT_FALSE(is_kept(id_));
  EXPECT_EQ(0u, files_->nameless_count());
}

TEST_F(OpenFilesTest, Restart_WhenTheFileHasAName_ForgetsThatItHadNone) {
  dir_.make_file("name");
  ASSERT_EQ(0, ::linkat(dir_.fd(), "name", kept_.get(), id_.hex().c_str(), 0));
  start(true);
  EXPECT_FALSE(is_kept(id_));
  EXPECT_FALSE(files_->is_nameless(id_));
  EXPECT_TRUE(exists("name"));
}

TEST_F(OpenFilesTest, Reclaim_SentTwice_IsOneOpen) {
  auto first = open(1, "file", id_, 77), second = open(1, "file", id_, 77);
  EXPECT_EQ(first, second);
  EXPECT_EQ(1u, files_->count());
  auto stranger = files_->insert(1, Id::random(), dir_.make_file("other"), O_RDWR, 77);
  EXPECT_EQ(wire::kOpenUnknown, stranger.error().code);
  ASSERT_TRUE(files_->close(1, 77).has_value());
  EXPECT_FALSE(files_->is_open(id_));
}

TEST_F(OpenFilesTest, Close_WhileInUse_LeavesTheDescriptor) {
  auto file = open(1, "file", id_);
  ASSERT_TRUE(files_->close(1, file->number).has_value());
  EXPECT_EQ(1, ::write(file->fd.get(), "x", 1));
}

TEST_F(OpenFilesTest, ManyThreads_OpeningAndClosing_LeaveNothing) {
  std::vector<std::thread> threads;
  for (uint64_t t = 1; t <= 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        auto file = files_->insert(t, id_, unique_fd(::dup(dir_.fd())), O_RDONLY);
        if (!file || files_->find(t, (*file)->number) != *file) ADD_FAILURE();
        if (i % 2 == 0 && !files_->close(t, (*file)->number)) ADD_FAILURE();
      }
      files_->close_session(t);
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0u, files_->count());
  EXPECT_FALSE(files_->is_open(id_));
}

}  // namespace
}  // namespace voldfs::store
