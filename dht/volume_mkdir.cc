#include <algorithm>

#include <spdlog/spdlog.h>

#include "dht/volume_create.h"
#include "dht/volume_lookup.h"

namespace voldfs::dht {

namespace {

constexpr int kMkdirTriesMax = 16;

struct Birth {
  uint16_t home = 0, backup = 0;
  wire::DirRecord record{};
};

// Home is the name's authority, the backup the next in rank; both stay what they are whatever the name becomes.
Result<Birth> plan(const Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Id& id) {
  const auto map = volume.map();
  const wire::DirRecord parent = dir->record();
  const Layout* layout = map->layout(parent.epoch);
  if (!layout) return fail(EIO);
  const std::vector<uint16_t> rank = layout->rank(parent.id, name, volume.dir_copies());
  if (rank.empty()) return fail(EIO);
  Birth birth;
  birth.home = rank[0];
  birth.backup = rank.size() > 1 ? rank[1] : uint16_t{0};
  birth.record.id = id;
  birth.record.parent = parent.id;
  birth.record.epoch = map->newest_layout().epoch();
  birth.record.home = birth.home;
  birth.record.backup = birth.backup;
  birth.record.change = 1;
  birth.record.home_generation = 1;
  birth.record.set.add(birth.home);
  return birth;
}

wire::Request request_for(const Birth& birth, uint16_t ordinal, wire::DirRef parent, std::string_view name,
                          uint32_t mode) {
  wire::MkdirBody body{parent, mode, 0, birth.record};
  body.record.role = ordinal == birth.home ? wire::kRoleHome | wire::kRoleMember : wire::kRoleBackup;
  if (ordinal != birth.home) body.dir.change = 0;  // the copy's attributes are refreshed with the record
  return wire::Request(wire::Op::kMkdir, body, name);
}

// The copy at the backup. Whatever has its path there is no name, for this brick is not the authority.
void complete_backup(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Birth& birth, uint32_t mode,
                     Error error, const Caller& caller) {
  const Caller quick = unless_down(caller);
  for (int tries = 0; tries < kRetriesMax; ++tries) {
    Result<void> mended = fail(error);
    if (error.code == wire::kDirAbsent) mended = volume.make_skeleton(dir, birth.backup, quick);
    if (error.code == EEXIST || error.code == wire::kLeaving) mended = volume.park(birth.backup, dir, name, Id{}, quick);
    if (!mended) break;
    auto made = volume.call(birth.backup, request_for(birth, birth.backup, volume.dir_ref(dir), name, mode), quick);
    if (made) return;
    error = made.error();
  }
  // It is made when home's record is next brought to it; until then the directory has one brick only.
  if (error.code != EHOSTDOWN)
    spdlog::warn("backup_copy_missing brick={} dir={} error={}", birth.backup, birth.record.id.hex(), error.code);
}

// Home has refused: the copy that was made at the same time stands for nothing.
void drop_copy(Volume::Impl& volume, const Birth& birth, const Caller& caller) {
  const wire::RmdirBody body{{}, birth.record.id, Id::random(), wire::RemovePhase::kMember, 0};
  auto gone = volume.call(birth.backup, wire::Request(wire::Op::kRmdir, body), unless_down(caller));
  if (!gone)
    spdlog::info("stray_copy brick={} dir={} error={}", birth.backup, birth.record.id.hex(), gone.error().code);
}

// A new directory is empty until this mount makes a name in it, or one of the two bricks takes its word back: they may come to
// have names as they are, and before another brick does, home's set grows.
void note_empty(const NodePtr& dir, const Birth& birth, const wire::EntryBody& made, const Grant& home, const Grant& backup) {
  if (made.existed || birth.record.epoch == 0 || (birth.backup != 0 && backup.sequence == 0)) return;
  dir->use_known_names([&](KnownNames& names) {
    names.begin();
    names.complete(birth.backup == 0 ? std::vector{home} : std::vector{home, backup});
  });
}

}  // namespace

Result<Entry> Volume::mkdir(const NodePtr& dir, std::string_view name, uint32_t mode, const Caller& caller) {
  Impl& impl = *impl_;
  if (auto good = wire::check_name(name); !good) return fail(good.error());
  impl.will_make(dir, name);
  int waits = 0;
  for (int tries = 0; tries < kMkdirTriesMax;) {
    if (dir->record().epoch == 0) {
      auto there = resolve(impl, dir, name, caller);
      if (there) return fail(EEXIST);
      if (there.error().code != ENOENT) return fail(there.error());
    }
    auto birth = plan(impl, dir, name, Id::random());
    if (!birth) return fail(birth.error());
    const auto make_home = [&](const wire::DirRef& ref) { return request_for(*birth, birth->home, ref, name, mode); };

    Result<wire::Reply> home = fail(wire::kDirAbsent);
    int backup = EHOSTDOWN;  // 0: it has its copy
    Grant backup_grant;
    if (birth->backup != 0 && dir->record().set.has(birth->home)) {
      const wire::DirRef ref = impl.dir_ref(dir);
      Caller quick = caller;
      quick.only_if_up = true;  // the backup is not waited for; home is, below: the id makes the repetition the same
      for (Answer& answer : impl.ask({birth->home, birth->backup}, [&](uint16_t ordinal) {
             return request_for(*birth, ordinal, ref, name, mode);
           }, quick)) {
        const int code = answer.status ? 0 : answer.status.error().code;
        if (answer.ordinal == birth->backup) backup = code, backup_grant = grant_of(answer.reply);
        else if (code == 0) home = std::move(answer.reply);
        else home = fail(code);
      }
    }
    const bool again = !home && (home.error().code == EHOSTDOWN || home.error().code == wire::kDirAbsent ||
                                 home.error().code == wire::kDirBehind || home.error().code == wire::kDirRemoved ||
                                 home.error().code == wire::kEpochOld);
    if (again)
      home = impl.call_dir(birth->home, dir, IfAbsent::kMaterialize, make_home, caller);
    if (home) {
      auto body = home->body<wire::EntryBody>();
      if (!body) return fail(body.error());
      if (birth->backup != 0 && backup != 0)
        complete_backup(impl, dir, name, *birth, mode, Error(backup), caller);
      auto entry = impl.entry_from(*body, dir, name, birth->home, grant_of(*home));
      if (!entry) return entry;
      entry->attr.nlink = 2;
      note_empty(entry->node, *birth, *body, grant_of(*home), backup_grant);
      return entry;
    }
    if (birth->backup != 0 && backup == 0 && !is_unknown(home.error())) drop_copy(impl, *birth, caller);
    switch (home.error().code) {
      case EBUSY: case wire::kLeaving:
        if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return fail(waited.error());
        break;
      case EEXIST: case wire::kStub:
        ++tries;
        if (auto cleared = clear_copy(impl, dir, name, caller); !cleared) return fail(cleared.error());
        break;
      case wire::kEpochOld: ++tries; break;  // the record is the newest now
      default: return fail(home.error());
    }
  }
  return fail(EIO);
}

}  // namespace voldfs::dht
