#include "dht/dir_stream.h"

#include <algorithm>

#include "dht/volume_lookup.h"

namespace voldfs::dht {

namespace {

constexpr uint64_t kDotCookie = 1;        // behind "."
constexpr uint64_t kDotDotCookie = 2;     // behind ".."; brick 0 is none
constexpr unsigned kPositionBits = 53;
constexpr uint64_t kPositionMask = (uint64_t{1} << kPositionBits) - 1;
constexpr uint32_t kPageSize = 128u << 10;
constexpr uint32_t kAttrPageMin = 1024;   // an entry of the longest name, whatever the reply has room for
constexpr size_t kPrefetchMax = 8;        // bricks whose first pages are at hand

uint64_t cookie_of(uint16_t ordinal, uint64_t position) {
  return static_cast<uint64_t>(ordinal) << kPositionBits | (position & kPositionMask);
}

bool is_down(const Error& error) { return error.code == EHOSTDOWN; }

}  // namespace

// The record comes from home each time a directory is read from its start, for another client may have let the set grow; which
// takes back whatever home has granted of the directory.
Result<void> DirStream::start(const Caller& caller) {
  const auto told = dir_->attr_of(dir_->record().home);
  const bool current = told && Grants::Delivery(volume_.grants).seconds(dir_->id(), {&told->grant, 1}) > 0;
  auto record = current ? dir_->record() : volume_.fetch_record(dir_, caller);
  if (!record) return fail(record.error());
  record_ = *record;
  order_ = record_.epoch == 0 ? volume_.all_ordinals() : volume_.set_of(dir_);
  std::sort(order_.begin(), order_.end());
  pages_.clear();
  ends_.clear();
  names_.clear();
  listing_ = {{}, dir_->changes.load()};
  dir_->note_listing({});
  return {};
}

// The first pages of all bricks make a listing whose end can be told: by any change of a name on any of them.
void DirStream::note_first_page(const Page& page) {
  if (record_.epoch == 0) return;  // names may be put there by hand
  for (const Grant& known : listing_.grants)
    if (known.brick == page.grant.brick) return;  // asked once more
  listing_.grants.push_back(page.grant);
  if (listing_.grants.size() == order_.size()) dir_->note_listing(listing_);
}

Result<void> DirStream::read(uint64_t cookie, uint32_t attr_room, const Caller& caller, const Take& take) {
  std::lock_guard lock(mutex_);
  if (attr_room != 0) pages_.clear();
  if (cookie == 0 || order_.empty())
    if (auto started = start(caller); !started) return started;
  if (cookie < kDotDotCookie) {
    auto more = take_dots(cookie, take);
    if (!more) return fail(more.error());
    if (!*more) return {};
  }
  size_t at = 0;
  uint64_t position = 0;
  if (cookie > kDotDotCookie) {
    const auto brick = std::find(order_.begin(), order_.end(), static_cast<uint16_t>(cookie >> kPositionBits));
    if (brick == order_.end()) return fail(EINVAL);
    at = static_cast<size_t>(brick - order_.begin());
    position = cookie & kPositionMask;
  }
  size_t postponed = 0;
  while (at < order_.size()) {
    // A brick that is down is read last, so that its being down costs its own names alone. Not in the middle of its
    // names: what was listed of them is behind us.
    Caller quick = caller;
    quick.only_if_up = position == 0 && at + postponed + 1 < order_.size();
    auto step = read_brick(at, position, attr_room, quick, take);
    if (!step && is_down(step.error()) && quick.only_if_up) {
      postpone(at);
      ++postponed;
      position = 0;
      continue;
    }
    if (!step) return fail(is_down(step.error()) ? Error(EIO) : step.error());
    if (*step == Step::kFull) return {};
    ++at;
    position = 0;
  }
  return {};
}

void DirStream::postpone(size_t at) {
  const auto brick = order_.begin() + static_cast<std::ptrdiff_t>(at);
  std::rotate(brick, brick + 1, order_.end());
}

Result<bool> DirStream::take_dots(uint64_t& cookie, const Take& take) const {
  const Node::Name name = dir_->name();
  ListedEntry entry;
  entry.type = wire::ObjectType::kDirectory;
  if (cookie < kDotCookie) {
    entry.name = ".";
    entry.cookie = cookie = kDotCookie;
    entry.inode = inode_number(dir_->id());
    if (!take(entry)) return false;
  }
  entry.name = "..";
  entry.cookie = cookie = kDotDotCookie;
  entry.inode = inode_number(name.parent ? name.parent->id() : dir_->id());
  return take(entry);
}

// From `position` to this brick's end, or until the reply is full; with attributes, one page of them.
Result<DirStream::Step> DirStream::read_brick(size_t at, uint64_t position, uint32_t attr_room, const Caller& caller,
                                              const Take& take) {
  const uint16_t ordinal = order_[at];
  for (;;) {
    if (const auto end = ends_.find(ordinal); end != ends_.end() && end->second == position) return Step::kEnd;
    auto have = pages_.find(ordinal);
    if (have == pages_.end() || have->second.position() != position) {
      if (auto fetched = fetch(at, position, attr_room, caller); !fetched) return fail(fetched.error());
      have = pages_.find(ordinal);
    }
    Page& page = have->second;
    while (page.next < page.entries.size()) {
      ListedEntry listed;
      auto shown = list(ordinal, page, page.entries[page.next], caller, listed);
      if (!shown) return fail(shown.error());
      if (*shown && !take(listed)) return Step::kFull;
      if (*shown && record_.epoch == 0) names_.insert(listed.name);
      ++page.next;
    }
    const bool last = page.last;
    if (last) ends_[ordinal] = page.position();
    position = page.end;
    pages_.erase(have);
    if (last) return Step::kEnd;
    if (attr_room != 0) return Step::kFull;  // or nearly: what is left of it is not worth another request
  }
}

// With attributes no more than the reply has room for: an entry is smaller there than in the page.
wire::Request DirStream::page_request(uint64_t position, uint32_t attr_room) const {
  // Names are not attributes: an older copy of the directory lists as well.
  const uint32_t size = attr_room != 0 ? std::clamp(attr_room, kAttrPageMin, kPageSize) : kPageSize;
  return wire::Request(wire::Op::kReaddir, wire::ReaddirBody{{dir_->id(), 0, record_.epoch, 0}, position, size, attr_room != 0 ? 1u : 0u});
}

// The brick's page, and the first pages of those that come next, at once; with attributes only at the start, for a large directory's
// would not be used in this read.
Result<void> DirStream::fetch(size_t at, uint64_t position, uint32_t attr_room, const Caller& caller) {
  const uint16_t wanted = order_[at];
  pages_.erase(wanted);
  std::vector<uint16_t> ordinals{wanted};
  const bool ahead = attr_room == 0 || (at == 0 && position == 0);
  for (size_t next = at + 1; ahead && next < order_.size() && ordinals.size() < kPrefetchMax; ++next)
    if (!pages_.contains(order_[next])) ordinals.push_back(order_[next]);
  Result<void> result;
  for (Answer& answer : volume_.ask(ordinals, [&](uint16_t ordinal) {
         return page_request(ordinal == wanted ? position : 0, attr_room);
       }, caller)) {
    auto accepted = accept(answer, answer.ordinal == wanted ? position : 0);
    if (!accepted && answer.ordinal == wanted) result = accepted;  // the others are asked again in their turn
  }
  return result;
}

Result<void> DirStream::accept(Answer& answer, uint64_t position) {
  Page page;
  page.start = position;
  if (!answer.status) {
    const int code = answer.status.error().code;
    // In the set, but never made there, or removed since: it has no names.
    if (code != wire::kDirAbsent && code != wire::kDirRemoved) return answer.status;
    page.last = true;
    pages_[answer.ordinal] = std::move(page);
    return {};
  }
  auto reply = answer.reply.body<wire::ReaddirReply>();
  if (!reply) return fail(reply.error());
  page.end = reply->position;
  page.last = reply->end != 0;
  page.grant = grant_of(answer.reply);
  if (position == 0) note_first_page(page);
  page.reply = std::move(answer.reply);
  auto entries = parse_dirents(page.reply.data, reply->count);
  if (!entries) return fail(entries.error());
  if (entries->empty() && !page.last) return fail(EPROTO);
  page.entries = std::move(*entries);
  pages_[answer.ordinal] = std::move(page);
  return {};
}

// Whether the entry makes a name exist, and what it leads to. In an adopted directory it may be anybody's, so that its authority has
// to be asked about what is elsewhere.
Result<bool> DirStream::is_name(uint16_t ordinal, const DirentView& entry, const Caller& caller, ListedEntry& out) {
  const bool at_authority = volume_.hashed(record_, entry.name) == ordinal;
  if (record_.epoch == 0 && names_.contains(std::string(entry.name))) return false;
  if (record_.epoch != 0 && !at_authority) return false;
  out.inode = inode_number(entry.header.id);
  out.type = entry.header.type;
  if (at_authority && !entry.header.leaving && !entry.header.id.is_none()) return true;
  // It is in a transaction, or being made, or was put there by hand.
  auto found = resolve(volume_, dir_, entry.name, caller, StandIn::kWillDo);
  if (!found) return found.error().code == ENOENT ? Result<bool>(false) : fail(found.error());
  out.inode = inode_number(found->object.id);
  out.type = found->type;
  return true;
}

// False: the entry is not to be shown.
Result<bool> DirStream::list(uint16_t ordinal, const Page& page, const DirentView& entry, const Caller& caller,
                             ListedEntry& out) {
  auto shown = is_name(ordinal, entry, caller, out);
  if (!shown || !*shown) return shown;
  out.name = entry.name;
  out.cookie = cookie_of(ordinal, entry.header.position);
  const bool whole = entry.header.with_attr && entry.header.kind == wire::EntryKind::kObject &&
                     out.type != wire::ObjectType::kDirectory && !entry.header.leaving && record_.epoch != 0 &&
                     !entry.header.id.is_none();
  if (!whole) return true;
  wire::EntryBody body{};
  body.kind = wire::EntryKind::kObject;
  body.type = out.type;
  body.object = {entry.header.id, entry.handle};
  body.attr = entry.attr;
  auto found = volume_.entry_from(body, dir_, entry.name, ordinal, page.grant);
  if (!found) return fail(found.error());
  out.entry = std::move(*found);
  out.has_attr = true;
  return true;
}

bool Volume::is_listing_current(const NodePtr& dir) const {
  const Node::Listing listing = dir->listing();
  if (listing.grants.empty() || listing.changes != dir->changes.load() || dir->changing.load() != 0) return false;
  return Grants::Delivery(impl_->grants).seconds(dir->id(), listing.grants) > 0;
}

Result<std::shared_ptr<DirStream>> Volume::open_directory(const NodePtr& dir, const Caller&) {
  if (!dir->is_directory()) return fail(ENOTDIR);
  return std::make_shared<DirStream>(*impl_, dir);
}

Result<void> Volume::read_directory(DirStream& stream, uint64_t cookie, uint32_t attr_room, const Caller& caller,
                                    const std::function<bool(const ListedEntry&)>& take) {
  return stream.read(cookie, attr_room, caller, take);
}

}  // namespace voldfs::dht
