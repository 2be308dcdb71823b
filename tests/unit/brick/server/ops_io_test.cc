#include "brick/server/ops_io.h"

#include <linux/falloc.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <sstream>
#include <thread>

#include "brick/store/object_io.h"
#include "tests/unit/brick/server/test_brick.h"

namespace voldfs::server {
namespace {

using wire::Op;
constexpr uint32_t kAppend = 1, kSync = 4, kKillPrivileges = 8;

class OpsIoTest : public testing::Test {
 protected:
  uint32_t open(const wire::ObjectRef& ref, uint32_t flags, uint64_t session = 1) {
    wire::OpenBody body{};
    body.object = ref, body.flags = flags;
    TestBrick::Caller caller;
    caller.session = session;
    const auto answer = brick_.call(Op::kOpen, body, {}, {}, caller);
    EXPECT_EQ(0, answer.status);
    return answer.body<wire::EntryBody>().open;
  }
  TestBrick::Answer write(uint32_t open, uint64_t offset, std::string_view data, uint32_t flags = 0,
                          const TestBrick::Caller& caller = {}) {
    wire::IoBody body{};
    body.open = open, body.offset = offset, body.size = static_cast<uint32_t>(data.size()), body.flags = flags;
    return brick_.call(Op::kWrite, body, {}, data, caller);
  }
  TestBrick::Answer read(uint32_t open, uint64_t offset, uint32_t size) {
    wire::IoBody body{};
    body.open = open, body.offset = offset, body.size = size;
    return brick_.call(Op::kRead, body);
  }
  std::string content(const std::string& name) {
    std::ostringstream out;
    out << std::ifstream(brick_ / name).rdbuf();
    return out.str();
  }

  TestBrick brick_;
};

TEST_F(OpsIoTest, WriteThenRead_GivesItBack) {
  const uint32_t file = open(brick_.make_file("file"), O_RDWR);
  const auto written = write(file, 10, "hello", kSync);
  ASSERT_EQ(0, written.status);
  const auto reply = written.body<wire::WriteReply>();
  EXPECT_EQ(10u, reply.offset);
  EXPECT_EQ(5u, reply.size);
  EXPECT_EQ(15u, reply.attr.size);
  EXPECT_TRUE(written.notes.empty());
  EXPECT_EQ("hello", read(file, 10, 100).text());
  EXPECT_EQ("", read(file, 15, 100).text());
  EXPECT_EQ(std::string(10, '\0') + "hello", content("file"));
}

TEST_F(OpsIoTest, Write_ThroughAReadersOpen_IsRefused) {
  const uint32_t file = open(brick_.make_file("file"), O_RDONLY);
  EXPECT_EQ(EBADF, write(file, 0, "x").status);
  EXPECT_EQ(wire::kOpenUnknown, write(file + 1, 0, "x").status);
}

TEST_F(OpsIoTest, Read_ThroughAWritersOpen_Works) {
  const uint32_t file = open(brick_.make_file("file", "content"), O_WRONLY);
  EXPECT_EQ("content", read(file, 0, 100).text());
}

TEST_F(OpsIoTest, Read_ByHandleWithoutOpen_Works) {
  wire::IoBody body{};
  body.object = brick_.make_file("file", "content"), body.size = 7;
  EXPECT_EQ("content", brick_.call(Op::kRead, body).text());
  body.object.handle.mac ^= 1;
  EXPECT_EQ(wire::kStaleHandle, brick_.call(Op::kRead, body).status);
}

TEST_F(OpsIoTest, HostileSizesAndOffsets_AreRefused) {
  const uint32_t file = open(brick_.make_file("file"), O_RDWR);
  EXPECT_EQ(EINVAL, read(file, 0, wire::kDataMax + 1).status);
  EXPECT_EQ(EINVAL, read(file, UINT64_MAX, 10).status);
  EXPECT_EQ(EFBIG, write(file, UINT64_MAX - 1, "x").status);
  wire::IoBody body{};
  body.open = file, body.size = 100;
  EXPECT_EQ(EPROTO, brick_.call(Op::kWrite, body, {}, "short").status);
}

TEST_F(OpsIoTest, Append_NotesWhereItGoes) {
  const uint32_t file = open(brick_.make_file("file", "12345"), O_WRONLY | O_APPEND);
  const auto answer = write(file, 0, "678", kAppend);
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(5u, answer.body<wire::WriteReply>().offset);
  ASSERT_EQ(1u, answer.notes.size());
  EXPECT_EQ(5u, answer.notes[0].offset);
  EXPECT_EQ(3u, answer.notes[0].size);
  EXPECT_EQ("12345678", content("file"));
}

TEST_F(OpsIoTest, Append_ByManyThreads_LosesNothing) {
  const wire::ObjectRef ref = brick_.make_file("file");
  constexpr int kThreads = 4, kEach = 200;
  auto file = brick_.store().handles().open(ref, O_RDWR);
  ASSERT_TRUE(file.has_value());
  std::atomic<int> misplaced = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      auto object = store::find_file(brick_.store(), 1, ref, 0, O_RDWR);
      for (int i = 0; i < kEach; ++i) {
        const std::string line = std::to_string(t * kEach + i + 10000) + "\n";
        uint64_t planned = 0;
        store::WriteHow how;
        how.append = true;
        auto written = store::write_file(brick_.store(), *object, std::as_bytes(std::span(line)), 0, how,
                                         {static_cast<uint32_t>(t), 0, 0}, [&](uint64_t at) { planned = at; });
        if (!written || written->offset != planned) ++misplaced;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(0, misplaced);
  std::vector<bool> seen(kThreads * kEach);
  std::ifstream in(brick_ / "file");
  for (int number; in >> number;) seen.at(static_cast<size_t>(number - 10000)) = true;
  EXPECT_EQ(0, std::count(seen.begin(), seen.end(), false));
}

TEST_F(OpsIoTest, Write_WithKillPrivileges_TakesSuidAwayAlsoForRoot) {
  const uint32_t file = open(brick_.make_file("file", "", 06755), O_RDWR);
  EXPECT_EQ(06755u, write(file, 0, "x").body<wire::WriteReply>().attr.mode & 07777);
  EXPECT_EQ(0755u, write(file, 0, "x", kKillPrivileges).body<wire::WriteReply>().attr.mode & 07777);
}

TEST_F(OpsIoTest, Fsync_OfFileAndDirectory_Succeeds) {
  wire::IoBody body{};
  body.open = open(brick_.make_file("file", "x"), O_RDWR);
  EXPECT_EQ(0, brick_.call(Op::kFsync, body).status);
  wire::IoBody directory{};
  directory.object.id = kRootId;
  EXPECT_EQ(0, brick_.call(Op::kFsync, directory).status);
}

TEST_F(OpsIoTest, EverythingOnAnOpen_AfterItsFsyncFailed_IsEio) {
  const wire::ObjectRef ref = brick_.make_file("file", "x");
  const uint32_t file = open(ref, O_RDWR);
  brick_.store().open_files().find(1, file)->failed = true;
  wire::IoBody body{};
  body.open = file;
  EXPECT_EQ(EIO, brick_.call(Op::kFsync, body).status);
  EXPECT_EQ(EIO, read(file, 0, 1).status);
  EXPECT_EQ(EIO, write(file, 0, "y").status);
  EXPECT_EQ(0, write(open(ref, O_RDWR), 0, "y").status) << "reopened";
}

TEST_F(OpsIoTest, Fallocate_EachMode_DoesWhatItSays) {
  wire::FallocateBody body{};
  body.open = open(brick_.make_file("file", std::string(10000, 'x')), O_RDWR);
  body.length = 20000;
  ASSERT_EQ(0, brick_.call(Op::kFallocate, body).status);
  EXPECT_EQ(20000u, content("file").size());
  body.mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, body.offset = 0, body.length = 4096;
  ASSERT_EQ(0, brick_.call(Op::kFallocate, body).status);
  EXPECT_EQ(std::string(4096, '\0'), content("file").substr(0, 4096));
  body.mode = FALLOC_FL_ZERO_RANGE, body.offset = 4096;
  ASSERT_EQ(0, brick_.call(Op::kFallocate, body).status);
  EXPECT_EQ(std::string(8192, '\0'), content("file").substr(0, 8192));
  for (int mode : {FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE, FALLOC_FL_UNSHARE_RANGE}) {
    body.mode = static_cast<uint32_t>(mode);
    EXPECT_EQ(EOPNOTSUPP, brick_.call(Op::kFallocate, body).status) << mode;
  }
}

TEST_F(OpsIoTest, Lseek_FindsDataAndHoles) {
  const uint32_t file = open(brick_.make_file("file"), O_RDWR);
  ASSERT_EQ(0, write(file, 1 << 20, "data").status);
  wire::LseekBody body{};
  body.open = file, body.whence = SEEK_DATA;
  EXPECT_EQ(1u << 20, brick_.call(Op::kLseek, body).body<wire::OffsetReply>().offset);
  body.whence = SEEK_HOLE;
  EXPECT_EQ(0u, brick_.call(Op::kLseek, body).body<wire::OffsetReply>().offset);
  body.offset = 2 << 20, body.whence = SEEK_DATA;
  EXPECT_EQ(ENXIO, brick_.call(Op::kLseek, body).status);
  body.whence = SEEK_SET;
  EXPECT_EQ(EINVAL, brick_.call(Op::kLseek, body).status);
}

TEST_F(OpsIoTest, CopyRange_CopiesToTheSourcesEnd) {
  const std::string data(300000, 'd');
  wire::CopyRangeBody body{};
  body.open_from = open(brick_.make_file("from", data), O_RDONLY);
  body.open_to = open(brick_.make_file("to"), O_WRONLY);
  body.offset_to = 5, body.size = UINT64_MAX;
  const auto answer = brick_.call(Op::kCopyRange, body);
  ASSERT_EQ(0, answer.status);
  EXPECT_EQ(data.size(), answer.body<wire::WriteReply>().size);
  EXPECT_EQ(std::string(5, '\0') + data, content("to"));
  body.open_to = body.open_from, body.size = 1;
  EXPECT_EQ(EBADF, brick_.call(Op::kCopyRange, body).status);
}

// 8 TiB as the goal says; sparse, so that it costs nothing.
TEST_F(OpsIoTest, AFileOfEightTebibytes_IsWrittenAndRead) {
  constexpr uint64_t kEnd = 8ull << 40;
  const uint32_t file = open(brick_.make_file("file"), O_RDWR);
  ASSERT_EQ(0, write(file, kEnd - 4, "last").status);
  EXPECT_EQ("last", read(file, kEnd - 4, 10).text());
}

}  // namespace
}  // namespace voldfs::server
