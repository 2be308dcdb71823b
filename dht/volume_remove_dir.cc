#include <algorithm>
#include <cstring>

#include <spdlog/spdlog.h>

#include "dht/dirent_view.h"
#include "dht/volume_remove.h"

// rmdir, whole or in phases.
namespace voldfs::dht {

namespace {

constexpr int kOrphanRoundsMax = 4;
constexpr uint32_t kOrphanPageSize = 256u << 10;

wire::Request removal_request(wire::RemovePhase phase, const wire::DirRef& parent, std::string_view name,
                              const Id& victim, const Id& txn) {
  return wire::Request(wire::Op::kRmdir, wire::RmdirBody{parent, victim, txn, phase, 0}, name);
}

bool is_gone(const Error& error) {
  return error.code == wire::kDirAbsent || error.code == wire::kDirRemoved || error.code == ENOENT;
}

// Everybody but home who has a copy: the set, and the backup.
std::vector<uint16_t> copies_of(const wire::DirRecord& record) {
  std::vector<uint16_t> ordinals;
  for (uint32_t ordinal = 1; ordinal <= wire::kOrdinalMax; ++ordinal)
    if (ordinal != record.home && (record.set.has(ordinal) || record.backup == ordinal))
      ordinals.push_back(static_cast<uint16_t>(ordinal));
  return ordinals;
}

// To all of the set at once. ENOTEMPTY of one wins over everything else. The backup's copy, when it is not in the set, holds no
// name and may be down.
Result<void> ask_members(Volume::Impl& volume, const wire::DirRecord& record, const Id& txn, const Caller& caller) {
  const auto make = [&](uint16_t) { return removal_request(wire::RemovePhase::kMember, {}, {}, record.id, txn); };
  std::vector<uint16_t> members = copies_of(record);
  const bool backup_alone = record.backup != 0 && !record.set.has(record.backup);
  if (backup_alone) std::erase(members, record.backup);
  Result<void> result;
  for (const Answer& answer : volume.ask(members, make, caller)) {
    if (answer.status || is_gone(answer.status.error())) continue;
    if (result || answer.status.error().code == ENOTEMPTY) result = answer.status;
  }
  return result;
}

// The copy that only stands in for home: it would tell of a directory that is not, should home go down now.
void drop_backup(Volume::Impl& volume, const wire::DirRecord& record, const Id& txn) {
  if (record.backup == 0 || record.set.has(record.backup)) return;
  volume.chores.add([&volume, brick = record.backup, id = record.id, txn] {
    const auto gone = volume.call(brick, removal_request(wire::RemovePhase::kMember, {}, {}, id, txn), unless_down({}));
    if (!gone && !is_gone(gone.error()) && gone.error().code != EHOSTDOWN)
      spdlog::warn("backup_copy_stays brick={} dir={} error={}", brick, id.hex(), gone.error().code);
  });
}

// A phase at home, which wants the parent too where the name's entry goes. kDirRemoved, kDirAbsent: the victim is gone.
Result<void> ask_home(Volume::Impl& volume, wire::RemovePhase phase, const wire::DirRecord& victim,
                      const NodePtr& parent, std::string_view name, const Id& txn, const Caller& caller) {
  const wire::DirRef ref{parent->id(), 0, parent->record().epoch, 0};
  const wire::Request request = removal_request(phase, ref, name, victim.id, txn);
  auto done = volume.call(victim.home, request, caller);
  if (!done && done.error().code == wire::kDirAbsent && parent->record().home != victim.home) {
    // A victim that was renamed lies on a brick that need not have its parent.
    if (auto made = volume.make_skeleton(parent, victim.home, caller); !made) return made;
    done = volume.call(victim.home, request, caller);
  }
  return done ? Result<void>{} : fail(done.error());
}

Result<Entry> victim_entry(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Resolved& found,
                            const Caller& caller) {
  wire::EntryBody body = found.body;
  if (found.stub) {
    auto behind = object_behind(volume, dir, name, found, caller);
    if (!behind) return fail(behind.error());
    body = *behind;
  }
  return volume.entry_from(body, dir, name, found.brick);
}

Result<void> park_all_orphans(Volume::Impl& volume, const NodePtr& dir, const Caller& caller) {
  const wire::DirRecord record = dir->record();
  std::vector<uint16_t> ordinals = copies_of(record);
  ordinals.push_back(record.home);
  for (const uint16_t ordinal : ordinals)
    if (auto parked = park_orphans(volume, dir, ordinal, caller); !parked) return parked;
  return {};
}

// From here on the set grows no more: whether it is empty on all of them. If not, it lives on.
Result<void> empty_members(Volume::Impl& volume, const wire::DirRecord& record, const Id& txn, const Caller& caller) {
  const Result<void> empty = ask_members(volume, record, txn, caller);
  if (empty) return {};
  if (auto back = cancel_removal(volume, record.id, txn, caller); !back) return back;
  return empty;
}

// The end at home, and of the name if it is there.
Result<void> commit_removal(Volume::Impl& volume, const wire::DirRecord& record, const NodePtr& parent, std::string_view name,
                            const Id& txn, const Caller& caller) {
  auto done = ask_home(volume, wire::RemovePhase::kCommit, record, parent, name, txn, caller);
  if (!done && !is_gone(done.error())) return done;
  drop_backup(volume, record, txn);
  return {};
}

// One try. ENOTEMPTY may be due to orphans.
Result<void> remove_once(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Resolved& found,
                         const NodePtr& victim, const Caller& caller) {
  const Id txn = Id::random();
  if (auto begun = begin_removal(volume, victim, dir, name, txn, caller); !begun) return begun;
  if (found.stub) {  // the name's end is the commit; at home that is the name's own removal
    auto gone = volume.call_name(dir, name, IfAbsent::kNoEntry,
                                 [&](const wire::DirRef& ref) {
                                   return wire::Request(wire::Op::kUnlink,
                                                        wire::UnlinkBody{ref, victim->id(), kUnlinkStub, 0, {}}, name);
                                 },
                                 caller);
    if (!gone) {
      if (is_unknown(gone.error())) return fail(gone.error());
      if (auto back = cancel_removal(volume, victim->id(), txn, caller); !back) return back;
      return fail(gone.error());
    }
  }
  return finish_removal(volume, victim, dir, name, txn, caller);
}

}  // namespace

Result<void> begin_removal(Volume::Impl& volume, const NodePtr& victim, const NodePtr& parent, std::string_view name,
                           const Id& txn, const Caller& caller) {
  if (auto begun = ask_home(volume, wire::RemovePhase::kBegin, victim->record(), parent, name, txn, caller); !begun)
    return begun;
  auto record = volume.home_record(victim, caller);
  if (record) return empty_members(volume, *record, txn, caller);
  if (auto back = cancel_removal(volume, victim->id(), txn, caller); !back) return back;
  return fail(record.error());
}

Result<void> finish_removal(Volume::Impl& volume, const NodePtr& victim, const NodePtr& parent, std::string_view name,
                            const Id& txn, const Caller& caller) {
  return commit_removal(volume, victim->record(), parent, name, txn, caller);
}

Result<void> cancel_removal(Volume::Impl& volume, const Id& victim, const Id& txn, const Caller& caller) {
  auto dir = volume.directory(victim, caller);
  if (!dir) return is_gone(dir.error()) ? Result<void>{} : fail(dir.error());
  const wire::DirRecord record = (*dir)->record();
  std::vector<uint16_t> ordinals = copies_of(record);
  ordinals.push_back(record.home);
  Result<void> result;
  for (const Answer& answer : volume.ask(ordinals, [&](uint16_t) {
         return removal_request(wire::RemovePhase::kCancel, {}, {}, victim, txn);
       }, caller)) {
    if (!answer.status && !is_gone(answer.status.error())) result = answer.status;
  }
  return result;
}

Result<void> park_orphans(Volume::Impl& volume, const NodePtr& dir, uint16_t ordinal, const Caller& caller) {
  uint64_t position = 0;
  for (;;) {
    const wire::ReaddirBody body{{dir->id(), 0, dir->record().epoch, 0}, position, kOrphanPageSize, 0};
    auto reply = volume.call(ordinal, wire::Request(wire::Op::kReaddir, body), caller);
    if (!reply) return is_gone(reply.error()) ? Result<void>{} : fail(reply.error());
    auto page = reply->body<wire::ReaddirReply>();
    if (!page) return fail(page.error());
    auto entries = parse_dirents(reply->data, page->count);
    if (!entries) return fail(entries.error());
    for (const DirentView& entry : *entries) {
      auto found = resolve(volume, dir, entry.name, caller);
      if (found) return fail(ENOTEMPTY);
      if (found.error().code != ENOENT) return fail(found.error());
      if (auto parked = volume.park(ordinal, dir, entry.name, entry.header.id, caller); !parked) return parked;
    }
    if (page->end) return {};
    position = page->position;
  }
}

namespace {

// What has not worked has to be looked at; what may have worked is not known.
Result<bool> look_unless_unknown(const Error& error) { return is_unknown(error) ? Result<bool>(fail(error)) : false; }

// Most directories are at home where their name is: the name's authority is asked without a look first, removes what it holds
// alone, begins with what others hold too, and refuses what needs more. False: look.
Result<bool> remove_at_once(Volume::Impl& volume, const NodePtr& dir, std::string_view name, const Caller& caller) {
  if (dir->record().epoch == 0) return false;
  const uint16_t ordinal = volume.hashed(dir, name);
  if (ordinal == 0) return false;
  const Id txn = Id::random();
  const wire::DirRef parent{dir->id(), 0, dir->record().epoch, 0};
  const auto asked = volume.call(ordinal, removal_request(wire::RemovePhase::kWhole, parent, name, {}, txn), caller);
  if (!asked) return look_unless_unknown(asked.error());
  const auto body = asked->body<wire::EntryBody>();
  if (!body) return fail(body.error());
  if (body->dir.state == wire::DirState::kRemoving) {
    if (auto empty = empty_members(volume, body->dir, txn, caller); !empty) return look_unless_unknown(empty.error());
    if (auto done = commit_removal(volume, body->dir, dir, name, txn, caller); !done) return look_unless_unknown(done.error());
  } else {
    drop_backup(volume, body->dir, txn);
  }
  if (const NodePtr victim = volume.nodes.find(body->object.id)) {
    wire::Attr last = body->attr;
    last.nlink = 0;
    victim->set_removed(last);
  }
  return true;
}

}  // namespace

Result<void> Volume::rmdir(const NodePtr& dir, std::string_view name, const Caller& caller) {
  Impl& impl = *impl_;
  if (auto good = wire::check_name(name); !good) return good;
  if (auto gone = remove_at_once(impl, dir, name, caller); !gone) return fail(gone.error());
  else if (*gone) return {};
  int waits = 0;
  for (int orphan_rounds = 0; orphan_rounds < kOrphanRoundsMax;) {
    auto found = resolve(impl, dir, name, caller);
    if (!found) return fail(found.error());
    if (!found->is_directory()) return fail(ENOTDIR);
    if (found->marked || !found->pending.is_none()) {
      if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return waited;
      continue;
    }
    auto entry = victim_entry(impl, dir, name, *found, caller);
    if (!entry) return fail(entry.error().code == ESTALE ? ENOENT : entry.error().code);
    const NodePtr& victim = entry->node;
    auto removed = remove_once(impl, dir, name, *found, victim, caller);
    if (removed) {
      victim->set_removed(entry->attr);
      return {};
    }
    switch (removed.error().code) {
      case ENOTEMPTY:
        ++orphan_rounds;
        if (auto parked = park_all_orphans(impl, victim, caller); !parked) return parked;
        break;
      case EBUSY: case wire::kLeaving: case wire::kOtherId: case wire::kTxnDecided: case wire::kStub:
        if (auto waited = wait_for_name(impl, dir, name, waits, caller); !waited) return waited;
        break;
      case wire::kDirRemoved: case wire::kDirAbsent:  // somebody else has removed it
        if (auto lives = impl.revive(victim, victim->record().home, waits, caller); !lives) return lives;
        break;
      default: return removed;
    }
  }
  return fail(ENOTEMPTY);
}

// A tombstone, or a removal under way. What home says counts; a removal that does not end was given up by a client that died.
Result<void> Volume::Impl::revive(const NodePtr& dir, uint16_t ordinal, int& tries, const Caller& caller) {
  auto record = home_record(dir, caller);
  if (!record) return fail(record.error());
  if (record->state != wire::DirState::kRemoving) {
    if (ordinal == record->home) return wait_busy(tries, caller);  // cancelled meanwhile
    // A member that has not heard of the cancellation.
    auto told = call(ordinal, removal_request(wire::RemovePhase::kCancel, {}, {}, dir->id(), record->txn), caller);
    if (!told && !is_gone(told.error())) return fail(told.error());
    return wait_busy(tries, caller);
  }
  // Home keeps saying the same for as long as a living client would have needed.
  const uint64_t waited_ms = tries <= 6 ? (1u << tries) : uint64_t(tries - 5) * kBusyDelayMaxMs;
  if (waited_ms >= settle_after_ms.load(std::memory_order_relaxed))
    if (auto back = cancel_removal(*this, dir->id(), record->txn, caller); !back) return back;
  return wait_busy(tries, caller);
}

}  // namespace voldfs::dht
