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
  explicit Merged(const wire::Attr& home, uint32_t subdirectories) : attr_(home), subdirectories_(subdirectories) {}

  void add(const wire::Attr& member, uint32_t subdirectories) {
    subdirectories_ += subdirectories;
    later(attr_.atime, attr_.atime_ns, member.atime, member.atime_ns);
    later(attr_.mtime, attr_.mtime_ns, member.mtime, member.mtime_ns);
    later(attr_.ctime, attr_.ctime_ns, member.ctime, member.ctime_ns);
  }
  wire::Attr attr() const {
    wire::Attr out = attr_;
    out.nlink = 2 + subdirectories_;
    return out;
  }

 private:
  static void later(int64_t& s, uint32_t& ns, int64_t other_s, uint32_t other_ns) {
    if (std::tie(s, ns) < std::tie(other_s, other_ns)) s = other_s, ns = other_ns;
  }

  wire::Attr attr_;
  uint32_t subdirectories_;
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
    if (merged) merged->add(known->attr, known->subdirectories);
    else merged.emplace(known->attr, known->subdirectories);
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
  Merged merged(home.attr, home.dir.subdirectories);
  std::vector<uint16_t> members = set_of(dir);
  if (home.dir.role & wire::kRoleHome) {
    std::erase(members, dir->record().home);
  } else {  // it is down: its backup has answered, and nobody vouches for what home will say
    std::erase(members, dir->record().home);
    grants_of_all.push_back(Grant{});
  }
  std::erase_if(members, [&](uint16_t brick) {
    const auto known = known_attr(grants, dir, brick);
    if (!known) return false;
    merged.add(known->attr, known->subdirectories);
    grants_of_all.push_back(known->grant);
    return true;
  });
  if (members.empty()) return merged.attr();
  Caller quick = caller;
  quick.only_if_up = true;
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  for (const Answer& answer : ask(members, [&](uint16_t) { return wire::Request(wire::Op::kDirGet, body); }, quick)) {
    grants_of_all.push_back(answer.status ? grant_of(answer.reply) : Grant{});
    if (!answer.status) continue;  // down, or in the set but not made there yet: the others' values count
    const auto member = answer.reply.body<wire::EntryBody>();
    if (!member) return fail(member.error());
    if (dir == root && (member->dir.role & wire::kRoleFound))
      if (auto told = unite_root(*this, answer.ordinal, caller); !told) return fail(told.error());
    dir->note_attr({age_of(answer.reply), member->attr, member->dir.subdirectories});
    merged.add(member->attr, member->dir.subdirectories);
  }
  return merged.attr();
}

Result<Entry> Volume::Impl::stat_directory(const NodePtr& dir, const Caller& caller) {
  if (auto known = known_directory(*this, dir)) return *known;
  const wire::DirBody body{{dir->id(), 0, 0, 0}};
  const auto make = [&](const wire::ObjectRef&) { return wire::Request(wire::Op::kDirGet, body); };
  const uint16_t backup = dir->record().backup;
  Caller quick = caller;
  quick.only_if_up = backup != 0;
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
