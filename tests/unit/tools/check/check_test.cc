#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <fstream>
#include <functional>

#include "brick/store/handle.h"
#include "brick/store/record.h"
#include "brick/store/store.h"
#include "brick/store/xattr.h"
#include "tests/unit/brick/store/scratch_directory.h"
#include "tools/check/check_brick.h"
#include "tools/check/check_volume.h"
#include "tools/check/export.h"
#include "tools/check/repair.h"
#include "tools/check/report.h"

namespace voldfs::check {
namespace {

using store::Store;

constexpr int kBricks = 2;

// A volume of two bricks, made by hand as FORMAT.md says, sound to begin with: the directory /d with its home on one
// and its backup and a member's copy on the other, files on either, a stub and the file that it leads to.
class CheckTest : public testing::Test {
 protected:
  CheckTest() {
    map_.volume = Id::random(), map_.name = "test", map_.incarnation = Id::random(), map_.root_home = 1;
    std::vector<dht::Target> targets;
    for (uint16_t ordinal = 1; ordinal <= kBricks; ++ordinal) {
      dht::BrickEntry brick;
      brick.id = Id::random(), brick.ordinal = ordinal, brick.node = "node", brick.host = "127.0.0.1";
      brick.port = static_cast<uint16_t>(24200 + ordinal), brick.path = path(ordinal);
      targets.push_back({ordinal, brick.id, brick.weight});
      map_.bricks.push_back(brick);
    }
    map_.layouts.emplace_back(1, dht::HashRule::kXxh3Rendezvous1, targets);
    const std::string file = scratch_ / "map.json";
    std::ofstream(file) << map_.to_json();
    std::ofstream(file + ".secret") << std::string(64, 'a') << "\n";
    EXPECT_EQ(0, ::chmod((file + ".secret").c_str(), 0600));
    for (uint16_t ordinal = 1; ordinal <= kBricks; ++ordinal) {
      EXPECT_EQ(0, ::mkdir(path(ordinal).c_str(), 0755));
      store::StoreOptions options;
      options.path = path(ordinal), options.map_file = file, options.min_free_percent = 0;
      auto made = Store::init(options);
      if (!made) ADD_FAILURE() << made.error();
      for (const char* folder : {"index", "tmp", "open", "parked", "txn", "tombs", "sessions"}) {
        ::mkdir((path(ordinal) + "/.voldfs/" + folder).c_str(), 0700);  // there already, as the case may be
      }
    }
    populate();
  }

  std::string path(uint16_t ordinal) const { return scratch_ / ("brick" + std::to_string(ordinal)); }
  uint16_t place(const Id& dir, const std::string& name) const { return map_.newest_layout().place(dir, name); }
  std::string name_on(const Id& dir, uint16_t ordinal, const std::string& stem) const {
    for (int i = 0;; ++i) {
      std::string name = stem + std::to_string(i);
      if (place(dir, name) == ordinal) return name;
    }
  }

  void write_record(const std::string& where, const wire::DirRecord& record) {
    unique_fd fd(::open(where.c_str(), O_RDONLY | O_DIRECTORY));
    ASSERT_TRUE(store::set_xattr(fd.get(), store::kXattrDir, store::encode_directory(record)).has_value());
  }
  wire::DirRecord read_record(const std::string& where) {
    unique_fd fd(::open(where.c_str(), O_RDONLY | O_DIRECTORY));
    return *store::decode_directory(*store::read_xattr(fd.get(), store::kXattrDir), *store::get_id(fd.get()));
  }
  void edit_record(const std::string& where, const std::function<void(wire::DirRecord&)>& edit) {
    wire::DirRecord record = read_record(where);
    edit(record);
    write_record(where, record);
  }
  void make_directory(uint16_t ordinal, const std::string& name, const wire::DirRecord& record) {
    const std::string where = path(ordinal) + "/" + name;
    ASSERT_EQ(0, ::mkdir(where.c_str(), 0755));
    unique_fd fd(::open(where.c_str(), O_RDONLY | O_DIRECTORY)), root(::open(path(ordinal).c_str(), O_RDONLY));
    ASSERT_TRUE(store::set_id(fd.get(), record.id).has_value());
    write_record(where, record);
    const std::array<uint8_t, 16> no_key{};
    const std::string hex = record.id.hex();
    const std::string bucket = path(ordinal) + "/.voldfs/index/" + hex.substr(0, 2);
    ::mkdir(bucket.c_str(), 0700);
    ASSERT_EQ(0, ::symlink(store::Handles(root.get(), no_key).index_text(fd.get())->c_str(),
                           (bucket + "/" + hex).c_str()));
  }
  Id make_file(const std::string& where, std::string_view content = "content", std::optional<Id> id = {}) {
    std::ofstream(where) << content;
    if (!id) id = Id::random();
    EXPECT_TRUE(store::set_id_at(AT_FDCWD, where.c_str(), *id).has_value());
    return *id;
  }
  void make_stub(const std::string& where, uint16_t brick, const Id& object,
                 wire::ObjectType type = wire::ObjectType::kFile) {
    wire::Link link{};
    link.brick = map_.brick(brick)->id, link.object = object, link.state = wire::LinkState::kCommitted, link.type = type;
    unique_fd fd(::open(where.c_str(), O_CREAT | O_RDWR, 0600));
    ASSERT_EQ(0, ::fchmod(fd.get(), store::kStubMode));
    ASSERT_TRUE(store::set_xattr(fd.get(), store::kXattrLink, store::encode_link(link)).has_value());
  }

  void populate() {
    wire::DirRecord record{};
    record.id = dir_ = Id::random(), record.parent = kRootId, record.epoch = 1, record.change = 1;
    home_ = place(kRootId, "d"), other_ = static_cast<uint16_t>(3 - home_);
    record.home = home_, record.backup = other_;
    record.set.add(home_), record.set.add(other_);
    record.role = wire::kRoleHome | wire::kRoleMember;
    make_directory(home_, "d", record);
    record.role = wire::kRoleBackup | wire::kRoleMember;
    make_directory(other_, "d", record);
    edit_record(path(home_), [](wire::DirRecord& root) { root.subdirectories = 1; });
    at_home_ = path(home_) + "/d/", elsewhere_ = path(other_) + "/d/";
    home_file_ = name_on(dir_, home_, "f"), other_file_ = name_on(dir_, other_, "f");
    make_file(at_home_ + home_file_);
    make_file(elsewhere_ + other_file_);
    stubbed_ = name_on(dir_, home_, "s");
    make_stub(at_home_ + stubbed_, other_, stubbed_id_ = make_file(elsewhere_ + stubbed_));
  }

  Findings check() {
    std::vector<std::unique_ptr<BrickScan>> scans = scan();
    Findings findings;
    for (const auto& scan : scans) {
      const Findings more = check_brick(*scan);
      findings.insert(findings.end(), more.begin(), more.end());
    }
    const Findings more = check_volume(scans, map_);
    findings.insert(findings.end(), more.begin(), more.end());
    return findings;
  }
  std::vector<std::unique_ptr<BrickScan>> scan() {
    std::vector<std::unique_ptr<BrickScan>> scans;
    for (uint16_t ordinal = 1; ordinal <= kBricks; ++ordinal) {
      auto scanned = scan_brick(path(ordinal));
      if (!scanned) ADD_FAILURE() << scanned.error();
      if (scanned) scans.push_back(std::move(*scanned));
    }
    return scans;
  }
  // Exactly findings of this kind and severity, and of no other.
  void expect(Severity severity, const std::string& kind) {
    const Findings findings = check();
    const auto fits = [&](const Finding& finding) { return finding.severity == severity && finding.kind == kind; };
    EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), fits)) << "no " << kind << " in:\n" << to_text(findings);
    EXPECT_TRUE(std::all_of(findings.begin(), findings.end(), fits)) << to_text(findings);
    EXPECT_EQ(severity != Severity::kError, is_clean(findings, false));
    EXPECT_EQ(severity == Severity::kNote, is_clean(findings, true));
  }
  void expect_error(const std::string& kind) { expect(Severity::kError, kind); }

  store::ScratchDirectory scratch_;
  dht::VolumeMap map_;
  Id dir_, stubbed_id_;
  uint16_t home_ = 0, other_ = 0;
  std::string at_home_, elsewhere_;                // "…/d/" on either brick
  std::string home_file_, other_file_, stubbed_;   // names in d
};

TEST_F(CheckTest, SoundVolume_HasNoFindings) { EXPECT_EQ("0 errors, 0 pending, 0 notes\n", to_text(check())); }

TEST_F(CheckTest, NoBrick_IsRefused) {
  EXPECT_FALSE(scan_brick(scratch_.path()).has_value());
  EXPECT_FALSE(scan_brick(scratch_ / "nowhere").has_value());
}

TEST_F(CheckTest, ServedBrick_IsRefused) {
  unique_fd lock(::open((path(1) + "/.voldfs/lock").c_str(), O_RDWR | O_CREAT, 0600));
  ASSERT_EQ(0, ::flock(lock.get(), LOCK_EX));
  EXPECT_FALSE(scan_brick(path(1)).has_value());
}

TEST_F(CheckTest, KeyReadableByOthers_IsFound) {
  ASSERT_EQ(0, ::chmod((path(1) + "/.voldfs/key").c_str(), 0644));
  expect_error("secret");
}

TEST_F(CheckTest, RootWithAnotherId_IsFound) {
  ASSERT_TRUE(store::set_id_at(AT_FDCWD, path(1).c_str(), Id::random()).has_value());
  const Findings findings = check();
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const auto& f) { return f.kind == "root-id"; }));
}

TEST_F(CheckTest, TwoFilesOfOneId_OnOneBrick_AreFound) {
  const Id id = make_file(at_home_ + name_on(dir_, home_, "one"));
  make_file(at_home_ + name_on(dir_, home_, "two"), "x", id);
  expect_error("id-twice");
}

TEST_F(CheckTest, HardLinks_OfOneId_AreNot) {
  const std::string name = name_on(dir_, home_, "link");
  ASSERT_EQ(0, ::link((at_home_ + home_file_).c_str(), (at_home_ + name).c_str()));
  EXPECT_TRUE(check().empty());
}

TEST_F(CheckTest, TwoFilesOfOneId_OnTwoBricks_AreFound) {
  const Id id = make_file(at_home_ + name_on(dir_, home_, "one"));
  make_file(elsewhere_ + name_on(dir_, other_, "two"), "x", id);
  expect_error("id-twice");
}

TEST_F(CheckTest, UnreadableRecord_IsFound) {
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, elsewhere_.substr(0, elsewhere_.size() - 1).c_str(), store::kXattrDir,
                                  std::as_bytes(std::span("rubbish", 7))).has_value());
  const Findings findings = check();
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const auto& f) { return f.kind == "record"; }));
}

TEST_F(CheckTest, RoleAgainstRecord_IsFound) {
  edit_record(elsewhere_, [&](auto& record) { record.backup = home_; });
  expect_error("record");
}

TEST_F(CheckTest, HomeInAnotherDirectory_IsFound) {
  edit_record(at_home_, [&](auto& record) { record.parent = Id::random(); });
  expect_error("record");
}

TEST_F(CheckTest, EpochBeyondTheMap_IsFound) {
  edit_record(path(1), [](auto& record) { record.epoch = 7; });
  edit_record(path(2), [](auto& record) { record.epoch = 7; });
  expect_error("record");
}

TEST_F(CheckTest, RemovalUnderWay_IsPending) {
  edit_record(at_home_, [](auto& record) { record.state = wire::DirState::kRemoving; });
  expect(Severity::kPending, "state");
}

TEST_F(CheckTest, MemberThatHomeDoesNotKnow_IsFound) {
  edit_record(at_home_, [&](auto& record) { record.set.remove(other_); });
  expect_error("set");
}

TEST_F(CheckTest, CopyNewerThanHome_IsFound) {
  edit_record(elsewhere_, [](auto& record) { record.change = 9; });
  expect_error("change");
}

TEST_F(CheckTest, BackupBehindHome_IsPending) {
  edit_record(at_home_, [](auto& record) { record.change = 9; });
  expect(Severity::kPending, "backup");
}

TEST_F(CheckTest, CopyWithoutHome_IsFound) {
  wire::DirRecord record = read_record(elsewhere_);
  record.id = Id::random(), record.backup = home_, record.role = wire::kRoleMember;
  make_directory(other_, "lost", record);
  expect_error("no-home");
}

TEST_F(CheckTest, FileInADirectoryThatIsNotMember_IsFound) {
  edit_record(at_home_, [&](auto& record) { record.set.remove(other_); });
  edit_record(elsewhere_, [&](auto& record) { record.set.remove(other_), record.role = wire::kRoleBackup; });
  expect_error("membership");
}

TEST_F(CheckTest, Index_MissingWrongOrLeftOver_IsFoundAndRepaired) {
  const std::string entry = path(home_) + "/.voldfs/index/" + dir_.hex().substr(0, 2) + "/" + dir_.hex();
  ASSERT_EQ(0, ::unlink(entry.c_str()));
  expect_error("index");
  ASSERT_EQ(0, ::symlink("1:00", entry.c_str()));
  expect_error("index");
  const Id gone = Id::random();
  const std::string bucket = path(other_) + "/.voldfs/index/" + gone.hex().substr(0, 2);
  ::mkdir(bucket.c_str(), 0700);
  ASSERT_EQ(0, ::symlink("1:00", (bucket + "/" + gone.hex()).c_str()));
  Findings findings = check();
  repair(scan(), map_, findings);
  EXPECT_TRUE(is_clean(findings, true)) << to_text(findings);
  EXPECT_EQ("0 errors, 0 pending, 0 notes\n", to_text(check()));
}

TEST_F(CheckTest, WrongCounter_IsFoundAndRepaired) {
  edit_record(path(home_), [](auto& record) { record.subdirectories = 5; });
  expect_error("subdirectories");
  Findings findings = check();
  repair(scan(), map_, findings);
  EXPECT_TRUE(check().empty());
  EXPECT_EQ(1u, read_record(path(home_)).subdirectories);
}

TEST_F(CheckTest, StubToNothing_IsFound) {
  ASSERT_EQ(0, ::unlink((elsewhere_ + stubbed_).c_str()));
  expect_error("stub-dangling");
}

TEST_F(CheckTest, StubToAnUnknownBrick_IsFound) {
  wire::Link link{};
  link.brick = Id::random(), link.object = Id::random(), link.state = wire::LinkState::kCommitted;
  link.type = wire::ObjectType::kFile;
  const std::string where = at_home_ + name_on(dir_, home_, "far");
  make_stub(where, other_, link.object);
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, where.c_str(), store::kXattrLink, store::encode_link(link)).has_value());
  expect_error("stub-dangling");
}

TEST_F(CheckTest, StubWithModeDataOrId_IsFound) {
  const std::string where = at_home_ + stubbed_;
  ASSERT_EQ(0, ::chmod(where.c_str(), 0644));
  expect_error("stub");
  ASSERT_EQ(0, ::chmod(where.c_str(), store::kStubMode));
  EXPECT_TRUE(check().empty());
  ASSERT_EQ(0, ::truncate(where.c_str(), 1));
  expect_error("stub");
  ASSERT_EQ(0, ::truncate(where.c_str(), 0));
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, where.c_str(), store::kXattrLink, std::as_bytes(std::span("x", 1))).has_value());
  const Findings findings = check();
  EXPECT_TRUE(std::any_of(findings.begin(), findings.end(), [](const auto& f) { return f.kind == "stub"; }));
}

TEST_F(CheckTest, StubOffItsAuthority_IsFound) {
  make_stub(elsewhere_ + name_on(dir_, home_, "astray"), other_, stubbed_id_);
  expect_error("stub-misplaced");
}

TEST_F(CheckTest, FileOffItsAuthorityWithoutStub_IsFound) {
  make_file(elsewhere_ + name_on(dir_, home_, "orphan"));
  expect_error("orphan");
}

TEST_F(CheckTest, FileUnderAnotherPathThanItsStub_IsPending) {
  ASSERT_EQ(0, ::rename((elsewhere_ + stubbed_).c_str(), (elsewhere_ + name_on(dir_, home_, "old")).c_str()));
  expect(Severity::kPending, "unsettled");
}

TEST_F(CheckTest, DirectoryOffItsAuthority_IsFound) {
  ASSERT_EQ(0, ::rename((path(home_) + "/d").c_str(), (path(home_) + "/" + name_on(kRootId, other_, "e")).c_str()));
  edit_record(path(home_), [](auto& record) { record.subdirectories = 0; });
  expect_error("orphan");
}

TEST_F(CheckTest, LeavingMark_IsPending) {
  const store::Leaving mark{dir_, Id::random(), map_.bricks[0].id, home_file_};
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, (at_home_ + home_file_).c_str(), store::kXattrLeaving,
                                  store::encode_leaving(mark)).has_value());
  expect(Severity::kPending, "leaving");
}

TEST_F(CheckTest, Leftovers_ArePending) {
  const std::string dot = path(1) + "/.voldfs/";
  std::ofstream(dot + "tmp/x");
  expect(Severity::kPending, "tmp");
  ASSERT_EQ(0, ::unlink((dot + "tmp/x").c_str()));
  const std::string transaction = dot + "txn/" + Id::random().hex();
  std::ofstream(transaction).flush();
  expect(Severity::kPending, "transaction");
  ASSERT_EQ(0, ::unlink(transaction.c_str()));
  const Id open = Id::random();
  make_file(dot + "open/" + open.hex(), "x", open);
  expect(Severity::kPending, "open");
  make_file(dot + "open/" + open.hex(), "x", Id::random());
  expect_error("open");
}

TEST_F(CheckTest, DirectoryWithATombstone_IsFound) {
  const std::string bucket = path(home_) + "/.voldfs/tombs/" + dir_.hex().substr(0, 2);
  ASSERT_EQ(0, ::mkdir(bucket.c_str(), 0700));
  std::ofstream(bucket + "/" + dir_.hex()).flush();
  expect_error("tombstone");
}

TEST_F(CheckTest, FileWithoutId_IsPendingOrANote) {
  std::ofstream(at_home_ + name_on(dir_, home_, "new")).flush();
  expect(Severity::kPending, "no-id");
  for (const std::string& where : {at_home_, elsewhere_}) edit_record(where, [](auto& record) { record.epoch = 0; });
  expect(Severity::kNote, "no-id");
}

TEST_F(CheckTest, IdOfAnotherSize_IsFound) {
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, (at_home_ + home_file_).c_str(), store::kXattrId,
                                  std::as_bytes(std::span("short", 5))).has_value());
  expect_error("id");
}

TEST_F(CheckTest, BrickOfAnotherVolume_IsFound) {
  map_.volume = Id::random();
  expect_error("volume");
}

TEST_F(CheckTest, Json_SaysTheSame) {
  ASSERT_EQ(0, ::unlink((elsewhere_ + stubbed_).c_str()));
  const std::string json = to_json(check(), false);
  EXPECT_NE(std::string::npos, json.find("\"clean\": false"));
  EXPECT_NE(std::string::npos, json.find("\"kind\": \"stub-dangling\""));
}

TEST_F(CheckTest, Export_HasThePlainFilesAndNothingElse) {
  ASSERT_EQ(0, ::symlink("target", (at_home_ + "link").c_str()));
  ASSERT_EQ(0, ::chmod((at_home_ + home_file_).c_str(), 0640));
  ASSERT_EQ(0, ::chown((at_home_ + home_file_).c_str(), 1000, 1001));
  ASSERT_TRUE(store::set_xattr_at(AT_FDCWD, (at_home_ + home_file_).c_str(), "user.kept",
                                  std::as_bytes(std::span("1", 1))).has_value());
  ASSERT_EQ(0, ::link((at_home_ + home_file_).c_str(), (at_home_ + "hard").c_str()));
  ASSERT_EQ(0, ::truncate((elsewhere_ + other_file_).c_str(), 10 << 20));
  const std::string copy = scratch_ / "copy";
  auto findings = export_files(scan(), map_, copy);
  ASSERT_TRUE(findings.has_value()) << findings.error();
  EXPECT_TRUE(findings->empty()) << to_text(*findings);

  const auto names = *list_names(AT_FDCWD, (copy + "/d").c_str());
  std::vector<std::string> expected{home_file_, other_file_, stubbed_, "link", "hard"};
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(expected, names);
  EXPECT_EQ(1u, list_names(AT_FDCWD, copy.c_str())->size());
  struct stat file{}, hard{}, sparse{}, stubbed{};
  ASSERT_EQ(0, ::stat((copy + "/d/" + home_file_).c_str(), &file));
  ASSERT_EQ(0, ::stat((copy + "/d/hard").c_str(), &hard));
  ASSERT_EQ(0, ::stat((copy + "/d/" + other_file_).c_str(), &sparse));
  ASSERT_EQ(0, ::stat((copy + "/d/" + stubbed_).c_str(), &stubbed));
  EXPECT_EQ(0640u, file.st_mode & 07777);
  EXPECT_EQ(1001u, file.st_gid);
  EXPECT_EQ(file.st_ino, hard.st_ino);
  EXPECT_EQ(7, stubbed.st_size) << "the file, not its stub";
  EXPECT_EQ(10 << 20, sparse.st_size);
  EXPECT_LT(sparse.st_blocks, 64) << "holes stay holes";
  EXPECT_EQ(std::string("user.kept") + '\0', *store::list_xattrs_at(AT_FDCWD, (copy + "/d/" + home_file_).c_str()));
  EXPECT_FALSE(export_files(scan(), map_, copy).has_value()) << "it is not empty any more";
}

}  // namespace
}  // namespace voldfs::check
