#include "dht/look_ahead.h"

#include <algorithm>

#include "dht/dirent_view.h"
#include "dht/recent_names.h"

namespace voldfs::dht {

std::optional<Entry> LookAhead::take(const NodePtr& dir, std::string_view name) {
  std::optional<Told> told;
  {
    std::lock_guard lock(mutex_);
    const auto table = std::find_if(tables_.begin(), tables_.end(), [&](const Table& t) { return t.dir == dir->id(); });
    if (table == tables_.end()) return std::nullopt;
    auto found = table->entries.extract(std::string(name));
    if (found.empty()) return std::nullopt;
    told = found.mapped();
  }
  if (volume_.nodes.find(told->object.id) || volume_.hashed(dir, name) != told->brick) return std::nullopt;
  {
    const Grants::Delivery delivery(volume_.grants);
    if (delivery.seconds(dir->id(), {&told->grant, 1}) == 0 || delivery.seconds(told->object.id, {&told->grant, 1}) == 0) return std::nullopt;
  }
  wire::EntryBody body{};
  body.kind = wire::EntryKind::kObject;
  body.type = told->type;
  body.object = told->object;
  body.attr = told->attr;
  auto entry = volume_.entry_from(body, dir, name, told->brick, told->grant);
  if (!entry) return std::nullopt;
  volume_.recent_names->note(dir, name, resolved_from(body, told->brick), told->grant);
  return std::move(*entry);
}

void LookAhead::forget(const NodePtr& dir, std::string_view name) {
  std::lock_guard lock(mutex_);
  for (Table& table : tables_)
    if (table.dir == dir->id()) table.entries.erase(std::string(name));
}

size_t LookAhead::size() {
  std::lock_guard lock(mutex_);
  size_t size = 0;
  for (const Table& table : tables_) size += table.entries.size();
  return size;
}

// By the bricks' sizes of it; empty: nobody has told them.
std::optional<uint64_t> LookAhead::entries_expected(const NodePtr& dir) const {
  uint64_t size = 0;
  for (const uint16_t ordinal : volume_.set_of(dir)) {
    const auto known = dir->attr_of(ordinal);
    if (!known) return std::nullopt;
    size += known->attr.size;
  }
  return size / kEntryBytes;
}

void LookAhead::asked(const NodePtr& dir) {
  const uint32_t lookups = dir->lookups_asked.fetch_add(1) + 1;
  if (lookups < kLookupsMin || dir->record().epoch == 0) return;
  const auto expected = entries_expected(dir);
  if (!expected || *expected > kEntriesMax || lookups * kWorthIt < *expected) return;
  dir->lookups_asked = 0;
  later_.run(std::chrono::milliseconds(0), [this, dir] { fetch(dir); });
}

// Home first: what its first page grants, it recalls before the set grows. So the set that it tells after that is the set.
void LookAhead::fetch(const NodePtr& dir) {
  std::vector<Grant> grants;
  dir->use_known_names([&](KnownNames& names) { grants = names.grants(); });
  const bool has_names = Grants::Delivery(volume_.grants).seconds(dir->id(), grants) > 0;
  grants.clear();
  if (!has_names) dir->use_known_names([](KnownNames& names) { names.begin(); });
  const uint16_t home = dir->record().home;
  Caller nobody;
  nobody.only_if_up = true;
  if (!fetch_brick(dir, home, grants) || !volume_.home_record(dir, nobody)) return;
  const std::vector<uint16_t> set = volume_.set_of(dir);
  if (set.front() != home) return;
  for (const uint16_t ordinal : std::span(set).subspan(1))
    if (!fetch_brick(dir, ordinal, grants)) return;
  if (!has_names) dir->use_known_names([&](KnownNames& names) { names.complete(std::move(grants)); });
}

bool LookAhead::fetch_brick(const NodePtr& dir, uint16_t ordinal, std::vector<Grant>& grants) {
  Page page;
  do {
    const bool first = page.position == 0;
    if (!fetch_page(dir, ordinal, page)) return false;
    if (first) grants.push_back(page.grant);
  } while (!page.last);
  return true;
}

bool LookAhead::is_plain(const NodePtr& dir, uint16_t ordinal, const DirentView& entry) const {
  const wire::DirentHeader& header = entry.header;
  return header.with_attr && header.kind == wire::EntryKind::kObject && header.type != wire::ObjectType::kDirectory && !header.leaving &&
         !header.id.is_none() && entry.attr.nlink == 1 && !(entry.attr.flags & wire::kAttrPinned) &&
         volume_.hashed(dir, entry.name) == ordinal && !volume_.nodes.find(header.id);
}

bool LookAhead::fetch_page(const NodePtr& dir, uint16_t ordinal, Page& page) {
  const uint64_t changes = dir->changes.load(), forgotten = volume_.nodes.forgotten();
  const bool changing = dir->changing.load() != 0;
  Caller nobody;
  nobody.only_if_up = true;
  const wire::ReaddirBody ask{{dir->id(), 0, dir->record().epoch, 0}, page.position, kPageSize, kReaddirFlags};
  auto reply = volume_.call(ordinal, wire::Request(wire::Op::kReaddir, ask), nobody);
  if (!reply) return false;
  const auto told = reply->body<wire::ReaddirReply>();
  const auto entries = told ? parse_dirents(reply->data, told->count) : fail(EPROTO);
  page.grant = grant_of(*reply);
  if (!entries || page.grant.sequence == 0) return false;
  page.position = told->position;
  page.last = told->end != 0 || entries->empty();
  dir->use_known_names([&](KnownNames& names) {
    for (const DirentView& entry : *entries) names.has(entry.name);
  });
  Table found{dir->id(), {}};
  for (const DirentView& entry : *entries)
    if (is_plain(dir, ordinal, entry))
      found.entries.emplace(entry.name, Told{ordinal, {entry.header.id, entry.handle}, entry.header.type, entry.attr, page.grant});
  std::lock_guard lock(mutex_);
  // A name, or a file whose node has gone, may have been changed by this mount since the brick looked.
  if (changing || dir->changes.load() != changes || dir->changing.load() != 0 || volume_.nodes.forgotten() != forgotten) return true;
  Table& table = table_of(dir->id());
  if (table.entries.size() + found.entries.size() > kEntriesMax) return true;
  found.entries.merge(table.entries);  // what is there already is older
  table.entries.swap(found.entries);
  return true;
}

LookAhead::Table& LookAhead::table_of(const Id& dir) {
  const auto found = std::find_if(tables_.begin(), tables_.end(), [&](const Table& t) { return t.dir == dir; });
  if (found != tables_.end()) {
    tables_.splice(tables_.begin(), tables_, found);
    return tables_.front();
  }
  if (tables_.size() == kTablesMax) tables_.pop_back();
  tables_.push_front({dir, {}});
  return tables_.front();
}

}  // namespace voldfs::dht
