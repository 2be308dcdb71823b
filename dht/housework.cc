#include "dht/housework.h"

#include <chrono>
#include <cstring>
#include <thread>

#include <spdlog/spdlog.h>

#include "dht/adoption.h"
#include "dht/dirent_view.h"
#include "dht/settle.h"
#include "dht/volume_lookup.h"

namespace voldfs::dht {

namespace {

constexpr uint32_t kPageSize = 128u << 10;
constexpr size_t kOrphansMax = 4096;                         // found at a time; the rest another time
constexpr int64_t kCopyAgeMax_s = 24 * 3600;                 // an older copy that is led to by nothing was not left by a mkdir
constexpr auto kPause = std::chrono::milliseconds(2);        // after each page: others work here

bool is_gone(const Error& error) {
  return error.code == wire::kDirAbsent || error.code == wire::kDirRemoved || error.code == ENOENT;
}

}  // namespace

Housework::Housework(Volume::Impl& volume, uint16_t own, const std::atomic<bool>& stop)
    : volume_(volume), own_(own), stop_(stop) {
  caller_.only_if_up = true;
  caller_.interrupted = &stop;
}

Result<void> Housework::pause() const {
  std::this_thread::sleep_for(kPause);
  return stop_.load() ? fail(EINTR) : Result<void>{};
}

// --- Going through what a brick has -------------------------------------------------------------------------

Result<void> Housework::each_directory(uint16_t ordinal, const VisitDirectory& visit) {
  wire::DirRef after{};
  for (;;) {
    if (auto go = pause(); !go) return go;
    auto page = volume_.call(ordinal, wire::Request(wire::Op::kDirList, after), caller_);
    if (!page) return fail(page.error());
    if (page->data.empty()) return {};
    if (page->data.size() % sizeof(Id) != 0) return fail(EPROTO);
    std::vector<Id> ids(page->data.size() / sizeof(Id));
    std::memcpy(ids.data(), page->data.data(), page->data.size());
    if (ids.back() <= after.id) return fail(EPROTO);
    for (const Id& id : ids) {
      const wire::DirBody body{{id, 0, UINT32_MAX, 0}};  // whatever its epoch is
      auto reply = volume_.call(ordinal, wire::Request(wire::Op::kDirGet, body), caller_);
      if (!reply && is_gone(reply.error())) continue;
      if (!reply) return fail(reply.error());
      auto entry = reply->body<wire::EntryBody>();
      if (!entry) return fail(entry.error());
      if (entry->dir.home == 0) continue;
      NodePtr dir = volume_.nodes.get(id, wire::ObjectType::kDirectory);
      dir->update_record(entry->dir);
      dir->set_location({dir->record().home, {}});
      if (auto visited = visit(dir, entry->dir); !visited) return visited;
    }
    after.id = ids.back();
  }
}

Result<void> Housework::each_entry(uint16_t ordinal, const NodePtr& dir, const VisitEntry& visit) {
  uint64_t position = 0;
  for (;;) {
    if (auto go = pause(); !go) return go;
    const wire::ReaddirBody body{{dir->id(), 0, dir->record().epoch, 0}, position, kPageSize, 0};
    auto reply = volume_.call(ordinal, wire::Request(wire::Op::kReaddir, body), caller_);
    if (!reply) return is_gone(reply.error()) ? Result<void>{} : fail(reply.error());
    auto page = reply->body<wire::ReaddirReply>();
    if (!page) return fail(page.error());
    auto entries = parse_dirents(reply->data, page->count);
    if (!entries) return fail(entries.error());
    for (const DirentView& entry : *entries)
      if (auto visited = visit(dir, entry.header, entry.name); !visited) return visited;
    if (page->end) return {};
    if (page->position == position) return fail(EPROTO);
    position = page->position;
  }
}

Result<void> Housework::each_name(uint16_t ordinal, const VisitEntry& visit) {
  return each_directory(ordinal, [&](const NodePtr& dir, const wire::DirRecord&) { return each_entry(ordinal, dir, visit); });
}

// --- Transactions -------------------------------------------------------------------------------------------

Result<void> Housework::settle() { return settle_at(volume_, own_, caller_).map([](size_t) {}); }

// --- Orphans ------------------------------------------------------------------------------------------------

// An error is no answer: then it is none.
Result<bool> Housework::is_orphan(const Orphan& orphan) {
  if (orphan.name.empty()) {
    const wire::DirBody body{{orphan.dir, 0, UINT32_MAX, 0}};
    auto here = volume_.call(own_, wire::Request(wire::Op::kDirGet, body), caller_);
    if (!here) return is_gone(here.error()) ? Result<bool>(false) : fail(here.error());
    auto entry = here->body<wire::EntryBody>();
    if (!entry) return fail(entry.error());
    const auto now = std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
    if ((entry->dir.role & wire::kRoleHome) || entry->dir.home == own_ || now - entry->attr.btime > kCopyAgeMax_s) return false;
    auto home = volume_.call(entry->dir.home, wire::Request(wire::Op::kDirGet, body), caller_);
    return !home && (home.error().code == wire::kDirAbsent || home.error().code == wire::kDirRemoved);
  }
  NodePtr dir = volume_.nodes.find(orphan.dir);
  if (!dir) return false;
  auto found = resolve(volume_, dir, orphan.name, caller_);
  if (found) return found->object.id != orphan.object;
  return found.error().code == ENOENT ? Result<bool>(true) : fail(found.error());
}

Result<std::vector<Housework::Orphan>> Housework::find_orphans() {
  std::vector<Orphan> orphans;
  auto looked = each_directory(own_, [&](const NodePtr& dir, const wire::DirRecord& here) -> Result<void> {
    const auto suspect = [&](const Orphan& orphan) -> Result<void> {
      auto is = is_orphan(orphan);
      if (!is && is.error().code == EINTR) return fail(is.error());
      if (is && *is && orphans.size() < kOrphansMax) orphans.push_back(orphan);
      return {};
    };
    if (dir->id() != kRootId && !(here.role & wire::kRoleHome))
      if (auto done = suspect({dir->id(), {}, dir->id()}); !done) return done;
    return each_entry(own_, dir, [&](const NodePtr&, const wire::DirentHeader& entry, std::string_view name) -> Result<void> {
      const bool may_be = dir->record().epoch != 0 && entry.kind == wire::EntryKind::kObject && !entry.leaving &&
                          entry.type != wire::ObjectType::kDirectory && !entry.id.is_none();
      if (!may_be || volume_.hashed(dir, name) == own_) return {};
      return suspect({dir->id(), std::string(name), entry.id});
    });
  });
  if (!looked) return fail(looked.error());
  return orphans;
}

// A transaction that is prepared may yet lead to it. One whose driver is dead is ended here.
Result<bool> Housework::is_spoken_for(const Orphan& orphan) {
  if (orphan.name.empty()) return false;
  NodePtr dir = volume_.nodes.find(orphan.dir);
  if (!dir) return true;
  const uint16_t authority = volume_.hashed(dir, orphan.name);
  if (auto settled = settle_at(volume_, authority, caller_); !settled) return fail(settled.error());
  auto alive = transactions_at(volume_, authority, caller_);
  if (!alive) return fail(alive.error());
  for (const Txn& txn : *alive)
    if (txn.record.to.dir == orphan.dir && txn.new_name == orphan.name) return true;
  return false;
}

Result<size_t> Housework::park_orphans(const std::vector<Orphan>& orphans) {
  size_t parked = 0;
  for (const Orphan& orphan : orphans) {
    if (auto go = pause(); !go) return fail(go.error());
    auto spoken_for = is_spoken_for(orphan);
    if (!spoken_for || *spoken_for) continue;
    auto is = is_orphan(orphan);
    if (!is || !*is) continue;
    if (orphan.name.empty()) {
      const wire::RmdirBody body{{}, orphan.object, Id::random(), wire::RemovePhase::kMember, 0};
      auto gone = volume_.call(own_, wire::Request(wire::Op::kRmdir, body), caller_);
      if (gone) ++parked;
      spdlog::info("copy_removed dir={} error={} why=\"its home does not have it\"", orphan.object.hex(), gone ? 0 : gone.error().code);
      continue;
    }
    const wire::UnlinkBody body{{orphan.dir, 0, UINT32_MAX, 0}, orphan.object, 0, 0, {}};
    auto done = volume_.call(own_, wire::Request(wire::Op::kPark, body, orphan.name), caller_);
    if (done) ++parked;
    spdlog::warn("parked dir={} name=\"{}\" object={} error={} why=\"no name leads to it\"", orphan.dir.hex(), orphan.name,
                 orphan.object.hex(), done ? 0 : done.error().code);
  }
  return parked;
}

// --- Scrub --------------------------------------------------------------------------------------------------

Result<bool> Housework::leads_nowhere(const NodePtr& dir, std::string_view name) {
  auto found = resolve(volume_, dir, name, caller_);
  if (!found) return found.error().code == ENOENT ? Result<bool>(false) : fail(found.error());
  if (!found->stub || found->marked || !found->pending.is_none()) return false;
  auto behind = object_behind(volume_, dir, name, *found, caller_);
  if (behind) return false;
  return behind.error().code == ESTALE ? Result<bool>(true) : fail(behind.error());
}

Result<bool> Housework::scrub() {
  // A lookup at the brick, which says that it is unclean, finds what others have (volume_lookup.cc).
  for (const uint16_t ordinal : volume_.all_ordinals()) {
    if (ordinal == own_) continue;
    auto looked = each_name(ordinal, [&](const NodePtr& dir, const wire::DirentHeader& entry, std::string_view name) -> Result<void> {
      if (volume_.hashed(dir, name) != own_ || entry.kind != wire::EntryKind::kObject) return {};
      auto found = resolve(volume_, dir, name, caller_);
      return found || found.error().code == ENOENT ? Result<void>{} : fail(found.error());
    });
    if (!looked) return fail(looked.error());
  }
  auto looked = each_name(own_, [&](const NodePtr& dir, const wire::DirentHeader& entry, std::string_view name) -> Result<void> {
    if (entry.kind != wire::EntryKind::kStub) return {};
    auto nowhere = leads_nowhere(dir, name);
    if (!nowhere) return fail(nowhere.error());
    if (!*nowhere) return {};
    spdlog::warn("parked dir={} name=\"{}\" object={} why=\"a stub that leads to nothing\"", dir->id().hex(), name, entry.id.hex());
    const wire::UnlinkBody body{{dir->id(), 0, UINT32_MAX, 0}, entry.id, 0, 0, {}};
    auto parked = volume_.call(own_, wire::Request(wire::Op::kPark, body, name), caller_);
    return parked || is_gone(parked.error()) || parked.error().code == wire::kOtherId ? Result<void>{} : fail(parked.error());
  });
  if (!looked) return fail(looked.error());
  return true;
}

// --- Adoption -----------------------------------------------------------------------------------------------

Result<bool> Housework::adopt() {
  bool done = true;
  auto looked = each_directory(own_, [&](const NodePtr& dir, const wire::DirRecord& here) -> Result<void> {
    if (here.epoch != 0) return {};
    Result<void> step;
    if ((here.role & wire::kRoleFound) && dir->id() == kRootId) step = unite_root(volume_, own_, caller_);
    else if (here.role & wire::kRoleFound) return {};  // whoever goes through its parent meets it
    else if (here.role & wire::kRoleHome) step = finish_adoption(volume_, dir, caller_);
    if (!step && step.error().code == EINTR) return step;
    if (!step) {
      spdlog::info("adoption_unfinished dir={} error={}", dir->id().hex(), step.error().code);
      done = false;
    }
    return {};
  });
  if (!looked) return fail(looked.error());
  return done;
}

}  // namespace voldfs::dht
