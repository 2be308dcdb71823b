#include <algorithm>
#include <tuple>

#include "dht/adoption.h"
#include "dht/volume_impl.h"

// A directory's attributes: home's, with the latest times and the sum of the subdirectories of all bricks that it is on. What
// bricks have told is kept in its node while their word holds, so that usually nobody is asked.
namespace voldfs::dht {
namespace {

class Merged {
 public:
  // `times_change`: home's.
  explicit Merged(const wire::Attr& home, uint32_t subdirectories, uint32_t times_change)
      : attr_(home), subdirectories_(subdirectories), times_change_(times_change) {}

  void add(const Node::BrickAttr& member) {
    subdirectories_ += member.subdirectories;
    if (has_missed_times(member)) return;
    later(attr_.atime, attr_.atime_ns, member.attr.atime, member.attr.atime_ns);
    later(attr_.mtime, attr_.mtime_ns, member.attr.mtime, member.attr.mtime_ns);
    later(attr_.ctime, attr_.ctime_ns, member.attr.ctime, member.attr.ctime_ns);
  }
  // Home is down, its backup has answered, and this is what home has told last. A backup's own times are of no account.
  void add_home(const Node::BrickAttr& home) {
    if (home.attr.mode == 0) return;  // it has told nothing (Node::forget_attr)
    if (!has_missed_times(home)) attr_.atime = attr_.mtime = attr_.ctime = INT64_MIN;
    add(home);
  }
  wire::Attr attr() const {
    wire::Attr out = attr_;
    out.nlink = 2 + subdirectories_;
    return out;
  }

 private:
  // A user has set the times since: its own say nothing.
  bool has_missed_times(const Node::BrickAttr& member) const { return member.times_change < times_change_; }
  static void later(int64_t& s, uint32_t& ns, int64_t other_s, uint32_t other_ns) {
    if (std::tie(s, ns) < std::tie(other_s, other_ns)) s = other_s, ns = other_ns;
  }

  wire::Attr attr_;
  uint32_t subdirectories_;
  const uint32_t times_change_;
};

// What the brick has told of the directory, if that still holds.
std::optional<Node::BrickAttr> known_attr(const Grants& grants, const NodePtr& dir, uint16_t brick) {
  auto known = dir->attr_of(brick);
  if (!known || Grants::Delivery(grants).seconds(dir->id(), {&known->grant, 1}) == 0) return std::nullopt;
  return known;
}

// Without asking anybody; nothing if a brick would have to be asked.
std::optional<Entry> known_directory(const Volume::Impl& volume, const NodePtr& dir) {
  std::optional<Merged> merged;
  Entry entry;
  for (const uint16_t brick : volume.set_of(dir)) {  // home first
    const auto known = known_attr(volume.grants, dir, brick);
    if (!known) return std::nullopt;
    if (merged) merged->add(*known);
    else merged.emplace(known->attr, known->subdirectories, known->times_change);
    entry.attr_grants.push_back(known->grant);
  }
  if (!merged) return std::nullopt;
  entry.node = dir;
  entry.attr = merged->attr();
  return entry;
}

}  // namespace

Result<wire::Attr> Volume::Impl::merge_directory(const NodePtr& dir, const wire::EntryBody& home,
                                                 const Caller& caller, std::vector<Grant>& grants_of_all) {
  const bool is_home = home.dir.role & wire::kRoleHome;
  Merged merged(home.attr, is_home ? home.dir.subdirectories : 0, home.dir.times_change);
  std::vector<uint16_t> members = set_of(dir);
  std::erase(members, dir->record().home);
  if (!is_home) {  // it is down: its backup has answered, and nobody vouches for what home will say
    grants_of_all.push_back(Grant{});
    if (const auto known = dir->attr_of(dir->record().home)) merged.add_home(*known);
  }
  std::erase_if(members, [&](uint16_t brick) {
    const auto known = known_attr(grants, dir, brick);
    if (!known) return false;
    merged.add(*known);
    grants_of_all.push_back(known->grant);
    return true;
  });
  if (members.empty()) return merged.attr();
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  const auto make = [&](uint16_t) { return wire::Request(wire::Op::kDirGet, body); };
  for (const Answer& answer : ask(members, make, unless_down(caller))) {
    grants_of_all.push_back(answer.status ? grant_of(answer.reply) : Grant{});
    if (!answer.status) {
      const int code = answer.status.error().code;
      if (code == wire::kDirAbsent || code == wire::kDirRemoved) continue;  // in the set, and not made there yet
      if (const auto known = dir->attr_of(answer.ordinal)) merged.add(*known);  // it is down
      continue;
    }
    const auto told = answer.reply.body<wire::EntryBody>();
    if (!told) return fail(told.error());
    if (dir == root && (told->dir.role & wire::kRoleFound))
      if (auto united = unite_root(*this, answer.ordinal, caller); !united) return fail(united.error());
    const Node::BrickAttr member{age_of(answer.reply), told->attr, told->dir.subdirectories, told->dir.times_change};
    dir->note_attr(member);
    merged.add(member);
  }
  return merged.attr();
}

Result<Entry> Volume::Impl::stat_directory(const NodePtr& dir, const Caller& caller) {
  if (auto known = known_directory(*this, dir)) return *known;
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  const auto make = [&](const wire::ObjectRef&) { return wire::Request(wire::Op::kDirGet, body); };
  const uint16_t backup = dir->record().backup;
  const Caller quick = backup != 0 ? unless_down(caller) : caller;
  uint16_t asked = 0;
  auto reply = call_object(dir, make, quick, nullptr, {}, &asked);
  if (!reply && reply.error().code == EHOSTDOWN && backup != 0) {
    reply = call(backup, make({}), quick);
    if (!reply) reply = call_object(dir, make, caller, nullptr, {}, &asked);
  }
  if (!reply) return fail(reply.error());
  auto answered = reply->body<wire::EntryBody>();
  if (!answered) return fail(answered.error());
  auto entry = entry_from(*answered, nullptr, {}, asked, grant_of(*reply));
  if (!entry) return entry;
  if (entry->node != dir) return fail(EIO);
  auto attr = merge_directory(dir, *answered, caller, entry->attr_grants);
  if (!attr) return fail(attr.error());
  entry->attr = *attr;
  return entry;
}

}  // namespace voldfs::dht
