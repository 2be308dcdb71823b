#pragma once

#include <fcntl.h>

#include "brick/store/directories.h"
#include "tests/unit/brick/server/test_brick.h"

namespace voldfs::server {

// Requests on names of a test's brick, as short as a test wants them.
class NamesTest : public ::testing::Test {
 protected:
  using Answer = TestBrick::Answer;
  using Op = wire::Op;

  static wire::DirRef ref(const Id& dir) { return {dir, 0, 1, 0}; }

  Answer lookup(const std::string& name, const Id& dir = kRootId) {
    return brick_.call(Op::kLookup, wire::NameBody{ref(dir)}, name);
  }
  Answer create(const std::string& name, uint32_t flags = O_RDWR, const Id& id = Id::random(), const Id& dir = kRootId) {
    return brick_.call(Op::kCreate, wire::CreateBody{ref(dir), id, 0644, flags}, name);
  }
  Id created(const std::string& name, const Id& dir = kRootId) {
    auto answer = create(name, O_RDWR, Id::random(), dir);
    EXPECT_EQ(0, answer.status) << name;
    const auto entry = answer.body<wire::EntryBody>();
    EXPECT_EQ(0, brick_.call(Op::kRelease, wire::OpenRef{entry.open, 0, 0}).status);
    return entry.object.id;
  }
  static wire::DirRecord record(const Id& id, const Id& parent, uint8_t role) {
    wire::DirRecord record{};
    record.id = id, record.parent = parent;
    record.epoch = 1, record.home = (role & wire::kRoleHome) ? 1 : 2, record.change = 1, record.role = role;
    if (role & wire::kRoleMember) record.set.add(1);
    return record;
  }
  Answer mkdir(const std::string& name, const Id& id = Id::random(), const Id& dir = kRootId,
               uint8_t role = wire::kRoleHome | wire::kRoleMember) {
    return brick_.call(Op::kMkdir, wire::MkdirBody{ref(dir), 0755, 0, record(id, dir, role)}, name);
  }
  Id made(const std::string& name, const Id& dir = kRootId) {
    const Id id = Id::random();
    EXPECT_EQ(0, mkdir(name, id, dir).status) << name;
    return id;
  }
  Answer materialize(const std::string& name, const Id& id, uint8_t role, const Id& dir = kRootId) {
    wire::MaterializeBody body{record(id, dir, role), {}};
    body.attr.mode = S_IFDIR | 0711, body.attr.uid = 12, body.attr.gid = 34;
    return brick_.call(Op::kMaterialize, body, name);
  }
  Answer unlink(const std::string& name, uint32_t flags = 0, const Id& expected = {}, const Id& dir = kRootId) {
    return brick_.call(Op::kUnlink, wire::UnlinkBody{ref(dir), expected, flags, 0, {}}, name);
  }
  Answer rmdir(const std::string& name, const Id& id, wire::RemovePhase phase = wire::RemovePhase::kWhole,
               const Id& txn = {}, const Id& dir = kRootId) {
    const wire::DirRef parent = phase == wire::RemovePhase::kMember ? wire::DirRef{} : ref(dir);
    return brick_.call(Op::kRmdir, wire::RmdirBody{parent, id, txn, phase, 0}, name);
  }
  Answer rename(const std::string& name, const std::string& to, uint32_t flags = 0, const Id& from_dir = kRootId,
                const Id& to_dir = kRootId, const Id& expected = {}, const Id& expected_target = {}) {
    const wire::RenameBody body{ref(from_dir), ref(to_dir), expected, expected_target, flags, 0};
    return brick_.call_names(Op::kRename, body, name, to);
  }
  Id id_at(const std::string& name, const Id& dir = kRootId) {
    auto answer = lookup(name, dir);
    return answer.status == 0 ? answer.body<wire::EntryBody>().object.id : Id{};
  }
  bool exists(const std::string& path) { return ::faccessat(AT_FDCWD, (brick_ / path).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0; }
  uint32_t subdirectories(const Id& dir) {
    auto found = brick_.store().directories().find(dir);
    EXPECT_TRUE(found.has_value());
    return found ? (*found)->record().subdirectories : ~0u;
  }
  timespec mtime(const std::string& path) {
    struct stat stat {};
    EXPECT_EQ(0, ::lstat((brick_ / path).c_str(), &stat));
    return stat.st_mtim;
  }
  void age(const std::string& path) {  // so that a change of the time shows
    const timespec old[2] = {{1000, 0}, {1000, 0}};
    EXPECT_EQ(0, ::utimensat(AT_FDCWD, (brick_ / path).c_str(), old, 0));
  }

  TestBrick brick_;
};

}  // namespace voldfs::server
